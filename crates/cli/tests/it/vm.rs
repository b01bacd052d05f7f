//! The embedded engine from the command line: both sources of events, by an ordinary user too; `skep exec`.

use crate::support::{compile, json_lines, root, show, skep};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory that everybody may read, with a copy of the binary and of an example as an object.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new(examples: &[&str]) -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |path: &Path| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
        };
        open(dir.path());
        let place = Place { dir };
        std::fs::copy(env!("CARGO_BIN_EXE_skep"), place.path("skep")).expect("copy skep");
        open(&place.path("skep"));
        for example in examples {
            let object = compile(&root().join(format!("examples/{example}.bpf.c")), place.dir.path(), &[]);
            open(&object);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary as somebody without any right: as nobody where the test is root, else as whoever runs it.
    fn unprivileged(&self) -> Command {
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--inh-caps=-all"]);
            command.arg(self.path("skep"));
            command
        } else {
            Command::new(self.path("skep"))
        };
        command.current_dir(self.dir.path()).env("HOME", "/nonexistent").stdin(Stdio::null());
        command
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A capture of Ethernet frames: for each, its Ethernet type, its IP protocol and its length.
fn capture(path: &Path, frames: &[(u16, u8, usize)]) {
    let mut bytes = Vec::new();
    bytes.extend([0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
    for (number, (ether_type, protocol, len)) in frames.iter().enumerate() {
        let mut frame = vec![0u8; *len];
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        frame[14] = 0x45;
        frame[23] = *protocol;
        for word in [1_700_000_000, number as u32, *len as u32, *len as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(path, bytes).expect("write the capture");
}

#[test]
fn an_ordinary_user_sees_the_system_calls_of_a_command() {
    let place = Place::new(&["syscall_latency"]);
    let output = place
        .unprivileged()
        .args([
            "run",
            "--format",
            "json",
            "--engine",
            "vm",
            "syscall_latency.o",
            "--",
            "sh",
            "-c",
            "ls / >/dev/null; exit 7",
        ])
        .output()
        .expect("skep starts");
    assert_eq!(output.status.code(), Some(7), "{}", show(&output));
    let rows = json_lines(&output);
    let calls = |comm: &str, call: &str| -> u64 {
        let row = rows.iter().find(|row| row["key"]["comm"] == comm && row["key"]["call"] == format!("sys_{call}"));
        row.and_then(|row| row["value"]["count"].as_u64()).unwrap_or_default()
    };
    assert!(calls("ls", "getdents64") >= 2 && calls("ls", "execve") + calls("sh", "execve") >= 2, "{}", show(&output));
    assert!(calls("sh", "wait4") >= 1, "{}", show(&output));
}

#[test]
fn auto_says_why_it_does_not_take_the_kernel() {
    let place = Place::new(&["hello", "runqlat"]);
    let run = |object: &str, command: &[&str]| {
        place.unprivileged().args(["run", object]).args(command).output().expect("skep starts")
    };
    let output = run("hello.o", &["--", "sh", "-c", "true; true"]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{}", show(&output));
    assert_eq!(said.lines().filter(|line| line.contains("the kernel does not take it")).count(), 1, "{said}");
    assert!(text(&output.stdout).contains("hello, sh"), "{}", show(&output));

    // What neither can do: the kernel's reason, and the other's.
    let output = run("runqlat.o", &["--", "true"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("not permitted") && said.contains("embedded engine cannot run it either"), "{said}");

    // Without a command there is a hint.
    let output = run("hello.o", &["--duration", "1s"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("with a command behind --"), "{said}");
}

#[test]
fn an_ordinary_user_runs_a_program_over_a_capture() {
    let place = Place::new(&["xdp_proto"]);
    capture(&place.path("in.pcap"), &[(0x0800, 6, 100), (0x0800, 17, 200), (0x0800, 6, 60), (0x0806, 0, 42)]);
    let output = place
        .unprivileged()
        .args(["run", "--format", "json", "--packets", "in.pcap", "xdp_proto.o"])
        .output()
        .expect("skep starts");
    assert!(output.status.success(), "{}", show(&output));
    let rows = json_lines(&output);
    let verdict = rows.iter().find(|row| row["type"] == "verdict").expect("verdicts");
    assert_eq!((verdict["verdict"].as_str(), verdict["packets"].as_u64()), (Some("XDP_PASS"), Some(4)));
    let tcp =
        rows.iter().find(|row| row["key"]["protocol"] == "proto_tcp").unwrap_or_else(|| panic!("{}", show(&output)));
    assert_eq!(tcp["value"]["packets"].as_u64().or(tcp["total"]["packets"].as_u64()), Some(2), "{tcp}");
}

/// Drops UDP, writes 0xaa over the first byte of TCP packets and lets the others be.
const CHANGE: &str = r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("xdp") int change(struct xdp_md *ctx)
{
	unsigned char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	if (data + 34 > end)
		return XDP_PASS;
	if (data[23] == 17)
		return XDP_DROP;
	if (data[23] == 6)
		data[0] = 0xaa;
	return XDP_PASS;
}
"#;

#[test]
fn what_passes_is_written_as_the_program_left_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("change.bpf.c");
    std::fs::write(&source, CHANGE).expect("write C");
    let input = dir.path().join("in.pcap");
    capture(&input, &[(0x0800, 6, 100), (0x0800, 17, 200), (0x0800, 1, 60)]);
    for name in ["out.pcap", "out.pcapng"] {
        let out = dir.path().join(name);
        let output =
            skep().args(["run", "--packets"]).arg(&input).arg("--out").arg(&out).arg(&source).output().expect("skep");
        assert!(output.status.success(), "{}", show(&output));
        let listed = Command::new("tcpdump").args(["-r"]).arg(&out).args(["-xx", "-n"]).output().expect("tcpdump");
        let listed = text(&listed.stdout);
        let first_bytes: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("0x0000:"))
            .map(|line| &line.trim()[..4])
            .collect();
        assert_eq!(first_bytes, ["aa00", "0000"], "{listed}");
    }
}

#[test]
fn what_the_embedded_engine_cannot_do_is_refused_with_its_reason() {
    let place = Place::new(&["xdp_proto", "kprobe_unlink", "hello"]);
    std::fs::write(place.path("text.pcap"), "this is no capture").expect("write");
    // Raw IP packets, which no XDP program is given.
    let mut raw = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0];
    raw.extend([0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 20, 0, 0, 0]);
    raw.extend([0x45; 20]);
    std::fs::write(place.path("raw.pcap"), raw).expect("write");
    capture(&place.path("in.pcap"), &[(0x0800, 6, 100)]);
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--packets", "none.pcap", "xdp_proto.o"], 2, &["open none.pcap", "No such file"]),
        (&["--packets", "text.pcap", "xdp_proto.o"], 1, &["read text.pcap"]),
        (&["--packets", "raw.pcap", "xdp_proto.o"], 3, &["Ethernet", "raw IP"]),
        (&["--packets", "in.pcap", "--out", "in.pcap", "xdp_proto.o"], 2, &["in.pcap", "another name"]),
        (&["--packets", "in.pcap", "hello.o"], 3, &["hello", "packets only"]),
        (&["--engine", "kernel", "--packets", "in.pcap", "xdp_proto.o"], 2, &["--iface"]),
        (&["--engine", "vm", "xdp_proto.o"], 3, &["--packets FILE"]),
        (&["--engine", "vm", "hello.o"], 3, &["behind --"]),
        (&["--engine", "vm", "kprobe_unlink.o", "--", "true"], 3, &["embedded engine"]),
        (&["--engine", "vm", "hello.o", "--", "/no/such/command"], 127, &["/no/such/command"]),
        (&["--out", "x.pcap", "xdp_proto.o"], 2, &["--packets"]),
    ];
    for (arguments, code, words) in cases {
        let output = place.unprivileged().arg("run").args(*arguments).output().expect("skep starts");
        let said = text(&output.stderr);
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
        assert!(
            output.status.code() == Some(*code) && missing.is_empty() && !said.contains("panicked"),
            "{arguments:?}: not exit {code}, or without {missing:?}: {}",
            show(&output)
        );
    }
}

fn exec(arguments: &[&str], input: &str) -> Output {
    let mut child = skep()
        .arg("exec")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("skep starts");
    // It may end before it reads: over a wrong option.
    let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
    child.wait_with_output().expect("skep ends")
}

/// Bytecode of assembler text, as hex digits.
fn hex(text: &str) -> String {
    let insns = skep_isa::assemble(text).expect("it assembles");
    let bytes = skep_isa::encode(&insns).into_iter().flat_map(|slot| slot.to_bytes(skep_isa::Endian::Little));
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn exec_runs_bytecode_in_both_engines() {
    let cases: &[(&str, &[&str], Result<&str, &str>)] = &[
        ("r0 = 42\nexit", &[], Ok("0x2a\n")),
        ("r0 = -1\nexit", &[], Ok("0xffffffffffffffff\n")),
        ("r0 = r2\nexit", &["--mem", "00 11 22"], Ok("0x3\n")),
        ("r0 = *(u16 *)(r1 + 1)\nexit", &["--mem", "001122"], Ok("0x2211\n")),
        ("r0 = *(u8 *)(r1 + 3)\nexit", &["--mem", "001122"], Err("byte 3 of the memory, which has 3")),
        ("r0 = *(u8 *)(r1 + 0)\nexit", &[], Err("read of 1 byte at 0x0")),
        ("here: goto here", &["--budget", "1000"], Err("stopped after 1000 instructions")),
        ("r0 = 1\nr0 /= 0\nexit", &[], Ok("0x0\n")),
        ("call 999\nexit", &[], Err("no helper with number 999")),
        ("r10 = 1\nexit", &[], Err("frame pointer")),
        ("call self\nexit\nself: call self\nexit", &[], Err("no stack frame left")),
    ];
    for (program, arguments, expected) in cases {
        for engine in ["interp", "jit"] {
            let output = exec(&[&["--engine", engine], *arguments].concat(), &hex(program));
            match expected {
                Ok(result) => {
                    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), *result), "{program}");
                }
                Err(words) => {
                    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{program}");
                    assert!(text(&output.stderr).contains(words), "{engine}: {program}: {}", show(&output));
                }
            }
        }
    }
    let output = exec(&["--disasm"], &hex("r0 = 42\nexit"));
    assert!(text(&output.stdout).contains("r0 = 42") && output.status.success(), "{}", show(&output));
    for input in ["", "95", "zz", "950000000000000"] {
        assert_eq!(exec(&[], input).status.code(), Some(1), "{input:?}");
    }
    assert_eq!(exec(&["--mem", "0g"], &hex("exit")).status.code(), Some(2));
}
