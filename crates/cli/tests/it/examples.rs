//! Every example that this kernel has hooks for, run as a user would run it. Those with kprobe, fentry and LSM programs run
//! in guest kernels (`xtask/tests/examples_in_guests.rs`), and here have to fail in order where the kernel lacks the hook.

use crate::support::{Cgroup, Wire, is_root, json_lines, show, skep};
use serde_json::Value;
use std::process::{Command, Output};
use std::time::Duration;

/// `skep run` on an example with JSON output.
fn run(example: &str, options: &[&str], command: &[&str]) -> Output {
    let mut skep = skep();
    skep.args(["run", "--quiet", "--format", "json"]).args(options).arg(format!("examples/{example}.bpf.c"));
    if !command.is_empty() {
        skep.arg("--").args(command);
    }
    let output = skep.output().expect("skep starts");
    assert!(output.status.success(), "{example}: {}", show(&output));
    output
}

fn find(lines: &[Value], wanted: impl Fn(&Value) -> bool) -> Option<&Value> {
    lines.iter().find(|line| wanted(line))
}

/// The last printed value of a global.
fn global(lines: &[Value], name: &str) -> Option<u64> {
    lines.iter().rev().find(|line| line["type"] == "global" && line["name"] == name)?["value"].as_u64()
}

fn entries<'a>(lines: &'a [Value], map: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["type"] == "map" && line["map"] == map && line["final"] == true).collect()
}

#[test]
fn hello_prints_a_line_for_the_command() {
    if !is_root() {
        return;
    }
    let _turn = crate::support::reads_prints();
    let output = run("hello", &[], &["true"]);
    let lines = json_lines(&output);
    let line = find(&lines, |line| {
        line["type"] == "printk" && line["text"].as_str().is_some_and(|t| t.contains("hello, true"))
    });
    assert!(line.is_some(), "{}", show(&output));
}

#[test]
fn syscall_latency_counts_the_calls_of_the_command() {
    if !is_root() {
        return;
    }
    let output = run("syscall_latency", &[], &["ls", "-lR", "/usr/include/linux"]);
    let lines = json_lines(&output);
    let calls = entries(&lines, "latency_by_call");
    let reads = calls.iter().find(|entry| entry["key"]["call"] == "sys_getdents64").expect("ls reads directories");
    assert_eq!(reads["key"]["comm"], "ls");
    let value = &reads["value"];
    let (count, total, max) = (value["count"].as_u64(), value["total_ns"].as_u64(), value["max_ns"].as_u64());
    assert!(count >= Some(2) && total >= max && max > Some(0), "{reads}");
    // Only the command itself: `skep` is its name until it has become `ls`.
    assert!(calls.iter().all(|entry| entry["key"]["comm"] == "ls" || entry["key"]["comm"] == "skep"), "{calls:?}");
    let counted: u64 = calls.iter().filter_map(|entry| entry["value"]["count"].as_u64()).sum();
    let slots = &entries(&lines, "latency_ns")[0]["value"]["slots"];
    let in_slots: u64 = slots.as_array().expect("slots").iter().filter_map(Value::as_u64).sum();
    assert_eq!(counted, in_slots, "table and histogram agree");
}

#[test]
fn syscall_latency_draws_a_histogram() {
    if !is_root() {
        return;
    }
    let output = skep()
        .args(["run", "--quiet", "examples/syscall_latency.bpf.c", "--", "ls", "-lR", "/usr/include/linux"])
        .output()
        .expect("skep starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("latency_by_call") && text.contains("|@"), "{}", show(&output));
    assert!(text.contains("COMM") && text.contains("getdents64"), "{text}");
}

#[test]
fn execsnoop_sees_what_the_command_starts() {
    if !is_root() {
        return;
    }
    let output = run("execsnoop", &[], &["sh", "-c", "/bin/echo skep-was-here >/dev/null; true"]);
    let lines = json_lines(&output);
    let echo = find(&lines, |line| line["record"]["comm"] == "echo");
    let args = echo.and_then(|line| line["record"]["args"].as_str()).expect("echo was started");
    assert_eq!(args, "/bin/echo skep-was-here");
}

#[test]
fn opensnoop_sees_the_files_of_the_command() {
    if !is_root() {
        return;
    }
    let output = run("opensnoop", &[], &["cat", "/etc/hostname"]);
    let lines = json_lines(&output);
    let open = find(&lines, |line| line["record"]["file"] == "/etc/hostname").expect("cat opened it");
    assert_eq!(open["record"]["comm"], "cat");
    assert!(open["record"]["result"].as_i64() >= Some(3), "{open}");
    let output = run("opensnoop", &["--param", "failed_only=true"], &["cat", "/etc/hostname"]);
    assert!(find(&json_lines(&output), |line| line["record"]["file"] == "/etc/hostname").is_none());
}

#[test]
fn tcpconnect_sees_a_handshake() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("tcp");
    let port = 40_001;
    let mut server =
        Wire::shell(&wire.right, &format!("exec nc -l -s 10.77.0.2 -p {port} >/dev/null")).spawn().expect("nc");
    std::thread::sleep(Duration::from_millis(300));
    let skep = env!("CARGO_BIN_EXE_skep");
    let client =
        format!("{skep} run -q --format json examples/tcpconnect.bpf.c -- nc -N -w 2 10.77.0.2 {port} </dev/null");
    let output = Wire::shell(&wire.left, &client).output().expect("skep starts");
    let _ = server.kill();
    let _ = server.wait();
    let lines = json_lines(&output);
    let record = find(&lines, |line| line["record"]["destination_port"] == port);
    let record = &record.unwrap_or_else(|| panic!("{}", show(&output)))["record"];
    assert_eq!(record["outcome"], "handshake_done");
    assert_eq!((&record["source"], &record["destination"]), (&"10.77.0.1".into(), &"10.77.0.2".into()));
    assert_eq!(record["comm"], "nc");
}

