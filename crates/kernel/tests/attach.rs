//! Attaching to every hook that can be reached without a compiler: what is attached runs, what is dropped does not, what
//! can't be says why.

mod attach_support;

use attach_support::*;
use skep_kernel::attach::{AttachOptions, Cause, CgroupMode, Direction, Rate, Sampling, TcxOrder, XdpMode};
use skep_kernel::kconfig::Kconfig;
use skep_kernel::{Class, Link};
use std::net::{TcpListener, TcpStream, UdpSocket};

fn options() -> AttachOptions {
    AttachOptions::default()
}

fn on(interface: &str) -> AttachOptions {
    AttachOptions { interface: Some(interface.into()), ..options() }
}

/// Something that every hook on system calls sees.
fn system_calls(count: usize) {
    for _ in 0..count {
        std::hint::black_box(rustix::process::getppid());
    }
}

/// Attached it counts what `act` does, dropped it doesn't; `noise` if others trigger the hook as well.
fn runs_while_attached(section: &str, options: &AttachOptions, mut act: impl FnMut()) {
    let counting = counting(section, 0).unwrap_or_else(|e| panic!("{section}: {e}"));
    let links = counting.attach(options).unwrap_or_else(|e| panic!("{section}: {e}"));
    act();
    assert!(counting.count() > 0, "{section} did not run");
    drop(links);
    assert!(has_ended(&counting, act), "{section} still runs");
}

#[test]
fn tracepoints() {
    if !root("tracepoints") {
        return;
    }
    runs_while_attached("tracepoint/raw_syscalls/sys_enter", &options(), || system_calls(10));
    runs_while_attached("tp/sched/sched_switch", &options(), || {
        std::thread::sleep(std::time::Duration::from_millis(5));
    });
    runs_while_attached("raw_tracepoint/sys_enter", &options(), || system_calls(10));
    runs_while_attached("tp_btf/sys_enter", &options(), || system_calls(10));
}

#[test]
fn two_programs_share_a_tracepoint() {
    if !root("two_programs_share_a_tracepoint") {
        return;
    }
    let section = "tracepoint/raw_syscalls/sys_exit";
    let (a, b) = (counting(section, 0).expect("load"), counting(section, 0).expect("load"));
    let a_links = a.attach(&options()).expect("attach");
    let b_links = b.attach(&AttachOptions { cookie: 7, ..options() }).expect("attach");
    assert_eq!(a_links[0].place(), "tracepoint raw_syscalls/sys_exit");
    assert_eq!(a_links[0].summary().expect("info").program_id, a.program.id().expect("id"));
    assert!(!a_links[0].survives_kill());
    system_calls(10);
    assert!(a.count() >= 10 && b.count() >= 10);
    drop(a_links);
    drop(b_links);
}

#[test]
fn names_that_are_not_there() {
    if !root("names_that_are_not_there") {
        return;
    }
    let near = |section: &str, expected: &str| {
        let error = counting(section, 0).expect("load").attach(&options()).expect_err(section);
        let Cause::NoSuch { near, .. } = error.cause.as_ref() else { panic!("{error}") };
        assert!(near.iter().any(|n| n == expected), "{error}");
        assert_eq!(error.class(), Class::NotSo, "{error}");
    };
    near("tracepoint/sched/sched_swich", "sched/sched_switch");
    near("tracepoint/syscals/sys_enter_openat", "syscalls/sys_enter_openat");
    near("raw_tracepoint/sched_swich", "sched_switch");
    near("uprobe/libc.so.6:mallocc", "malloc");
    near("uprobe/libcc.so.6:malloc", "libc.so.6");
    let error = counting("tracepoint/../..", 0).expect("load").attach(&options()).expect_err("no such");
    assert!(matches!(*error.cause, Cause::NoSuch { .. }), "{error}");
    let xdp = counting("xdp", 2).expect("load");
    let error = xdp.attach(&on("loo")).expect_err("no such");
    assert_eq!(
        error.to_string().split("; there are").next().expect("text"),
        "attach skep_test to loo (XDP): there is no interface `loo` (is it `lo`?)"
    );
    let error = xdp.attach(&AttachOptions { netns: Some("/run/netns/skep-none".into()), ..on("lo") });
    let error = error.expect_err("no such namespace");
    assert!(matches!(*error.cause, Cause::NoSuch { what: "network namespace", .. }), "{error}");
    let error = xdp.attach(&AttachOptions { netns: Some("/etc/passwd".into()), ..on("lo") });
    assert_eq!(error.expect_err("no namespace").class(), Class::Usage);
}

