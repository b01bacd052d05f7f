//! CO-RE against the types of a kernel module, which this host has none of: in a guest, with and without the module, and
//! compared with what bpftool says of it.

use std::path::Path;
use std::process::Command;

use xtask::guest::Guest;

const SCRIPT: &str = r#"
skep run --format json /types.bpf.o -- true || exit 1
echo loaded
modprobe veth || exit 2
skep run --format json /types.bpf.o -- true || exit 3
bpftool -j btf dump -B /sys/kernel/btf/vmlinux file /sys/kernel/btf/veth format raw >/tmp/btf
sed 's/{"id":/\n&/g' /tmp/btf | grep '"name":"veth_priv"'
"#;

/// The number behind `name` and `between`.
fn number(text: &str, name: &str, between: &str) -> u32 {
    let rest = text.split_once(&format!("\"{name}\"{between}")).unwrap_or_else(|| panic!("no {name}: {text}")).1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number for {name}: {text}"))
}

#[test]
fn types_of_a_module_are_found_when_the_kernel_has_none() {
    let skep = std::env::current_exe().expect("test binary");
    let skep = skep.parent().and_then(Path::parent).expect("target/debug").join("skep");
    let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "skep-cli"]).status().expect("cargo");
    assert!(status.success() && skep.exists(), "skep was not built at {}", skep.display());
    let source = xtask::workspace_dir().join("tests/guest/module_types.bpf.c");
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join("module_types.bpf.o");
    let compiled = skep_cc::Compiler::from_env().compile(&source).unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(&object, compiled.object).expect("object");
    let output = Guest::new("6.12")
        .and_then(|guest| guest.file(&skep, Some(Path::new("/bin/skep"))))
        .and_then(|guest| guest.file("/usr/sbin/bpftool", None))
        .and_then(|guest| guest.file(&object, Some(Path::new("/types.bpf.o"))))
        .and_then(|guest| guest.output(["sh", "-c", SCRIPT]))
        .unwrap_or_else(|error| panic!("{error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status, 0, "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (before, after) = text.split_once("loaded\n").expect("both runs");
    assert!(!before.contains("\"known\":1"), "{before}");
    let (found, told) = after.split_once('\n').expect("a table and bpftool's line");
    assert_eq!(number(found, "known", ":"), 1);
    assert_eq!(number(found, "size", ":"), number(told, "size", ":"));
    for (ours, member) in [("prog", "_xdp_prog"), ("headroom", "requested_headroom")] {
        let told = told.split_once(&format!("\"name\":\"{member}\"")).expect("the member").1;
        assert_eq!(number(found, ours, ":") * 8, number(told, "bits_offset", ":"), "{member}");
    }
}
