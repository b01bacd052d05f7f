//! What the verifier says is so: generated programs that it accepts are run in the vm's checked mode on inputs made up at
//! random. None may fault, and every number that an instruction reads must lie in what was computed for it on one of the
//! paths to that instruction.
//!
//! 1,000 programs; `SKEP_SOUNDNESS=100000 cargo test --release -p skep-verifier --test soundness` for more,
//! `SKEP_SOUNDNESS_SEED` to begin elsewhere.
//!
//! Limits: program types that the vm runs. A run that reaches its limit of instructions, and a helper that the vm does not
//! have, tell nothing. Pruning compares all numbers while a trace is asked for, so that a path that is left out had
//! its numbers within those of an earlier one.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use skep_btf::Btf;
use skep_isa::{AluOp, Insn, InsnIdx, Reg, Source, decode};
use skep_object::ProgramIdx;
use skep_progen::{Choices, Family, Generated, Options as Kind, generate};
use skep_verifier::scalar::Scalar;
use skep_verifier::{Limits as Bounds, Options, TraceEvent, TraceValue, Verdict, check};
use skep_vm::context::{Arrival, Needs, supported};
use skep_vm::{BadAddress, Config, Context, FaultKind, Limits, Object, ObjectOptions, Task, Trace, Vm};

/// What was computed for a register before an instruction.
#[derive(Clone, PartialEq, Debug)]
enum Seen {
    /// On some path it is a pointer, or not known.
    Anything,
    /// On each path one of these.
    Numbers(Vec<Scalar>),
}

/// Kept for a register and an instruction; more are folded into one.
const MOST_NUMBERS: usize = 64;

type Computed = BTreeMap<u32, [Option<Seen>; 11]>;

fn note(computed: &mut Computed, event: &TraceEvent<'_>) {
    let row = computed.entry(event.insn.0).or_insert_with(|| [const { None }; 11]);
    for (seen, value) in row.iter_mut().zip(event.registers) {
        let TraceValue::Number(number) = value else {
            *seen = Some(Seen::Anything);
            continue;
        };
        match seen {
            Some(Seen::Anything) => {}
            None => *seen = Some(Seen::Numbers(vec![*number])),
            Some(Seen::Numbers(list)) if list.iter().any(|have| have.contains(number)) => {}
            Some(Seen::Numbers(list)) if list.len() < MOST_NUMBERS => list.push(*number),
            Some(Seen::Numbers(list)) => *list = vec![list.iter().fold(*number, |sum, one| sum.union(one))],
        }
    }
}

/// Registers whose numbers an instruction uses.
fn reads(insn: &Insn) -> Vec<Reg> {
    let source = |src: &Source| if let Source::Reg(reg) = src { Some(*reg) } else { None };
    match insn {
        Insn::Alu { op: AluOp::Mov, src, .. } | Insn::Store { src, .. } => source(src).into_iter().collect(),
        Insn::Alu { dst, src, .. } | Insn::JumpIf { dst, src, .. } => [*dst].into_iter().chain(source(src)).collect(),
        Insn::Neg { dst, .. } | Insn::ByteSwap { dst, .. } => vec![*dst],
        Insn::MovSx { src, .. } | Insn::StoreRelease { src, .. } | Insn::Atomic { src, .. } => vec![*src],
        Insn::Exit => vec![Reg::R0],
        _ => Vec::new(),
    }
}

/// Looks at each instruction before it runs.
struct Watch<'a> {
    computed: &'a Computed,
    slots: &'a [InsnIdx],
    reads: &'a BTreeMap<u32, Vec<Reg>>,
    wrong: Option<String>,
    steps: u64,
}

