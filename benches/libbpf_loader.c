// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The peer of `skep run` in `make bench`: opens an object with libbpf, loads it, attaches what attaches by itself, says
 * so, and waits to be told to end.
 *
 *	cc -O2 -o libbpf_loader libbpf_loader.c -lbpf && ./libbpf_loader prog.bpf.o
 */
#include <bpf/libbpf.h>
#include <stdio.h>
#include <unistd.h>

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

int main(int argc, char **argv)
{
	struct bpf_program *program;
	struct bpf_object *object;
	char byte;

	if (argc != 2)
		return 2;
	libbpf_set_print(quiet);
	object = bpf_object__open_file(argv[1], NULL);
	if (!object || bpf_object__load(object))
		return 1;
	bpf_object__for_each_program(program, object)
		if (!bpf_program__attach(program))
			return 1;
	puts("attached");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	bpf_object__close(object);
	return 0;
}