#[test]
fn sections_that_leave_it_open() {
    if !root("sections_that_leave_it_open") {
        return;
    }
    for section in ["tracepoint", "raw_tp", "kprobe", "kretprobe", "ksyscall", "uprobe", "uretprobe", "xdp", "tc"] {
        let error = counting(section, 0).expect(section).attach(&options()).expect_err(section);
        assert_eq!(error.class(), Class::Usage, "{section}: {error}");
    }
    for section in ["usdt/libc.so.6:libc:setjmp", "action", "lwt_in", "sk_reuseport"] {
        let Ok(counting) = counting(section, 0) else { continue };
        let error = counting.attach(&options()).expect_err(section);
        assert_ne!(error.class(), Class::NotSo, "{section}: {error}");
    }
}

#[test]
fn kprobes() {
    if !root("kprobes") {
        return;
    }
    let kprobe = counting("kprobe/do_sys_openat2", 0).expect("load");
    let Some(links) = may_be_refused("kprobe", kprobe.attach(&options())) else {
        if let Ok(config) = Kconfig::read()
            && config.get("CONFIG_KPROBES").is_none()
        {
            let text = kprobe.attach(&options()).expect_err("refused").to_string();
            assert!(text.contains("this kernel was built without CONFIG_KPROBES"), "{text}");
        }
        return;
    };
    std::fs::read("/proc/self/stat").expect("read");
    assert!(kprobe.count() > 0);
    drop(links);
    for section in ["kretprobe/do_sys_openat2", "ksyscall/openat", "kretsyscall/openat"] {
        runs_while_attached_with_noise(section, || drop(std::fs::read("/proc/self/stat")));
    }
    let error = counting("kprobe/do_unlinkatt", 0).expect("load").attach(&options()).expect_err("no such");
    assert!(error.to_string().contains("do_unlinkat"), "{error}");
    let error = counting("ksyscall/openatt", 0).expect("load").attach(&options()).expect_err("no such");
    assert!(error.to_string().contains("openat"), "{error}");
}

/// For hooks that other processes trigger as well.
fn runs_while_attached_with_noise(section: &str, act: impl Fn()) {
    let counting = counting(section, 0).unwrap_or_else(|e| panic!("{section}: {e}"));
    let links = counting.attach(&options()).unwrap_or_else(|e| panic!("{section}: {e}"));
    act();
    assert!(within_seconds(|| counting.count() > 0), "{section} did not run");
    drop(links);
}

#[test]
fn kprobe_multi() {
    if !root("kprobe_multi") {
        return;
    }
    for section in ["kprobe.multi/do_sys_open*", "kretprobe.multi/do_sys_openat2"] {
        let counting = match counting(section, 0) {
            Ok(counting) => counting,
            Err(e) if !required("kprobe.multi") => {
                eprintln!("{section}: not here: {e}");
                continue;
            }
            Err(e) => panic!("{section}: {e}"),
        };
        let Some(links) = may_be_refused("kprobe.multi", counting.attach(&options())) else { continue };
        std::fs::read("/proc/self/stat").expect("read");
        assert!(counting.count() > 0, "{section}");
        drop(links);
    }
}

