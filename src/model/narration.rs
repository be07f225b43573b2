//! What is told on stderr while a run goes on, and in which form.

/// What is told on stderr, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Narration {
    /// How much.
    pub verbosity: Verbosity,
    /// The form of the lines about what happens.
    pub log: LogForm,
    /// How it is shown how far the run has come.
    pub progress: ProgressMode,
    /// Whether the environment lets bars be drawn, where stderr is a terminal.
    pub drawing: Drawing,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// Problems.
    Quiet,
    /// Problems, and what a person at the terminal wants to know.
    Normal,
    /// Also every file that was stored.
    Verbose,
}

/// The form of the lines about what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// How it is shown how far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressMode {
    /// Bars on a terminal, else lines.
    Auto,
    /// Bars, where there is a terminal at all.
    Bar,
    /// A line every 30 seconds.
    Line,
    /// A JSON object every second.
    Json,
    /// Not, unless it is asked for by a signal.
    None,
}

/// Whether bars may be drawn on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// Nothing speaks against it.
    Allowed,
    /// The terminal cannot, or its user wants plain text.
    Unwanted,
}
