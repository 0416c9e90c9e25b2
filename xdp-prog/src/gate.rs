//! The XDP program of one port: load, attach, fill the maps, detach.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{ErrorKind, MapCore as _, MapFlags, MapHandle, OpenObject, Program, Xdp, XdpFlags, libbpf_sys};

use crate::occupant::{self, Occupant};
use crate::owner::Owner;
use crate::skeleton::gate::types::{gate_owner, gate_settings};
use crate::skeleton::gate::{GateSkel, GateSkelBuilder};
use crate::{GateCounters, GateError, PassList, link};

/// How to attach to a port, and what passes to the host there.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// The port's interface, in the network namespace of the calling thread.
    pub ifindex: u32,
    /// Queues that may get a socket, 1 or more; queue ids are below it.
    pub queues: u32,
    /// What happens to frames that no socket reads, and whether the program outlives the process.
    pub on_exit: OnExit,
    /// Which modes to try.
    pub generic: GenericPolicy,
    /// What goes to the host.
    pub pass: PassList,
}

/// What becomes of frames while nobody reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// The kernel gets them. The program vanishes with the process, however that ends.
    Pass,
    /// They are dropped. The program stays when the process ends, however that ends, until another run takes its place
    /// or [`detach_stale`](crate::detach_stale) removes it.
    Drop,
}

/// Which modes [`Gate::attach`] tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GenericPolicy {
    /// Native; generic if the driver has no XDP.
    Auto,
    /// Native or fail.
    Native,
    /// Generic.
    Generic,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel makes a packet of the frame.
    Native,
    /// In the kernel's stack: works everywhere, slow.
    Generic,
}

/// An attached XDP program and its maps.
#[derive(Debug)]
pub struct Gate {
    ifindex: u32,
    mode: AttachMode,
    pass_word: [u64; 2],
    program_id: u32,
    xsks: MapHandle,
    counters: MapHandle,
    /// With [`OnExit::Pass`]; closing it detaches.
    _link: Option<OwnedFd>,
}

impl Gate {
    /// Loads the program, fills its pass list and attaches it.
    ///
    /// A dead run's program is replaced; with [`OnExit::Drop`] in the same mode at one stroke, so that no frame slips
    /// through between the two.
    ///
    /// # Errors
    /// [`GateError::Running`] and [`GateError::Foreign`] if the interface is taken, [`GateError::Load`] and
    /// [`GateError::Attach`] if the kernel refuses.
    pub fn attach(options: &GateOptions) -> Result<Gate, GateError> {
        libbpf_rs::set_print(None); // what went wrong is in the error; libbpf's own words would go to stderr
        let stale = Occupant::stale(options.ifindex)?;

        let refused = |source| GateError::Load { what: "the XDP program", source };
        let pass_word = random_word().map_err(|error| refused(error.into()))?;
        let mut storage = MaybeUninit::uninit();
        let skeleton = load(options, pass_word, &mut storage).map_err(refused)?;
        let program = skeleton.progs.tidegate_gate.as_fd();
        let program_id = Program::id_from_fd(program).map_err(refused)?;
        let xsks = MapHandle::try_from(&skeleton.maps.xsks).map_err(refused)?;
        let counters = MapHandle::try_from(&skeleton.maps.counters).map_err(refused)?;

        let (mode, link) = attach(options, program, stale.as_ref())?;
        Ok(Gate { ifindex: options.ifindex, mode, pass_word, program_id, xsks, counters, _link: link })
    }

    /// Sends the frames of `queue` to an AF_XDP socket bound to that queue of the port. The kernel forgets a socket
    /// when it is closed.
    ///
    /// # Errors
    /// `queue` is not below [`GateOptions::queues`], or `socket` is not an AF_XDP socket with rings.
    pub fn set_socket(&self, queue: u32, socket: BorrowedFd<'_>) -> Result<(), GateError> {
        self.xsks
            .update(&queue.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes(), MapFlags::ANY)
            .map_err(|source| GateError::Kernel { what: "give a queue its socket", source })
    }

    /// Takes the socket from `queue`; its frames are then passed or dropped, as [`GateOptions::on_exit`] says.
    pub fn clear_socket(&self, queue: u32) {
        // Fails only where there is no socket.
        let _ = self.xsks.delete(&queue.to_ne_bytes());
    }

    /// Takes their sockets from all queues.
    pub fn clear_sockets(&self) {
        (0..self.xsks.max_entries()).for_each(|queue| self.clear_socket(queue));
    }

    /// Interface the gate is attached to.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Where the program runs.
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// The kernel's id of the program.
    pub fn program_id(&self) -> u32 {
        self.program_id
    }

