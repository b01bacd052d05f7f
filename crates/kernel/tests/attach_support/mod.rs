//! What the tests of attaching and of buffers share: tiny programs from raw instructions, network namespaces that end
//! with their thread, cgroups that are removed, and the question whether this kernel has to be able to.
//!
//! The test binaries run without cargo or a compiler, so that they can be run in guests:
//! `SKEP_REQUIRE=kprobe,fentry,lsm attach` then insists on hooks that a hardened host refuses.
#![allow(dead_code, reason = "each test file uses its part")]

use skep_abi::{AttachType, MapType, ProgramType};
use skep_isa::{Endian, Raw};
use skep_kernel::attach::{AttachError, AttachOptions, attach};
use skep_kernel::{Class, Link, LogLevel, Map, MapParams, Program, ProgramParams};
use skep_object::{Hook, Target};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

/// Whether the test may go on: what it does takes root. Says so when not.
pub(crate) fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: needs root, not run");
    }
    root
}

pub(crate) fn insn(opcode: u8, dst: u8, src: u8, off: i16, imm: i32) -> Raw {
    Raw { opcode, dst, src, off, imm }
}

/// `dst = imm`
pub(crate) fn mov(dst: u8, imm: i32) -> Raw {
    insn(0xb7, dst, 0, 0, imm)
}

/// `dst = src`
pub(crate) fn copy(dst: u8, src: u8) -> Raw {
    insn(0xbf, dst, src, 0, 0)
}

/// `dst += imm`
pub(crate) fn add(dst: u8, imm: i32) -> Raw {
    insn(0x07, dst, 0, 0, imm)
}

pub(crate) fn call(helper: i32) -> Raw {
    insn(0x85, 0, 0, 0, helper)
}

pub(crate) fn exit() -> Raw {
    insn(0x95, 0, 0, 0, 0)
}

/// `dst = map`
pub(crate) fn load_map(dst: u8, map: &Map) -> [Raw; 2] {
    [insn(0x18, dst, 1, 0, map.fd().as_raw_fd()), Raw::default()]
}

/// Leaves the address of slot `slot` of an array map in r0, or ends with `ret` (the verifier wants that asked).
pub(crate) fn lookup(map: &Map, slot: i32, ret: i32) -> Vec<Raw> {
    let mut insns = vec![
        // *(u32 *)(r10 - 4) = slot
        insn(0x62, 10, 0, -4, slot),
        copy(2, 10),
        add(2, -4),
    ];
    insns.extend(load_map(1, map));
    insns.extend([call(1), insn(0x55, 0, 0, 2, 0), mov(0, ret), exit()]);
    insns
}

/// Adds one to slot 0 of a map.
pub(crate) fn count_into(map: &Map, slot: i32, ret: i32) -> Vec<Raw> {
    let mut insns = lookup(map, slot, ret);
    // lock *(u64 *)(r0 + 0) += r1
    insns.extend([mov(1, 1), insn(0xdb, 0, 1, 0, 0)]);
    insns
}

/// An array of 64-bit counters.
pub(crate) fn counters(slots: u32) -> Map {
    Map::create(&MapParams::new("skep_test", MapType::Array, 4, 8, slots)).expect("an array map")
}

pub(crate) fn counter(map: &Map, slot: u32) -> u64 {
    let value = map.lookup(&slot.to_ne_bytes()).expect("lookup").expect("a slot");
    u64::from_ne_bytes(value.try_into().expect("8 bytes"))
}

/// A program that counts how often it runs, loaded as its section says.
pub(crate) struct Counting {
    pub(crate) program: Program,
    pub(crate) hook: Hook,
    map: Map,
}

impl Counting {
    pub(crate) fn count(&self) -> u64 {
        counter(&self.map, 0)
    }

    pub(crate) fn attach(&self, options: &AttachOptions) -> Result<Vec<Link>, AttachError> {
        attach(&self.program, &self.hook, options)
    }
}

/// Whether it no longer runs when `act` happens. A process that another test has just forked holds the link's descriptor
/// as well until it becomes another program, so the end may come a moment later than the drop.
pub(crate) fn has_ended(counting: &Counting, mut act: impl FnMut()) -> bool {
    within_seconds(|| {
        let before = counting.count();
        act();
        counting.count() == before
    })
}

/// What the section convention makes of a name.
pub(crate) fn hook(section: &str) -> Hook {
    skep_object::sections::hook(section).hook
}

/// Loads instructions as a section says; what the kernel refused is given as it is.
pub(crate) fn load(section: &str, insns: &[Raw]) -> Result<Program, String> {
    let hook = hook(section);
    let mut params = ProgramParams::new("skep_test", hook.prog_type, insns, "GPL");
    params.attach_type = hook.attach_type;
    if hook.sleepable {
        params.flags |= skep_kernel::flags::SLEEPABLE;
    }
    let (prefix, name, kind) = match &hook.target {
        Target::BtfTracepoint(Some(name)) => ("btf_trace_", name, skep_btf::Kind::Typedef),
        Target::BtfFunc(Some(name)) => ("", name, skep_btf::Kind::Func),
        Target::Lsm(Some(name)) => ("bpf_lsm_", name, skep_btf::Kind::Func),
        Target::Iter(Some(name)) => ("bpf_iter_", name, skep_btf::Kind::Func),
        _ => return program(&params),
    };
    let btf = skep_kernel::kernel_btf().map_err(|e| e.to_string())?;
    let id =
        btf.find(&format!("{prefix}{name}"), kind).ok_or_else(|| format!("no {prefix}{name} in the kernel's BTF"))?;
    params.attach_btf_id = id.0;
    program(&params)
}

