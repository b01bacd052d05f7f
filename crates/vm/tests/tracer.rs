//! Following a command: what comes out is what the kernel's own tracepoints say, with root and without, and the command
//! notices nothing.

use skep_vm::source::syscalls::{
    Arch, Calls, Command, End, Event, EventKind, Progress, Stops, Task, TraceError, Tracer, Until, Wants,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Set for a copy of this test binary that is to be the command.
const ACT: &str = "SKEP_TRACER_ACT";

fn everything() -> Wants {
    Wants {
        enter: Calls::All,
        exit: Calls::All,
        fork: true,
        exec: true,
        task_exit: true,
        signal: true,
        stops: Stops::Fewest,
    }
}

fn sh(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

/// This binary as a command that does one of the things in `acts`.
fn act(what: &str) -> Command {
    let me = std::env::current_exe().expect("this binary");
    let mut command = Command::new([me.into_os_string()]);
    command.argv.extend(["--exact", "acts", "--nocapture", "--test-threads=1"].map(Into::into));
    let env = std::env::vars_os().filter(|(name, _)| name != "RUST_TEST_THREADS");
    command.env = Some(env.chain([(ACT.into(), what.into())]).collect());
    command
}

/// Not a test of its own: what the commands above do.
#[test]
fn acts() {
    let Ok(what) = std::env::var(ACT) else { return };
    match what.as_str() {
        "threads" => {
            let threads: Vec<_> =
                (0..4).map(|_| std::thread::spawn(|| std::thread::sleep(Duration::from_millis(2)))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("it sleeps"));
            std::process::exit(3);
        }
        "exec_in_thread" => {
            let _idle = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(5));
            let exec = std::thread::spawn(|| std::process::Command::new("true").exec());
            panic!("{:?}", exec.join());
        }
        "int80" => {
            int80_getpid();
            std::process::exit(0);
        }
        "be_killed" => {
            let wants = Wants { fork: true, enter: Calls::Only([230].into()), ..Wants::default() };
            let mut tracer = Tracer::start(&sh("sleep 60 & wait"), &wants).expect("it starts");
            println!("\npid {}", tracer.pid());
            let progress = tracer.run(Until::default(), &mut |event, _| {
                match &event.kind {
                    EventKind::Fork(fork) => println!("\npid {}", fork.child_tid),
                    _ => println!("\nsleeping"),
                }
                ControlFlow::Continue(())
            });
            panic!("{progress:?}");
        }
        "follow" => {
            let error = follow(&Command::new(["true"]), &everything()).expect_err("it is followed itself");
            eprintln!("{error}");
            let named =
                matches!(&error, TraceError::NotPermitted { cause, .. } if cause.contains("follows it already"));
            std::process::exit(if named { 42 } else { 1 });
        }
        other => panic!("{other}"),
    }
}

/// getpid(2) as a 32-bit program makes it.
#[expect(unsafe_code, reason = "one instruction that no library has")]
fn int80_getpid() {
    let mut number = 20u64;
    // SAFETY: the 32-bit getpid takes no argument; `int 0x80` changes rax, and r8 to r11 on old kernels.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") number, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    // Without 32-bit programs in the kernel this is a fault, and the signal ends the process.
    assert_eq!(number, u64::from(std::process::id()));
}

/// Runs a command to its end.
fn follow_with(
    command: &Command,
    wants: &Wants,
    on_event: &mut dyn FnMut(&Event, &Task<'_>),
) -> Result<End, TraceError> {
    let mut tracer = Tracer::start(command, wants)?;
    match tracer.run(Until::default(), &mut |event, task| {
        on_event(event, task);
        ControlFlow::Continue(())
    })? {
        Progress::Ended(end) => Ok(end),
        other => panic!("{other:?}"),
    }
}

fn follow(command: &Command, wants: &Wants) -> Result<(End, Vec<Event>), TraceError> {
    let mut events = Vec::new();
    let end = follow_with(command, wants, &mut |event, _| events.push(event.clone()))?;
    assert!(events.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns), "time goes on");
    Ok((end, events))
}

/// The ends of these calls, without what differs from run to run.
fn ends_of(events: &[Event], calls: &Calls) -> Vec<(i64, bool)> {
    let exit = |event: &Event| match event.kind {
        EventKind::SysExit(exit) if calls.contains(exit.arch, exit.number) => Some((exit.number, exit.result < 0)),
        _ => None,
    };
    events.iter().filter_map(exit).collect()
}

#[test]
fn exit_codes_pass_through() {
    for stops in [Stops::Fewest, Stops::EveryCall] {
        let wants = Wants { stops, ..Wants::default() };
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -40 $$", 168)] {
            let (end, events) = follow(&sh(script), &wants).expect("it runs");
            assert_eq!(end.exit_code(), code, "{script}");
            assert!(events.is_empty());
        }
    }
    let (end, _) = follow(&sh("kill -TERM $$"), &everything()).expect("it runs");
    assert!(matches!(end, End::Signal { number: 15, .. }));
}

