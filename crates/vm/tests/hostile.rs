//! Programs that no verifier would pass, and helpers that take their time: what the checked mode and the limits are for.
//! Each runs in both engines, which must agree.

use skep_abi::{MapType, ProgramType};
use skep_isa::Raw;
use skep_vm::context::{Arrival, PacketRunner};
use skep_vm::{Config, Context, FaultKind, Helper, Limits, Memory, Mode, Vm};
use std::time::{Duration, Instant};

fn slots(text: &str) -> Vec<Raw> {
    skep_isa::encode(&skep_isa::assemble(text).unwrap_or_else(|error| panic!("{error:?}")))
}

const ENGINES: [Mode; 2] = [Mode::Interpreter, Mode::Compiled];

/// A helper that changes the packet does not take its bytes from there, whatever was read last: the two would be one memory.
#[test]
fn bytes_for_the_packet_do_not_come_from_the_packet() {
    let text = "
        r6 = r1
        r7 = *(u32 *)(r1 + 0)
        r2 = *(u8 *)(r7 + 0)
        r3 = *(u8 *)(r10 - 8)
        r1 = r6
        r2 = 4
        r3 = r7
        r4 = 8
        call 190
        exit";
    for mode in ENGINES {
        let vm = Vm::new(Config { mode, ..Config::default() });
        let program = vm.load_slots("program", ProgramType::Xdp, &slots(text)).unwrap();
        let mut runner = PacketRunner::new(&vm, &program, None, 2048).unwrap();
        let error = runner.run(&[7; 60], &Arrival::default()).unwrap_err().to_string();
        assert!(error.contains("instruction 8: read of 8 bytes"), "{mode:?}: {error}");
    }
}

/// Helpers that go over much memory: 1,000 of these calls take longer than all instructions between two looks at the clock.
#[test]
fn the_time_limit_holds_for_what_helpers_do() {
    let text = "
        r6 = r1
        r1 = r10
        r1 += -8
        r2 = 8
        r3 = r6
        r4 = 0
        r5 = 0
        call 165
        goto -8";
    let time = Duration::from_millis(100);
    for mode in ENGINES {
        let limits = Limits { insns: None, time: Some(time), ..Limits::default() };
        let vm = Vm::new(Config { mode, limits, ..Config::default() });
        let program = vm.load_slots("program", ProgramType::Unspec, &slots(text)).unwrap();
        let mut memory = vec![b'a'; 1 << 20];
        memory[(1 << 20) - 1] = 0;
        let since = Instant::now();
        let fault = vm.run(&program, &mut Context::memory(&mut memory)).unwrap_err();
        assert_eq!(fault.kind, FaultKind::TimeLimit { limit: time }, "{mode:?}");
        assert!(since.elapsed() < time + Duration::from_secs(2), "{mode:?}: {:?}", since.elapsed());
    }
}

/// The same number of instructions is counted, however often the clock is looked at between them.
#[test]
fn looks_at_the_clock_do_not_count_instructions() {
    let text = "
        r6 = r1
        r7 = 20
        r1 = r10
        r1 += -8
        r2 = 8
        r3 = r6
        r4 = 0
        r5 = 0
        call 165
        r7 += -1
        if r7 != 0 goto -9
        r0 = 1
        exit";
    for mode in ENGINES {
        for (insns, ends_well) in [(2 + 20 * 9 + 2, true), (2 + 20 * 9 + 1, false)] {
            let limits = Limits { insns: Some(insns), time: Some(Duration::from_secs(60)), ..Limits::default() };
            let vm = Vm::new(Config { mode, limits, ..Config::default() });
            let program = vm.load_slots("program", ProgramType::Unspec, &slots(text)).unwrap();
            let mut memory = vec![b'a'; 200_000];
            *memory.last_mut().unwrap() = 0;
            let mut runner = vm.runner();
            let run = runner.run(&program, &mut Context::memory(&mut memory));
            assert_eq!(run.is_ok(), ends_well, "{mode:?} {insns}: {run:?}");
            assert_eq!(runner.used_insns(), insns, "{mode:?}");
        }
    }
}

