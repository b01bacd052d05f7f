// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Writes as many numbered records as it is told, as fast as it can, each time that a program is started. What the buffer
 * has no room for is counted. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 target_pid = 0;
const volatile __u32 records_per_exec = 1000000;

struct skbi_number {
	__u64 number;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__type(value, struct skbi_number);
} skbi_flood_records SEC(".maps");

__u64 written_count, full_count;

static long write_one(__u64 index, void *unused)
{
	struct skbi_number *record = bpf_ringbuf_reserve(&skbi_flood_records, sizeof(*record), 0);

	if (!record) {
		full_count++;
		return 0;
	}
	record->number = written_count++;
	bpf_ringbuf_submit(record, 0);
	return 0;
}

SEC("tp/sched/sched_process_exec")
int skbi_flood(void *ctx)
{
	/* Only the command itself: the counters are not atomic. */
	if (bpf_get_current_pid_tgid() >> 32 == target_pid)
		bpf_loop(records_per_exec, write_one, 0, 0);
	return 0;
}
