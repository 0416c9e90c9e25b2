// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The way back to the host: what the gateway writes into its TAP, the kernel receives on the port.
 *
 * A native gate runs in the driver and does not meet these frames. A generic one does: it lets them pass by a seal, a
 * header with a word that only this run knows.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "gate.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC(".rodata.host") const volatile struct host_settings settings;

/* The kernel decides from the outer addresses whether the frame is for this host, so they are those of the frame. */
static __always_inline int seal(struct __sk_buff *skb)
{
	struct gate_seal header = {
		.ethertype = bpf_htons(GATE_SEAL_ETHERTYPE),
		.pass_word = { settings.pass_word[0], settings.pass_word[1] },
	};

	return bpf_skb_load_bytes(skb, 0, &header, 12) || bpf_skb_change_head(skb, sizeof(header), 0) ||
	       bpf_skb_store_bytes(skb, 0, &header, sizeof(header), 0);
}

SEC("tc")
int tidegate_host(struct __sk_buff *skb)
{
	if (settings.sealed && seal(skb))
		return TC_ACT_SHOT;
	return bpf_redirect(settings.port_ifindex, BPF_F_INGRESS);
}
