//! Generated programs in every way that there is to run them: interpreter, compiled, and where the program's type allows it
//! the running kernel by test run. Result, fault, memory or packet, contents of every map, and the number of instructions
//! must be the same; so must a run that is cut short by a limit on instructions.
//!
//! 10,000 programs; `SKEP_DIFFERENTIAL=1000000 cargo test --release -p skep-vm --test differential` for more (that is what
//! `cargo xtask fuzz` does), `SKEP_DIFFERENTIAL_SEED` to begin elsewhere, `SKEP_DIFFERENTIAL_FILE` for the text of one program.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use skep_abi::{MapType, ProgramType};
use skep_btf::Btf;
use skep_isa::{AluOp, Insn, Reg, Source};
use skep_kernel::load::{LoadOptions, load};
use skep_kernel::{TestInput, Update};
use skep_object::ProgramIdx;
use skep_progen::{Choices, Family, Generated, MEMORY, Options, generate};
use skep_vm::context::{Arrival, Needs, PacketRunner, Start, supported};
use skep_vm::map::Map;
use skep_vm::{Clock, Config, Context, Fault, FaultKind, Host, Limits, Memory, Mode, Object, ObjectOptions, Print, Vm};

/// Surroundings that are the same each time.
#[derive(Default)]
struct Still(AtomicU32);

impl Host for Still {
    fn now_ns(&self, _: Clock) -> u64 {
        1_700_000_000_000_000_000
    }

    fn random_u32(&self) -> u32 {
        self.0.fetch_add(0x9e37_79b9, Ordering::Relaxed)
    }

    fn print(&self, _: Print<'_>) {}
}

/// What a run left behind.
#[derive(PartialEq, Debug)]
struct Outcome {
    result: Result<u64, String>,
    /// Memory or packet.
    bytes: Vec<u8>,
    /// Of each map, its elements in order.
    maps: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
    used: u64,
}

/// A fault without the addresses of this run.
fn told(fault: &Fault) -> String {
    match &fault.kind {
        FaultKind::Access(access) => format!("{} access {} {}", fault.insn, access.size, access.write),
        FaultKind::Misaligned { size, .. } => format!("{} misaligned {size}", fault.insn),
        other => format!("{} {other}", fault.insn),
    }
}

fn vm(mode: Mode, memory: Memory, insns: Option<u64>) -> Vm {
    let limits = Limits { insns, time: None, ..Limits::default() };
    Vm::new(Config { mode, memory, limits, cpus: 1, host: Arc::new(Still::default()), ..Config::default() })
}

/// The bytes of packet or memory, and of the map `input`, that belong to a program.
fn input(program: &Generated) -> (Vec<u8>, Vec<u8>) {
    let seed = program.name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let mut choices = Choices::seeded(seed);
    let mut bytes: Vec<u8> = (0..MEMORY + 36).map(|_| choices.u64() as u8).collect();
    // An IPv4 packet, more or less, so that the kernel takes it for a test run.
    bytes[12..15].copy_from_slice(&[8, 0, 0x45]);
    let numbers = (0..8).flat_map(|_| choices.imm64().to_ne_bytes()).collect();
    (bytes, numbers)
}

/// Runs a program, loaded anew with maps of its own.
fn run(program: &Generated, vm: &Vm) -> Result<Option<Outcome>, String> {
    let (mut bytes, numbers) = input(program);
    if let Some(size) = program.memory {
        bytes.truncate(size as usize);
        let loaded = vm.load_slots("prog", program.prog_type, &skep_isa::encode(&program.insns));
        let loaded = loaded.map_err(|error| error.to_string())?;
        let mut runner = vm.runner();
        let result = runner.run(&loaded, &mut Context::memory(&mut bytes)).map_err(|fault| told(&fault));
        return Ok(Some(Outcome { result, bytes, maps: Vec::new(), used: runner.used_insns() }));
    }
    let Ok(needs) = supported(program.prog_type, program.attach_type) else { return Ok(None) };
    let object = vm.load(&program.to_spec(), &ObjectOptions::default()).map_err(|error| error.to_string())?;
    fill(&object, &numbers);
    let loaded = object.program(ProgramIdx(0)).ok_or("the program was not loaded")?;
    let mut other;
    let (result, bytes, used) = match needs {
        Needs::Packet(start) => {
            let runner = PacketRunner::new(vm, loaded, program.attach_type, 2048).map_err(|error| error.to_string())?;
            // As test runs have it.
            let start = if program.prog_type == ProgramType::SocketFilter { Start::Network } else { start };
            let mut runner = runner.starting_at(start);
            let result = match runner.run(&bytes, &Arrival::default()) {
                Ok(outcome) => Ok(u64::from(outcome.value as u32)),
                Err(skep_vm::context::RunError::Fault(fault)) => Err(told(&fault)),
                Err(other) => return Err(other.to_string()),
            };
            let used = runner.runner_mut().used_insns();
            (result, runner.packet().to_vec(), used)
        }
        Needs::TracepointRecord => plain(vm, loaded, Context::tracepoint(&bytes)),
        Needs::Words => plain(vm, loaded, Context::words(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])),
        Needs::Registers => plain(vm, loaded, Context::registers(&[7; 168])),
        Needs::PerfEvent => match Context::perf_event(&[7; 168], 1000, 2000) {
            Some(context) => plain(vm, loaded, context),
            None => return Ok(None),
        },
        Needs::Caller => {
            other = bytes.clone();
            let (result, _, used) = plain(vm, loaded, Context::caller(&mut other));
            (result, other, used)
        }
        _ => return Ok(None),
    };
    Ok(Some(Outcome { result, bytes, maps: contents(&object), used }))
}