impl Trace for Watch<'_> {
    fn step(&mut self, op: usize, registers: &[u64]) {
        self.steps += 1;
        let (Some(slot), None) = (self.slots.get(op), &self.wrong) else { return };
        let Some(row) = self.computed.get(&slot.0) else {
            self.wrong = Some(format!("instruction {slot} ran and was never looked at"));
            return;
        };
        for reg in self.reads.get(&slot.0).into_iter().flatten() {
            let (Some(Some(Seen::Numbers(list))), Some(value)) = (row.get(reg.index()), registers.get(reg.index()))
            else {
                continue;
            };
            if !list.iter().any(|number| number.has(*value)) {
                self.wrong = Some(format!("instruction {slot}: {reg} is {value:#x}, computed was {list:?}"));
            }
        }
    }
}

/// What r1 points to, with made-up contents.
enum Given {
    Context(Box<Context<'static>>),
    /// Memory of the caller.
    Memory(Vec<u8>),
}

/// `None` for types that the vm does not run.
fn given(program: &Generated, choices: &mut Choices<'_>) -> Option<Given> {
    let length = 14 + choices.below(200);
    let mut bytes: Vec<u8> = (0..length.max(64)).map(|_| choices.u64() as u8).collect();
    let context = match supported(program.prog_type, program.attach_type).ok()? {
        Needs::Packet(start) => {
            bytes.truncate(length);
            let mut context = Context::packet_hook(program.prog_type, program.attach_type, 2048).ok()?;
            context.set_packet(&bytes, start, false, &Arrival::default()).ok()?;
            context
        }
        Needs::TracepointRecord => {
            // As long as one can be: the verifier does not know which it will be.
            bytes.resize(8192, 5);
            Context::tracepoint(&bytes)
        }
        Needs::Words => Context::words(&[0; 12].map(|_: u64| choices.imm64() as u64)),
        Needs::Registers => {
            bytes.resize(168, 9);
            Context::registers(&bytes)
        }
        Needs::PerfEvent => {
            bytes.resize(168, 9);
            Context::perf_event(&bytes, choices.u64(), choices.u64())?
        }
        Needs::Caller => {
            bytes.resize(65536, 3);
            return Some(Given::Memory(bytes));
        }
        _ => return None,
    };
    Some(Given::Context(Box::new(context)))
}

/// Fills the first elements of maps with anything.
fn fill(object: &Object, choices: &mut Choices<'_>) {
    for spec in &object.spec().maps {
        let Some(map) = object.map_named(&spec.name).filter(|_| spec.data.is_none()) else { continue };
        let value: Vec<u8> = (0..map.user().value_len()).map(|_| choices.imm64() as u8).collect();
        for element in 0..4u8 {
            let mut key = vec![0; map.key_size() as usize];
            if let Some(first) = key.first_mut() {
                *first = element;
            }
            // What cannot be filled so stays empty.
            let _ = map.user().update(&key, &value, 0);
        }
    }
}

/// The task that programs run in: one of which everything is known, and whose memory cannot be read.
struct Somebody;

impl Task for Somebody {
    fn tid(&self) -> u32 {
        1001
    }

    fn pid(&self) -> u32 {
        1000
    }

    fn uid(&self) -> u32 {
        7
    }

    fn gid(&self) -> u32 {
        8
    }

    fn comm(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(b"somebody")
    }

    fn cgroup_id(&self) -> Option<u64> {
        Some(1)
    }

