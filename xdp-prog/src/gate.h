/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the two programs and the Rust around them agree on. The structures reach Rust by the generated skeletons; the
 * outcomes are mirrored in counters.rs, and a test there reads this file.
 */
#ifndef TIDEGATE_GATE_H
#define TIDEGATE_GATE_H

#include <linux/types.h>

enum gate_neighbours { GATE_NEIGHBOURS_NONE, GATE_NEIGHBOURS_OWN, GATE_NEIGHBOURS_ALL };

/* What became of a frame; index into the counters. */
enum gate_outcome {
	GATE_REDIRECTED,    /* to the socket of its queue */
	GATE_HOST_ARP,      /* passed to the host by `arp` */
	GATE_HOST_ND,       /* passed to the host by `nd` */
	GATE_HOST_LISTED,   /* passed to the host by protocols, addresses or ports */
	GATE_HOST_RETURNED, /* sent up by the gateway itself; generic mode only */
	GATE_UNREAD,        /* no socket on its queue: on_unread happened */
	GATE_OUTCOMES,
};

/* Who attached the program: tells a dead run's program from a living one's. */
struct gate_owner {
	__u64 start_ticks; /* field 22 of /proc/PID/stat */
	__u32 pid;
	__u32 reserved;
};

/* Fixed at load. `owner` comes first: other versions of tidegate read it. */
struct gate_settings {
	struct gate_owner owner;
	__u64 pass_word[2]; /* random; frames that bear it come from tidegate_host */
	__u8 protocols[32]; /* bit p: IP protocol p passes */
	__u32 on_unread;    /* XDP_PASS or XDP_DROP */
	enum gate_neighbours arp;
	enum gate_neighbours nd;
	__u8 has_addresses;
	__u8 has_ports;
};

struct host_settings {
	__u64 pass_word[2];
	__u32 port_ifindex;
	__u8 sealed; /* the port's gate is in generic mode and would see the frame again */
};

struct gate_ipv6 {
	__u8 octets[16];
};

struct gate_port {
	__u16 protocol;
	__be16 port;
};

/* Goes before a frame that tidegate_host sends past a gate in generic mode. */
struct gate_seal {
	__u8 destination[6]; /* of the frame within */
	__u8 source[6];
	__be16 ethertype; /* GATE_SEAL_ETHERTYPE */
	__u64 pass_word[2];
} __attribute__((packed));

#define GATE_SEAL_ETHERTYPE 0x88b5 /* IEEE 802, local experiments */

#endif
