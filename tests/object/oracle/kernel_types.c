/* CO-RE records against the running kernel's types, for comparison with libbpf. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

/* Shapes that differ from the kernel's on purpose. */
struct task_struct___small {
	int pid;
	int tgid;
	char comm[16];
	struct task_struct___small *group_leader;
	struct mm_struct *mm;
	unsigned int in_execve : 1;
	int no_such_member;
} __attribute__((preserve_access_index));

struct sk_buff___small {
	__u8 pkt_type : 3;
	__u8 ip_summed : 2;
	unsigned int len;
	__u16 protocol;
} __attribute__((preserve_access_index));

struct sock_common___nested {
	struct { struct { unsigned short skc_dport; }; };
	__u32 skc_daddr;
} __attribute__((preserve_access_index));

struct no_such_struct { int a; } __attribute__((preserve_access_index));
enum bpf_map_type___part { BPF_MAP_TYPE_HASH___x = 100, BPF_MAP_TYPE_NO_SUCH = 7 };
union thread_union___x { unsigned long stack[4]; } __attribute__((preserve_access_index));

volatile long sink;

static __noinline int in_text(struct task_struct *task)
{
	return BPF_CORE_READ(task, real_parent, tgid) + BPF_CORE_READ(task, mm, exe_file, f_flags);
}

SEC("raw_tp/sched_switch")
int fields(unsigned long long *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct task_struct___small *small = (void *)task;

	sink += BPF_CORE_READ(task, pid) + BPF_CORE_READ(task, group_leader, start_time);
	sink += BPF_CORE_READ(small, pid) + BPF_CORE_READ(small, group_leader, tgid);
	sink += BPF_CORE_READ(task, comm[3]) + BPF_CORE_READ(task, se.vruntime) + BPF_CORE_READ(task, thread_info.flags);
	sink += BPF_CORE_READ(task, nsproxy, uts_ns, name.nodename[5]);
	sink += bpf_core_field_exists(small->no_such_member) + bpf_core_field_exists(small->mm);
	sink += bpf_core_field_size(small->comm) + bpf_core_field_size(task->cpus_mask);
	sink += __builtin_preserve_field_info(task->prio, BPF_FIELD_SIGNED);
	sink += __builtin_preserve_field_info(task->flags, BPF_FIELD_SIGNED);
	return in_text(task);
}

SEC("raw_tp/sched_switch")
int unreachable(unsigned long long *ctx)
{
	struct task_struct___small *small = (void *)bpf_get_current_task();
	struct no_such_struct *none = (void *)small;

	if (bpf_core_field_exists(small->no_such_member))
		sink += BPF_CORE_READ(small, no_such_member);
	if (bpf_core_type_exists(struct no_such_struct))
		sink += BPF_CORE_READ(none, a);
	return in_text((void *)small);
}

SEC("raw_tp/kfree_skb")
int bit_fields(unsigned long long *ctx)
{
	struct sk_buff *skb = (void *)ctx[0];
	struct sk_buff___small *small = (void *)skb;
	struct sock_common___nested *sock = (void *)BPF_CORE_READ(skb, sk);

	sink += BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type) + BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed);
	sink += BPF_CORE_READ_BITFIELD_PROBED(small, ip_summed);
	sink += BPF_CORE_READ(small, len) + BPF_CORE_READ(small, protocol);
	sink += BPF_CORE_READ(sock, skc_dport) + BPF_CORE_READ(sock, skc_daddr);
	sink += BPF_CORE_READ(skb, dev, ifindex) + BPF_CORE_READ(skb, dev, name[2]);
	return 0;
}

SEC("tp_btf/sched_switch")
int direct(unsigned long long *ctx)
{
	struct task_struct *task = (void *)ctx[1];

	sink += task->pid + task->se.on_rq + task->thread_info.flags + task->comm[1];
	return 0;
}

SEC("raw_tp/sched_switch")
int types(void *ctx)
{
	sink += bpf_core_type_exists(struct task_struct) + bpf_core_type_exists(struct no_such_struct);
	sink += bpf_core_type_exists(pid_t) + bpf_core_type_exists(union thread_union___x);
	sink += bpf_core_type_size(struct task_struct___small) + bpf_core_type_size(struct list_head);
	sink += bpf_core_type_id_kernel(struct sk_buff) + bpf_core_type_id_kernel(enum bpf_map_type);
	sink += bpf_core_type_id_local(struct sk_buff);
	sink += bpf_core_type_matches(struct list_head) + bpf_core_type_matches(struct task_struct___small);
	sink += bpf_core_enum_value(enum bpf_map_type, BPF_MAP_TYPE_RINGBUF);
	sink += bpf_core_enum_value(enum bpf_map_type___part, BPF_MAP_TYPE_HASH___x);
	sink += bpf_core_enum_value_exists(enum bpf_map_type___part, BPF_MAP_TYPE_NO_SUCH);
	sink += bpf_core_enum_value(enum bpf_prog_type, BPF_PROG_TYPE_SYSCALL);
	return 0;
}