#[test]
fn runqlat_counts_waits() {
    if !is_root() {
        return;
    }
    let output = run("runqlat", &[], &["sh", "-c", "for i in 1 2 3 4 5; do sleep 0.02; done"]);
    let lines = json_lines(&output);
    let waits = entries(&lines, "wait_by_process");
    let sleep = waits.iter().find(|entry| entry["key"]["comm"] == "sleep" || entry["key"] == "sleep");
    assert!(sleep.is_some(), "sleep was woken: {}", show(&output));
    let slots = &entries(&lines, "wait_us")[0]["value"]["slots"];
    assert!(slots.as_array().expect("slots").iter().filter_map(Value::as_u64).sum::<u64>() >= 5);
}

#[test]
fn xdp_proto_counts_by_protocol() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("xdp");
    let skep = env!("CARGO_BIN_EXE_skep");
    let run = format!(
        "{skep} run --format json --iface veth0 examples/xdp_proto.bpf.c -- \
         ip netns exec {} sh -c 'echo ping | nc -u -w 1 10.77.0.1 4000'",
        wire.right
    );
    let output = Wire::shell(&wire.left, &run).output().expect("skep starts");
    let lines = json_lines(&output);
    let udp = entries(&lines, "by_protocol").into_iter().find(|entry| entry["key"]["protocol"] == "proto_udp");
    let udp = udp.unwrap_or_else(|| panic!("{}", show(&output)));
    assert_eq!(udp["key"]["family"], "family_ipv4");
    assert!(udp["value"]["packets"].as_u64() >= Some(1) && udp["value"]["bytes"].as_u64() >= Some(47), "{udp}");
    assert!(udp["per_cpu"].as_array().is_some_and(|cpus| !cpus.is_empty()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("veth0") && said.contains("native"), "{said}");
}

#[test]
fn tc_bytes_counts_both_ways_by_tcx_and_by_the_classic_hook() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("tc");
    let skep = env!("CARGO_BIN_EXE_skep");
    for option in ["", "--classic-tc"] {
        let run = format!(
            "{skep} run --format json {option} --iface veth0 examples/tc_bytes.bpf.c -- \
             sh -c 'echo ping | nc -u -w 1 10.77.0.2 4000'"
        );
        let output = Wire::shell(&wire.left, &run).output().expect("skep starts");
        let lines = json_lines(&output);
        let sent = entries(&lines, "traffic_by_vlan").into_iter().find(|e| e["key"]["direction"] == "packet_sent");
        let sent = sent.unwrap_or_else(|| panic!("{option} {}", show(&output)));
        assert!(sent["value"]["bytes"].as_u64() >= Some(47), "{sent}");
        let left = Wire::shell(&wire.left, "tc filter show dev veth0 egress; tc filter show dev veth0 ingress");
        let left = { left }.output().expect("tc");
        assert!(!String::from_utf8_lossy(&left.stdout).contains("bpf"), "a filter stayed: {}", show(&left));
    }
}

#[test]
fn socket_filter_measures_packets() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("sock");
    let skep = env!("CARGO_BIN_EXE_skep");
    let run = format!(
        "{skep} run --format json --iface veth0 examples/socket_filter.bpf.c -- \
         sh -c 'echo ping | nc -u -w 1 10.77.0.2 4000'"
    );
    let output = Wire::shell(&wire.left, &run).output().expect("skep starts");
    assert!(global(&json_lines(&output), "ipv4_packets") >= Some(1), "{}", show(&output));
}

#[test]
fn sk_lookup_is_asked_for_each_connection() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("lookup");
    let skep = env!("CARGO_BIN_EXE_skep");
    let run = format!(
        "{skep} run --format json --param first_port=7000 --param last_port=7999 examples/sk_lookup.bpf.c -- \
         sh -c 'nc -w 1 127.0.0.1 7123 </dev/null; true'"
    );
    let output = Wire::shell(&wire.left, &run).output().expect("skep starts");
    assert!(global(&json_lines(&output), "without_target") >= Some(1), "{}", show(&output));
}

