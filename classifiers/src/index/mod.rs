//! What tables for packets are made of.

pub(crate) mod era; // when what workers may hold is set free
pub(crate) mod table; // a hash table that workers read while requests change it
