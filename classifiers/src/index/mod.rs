//! What tables for packets are made of.

pub(crate) mod slot; // a pointer that workers read without a count or a lock
