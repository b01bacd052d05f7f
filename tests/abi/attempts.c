// SPDX-License-Identifier: MIT OR Apache-2.0
// Asks the running kernel, question by question, what it takes. Used by crates/abi/tests/attempts.rs to hold the tables
// of skep-abi against the kernel; nothing that is made here outlives its line.
//
// Each line of standard input is one question, answered by one line:
//   P TYPE ATTACH BTF_ID FLAGS LICENCE HEX   load a program (HEX: its instructions); BTF_ID 0 for none
//   M TYPE KEY VALUE ENTRIES FLAGS INNER     make a map; INNER 1: with an array as the template of inner maps
//   K TYPE KEY VALUE ENTRIES FLAGS INNER     the same, and keep it as the map that programs find
// Programs find the map under descriptor 50: at first an array (key and value of 4 bytes, one entry).
// Answer: the errno (0: taken), a tab, and for P the verifier's log with '|' for each newline.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>

#define MAP_FD 50

static char log_text[1 << 16];
static unsigned char code[4096];

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static int make_map(unsigned type, unsigned key, unsigned value, unsigned entries, unsigned flags, int inner)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_type = type;
	attr.key_size = key;
	attr.value_size = value;
	attr.max_entries = entries;
	attr.map_flags = flags;
	attr.inner_map_fd = (unsigned)inner;
	return bpf(BPF_MAP_CREATE, &attr);
}

static void answer(int fd, const char *text)
{
	int error = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	printf("%d\t", error);
	for (; *text; text++)
		putchar(*text == '\n' ? '|' : *text);
	putchar('\n');
}

int main(void)
{
	static char line[16384], licence[32], hex[8200];
	int inner = make_map(BPF_MAP_TYPE_ARRAY, 4, 4, 1, 0, 0);

	if (inner < 0 || dup2(inner, MAP_FD) < 0) {
		perror("making an array");
		return 1;
	}

	while (fgets(line, sizeof(line), stdin)) {
		unsigned a, b, c, d, e, f;

		if (sscanf(line, "M %u %u %u %u %u %u", &a, &b, &c, &d, &e, &f) == 6) {
			answer(make_map(a, b, c, d, e, f ? inner : 0), "");
		} else if (sscanf(line, "K %u %u %u %u %u %u", &a, &b, &c, &d, &e, &f) == 6) {
			int map = make_map(a, b, c, d, e, f ? inner : 0);

			if (map >= 0)
				dup2(map, MAP_FD);
			answer(map, "");
		} else if (sscanf(line, "P %u %u %u %u %31s %8199s", &a, &b, &c, &d, licence, hex) == 6) {
			union bpf_attr attr;
			size_t bytes = strlen(hex) / 2;

			for (size_t i = 0; i < bytes; i++) {
				unsigned byte;

				if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
					return 2;
				code[i] = (unsigned char)byte;
			}
			memset(&attr, 0, sizeof(attr));
			log_text[0] = 0;
			attr.prog_type = a;
			attr.expected_attach_type = b;
			attr.attach_btf_id = c;
			attr.prog_flags = d;
			attr.license = (unsigned long)licence;
			attr.insns = (unsigned long)code;
			attr.insn_cnt = (unsigned)(bytes / 8);
			attr.log_buf = (unsigned long)log_text;
			attr.log_size = sizeof(log_text);
			attr.log_level = 2;
			answer(bpf(BPF_PROG_LOAD, &attr), log_text);
		} else {
			fprintf(stderr, "not a question: %s", line);
			return 2;
		}
		fflush(stdout);
	}
	return 0;
}
