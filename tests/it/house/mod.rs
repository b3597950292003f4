//! House rules: what the source may look like, and that the README says what is so.

mod doors;
mod readme;
mod tidy;
mod tokens;
