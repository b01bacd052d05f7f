/* A configuration value of a type that cannot hold one. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct pair { int a, b; };
extern struct pair CONFIG_HZ __kconfig;
SEC("xdp") int entry(void *ctx) { return CONFIG_HZ.a; }