#[test]
fn commands_that_cannot_run_say_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
        path.into_os_string()
    };
    let fails = |command: &Command| follow(command, &everything()).expect_err("it cannot run").to_string();
    let closed = file("closed", "#!/bin/sh\n", 0o644);
    let no_interpreter = file("no_interpreter", "#!/no/such/shell\n", 0o755);
    assert_eq!(
        fails(&Command::new(["skep-no-such-program"])),
        "run `skep-no-such-program`: No such file or directory (os error 2)"
    );
    assert!(fails(&Command::new([closed])).ends_with("closed`: Permission denied (os error 13)"));
    assert!(fails(&Command::new([no_interpreter])).ends_with("No such file or directory (os error 2)"));
    let elsewhere = Command { directory: Some("/no/such/place".into()), ..Command::new(["true"]) };
    assert_eq!(fails(&elsewhere), "start `true`: change into its directory: No such file or directory (os error 2)");
    // A script without its first line is one for sh, as for a shell.
    let script = file("script", "exit 5\n", 0o755);
    assert_eq!(follow(&Command::new([script]), &everything()).map(|(end, _)| end).ok(), Some(End::Code(5)));
}

#[test]
fn a_filter_shows_the_same_calls_as_stopping_at_all() {
    // openat, execve, wait4, newfstatat, fchdir: sparse numbers.
    let calls = Calls::Only([257, 59, 61, 262, 81].into());
    let script = "cd /; for i in 1 2 3; do ls -l /etc/passwd >/dev/null; done; (true); exit 4";
    let wants = |stops| Wants { enter: calls.clone(), exit: calls.clone(), stops, ..Wants::default() };
    let (end, filtered) = follow(&sh(script), &wants(Stops::Fewest)).expect("it runs");
    let (_, all) = follow(&sh(script), &wants(Stops::EveryCall)).expect("it runs");
    let of_shell = |events: &[Event]| {
        let shell = events.first().map_or(0, |event| event.tid);
        let events: Vec<_> = events.iter().filter(|event| event.tid == shell).cloned().collect();
        ends_of(&events, &calls)
    };
    assert_eq!(end, End::Code(4));
    assert!(filtered.len() > 50, "{}", filtered.len());
    assert_eq!(of_shell(&filtered), of_shell(&all));
    assert_eq!(ends_of(&filtered, &calls).len(), ends_of(&all, &calls).len());
    let wanted = |event: &Event| match event.kind {
        EventKind::SysEnter(enter) => calls.contains(enter.arch, enter.number),
        EventKind::SysExit(exit) => calls.contains(exit.arch, exit.number),
        _ => false,
    };
    assert!(filtered.iter().all(wanted) && all.iter().all(wanted));
}