fn plain(vm: &Vm, program: &skep_vm::Program, mut context: Context<'_>) -> (Result<u64, String>, Vec<u8>, u64) {
    let mut runner = vm.runner();
    let result = runner.run(program, &mut context).map_err(|fault| told(&fault));
    (result, context.bytes(), runner.used_insns())
}

/// The numbers go into the map `input`.
fn fill(object: &Object, numbers: &[u8]) {
    for map in &object.spec().maps {
        if map.name.starts_with("input") {
            let map = object.map_named(&map.name).expect("the map");
            map.user().update(&0u32.to_ne_bytes(), numbers, 0).expect("filled");
        }
    }
}

/// Everything that is in the maps.
fn contents(object: &Object) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    object.spec().maps.iter().filter_map(|map| object.map_named(&map.name)).map(|map| elements(map)).collect()
}

fn elements(map: &Map) -> Vec<(Vec<u8>, Vec<u8>)> {
    let user = map.user();
    let mut out = Vec::new();
    match map.map_type() {
        MapType::Ringbuf => {
            let mut each = |record: &[u8]| {
                out.push((Vec::new(), record.to_vec()));
                ControlFlow::Continue(())
            };
            user.poll(&mut each).expect("a ring buffer");
        }
        MapType::Queue | MapType::Stack => {
            while let Ok(value) = user.lookup_and_delete(&[], 0) {
                out.push((Vec::new(), value));
            }
        }
        MapType::BloomFilter | MapType::ProgArray | MapType::ArrayOfMaps | MapType::HashOfMaps => {}
        _ => {
            let mut key = None;
            while let Ok(next) = user.next_key(key.as_deref()) {
                if let Ok(value) = user.lookup(&next, 0) {
                    out.push((next.clone(), value));
                }
                key = Some(next);
            }
            out.sort();
        }
    }
    out
}

/// What went through, for the last line.
#[derive(Default)]
struct Counts {
    run: AtomicU64,
    skipped: AtomicU64,
    faults: AtomicU64,
    kernel: AtomicU64,
}

