//! What libbpf-cargo generates from the compiled programs: maps, programs and the types of `gate.h`.
#![allow(unsafe_code, unreachable_pub, missing_docs, clippy::all, clippy::restriction, clippy::pedantic)]

pub(crate) mod gate {
    include!(concat!(env!("OUT_DIR"), "/gate.skel.rs"));
}

pub(crate) mod host {
    include!(concat!(env!("OUT_DIR"), "/host.skel.rs"));
}
