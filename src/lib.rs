//! roe-batch
pub mod manifest;
pub mod model;
pub mod sandbox;
pub mod template;
