/* Two types of the target have the name and disagree: an error, not a guess. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#ifdef TARGET
struct thing { int a; int b; };
struct thing___2 { int pad; int a; };
struct thing *t; struct thing___2 *t2;
#else
struct thing { int a; } __attribute__((preserve_access_index));
char LICENSE[] SEC("license") = "GPL";
SEC("socket") int read_it(struct thing *t) { return t->a; }
#endif
