/* Data sections: constants, initialised, zeroed, custom, static, strings. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";
__u32 VERSION SEC("version") = 0x060100;

const volatile int limit = 5;
const volatile char mode = 'a';
const volatile enum level { LOW, HIGH = 7 } level = HIGH;
int count = 3;
long total;
static volatile int hidden_total;
static const volatile short hidden_limit = 9;
int special SEC(".data.special") = 11;
const volatile int table[4] SEC(".rodata.table") = { 1, 2, 3, 4 };
int scratch SEC(".bss.scratch");
__hidden int not_shown = 1;

SEC("socket")
int use(struct __sk_buff *skb)
{
	int index = skb->len & 3;

	if (skb->len > limit + level)
		count += table[index] + mode;
	total += count;
	hidden_total += hidden_limit;
	scratch += special + not_shown;
	bpf_printk("a literal %d", hidden_total);
	return 0;
}
