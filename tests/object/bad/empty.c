/* Nothing in it. */
char LICENSE[] __attribute__((section("license"))) = "GPL";