#[test]
fn the_task_can_be_looked_at() {
    let (mut paths, mut names, mut users) = (Vec::new(), Vec::new(), Vec::new());
    let command = Command {
        directory: Some("/".into()),
        env: Some(vec![("PATH".into(), "/usr/bin:/bin".into()), ("LC_ALL".into(), "C".into())]),
        ..sh("cat /proc/self/comm > /dev/null; cat nowhere 2> /dev/null")
    };
    let wants = Wants { enter: Calls::Only([257].into()), exec: true, ..Wants::default() };
    follow_with(&command, &wants, &mut |event, task| {
        let comm = task.comm();
        let name = String::from_utf8_lossy(&comm).trim_end_matches('\0').to_owned();
        if let EventKind::SysEnter(enter) = &event.kind {
            let path = task.read_cstr(enter.args[1], 4096).expect("its path");
            paths.push((name, String::from_utf8_lossy(&path).into_owned()));
            let registers = task.registers().expect("it stands still");
            // orig_rax, rip, rsp, rsi.
            assert_eq!(
                [registers[15], registers[16], registers[19], registers[13]],
                [257, enter.ip, enter.sp, enter.args[1]]
            );
            let error = task.read_memory(8, &mut [0; 4]).expect_err("nobody has a page 0");
            assert_eq!(error.fault, 8);
            assert_eq!(error.source.raw_os_error(), Some(14));
            // Up to the last byte of a page that is followed by nothing: the stack's end.
            let mut long = vec![0; 1 << 24];
            let error = task.read_memory(enter.sp, &mut long).expect_err("no stack is so large");
            assert!(error.fault > enter.sp && error.fault % 4096 == 0, "{error}");
            let (prio, _) = task.prio_cpu().expect("/proc");
            assert!((100..140).contains(&prio), "{prio}");
        } else {
            names.push(name);
            users.push(task.uid_gid().expect("it is there"));
        }
    })
    .expect("it runs");
    assert!(paths.contains(&("cat".to_owned(), "/proc/self/comm".to_owned())), "{paths:?}");
    assert!(paths.contains(&("cat".to_owned(), "nowhere".to_owned())), "{paths:?}");
    assert!(names.len() >= 2 && names[0] == "sh" && names.contains(&"cat".to_owned()), "{names:?}");
    let me = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    assert!(users.iter().all(|user| *user == me), "{users:?}");
}

#[test]
fn threads_and_an_exec_in_one() {
    let (end, events) = follow(&act("threads"), &everything()).expect("it runs");
    assert_eq!(end, End::Code(3));
    let thread = |event: &Event| matches!(event.kind, EventKind::Fork(fork) if fork.child_tgid == event.tgid);
    let threads = events.iter().filter(|event| thread(event)).count();
    assert!(threads >= 4, "{threads}");
    let ends: Vec<bool> = events
        .iter()
        .filter_map(|event| if let EventKind::Exit(exit) = event.kind { Some(exit.group_dead) } else { None })
        .collect();
    assert_eq!(ends.len(), threads + 1);
    assert_eq!(ends.iter().rposition(|last| *last), ends.iter().position(|last| *last), "one is the last: {ends:?}");

    for stops in [Stops::Fewest, Stops::EveryCall] {
        let wants = Wants { exec: true, exit: Calls::Only([59].into()), task_exit: true, stops, ..Wants::default() };
        let (end, events) = follow(&act("exec_in_thread"), &wants).expect("it runs");
        assert_eq!(end, End::Code(0));
        let execs: Vec<_> = events
            .iter()
            .filter_map(
                |event| if let EventKind::Exec(exec) = &event.kind { Some((event.tid, exec.old_tid)) } else { None },
            )
            .collect();
        let [(first, same), (again, other)] = execs[..] else { panic!("{execs:?}") };
        assert!(first == same && again == first && other != first, "{execs:?}");
        // The call ends under the process's own number, though another thread began it.
        // (Before that the directories in PATH were tried.)
        let ends = ends_of(&events, &Calls::Only([59].into()));
        assert_eq!(ends.iter().filter(|(_, failed)| !failed).count(), 2, "{events:?}");
        assert!(events.iter().all(|event| event.tgid == first));
    }
}

