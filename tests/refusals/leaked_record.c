// A ring buffer record that is not given back on one path.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int report(struct xdp_md *ctx)
{
	__u64 *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

	if (!record)
		return XDP_PASS;
	*record = bpf_ktime_get_ns();
	if (ctx->rx_queue_index == 3)
		return XDP_DROP;
	bpf_ringbuf_submit(record, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: report
reason:  BPF_EXIT instruction in main prog would lead to reference leak: Unreleased reference id=2 alloc_insn=5
line:    23: }
after:   16: if (!record)
after:   19: if (ctx->rx_queue_index == 3)
title:   something that was acquired is not released on some path
fix:     call the releasing function before every return: bpf_sk_release, bpf_ringbuf_submit or bpf_ringbuf_discard, bpf_task_release, ...
*/
