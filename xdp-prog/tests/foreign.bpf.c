// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Somebody else's XDP program. */
__attribute__((section("xdp"), used)) int somebody_elses(void *ctx)
{
	return 2; /* XDP_PASS */
}
char LICENSE[] __attribute__((section("license"), used)) = "Dual MIT/GPL";
