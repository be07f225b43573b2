//! How HTTP is spoken.

/// The HTTP version that requests are made in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1: a connection for each file on its way.
    #[default]
    One,
    /// HTTP/2, one connection for all, where the service has it.
    Two,
}
