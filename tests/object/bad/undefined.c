/* A function that nobody defines. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int count_packets(void *ctx);
static __noinline int count_packet(void *ctx) { return *(volatile int *)ctx; }
SEC("xdp") int entry(void *ctx) { return count_packets(ctx) + count_packet(ctx); }
