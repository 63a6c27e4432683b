//! How a command ends.

use std::io;

use crate::app::error::{DIFFERENCE, DONE, FAILED, WireError};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Done.
    Done,
    /// Done, and a difference was found: the result of `verify` and `diff`.
    Difference,
    /// Done, but something needs attention: the result of `doctor`.
    Attention,
    /// The program that was run ended with this status.
    Program(u8),
}

impl CommandOutcome {
    /// Returns the exit code.
    pub fn code(self) -> u8 {
        match self {
            CommandOutcome::Done => DONE,
            CommandOutcome::Attention => FAILED,
            CommandOutcome::Difference => DIFFERENCE,
            CommandOutcome::Program(status) => status,
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// What failed, and what to do next.
    Failed(WireError),
    /// The reader closed standard output.
    BrokenPipe,
}

impl CliError {
    /// A failure: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        WireError::new(message).into()
    }

    /// A command line that makes no sense: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        WireError::usage(message).into()
    }

    /// A difference where there should be none: exit code 3.
    pub fn difference(message: impl Into<String>) -> Self {
        WireError::difference(message).into()
    }

    /// A failure of a file or a system call.
    pub fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        WireError::io(what, error).into()
    }

    /// Adds what to do next.
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            CliError::Failed(error) => CliError::Failed(error.with_hint(hint)),
            CliError::BrokenPipe => CliError::BrokenPipe,
        }
    }

    /// Returns the error as it goes over a pipe or a socket.
    pub fn into_wire(self) -> WireError {
        match self {
            CliError::Failed(error) => error,
            CliError::BrokenPipe => WireError::new("nobody reads the output"),
        }
    }
}

/// Every error that has words for the user is an error of a command.
impl<E> From<E> for CliError
where
    WireError: From<E>,
{
    fn from(error: E) -> Self {
        CliError::Failed(error.into())
    }
}