#[test]
fn functions_and_lsm_by_btf() {
    if !root("functions_and_lsm_by_btf") {
        return;
    }
    for (what, section, ret) in
        [("fentry", "fentry/do_sys_openat2", 0), ("fexit", "fexit/do_sys_openat2", 0), ("lsm", "lsm/file_open", 0)]
    {
        let counting = match counting(section, ret) {
            Ok(counting) => counting,
            Err(e) if !required(what) => {
                eprintln!("{section}: not here: {e}");
                continue;
            }
            Err(e) => panic!("{section}: {e}"),
        };
        let Some(links) = may_be_refused(what, counting.attach(&options())) else { continue };
        std::fs::read("/proc/self/stat").expect("read");
        assert!(counting.count() > 0, "{section}");
        assert_eq!(links.len(), 1);
    }
}

/// Probed by name; not to be inlined.
#[inline(never)]
fn skep_probed_function(n: u64) -> u64 {
    std::hint::black_box(n.wrapping_mul(3))
}

/// Its name in the symbol table.
fn probed_symbol() -> String {
    let own = std::env::current_exe().expect("own path");
    let all = skep_kernel::binaries::functions(&own).expect("own functions");
    all.into_iter().map(|f| f.name).find(|n| n.contains("skep_probed_function")).expect("the function")
}

#[test]
fn uprobes() {
    if !root("uprobes") {
        return;
    }
    let own = std::env::current_exe().expect("own path");
    let symbol = probed_symbol();
    let act = || {
        for n in 0..7 {
            skep_probed_function(n);
        }
    };
    for kind in ["uprobe", "uretprobe"] {
        let section = format!("{kind}/{}:{symbol}", own.display());
        let counting = counting(&section, 0).expect("load");
        let Some(links) = may_be_refused("uprobe", counting.attach(&options())) else { return };
        act();
        assert_eq!(counting.count(), 7, "{kind}");
        drop(links);
        assert!(has_ended(&counting, act), "{kind} after its end");
        // In this process, and in another one.
        let links = counting.attach(&AttachOptions { pid: Some(std::process::id()), ..options() }).expect("attach");
        let before = counting.count();
        act();
        assert_eq!(counting.count(), before + 7, "{kind} in this process");
        drop(links);
        assert!(has_ended(&counting, act), "{kind} after its end");
        let links = counting.attach(&AttachOptions { pid: Some(1), ..options() });
        if let Ok(links) = links {
            let before = counting.count();
            act();
            assert_eq!(counting.count(), before, "{kind} in another process");
            drop(links);
        }
    }
    let counting = counting("uprobe/libc.so.6:getpid", 0).expect("load");
    let links = counting.attach(&AttachOptions { pid: Some(std::process::id()), ..options() }).expect("attach");
    std::hint::black_box(std::process::id());
    assert!(counting.count() > 0);
    assert!(links[0].place().contains("libc.so.6:getpid in process"), "{}", links[0].place());
}

/// glibc has two `posix_spawnp`s, and Rust's library is linked with the newer one.
#[test]
fn uprobe_at_the_version_that_runs() {
    if !root("uprobe_at_the_version_that_runs") {
        return;
    }
    let spawned = |function: &str| {
        let counting = counting(&format!("uprobe/libc.so.6:{function}"), 0).expect("load");
        let own = AttachOptions { pid: Some(std::process::id()), ..options() };
        let links = may_be_refused("uprobe", counting.attach(&own))?;
        for _ in 0..5 {
            let own = std::env::current_exe().expect("own path");
            assert!(std::process::Command::new(own).arg("--list").output().expect("run itself").status.success());
        }
        drop(links);
        Some(counting.count())
    };
    let libc = skep_kernel::binaries::find("libc.so.6", None).expect("libc").path;
    let all = skep_kernel::binaries::functions(&libc).expect("functions");
    for function in all.iter().filter(|f| f.name == "posix_spawnp") {
        let Some(version) = &function.version else { continue };
        let Some(hits) = spawned(&function.full_name()) else { return };
        assert_eq!(hits > 0, version.default, "{}: {hits}", function.full_name());
    }
    let Some(hits) = spawned("posix_spawnp") else { return };
    assert!(hits >= 5, "{hits} of 5");
    let error = counting("uprobe/libc.so.6:posix_spawnp@GLIBC_0", 0).expect("load").attach(&options());
    let error = error.expect_err("no such version");
    let Cause::NoSuch { near, .. } = error.cause.as_ref() else { panic!("{error}") };
    assert!(near.iter().any(|n| n.starts_with("posix_spawnp@@")), "{error}");
}

