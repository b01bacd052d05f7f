/* A slot behind the end. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
int tail(void *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __array(values, int(void *)); } m SEC(".maps") = { .values = { [5] = &tail } };
SEC("xdp") int tail(void *ctx) { return 0; }
