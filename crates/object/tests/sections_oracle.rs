//! Every section name of `tests/object/sections.txt`, through the installed libbpf: where it knows a name, it must mean the
//! same.

mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use skep_abi::ProgramType;
use skep_object::sections;

/// Names on standard input, `NAME TYPE ATTACH` or `NAME -` out.
const ASK: &str = r#"
#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>

static int quiet(enum libbpf_print_level level, const char *format, va_list args) { return 0; }

int main(void)
{
	char name[256];

	libbpf_set_print(quiet);
	while (fgets(name, sizeof(name), stdin)) {
		enum bpf_prog_type type = 0;
		enum bpf_attach_type attach = 0;

		name[strcspn(name, "\n")] = 0;
		if (libbpf_prog_type_by_name(name, &type, &attach) == 0)
			printf("%s %d %d\n", name, type, attach);
		else
			printf("%s -\n", name);
	}
	return 0;
}
"#;

/// Conventions that came after libbpf 1.0; an older one may not know them, or know less.
const NEWER: [&str; 12] = [
    "tc/",
    "tcx/",
    "netkit/",
    "uprobe.multi",
    "uretprobe.multi",
    "uprobe.session",
    "kprobe.session",
    "usdt.s",
    "fsession",
    "struct_ops.s",
    "sk_skb/verdict",
    "netfilter",
];

fn newer(name: &str) -> bool {
    NEWER.iter().any(|newer| name.starts_with(newer)) || name.ends_with("_unix")
}

#[test]
fn section_names_mean_what_libbpf_means() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (source, ask) = (dir.path().join("ask.c"), dir.path().join("ask"));
    std::fs::write(&source, ASK).expect("write");
    let built = Command::new("cc").arg(&source).arg("-o").arg(&ask).arg("-lbpf").status().expect("run cc; install gcc");
    assert!(built.success(), "compile a program with libbpf; install libbpf-dev");

    let text = std::fs::read_to_string(common::fixture("sections.txt")).expect("sections.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let names: Vec<&str> = lines.map(|line| line.split("  ").next().unwrap_or(line).trim()).collect();
    let mut child = Command::new(&ask).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run");
    child.stdin.take().expect("stdin").write_all(names.join("\n").as_bytes()).expect("write");
    let out = child.wait_with_output().expect("output");
    let answers = String::from_utf8(out.stdout).expect("text");

    let mut known = 0;
    for (name, answer) in names.iter().zip(answers.lines()) {
        let found = sections::hook(name);
        let numbers: Vec<u32> = answer.split(' ').skip(1).filter_map(|n| n.parse().ok()).collect();
        // libbpf strips the question mark before it looks.
        let ours = (found.hook.prog_type.as_u32(), found.hook.attach_type.map_or(0, |a| a.as_u32()));
        match numbers.as_slice() {
            [prog_type, attach] => {
                known += 1;
                // Before 1.3, tc/ingress was plain tc; before that, some had no attach type.
                let loose = newer(name);
                assert_eq!(ours.0, *prog_type, "{name}: program type (left: skep)");
                assert!(ours.1 == *attach || loose, "{name}: attach type {} by skep, {attach} by libbpf", ours.1);
            }
            _ => {
                let excused = found.warning.is_some()
                    || found.hook.prog_type == ProgramType::Unspec
                    || name.starts_with('?')
                    || newer(name);
                assert!(excused, "{name}: libbpf does not know it, skep reads it as {}", found.hook);
            }
        }
    }
    assert!(known > 80, "libbpf knew only {known} of {} names", names.len());
}
