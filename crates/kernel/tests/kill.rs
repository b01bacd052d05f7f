//! After SIGKILL nothing stays attached: a child attaches to what this machine has, is killed, and no link with its
//! programs is left.

mod attach_support;

use attach_support::*;
use skep_kernel::Link;
use skep_kernel::attach::AttachOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// The child: attaches, says the ids of its programs, and waits to be killed.
#[test]
fn child_attaches() {
    if !is_child("child_attaches") {
        return;
    }
    let cgroup = AttachOptions { cgroup: std::env::var_os("SKEP_CGROUP").map(Into::into), ..AttachOptions::default() };
    let own = format!("uprobe/{}:main", std::env::current_exe().expect("own path").display());
    let mut all: Vec<(Counting, Vec<Link>)> = Vec::new();
    for (section, ret) in [
        ("tracepoint/raw_syscalls/sys_enter", 0),
        ("raw_tracepoint/sys_exit", 0),
        ("tp_btf/sched_switch", 0),
        ("cgroup/connect4", 1),
        ("sockops", 1),
        ("perf_event", 0),
        ("kprobe/do_sys_openat2", 0),
        ("fentry/do_sys_openat2", 0),
        (own.as_str(), 0),
    ] {
        match counting(section, ret).map(|c| (c.attach(&cgroup), c)) {
            Ok((Ok(links), counting)) => all.push((counting, links)),
            Ok((Err(e), _)) => eprintln!("{e}"),
            Err(e) => eprintln!("{section}: {e}"),
        }
    }
    let ids: Vec<String> = all.iter().map(|(c, _)| c.program.id().expect("id").to_string()).collect();
    println!("\nprograms {}", ids.join(" "));
    std::io::stdout().flush().expect("flush");
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_stays_after_sigkill() {
    if !root("nothing_stays_after_sigkill") {
        return;
    }
    let group = Cgroup::new("kill");
    let mut child =
        child("child_attaches").env("SKEP_CGROUP", &group.0).stdout(Stdio::piped()).spawn().expect("run itself");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let ids: Vec<u32> = lines
        .map_while(Result::ok)
        .find_map(|l| Some(l.strip_prefix("programs ")?.split(' ').map(|id| id.parse().expect("id")).collect()))
        .expect("ids");
    assert!(ids.len() >= 6, "{ids:?}");
    let attached = || {
        let links = skep_kernel::inspect::links().expect("links");
        links.iter().filter(|l| ids.contains(&l.program_id)).count()
    };
    let loaded = || ids.iter().filter(|id| skep_kernel::Program::from_id(**id).is_ok()).count();
    let before = (attached(), loaded());
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    assert!(before.0 >= 6 && before.1 == ids.len(), "{before:?}");
    // The kernel tears down behind our back.
    assert!(within_seconds(|| attached() == 0), "{} links are left", attached());
    assert!(within_seconds(|| loaded() == 0), "{} programs are left", loaded());
}