#[test]
fn uprobe_multi() {
    if !root("uprobe_multi") {
        return;
    }
    let own = std::env::current_exe().expect("own path");
    for kind in ["uprobe.multi", "uretprobe.multi"] {
        let section = format!("{kind}/{}:*skep_probed_function*", own.display());
        let counting = match counting(&section, 0) {
            Ok(counting) => counting,
            Err(e) if !required("uprobe.multi") => {
                eprintln!("{section}: not here: {e}");
                continue;
            }
            Err(e) => panic!("{section}: {e}"),
        };
        let with_pid = AttachOptions { pid: Some(std::process::id()), cookie: 5, ..options() };
        let Some(links) = may_be_refused("uprobe.multi", counting.attach(&with_pid)) else { continue };
        let before = counting.count();
        skep_probed_function(1);
        assert!(counting.count() > before, "{kind}");
        drop(links);
    }
}

#[test]
fn sampling() {
    if !root("sampling") {
        return;
    }
    let sample = |event: &str, rate, pid| {
        let counting = counting("perf_event", 0).expect("load");
        let sampling = Sampling { event: event.into(), rate };
        let links = counting.attach(&AttachOptions { sampling, pid, ..options() });
        (counting, links)
    };
    let _busy = Busy::start();
    let (counting, links) = sample("cpu-clock", Rate::FrequencyHz(499), None);
    let links = links.expect("attach");
    assert_eq!(links.len(), skep_kernel::cpu::online().expect("CPUs").len());
    assert!(within_seconds(|| counting.count() > 20), "{}", counting.count());
    drop(links);
    assert!(has_ended(&counting, || std::thread::sleep(std::time::Duration::from_millis(50))));

    let (counting, links) = sample("task-clock", Rate::Period(1_000_000), Some(std::process::id()));
    let links = links.expect("attach");
    assert!(links.len() >= 2, "a link for each thread");
    assert!(within_seconds(|| counting.count() > 20), "{}", counting.count());
    drop(links);

    let error = sample("sched:sched_switch", Rate::Period(1), None).1.expect_err("a tracepoint");
    assert_eq!(error.class(), Class::Usage, "{error}");
    assert!(error.to_string().contains("SEC(\"tracepoint/sched/sched_switch\")"), "{error}");

    match sample("cycles", Rate::FrequencyHz(99), None).1 {
        Ok(_) => {}
        Err(e) => {
            assert_eq!(e.class(), Class::NotPermittedOrUnsupported, "{e}");
            assert!(e.to_string().contains("no counter cycles"), "{e}");
        }
    }
    let error = sample("cpu-clok", Rate::FrequencyHz(99), None).1.expect_err("no such");
    assert!(error.to_string().contains("is it `cpu-clock`?") || error.to_string().contains("`cpu-clock`"), "{error}");
    let error = sample("cpu-clock", Rate::FrequencyHz(10_000_000), None).1.expect_err("too often");
    assert_eq!(error.class(), Class::Usage, "{error}");
    let error = sample("cpu-clock", Rate::FrequencyHz(0), None).1.expect_err("never");
    assert_eq!(error.class(), Class::Usage, "{error}");
}

