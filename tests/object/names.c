/* Section names from before libbpf 1.0, and names that are wrong. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("xdp_filter") int a(void *ctx) { return 1; }
SEC("classifier/ingress") int b(void *ctx) { return 1; }
SEC("trcepoint/sched/sched_switch") int c(void *ctx) { return 1; }
SEC("tracepoint/sched_switch") int d(void *ctx) { return 1; }
SEC("from-container") int e(void *ctx) { return 1; }
