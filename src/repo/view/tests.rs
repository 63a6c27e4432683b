//! What reading promises.

mod compare;
mod damage;
mod lookups;
mod moved;
mod reads;