    fn read(&self, addr: u64, _: &mut [u8]) -> Result<(), BadAddress> {
        Err(BadAddress(addr))
    }
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    runs: AtomicU64,
    steps: AtomicU64,
    cut: AtomicU64,
    unwilling: AtomicU64,
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Checks a program, and if it is accepted runs it. `Err` says what went wrong.
fn examine(program: &Generated, btf: Option<&Btf>, counts: &Counts) -> Result<(), String> {
    let spec = program.to_spec();
    let computed = RefCell::new(Computed::new());
    let tracer = |event: &TraceEvent<'_>| note(&mut computed.borrow_mut(), event);
    // Programs that take long are as well looked at by `cargo xtask agree`.
    let limits = Bounds { insns: 30_000, ..Bounds::default() };
    let options = Options { target_btf: btf, trace: Some(&tracer), limits, ..Options::default() };
    let report = check(&spec, ProgramIdx(0), &options);
    if report.verdict != Verdict::Pass {
        return Ok(());
    }
    add(&counts.accepted, 1);
    let computed = computed.into_inner();
    let Some(decoded) = spec.programs.first().and_then(|program| decode(&program.insns).ok()) else { return Ok(()) };
    let reads: BTreeMap<u32, Vec<Reg>> = decoded.iter().map(|(at, insn)| (at.0, reads(insn))).collect();
    let seed = program.insns.iter().fold(7, |sum: u64, insn| sum.wrapping_mul(31).wrapping_add(insn.slots().into()));
    let mut choices = Choices::seeded(seed ^ decoded.len() as u64);
    for _ in 0..3 {
        let limits = Limits { insns: Some(100_000), time: None, ..Limits::default() };
        let vm = Vm::new(Config { limits, cpus: 1, task: Arc::new(Somebody), ..Config::default() });
        let object = vm.load(&spec, &ObjectOptions::default());
        let (Ok(object), Some(given)) = (object, given(program, &mut choices)) else {
            add(&counts.unwilling, 1);
            return Ok(());
        };
        let Some(loaded) = object.program(ProgramIdx(0)) else { return Ok(()) };
        fill(&object, &mut choices);
        let slots: Vec<InsnIdx> = (0..decoded.len()).map(|op| loaded.slot_of(op)).collect();
        let mut watch = Watch { computed: &computed, slots: &slots, reads: &reads, wrong: None, steps: 0 };
        let result = match given {
            Given::Context(mut context) => vm.runner().run_traced(loaded, &mut context, &mut watch),
            Given::Memory(mut memory) => vm.runner().run_traced(loaded, &mut Context::caller(&mut memory), &mut watch),
        };
        add(&counts.runs, 1);
        add(&counts.steps, watch.steps);
        if let Some(wrong) = watch.wrong {
            return Err(wrong);
        }
        match result {
            Ok(_) => {}
            Err(fault) => match fault.kind {
                FaultKind::InsnLimit { .. } | FaultKind::TimeLimit { .. } | FaultKind::Unavailable { .. } => {
                    add(&counts.cut, 1);
                }
                _ => return Err(format!("accepted, and then: {fault}")),
            },
        }
    }
    Ok(())
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn accepted_programs_do_what_was_computed() {
    let count = number("SKEP_SOUNDNESS", 1_000);
    let first = number("SKEP_SOUNDNESS_SEED", 0);
    let btf = skep_kernel::kernel_btf().ok();
    // The vm has no kernel objects.
    let families: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| family.is_loadable() && !matches!(family, Family::Objects | Family::Sockets))
        .collect();
    let (counts, next) = (Counts::default(), AtomicU64::new(0));
    let failures = Mutex::new(HashSet::new());
    let failed = || failures.lock().expect("not poisoned").len();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || failed() > 3 {
                        break;
                    }
                    let family = families[index as usize % families.len()];
                    let program = generate(family, first + index, &Kind::mixed());
                    let btf = btf.as_ref();
                    if let Err(why) = examine(&program, btf, &counts) {
                        let small = program.shrink(|candidate| examine(candidate, btf, &Counts::default()).is_err());
                        let now = examine(&small, btf, &Counts::default()).err().unwrap_or_default();
                        failures.lock().expect("not poisoned").insert(format!("{why}\nsmaller: {now}\n{small}"));
                    }
                }
            });
        }
    });
    let failures: Vec<String> = failures.into_inner().expect("not poisoned").into_iter().collect();
    assert!(failures.is_empty(), "{} programs:\n{}", failures.len(), failures.join("\n\n"));
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} programs accepted, {} runs, {} instructions; {} runs cut short, {} programs that the vm does not run",
        load(&counts.accepted),
        load(&counts.runs),
        load(&counts.steps),
        load(&counts.cut),
        load(&counts.unwilling)
    );
    assert!(load(&counts.runs) > count / 2, "too few were run");
}
