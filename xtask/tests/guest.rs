//! Guest kernels for real: each test boots one. They need QEMU and, the first time, Debian's archive.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use xtask::guest::{Guest, GuestError, KERNELS, RunOutput};

/// One guest at a time: two at once on two processors make time limits a matter of luck.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn run<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) -> RunOutput {
    let _turn = turn();
    Guest::new("6.1").unwrap().output(command).unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn every_kernel_boots_with_what_programs_expect() {
    let script = "uname -r
        mount -t securityfs s /sys/kernel/security && cat /sys/kernel/security/lsm; echo
        modprobe -a veth dummy sch_ingress cls_bpf act_bpf bridge vxlan || echo missing modules
        ip link add left type veth && ip link show left | grep -c left@
        ip link show lo | grep -c LOOPBACK,UP
        stat -f -c %t /sys/fs/cgroup /tmp /run /sys/kernel/tracing /sys/fs/bpf
        test -s /sys/kernel/btf/vmlinux && echo btf
        dmesg | grep -c 'crng init done'
        nproc";
    for kernel in KERNELS {
        let output = {
            let _turn = turn();
            Guest::new(kernel.series).unwrap().output(["sh", "-c", script]).unwrap()
        };
        let stdout = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = stdout.lines().collect();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", kernel.series);
        assert!(lines[0].starts_with(&format!("{}.", kernel.series)), "{stdout}");
        assert!(lines[1].contains("capability") && lines[1].contains("bpf"), "{stdout}");
        // Magic numbers of cgroup2 and tmpfs; tracefs and bpffs are left for skep to mount, so sysfs shows.
        let (cgroup2, tmpfs, sysfs) = ("63677270", "1021994", "62656572");
        assert_eq!(lines[2..], ["1", "1", cgroup2, tmpfs, tmpfs, sysfs, sysfs, "btf", "1", "2"], "{stdout}");
        assert_eq!(output.status, 0);
        println!("{}: {:?} to the command on {}", kernel.series, output.boot, output.accel.name());
    }
}

#[test]
fn output_and_errors_come_through_byte_for_byte() {
    let dir = scratch("bytes");
    // All byte values, no final newline, more than any buffer on the way; a plain generator, so that a
    // difference can be found again.
    let mut state = 1_u32;
    let mut bytes = |count: usize| -> Vec<u8> {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(next).collect()
    };
    let (out, err) = (bytes(3_000_001), bytes(70_001));
    fs::write(dir.join("out"), &out).unwrap();
    fs::write(dir.join("err"), &err).unwrap();
    let output = {
        let _turn = turn();
        let guest = Guest::new("6.1").unwrap().dir(&dir, Some(Path::new("/data"))).unwrap();
        guest.output(["sh", "-c", "cat /data/err >&2; cat /data/out; exit 42"]).unwrap()
    };
    assert!(output.stdout == out, "{} of {} bytes", output.stdout.len(), out.len());
    assert!(output.stderr == err, "{} of {} bytes", output.stderr.len(), err.len());
    assert_eq!(output.status, 42);
}

#[test]
fn words_of_the_command_arrive_as_they_are() {
    let mut words: Vec<OsString> =
        ["", "a b", "it's", "'", "\"q\"", "$HOME `id` $(id)", "*", "\\", "new\nline", "-n", "grün", "a=b;c|d&"]
            .map(OsString::from)
            .to_vec();
    words.push(OsString::from_vec(vec![b'x', 0xff, 0xfe]));
    let mut expected = Vec::new();
    for word in &words {
        expected.extend_from_slice(word.clone().into_vec().as_slice());
        expected.push(0);
    }
    let start = ["sh", "-c", r#"for word; do printf '%s\0' "$word"; done"#, "name"].map(OsString::from);
    let output = run(start.into_iter().chain(words));
    assert_eq!(output.stdout, expected, "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn exit_codes_are_the_commands_own() {
    assert_eq!(run(["sh", "-c", "kill -9 $$"]).status, 137);
    let missing = run(["no-such-command"]);
    assert_eq!(missing.status, 127);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no-such-command"));
}

#[test]
fn what_a_command_leaves_running_does_not_hold_it() {
    let output = run(["sh", "-c", "sleep 1000 & echo done"]);
    assert_eq!(output.stdout, b"done\n");
    assert!(output.total < output.boot + Duration::from_secs(20), "{output:?}");
}

#[test]
fn a_program_of_the_host_runs_with_its_libraries_and_environment() {
    let _turn = turn();
    let guest = Guest::new("6.1").unwrap().file("/usr/bin/env", Some(Path::new("/opt/host-env"))).unwrap();
    let output = guest.env("GREETING", "it's me").output(["/opt/host-env"]).unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.lines().any(|line| line == "GREETING=it's me"), "{stdout}");
    assert!(stdout.lines().any(|line| line == "HOME=/root"), "{stdout}");
}

#[test]
fn a_panic_is_reported_with_the_kernels_words() {
    let _turn = turn();
    let guest = Guest::new("6.1").unwrap();
    let error = guest.output(["sh", "-c", "echo c > /proc/sysrq-trigger"]).unwrap_err();
    let text = error.to_string();
    let GuestError::Panic { status: None, kernel_log } = error else { panic!("{error:?}") };
    assert!(kernel_log.contains("Kernel panic - not syncing"), "{kernel_log}");
    assert!(text.contains("the guest's kernel panicked") && text.contains("sysrq"), "{text}");
}

#[test]
fn a_time_limit_is_kept_and_reported() {
    let _turn = turn();
    let guest = Guest::new("6.1").unwrap().timeout(Duration::from_secs(8));
    let start = std::time::Instant::now();
    let error = guest.output(["sleep", "1000"]).unwrap_err();
    assert!(matches!(error, GuestError::Timeout { .. }), "{error:?}");
    assert!(error.to_string().contains("given up after 8s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(100));
}

#[test]
fn a_guest_that_powers_itself_off_is_reported() {
    let _turn = turn();
    let error = Guest::new("6.1").unwrap().output(["poweroff", "-f"]).unwrap_err();
    assert!(matches!(error, GuestError::Gone { .. }), "{error:?}");
}

#[test]
fn the_command_line_passes_output_and_exit_codes_on() {
    let _turn = turn();
    let xtask = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_xtask")).arg("guest").args(args).output().unwrap();

    let output = xtask(&["--kernel", "6.1", "--", "sh", "-c", "uname -r; echo oh >&2; exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(output.stdout.starts_with(b"6.1."), "{output:?}");
    assert_eq!(output.stderr, b"oh\n", "{output:?}");

    let output = xtask(&["--kernel", "6.1", "--", "sh", "-c", "echo c > /proc/sysrq-trigger"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");

    let output = xtask(&["--kernel", "5.4", "--", "true"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("6.1, 6.12, 7.2"), "{output:?}");

    let output = xtask(&["--kernel", "6.1", "--file", "/no/such/file", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/file"), "{output:?}");
}