#[test]
fn xdp() {
    if !root("xdp") {
        return;
    }
    in_netns(|netns| {
        let options = AttachOptions { netns: Some(netns.into()), ..on("vb") };
        let first = counting("xdp", 2).expect("load");
        let links = first.attach(&options).expect("attach");
        assert_eq!(links[0].place(), "XDP vb (native)");
        assert_eq!(links[0].note(), None);
        send_broadcasts(5);
        assert!(within_seconds(|| first.count() >= 5), "{}", first.count());

        // The hook is taken: by which program?
        let second = counting("xdp", 2).expect("load");
        for mode in [XdpMode::Auto, XdpMode::Generic] {
            let error = second.attach(&AttachOptions { xdp: mode, ..options.clone() }).expect_err("busy");
            let id = first.program.id().expect("id").to_string();
            assert!(matches!(error.cause.as_ref(), Cause::Busy { by, .. } if by.contains(&id)), "{error}");
        }
        // Another program takes its place without a moment in between.
        links[0].update(&second.program).expect("update");
        let before = first.count();
        send_broadcasts(5);
        assert!(within_seconds(|| second.count() >= 5), "{}", second.count());
        assert_eq!(first.count(), before);
        drop(links);
        assert!(has_ended(&second, || {
            send_broadcasts(5);
            std::thread::sleep(std::time::Duration::from_millis(30));
        }));

        // The loopback has no XDP in its driver.
        let generic = counting("xdp", 2).expect("load");
        let links = generic.attach(&AttachOptions { interface: Some("lo".into()), ..options.clone() }).expect("attach");
        assert_eq!(links[0].place(), "XDP lo (generic)");
        assert!(links[0].note().is_some());
        UdpSocket::bind("127.0.0.1:0").expect("bind").send_to(b"x", "127.0.0.1:9").expect("send");
        assert!(within_seconds(|| generic.count() > 0));
        drop(links);
        let native = AttachOptions { interface: Some("lo".into()), xdp: XdpMode::Native, ..options };
        let error = generic.attach(&native).expect_err("no native XDP");
        assert_eq!(error.class(), Class::NotPermittedOrUnsupported, "{error}");
    });
}

#[test]
fn tc() {
    if !root("tc") {
        return;
    }
    in_netns(|_| {
        // -1 is TCX_NEXT and TC_ACT_UNSPEC: go on.
        let ingress = counting("tc/ingress", -1).expect("load");
        let egress = counting("tc/egress", -1).expect("load");
        let links = [ingress.attach(&on("vb")).expect("attach"), egress.attach(&on("va")).expect("attach")];
        let tcx = links[0][0].bpf_link().is_some();
        if tcx {
            assert_eq!(links[0][0].place(), "tcx ingress vb");
            assert_eq!(links[1][0].place(), "tcx egress va");
        } else {
            assert!(!required("tcx"));
            assert!(links[0][0].note().is_some(), "the fallback says so");
        }
        send_broadcasts(5);
        assert!(within_seconds(|| ingress.count() >= 5 && egress.count() >= 5));
        if tcx {
            // 0 ends the chain: in front of it the first one runs, behind it not.
            let last = counting("tc", 0).expect("load");
            let first = counting("tc", 0).expect("load");
            let order = |tcx_order| AttachOptions { tcx_order, direction: Direction::Ingress, ..on("vb") };
            let id = ingress.program.id().expect("id");
            let _first = first.attach(&order(TcxOrder::Before(id))).expect("attach");
            let _last = last.attach(&order(TcxOrder::Last)).expect("attach");
            let before = ingress.count();
            send_broadcasts(5);
            assert!(within_seconds(|| first.count() >= 5));
            assert_eq!((ingress.count(), last.count()), (before, 0));
            let other = counting("tc", 0).expect("load");
            let error = other.attach(&order(TcxOrder::After(u32::MAX - 7))).expect_err("no such program");
            assert!(matches!(*error.cause, Cause::NoSuch { .. }), "{error}");
        }
        drop(links);
    });
}

