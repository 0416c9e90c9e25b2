//! An XDP attachment that lives as long as its descriptor: it ends with the process, however that ends.
//!
//! libbpf-rs 0.25 makes such links without a choice of mode, hence the system call here.
#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libbpf_rs::{XdpFlags, libbpf_sys};

/// Attaches `program` to the interface; it is detached when the last copy of the descriptor is closed.
pub(crate) fn attach(program: BorrowedFd<'_>, ifindex: i32, mode: XdpFlags) -> io::Result<OwnedFd> {
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: mode.bits(),
        ..Default::default()
    };
    // SAFETY: the call only reads `options`, which outlives it and bears its own size.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_XDP, &options) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
