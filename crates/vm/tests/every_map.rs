//! A program with a map of every type gives the same results and leaves the same contents in the embedded engine, by the
//! interpreter and compiled, and in the kernel.

use skep_abi::{MapType, ProgramType};
use skep_kernel::load::{LoadOptions, Loaded, load};
use skep_kernel::reader::{Reader, Report};
use skep_object::{MapIdx, ObjectSpec};
use skep_vm::context::{Arrival, PacketRunner};
use skep_vm::{Config, Memory, Mode, Object, ObjectOptions, Vm};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

const PACKETS: u32 = 300;

fn spec() -> ObjectSpec {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm/every_map.bpf.c");
    let compiled = skep_cc::Compiler::from_env().compile(&source).expect("it compiles");
    ObjectSpec::parse("every_map", &compiled.object).expect("it is an object")
}

fn packets() -> impl Iterator<Item = Vec<u8>> {
    (0..PACKETS).map(|number| {
        let mut packet = vec![0u8; 64];
        packet[12..14].copy_from_slice(&[8, 0]);
        packet[16..20].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_ne_bytes());
        packet
    })
}

/// What there is to compare: results of the runs, contents by map and key, records of the two buffers.
#[derive(PartialEq, Eq, Debug, Default)]
struct Seen {
    results: Vec<u32>,
    /// Those of per-CPU maps added up over the CPUs.
    contents: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    ring: Vec<Vec<u8>>,
    perf: Vec<Vec<u8>>,
    queue: Vec<u64>,
    stack: Vec<u64>,
    bloom: Vec<bool>,
}

/// Maps whose contents are read key by key.
fn is_table(kind: MapType) -> bool {
    !matches!(
        kind,
        MapType::Ringbuf
            | MapType::PerfEventArray
            | MapType::Queue
            | MapType::Stack
            | MapType::BloomFilter
            | MapType::ProgArray
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
    )
}

/// The values of all CPUs added up, word by word: all but one are zero.
fn together(values: &[&[u8]]) -> Vec<u8> {
    let mut sum = vec![0u64; values.first().map_or(0, |value| value.len().div_ceil(8))];
    for value in values {
        for (sum, word) in sum.iter_mut().zip(value.chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            *sum = sum.wrapping_add(u64::from_ne_bytes(bytes));
        }
    }
    sum.into_iter().flat_map(u64::to_ne_bytes).collect()
}

fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn in_vm(spec: &ObjectSpec, mode: Mode, memory: Memory) -> Seen {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    let vm = Vm::new(Config { mode, memory, cpus, ..Config::default() });
    let object: Object = vm.load(spec, &ObjectOptions::default()).expect("it loads");
    let map = |name: &str| object.map_named(name).expect("map");
    let mut runner =
        PacketRunner::new(&vm, object.program_named("every_map").expect("program"), None, 2048).expect("a runner");
    let mut seen = Seen::default();
    for packet in packets() {
        let outcome = runner.run(&packet, &Arrival::default()).expect("no fault");
        seen.results.push(outcome.value as u32);
    }
    for (index, declared) in spec.maps.iter().enumerate().filter(|(_, map)| is_table(map.map_type)) {
        let map = object.map(MapIdx(index)).expect("map");
        for (key, value) in map.user().entries().expect("entries") {
            let value = match map.is_per_cpu() {
                true => together(&value.chunks((map.value_size() as usize).next_multiple_of(8)).collect::<Vec<_>>()),
                false => value,
            };
            seen.contents.insert((declared.name.clone(), key), value);
        }
    }
    let ring = &mut seen.ring;
    map("ring")
        .user()
        .poll(&mut |data| {
            ring.push(data.to_vec());
            ControlFlow::Continue(())
        })
        .expect("records");
    let perf = &mut seen.perf;
    map("perf").user().poll_perf(&mut |_, data| perf.push(data[..8].to_vec())).expect("records");
    while let Ok(value) = map("queue").user().lookup_and_delete(&[], 0) {
        seen.queue.push(word(&value));
    }
    while let Ok(value) = map("stack").user().lookup_and_delete(&[], 0) {
        seen.stack.push(word(&value));
    }
    // What was put in is there; what was not may be there by chance, which differs by the hash function.
    seen.bloom = (0..40u64)
        .filter(|key| in_bloom(*key))
        .map(|key| map("bloom").user().contains(&(key ^ 0x5a).to_ne_bytes()).expect("bloom"))
        .collect();
    seen
}

