//! dev

pub mod mock_ai;
