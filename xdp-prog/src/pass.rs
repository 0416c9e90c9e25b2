//! What goes to the host, in Rust's types and in the program's.

use std::net::IpAddr;

use libbpf_rs::{MapCore as _, MapFlags};

use crate::skeleton::gate::types::{gate_neighbours, gate_settings};
use crate::skeleton::gate::{GateMaps, OpenGateMaps};

/// What always passes to the kernel's stack, before any filter is asked. The default passes nothing.
///
/// Up to two VLAN tags and six IPv6 extension headers are looked through. Fragments, the first one too, have no ports:
/// entries with ports never match them, `protocols` and `addresses` alone do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassList {
    /// ARP.
    pub arp: Neighbours,
    /// IPv6 neighbour and router discovery.
    pub nd: Neighbours,
    /// IP protocol numbers that pass whole, whatever the address. In IPv6, the one after the extension headers.
    pub protocols: Vec<u8>,
    /// The gateway's own addresses. Alone: everything to them passes. With `ports`: only those ports.
    pub addresses: Vec<IpAddr>,
    /// Ports, as source or destination: in packets to `addresses` if some are given, else in any.
    pub ports: Vec<(Transport, u16)>,
}

/// How much address resolution goes to the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Neighbours {
    /// Nothing.
    #[default]
    None,
    /// What concerns one of the addresses: ARP whose target is one of them; neighbour solicitations and advertisements
    /// that are for or about one of them.
    Own,
    /// All of it, router discovery too.
    All,
}

/// A transport protocol with ports; the value is its IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Transport {
    /// 6
    Tcp = 6,
    /// 17
    Udp = 17,
    /// 132
    Sctp = 132,
}

impl PassList {
    /// Writes the list's settings, and sizes its maps, before they are created.
    pub(crate) fn prepare(&self, settings: &mut gate_settings, maps: &mut OpenGateMaps<'_>) -> libbpf_rs::Result<()> {
        settings.arp = self.arp.into();
        settings.nd = self.nd.into();
        settings.has_addresses = u8::from(!self.addresses.is_empty());
        settings.has_ports = u8::from(!self.ports.is_empty());
        for &protocol in &self.protocols {
            settings.protocols[usize::from(protocol >> 3)] |= 1 << (protocol & 7);
        }
        // A map without room is not a map.
        let room = |entries: usize| u32::try_from(entries.max(1)).unwrap_or(u32::MAX);
        maps.ipv4_addresses.set_max_entries(room(self.addresses.len()))?;
        maps.ipv6_addresses.set_max_entries(room(self.addresses.len()))?;
        maps.ports.set_max_entries(room(self.ports.len()))
    }

    /// Fills the list's maps.
    pub(crate) fn fill(&self, maps: &GateMaps<'_>) -> libbpf_rs::Result<()> {
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => maps.ipv4_addresses.update(&address.octets(), &[1], MapFlags::ANY)?,
                IpAddr::V6(address) => maps.ipv6_addresses.update(&address.octets(), &[1], MapFlags::ANY)?,
            }
        }
        for &(transport, port) in &self.ports {
            let [p0, p1] = u16::from(transport as u8).to_ne_bytes();
            let [n0, n1] = port.to_be_bytes();
            maps.ports.update(&[p0, p1, n0, n1], &[1], MapFlags::ANY)?; // struct gate_port
        }
        Ok(())
    }
}

impl From<Neighbours> for gate_neighbours {
    fn from(neighbours: Neighbours) -> gate_neighbours {
        match neighbours {
            Neighbours::None => gate_neighbours::GATE_NEIGHBOURS_NONE,
            Neighbours::Own => gate_neighbours::GATE_NEIGHBOURS_OWN,
            Neighbours::All => gate_neighbours::GATE_NEIGHBOURS_ALL,
        }
    }
}
