//! Helpers and kernel functions in the embedded engine and in the running kernel: the same programs, the same results.
//!
//! The programs are those of `tests/vm/helpers.bpf.c`. The kernel's side takes root.

use proptest::collection;
use proptest::prelude::*;
use proptest::test_runner::{Config as ProptestConfig, TestRunner};
use skep_abi::ProgramType;
use skep_kernel::load::{LoadOptions, Loaded, Selection, load};
use skep_kernel::{TestInput, Update};
use skep_object::{MapIdx, ObjectSpec, ProgramIdx};
use skep_vm::context::{Arrival, PacketRunner};
use skep_vm::{BadAddress, Config, Context, Limits, Memory, Mode, Object, ObjectOptions, Task, Vm};
use std::borrow::Cow;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// As many results as `out` has in the C file, and the bytes of its text.
const RESULTS: usize = 96;
const TEXT: usize = 512;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm").join(name)
}

fn compiled(name: &str) -> ObjectSpec {
    let compiled = skep_cc::Compiler::from_env().compile(&source(name)).unwrap_or_else(|error| panic!("{error}"));
    ObjectSpec::parse(name, &compiled.object).unwrap_or_else(|error| panic!("{error}"))
}

fn spec() -> &'static ObjectSpec {
    static SPEC: OnceLock<ObjectSpec> = OnceLock::new();
    SPEC.get_or_init(|| compiled("helpers.bpf.c"))
}

/// Whether the kernel may be asked.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: needs root, not run");
    }
    root
}

/// What a program left behind.
#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    value: u32,
    results: Vec<i64>,
    text: Vec<u8>,
    packet: Vec<u8>,
}

fn outcome(value: u32, out: &[u8], packet: Vec<u8>) -> Outcome {
    let (words, text) = out.split_at(RESULTS * 8);
    let results = words.as_chunks().0.iter().map(|word| i64::from_ne_bytes(*word)).collect();
    Outcome { value, results, text: text[..TEXT].to_vec(), packet }
}

/// The map of a section of the file.
fn section(name: &str) -> MapIdx {
    let place = spec().maps.iter().position(|map| map.name.ends_with(name));
    MapIdx(place.expect("the file has the section"))
}

fn packet() -> Vec<u8> {
    // An Ethernet frame with an IPv4 header of nothing.
    let mut packet: Vec<u8> = (0..64).collect();
    packet[12..14].copy_from_slice(&[8, 0]);
    packet
}

/// A program loaded in the kernel.
struct InKernel {
    loaded: Loaded,
    index: ProgramIdx,
    kind: ProgramType,
}

impl InKernel {
    fn load(index: ProgramIdx) -> InKernel {
        let program = &spec().programs[index.0];
        let programs = Selection::Named(vec![program.name.clone()]);
        let options = LoadOptions { programs, ..LoadOptions::default() };
        let loaded = load(spec(), &options).unwrap_or_else(|error| panic!("{error}"));
        InKernel { loaded, index, kind: program.hook.prog_type }
    }

    fn set_input(&self, input: &[u8]) {
        self.loaded.map(section(".bss.in")).unwrap().update(&[0; 4], input, Update::Any).unwrap();
    }

    fn run(&self) -> Outcome {
        let program = self.loaded.program(self.index).expect("it is loaded");
        let (data, data_out_len) = match self.kind {
            ProgramType::Syscall | ProgramType::RawTracepoint => (Vec::new(), None),
            _ => (packet(), Some(4096)),
        };
        let input = TestInput { data: &data, data_out_len, ..TestInput::default() };
        let output = program.test_run(&input).unwrap_or_else(|error| panic!("{error}"));
        let out = self.loaded.map(section(".bss.out")).unwrap().lookup(&[0; 4]).unwrap().unwrap();
        outcome(output.value, &out, output.data)
    }
}

/// A program loaded in the embedded engine.
struct InVm {
    vm: Vm,
    object: Object,
    index: ProgramIdx,
}

impl InVm {
    fn load(index: ProgramIdx, memory: Memory, mode: Mode) -> InVm {
        InVm::load_with(index, Config { memory, mode, limits: Limits::default(), ..Config::default() })
    }

