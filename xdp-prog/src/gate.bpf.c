// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The gate: what the host must get goes to the host, everything else to the AF_XDP socket of its queue.
 *
 * A frame that cannot be parsed far enough to match the pass list does not match it: the gateway judges it.
 * Fragments have no ports here, not even the first one, so that all of a datagram goes one way: rules of ports never
 * match them, rules of addresses and protocols do.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "gate.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define VLAN_TAGS_MAX 2
#define EXTENSION_HEADERS_MAX 6

SEC(".rodata.gate") const volatile struct gate_settings settings;

/* Sizes are set before load. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __be32);
	__type(value, __u8);
} ipv4_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct gate_ipv6);
	__type(value, __u8);
} ipv6_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct gate_port);
	__type(value, __u8);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GATE_OUTCOMES);
	__type(key, __u32); /* enum gate_outcome */
	__type(value, __u64);
} counters SEC(".maps");

struct vlan_tag {
	__be16 tci;
	__be16 ethertype;
};

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender_ip[4];
	__u8 target_mac[6];
	__be32 target_ip;
} __attribute__((packed));

struct extension_header {
	__u8 next;
	__u8 length; /* in 8 bytes, without the first 8 */
};

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset_and_more;
	__be32 id;
};

struct neighbour_message {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 flags;
	struct gate_ipv6 target;
};

struct port_pair {
	__be16 source;
	__be16 destination;
};

static __always_inline int is_own_ipv4(const void *address)
{
	return settings.has_addresses && bpf_map_lookup_elem(&ipv4_addresses, address);
}

static __always_inline int is_own_ipv6(const void *address)
{
	return settings.has_addresses && bpf_map_lookup_elem(&ipv6_addresses, address);
}

static __always_inline int is_listed_port(__u8 protocol, __be16 port)
{
	struct gate_port key = { .protocol = protocol, .port = port };

	return bpf_map_lookup_elem(&ports, &key) != NULL;
}

/* By protocol, address or port. `at` is the header after IP; `own` says whether the packet goes to an own address. */
static __always_inline enum gate_outcome listed(__u8 protocol, int own, int fragment, void *at, void *end)
{
	struct port_pair *pair = at;

	if (settings.protocols[protocol >> 3] & (1 << (protocol & 7)))
		return GATE_HOST_LISTED;
	if (settings.has_addresses && !own)
		return GATE_REDIRECTED;
	if (!settings.has_ports)
		return own ? GATE_HOST_LISTED : GATE_REDIRECTED;
	if (fragment || (void *)(pair + 1) > end)
		return GATE_REDIRECTED;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP)
		return GATE_REDIRECTED;
	if (is_listed_port(protocol, pair->destination) || is_listed_port(protocol, pair->source))
		return GATE_HOST_LISTED;
	return GATE_REDIRECTED;
}

static __always_inline enum gate_outcome judge_arp(void *at, void *end)
{
	struct arp_ipv4 *arp = at;

	if (settings.arp == GATE_NEIGHBOURS_ALL)
		return GATE_HOST_ARP;
	if (settings.arp == GATE_NEIGHBOURS_NONE || (void *)(arp + 1) > end)
		return GATE_REDIRECTED;
	if (arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 || arp->protocol_length != 4)
		return GATE_REDIRECTED;
	return is_own_ipv4(&arp->target_ip) ? GATE_HOST_ARP : GATE_REDIRECTED;
}

static __always_inline enum gate_outcome judge_ipv4(void *at, void *end)
{
	struct iphdr *ip = at;
	int fragment;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return GATE_REDIRECTED;
	fragment = (ip->frag_off & bpf_htons(0x3fff)) != 0; /* more to come, or an offset */
	return listed(ip->protocol, is_own_ipv4(&ip->daddr), fragment, at + ip->ihl * 4, end);
}

