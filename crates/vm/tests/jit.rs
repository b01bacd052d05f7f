//! Compiled code against the interpreter: the same program, memory and limits must give the same result, memory, fault
//! and number of instructions, for limits of every length.

use skep_abi::{MapType, ProgramType};
use skep_progen::{Family, Func, Generated, MapDef, Options, generate};
use skep_vm::{Config, Context, Fault, FaultKind, Limits, Memory, Mode, Object, ObjectOptions, Program, Vm};

/// A fault without the addresses of this run.
fn told(fault: &Fault) -> String {
    match &fault.kind {
        FaultKind::Access(access) => format!("{} access {} {}", fault.insn, access.size, access.write),
        FaultKind::Misaligned { size, .. } => format!("{} misaligned {size}", fault.insn),
        other => format!("{} {other}", fault.insn),
    }
}

struct Outcome {
    result: Result<u64, String>,
    memory: Vec<u8>,
    used: u64,
}

fn run(mode: Mode, memory: Memory, insns: Option<u64>, text: &str, bytes: &[u8]) -> Outcome {
    let limits = Limits { insns, time: None, ..Limits::default() };
    let vm = Vm::new(Config { mode, memory, limits, ..Config::default() });
    let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")));
    let program = vm.load_slots("test", ProgramType::Unspec, &slots).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(program.is_compiled(), mode == Mode::Compiled && cfg!(target_arch = "x86_64"));
    let mut copy = bytes.to_vec();
    let mut runner = vm.runner();
    let result = runner.run(&program, &mut Context::memory(&mut copy));
    Outcome { result: result.map_err(|fault| told(&fault)), memory: copy, used: runner.used_insns() }
}

fn agree(text: &str, bytes: &[u8]) {
    agree_to(text, bytes, 64);
}

fn agree_to(text: &str, bytes: &[u8], most: u64) {
    for memory in [Memory::Checked, Memory::Fast] {
        let full = run(Mode::Interpreter, memory, Some(1 << 20), text, bytes);
        if memory == Memory::Fast && full.result.is_err() {
            continue;
        }
        for insns in
            (0..full.used.min(most) + 2).chain([full.used, full.used + 1]).map(Some).chain([Some(1 << 20), None])
        {
            let expected = run(Mode::Interpreter, memory, insns, text, bytes);
            let got = run(Mode::Compiled, memory, insns, text, bytes);
            assert_eq!(got.result, expected.result, "{memory:?}, limit {insns:?}\n{text}");
            assert_eq!(got.memory, expected.memory, "{memory:?}, limit {insns:?}\n{text}");
            if insns.is_some() {
                assert_eq!(got.used, expected.used, "{memory:?}, limit {insns:?}\n{text}");
            }
            if memory == Memory::Fast && got.result.is_err() && insns.is_none() {
                panic!("a fault in fast code");
            }
        }
    }
}

#[test]
fn limits_fall_on_the_same_instruction() {
    agree("r0 = 0\nr0 = 1\nr0 = 2\nexit", &[]);
    agree("r0 = 0\nr1 = 10\nloop: r0 += r1\nr1 += -1\nif r1 != 0 goto loop\nexit", &[]);
    agree(
        "r6 = 1\nr1 = 5\n*(u64 *)(r10 - 8) = r1\ncall f\nr2 = *(u64 *)(r10 - 8)\nr0 += r2\nr0 += r6\nexit\n\
           f: r6 = 77\n*(u64 *)(r10 - 8) = r6\nr0 = r1\nr0 += r1\nif r1 == 0 goto end\nr1 += -1\ncall f\nend: exit",
        &[],
    );
}

#[test]
fn faults_are_the_same() {
    agree("r0 = 1\nr0 = *(u32 *)(r1 + 6)\nr0 = 2\nexit", &[0; 8]);
    agree("r0 = 1\nr0 = *(u32 *)(r1 + 4)\n*(u32 *)(r1 + 5) = 7\nr0 = 2\nexit", &[0; 8]);
    agree("call self\nexit\nself: call self\nexit", &[]);
    agree("r0 = 5\n*(u64 *)(r10 - 16) = 0\n*(u64 *)(r10 - 8) = 0\nlock *(u64 *)(r10 - 15) += r0\nr0 = 1\nexit", &[]);
    agree("r0 = r2\nr0 = *(u8 *)(r10 + 0)\nexit", &[]);
    agree("call f\nr0 = *(u64 *)(r0 + 0)\nexit\nf: r0 = r10\nr0 += -8\n*(u64 *)(r0 + 0) = 5\nexit", &[]);
}

