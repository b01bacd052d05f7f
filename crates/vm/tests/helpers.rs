//! Helpers and kernel functions in the embedded engine and in the running kernel: the same programs, the same results.
//!
//! The programs are those of `tests/vm/helpers.bpf.c`. The kernel's side takes root.

use skep_abi::ProgramType;
use skep_kernel::load::{LoadOptions, load};
use skep_kernel::{Program as KernelProgram, TestInput};
use skep_object::{MapIdx, ObjectSpec, ProgramIdx};
use skep_vm::context::{Arrival, PacketRunner};
use skep_vm::{Config, Context, Memory, Mode, ObjectOptions, Vm};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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

/// The map with `out`, which has a section to itself.
fn out_map() -> MapIdx {
    let place = spec().maps.iter().position(|map| map.name.ends_with(".bss.out"));
    MapIdx(place.expect("`out` has a section to itself"))
}

fn packet() -> Vec<u8> {
    // An Ethernet frame with an IPv4 header of nothing.
    let mut packet: Vec<u8> = (0..64).collect();
    packet[12..14].copy_from_slice(&[8, 0]);
    packet
}

fn in_kernel(index: ProgramIdx, kind: ProgramType) -> Outcome {
    let options = LoadOptions {
        programs: skep_kernel::load::Selection::Named(vec![spec().programs[index.0].name.clone()]),
        ..LoadOptions::default()
    };
    let loaded = load(spec(), &options).unwrap_or_else(|error| panic!("{error}"));
    let program: &KernelProgram = loaded.program(index).expect("it is loaded");
    let (data, data_out_len) = match kind {
        ProgramType::Syscall | ProgramType::RawTracepoint => (Vec::new(), None),
        _ => (packet(), Some(4096)),
    };
    let input = TestInput { data: &data, data_out_len, ..TestInput::default() };
    let output = program.test_run(&input).unwrap_or_else(|error| panic!("{error}"));
    let bss = loaded.map(out_map()).unwrap().lookup(&[0; 4]).unwrap().unwrap();
    outcome(output.value, &bss, output.data)
}

fn in_vm(index: ProgramIdx, kind: ProgramType, memory: Memory, mode: Mode) -> Outcome {
    let vm = Vm::new(Config { memory, mode, limits: skep_vm::Limits::default(), ..Config::default() });
    let options = ObjectOptions { only: vec![spec().programs[index.0].name.clone()], ..ObjectOptions::default() };
    let object = vm.load(spec(), &options).unwrap_or_else(|error| panic!("{error}"));
    let program = object.program(index).expect("it is loaded");
    let (value, packet) = match kind {
        ProgramType::Syscall | ProgramType::RawTracepoint => {
            let mut context = match kind {
                ProgramType::Syscall => Context::caller(&mut []),
                _ => Context::words(&[0; 4]),
            };
            let run = vm.run(program, &mut context);
            (run.unwrap_or_else(|fault| panic!("{fault}")) as u32, Vec::new())
        }
        _ => {
            let mut runner = PacketRunner::new(&vm, program, None, 4096).unwrap_or_else(|e| panic!("{e}"));
            let run = runner.run(&packet(), &Arrival::default()).unwrap_or_else(|error| panic!("{error}"));
            (run.value as u32, runner.packet().to_vec())
        }
    };
    let map = object.map(out_map()).expect("it has the section");
    outcome(value, &map.user().lookup(&[0; 4], 0).unwrap(), packet)
}

const ENGINES: [(Memory, Mode); 4] = [
    (Memory::Checked, Mode::Interpreter),
    (Memory::Fast, Mode::Interpreter),
    (Memory::Checked, Mode::Compiled),
    (Memory::Fast, Mode::Compiled),
];

#[test]
fn every_program_does_in_the_engine_what_it_does_in_the_kernel() {
    if !is_root("every_program_does_in_the_engine_what_it_does_in_the_kernel") {
        return;
    }
    let mut differences = Vec::new();
    for (index, program) in spec().programs.iter().enumerate() {
        let (index, kind) = (ProgramIdx(index), program.hook.prog_type);
        if program.name == "clocks" {
            continue;
        }
        let kernels = in_kernel(index, kind);
        for (memory, mode) in ENGINES {
            let ours = in_vm(index, kind, memory, mode);
            let how = format!("{} ({memory:?}, {mode:?})", program.name);
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
                differences.push(format!(
                    "{how}: text is\n  {}\nin the kernel\n  {}",
                    shown(&ours.text),
                    shown(&kernels.text)
                ));
            }
            if ours.packet != kernels.packet {
                differences
                    .push(format!("{how}: packet is\n  {:?}\nin the kernel\n  {:?}", ours.packet, kernels.packet));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn clocks_run_with_those_of_the_kernel() {
    if !is_root("clocks_run_with_those_of_the_kernel") {
        return;
    }
    let (index, program) = spec().program("clocks").expect("the file has it");
    let before = in_kernel(index, program.hook.prog_type);
    let ours = in_vm(index, program.hook.prog_type, Memory::Checked, Mode::Interpreter);
    let after = in_kernel(index, program.hook.prog_type);
    for place in 80..85 {
        let (low, high) = (before.results[place], after.results[place]);
        // Ticks are counted from a clock that is set right now and then: a second or two off.
        let slack = if place == 84 { 2000 } else { 0 };
        let now = ours.results[place];
        assert!((low - slack..=high + slack).contains(&now), "clock {place}: {low} <= {now} <= {high}");
    }
    assert!(u32::try_from(ours.results[85]).is_ok());
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