/// A function of the host may answer for memory that is not the program's; the run goes on.
#[test]
fn a_function_of_the_host_may_do_without_the_memory() {
    let careful = Helper::with_env(4000, "careful", |env, [at, ..]| match env.bytes(at, 8) {
        Ok(_) => Ok(1),
        Err(_) => Ok(2),
    });
    let text = "
        r6 = r1
        r1 = 4096
        call 4000
        r7 = r0
        r1 = r6
        call 4000
        r7 *= 10
        r0 += r7
        exit";
    for mode in ENGINES {
        let vm = Vm::new(Config { mode, helpers: vec![careful.clone()], ..Config::default() });
        let program = vm.load_slots("program", ProgramType::Unspec, &slots(text)).unwrap();
        assert_eq!(vm.run(&program, &mut Context::memory(&mut [0; 8])), Ok(21), "{mode:?}");
    }
}

/// A walk over more elements than the list of a program's memory has room for.
#[test]
fn a_walk_over_a_large_map_does_not_use_up_the_programs_regions() {
    let source = r#"
        typedef unsigned int u32; typedef unsigned long long u64;
        #define SEC(name) __attribute__((section(name), used))
        static long (*const for_each)(void *, void *, void *, u64) = (void *)164;
        struct { int (*type)[1]; int (*max_entries)[70000]; u32 *key; u64 *value; } table SEC(".maps");
        static long each(void *map, u32 *key, u64 *value, u64 *sum) { *sum += *key + *value; return 0; }
        SEC("syscall") int program(void *ctx) { u64 sum = 0; long n = for_each(&table, each, &sum, 0); return n + (sum & 1); }
        char LICENSE[] SEC("license") = "GPL";"#;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("walk.bpf.c");
    std::fs::write(&path, source).unwrap();
    let compiled = skep_cc::Compiler::from_env().compile(&path).unwrap_or_else(|error| panic!("{error}"));
    let spec = skep_object::ObjectSpec::parse("walk", &compiled.object).unwrap_or_else(|error| panic!("{error}"));
    for mode in ENGINES {
        let vm = Vm::new(Config { mode, limits: Limits::default(), ..Config::default() });
        let object = vm.load(&spec, &skep_vm::ObjectOptions::default()).unwrap();
        let map = object.map_named("table").unwrap();
        assert_eq!(map.map_type(), MapType::Hash);
        for key in 0..70_000u32 {
            map.user().insert(&key.to_ne_bytes(), &u64::from(key).to_ne_bytes()).unwrap();
        }
        let run = vm.run(object.program_named("program").unwrap(), &mut Context::caller(&mut []));
        assert_eq!(run, Ok(70_000), "{mode:?}");
    }
}

/// A loop whose head is the first instruction of the program, or of a function: what a call does first is done once.
#[test]
fn loops_back_to_the_first_instruction() {
    let cases = [
        ("r0 += 1\nif r0 < 300000 goto -2\nexit", 300_000),
        ("r6 += 1\nr7 += 1\nr0 += 1\nif r0 < 300000 goto -4\nr0 += r6\nexit", 600_000),
        // The program keeps r6 while the function counts with its own.
        ("r6 = 7\ncall pc+2\nr0 += r6\nexit\nr6 = 5\nr0 += 1\nif r0 < 300000 goto -3\nexit", 300_007),
        // The program is a function that it calls, too: the inner one adds to what the outer one has counted.
        ("r0 += 1\nif r0 < 30000 goto -2\nif r2 == 0 goto +2\nr2 = 0\ncall pc-5\nexit", 30_001),
    ];
    for (text, expected) in cases {
        for memory in [Memory::Checked, Memory::Fast] {
            for insns in [None, Some(10_000_000)] {
                let limits = Limits { insns, ..Limits::default() };
                let results = ENGINES.map(|mode| {
                    let vm = Vm::new(Config { mode, memory, limits, ..Config::default() });
                    let program = vm.load_slots("program", ProgramType::Unspec, &slots(text)).unwrap();
                    let mut runner = vm.runner();
                    let run = runner.run(&program, &mut Context::memory(&mut [0; 1]));
                    (run, insns.map(|_| runner.used_insns()))
                });
                assert_eq!(results[0], results[1], "{text} {memory:?} {limits:?}");
                assert_eq!(results[0].0, Ok(expected), "{text} {memory:?} {limits:?}");
            }
        }
    }
}