#[test]
fn classic_tc() {
    if !root("classic_tc") {
        return;
    }
    in_netns(|_| {
        let classic = |direction| AttachOptions { classic_tc: true, direction, ..on("vb") };
        let a = counting("tc", -1).expect("load");
        let b = counting("tc", -1).expect("load");
        let a_links = a.attach(&classic(Direction::Ingress)).expect("attach");
        let b_links = b.attach(&classic(Direction::Ingress)).expect("attach");
        let egress = b.attach(&classic(Direction::Egress)).expect("attach");
        assert_eq!(a_links[0].place(), "classic tc ingress vb");
        assert!(a_links[0].survives_kill());
        send_broadcasts(5);
        assert!(within_seconds(|| a.count() >= 5 && b.count() >= 5));
        let filters = run("tc filter show dev vb ingress");
        assert_eq!(filters.matches("direct-action").count(), 2, "{filters}");
        // The qdisc was made for the first, and stays while others use it.
        drop(a_links);
        assert!(run("tc qdisc show dev vb").contains("clsact"));
        let before = (a.count(), b.count());
        send_broadcasts(5);
        assert!(within_seconds(|| b.count() >= before.1 + 5));
        assert_eq!(a.count(), before.0);
        drop(egress);
        drop(b_links);
        assert_eq!(run("tc filter show dev vb ingress").trim(), "");
        run("tc qdisc del dev vb clsact");

        let alone = a.attach(&classic(Direction::Egress)).expect("attach");
        drop(alone);
        assert!(!run("tc qdisc show dev vb").contains("clsact"), "made here, alone, gone");
    });
}

#[test]
fn socket_filter() {
    if !root("socket_filter") {
        return;
    }
    in_netns(|netns| {
        let counting = counting("socket", 0).expect("load");
        let links = counting.attach(&on("lo")).expect("attach");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.send_to(b"x", "127.0.0.1:9").expect("send");
        assert!(within_seconds(|| counting.count() > 0));
        drop(links);
        assert!(has_ended(&counting, || drop(socket.send_to(b"x", "127.0.0.1:9"))));
        let before = counting.count();
        let _all = counting.attach(&AttachOptions { netns: Some(netns.into()), ..options() }).expect("attach");
        socket.send_to(b"x", "127.0.0.1:9").ok();
        assert!(within_seconds(|| counting.count() > before));
    });
}

#[test]
fn network_namespace_hooks() {
    if !root("network_namespace_hooks") {
        return;
    }
    in_netns(|netns| {
        let here = AttachOptions { netns: Some(netns.into()), ..options() };
        // 1 is SK_PASS.
        let lookup = counting("sk_lookup", 1).expect("load");
        let links = lookup.attach(&here).expect("attach");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        assert!(lookup.count() > 0);
        drop(links);
        assert!(has_ended(&lookup, || {
            TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        }));

        let dissector = counting("flow_dissector", 0).expect("load");
        let other = counting("flow_dissector", 0).expect("load");
        if let Some(links) = may_be_refused("flow_dissector", dissector.attach(&here)) {
            let error = other.attach(&here).expect_err("one a namespace");
            assert!(matches!(*error.cause, Cause::Busy { .. }), "{error}");
            drop(links);
        }

        // 1 is NF_ACCEPT.
        match counting("netfilter", 1) {
            Ok(netfilter) => {
                if let Some(links) = may_be_refused("netfilter", netfilter.attach(&options())) {
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
                    socket.send_to(b"x", "127.0.0.1:9").expect("send");
                    assert!(within_seconds(|| netfilter.count() > 0));
                    let error = netfilter.attach(&options()).expect_err("the priority is taken");
                    assert!(matches!(*error.cause, Cause::Busy { .. }), "{error}");
                    drop(links);
                }
            }
            Err(e) => assert!(!required("netfilter"), "{e}"),
        }
    });
}

/// Run again by [`cgroups`] as a process of its cgroup: what comes of a connection.
#[test]
fn child_connects() {
    if !is_child("child_connects") {
        return;
    }
    match TcpStream::connect("127.0.0.1:1") {
        Ok(_) => println!("connected"),
        Err(e) => println!("outcome {:?}", e.kind()),
    }
}

