/* args: -g0 */
/* Maps without type information. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, int); } m SEC(".maps");
SEC("xdp") int entry(void *ctx) { return 0; }
