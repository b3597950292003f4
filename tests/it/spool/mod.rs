mod away;
mod gates;
mod poison;
mod scene;