#[test]
fn generated_programs_agree() {
    for seed in 0..60 {
        let program = generate(Family::ArithMemory, seed, &Options::valid());
        let text = program.insns.iter().map(|insn| format!("{insn}\n")).collect::<String>();
        let bytes: Vec<u8> = (0..256u64).map(|i| (i * 37 + seed) as u8).collect();
        agree_to(&text, &bytes, 3);
    }
}

/// A program array of one slot, and a program that calls what stands in it.
fn caller(vm: &Vm) -> Object {
    let text = CALLER.replace("map(programs)", "map_by_idx(0)");
    let insns = skep_isa::assemble(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let array = MapDef::new("programs", MapType::ProgArray, 4, 4, 1);
    let generated = Generated {
        name: "caller".to_owned(),
        family: "caller".to_owned(),
        prog_type: ProgramType::Unspec,
        attach_type: None,
        target: None,
        sleepable: false,
        license: "GPL".to_owned(),
        memory: None,
        insns,
        funcs: vec![Func {
            start: skep_isa::InsnIdx(0),
            name: "prog".to_owned(),
            global: false,
            params: Vec::new(),
            void: false,
        }],
        maps: vec![array],
        kfuncs: Vec::new(),
        notes: Vec::new(),
    };
    vm.load(&generated.to_spec(), &ObjectOptions::default()).expect("it loads")
}

fn engine(mode: Mode, memory: Memory, insns: Option<u64>) -> Vm {
    Vm::new(Config { mode, memory, limits: Limits { insns, time: None, ..Limits::default() }, ..Config::default() })
}

fn bytecode(vm: &Vm, text: &str) -> Program {
    let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")));
    vm.load_slots("target", ProgramType::Unspec, &slots).expect("it loads")
}

const KINDS: [(Mode, Memory, Option<u64>); 6] = [
    (Mode::Interpreter, Memory::Checked, Some(1000)),
    (Mode::Compiled, Memory::Checked, Some(1000)),
    (Mode::Compiled, Memory::Checked, None),
    (Mode::Compiled, Memory::Fast, None),
    (Mode::Compiled, Memory::Fast, Some(1000)),
    (Mode::Interpreter, Memory::Fast, None),
];

/// Calls by a function, so that there is something to come back to.
const CALLER: &str = "r6 = 6\nr7 = 7\nr8 = 8\nr9 = 9\n*(u64 *)(r10 - 8) = 100\nr3 = r1\ncall f\nr0 += r6\nr0 += r7\n\
                      r0 += r8\nr0 += r9\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit\n\
                      f: r6 = 60\nr9 = 90\nr4 = 4\nr2 = map(programs)\nr3 = 0\ncall 12\nr0 = 77\nexit";

#[test]
fn a_tail_call_leads_to_programs_of_every_engine() {
    let targets = [
        ("r0 = r6\nr0 += r9\nr6 = 1000\nr7 = 1000\nr9 = 1000\nexit", Ok(60 + 90 + 30 + 100)),
        (
            "r6 = r4\ncall g\nr0 += r6\nexit\ng: r6 = 5\nr0 = r10\nr0 -= 8\n*(u64 *)(r0 + 0) = 3\nr0 = *(u64 *)(r0 + 0)\nexit",
            Ok(3 + 4 + 30 + 100),
        ),
        ("r0 = *(u8 *)(r1 + 0)\nexit", Ok(42 + 30 + 100)),
        ("r0 = 0\nr0 = *(u64 *)(r1 + 1)\nexit", Err("1 access 8 false".to_owned())),
    ];
    for (text, expected) in targets {
        for outer in KINDS {
            for inner in KINDS {
                if outer.1 == Memory::Fast && expected.is_err() {
                    continue;
                }
                let (outer_vm, inner_vm) = (engine(outer.0, outer.1, outer.2), engine(inner.0, inner.1, inner.2));
                let object = caller(&outer_vm);
                let target = bytecode(&inner_vm, text);
                let array = object.map_named("programs").expect("made");
                array.user().set_program(&[0; 4], target.tail_target(), 0).expect("set");
                let program = object.program_named("prog").expect("loaded");
                let mut memory = [42, 0, 0, 0, 0, 0, 0, 0];
                let result = outer_vm.run(program, &mut Context::memory(&mut memory)).map_err(|fault| told(&fault));
                assert_eq!(result, expected, "{outer:?} calls {inner:?}: {text}");
                array.user().delete(&[0; 4]).expect("emptied");
                let result = outer_vm.run(program, &mut Context::memory(&mut memory)).map_err(|fault| told(&fault));
                assert_eq!(result, Ok(77 + 30 + 100), "{outer:?}, nothing there");
            }
        }
    }
}

#[test]
fn a_limit_behind_a_tail_call_is_exact() {
    let text = "r0 = 1\nr0 = 2\nr0 = 3\nexit";
    for insns in 0..30 {
        let mut results = Vec::new();
        for outer in [Mode::Interpreter, Mode::Compiled] {
            for inner in KINDS {
                let (outer_vm, inner_vm) =
                    (engine(outer, Memory::Checked, Some(insns)), engine(inner.0, inner.1, inner.2));
                let object = caller(&outer_vm);
                let target = bytecode(&inner_vm, text);
                let array = object.map_named("programs").expect("made");
                array.user().set_program(&[0; 4], target.tail_target(), 0).expect("set");
                let mut runner = outer_vm.runner();
                let program = object.program_named("prog").expect("loaded");
                let result = runner.run(program, &mut Context::memory(&mut [0; 8]));
                results.push((result.map_err(|fault| (fault.program.to_string(), told(&fault))), runner.used_insns()));
            }
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "limit {insns}: {results:?}");
    }
}

#[test]
fn a_time_limit_ends_a_compiled_loop() {
    for memory in [Memory::Checked, Memory::Fast] {
        let limit = std::time::Duration::from_millis(20);
        let limits = Limits { insns: None, time: Some(limit), ..Limits::default() };
        let vm = Vm::new(Config { mode: Mode::Compiled, memory, limits, ..Config::default() });
        let program = bytecode(&vm, "r0 = 0\nhere: r0 += 1\ngoto here");
        let fault = vm.run(&program, &mut Context::memory(&mut [])).expect_err("it never ends by itself");
        assert_eq!(fault.kind, FaultKind::TimeLimit { limit });
    }
}

/// Programs come and go from a slot while others run them.
#[test]
fn programs_are_not_dropped_while_they_run() {
    let vm = Vm::new(Config {
        mode: Mode::Compiled,
        memory: Memory::Fast,
        limits: Limits::default(),
        cpus: 3,
        ..Config::default()
    });
    let object = caller(&vm);
    let array = object.map_named("programs").expect("made");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut runner = vm.runner();
                let program = object.program_named("prog").expect("loaded");
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let result = runner.run(program, &mut Context::memory(&mut [0; 8])).expect("no fault");
                    // What the target adds, or that there was none.
                    assert!((130..330).contains(&result), "{result}");
                }
            });
        }
        for round in 0..300 {
            let target = bytecode(&vm, &format!("r0 = {}\nexit", round % 200));
            array.user().set_program(&[0; 4], target.tail_target(), 0).expect("set");
            drop(target);
            if round % 7 == 0 {
                array.user().delete(&[0; 4]).expect("emptied");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let _ = array.user().delete(&[0; 4]);
}

#[test]
fn pages_of_machine_code_are_given_back() {
    let vm = engine(Mode::Compiled, Memory::Fast, None);
    let executable = || {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        let line = |line: &&str| line.contains("r-xp") && line.split_whitespace().count() == 5;
        assert!(!maps.contains("rwxp"), "memory that is writable and executable:\n{maps}");
        maps.lines().filter(line).count()
    };
    let before = executable();
    let programs: Vec<Program> = (0..50).map(|n| bytecode(&vm, &format!("r0 = {n}\nexit"))).collect();
    drop(programs);
    // Other tests compile and drop meanwhile.
    assert!(executable() < before + 40);
}