    fn load_with(index: ProgramIdx, config: Config) -> InVm {
        let vm = Vm::new(config);
        let options = ObjectOptions { only: vec![spec().programs[index.0].name.clone()], ..ObjectOptions::default() };
        let object = vm.load(spec(), &options).unwrap_or_else(|error| panic!("{error}"));
        InVm { vm, object, index }
    }

    fn set_input(&self, input: &[u8]) {
        self.object.map(section(".bss.in")).unwrap().user().update(&[0; 4], input, 0).unwrap();
    }

    fn run(&self) -> Outcome {
        let program = self.object.program(self.index).expect("it is loaded");
        let (value, packet) = match program.kind() {
            kind @ (ProgramType::Syscall | ProgramType::RawTracepoint) => {
                let mut context = match kind {
                    ProgramType::Syscall => Context::caller(&mut []),
                    _ => Context::words(&[0; 4]),
                };
                let run = self.vm.run(program, &mut context);
                (run.unwrap_or_else(|fault| panic!("{fault}")) as u32, Vec::new())
            }
            _ => {
                let runner = PacketRunner::new(&self.vm, program, None, 4096);
                let mut runner = runner.unwrap_or_else(|error| panic!("{error}"));
                let run = runner.run(&packet(), &Arrival::default()).unwrap_or_else(|error| panic!("{error}"));
                (run.value as u32, runner.packet().to_vec())
            }
        };
        let map = self.object.map(section(".bss.out")).expect("it has the section");
        outcome(value, &map.user().lookup(&[0; 4], 0).unwrap(), packet)
    }
}

const ENGINES: [(Memory, Mode); 4] = [
    (Memory::Checked, Mode::Interpreter),
    (Memory::Fast, Mode::Interpreter),
    (Memory::Checked, Mode::Compiled),
    (Memory::Fast, Mode::Compiled),
];

/// Bytes of `in` that begin with device and inode of this process's id namespace.
fn own_namespace() -> Vec<u8> {
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
    let mut bytes = [namespace.dev().to_ne_bytes(), namespace.ino().to_ne_bytes()].concat();
    bytes.resize(spec().maps[section(".bss.in").0].value_size as usize, 0);
    bytes
}

fn differences_of(how: &str, ours: &Outcome, kernels: &Outcome) -> Vec<String> {
    let mut differences = Vec::new();
    if ours.value != kernels.value {
        differences.push(format!("{how} returns {}, in the kernel {}", ours.value, kernels.value));
    }
    for (place, (a, b)) in ours.results.iter().zip(&kernels.results).enumerate() {
        if a != b {
            differences.push(format!("{how}: R({place}) is {a} ({a:#x}), in the kernel {b} ({b:#x})"));
        }
    }
    if ours.text != kernels.text {
        let shown = |text: &[u8]| text.escape_ascii().to_string();
        differences.push(format!("{how}: text is\n  {}\nin the kernel\n  {}", shown(&ours.text), shown(&kernels.text)));
    }
    if ours.packet != kernels.packet {
        differences.push(format!("{how}: packet is\n  {:?}\nin the kernel\n  {:?}", ours.packet, kernels.packet));
    }
    differences
}