/// Runs a program in every way. `Err` says how they differ.
fn compare(program: &Generated, kernel: bool, counts: &Counts) -> Result<(), String> {
    const MOST: u64 = 50_000;
    let interpreted = vm(Mode::Interpreter, Memory::Checked, Some(MOST));
    let Some(expected) = run(program, &interpreted)? else {
        counts.skipped.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    };
    counts.run.fetch_add(1, Ordering::Relaxed);
    if expected.result.is_err() {
        counts.faults.fetch_add(1, Ordering::Relaxed);
    }
    let same = |what: &str, got: Outcome, counted: bool, expected: &Outcome| {
        let used = if counted { got.used } else { expected.used };
        let got = Outcome { used, ..got };
        if got == *expected { Ok(()) } else { Err(format!("{what}:\n{got:?}\ninterpreted:\n{expected:?}")) }
    };
    let compiled = run(program, &vm(Mode::Compiled, Memory::Checked, Some(MOST)))?.ok_or("not run")?;
    same("compiled", compiled, true, &expected)?;
    // A limit somewhere in the middle, another for each program.
    if expected.used > 1 {
        let cut = Choices::seeded(expected.used ^ program.insns.len() as u64).below(expected.used as usize) as u64;
        let one = run(program, &vm(Mode::Interpreter, Memory::Checked, Some(cut)))?.ok_or("not run")?;
        let other = run(program, &vm(Mode::Compiled, Memory::Checked, Some(cut)))?.ok_or("not run")?;
        same(&format!("compiled, cut after {cut}"), other, true, &one)?;
    }
    // Unchecked memory is for programs that a verifier accepts: those of exact families all are.
    let exact = Family::from_name(&program.family).is_some_and(Family::is_exact);
    if exact && expected.result.is_ok() {
        let one = run(program, &vm(Mode::Interpreter, Memory::Fast, None))?.ok_or("not run")?;
        same("interpreted, fast", one, false, &expected)?;
        let other = run(program, &vm(Mode::Compiled, Memory::Fast, None))?.ok_or("not run")?;
        same("compiled, fast", other, false, &expected)?;
    }
    if kernel && program.memory.is_none() {
        in_kernel(program, &expected, counts)?;
    }
    Ok(())
}

