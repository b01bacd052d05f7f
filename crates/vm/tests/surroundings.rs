//! What helpers tell of a program's surroundings: the task and its memory, clocks, printed lines. Both are made up here.

use skep_abi::ProgramType;
use skep_vm::{BadAddress, Clock, Config, Context, Fault, Host, Print, Task, Vm};
use std::borrow::Cow;
use std::sync::{Arc, Mutex};

/// A task with two pages at 0x10000, of which the text at the end of the first goes on in the second; nothing behind.
#[derive(Default)]
struct Made {
    cgroup: Option<u64>,
    printed: Mutex<Vec<String>>,
}

const PAGES: u64 = 0x10000;

fn pages() -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    bytes[..5].copy_from_slice(b"hello");
    bytes[4090..4100].copy_from_slice(b"two pages\0");
    bytes[8188..].copy_from_slice(b"end.");
    bytes
}

impl Task for Made {
    fn tid(&self) -> u32 {
        7
    }
    fn pid(&self) -> u32 {
        6
    }
    fn uid(&self) -> u32 {
        1000
    }
    fn gid(&self) -> u32 {
        1001
    }
    fn comm(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(b"made-up")
    }
    fn cgroup_id(&self) -> Option<u64> {
        self.cgroup
    }
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        let from = addr.checked_sub(PAGES).and_then(|at| usize::try_from(at).ok()).ok_or(BadAddress(addr))?;
        let pages = pages();
        into.copy_from_slice(pages.get(from..from + into.len()).ok_or(BadAddress(addr))?);
        Ok(())
    }
}

impl Host for Made {
    fn now_ns(&self, clock: Clock) -> u64 {
        match clock {
            Clock::Monotonic => 1_000,
            Clock::Boot => 2_000,
            Clock::Coarse => 60_000_000_000,
            Clock::Tai => 4_000,
        }
    }
    fn random_u32(&self) -> u32 {
        0xdead_beef
    }
    fn print(&self, line: Print<'_>) {
        self.printed.lock().unwrap().push(format!("{}-{} [{}] {}", line.comm, line.tid, line.cpu, line.text));
    }
}

/// The names of helpers, for `call bpf_ktime_get_ns`.
struct Names;

impl skep_isa::Symbols for Names {
    fn helper(&self, name: &str) -> Option<u32> {
        skep_abi::helpers::by_name(name).map(|helper| helper.id)
    }
}

fn assemble(text: &str) -> Vec<skep_isa::Raw> {
    let insns = skep_isa::assemble_with(text, &Names).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    skep_isa::encode(&insns)
}

fn run_in(made: &Arc<Made>, text: &str, memory: &mut [u8]) -> Result<u64, Fault> {
    let slots = assemble(text);
    let vm = Vm::new(Config { host: made.clone(), task: made.clone(), ..Config::default() });
    let program = vm.load_slots("test", ProgramType::Unspec, &slots).unwrap();
    vm.run(&program, &mut Context::memory(memory))
}

fn run(text: &str, memory: &mut [u8]) -> Result<u64, Fault> {
    run_in(&Arc::default(), text, memory)
}

/// r0 of one helper with an address of the task, into 32 bytes of memory that start as `#`; and these bytes.
fn read(helper: &str, addr: u64, len: u64) -> (i64, String) {
    let mut memory = [b'#'; 32];
    let text = format!("r2 = {len}\nr3 = {addr:#x} ll\ncall {helper}\nexit");
    let result = run(&text, &mut memory).unwrap_or_else(|fault| panic!("{fault}"));
    (result as i64, memory.escape_ascii().to_string().replace("\\x00", "."))
}

#[test]
fn user_memory_is_that_of_the_task() {
    let fault = -i64::from(libc::EFAULT);
    for (helper, addr, len, result, start) in [
        ("bpf_probe_read_user", PAGES, 5, 0, "hello#"),
        ("bpf_probe_read_user", PAGES + 4090, 9, 0, "two pages#"),
        ("bpf_probe_read_user", PAGES + 8188, 4, 0, "end.#"),
        ("bpf_probe_read_user", PAGES + 8188, 5, fault, ".....#"),
        ("bpf_probe_read_user", 0, 3, fault, "...#"),
        ("bpf_probe_read_user", 0, 0, 0, "#"),
        ("bpf_copy_from_user", PAGES + 1, 3, 0, "ell#"),
        ("bpf_copy_from_user", 8, 3, fault, "...#"),
        ("bpf_probe_read_user_str", PAGES, 32, 6, "hello.#"),
        ("bpf_probe_read_user_str", PAGES, 6, 6, "hello.#"),
        ("bpf_probe_read_user_str", PAGES, 3, 3, "he.#"),
        ("bpf_probe_read_user_str", PAGES, 1, 1, ".#"),
        ("bpf_probe_read_user_str", PAGES, 0, 0, "#"),
        ("bpf_probe_read_user_str", PAGES + 4090, 32, 10, "two pages.#"),
        // A string that runs out of the memory there is.
        ("bpf_probe_read_user_str", PAGES + 8188, 32, fault, "................................"),
        ("bpf_probe_read_user_str", PAGES + 8188, 4, 4, "end.#"),
        ("bpf_probe_read", PAGES, 5, 0, "hello#"),
        ("bpf_probe_read_str", PAGES, 32, 6, "hello.#"),
        // The task's memory is not the kernel's.
        ("bpf_probe_read_kernel", PAGES, 5, -i64::from(libc::ERANGE), ".....#"),
        ("bpf_probe_read_kernel_str", PAGES, 5, -i64::from(libc::ERANGE), ".....#"),
    ] {
        let (r0, memory) = read(helper, addr, len);
        assert_eq!(r0, result, "{helper} {addr:#x} {len}");
        assert!(memory.starts_with(start), "{helper} {addr:#x} {len}: {memory}");
    }
}

