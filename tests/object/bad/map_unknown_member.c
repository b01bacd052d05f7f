/* A misspelt member. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entrys, 1); __type(key, int); __type(value, int); } m SEC(".maps");
SEC("xdp") int entry(void *ctx) { return 0; }