/// Whether a packet put this key in.
fn in_bloom(key: u64) -> bool {
    packets().any(|packet| u64::from(packet[16..20].first_chunk().map_or(0, |b| u32::from_ne_bytes(*b))) % 40 == key)
}

fn in_kernel(spec: &ObjectSpec) -> Seen {
    stay_on_one_cpu();
    let loaded: Loaded = load(spec, &LoadOptions::default()).expect("it loads");
    let map = |name: &str| loaded.maps().iter().find(|map| map.name() == name).expect("map");
    let program = loaded.programs().find(|program| program.name() == "every_map").expect("program");
    let mut reader = Reader::new().expect("a reader");
    reader.add(1, map("perf"), Default::default()).expect("perf buffer");
    let mut seen = Seen::default();
    for packet in packets() {
        let input = skep_kernel::TestInput { data: &packet, repeat: 1, ..Default::default() };
        seen.results.push(program.test_run(&input).expect("it runs").value);
    }
    for (index, declared) in spec.maps.iter().enumerate().filter(|(_, map)| is_table(map.map_type)) {
        let map = &loaded.maps()[index];
        for (key, value) in map.entries().expect("entries") {
            let value = match map.is_per_cpu() {
                true => together(&map.per_cpu(&value).collect::<Vec<_>>()),
                false => value,
            };
            seen.contents.insert((declared.name.clone(), key), value);
        }
    }
    reader.add(0, map("ring"), Default::default()).expect("ring buffer");
    let mut poll = || {
        let (ring, perf) = (&mut seen.ring, &mut seen.perf);
        reader.poll(Duration::ZERO, &mut |report| {
            if let Report::Record { buffer, data, .. } = report {
                match buffer {
                    0 => ring.push(data.to_vec()),
                    _ => perf.push(data[..8].to_vec()),
                }
            }
        })
    };
    while poll().expect("records") > 0 {}
    while let Some(value) = map("queue").pop().expect("queue") {
        seen.queue.push(word(&value));
    }
    while let Some(value) = map("stack").pop().expect("stack") {
        seen.stack.push(word(&value));
    }
    seen.bloom = (0..40u64)
        .filter(|key| in_bloom(*key))
        .map(|key| map("bloom").contains(&(key ^ 0x5a).to_ne_bytes()).expect("bloom"))
        .collect();
    seen
}

/// Values of per-CPU maps compare only if all runs were on one CPU.
fn stay_on_one_cpu() {
    let mut set = rustix::thread::sched_getaffinity(None).expect("affinity");
    let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| set.is_set(*cpu)).expect("a CPU");
    set.clear();
    set.set(first);
    rustix::thread::sched_setaffinity(None, &set).expect("affinity");
}

/// Without what has an order of its own.
fn comparable(mut seen: Seen) -> Seen {
    // The perf buffers of several CPUs are read one after the other.
    seen.perf.sort();
    seen
}

#[test]
fn every_map_holds_the_same_in_every_engine() {
    let spec = spec();
    let kinds: std::collections::BTreeSet<MapType> = spec.maps.iter().map(|map| map.map_type).collect();
    assert!(kinds.len() >= 15, "the program has maps of {} types only", kinds.len());
    assert!(spec.programs.iter().all(|program| program.hook.prog_type == ProgramType::Xdp));
    let expected = comparable(in_vm(&spec, Mode::Interpreter, Memory::Checked));
    assert_eq!(expected.results.len(), PACKETS as usize);
    assert!(!expected.ring.is_empty() && !expected.perf.is_empty() && !expected.queue.is_empty());
    for (mode, memory) in
        [(Mode::Interpreter, Memory::Fast), (Mode::Compiled, Memory::Checked), (Mode::Compiled, Memory::Fast)]
    {
        assert_eq!(comparable(in_vm(&spec, mode, memory)), expected, "{mode:?} {memory:?}");
    }
    if !rustix::process::geteuid().is_root() {
        println!("needs root: the kernel's side was not compared");
        return;
    }
    let kernel = comparable(in_kernel(&spec));
    for (key, value) in &expected.contents {
        assert_eq!(kernel.contents.get(key), Some(value), "{} {:x?}", key.0, key.1);
    }
    assert_eq!(kernel, expected);
}
