//! `roe-batch`: folders of files into Roe AI datasets, each file once, with proof.
//!
//! ```text
//! manifest.yaml ──manifest──▶ Manifest ─┐
//! folders ────────source────▶ Candidates┼─plan─▶ Plan ─execute─▶ JobEnds ─ledger─▶ durable rows
//! tables, sidecars ──────────▶ Rows ────┤                 │                │
//! ledger ─────────known─────▶ Known ────┘                 │                └─report─▶ CSV, JSON
//!                                                         └─ Event ─▶ progress
//! ```
//!
//! Data flows one way. Planning, templates, verdicts and pacing are pure: time, chance and what
//! the disk holds are handed in. `commands` composes the rooms; `tests/architecture.rs` keeps each
//! room's imports to what it may use.

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod diagnostic;
pub mod error;
pub mod event;
pub mod execute;
mod json;
pub mod ledger;
pub mod manifest;
pub mod model;
pub mod pace;
pub mod plan;
pub mod progress;
pub mod report;
pub mod sandbox;
pub mod sidecar;
pub mod source;
pub mod spill;
pub mod table;
pub mod template;
pub mod verify;
pub mod watch;
mod yaml;