fn program(params: &ProgramParams<'_>) -> Result<Program, String> {
    Program::load(params, LogLevel::None).map_err(|e| format!("{}: {}", e.errno, e.log))
}

/// A counting program that returns `ret`.
pub(crate) fn counting(section: &str, ret: i32) -> Result<Counting, String> {
    let map = counters(1);
    let mut insns = count_into(&map, 0, ret);
    insns.extend([mov(0, ret), exit()]);
    Ok(Counting { program: load(section, &insns)?, hook: hook(section), map })
}

/// Whether this kernel has to be able to (`SKEP_REQUIRE=kprobe,lsm`).
pub(crate) fn required(what: &str) -> bool {
    std::env::var("SKEP_REQUIRE").is_ok_and(|list| list.split(',').any(|w| w == what))
}

/// What came of attaching something that some kernels can't: `None` where it is refused as not supported and nobody
/// insists. Every other error fails the test.
pub(crate) fn may_be_refused(what: &str, result: Result<Vec<Link>, AttachError>) -> Option<Vec<Link>> {
    match result {
        Ok(links) => Some(links),
        Err(e) if e.class() == Class::NotPermittedOrUnsupported && !required(what) => {
            eprintln!("{what}: not here: {e}");
            let text = e.to_string();
            assert!(text.starts_with("attach skep_test to "), "{text}");
            None
        }
        Err(e) => panic!("{what}: {e}"),
    }
}

/// Runs a command to its end, which must be a good one.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().expect("a word")).args(words).output().expect(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a test on a thread with a network namespace of its own, which ends with the thread: `lo`, and `va` and `vb`, the
/// ends of a cable, with 10.9.8.1 on `va`. Gives the namespace's path to the test.
pub(crate) fn in_netns(test: impl FnOnce(&Path) + Send + 'static) {
    std::thread::spawn(|| {
        #[expect(
            deprecated,
            reason = "its successor is unsafe for the sake of shared descriptors, which stay shared here"
        )]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).expect("a network namespace");
        let thread = rustix::thread::gettid().as_raw_nonzero();
        run("ip link set lo up");
        run("ip link add va type veth peer name vb");
        run("ip addr add 10.9.8.1/24 dev va");
        run("ip link set va up");
        run("ip link set vb up");
        test(&PathBuf::from(format!("/proc/self/task/{thread}/ns/net")));
    })
    .join()
    .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
}

/// Sends packets out of `va`, which come in at `vb`.
pub(crate) fn send_broadcasts(count: usize) {
    let socket = std::net::UdpSocket::bind("10.9.8.1:0").expect("bind");
    socket.set_broadcast(true).expect("broadcast");
    for _ in 0..count {
        socket.send_to(b"skep", "10.9.8.255:9").expect("send");
    }
}

/// A cgroup of its own, removed at the end.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    pub(crate) fn new(name: &str) -> Cgroup {
        let root = skep_kernel::mounts::cgroup2_root().expect("version 2 cgroups");
        let path = root.join(format!("skep-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a cgroup");
        Cgroup(path)
    }

    /// Runs a test of this binary again as a process of the cgroup, and gives what it printed.
    pub(crate) fn run_child(&self, test: &str) -> String {
        let output = child(test).env("SKEP_CGROUP", &self.0).output().expect("run itself");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that ended a moment ago may still be there.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("{} is left behind", self.0.display());
    }
}

/// This test binary again, to run one test as a child: that test asks [`is_child`].
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env("SKEP_TEST_CHILD", test);
    command
}

/// Whether this process was started by [`child`] for this test; joins the cgroup that it was started for.
pub(crate) fn is_child(test: &str) -> bool {
    if std::env::var("SKEP_TEST_CHILD").as_deref() != Ok(test) {
        return false;
    }
    if let Some(cgroup) = std::env::var_os("SKEP_CGROUP") {
        std::fs::write(Path::new(&cgroup).join("cgroup.procs"), std::process::id().to_string()).expect("join");
    }
    true
}

/// A SchedCls program for test runs.
pub(crate) fn for_test_runs(insns: &[Raw]) -> Program {
    let params = ProgramParams::new("skep_test", ProgramType::SchedCls, insns, "GPL");
    Program::load(&params, LogLevel::None).unwrap_or_else(|e| panic!("{}: {}", e.errno, e.log))
}

/// Does something until it gives `true`, for at most five seconds.
pub(crate) fn within_seconds(mut test: impl FnMut() -> bool) -> bool {
    for _ in 0..250 {
        if test() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    test()
}

/// Ends a thread's work when dropped.
pub(crate) struct Busy {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Busy {
    /// Keeps a CPU busy.
    pub(crate) fn start() -> Busy {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut n = 0u64;
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                for i in 0..100_000u64 {
                    n = std::hint::black_box(n.wrapping_add(i));
                }
            }
        });
        Busy { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The attach type of a section, which must have one.
pub(crate) fn attach_type(section: &str) -> AttachType {
    hook(section).attach_type.expect(section)
}

/// The machine's byte order.
pub(crate) const ENDIAN: Endian = Endian::NATIVE;
