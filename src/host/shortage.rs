//! What a host can run out of that a store has nothing to do with: files and memory.

use std::fmt;
use std::io;

/// What there is no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Files that this process may have open.
    OwnFiles,
    /// Files that all processes may have open.
    AllFiles,
    /// Memory.
    Memory,
}

impl Shortage {
    /// What an error says is short, if it is that kind of error.
    pub fn of(error: &io::Error) -> Option<Self> {
        Self::of_number(error.raw_os_error()?)
    }

    /// The same of an error's number.
    pub fn of_number(errno: i32) -> Option<Self> {
        match errno {
            libc::EMFILE => Some(Self::OwnFiles),
            libc::ENFILE => Some(Self::AllFiles),
            libc::ENOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// Returns the errno for a caller of the mount; EMFILE would mean the caller's own limit.
    pub fn errno(self) -> i32 {
        match self {
            Self::OwnFiles | Self::AllFiles => libc::ENFILE,
            Self::Memory => libc::ENOMEM,
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnFiles => {
                "this process has as many files open as its limit lets it (`artfs doctor` tells it)"
            }
            Self::AllFiles => "this host has as many files open as it can",
            Self::Memory => "this host is out of memory",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_are_told_from_other_errors_and_callers_are_not_blamed() {
        let of = |errno| Shortage::of(&io::Error::from_raw_os_error(errno));
        assert_eq!(of(libc::EMFILE).map(Shortage::errno), Some(libc::ENFILE));
        assert_eq!(of(libc::ENFILE).map(Shortage::errno), Some(libc::ENFILE));
        assert_eq!(of(libc::ENOMEM).map(Shortage::errno), Some(libc::ENOMEM));
        assert_eq!(of(libc::ECONNREFUSED), None);
        assert_eq!(Shortage::of(&io::Error::other("x")), None);
    }
}
