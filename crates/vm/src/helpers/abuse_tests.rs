//! Every helper and kernel function with any arguments, in the checked mode: a result or a fault, never a byte changed that
//! is not the program's own, and in both engines the same.

use super::{by_id, kfunc, table};
use crate::code::{Callee, FUNC_TAG, Linked, Resolve};
use crate::context::{Arrival, PacketRunner, RunError};
use crate::env::Limits;
use crate::fault::{Fault, FaultKind};
use crate::helper::Builtin;
use crate::host::{Clock, Host, Print};
use crate::map::{Definition, Map, SpecialField, SpecialKind};
use crate::memory::{Region, RegionName};
use crate::program::{Config, Mode, Vm};
use crate::{Context, Memory};
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use skep_abi::{MapType, ProgramType};
use skep_isa::{AluOp, Call, Insn, InsnIdx, Reg, Size, Source, Wide, Width};
use std::sync::Arc;

/// What goes into a register.
#[derive(Clone, Debug)]
enum Arg {
    Number(u64),
    /// Bytes below the frame pointer.
    Stack(i16),
    /// Bytes into the caller's memory or the context.
    Context(i16),
    /// A map, by its place in [`maps`].
    Map(i32),
    /// Bytes into the value of the map with a lock, or of the plain array.
    Value(i32, u32),
    Function,
    /// What the call before returned.
    Last,
}

#[derive(Clone, Debug)]
struct Step {
    function: usize,
    args: Vec<Arg>,
}

/// All that can be called but the lock, which waits for a second where it is given a number that is none.
fn functions() -> Vec<&'static Builtin> {
    let helpers = (1..=211).filter(|id| *id != 93).filter_map(by_id);
    helpers.chain(table::KFUNCS.iter().filter_map(|function| kfunc(function.name))).collect()
}

fn maps() -> Vec<Arc<Map>> {
    let define = |map_type, key, value, entries| Definition::new("map", map_type, key, value, entries);
    let lock = Definition {
        special: vec![SpecialField { kind: SpecialKind::SpinLock, offset: 0 }],
        ..define(MapType::Array, 4, 16, 2)
    };
    let definitions = [
        lock,
        define(MapType::Array, 4, 32, 4),
        define(MapType::Hash, 8, 16, 3),
        define(MapType::PercpuArray, 4, 8, 2),
        define(MapType::LruHash, 4, 8, 2),
        Definition { flags: 1, ..define(MapType::LpmTrie, 8, 8, 4) },
        define(MapType::Queue, 0, 8, 2),
        define(MapType::BloomFilter, 0, 8, 8),
        define(MapType::Ringbuf, 0, 0, 4096),
        define(MapType::PerfEventArray, 4, 4, 2),
    ];
    definitions.iter().map(|definition| Map::create(definition, 2).unwrap()).collect()
}

struct Everything {
    functions: Vec<&'static Builtin>,
    maps: Vec<Arc<Map>>,
    data: Vec<Region>,
}

impl Resolve for Everything {
    fn finish(&mut self) -> Linked {
        Linked { maps: self.maps.clone(), data: std::mem::take(&mut self.data), refusals: Vec::new() }
    }
    fn helper(&mut self, _: InsnIdx, _: u32) -> Result<Callee, String> {
        Err("called by their places".to_owned())
    }
    fn kfunc(&mut self, _: InsnIdx, place: i32, _: i16) -> Result<Callee, String> {
        let builtin = self.functions[place as usize];
        Ok(Callee { function: builtin.function, id: builtin.id, host: None })
    }
    fn wide(&mut self, _: InsnIdx, value: Wide) -> Result<u64, String> {
        match value {
            Wide::MapFd(place) => Ok(Arc::as_ptr(&self.maps[place as usize]).expose_provenance() as u64),
            Wide::MapValue { fd, off } => {
                let map = &self.maps[fd as usize];
                let start = map.array_facts().unwrap().base.expose_provenance() as u64;
                let name = RegionName::MapValue(map.name().into());
                self.data.push(Region { start, len: map.value_size().into(), writable: true, name });
                Ok(start + u64::from(off))
            }
            other => Err(format!("{other:?}")),
        }
    }
}

fn program(steps: &[Step]) -> Vec<(InsnIdx, Insn)> {
    let mov = |dst, src| Insn::Alu { width: Width::W64, op: AluOp::Mov, dst, src };
    let add = |dst, bytes: i16| Insn::Alu { width: Width::W64, op: AluOp::Add, dst, src: Source::Imm(bytes.into()) };
    let mut insns = vec![mov(Reg::R6, Source::Reg(Reg::R1)), mov(Reg::R9, Source::Imm(0))];
    // Something to find on the stack.
    for (slot, value) in (1..=64i16).zip([0, 1, 0x6c6c_6568, 0x2573_2564, -1, 64, 1 << 28, 7].into_iter().cycle()) {
        insns.push(Insn::Store { size: Size::DW, base: Reg::R10, off: -8 * slot, src: Source::Imm(value) });
    }
    for step in steps {
        for (arg, dst) in step.args.iter().zip([Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5]) {
            match *arg {
                Arg::Number(value) => insns.push(Insn::LoadWide { dst, value: Wide::Imm64(value) }),
                Arg::Stack(bytes) => insns.extend([mov(dst, Source::Reg(Reg::R10)), add(dst, bytes)]),
                Arg::Context(bytes) => insns.extend([mov(dst, Source::Reg(Reg::R6)), add(dst, bytes)]),
                Arg::Map(place) => insns.push(Insn::LoadWide { dst, value: Wide::MapFd(place) }),
                Arg::Value(fd, off) => insns.push(Insn::LoadWide { dst, value: Wide::MapValue { fd, off } }),
                Arg::Function => insns.push(Insn::LoadWide { dst, value: Wide::Func(0) }),
                Arg::Last => insns.push(mov(dst, Source::Reg(Reg::R9))),
            }
        }
        insns.push(Insn::Call(Call::Kfunc { btf_id: step.function as i32, btf_idx: 0 }));
        insns.push(mov(Reg::R9, Source::Reg(Reg::R0)));
    }
    insns.extend([mov(Reg::R0, Source::Imm(0)), Insn::Exit]);
    let slots = |insn: &Insn| insn.encode().as_slice().len() as i32;
    let callback: i32 = insns.iter().map(slots).sum();
    insns.extend([mov(Reg::R0, Source::Imm(0)), Insn::Exit]);
    let mut at = 0;
    let mut placed = Vec::new();
    for mut insn in insns {
        if let Insn::LoadWide { value: Wide::Func(target), .. } = &mut insn {
            *target = callback - at - 1;
        }
        placed.push((InsnIdx(at as u32), insn));
        at += slots(&insn);
    }
    placed
}