#[test]
fn connect_guard_denies_one_port_in_one_cgroup() {
    if !is_root() {
        return;
    }
    let cgroup = Cgroup::new("guard");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = |l: &std::net::TcpListener| l.local_addr().expect("address").port();
    let (denied, allowed) = (port(&listener), port(&other));
    let dir = cgroup.0.display();
    // The shell goes into the cgroup, tries both ports, and out again, so that the cgroup can be removed.
    let script = format!(
        "echo $$ > {dir}/cgroup.procs; nc -z -w 1 127.0.0.1 {denied} && echo open-denied; \
         nc -z -w 1 127.0.0.1 {allowed} && echo open-allowed; true"
    );
    let output = skep()
        .args(["run", "--format", "json", "--cgroup", &dir.to_string()])
        .args(["--param", &format!("deny_port={denied}"), "examples/connect_guard.bpf.c", "--", "sh", "-c", &script])
        .output()
        .expect("skep starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("open-allowed") && !text.contains("open-denied"), "{}", show(&output));
    let lines = json_lines(&output);
    let refused = find(&lines, |line| line["record"]["port"] == denied).expect("a record");
    assert_eq!(refused["record"]["verdict"], "connect_denied");
    assert_eq!(refused["record"]["address"], "127.0.0.1");
    assert_eq!((global(&lines, "denied_connects"), global(&lines, "allowed_connects")), (Some(1), Some(1)));
    // It ends with the run: the port is open again, from the same cgroup.
    let again = Command::new("sh")
        .args(["-c", &format!("echo $$ > {dir}/cgroup.procs; exec nc -z -w 1 127.0.0.1 {denied}")])
        .status()
        .expect("nc");
    assert!(again.success());
}

#[test]
fn profile_samples_the_command() {
    if !is_root() {
        return;
    }
    let output = run("profile", &[], &["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
    let lines = json_lines(&output);
    let samples: u64 = entries(&lines, "samples").iter().filter_map(|entry| entry["value"].as_u64()).sum();
    assert!(samples >= 2, "{}", show(&output));
    assert!(entries(&lines, "samples").iter().all(|entry| entry["key"]["comm"] == "sh"));
}

#[test]
fn task_iter_lists_this_very_process() {
    if !is_root() {
        return;
    }
    let output = skep().args(["run", "-q", "examples/task_iter.bpf.c"]).output().expect("skep starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let own = std::process::id().to_string();
    assert!(output.status.success(), "{}", show(&output));
    assert!(text.lines().any(|line| line.split_whitespace().next() == Some(own.as_str())), "{own} is not listed");
}

#[test]
fn uprobe_getenv_sees_what_the_command_asks_for() {
    if !is_root() {
        return;
    }
    let output = skep()
        .args(["run", "--quiet", "--format", "json", "examples/uprobe_getenv.bpf.c", "--", "ls", "/"])
        .env("LS_COLORS", "skep")
        .output()
        .expect("skep starts");
    let lines = json_lines(&output);
    assert!(output.status.success(), "{}", show(&output));
    // The value itself is not looked at: other tests' environments are not ours to read.
    assert!(find(&lines, |line| line["record"]["comm"] == "ls").is_some(), "{} records", lines.len());
}

#[test]
fn a_hook_that_this_kernel_lacks_is_said_so_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    for (example, program) in
        [("kprobe_unlink", "on_unlink"), ("fentry_unlink", "on_unlink"), ("lsm_file_open", "on_open")]
    {
        let output =
            skep().args(["run", &format!("examples/{example}.bpf.c"), "--", "true"]).output().expect("skep starts");
        if output.status.success() {
            continue; // This kernel has it.
        }
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{example}: {}", show(&output));
        assert!(said.starts_with("error: ") && said.contains(program), "{example}: {said}");
        assert_eq!(crate::support::loaded(program), 0, "{example}: a program stayed loaded");
    }
}

#[test]
fn a_killed_skep_leaves_no_classic_tc_filter() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("kill");
    let skep = env!("CARGO_BIN_EXE_skep");
    let show_filters = || {
        let mut tc = Wire::shell(
            &wire.left,
            "tc filter show dev veth0 ingress; tc filter show dev veth0 egress; tc qdisc show dev veth0",
        );
        String::from_utf8_lossy(&tc.output().expect("tc").stdout).into_owned()
    };
    // Not by `timeout`, which would stand between: the process that is killed is skep itself.
    let mut child = Command::new("ip")
        .args(["netns", "exec", &wire.left, skep, "run", "-q", "--classic-tc", "--iface", "veth0"])
        .args(["--duration", "30s", "examples/tc_bytes.bpf.c"])
        .current_dir(crate::support::root())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("skep starts");
    let wait = |wanted: bool| {
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            show_filters().contains("bpf") == wanted
        })
    };
    assert!(wait(true), "it was attached: {}", show_filters());
    child.kill().expect("kill");
    child.wait().expect("wait");
    assert!(wait(false), "a filter stayed: {}", show_filters());
    assert!(
        (0..50).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            !show_filters().contains("clsact")
        }),
        "the qdisc stayed: {}",
        show_filters()
    );
}
