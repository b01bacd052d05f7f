// Fields of a type that only a module has (veth), for xtask's test of CO-RE against modules. `known` is 0 where the module
// is not loaded.
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";

struct bpf_prog;
struct veth_priv {
    struct bpf_prog *_xdp_prog;
    unsigned int requested_headroom;
} __attribute__((preserve_access_index));

struct row {
    __u32 known, size, prog, headroom;
};
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct row);
} shape SEC(".maps");

SEC("raw_tp/sys_enter") int look(void *ctx)
{
    __u32 zero = 0;
    struct row *row = bpf_map_lookup_elem(&shape, &zero);
    if (!row)
        return 0;
    row->known = bpf_core_type_exists(struct veth_priv);
    row->size = bpf_core_type_size(struct veth_priv);
    if (bpf_core_field_exists(struct veth_priv, _xdp_prog))
        row->prog = bpf_core_field_offset(struct veth_priv, _xdp_prog);
    if (bpf_core_field_exists(struct veth_priv, requested_headroom))
        row->headroom = bpf_core_field_offset(struct veth_priv, requested_headroom);
    return 0;
}