fn arg() -> impl Strategy<Value = Arg> {
    prop_oneof![
        4 => (0u64..80).prop_map(Arg::Number),
        1 => any::<u64>().prop_map(Arg::Number),
        1 => any::<i32>().prop_map(|number| Arg::Number(number as u32 as u64)),
        1 => (0u64..20).prop_map(|place| Arg::Number(FUNC_TAG + place)),
        6 => (-520i16..16).prop_map(|bytes| Arg::Stack(bytes & !7)),
        1 => (-520i16..16).prop_map(Arg::Stack),
        3 => (-16i16..72).prop_map(Arg::Context),
        4 => (0i32..10).prop_map(Arg::Map),
        3 => (0i32..2, 0u32..40).prop_map(|(map, bytes)| Arg::Value(map, bytes)),
        1 => Just(Arg::Function),
        3 => Just(Arg::Last),
    ]
}

fn steps(functions: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..functions, proptest::collection::vec(arg(), 5)).prop_map(|(function, args)| Step { function, args });
    proptest::collection::vec(step, 1..8)
}

/// Programs of the first test; by `SKEP_ABUSE` more.
static CASES: std::sync::LazyLock<u32> =
    std::sync::LazyLock::new(|| std::env::var("SKEP_ABUSE").ok().and_then(|text| text.parse().ok()).unwrap_or(1500));

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

/// The same time, the same numbers and nobody to print to, so that two engines see the same.
struct Still;

impl Host for Still {
    fn now_ns(&self, _: Clock) -> u64 {
        64
    }
    fn random_u32(&self) -> u32 {
        8
    }
    fn print(&self, _: Print<'_>) {}
}

fn engine(mode: Mode) -> Vm {
    let limits = Limits { insns: Some(20_000), ..Limits::default() };
    Vm::new(Config { memory: Memory::Checked, mode, limits, cpus: 2, host: Arc::new(Still), ..Config::default() })
}

/// How a run ended: where and why, but for addresses, which are different ones each time.
type End = Option<(InsnIdx, std::mem::Discriminant<FaultKind>)>;

fn end(run: Result<u64, Fault>) -> End {
    run.err().map(|fault| (fault.insn, std::mem::discriminant(&fault.kind)))
}

#[test]
fn no_arguments_lead_a_helper_out_of_the_programs_memory() {
    let functions = functions();
    let engines = [Mode::Interpreter, Mode::Compiled].map(engine);
    let done = std::cell::Cell::new(0u32);
    let result = runner(*CASES).run(&steps(functions.len()), |steps| {
        let mut ends = Vec::new();
        for vm in &engines {
            // Maps of its own, as what a run leaves there decides how the next one ends.
            let mut everything = Everything { functions: functions.clone(), maps: maps(), data: Vec::new() };
            let loaded = vm.load_insns("abuse", ProgramType::Unspec, &program(&steps), &mut everything).unwrap();
            let mut memory = [0xa5u8; 192];
            let (before, rest) = memory.split_at_mut(64);
            let (own, after) = rest.split_at_mut(64);
            let mut runner = vm.runner();
            let run = runner.run(&loaded, &mut Context::memory(own));
            prop_assert!(before.iter().chain(after.iter()).all(|byte| *byte == 0xa5));
            ends.push((end(run), runner.used_insns()));
        }
        prop_assert_eq!(&ends[0], &ends[1]);
        done.set(done.get() + u32::from(ends[0].0.is_none()));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        done.get() > 100,
        "only {} programs ran to their end: the arguments are too wild to test anything",
        done.get()
    );
}

#[test]
fn nor_where_there_is_a_packet() {
    let functions = functions();
    let engines = [Mode::Interpreter, Mode::Compiled].map(engine);
    let packet: Vec<u8> = (0..90).collect();
    for kind in [ProgramType::Xdp, ProgramType::SchedCls, ProgramType::CgroupSkb] {
        let result = runner(*CASES / 4).run(&steps(functions.len()), |steps| {
            let mut ends = Vec::new();
            for vm in &engines {
                let mut everything = Everything { functions: functions.clone(), maps: maps(), data: Vec::new() };
                let loaded = vm.load_insns("abuse", kind, &program(&steps), &mut everything).unwrap();
                let mut runner = PacketRunner::new(vm, &loaded, None, 2048).unwrap();
                let end = match runner.run(&packet, &Arrival::default()) {
                    Err(RunError::Fault(fault)) => end(Err(fault)),
                    _ => None,
                };
                prop_assert!(runner.packet().len() <= 1 << 17);
                ends.push((end, runner.packet().to_vec()));
            }
            prop_assert_eq!(&ends[0].0, &ends[1].0);
            prop_assert_eq!(ends[0].1.len(), ends[1].1.len());
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}
