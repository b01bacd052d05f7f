/* Names that the kernel resolves. */
#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct task_struct;
struct rq { int nr_running; };

extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_KVM __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig __weak;
extern unsigned long CONFIG_HZ __kconfig;

extern const void jiffies __ksym;
extern const void not_there __ksym __weak;
extern const struct rq runqueues __ksym;
extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern void bpf_no_such_function___flavour(struct task_struct *p) __ksym __weak;

SEC("tp_btf/sched_switch")
int use(unsigned long long *ctx)
{
	struct task_struct *task = (void *)ctx[1], *held;

	if (LINUX_KERNEL_VERSION < 0x50000 || !CONFIG_BPF_SYSCALL || CONFIG_KVM == TRI_MODULE)
		return 0;
	if (CONFIG_DEFAULT_HOSTNAME[2] == 'x' || CONFIG_HZ == 100)
		bpf_printk("%lx %lx %lx", (long)&jiffies, (long)&not_there, (long)&runqueues);
	held = bpf_task_acquire(task);
	if (!held)
		return 0;
	if (bpf_no_such_function___flavour)
		bpf_no_such_function___flavour(held);
	bpf_task_release(held);
	return 0;
}
