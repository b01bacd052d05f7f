/* No type. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(max_entries, 1); __type(key, int); __type(value, int); } m SEC(".maps");
