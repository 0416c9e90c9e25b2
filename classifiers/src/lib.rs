//! Rules and packets: what a frame is, what filters say about it, and which verdict follows.
//!
//! The crate follows the Linux `tc` model. A [`Block`](block::Block) owns chains, a chain holds protos in order of
//! priority, a proto holds filters of one kind, a filter ends in a list of actions. Nothing here does I/O or starts a
//! thread; for packets, time and the outside world are arguments.
//!
//! ```
//! use tidegate_classifiers::{block::Block, classify::Context, flow_key, packet::Packet, port::*, request::*, verdict::*};
//!
//! struct NoPorts; // where copies would go
//! impl Egress for NoPorts {
//!     fn frame(&self) -> &[u8] { &[] }
//!     fn ready(&self, _: PortId) -> bool { false }
//!     fn mirror(&mut self, _: PortId) -> bool { false }
//! }
//!
//! let mut arp_request = FlowerSpec::default();
//! arp_request.value.set(flow_key::ARP_OP, 1);
//! arp_request.mask.set(flow_key::ARP_OP, 0xff);
//! let filter = |priority, protocol, kind, control| FilterSpec {
//!     chain: 0, priority, protocol, handle: 0, kind, name: "".into(), options: FilterOptions::default(),
//!     actions: [ActionSpec::Gact(GactSpec { control, random: None })].into_iter().collect(),
//! };
//! let block = Block::new(1);
//! add_filter(&block, &filter(1, 0x0806, KindSpec::Flower(Box::new(arp_request)), Control::Trap))?;
//! add_filter(&block, &filter(2, ETH_P_ALL, KindSpec::Matchall, Control::Shot))?;
//!
//! let mut frame = [0; 42]; // Ethernet and ARP
//! frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
//! let mut packet = Packet::parse(&frame, PortId(0)).expect("an Ethernet header at least");
//! let (mut rng, mut egress) = (fastrand::Rng::new(), NoPorts);
//! let generation = block.plane().generation();
//! let mut cx = Context { worker: WorkerId(0), generation, now_ns: 1, rng: &mut rng, egress: &mut egress };
//! assert_eq!(block.classify(&block.head(), &mut packet, &mut cx), Verdict::Trap);
//! assert_eq!(dump(&block)[0].hits.packets, 1);
//! # Ok::<(), tidegate_classifiers::error::RequestError>(())
//! ```
#![recursion_limit = "256"] // rustdoc looks through all types to see whether they are Send: blocks, filters and plane know each other
#![deny(unsafe_code)]

pub(crate) mod action; // what a match does: gact, mirred; actions by index
pub mod block; // Block: chains bound to hooks, and the life of the chains
pub mod chain; // Chain: life cycle, and the proto list that workers read
pub mod classify; // the data path: the one loop over chains and protos
pub mod counters; // hits per filter and action, one slot a worker
pub mod error; // why a request was refused
pub mod event; // what changed, to any number of subscribers
pub(crate) mod filter; // Filter: one rule with a handle
pub mod flow_cache; // FlowCache: what was found for the packets of a flow
pub mod flow_key; // FlowKey: the fields filters match on
pub mod generation; // Generation, and the span of a filter
pub(crate) mod handle; // Handles: numbers given out, the lowest free one first
pub(crate) mod index; // the first filter for a packet, in a time that hardly grows with their number
pub mod inject; // where a test can stop a request
pub(crate) mod kind; // classifier kinds: flower, matchall, fw, u32
pub(crate) mod ledger; // Ledger: what a transaction has prepared
pub mod live; // objects in memory, by type
pub mod packet; // Packet: what one parse of a frame found
pub(crate) mod pages; // Pages: values by number, packed
pub mod plane; // Plane: what the blocks of one engine share; bindings
pub mod port; // PortId, WorkerId, and Egress: what actions may do to the world
pub(crate) mod prefetch; // memory that will be read soon
pub(crate) mod proto; // Proto: priority, protocol, kind
pub mod reap; // the queue of deferred destruction
pub mod request; // new, delete, get, flush, dump: what the control plane may ask
pub mod sync; // locks, their order, and published values; std or shuttle
pub mod transaction; // many requests that take effect at one instant
pub(crate) mod tree; // Tree: an ordered set whose updates copy one chunk
pub mod verdict; // Verdict, Control, DropReason
pub mod wire; // headers: fields, accessors, one length check each

#[cfg(any(test, feature = "oracle"))]
pub mod naive; // the slow, obvious answer that every fast path must agree with