#[test]
fn cgroups() {
    if !root("cgroups") {
        return;
    }
    let group = Cgroup::new("hooks");
    let here = AttachOptions { cgroup: Some(group.0.clone()), ..options() };
    assert!(skep_kernel::mounts::cgroup_id(&group.0).expect("id") > 0);
    assert!(group.run_child("child_connects").contains("ConnectionRefused"));

    let guard = counting("cgroup/connect4", 0).expect("load");
    let links = guard.attach(&here).expect("attach");
    assert!(links[0].place().starts_with("connect4 of cgroup /"), "{}", links[0].place());
    // 0 refuses the connection.
    assert!(group.run_child("child_connects").contains("PermissionDenied"));
    assert_eq!(guard.count(), 1);
    drop(links);
    assert!(within_seconds(|| group.run_child("child_connects").contains("ConnectionRefused")));

    // Every attach type there is a section for; those that a connection triggers run.
    for (section, ret, runs) in [
        ("cgroup_skb/ingress", 1, true),
        ("cgroup_skb/egress", 1, true),
        ("cgroup/skb", 1, true),
        ("cgroup/sock_create", 1, true),
        ("cgroup/sock_release", 1, true),
        ("cgroup/sock", 1, true),
        ("cgroup/connect4", 1, true),
        ("cgroup/connect6", 1, false),
        ("cgroup/bind4", 1, false),
        ("cgroup/bind6", 1, false),
        ("cgroup/post_bind4", 1, false),
        ("cgroup/post_bind6", 1, false),
        ("cgroup/sendmsg4", 1, false),
        ("cgroup/sendmsg6", 1, false),
        ("cgroup/recvmsg4", 1, false),
        ("cgroup/recvmsg6", 1, false),
        ("cgroup/getpeername4", 1, false),
        ("cgroup/getpeername6", 1, false),
        ("cgroup/getsockname4", 1, false),
        ("cgroup/getsockname6", 1, false),
        ("cgroup/connect_unix", 1, false),
        ("cgroup/sysctl", 1, false),
        ("cgroup/getsockopt", 1, false),
        ("cgroup/setsockopt", 1, false),
        ("cgroup/dev", 1, false),
        ("sockops", 1, true),
    ] {
        let counting = match counting(section, ret) {
            Ok(counting) => counting,
            // Unix sockets came with 6.7.
            Err(e) if section.ends_with("_unix") => {
                eprintln!("{section}: not here: {e}");
                continue;
            }
            Err(e) => panic!("{section}: {e}"),
        };
        let links = counting.attach(&here).unwrap_or_else(|e| panic!("{section}: {e}"));
        assert!(links[0].bpf_link().is_some(), "{section}");
        if runs {
            group.run_child("child_connects");
            assert!(counting.count() > 0, "{section} did not run");
        }
    }
}

#[test]
fn cgroups_that_do_not_share() {
    if !root("cgroups_that_do_not_share") {
        return;
    }
    let group = Cgroup::new("alone");
    let mode = |cgroup_mode| AttachOptions { cgroup: Some(group.0.clone()), cgroup_mode, ..options() };
    let first = counting("cgroup/connect4", 0).expect("load");
    let second = counting("cgroup/connect4", 1).expect("load");
    let links = first.attach(&mode(CgroupMode::Exclusive)).expect("attach");
    assert!(links[0].survives_kill());
    let error = second.attach(&mode(CgroupMode::Multi)).expect_err("not shared");
    let id = first.program.id().expect("id").to_string();
    assert!(matches!(error.cause.as_ref(), Cause::Busy { by, .. } if by.contains(&id)), "{error}");
    drop(links);
    let links = second.attach(&mode(CgroupMode::Overridable)).expect("attach");
    assert!(group.run_child("child_connects").contains("ConnectionRefused"));
    assert_eq!(second.count(), 1);
    links.into_iter().for_each(|l| l.detach().expect("detach"));
    assert!(group.run_child("child_connects").contains("ConnectionRefused"));
    assert_eq!(second.count(), 1);

    let wrong = |path: &str| second.attach(&AttachOptions { cgroup: Some(path.into()), ..options() }).expect_err(path);
    let error = wrong("/tmp");
    assert_eq!(error.class(), Class::Usage, "{error}");
    assert!(error.to_string().contains("on this machine they are under /"), "{error}");
    let error = wrong("/sys/fs/cgroup/skep-none");
    assert!(matches!(*error.cause, Cause::NoSuch { what: "cgroup", .. }), "{error}");
}

