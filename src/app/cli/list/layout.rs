//! How a list is printed.

use clap::ValueEnum;

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// Columns for people.
    Table,
    /// An array of objects.
    Json,
    /// Comma-separated values with a heading.
    Csv,
}
