//! What reading promises.

mod damage;
mod lookups;
mod moved;
mod reads;
