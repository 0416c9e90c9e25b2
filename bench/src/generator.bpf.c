// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The generator: each run makes the next packet of the table out of the frame it is given, and sends it. The kernel
 * runs it in a loop on frames of its own (BPF_F_TEST_XDP_LIVE_FRAMES), which come back with what was in them: every
 * byte is written each time.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define PACKET_MAX 1536 /* bytes */
#define LAG_NS 1000000	/* a generator that was held up makes good no more than this */

struct packet {
	__u32 length;	/* ETH_HLEN to PACKET_MAX */
	__u32 ifindex;	/* where it leaves */
	__u8 bytes[PACKET_MAX];
};

/* Size is set before load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} packets SEC(".maps");

/* One runs at a time: no atomics. */
struct state {
	__u64 interval_ns; /* between packets; 0: as fast as it goes */
	__u64 due_ns;
	__u64 sent;
	__u32 count; /* packets in the table */
	__u32 next;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

/* Whether the next packet is due. */
static __always_inline int pace(struct state *state)
{
	__u64 now;

	if (!state->interval_ns)
		return 1;
	now = bpf_ktime_get_ns();
	if (now < state->due_ns)
		return 0;
	if (now - state->due_ns > LAG_NS)
		state->due_ns = now - LAG_NS;
	state->due_ns += state->interval_ns;
	return 1;
}

SEC("xdp")
int tidegate_generate(struct xdp_md *ctx)
{
	struct packet *packet;
	struct state *state;
	__u32 key = 0, length;

	state = bpf_map_lookup_elem(&states, &key);
	if (!state || !pace(state))
		return XDP_DROP;
	key = state->next;
	packet = bpf_map_lookup_elem(&packets, &key);
	if (!packet)
		return XDP_ABORTED;
	state->next = key + 1 < state->count ? key + 1 : 0;

	length = packet->length;
	if (length < ETH_HLEN || length > PACKET_MAX)
		return XDP_ABORTED;
	if (bpf_xdp_adjust_tail(ctx, (int)length - (int)bpf_xdp_get_buff_len(ctx)) ||
	    bpf_xdp_store_bytes(ctx, 0, packet->bytes, length))
		return XDP_ABORTED;
	state->sent++;
	return bpf_redirect(packet->ifindex, 0);
}