#[test]
fn the_task_says_who_it_is() {
    for (helper, result) in [("bpf_get_current_pid_tgid", 6 << 32 | 7), ("bpf_get_current_uid_gid", 1001 << 32 | 1000)]
    {
        assert_eq!(run(&format!("call {helper}\nexit"), &mut []), Ok(result), "{helper}");
    }
    let mut memory = [b'#'; 20];
    assert_eq!(run("r2 = 16\ncall bpf_get_current_comm\nexit", &mut memory), Ok(0));
    assert_eq!(&memory, b"made-up\0\0\0\0\0\0\0\0\0####");
    assert_eq!(run("r2 = 4\ncall bpf_get_current_comm\nexit", &mut memory), Ok(0));
    assert_eq!(&memory[..8], b"mad\0-up\0");
}

#[test]
fn a_cgroup_that_is_not_known_is_no_zero() {
    let known = Arc::new(Made { cgroup: Some(42), ..Made::default() });
    assert_eq!(run_in(&known, "call bpf_get_current_cgroup_id\nexit", &mut []), Ok(42));
    let fault = run("call bpf_get_current_cgroup_id\nexit", &mut []).unwrap_err();
    assert!(fault.to_string().contains("the cgroup of process 6 is not known"), "{fault}");
}

#[test]
fn clocks_are_the_hosts() {
    for (helper, result) in [
        ("bpf_ktime_get_ns", 1_000),
        ("bpf_ktime_get_boot_ns", 2_000),
        ("bpf_ktime_get_coarse_ns", 60_000_000_000),
        ("bpf_ktime_get_tai_ns", 4_000),
        ("bpf_get_prandom_u32", 0xdead_beef),
    ] {
        assert_eq!(run(&format!("call {helper}\nexit"), &mut []), Ok(result), "{helper}");
    }
    // A minute after the start: four before 32 bits overflow, whatever the length of a tick.
    let jiffies = run("call bpf_jiffies64\nexit", &mut []).unwrap();
    let left = (1u64 << 32) - jiffies;
    assert!(left.is_multiple_of(240) && [100, 250, 300, 1000].contains(&(left / 240)), "{left}");
}

#[test]
fn arguments_of_a_tracepoint_come_by_their_place() {
    let argument = |place: u64| {
        let text = format!(
            "r6 = r1\nr2 = {place}\nr3 = r10\nr3 += -8\n*(u64 *)(r10 - 8) = 1\ncall bpf_get_func_arg\nr7 = r0\n\
             r1 = r6\ncall bpf_get_func_arg_cnt\nr0 <<= 32\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nr0 += r7\nexit"
        );
        let vm = Vm::new(Config::default());
        let program = vm.load_slots("test", ProgramType::Unspec, &assemble(&text)).unwrap();
        vm.run(&program, &mut Context::words(&[10, 20, 30])).unwrap() as i64
    };
    const THREE: i64 = 3 << 32;
    assert_eq!([argument(0), argument(2)], [THREE + 10, THREE + 30]);
    assert_eq!(argument(3), THREE + 1 - i64::from(libc::EINVAL));
}

#[test]
fn printed_lines_go_to_the_host() {
    let made = Arc::<Made>::default();
    let print = |format: &str, args: &str| {
        let mut memory = [format.as_bytes(), &[0]].concat();
        let text = format!("r2 = {}\n{args}call bpf_trace_printk\nexit", memory.len());
        run_in(&made, &text, &mut memory).unwrap() as i64
    };
    assert_eq!(print("pid %d of %x", "r3 = 5\nr4 = 255\nr5 = 0\n"), 11);
    assert_eq!(print("line\n", ""), 5);
    assert_eq!(print("%q", ""), -i64::from(libc::EINVAL));
    // What %s names must be the program's own, or is empty; the task's strings have %pus.
    assert_eq!(print("[%s] [%pus]", &format!("r3 = {PAGES}\nr4 = {PAGES}\n")), 10);
    assert_eq!(print("%d %d %d %d", "r3 = 1\nr4 = 2\nr5 = 3\n"), -i64::from(libc::EINVAL));
    let printed = made.printed.lock().unwrap().clone();
    assert_eq!(printed, ["made-up-7 [0] pid 5 of ff", "made-up-7 [0] line", "made-up-7 [0] [] [hello]"]);
}

#[test]
fn a_refused_helper_says_its_name_and_why() {
    let slots = assemble("call bpf_get_stackid\nexit");
    let error = Vm::new(Config::default()).load_slots("test", ProgramType::Kprobe, &slots).unwrap_err();
    assert_eq!(
        error.to_string(),
        "load program test: instruction 0: bpf_get_stackid has no meaning outside the kernel, so the embedded engine does \
         not have it: there is no stack of the kernel, and that of the task is not walked; use --engine kernel"
    );
}