#[test]
fn every_program_does_in_the_engine_what_it_does_in_the_kernel() {
    if !is_root("every_program_does_in_the_engine_what_it_does_in_the_kernel") {
        return;
    }
    let mut differences = Vec::new();
    for (index, program) in spec().programs.iter().enumerate() {
        let index = ProgramIdx(index);
        if program.name == "clocks" || !program.hook.autoload {
            continue;
        }
        let kernel = InKernel::load(index);
        kernel.set_input(&own_namespace());
        let kernels = kernel.run();
        if program.name == "task" {
            assert_eq!(kernels.results[10], 0, "the namespace is the test's own");
        }
        for (memory, mode) in ENGINES {
            let engine = InVm::load(index, memory, mode);
            engine.set_input(&own_namespace());
            let ours = engine.run();
            let how = format!("{} ({memory:?}, {mode:?})", program.name);
            differences.extend(differences_of(&how, &ours, &kernels));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn clocks_run_with_those_of_the_kernel() {
    if !is_root("clocks_run_with_those_of_the_kernel") {
        return;
    }
    let (index, _) = spec().program("clocks").expect("the file has it");
    let before = InKernel::load(index).run();
    let ours = InVm::load(index, Memory::Checked, Mode::Interpreter).run();
    let after = InKernel::load(index).run();
    for place in 80..85 {
        let (low, high) = (before.results[place], after.results[place]);
        // Ticks are counted from a clock that is set right now and then: a second or two off.
        let slack = if place == 84 { 2000 } else { 0 };
        let now = ours.results[place];
        assert!((low - slack..=high + slack).contains(&now), "clock {place}: {low} <= {now} <= {high}");
    }
    assert!(u32::try_from(ours.results[85]).is_ok());
}

/// The task that the C file describes.
struct MadeUp;

impl Task for MadeUp {
    fn tid(&self) -> u32 {
        1
    }
    fn pid(&self) -> u32 {
        1
    }
    fn uid(&self) -> u32 {
        1
    }
    fn gid(&self) -> u32 {
        1
    }
    fn comm(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(b"made-up")
    }
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        let mut pages = vec![0; 8192];
        pages[..5].copy_from_slice(b"hello");
        pages[4090..4099].copy_from_slice(b"two pages");
        pages[8188..].copy_from_slice(b"end.");
        let from = addr.checked_sub(0x10000).ok_or(BadAddress(addr))? as usize;
        into.copy_from_slice(pages.get(from..from + into.len()).ok_or(BadAddress(addr))?);
        Ok(())
    }
}

#[test]
fn user_memory_comes_from_the_task() {
    let (index, _) = spec().program("user_strings").unwrap();
    for (memory, mode) in ENGINES {
        let task: Arc<dyn Task> = Arc::new(MadeUp);
        let ours = InVm::load_with(index, Config { memory, mode, task, ..Config::default() }).run();
        let (fault, invalid, too_big) = (-i64::from(libc::EFAULT), -i64::from(libc::EINVAL), -i64::from(libc::E2BIG));
        let results = [6, 6, 4, fault, fault, 0, invalid, 10, 0, too_big, fault, 6, 3, fault, 0];
        assert_eq!(ours.results[..results.len()], results, "{memory:?} {mode:?}");
        let text = ours.text.escape_ascii().to_string().replace("\\x00", ".");
        let expected = "hello.##########hello...........hel.####........################two pages.######";
        assert_eq!(&text[..expected.len()], expected);
        // What a failed read leaves in a dynptr's memory is not said: that is at its start here.
        assert_eq!(&text[138..144], "hello.");
        assert_eq!(&text[148..151], "he.");
        assert_eq!(&text[160..164], "ello");
    }
}

#[test]
fn perf_records_carry_as_much_of_the_packet_as_is_asked_for() {
    let (index, _) = spec().program("perf_with_packet").unwrap();
    let engine = InVm::load(index, Memory::Checked, Mode::Interpreter);
    assert_eq!(engine.run().results[..3], [0, 0, -i64::from(libc::EFAULT)]);
    let mut records = Vec::new();
    let events = engine.object.map_named("events").unwrap().user();
    events.poll_perf(&mut |_, record| records.push(record.to_vec())).unwrap();
    assert_eq!(records, [[&5u64.to_ne_bytes(), &packet()[..16]].concat(), vec![5, 0, 0, 0]]);
}

/// Bytes of `in` of the C file.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let letter = prop_oneof![
        6 => proptest::sample::select(b"aAbB01279fFxX- \t".to_vec()),
        1 => any::<u8>(),
        1 => Just(0u8),
    ];
    let text = prop_oneof![
        collection::vec(letter, 0..43),
        "[ \\t]{0,2}-?(0x|0X|0)?[0-9a-fA-F]{0,20}".prop_map(String::into_bytes),
        "[ab]{0,6}".prop_map(String::into_bytes),
    ];
    let terminated = text.prop_map(|mut text| {
        text.resize(44, 0);
        text
    });
    let number = prop_oneof![3 => 0u32..80, 1 => any::<u32>()];
    let operation = (0u32..8, number.clone(), number.clone(), number.clone());
    let flags = prop_oneof![4 => proptest::sample::select(vec![0u64, 8, 10, 16]), 1 => 0u64..40];
    let count = prop_oneof![8 => 0u64..50, 1 => any::<u64>()];
    let ends = prop_oneof![(-30i32..30, -30i32..30), any::<(i32, i32)>(), (0i32..5, 8388600i32..8388620)];
    let words = collection::vec(prop_oneof![Just(0u64), any::<u64>()], 8);
    let texts = (terminated.clone(), terminated);
    (flags, count, any::<u32>(), ends, texts, words, collection::vec(operation, 8)).prop_map(
        |(flags, count, len, (start, end), (a, b), words, operations)| {
            let mut bytes = [flags.to_ne_bytes(), count.to_ne_bytes()].concat();
            bytes.extend([len.to_ne_bytes(), start.to_ne_bytes(), end.to_ne_bytes()].concat());
            bytes.extend(a);
            bytes.extend(b);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
            let numbers = operations.into_iter().flat_map(|(kind, offset, len, other)| [kind, offset, len, other]);
            bytes.extend(numbers.flat_map(u32::to_ne_bytes));
            bytes
        },
    )
}