#[test]
fn detached_before_its_owner_ends() {
    if !root("detached_before_its_owner_ends") {
        return;
    }
    let group = Cgroup::new("detach");
    let here = AttachOptions { cgroup: Some(group.0.clone()), ..options() };
    let counting = counting("cgroup/connect4", 1).expect("load");
    let mut links = counting.attach(&here).expect("attach");
    let link = links.remove(0);
    let again = Link::from_id(link.id().expect("id")).expect("open");
    link.detach().expect("detach");
    group.run_child("child_connects");
    assert_eq!(counting.count(), 0, "detached although somebody holds the link");
    assert!(again.update(&counting.program).is_err(), "an empty shell");
}

#[test]
fn iterators() {
    if !root("iterators") {
        return;
    }
    // Writes "x\n" for each task: bpf_seq_write(ctx->meta->seq, text, 2).
    let insns = [
        insn(0x79, 1, 1, 0, 0),
        insn(0x79, 1, 1, 0, 0),
        insn(0x6a, 10, 0, -8, i32::from(u16::from_ne_bytes(*b"x\n"))),
        copy(2, 10),
        add(2, -8),
        mov(3, 2),
        call(127),
        mov(0, 0),
        exit(),
    ];
    let program = load("iter/task", &insns).expect("load");
    let all = skep_kernel::attach::attach(&program, &hook("iter/task"), &options()).expect("attach");
    let output = skep_kernel::iter::read(&all[0]).expect("read");
    let lines = output.iter().filter(|b| **b == b'\n').count();
    assert!(lines > 5, "{lines}");
    assert!(output.chunks(2).all(|c| c == b"x\n"));
    // Each opening runs it anew.
    assert!(skep_kernel::iter::read(&all[0]).expect("read").len() > 5);
    // Its output comes in pieces, and it can be stopped after any.
    let mut chunks = 0;
    let ended = skep_kernel::iter::run(&all[0], |chunk| {
        chunks += 1;
        std::ops::ControlFlow::Break(chunk.len())
    });
    assert!(matches!(ended.expect("run"), std::ops::ControlFlow::Break(len) if len > 5));
    assert_eq!(chunks, 1);

    let one = AttachOptions { pid: Some(std::process::id()), ..options() };
    match skep_kernel::attach::attach(&program, &hook("iter/task"), &one) {
        Ok(links) => {
            let threads = std::fs::read_dir("/proc/self/task").expect("threads").count();
            let lines = skep_kernel::iter::read(&links[0]).expect("read").len() / 2;
            assert!(lines.abs_diff(threads) < 20 && lines > 0, "{lines} of {threads}");
        }
        Err(e) => panic!("{e}"),
    }
    let error = skep_kernel::attach::attach(&program, &hook("iter"), &options()).expect_err("no kind");
    assert_eq!(error.class(), Class::Usage, "{error}");
}

#[test]
fn sock_maps() {
    if !root("sock_maps") {
        return;
    }
    let counting = counting("sk_msg", 1).expect("load");
    assert_eq!(counting.attach(&options()).expect_err("no map").class(), Class::Usage);
    let params = skep_kernel::MapParams::new("skep_socks", skep_abi::MapType::Sockmap, 4, 4, 2);
    let map = skep_kernel::Map::create(&params).expect("a sock map");
    let fd = std::sync::Arc::new(map.fd().try_clone_to_owned().expect("clone"));
    let links = counting.attach(&AttachOptions { map: Some(fd), ..options() }).expect("attach");
    links.into_iter().for_each(|l| l.detach().expect("detach"));
}

#[test]
fn replaced_programs_are_told() {
    if !root("replaced_programs_are_told") {
        return;
    }
    let a = counting("tracepoint/raw_syscalls/sys_enter", 0).expect("load");
    let links = a.attach(&options()).expect("attach");
    let error = links[0].update(&a.program).expect_err("perf events can't").to_string();
    assert!(error.contains("only XDP, tcx, cgroup and network namespace links"), "{error}");
}
