/*
 * Every kind of CO-RE record. Compiled twice: with TARGET defined it gives the types of the "kernel" that the program is
 * fitted to.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#ifdef TARGET
struct pair { long pad; int a; int b; };
struct outer {
	char moved[24];
	struct { union { int x; struct { int y; int wanted; }; }; };
	struct pair pairs[8];
	unsigned long wide;          /* was 32 bits: a load grows */
	unsigned int flags : 3, level : 9;
	long signed_now;
	int tail[];
};
enum color { RED = 5, GREEN, BLUE };
enum big { BIG = 0x1234567890ull };
typedef int number_t;
struct only_kernel { int x; };
struct outer *o; enum color c; enum big b; number_t n; struct only_kernel *k;
#else
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pair { int a; int b; };
struct outer {
	int wanted;
	unsigned int wide;
	unsigned int level : 9;
	int signed_now;
	struct pair pairs[4];
	int gone;
	int tail[1];
};
struct outer___flavoured { int wanted; };
struct missing { int x; };
#pragma clang attribute pop
enum color { RED, GREEN, PURPLE };
enum big { BIG = 1ull << 40 };
typedef int number_t;
typedef int no_such_t;
struct pair___match { int b; int a; } __attribute__((preserve_access_index));
struct pair___differs { int a; long b; } __attribute__((preserve_access_index));

char LICENSE[] SEC("license") = "GPL";

SEC("socket")
long fields(struct outer *o)
{
	long sum = o->wanted;

	sum += o->wide;
	sum += o->pairs[3].b;
	sum += ((struct outer___flavoured *)o)->wanted;
	sum += __builtin_preserve_field_info(o->pairs[1].a, BPF_FIELD_BYTE_SIZE);
	sum += bpf_core_field_exists(o->gone) ? 1 : 2;
	sum += bpf_core_field_exists(o->wanted) ? 4 : 8;
	sum += __builtin_preserve_field_info(o->signed_now, BPF_FIELD_SIGNED);
	return sum;
}

SEC("socket")
long bits(struct outer *o)
{
	return BPF_CORE_READ_BITFIELD(o, level);
}

SEC("socket")
long unsatisfied(struct outer *o)
{
	if (bpf_core_field_exists(o->gone))
		return o->gone;
	return ((struct missing *)o)->x;
}

SEC("socket")
long resized_wrongly(struct outer *o)
{
	return o->signed_now;
}

SEC("socket")
long types(void *ctx)
{
	return bpf_core_type_exists(struct outer) + 2 * bpf_core_type_exists(struct missing) +
	       4 * bpf_core_type_exists(number_t) + 8 * bpf_core_type_exists(no_such_t) +
	       16 * bpf_core_type_matches(struct pair___match) + 32 * bpf_core_type_matches(struct pair___differs) +
	       64 * bpf_core_type_size(struct outer) + bpf_core_type_id_local(struct outer) +
	       bpf_core_type_id_kernel(struct pair);
}

SEC("socket")
long enums(void *ctx)
{
	long sum = bpf_core_enum_value(enum color, GREEN) + bpf_core_enum_value(enum big, BIG);

	if (bpf_core_enum_value_exists(enum color, PURPLE))
		sum += bpf_core_enum_value(enum color, PURPLE);
	return sum + bpf_core_enum_value_exists(enum color, RED);
}
#endif
