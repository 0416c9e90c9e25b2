//! The fields filters match on, packed into words so that "masked key equals masked value" is a few integer compares.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Words in a [`FlowKey`].
pub const WORDS: usize = 12;

/// A field's place in a [`FlowKey`]: `width` bits from bit `shift` of word `word`. 128-bit addresses take two words
/// and have accessors of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Index of the word.
    pub word: usize,
    /// Lowest bit within the word.
    pub shift: u32,
    /// Number of bits, 1 to 64.
    pub width: u32,
}

impl Field {
    const fn new(word: usize, shift: u32, width: u32) -> Self {
        Field { word, shift, width }
    }

    /// All ones in the field's own width.
    pub const fn max(self) -> u64 {
        if self.width == 64 { u64::MAX } else { (1 << self.width) - 1 }
    }
}

/// Ethertype after the VLAN tags the parser skipped.
pub const ETH_TYPE: Field = Field::new(0, 0, 16);
/// Destination MAC, the first byte on the wire highest.
pub const DST_MAC: Field = Field::new(0, 16, 48);
/// IP protocol, or the last next-header of IPv6.
pub const IP_PROTO: Field = Field::new(1, 0, 8);
/// IPv4 TOS or IPv6 traffic class.
pub const IP_TOS: Field = Field::new(1, 8, 8);
/// Source MAC.
pub const SRC_MAC: Field = Field::new(1, 16, 48);
/// Outer VLAN id.
pub const VLAN_ID: Field = Field::new(2, 0, 12);
/// Outer VLAN priority.
pub const VLAN_PRIO: Field = Field::new(2, 12, 3);
/// Outer tag's protocol id: 0x8100 or 0x88a8; 0 if untagged.
pub const VLAN_TPID: Field = Field::new(2, 16, 16);
/// Inner VLAN id.
pub const CVLAN_ID: Field = Field::new(2, 32, 12);
/// Inner VLAN priority.
pub const CVLAN_PRIO: Field = Field::new(2, 44, 3);
/// Inner tag's protocol id; 0 if there is none.
pub const CVLAN_TPID: Field = Field::new(2, 48, 16);
/// Upper half of the IPv6 source.
pub const SRC_IP_HIGH: Field = Field::new(3, 0, 64);
/// Lower half of the IPv6 source, or the IPv4 source in its low 32 bits.
pub const SRC_IP_LOW: Field = Field::new(4, 0, 64);
/// Upper half of the IPv6 destination.
pub const DST_IP_HIGH: Field = Field::new(5, 0, 64);
/// Lower half of the IPv6 destination, or the IPv4 destination in its low 32 bits.
pub const DST_IP_LOW: Field = Field::new(6, 0, 64);
/// L4 source port; 0 for any fragment [FL-10].
pub const SRC_PORT: Field = Field::new(7, 0, 16);
/// L4 destination port; 0 for any fragment.
pub const DST_PORT: Field = Field::new(7, 16, 16);
/// TCP flags, 12 bits, as in the header; 0 for any fragment.
pub const TCP_FLAGS: Field = Field::new(7, 32, 12);
/// IPv4 TTL or IPv6 hop limit.
pub const IP_TTL: Field = Field::new(7, 44, 8);
/// [`IP_FLAG_FRAG`] and [`IP_FLAG_FIRST_FRAG`].
pub const IP_FLAGS: Field = Field::new(7, 52, 2);
/// ICMP or ICMPv6 type.
pub const ICMP_TYPE: Field = Field::new(8, 0, 8);
/// ICMP or ICMPv6 code.
pub const ICMP_CODE: Field = Field::new(8, 8, 8);
/// ARP operation (low byte, as flower has it).
pub const ARP_OP: Field = Field::new(8, 16, 8);
/// Number of VLAN tags, as far as the parser looks: 0 to 2.
pub const NUM_OF_VLANS: Field = Field::new(8, 24, 8);
/// Receiving port plus one.
pub const INDEV: Field = Field::new(8, 32, 32);
/// ARP sender hardware address.
pub const ARP_SHA: Field = Field::new(9, 0, 48);
/// ARP target hardware address.
pub const ARP_THA: Field = Field::new(10, 0, 48);
/// ARP sender protocol address.
pub const ARP_SIP: Field = Field::new(11, 0, 32);
/// ARP target protocol address.
pub const ARP_TIP: Field = Field::new(11, 32, 32);

/// Bit in [`IP_FLAGS`]: the packet is a fragment, first or later.
pub const IP_FLAG_FRAG: u64 = 1;
/// Bit in [`IP_FLAGS`]: the packet is the first of several fragments.
pub const IP_FLAG_FIRST_FRAG: u64 = 2;

/// The fields of one packet, or the values or the mask of a filter. Fields that are absent read as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    words: [u64; WORDS],
}

impl FlowKey {
    /// No field set.
    pub const EMPTY: FlowKey = FlowKey { words: [0; WORDS] };

    /// The words, for masked comparison.
    #[inline]
    pub fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    /// Sets a whole word.
    pub(crate) fn set_word(&mut self, word: usize, value: u64) {
        self.words[word] = value;
    }

    /// The value of `field`.
    #[inline]
    pub fn get(&self, field: Field) -> u64 {
        (self.words[field.word] >> field.shift) & field.max()
    }

    /// Sets `field`; bits of `value` outside the field's width are ignored.
    #[inline]
    pub fn set(&mut self, field: Field, value: u64) {
        let mask = field.max() << field.shift;
        self.words[field.word] = (self.words[field.word] & !mask) | ((value << field.shift) & mask);
    }

    /// Sets the source to an IPv4 address.
    pub fn set_src_ipv4(&mut self, address: Ipv4Addr) {
        self.set(SRC_IP_LOW, u64::from(u32::from(address)));
    }

    /// Sets the destination to an IPv4 address.
    pub fn set_dst_ipv4(&mut self, address: Ipv4Addr) {
        self.set(DST_IP_LOW, u64::from(u32::from(address)));
    }

    /// Sets both halves of the source.
    pub fn set_src_ipv6(&mut self, address: Ipv6Addr) {
        let (high, low) = halves(address);
        self.words[SRC_IP_HIGH.word] = high;
        self.words[SRC_IP_LOW.word] = low;
    }

    /// Sets both halves of the destination.
    pub fn set_dst_ipv6(&mut self, address: Ipv6Addr) {
        let (high, low) = halves(address);
        self.words[DST_IP_HIGH.word] = high;
        self.words[DST_IP_LOW.word] = low;
    }

    /// `self & mask`, word by word.
    #[inline]
    pub fn masked(&self, mask: &FlowKey) -> FlowKey {
        FlowKey { words: std::array::from_fn(|i| self.words[i] & mask.words[i]) }
    }
}

/// A MAC address as the number that [`DST_MAC`] and its like hold.
#[inline]
pub fn mac(address: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = address;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

#[inline]
fn halves(address: Ipv6Addr) -> (u64, u64) {
    let bits = u128::from(address);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a 128-bit number")]
    ((bits >> 64) as u64, bits as u64)
}
