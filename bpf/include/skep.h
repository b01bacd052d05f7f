/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What a C program says to skep beyond the usual conventions. Include after vmlinux.h and bpf/bpf_helpers.h.
 * Nothing here needs skep: libbpf and bpftool load the same object and pass over what they do not know.
 */
#pragma once

/*
 * SKEP_RECORD(map, type): the records that go into this ring buffer or perf buffer are of this type.
 *
 *	struct event { __u32 pid; char comm[16]; };
 *	struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } events SEC(".maps");
 *	SKEP_RECORD(events, struct event);
 *
 * The kernel takes no value size for such a map, and libbpf refuses an unknown member in a map definition. So the
 * type is tied to the map by a variable that nothing ever loads: in the ELF section "skep.records", named
 * "skep_record__" and the map's name, a pointer to the type. Its BTF also keeps the type in the object at all;
 * clang writes no BTF for a type that is only used inside functions.
 */
#define SKEP_RECORD(map, type) type *skep_record__##map SEC("skep.records") __attribute__((used))

/*
 * SKEP_HIDE(map): a map that only serves the program (what a thread has entered, say). skep run leaves it out of what it
 * prints; skep dump shows it all the same.
 */
#define SKEP_HIDE(map) char *skep_hide__##map SEC("skep.records") __attribute__((used))

/*
 * Histograms with slots that double in width: slot 0 counts the values 0 and 1, slot n the values from 2^n up to,
 * not including, 2^(n+1). skep prints as a histogram each member or
 * global whose name is "slots" or ends in "_slots" and that is an array of unsigned integers. The unit stands in
 * the name of the map or global: run_latency_us, packet_bytes_slots.
 */
#define SKEP_SLOTS 64 /* one for each bit: no value is out of range */

struct skep_histogram {
	__u64 slots[SKEP_SLOTS];
};

/* The slot that a value falls in. Without a loop, so that it costs the verifier nothing. */
static __always_inline __u32 skep_slot(__u64 value)
{
	__u32 slot = 0;

	if (value >> 32) { value >>= 32; slot += 32; }
	if (value >> 16) { value >>= 16; slot += 16; }
	if (value >> 8) { value >>= 8; slot += 8; }
	if (value >> 4) { value >>= 4; slot += 4; }
	if (value >> 2) { value >>= 2; slot += 2; }
	if (value >> 1) slot += 1;
	return slot;
}

/* Counts a value. The mask changes no slot number; it shows the verifier the bound. */
static __always_inline void skep_histogram_add(struct skep_histogram *histogram, __u64 value)
{
	__sync_fetch_and_add(&histogram->slots[skep_slot(value) & (SKEP_SLOTS - 1)], 1);
}

/* Raises a maximum that several CPUs share. Two that race may leave the smaller; the next larger value mends it. */
static __always_inline void skep_max(__u64 *max, __u64 value)
{
	if (value > *max)
		*max = value;
}
