//! What reading promises.

mod damage;
mod lookups;
mod reads;
