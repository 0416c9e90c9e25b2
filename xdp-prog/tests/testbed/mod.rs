//! Private network namespaces, interfaces in them, and an AF_XDP socket that only receives.
#![allow(unsafe_code, reason = "xsk-rs asks its callers to keep frames and rings apart")]
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::error::Error;
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::panic::resume_unwind;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};
use xsk_rs::config::{BindFlags, LibxdpFlags, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

/// Runs `test` in a network namespace of its own, gone with all in it afterwards. Other threads stay where they are.
/// Without the privilege: panics under CI=true, else says so and returns.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let outcome = thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root to make a network namespace: {error}");
            eprintln!("not run: needs root to make a network namespace: {error}");
            return;
        }
        ip("link set lo up");
        test();
    })
    .join();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What `ip link show` says about an interface.
pub fn ip_link_show(interface: &str) -> String {
    let output = Command::new("ip").args(["-details", "link", "show", interface]).output().unwrap();
    assert!(output.status.success(), "{interface}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}

/// A veth pair `xp0`, `xp1`, both up and quiet, one queue each, MAC addresses 02:..:00 and 02:..:01.
pub fn veth() {
    ip("link add xp0 address 02:00:00:00:00:00 type veth peer name xp1 address 02:00:00:00:00:01");
    up("xp0");
    up("xp1");
}

/// Sets an interface up without IPv6, whose chatter would be counted.
fn up(interface: &str) {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1").unwrap();
    ip(&format!("link set {interface} up"));
}

/// The far end of [`veth`]: `xp1` in a namespace of its own, with 10.9.0.2; `xp0` gets 10.9.0.1.
pub struct Peer {
    namespace: File,
}

impl Peer {
    pub fn new() -> Peer {
        let namespace = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let peer = Peer { namespace: namespace.join().unwrap() };
        veth();
        ip(&format!("link set xp1 netns /proc/{}/fd/{}", std::process::id(), peer.namespace.as_raw_fd()));
        ip("addr add 10.9.0.1/24 dev xp0");
        peer.run(|| {
            up("xp1"); // moving switched it off, and IPv6 on
            ip("addr add 10.9.0.2/24 dev xp1");
            ip("neigh add 10.9.0.1 lladdr 02:00:00:00:00:00 dev xp1");
        });
        peer
    }

    /// Runs `action` in the peer's namespace.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            });
            thread.join().unwrap()
        })
    }

    /// Sends a UDP packet to 10.9.0.1, port 9.
    pub fn send(&self, payload: &[u8]) {
        self.run(|| UdpSocket::bind("10.9.0.2:0").unwrap().send_to(payload, "10.9.0.1:9").unwrap());
    }
}

/// What the host gets on 10.9.0.1, UDP port 9.
pub struct Host {
    socket: UdpSocket,
}

impl Host {
    pub fn listen() -> Host {
        let socket = UdpSocket::bind("10.9.0.1:9").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        Host { socket }
    }

    /// The next packet's payload, if one comes within 0.3 seconds.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut payload = [0; 2048];
        self.socket.recv(&mut payload).ok().map(|length| payload[..length].to_vec())
    }
}

/// A TAP, up and quiet: what is written is received by the kernel on it.
pub fn tap(name: &str) -> SyncDevice {
    let tap = DeviceBuilder::new().name(name).layer(Layer::L2).build_sync().unwrap();
    up(name);
    tap.set_nonblocking(true).unwrap();
    tap
}

/// Whether a socket was refused because its queue has one.
fn is_busy(error: &dyn Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::ResourceBusy)
}

/// An AF_XDP socket that receives on one queue, in copy mode.
pub struct Receiver {
    rx: RxQueue,
    frames: Vec<FrameDesc>,
    umem: Umem,
    _rings: (TxQueue, FillQueue, CompQueue),
}

impl Receiver {
    pub fn bind(interface: &str, queue: u32) -> Receiver {
        let (umem, frames) = Umem::new(UmemConfig::default(), 64.try_into().unwrap(), false).unwrap();
        let config = SocketConfig::builder()
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(BindFlags::XDP_COPY)
            .build();
        // The kernel takes its time to let go of the queue of a receiver before.
        let patience = Instant::now() + Duration::from_secs(10);
        let (tx, rx, rings) = loop {
            // SAFETY: the UMEM has no other socket.
            match unsafe { Socket::new(config, &umem, &interface.parse().unwrap(), queue) } {
                Err(e) if is_busy(&e) && Instant::now() < patience => thread::sleep(Duration::from_millis(10)),
                socket => break socket.unwrap(),
            }
        };
        let (mut fill, completion) = rings.unwrap();
        // SAFETY: the frames are those of the UMEM, and none was given away yet.
        assert_eq!(unsafe { fill.produce(&frames) }, 64);
        Receiver { rx, frames, umem, _rings: (tx, fill, completion) }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the receiver's, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// The next frame, if one comes within a second. No more than 64 in all: frames are not given back.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut frame = self.frames.pop()?;
        // SAFETY: a received frame is described by what the ring says; no frame is given to the fill ring twice.
        let received = unsafe { self.rx.poll_and_consume_one(&mut frame, 1000) }.unwrap();
        // SAFETY: the frame was received, and is not in any ring.
        (received == 1).then(|| unsafe { self.umem.data(&frame) }.contents().to_vec())
    }
}
