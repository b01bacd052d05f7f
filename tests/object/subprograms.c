/* What is linked behind an entry: static and global functions, callbacks, functions beside their entry. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

static __noinline int leaf(int x)
{
	return x * 3 + 1;
}

__noinline int global_middle(int x)
{
	return leaf(x) + leaf(x + 1);
}

__weak __noinline int weak_one(int x)
{
	return x ^ 5;
}

static int each(__u32 index, void *ctx)
{
	return leaf(index) > 10;
}

SEC("xdp") static __noinline int beside(int x)
{
	return x - 7;
}

SEC("xdp")
int first(struct xdp_md *ctx)
{
	return global_middle(ctx->data_end) + beside(ctx->data);
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	bpf_loop(4, each, 0, 0);
	return weak_one(ctx->data) + leaf(ctx->data_end);
}

SEC("?kprobe/do_unlinkat+0x10")
int on_demand(void *ctx)
{
	return 0;
}

SEC("2/1")
int tail_called(struct __sk_buff *skb)
{
	return 0;
}