/* Router and neighbour discovery: ICMPv6 types 133 to 137. */
static __always_inline int is_host_nd(int own, void *at, void *end)
{
	struct neighbour_message *message = at;

	if (settings.nd == GATE_NEIGHBOURS_NONE || (void *)(&message->code + 1) > end)
		return 0;
	if (message->type < 133 || message->type > 137)
		return 0;
	if (settings.nd == GATE_NEIGHBOURS_ALL)
		return 1;
	if (message->type != 135 && message->type != 136)
		return 0;
	return own || ((void *)(message + 1) <= end && is_own_ipv6(&message->target));
}

static __always_inline enum gate_outcome judge_ipv6(void *at, void *end)
{
	struct ipv6hdr *ip = at;
	int own, fragment = 0;
	__u8 protocol;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return GATE_REDIRECTED;
	own = is_own_ipv6(&ip->daddr);
	protocol = ip->nexthdr;
	at = ip + 1;
	/* Where the walk ends early, the header it stands at is the protocol. */
	for (int i = 0; i < EXTENSION_HEADERS_MAX; i++) {
		struct extension_header *extension = at;
		struct fragment_header *piece = at;

		if (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_ROUTING || protocol == IPPROTO_DSTOPTS) {
			if ((void *)(extension + 1) > end)
				break;
			protocol = extension->next;
			at += (extension->length + 1) * 8;
		} else if (protocol == IPPROTO_FRAGMENT) {
			if ((void *)(piece + 1) > end)
				break;
			protocol = piece->next;
			fragment = 1;
			if (piece->offset_and_more & bpf_htons(0xfff8))
				break; /* not the first: what follows is payload */
			at = piece + 1;
		} else {
			break;
		}
	}
	if (protocol == IPPROTO_ICMPV6 && !fragment && is_host_nd(own, at, end))
		return GATE_HOST_ND;
	return listed(protocol, own, fragment, at, end);
}

static __always_inline enum gate_outcome judge(void *at, void *end)
{
	struct ethhdr *ethernet = at;
	struct gate_seal *seal = at;
	__be16 ethertype;

	if ((void *)(ethernet + 1) > end)
		return GATE_REDIRECTED;
	ethertype = ethernet->h_proto;
	at = ethernet + 1;
	for (int i = 0; i < VLAN_TAGS_MAX; i++) {
		struct vlan_tag *tag = at;

		if (ethertype != bpf_htons(ETH_P_8021Q) && ethertype != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 1) > end)
			return GATE_REDIRECTED;
		ethertype = tag->ethertype;
		at = tag + 1;
	}
	switch (ethertype) {
	case bpf_htons(ETH_P_ARP):
		return judge_arp(at, end);
	case bpf_htons(ETH_P_IP):
		return judge_ipv4(at, end);
	case bpf_htons(ETH_P_IPV6):
		return judge_ipv6(at, end);
	case bpf_htons(GATE_SEAL_ETHERTYPE):
		if ((void *)(seal + 1) <= end && seal->ethertype == bpf_htons(GATE_SEAL_ETHERTYPE) &&
		    seal->pass_word[0] == settings.pass_word[0] && seal->pass_word[1] == settings.pass_word[1])
			return GATE_HOST_RETURNED;
	}
	return GATE_REDIRECTED;
}

static __always_inline void count(enum gate_outcome outcome)
{
	__u64 *frames = bpf_map_lookup_elem(&counters, &outcome);

	if (frames)
		(*frames)++;
}

SEC("xdp")
int tidegate_gate(struct xdp_md *ctx)
{
	enum gate_outcome outcome = judge((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	long action = XDP_PASS;

	if (outcome == GATE_HOST_RETURNED) {
		if (bpf_xdp_adjust_head(ctx, sizeof(struct gate_seal)))
			action = XDP_DROP; /* shorter than its seal: nothing within */
	} else if (outcome == GATE_REDIRECTED) {
		/* Without a socket on the queue this is on_unread. */
		action = bpf_redirect_map(&xsks, ctx->rx_queue_index, settings.on_unread);
		if (action != XDP_REDIRECT)
			outcome = GATE_UNREAD;
	}
	count(outcome);
	return action;
}