#[test]
fn calls_of_32_bit_programs_are_theirs() {
    for stops in [Stops::Fewest, Stops::EveryCall] {
        let wants = |enter: Calls| Wants { exit: enter.clone(), enter, stops, ..Wants::default() };
        let (end, events) = follow(&act("int80"), &wants(Calls::All)).expect("it runs");
        if end != End::Code(0) {
            eprintln!("calls_of_32_bit_programs_are_theirs: needs a kernel with CONFIG_IA32_EMULATION");
            return;
        }
        let theirs: Vec<_> = events
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::SysEnter(enter) if enter.arch == Arch::I386 => Some((enter.number, None)),
                EventKind::SysExit(exit) if exit.arch == Arch::I386 => Some((exit.number, Some(exit.result))),
                _ => None,
            })
            .collect();
        assert_eq!(theirs, [(20, None), (20, Some(i64::from(events[0].tgid)))]);
        // The call with this number is writev for a 64-bit program: that is what was asked for.
        let (_, events) = follow(&act("int80"), &wants(Calls::Only([20].into()))).expect("it runs");
        let theirs = |event: &Event| matches!(event.kind, EventKind::SysEnter(enter) if enter.arch == Arch::I386);
        assert!(!events.iter().any(theirs));
    }
}

#[test]
fn stopping_and_continuing_by_job_control_works() {
    // The shell sees its child stop and go on, which takes PTRACE_LISTEN: else the child would run on at once.
    let script = "sleep 0.01 & kill -STOP $!; sleep 0.1; kill -0 $! || exit 1; \
                  read -r line < /proc/$!/stat; case \"$line\" in *') T '*|*') t '*) ;; *) exit 2;; esac; \
                  kill -CONT $!; wait $!; exit $?";
    for stops in [Stops::Fewest, Stops::EveryCall] {
        let wants = Wants { signal: true, stops, ..Wants::default() };
        let (end, events) = follow(&sh(script), &wants).expect("it runs");
        assert_eq!(end, End::Code(0));
        let stop = |event: &Event| matches!(event.kind, EventKind::Signal(signal) if signal.signal == 19);
        assert_eq!(events.iter().filter(|event| stop(event)).count(), 1, "{events:?}");
    }
}

#[test]
fn signals_have_their_handlers() {
    let (_, events) = follow(
        &sh("trap : USR1; trap '' USR2; kill -USR2 $$; kill -USR1 $$"),
        &Wants { signal: true, ..Wants::default() },
    )
    .expect("it runs");
    let signals: Vec<_> = events
        .iter()
        .filter_map(|event| if let EventKind::Signal(signal) = event.kind { Some(signal) } else { None })
        .collect();
    let [signal] = signals[..] else { panic!("the ignored one is none: {signals:?}") };
    assert_eq!((signal.signal, signal.code), (10, 0));
    assert!(signal.handler > 4096 && signal.handler_flags & 0x0400_0000 != 0, "{signal:?}");
}

#[test]
fn a_limit_a_flag_and_a_break_give_control_back() {
    let mut tracer = Tracer::start(&sh("sleep 0.2; exit 6"), &everything()).expect("it starts");
    let begun = Instant::now();
    let until = Until { deadline: Some(begun + Duration::from_millis(60)), stop: None };
    let mut go_on = |_: &Event, _: &Task<'_>| ControlFlow::Continue(());
    assert_eq!(tracer.run(until, &mut go_on).expect("it runs"), Progress::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(60));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            stop.store(true, Ordering::Relaxed);
        });
        let until = Until { deadline: None, stop: Some(&stop) };
        assert_eq!(tracer.run(until, &mut go_on).expect("it runs"), Progress::Stopped);
    });
    let mut seen = 0;
    let broke = tracer.run(Until::default(), &mut |_, _| {
        seen += 1;
        ControlFlow::Break(())
    });
    assert_eq!((broke.expect("it runs"), seen), (Progress::Broke, 1));
    assert_eq!(tracer.run(Until::default(), &mut go_on).expect("it runs"), Progress::Ended(End::Code(6)));
    assert_eq!(tracer.command_end(), Some(End::Code(6)));
}

/// Whether a process is there and no zombie.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z") && !rest.starts_with(" X"))
    })
}

