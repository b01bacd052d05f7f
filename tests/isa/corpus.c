// Compiled by crates/isa/tests/llvm.rs for every processor version, to have real code of every kind of instruction.
// It only has to compile, not to pass a verifier.
// Signed division came with v4.
#if V4
#define SIGNED
#else
#define SIGNED * 1ul
#endif
#define SEC(name) __attribute__((section(name), used))
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

static u64 (*const ktime_get_ns)(void) = (void *)5;
static long (*const trace_printk)(const char *fmt, u32 size, ...) = (void *)6;
static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
extern int kernel_function(u64 x) __attribute__((weak)) SEC(".ksyms");

u64 load_byte(void *skb, u64 off) asm("llvm.bpf.load.byte");
u64 load_half(void *skb, u64 off) asm("llvm.bpf.load.half");

struct packet { u8 kind; signed char delta; u16 length; short offset; u32 flow; int sum; u64 stamp; long balance; };
struct map { u32 type, key, value, max; } counts SEC("maps") = { 1, 4, 8, 16 };
u64 total;
const volatile u32 limit = 10;

__attribute__((noinline)) static long mix(long a, long b, u32 c)
{
	for (u32 i = 0; i < (c & 31); i++) {
		a = a * 31 + (b >> 3) - (a << 5);
		b ^= a SIGNED % (c | 1);
		if ((int)a > (int)b || (u64)a < c)
			b |= ~a;
	}
	return a SIGNED / (c | 1) + -b;
}

SEC("text")
long work(struct packet *p)
{
	u32 key = p->kind;
	u64 *slot = map_lookup(&counts, &key), start = ktime_get_ns();
	char fmt[] = "%d\n";

	if (slot) {
#if USE_FETCH
		start += __sync_fetch_and_add(slot, p->stamp);
		start |= __sync_lock_test_and_set(slot, 7);
		start ^= __sync_val_compare_and_swap(slot, 1, 2);
		start += __sync_fetch_and_or((u32 *)slot, p->flow);
		start += __sync_val_compare_and_swap((u32 *)slot, 3, 4);
#else
		__sync_fetch_and_add(slot, p->stamp);
#endif
		__sync_fetch_and_add((u32 *)slot + 1, 1);
	}
	p->sum = p->delta + p->offset * p->sum;
	p->length = __builtin_bswap16(p->length);
	p->flow = __builtin_bswap32(p->flow);
	p->stamp = __builtin_bswap64(p->stamp) / 3;
	p->balance = mix(p->balance, p->delta, p->flow);
	p->kind = 3;
	*(volatile long *)&p->balance = -*(volatile long *)&p->stamp;
	total += p->stamp;
	switch (p->length) {
	case 1: p->sum -= 5; break;
	case 2: p->sum *= p->flow; break;
	case 3: p->sum = p->sum SIGNED % 7; break;
	case 900: p->sum >>= p->kind; break;
	}
	trace_printk(fmt, sizeof(fmt), limit);
	return p->sum + kernel_function(start) + (signed char)p->stamp;
}

SEC("text")
long filter(void *skb)
{
	return load_half(skb, 12) == 0x800 ? load_byte(skb, 23 + limit) : 0;
}
