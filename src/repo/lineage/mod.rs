//! Where versions came from and what was made from them, across all artifacts of a store.
//!
//! The logs record it; [`index`] keeps that in a form that can be followed both ways; [`graph`] follows it; [`uses`]
//! records runs that read versions and made none; [`openlineage`] reports runs to other systems.

pub mod graph;
pub mod index;
pub mod openlineage;
pub mod uses;