#[test]
fn all_of_it_ends_with_the_tracer() {
    let mut pids = Vec::new();
    let mut tracer = Tracer::start(&sh("sleep 60 & sleep 60 & wait"), &everything()).expect("it starts");
    pids.push(tracer.pid());
    let mut sleeping = 0;
    let progress = tracer.run(Until::default(), &mut |event, _| match &event.kind {
        EventKind::Fork(fork) => {
            pids.push(fork.child_tid);
            ControlFlow::Continue(())
        }
        // clock_nanosleep.
        EventKind::SysEnter(enter) if enter.number == 230 => {
            sleeping += 1;
            if sleeping == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        _ => ControlFlow::Continue(()),
    });
    assert_eq!((progress.expect("it runs"), pids.len()), (Progress::Broke, 3));
    assert!(pids.iter().all(|&pid| lives(pid)));
    drop(tracer);
    assert!(!pids.iter().any(|&pid| lives(pid)), "{pids:?}");

    // Never run, it is gone as well.
    let tracer = Tracer::start(&Command::new(["true"]), &everything()).expect("it starts");
    let pid = tracer.pid();
    assert!(lives(pid));
    drop(tracer);
    assert!(!lives(pid));
}

#[test]
fn all_of_it_ends_when_the_tracer_is_killed_and_nothing_else() {
    use std::io::BufRead;
    let command = act("be_killed");
    let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let mut tracer = std::process::Command::new(&command.argv[0])
        .args(&command.argv[1..])
        .env(ACT, "be_killed")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("this binary");
    let output = std::io::BufReader::new(tracer.stdout.take().expect("a pipe"));
    let mut pids: Vec<u32> = Vec::new();
    for line in output.lines().map_while(Result::ok).take_while(|line| line != "sleeping") {
        pids.extend(line.strip_prefix("pid ").and_then(|pid| pid.parse::<u32>().ok()));
    }
    assert!(pids.len() == 2 && pids.iter().all(|&pid| lives(pid)), "{pids:?}");
    tracer.kill().expect("it runs");
    tracer.wait().expect("killed");
    let give_up = Instant::now() + Duration::from_secs(5);
    while pids.iter().any(|&pid| lives(pid)) && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (left, untouched) = (pids.iter().filter(|&&pid| lives(pid)).count(), lives(other.id()));
    other.kill().expect("it sleeps");
    other.wait().expect("killed");
    assert_eq!((left, untouched), (0, true));
}

#[test]
fn what_follows_already_is_named() {
    let (end, _) = follow(&act("follow"), &Wants::default()).expect("it runs");
    assert_eq!(end, End::Code(42));
}

#[test]
fn a_thread_with_children_is_refused() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let refused = Tracer::start(&Command::new(["true"]), &everything());
    child.kill().expect("it sleeps");
    child.wait().expect("killed");
    let known = std::path::Path::new("/proc/thread-self/children").exists();
    assert_eq!(matches!(refused, Err(TraceError::OtherChildren { .. })), known);
    drop(refused);
    assert!(follow(&Command::new(["true"]), &everything()).is_ok());
}

#[test]
fn children_killed_while_they_fork_are_not_waited_for() {
    let script =
        "i=0; while [ $i -lt 20 ]; do (while :; do (:); done) & sleep 0.005; kill -9 $!; i=$((i+1)); done; exit 9";
    for wants in [everything(), Wants::default()] {
        assert_eq!(follow(&sh(script), &wants).expect("it runs").0, End::Code(9));
    }
}

/// The same tests by a user who may nothing.
#[test]
fn everything_as_nobody() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("open to all");
    let copy = dir.path().join("tracer");
    std::fs::copy(std::env::current_exe().expect("this binary"), &copy).expect("a copy");
    let output = std::process::Command::new(&copy)
        .uid(65534)
        .gid(65534)
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .args(["--test-threads=2", "--skip", "kernel"])
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("a_filter_shows_the_same_calls_as_stopping_at_all ... ok"), "{text}");
}

