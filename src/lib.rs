//! roe-batch
pub mod client;
pub mod error;
pub mod event;
pub mod execute;
pub mod ledger;
pub mod manifest;
pub mod model;
pub mod pace;
pub mod plan;
pub mod report;
pub mod sandbox;
pub mod source;
pub mod template;
