//! Why a gate could not be attached or asked.

use crate::AttachMode;

/// Why a gate could not be attached, detached or asked.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The kernel refused a program or one of its maps.
    #[error("the kernel refuses {what}: {source:#}; hint: needs Linux 6.1, CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN")]
    Load {
        /// What was loaded, in words.
        what: &'static str,
        /// libbpf's reason.
        source: libbpf_rs::Error,
    },
    /// The driver, or the kernel's generic path, refused the program.
    #[error("{interface}: cannot attach XDP in {mode} mode: {source:#}{}", hint(.source))]
    Attach {
        /// The interface.
        interface: String,
        /// The mode tried last.
        mode: AttachMode,
        /// The kernel's reason.
        source: libbpf_rs::Error,
    },
    /// Another tidegate runs on the interface.
    #[error("{interface}: tidegate runs here already, as process {pid}")]
    Running {
        /// The interface.
        interface: String,
        /// Its process.
        pid: u32,
    },
    /// A program that is not tidegate's is attached.
    #[error(
        "{interface}: XDP program {id} ({name}) is attached in {mode} mode and is not tidegate's; hint: stop the program \
         that owns it, or `ip link set dev {interface} {} off`", .mode.ip_link_word()
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// Kernel id of the program.
        id: u32,
        /// Name of the program.
        name: String,
        /// How it is attached.
        mode: AttachMode,
    },
    /// A program is attached, and the kernel does not say whose.
    #[error(
        "{interface}: XDP program {id} is attached in {mode} mode, and whose it is cannot be seen without CAP_SYS_ADMIN; hint: \
         run this once as root, or `ip link set dev {interface} {} off` if nobody needs it", .mode.ip_link_word()
    )]
    Hidden {
        /// The interface.
        interface: String,
        /// Kernel id of the program.
        id: u32,
        /// How it is attached.
        mode: AttachMode,
    },
    /// No such interface in this network namespace.
    #[error("no interface with index {ifindex}")]
    NoInterface {
        /// The index asked for.
        ifindex: u32,
    },
    /// A call on an attached program or its maps failed.
    #[error("cannot {what}: {source:#}")]
    Kernel {
        /// What was tried, in words.
        what: &'static str,
        /// The kernel's reason.
        source: libbpf_rs::Error,
    },
}

/// What usually is behind the kernel's bare error number.
fn hint(source: &libbpf_rs::Error) -> &'static str {
    let text = format!("{source:#}");
    let is = |errno: nix::errno::Errno| text.contains(&format!("(os error {})", errno as i32));
    if is(nix::errno::Errno::ERANGE) || is(nix::errno::Errno::EINVAL) {
        "; hint: the MTU may be too large for XDP, try 1500; or large receive offload is on"
    } else if is(nix::errno::Errno::ENOSPC) {
        "; hint: a veth's peer must not have more transmit queues than this end has receive queues"
    } else if is(nix::errno::Errno::ENOMEM) {
        "; hint: the driver may want free queues for XDP, try fewer with `ethtool -L`"
    } else {
        ""
    }
}