/// What the kernel's tracepoints and the tracer say of one task, in one form.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Enter(i64, [u64; 6]),
    Exit(i64, i64),
    Fork(i64),
    Exec(String, i64),
    TaskExit(Option<bool>, i64),
    Signal(i64, i64, u64, u64),
}

type BySaid = BTreeMap<u32, Vec<(Said, String)>>;

fn said(event: &Event, task: &Task<'_>) -> Said {
    match &event.kind {
        EventKind::SysEnter(enter) => Said::Enter(enter.number, enter.args),
        EventKind::SysExit(exit) => Said::Exit(exit.number, exit.result),
        EventKind::Fork(fork) => Said::Fork(fork.child_tid.into()),
        EventKind::Exec(exec) => Said::Exec(String::from_utf8_lossy(&exec.filename).into_owned(), exec.old_tid.into()),
        EventKind::Exit(exit) => {
            Said::TaskExit(Some(exit.group_dead), task.prio_cpu().map_or(0, |(prio, _)| prio.into()))
        }
        EventKind::Signal(signal) => {
            Said::Signal(signal.signal.into(), signal.code.into(), signal.handler, signal.handler_flags)
        }
    }
}

/// A record of tests/vm/tracer/events.bpf.c.
fn kernel_said(record: &[u8]) -> (u32, Said, String) {
    assert_eq!(record.len(), 136);
    let word = |at: usize| i64::from_ne_bytes(record[at..at + 8].try_into().expect("8 bytes"));
    let [tid, kind] = [0, 4].map(|at| u32::from_ne_bytes(record[at..at + 4].try_into().expect("4 bytes")));
    let (number, result) = (word(8), word(16));
    let args = [24, 32, 40, 48, 56, 64].map(|at| word(at) as u64);
    let text = record[72..].split(|&byte| byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text).into_owned();
    let said = match kind {
        1 => Said::Enter(number, args),
        2 => Said::Exit(number, result),
        3 => Said::Fork(number),
        4 => Said::Exec(text.clone(), number),
        5 => Said::TaskExit((number >= 0).then_some(number == 1), result),
        _ => Said::Signal(number, result, args[0], args[1]),
    };
    (tid, said, if kind == 4 { String::new() } else { text })
}

/// Both at once: the command is followed while programs on the kernel's tracepoints watch it too.
fn both(spec: &skep_object::ObjectSpec, command: &Command) -> (BySaid, BySaid) {
    use skep_kernel::{attach, load, ringbuf::RingBuffer};
    let loaded = load::load(spec, &load::LoadOptions::default()).expect("it loads");
    let links: Vec<_> = spec
        .programs
        .iter()
        .map(|program| {
            let kernel = loaded.program_named(&program.name).expect("loaded");
            attach::attach(kernel, &program.hook, &attach::AttachOptions::default()).expect("attached")
        })
        .collect();
    let followed = loaded.map_named("followed").expect("followed");
    let mut ring = RingBuffer::new(loaded.map_named("events").expect("events")).expect("ring");

    let (mut ours, mut kernels) = (BySaid::new(), BySaid::new());
    let mut tracer = Tracer::start(command, &everything()).expect("it starts");
    followed.update(&tracer.pid().to_ne_bytes(), &1u32.to_ne_bytes(), skep_kernel::Update::Any).expect("followed");
    let mut drain = |kernels: &mut BySaid| {
        ring.drain(|record| {
            let (tid, said, comm) = kernel_said(record);
            kernels.entry(tid).or_default().push((said, comm));
        })
    };
    let progress = tracer.run(Until::default(), &mut |event, task| {
        let comm = task.comm();
        let comm = String::from_utf8_lossy(&comm).trim_end_matches('\0').to_owned();
        let said = said(event, task);
        let comm = if matches!(said, Said::Exec(..)) { String::new() } else { comm };
        ours.entry(event.tid).or_default().push((said, comm));
        drain(&mut kernels);
        ControlFlow::Continue(())
    });
    assert!(matches!(progress, Ok(Progress::Ended(_))), "{progress:?}");
    drain(&mut kernels);
    drop(links);
    (ours, kernels)
}

