//! The questions that the process table answers.

/// A process, told from a later one of the same number by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Its number.
    pub pid: u32,
    /// When it started, in ticks since the machine did.
    pub start: u64,
}

/// What the process table says of a process or thread. Cheap to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its name in time.
    pub key: ProcessKey,
    /// Its parent's number, 0 for none.
    pub parent: u32,
    /// Its process group: an interactive shell makes one for each command line.
    pub group: u32,
    /// The name of its program, cut at 15 bytes.
    pub program: String,
    /// Whether it has a terminal.
    pub has_terminal: bool,
}

/// What is asked of processes. Everything is `None` or empty for one that is gone or may not be looked into.
pub trait ProcessTree {
    /// The process that a thread is of.
    fn process_of(&self, thread: u32) -> Option<u32>;
    /// What the process table says.
    fn process(&self, pid: u32) -> Option<Process>;
    /// Program and arguments.
    fn command(&self, process: ProcessKey) -> Vec<String>;
    /// The value that each of these variables had when the program started, those that were set.
    fn variables(&self, process: ProcessKey, names: &[&str]) -> Vec<(String, String)>;
    /// The container it is in.
    fn container(&self, process: ProcessKey) -> Option<String>;
}
