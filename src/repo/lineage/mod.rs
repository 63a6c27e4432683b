//! Where versions came from and what was made of them, across all artifacts of a store.
//!
//! The logs say it; [`index`] keeps what they say in a form that can be followed both ways; [`graph`] follows it;
//! [`uses`] tells of runs that read versions and made none.

pub mod graph;
pub mod index;
pub mod openlineage;
pub mod uses;