#[test]
fn generated_input_gives_what_it_gives_in_the_kernel() {
    if !is_root("generated_input_gives_what_it_gives_in_the_kernel") {
        return;
    }
    for (index, program) in spec().programs.iter().enumerate() {
        if !program.name.starts_with("generated_") {
            continue;
        }
        let index = ProgramIdx(index);
        let kernel = InKernel::load(index);
        let engines = ENGINES.map(|(memory, mode)| (memory, mode, InVm::load(index, memory, mode)));
        let size = spec().maps[section(".bss.in").0].value_size as usize;
        let mut runner =
            TestRunner::new(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() });
        let result = runner.run(&input(), |input| {
            assert_eq!(input.len(), size);
            kernel.set_input(&input);
            let kernels = kernel.run();
            for (memory, mode, engine) in &engines {
                engine.set_input(&input);
                let how = format!("{} ({memory:?}, {mode:?})", program.name);
                let differences = differences_of(&how, &engine.run(), &kernels);
                assert!(differences.is_empty(), "{}\nwith {}", differences.join("\n"), input.escape_ascii());
            }
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// What a program that misuses a helper must end with: what stands above it as `// fault:` or `// value:`.
fn expectations(source: &str) -> Vec<(String, Result<i32, String>)> {
    let mut found = Vec::new();
    let mut expected = None;
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("// fault: ") {
            expected = Some(Err(text.to_owned()));
        } else if let Some(text) = line.strip_prefix("// value: ") {
            expected = Some(Ok(text.parse().expect("a number")));
        } else if let Some(rest) = line.strip_prefix("SEC(\"syscall\") int ") {
            let name = rest.split('(').next().expect("a name").to_owned();
            found.push((name, expected.take().expect("what it ends with stands above it")));
        }
    }
    found
}

#[test]
fn misuse_ends_with_a_fault() {
    let spec = compiled("helpers_misused.bpf.c");
    let text = std::fs::read_to_string(source("helpers_misused.bpf.c")).unwrap();
    let cases = expectations(&text);
    assert_eq!(cases.len(), spec.programs.len());
    for mode in [Mode::Interpreter, Mode::Compiled] {
        for (name, expected) in &cases {
            let vm = Vm::new(Config { memory: Memory::Checked, mode, ..Config::default() });
            let only = vec![name.clone(), "report".to_owned()];
            let object = vm.load(&spec, &ObjectOptions { only, ..ObjectOptions::default() });
            let object = object.unwrap_or_else(|error| panic!("{error}"));
            let program = object.program_named(name).unwrap();
            let run = vm.run(program, &mut Context::caller(&mut []));
            match (run, expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value as i32, *expected, "{name} ({mode:?})"),
                (Err(fault), Err(expected)) => {
                    assert!(fault.to_string().contains(expected), "{name} ({mode:?}): {fault}, not {expected:?}");
                }
                (run, expected) => panic!("{name} ({mode:?}): {run:?}, not {expected:?}"),
            }
            // Whatever a program left reserved was given back: a new record comes through.
            let report = object.program_named("report").unwrap();
            assert_eq!(vm.run(report, &mut Context::caller(&mut [])), Ok(0), "{name}");
            let mut last = Vec::new();
            let ring = object.map_named("ring").unwrap().user();
            ring.poll(&mut |record| {
                last = record.to_vec();
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(last, b"still here", "{name} ({mode:?})");
        }
    }
}