/// Whether skep's verifier accepts it, and Linux 6.18 can look at it. That has oopsed in
/// `check_stack_access_within_bounds` over a generated program: it takes `number += r10` in a function for an address in the
/// stack of some other function, and may find none.
fn is_safe(program: &Generated) -> bool {
    let frame_added = |insn: &Insn| matches!(insn, Insn::Alu { op: AluOp::Add, src: Source::Reg(Reg::R10), .. });
    if program.to_spec().programs.iter().any(|spec| spec.funcs.len() > 1) && program.insns.iter().any(frame_added) {
        return false;
    }
    static TYPES: OnceLock<Option<Btf>> = OnceLock::new();
    let types = TYPES.get_or_init(|| Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux").ok()?).ok());
    let options = skep_verifier::Options { target_btf: types.as_ref(), ..skep_verifier::Options::default() };
    let report = skep_verifier::check(&program.to_spec(), skep_object::ProgramIdx(0), &options);
    matches!(report.verdict, skep_verifier::Verdict::Pass)
}

/// The same by test run, where the kernel accepts the program and runs its type.
fn in_kernel(program: &Generated, expected: &Outcome, counts: &Counts) -> Result<(), String> {
    use ProgramType as P;
    let by_packet = matches!(program.prog_type, P::Xdp | P::SocketFilter | P::SchedCls | P::SchedAct);
    // A ring buffer's consumer and lost elements are not the same; what time it is, is not either.
    if !by_packet || expected.result.is_err() {
        return Ok(());
    }
    if !is_safe(program) {
        return Ok(());
    }
    let Ok(loaded) = load(&program.to_spec(), &LoadOptions::default()) else { return Ok(()) };
    let (bytes, numbers) = input(program);
    for map in loaded.maps().iter().filter(|map| map.name().starts_with("input")) {
        map.update(&0u32.to_ne_bytes(), &numbers, Update::Any).map_err(|error| error.to_string())?;
    }
    let Some(there) = loaded.program_named("prog") else { return Ok(()) };
    let room = Some(bytes.len() + 512);
    let output = there
        .test_run(&TestInput { data: &bytes, data_out_len: room, ..TestInput::default() })
        .map_err(|error| format!("the kernel's test run: {error}"))?;
    let value = expected.result.as_ref().map(|value| *value as u32);
    if value != Ok(output.value) {
        return Err(format!("the kernel returned {:#x}, the interpreter {:x?}", output.value, expected.result));
    }
    // What a socket filter sees begins behind the link header.
    if program.prog_type != P::SocketFilter && output.data != expected.bytes {
        return Err(format!("the kernel's packet:\n{:x?}\nthe interpreter's:\n{:x?}", output.data, expected.bytes));
    }
    for (index, map) in loaded.maps().iter().enumerate() {
        let plain = matches!(map.map_type(), Some(MapType::Array | MapType::Hash | MapType::LruHash));
        let Some(ours) = expected.maps.get(index).filter(|_| plain) else { continue };
        // A hash map's value that a program got by lookup and changed is there too.
        for (key, value) in ours {
            let theirs = map.lookup(key).map_err(|error| error.to_string())?;
            if theirs.as_ref() != Some(value) {
                let name = map.name();
                return Err(format!(
                    "map {name}, key {key:x?}: the kernel has {theirs:x?}, the interpreter {value:x?}"
                ));
            }
        }
    }
    counts.kernel.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// What two differences of the same kind have in common: the first words.
fn kind(why: &str) -> Vec<&str> {
    why.split_whitespace().take(3).collect()
}

/// The program as small as it differs in the same way. The stack stays written: what never was is not the same anywhere.
fn smaller(program: &Generated, kernel: bool, why: &str) -> Generated {
    let written = |program: &Generated| {
        let write = |insn: &&Insn| matches!(insn, Insn::Store { base: Reg::R10, src: Source::Imm(_), .. });
        program.insns.iter().filter(write).count()
    };
    program.shrink(|candidate| {
        written(candidate) == written(program)
            && compare(candidate, kernel, &Counts::default()).is_err_and(|now| kind(&now) == kind(why))
    })
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn every_way_to_run_a_program_gives_the_same() {
    let count = number("SKEP_DIFFERENTIAL", 10_000);
    let first = number("SKEP_DIFFERENTIAL_SEED", 0);
    let root = skep_kernel::privilege::Capabilities::current().has("CAP_SYS_ADMIN");
    if !root {
        eprintln!("needs root for the kernel's part, which is not run");
    }
    if let Ok(path) = std::env::var("SKEP_DIFFERENTIAL_FILE") {
        let text = std::fs::read_to_string(&path).expect("the file can be read");
        let program = Generated::parse(&text).expect("the text of a program");
        if let Err(why) = compare(&program, root, &Counts::default()) {
            panic!("{why}\n{}", smaller(&program, root, &why));
        }
        return;
    }
    let families: Vec<Family> = Family::ALL.iter().copied().filter(|family| family.is_repeatable()).collect();
    // Most are of those that run on plain memory or a packet and use every instruction.
    let exact: Vec<Family> = families.iter().copied().filter(|family| family.is_exact()).collect();
    let counts = Counts::default();
    let next = AtomicU64::new(0);
    let failures = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let enough = failures.lock().expect("not poisoned").len() > 3;
                    if index >= count || enough {
                        break;
                    }
                    let list = if index.is_multiple_of(3) { &families } else { &exact };
                    let family = list[(index / 3) as usize % list.len()];
                    let program = generate(family, first + index, &Options::repeatable());
                    // The kernel loads each; one of eight is enough of that.
                    let kernel = root && index.is_multiple_of(8);
                    if let Err(why) = compare(&program, kernel, &counts) {
                        let small = smaller(&program, kernel, &why);
                        let now = compare(&small, kernel, &Counts::default()).err().unwrap_or_default();
                        failures
                            .lock()
                            .expect("not poisoned")
                            .push(format!("{why}\n{program}\nsmaller:\n{now}\n{small}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("not poisoned");
    assert!(failures.is_empty(), "{} programs differ:\n{}", failures.len(), failures.join("\n\n"));
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} programs the same ({} ended by a fault, {} in the kernel too), {} of types that do not run here",
        load(&counts.run),
        load(&counts.faults),
        load(&counts.kernel),
        load(&counts.skipped)
    );
    assert!(load(&counts.run) * 10 > count * 7, "too many were not run");
    assert!(!root || load(&counts.kernel) * 40 > count, "too few were run by the kernel");
}

/// The comparison is no good if nothing of what a program computes comes out of it.
#[test]
fn a_wrong_number_shows() {
    let vm = vm(Mode::Interpreter, Memory::Checked, Some(50_000));
    let (mut seen, mut changed) = (0, 0);
    for seed in 0..300 {
        let program = generate(Family::ArithMemory, seed, &Options::repeatable());
        let mut wrong = program.clone();
        let place = Choices::seeded(seed).below(wrong.insns.len());
        let Some(Insn::Alu { src: Source::Imm(imm), .. }) = wrong.insns.get_mut(place) else {
            continue;
        };
        *imm ^= 1;
        let (Ok(Some(one)), Ok(Some(other))) = (run(&program, &vm), run(&wrong, &vm)) else { continue };
        changed += 1;
        seen += u32::from(one != other);
    }
    println!("{seen} of {changed} changed numbers are seen");
    assert!(changed > 40 && seen * 2 > changed, "{seen} of {changed}");
}
