//! Commands that record what runs read and make, and show where versions come from.

mod flush;
pub(super) mod graph;
pub(super) mod openlineage;
pub(super) mod own_run;
pub(super) mod run;
pub(super) mod run_text;
pub(super) mod runs;
mod text;
pub(super) mod uses;