/// What of the kernel's sayings the tracer must say as well; see "How near it comes" in the module's documentation.
fn expected(kernel: &BySaid, leader: u32) -> BySaid {
    let mut expected = kernel.clone();
    for (tid, said) in &mut expected {
        // Before the command: the child's own calls.
        if *tid == leader {
            let start = said.iter().position(|(said, _)| matches!(said, Said::Enter(59, _))).unwrap_or(0);
            said.drain(..start);
        }
        // SIGKILL, and the signals that are ignored but shown since the task is traced.
        said.retain(|(said, _)| match said {
            Said::Signal(number, _, handler, _) => {
                *number != 9 && *handler != 1 && !(*handler == 0 && matches!(number, 17 | 18 | 23 | 28))
            }
            _ => true,
        });
    }
    expected
}

#[test]
fn the_kernel_says_the_same() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("the_kernel_says_the_same: needs root, not run");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for name in 0..40 {
        let inner = dir.path().join(format!("d{}", name % 7));
        std::fs::create_dir_all(&inner).expect("made");
        std::fs::write(inner.join(format!("file{name}")), "x").expect("written");
    }
    let list = ["ls".into(), "-lR".into(), dir.path().as_os_str().to_owned()];
    let scripts = [
        ("ls -lR", Command::new(["nice".into(), "-n5".into()].into_iter().chain(list))),
        ("a pipe", sh("ls /etc | sort | wc -l > /dev/null; (exit 3); exit 4")),
        ("signals", sh("trap : USR1 TERM; kill -USR1 $$; kill -TERM $$; (sleep 5 & kill $!; wait); sleep 0.01 & wait")),
        ("threads", act("threads")),
        ("a 32-bit call", act("int80")),
        ("an exec in a thread", act("exec_in_thread")),
        ("job control", sh("sleep 0.01 & kill -STOP $!; sleep 0.03; kill -CONT $!; wait $!")),
    ];
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm/tracer/events.bpf.c");
    let compiled = skep_cc::Compiler::from_env().compile(&source).expect("it compiles");
    let spec = skep_object::ObjectSpec::parse("events", &compiled.object).expect("an object");
    for (name, command) in scripts {
        let (ours, kernels) = both(&spec, &command);
        let leader = *ours.keys().next().expect("events");
        let expected = expected(&kernels, leader);
        assert_eq!(ours.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{name}: tasks");
        let mut count = 0;
        for (tid, ours) in &ours {
            let kernel = &expected[tid];
            let around = |all: &[(Said, String)], at: usize| {
                let range = at.saturating_sub(2)..(at + 3).min(all.len());
                all[range].iter().map(|said| format!("\n    {said:?}")).collect::<String>()
            };
            for (index, (a, b)) in ours.iter().zip(kernel).enumerate() {
                let same = match (a, b) {
                    // Which thread of several is the last: see below.
                    ((Said::TaskExit(_, prio), comm), (Said::TaskExit(_, kernels), kernel_comm)) => {
                        (prio, comm) == (kernels, kernel_comm)
                    }
                    _ => a == b,
                };
                assert!(
                    same,
                    "{name}: task {tid}, event {index}:\nours{}\nthe kernel's{}",
                    around(ours, index),
                    around(kernel, index)
                );
            }
            assert_eq!(ours.len(), kernel.len(), "{name}: task {tid}: {:?} {:?}", ours.last(), kernel.last());
            count += ours.len();
        }
        // Threads that end together may stop in one order and be counted in another. Kernels before 6.16 do not say.
        let last = |all: &BySaid, flag| {
            all.values().flatten().filter(|(said, _)| matches!(said, Said::TaskExit(last, _) if *last == flag)).count()
        };
        if last(&expected, None) == 0 {
            assert_eq!(last(&ours, Some(true)), last(&expected, Some(true)), "{name}: one is the last of each process");
        }
        println!("{name}: {count} events of {} tasks are the kernel's", ours.len());
    }
}
