// A helper that this program type may not call.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

SEC("socket")
int drop(struct __sk_buff *skb)
{
	bpf_redirect(1, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";

/* expected
program: drop
reason:  program of this type cannot use helper bpf_redirect#23
line:    9: bpf_redirect(1, 0);
title:   a helper is called that this program type may not call
fix:     use another hook or another helper
*/