    /// Frames by what became of them, summed over the CPUs.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub fn counters(&self) -> Result<GateCounters, GateError> {
        GateCounters::read(&self.counters).map_err(|source| GateError::Kernel { what: "read the counters", source })
    }

    /// Ends the gate: with [`OnExit::Pass`] the program is gone when this returns; with [`OnExit::Drop`] it stays and
    /// drops what its pass list does not name. Dropping a `Gate` does the same. Call it before the sockets are closed.
    pub fn detach(self) {}

    /// What frames that the gateway sends to the host bear, so that this gate lets them pass.
    pub(crate) fn pass_word(&self) -> [u64; 2] {
        self.pass_word
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.clear_sockets();
    }
}

impl AttachMode {
    /// How the kernel is asked for it.
    pub(crate) fn flags(self) -> XdpFlags {
        match self {
            AttachMode::Native => XdpFlags::DRV_MODE,
            AttachMode::Generic => XdpFlags::SKB_MODE,
        }
    }

    /// What `ip link set` calls it.
    pub(crate) fn ip_link_word(self) -> &'static str {
        match self {
            AttachMode::Native => "xdpdrv",
            AttachMode::Generic => "xdpgeneric",
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachMode::Native => "native",
            AttachMode::Generic => "generic",
        })
    }
}

impl GenericPolicy {
    fn modes(self) -> &'static [AttachMode] {
        match self {
            GenericPolicy::Auto => &[AttachMode::Native, AttachMode::Generic],
            GenericPolicy::Native => &[AttachMode::Native],
            GenericPolicy::Generic => &[AttachMode::Generic],
        }
    }
}

/// Loads the program with its settings and pass list.
pub(crate) fn load<'a>(
    options: &GateOptions,
    pass_word: [u64; 2],
    storage: &'a mut MaybeUninit<OpenObject>,
) -> libbpf_rs::Result<GateSkel<'a>> {
    let owner = Owner::current()?;
    let mut open = GateSkelBuilder::default().open(storage)?;
    let mut settings = gate_settings {
        owner: gate_owner { start_ticks: owner.start_ticks, pid: owner.pid, reserved: 0 },
        pass_word,
        on_unread: match options.on_exit {
            OnExit::Pass => libbpf_sys::XDP_PASS,
            OnExit::Drop => libbpf_sys::XDP_DROP,
        },
        ..gate_settings::default()
    };
    options.pass.prepare(&mut settings, &mut open.maps)?;
    open.maps.xsks.set_max_entries(options.queues)?;
    match open.maps.rodata_gate_data.as_mut() {
        Some(data) => data.settings = settings,
        None => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
    let loaded = open.load()?;
    options.pass.fill(&loaded.maps)?;
    Ok(loaded)
}

/// Attaches `program` in the first mode of the policy that the driver has, in place of `stale`. Gives the link with
/// [`OnExit::Pass`], where the attachment shall end with the process.
fn attach(
    options: &GateOptions,
    program: BorrowedFd<'_>,
    stale: Option<&Occupant>,
) -> Result<(AttachMode, Option<OwnedFd>), GateError> {
    let ifindex = occupant::kernel_index(options.ifindex)?;
    let xdp = Xdp::new(program);
    let modes = options.generic.modes();
    if let Some(stale) = stale {
        let stays = options.on_exit == OnExit::Drop && modes.contains(&stale.mode);
        if stays && xdp.replace(ifindex, stale.program.as_fd()).is_ok() {
            return Ok((stale.mode, None));
        }
        stale.detach()?;
    }
    let mut modes = modes.iter().copied().peekable();
    loop {
        // A policy has one mode at least, and the last one ends the loop.
        let mode = modes.next().unwrap_or(AttachMode::Generic);
        let attached = match options.on_exit {
            OnExit::Pass => link::attach(program, ifindex, mode.flags()).map(Some).map_err(libbpf_rs::Error::from),
            OnExit::Drop => xdp.attach(ifindex, mode.flags() | XdpFlags::UPDATE_IF_NOEXIST).map(|()| None),
        };
        match attached {
            Ok(link) => return Ok((mode, link)),
            Err(error) if error.kind() == ErrorKind::Unsupported && modes.peek().is_some() => {}
            Err(source) => {
                let interface = occupant::interface_name(options.ifindex)?;
                return Err(GateError::Attach { interface, mode, source });
            }
        }
    }
}

fn random_word() -> io::Result<[u64; 2]> {
    let mut bytes = [[0; 8]; 2];
    File::open("/dev/urandom")?.read_exact(bytes.as_flattened_mut())?;
    Ok(bytes.map(u64::from_ne_bytes))
}
