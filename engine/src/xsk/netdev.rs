//! What the kernel says of an interface, asked by ioctl: `/sys/class/net` shows the network namespace of whoever
//! mounted it, which need not be ours.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Bytes that a driver keeps before the packet in each chunk.
const HEADROOM: u32 = 256;

/// Bytes of a frame on top of the MTU: Ethernet header and two VLAN tags.
const L2_OVERHEAD: u32 = 14 + 8;

/// An interface of the current network namespace, as it was when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netdev {
    /// Its index; a re-created interface gets another.
    pub ifindex: u32,
    /// Bytes of the largest packet, without the Ethernet header.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up, with carrier.
    pub carrier: bool,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The driver, such as `veth`, `virtio_net`, `igb`; empty if it does not say.
    pub driver: String,
    /// Active receive queues, at least 1.
    pub rx_queues: u32,
    /// Active transmit queues, at least 1.
    pub tx_queues: u32,
}

impl Netdev {
    /// Asks for the interface `name`.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface; `InvalidInput` if it is not a name.
    pub fn query(name: &str) -> io::Result<Netdev> {
        let control = Control::open(name)?;
        let ifindex = control.ask(libc::SIOCGIFINDEX)?;
        let mtu = control.ask(libc::SIOCGIFMTU)?;
        let flags = control.ask(libc::SIOCGIFFLAGS)?;
        let address = control.ask(libc::SIOCGIFHWADDR)?;
        let (driver, (rx_queues, tx_queues)) = (control.driver(), control.queues());
        // SAFETY: all members of the union are plain numbers, and the kernel has filled the one that was asked for.
        let (ifindex, mtu, flags, address) = unsafe {
            (
                ifindex.ifr_ifru.ifru_ifindex,
                mtu.ifr_ifru.ifru_mtu,
                i32::from(flags.ifr_ifru.ifru_flags),
                address.ifr_ifru.ifru_hwaddr.sa_data,
            )
        };
        Ok(Netdev {
            ifindex: ifindex.cast_unsigned(),
            mtu: mtu.cast_unsigned(),
            up: flags & libc::IFF_UP != 0,
            carrier: flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0,
            mac: std::array::from_fn(|byte| address[byte].to_ne_bytes()[0]),
            driver,
            rx_queues,
            tx_queues,
        })
    }
}

/// As long as this lives, an interface takes frames for every MAC address, not for its own alone: what a wire must do.
/// The kernel counts such wishes and forgets this one with the process.
#[derive(Debug)]
pub struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    /// Asks for it at the interface `ifindex` of the current network namespace.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW; `EAFNOSUPPORT` where the kernel has no packet sockets; `ENODEV`.
    pub fn new(ifindex: u32) -> io::Result<Promiscuous> {
        // Protocol 0: the socket itself receives nothing.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        let request = libc::packet_mreq {
            mr_ifindex: ifindex.cast_signed(),
            mr_type: PACKET_MR_PROMISC,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let length: libc::socklen_t = 16; // index, type, length, address
        // SAFETY: the kernel reads `length` bytes, all of `request`, which outlives the call.
        let failed = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const request).cast(),
                length,
            )
        };
        if failed < 0 { Err(io::Error::last_os_error()) } else { Ok(Promiscuous { _socket: socket }) }
    }
}

/// Whether the driver's chunks of `chunk_size` bytes hold every frame of an interface with this `mtu`.
///
/// # Errors
/// If not; what to do is in the message.
pub fn check_chunk(driver: &str, mtu: u32, chunk_size: u32, zero_copy: bool) -> Result<(), ChunkError> {
    let room = chunk_size.saturating_sub(HEADROOM);
    // igb tells its hardware the size of a chunk in whole KiB, and cuts what is longer in two without a word.
    let room = if zero_copy && driver == "igb" { room / 1024 * 1024 } else { room };
    let frame = mtu.saturating_add(L2_OVERHEAD);
    if frame <= room {
        return Ok(());
    }
    let fits_larger = chunk_size < 4096 && check_chunk(driver, mtu, 4096, zero_copy).is_ok();
    Err(ChunkError { driver: driver.to_owned(), mtu, chunk_size, room, fits_larger })
}

/// A chunk is too small for the interface's frames.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a chunk of {chunk_size} bytes holds {room} bytes of a frame with driver {driver:?}, but an MTU of {mtu} makes frames of \
     {}; {}",
    .mtu + L2_OVERHEAD,
    if *.fits_larger { "set chunk_size = 4096".to_owned() } else { format!("lower the MTU to {}", .room.saturating_sub(L2_OVERHEAD)) }
)]
pub struct ChunkError {
    /// The driver.
    pub driver: String,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// Bytes of a chunk that a frame may take.
    pub room: u32,
    /// Whether chunks of 4096 bytes would do.
    pub fits_larger: bool,
}

/// A socket to ask questions about one interface with.
struct Control {
    socket: OwnedFd,
    /// With the name filled in, the rest zero.
    request: libc::ifreq,
}

impl Control {
    fn open(name: &str) -> io::Result<Control> {
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} cannot name an interface")));
        }
        // SAFETY: an `ifreq` is plain numbers, for which zero is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Control { socket, request })
    }

    /// A request that takes nothing but the name and answers in the `ifreq` itself.
    fn ask(&self, request: libc::c_ulong) -> io::Result<libc::ifreq> {
        let mut answer = self.request;
        // SAFETY: the requests above write no more than an `ifreq`, and `answer` is one.
        let failed = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut answer) };
        if failed < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
    }

    /// A request to the driver, answered in place. `false` if the driver does not know it.
    fn ask_driver(&self, question: &mut impl Question) -> bool {
        let mut request = self.request;
        request.ifr_ifru.ifru_data = (&raw mut *question).cast();
        // SAFETY: the kernel reads and writes the structure that `ifru_data` points to; it begins with the command,
        // which tells the kernel its size, and it outlives the call.
        unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) == 0 }
    }

    fn driver(&self) -> String {
        let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        if !self.ask_driver(&mut info) {
            return String::new();
        }
        let name = info.driver.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// Active receive and transmit queues. A driver that has nothing to set has one of each.
    fn queues(&self) -> (u32, u32) {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        self.ask_driver(&mut channels);
        ((channels.rx + channels.combined).max(1), (channels.tx + channels.combined).max(1))
    }
}

/// libc has it as a number too wide for its place.
const PACKET_MR_PROMISC: libc::c_ushort = 1;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// A structure of `linux/ethtool.h`, complete, its command set.
///
/// # Safety
/// The kernel writes as many bytes as its structure for that command has: the type must have as many.
unsafe trait Question {}

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Versions, bus and counts.
    rest: [u8; 160],
}

// SAFETY: 196 bytes in the header: the command, five strings of 32, 12 reserved, five numbers.
unsafe impl Question for DriverInfo {}

/// `struct ethtool_channels`
#[repr(C)]
#[derive(Default)]
struct Channels {
    command: u32,
    max: [u32; 4],
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

// SAFETY: nine numbers in the header.
unsafe impl Question for Channels {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Channels>(), 36);
        assert_eq!(size_of::<libc::packet_mreq>(), 16);
    }

    #[test]
    fn the_loopback_is_known() {
        let lo = Netdev::query("lo").unwrap();
        assert_eq!((lo.ifindex, lo.mac, lo.rx_queues, lo.tx_queues), (1, [0; 6], 1, 1));
        assert!(lo.mtu >= 1500);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(Netdev::query("tg-nowhere").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        for name in ["", "a-name-of-16-byt", "nul\0"] {
            assert_eq!(Netdev::query(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn a_chunk_must_hold_the_mtu_and_two_tags() {
        assert_eq!(check_chunk("veth", 1770, 2048, false), Ok(()));
        let error = check_chunk("veth", 1771, 2048, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a chunk of 2048 bytes holds 1792 bytes of a frame with driver \"veth\", but an MTU of 1771 makes frames \
             of 1793; set chunk_size = 4096"
        );
        let error = check_chunk("veth", 9000, 2048, false).unwrap_err();
        assert!(error.to_string().ends_with("frames of 9022; lower the MTU to 1770"), "{error}");
    }

    #[test]
    fn igb_needs_large_chunks_for_zero_copy() {
        assert_eq!(check_chunk("igb", 1500, 2048, false), Ok(()));
        assert_eq!(check_chunk("igb", 1500, 4096, true), Ok(()));
        let error = check_chunk("igb", 1500, 2048, true).unwrap_err();
        assert_eq!((error.room, error.fits_larger), (1024, true));
    }
}
