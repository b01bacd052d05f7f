//! The programs of benches/vm by every engine that can run them, as a table. Called by `cargo xtask bench-vm`.
//!
//! Every side runs the same object file on the same packet and must give the same number before it is measured. Sides
//! take turns; a cell is the median over the rounds, in nanoseconds a run.
#![expect(unsafe_code, reason = "rbpf's compiled programs are called through an unsafe function")]

use anyhow::{Context as _, Result, bail, ensure};
use skep_abi::ProgramType;
use skep_object::ObjectSpec;
use skep_vm::{Config, Context, Limits, Memory, Mode, Object, ObjectOptions, Runner, Vm};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

/// How long a side runs in one round.
const SLICE: Duration = Duration::from_millis(30);

/// Bytes of the packet.
const PACKET: usize = 1514;

/// A program, what it is called in the table, and the same in Rust.
struct Case {
    name: &'static str,
    title: &'static str,
    native: fn(&Data) -> native::Run,
}

const CASES: &[Case] = &[
    Case { name: "arithmetic", title: "integer arithmetic, 1,000 rounds", native: native::arithmetic },
    Case { name: "copy", title: "memory copy, 8 x 512 bytes", native: native::copy },
    Case { name: "hash", title: "64 hash lookups of 10,000", native: native::hash },
    Case { name: "array", title: "64 array lookups of 1,024", native: native::array },
    Case { name: "maglev", title: "Maglev packet balancer", native: native::maglev },
    Case { name: "firewall", title: "LPM firewall, 1,000 prefixes", native: native::firewall },
    Case { name: "scan", title: "string scanning, 1 KB", native: native::scan },
];

/// What stands in the maps: map, key, value (of one CPU).
type Data = BTreeMap<&'static str, Vec<(Vec<u8>, Vec<u8>)>>;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn data(case: &str) -> Data {
    let mut state = 7;
    let mut data = Data::new();
    match case {
        "hash" => {
            let entries =
                (0..10_000u64).map(|key| (key.to_ne_bytes().to_vec(), random(&mut state).to_ne_bytes().to_vec()));
            data.insert("table", entries.collect());
        }
        "array" => {
            let entries =
                (0..1024u32).map(|key| (key.to_ne_bytes().to_vec(), random(&mut state).to_ne_bytes().to_vec()));
            data.insert("table", entries.collect());
        }
        "maglev" => {
            let ring = (0..65537u32).map(|slot| {
                let backend = (random(&mut state) % 256) as u32;
                (slot.to_ne_bytes().to_vec(), backend.to_ne_bytes().to_vec())
            });
            data.insert("ring", ring.collect());
            let backends = (0..256u32).map(|index| {
                let mut backend = vec![2, 0, 0, 0, 0, index as u8, 1, 0];
                backend.extend(0u64.to_ne_bytes());
                (index.to_ne_bytes().to_vec(), backend)
            });
            data.insert("backends", backends.collect());
        }
        "firewall" => {
            let mut rules = BTreeMap::new();
            for id in 0..1000u32 {
                let length = 8 + (random(&mut state) % 17) as u32;
                let address = (random(&mut state) as u32) & (u32::MAX << (32 - length));
                // Half of them are like the packet's source in their first byte.
                let address = if id % 2 == 0 { address & 0x00ff_ffff | 10 << 24 } else { address };
                let key = [length.to_ne_bytes(), address.to_be_bytes()].concat();
                rules.insert(key, [1 + id % 2, id].map(u32::to_ne_bytes).concat());
            }
            data.insert("rules", rules.into_iter().collect());
        }
        _ => {}
    }
    data
}

/// An IPv4 and TCP packet with text in it.
fn packet() -> Vec<u8> {
    let mut packet = vec![0u8; PACKET];
    let mut state = 3;
    for byte in &mut packet {
        *byte = b"abcdefghijklmnop qrstuv/wxyz\n"[(random(&mut state) % 29) as usize];
    }
    packet[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    packet[14..34].copy_from_slice(&[0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 6, 0, 0, 10, 1, 2, 3, 192, 0, 2, 1]);
    packet[34..38].copy_from_slice(&[0xc3, 0x50, 0, 80]);
    packet[900..908].copy_from_slice(b"/metrics");
    packet
}

/// Measures the time that this thread runs: as in a test run of the kernel, time that others have the processor is not counted.
struct Stopwatch(u64);

impl Stopwatch {
    fn now() -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn start() -> Stopwatch {
        Stopwatch(Stopwatch::now())
    }

    fn elapsed_ns(&self) -> f64 {
        (Stopwatch::now() - self.0) as f64
    }
}

/// One engine with one program: runs it so many times, gives the last result and the time of one run.
type Side = Box<dyn FnMut(u32) -> Result<(u32, f64)>>;

fn object(spec: &ObjectSpec, mode: Mode, data: &Data) -> Result<(Vm, Object)> {
    let limits = Limits::default();
    // The kernel's verifier has passed the same program before.
    let vm = Vm::new(Config { memory: Memory::Fast, mode, limits, ..Config::default() });
    let object = vm.load(spec, &ObjectOptions::default())?;
    for (map, entries) in data {
        let map = object.map_named(map).context("map")?;
        for (key, value) in entries {
            let cpus = if map.is_per_cpu() { map.cpus() as usize } else { 1 };
            map.user().update(key, &value.repeat(cpus), 0)?;
        }
    }
    Ok((vm, object))
}

fn vm(spec: &ObjectSpec, mode: Mode, data: &Data) -> Result<Side> {
    let (vm, object) = object(spec, mode, data)?;
    let mut runner: Runner = vm.runner();
    let mut context = xdp_context()?;
    Ok(Box::new(move |repeat| {
        let (_, program) = object.programs().next().context("program")?;
        ensure!(mode == Mode::Interpreter || program.is_compiled(), "not compiled");
        let started = Stopwatch::start();
        let mut result = 0;
        for _ in 0..repeat {
            result = runner.run(program, &mut context)?;
        }
        Ok((result as u32, started.elapsed_ns() / f64::from(repeat)))
    }))
}

fn xdp_context() -> Result<Context<'static>> {
    use skep_vm::context::{Arrival, Start};
    let mut context = Context::packet_hook(ProgramType::Xdp, None, PACKET)?;
    context.set_packet(&packet(), Start::Link, false, &Arrival::default())?;
    Ok(context)
}

fn kernel(spec: &ObjectSpec, data: &Data) -> Result<Side> {
    use skep_kernel::load::{LoadOptions, load};
    let loaded = load(spec, &LoadOptions::default())?;
    for (map, entries) in data {
        let map = loaded.maps().iter().find(|found| found.name() == *map).context("map")?;
        for (key, value) in entries {
            let value = if map.is_per_cpu() { map.spread(value)? } else { value.clone() };
            map.update(key, &value, skep_kernel::Update::Any)?;
        }
    }
    let packet = packet();
    Ok(Box::new(move |repeat| {
        let program = loaded.programs().next().context("program")?;
        let input = skep_kernel::TestInput { data: &packet, repeat, ..Default::default() };
        let output = program.test_run(&input)?;
        Ok((output.value, f64::from(output.duration_ns)))
    }))
}

/// rbpf runs a program without maps: it is given the context struct as its "metadata buffer", with the packet's true
/// 32-bit addresses in it.
fn rbpf(spec: &ObjectSpec, compiled: bool) -> Result<Side> {
    ensure!(spec.maps.is_empty(), "it has no maps");
    let bytes: Vec<u8> =
        spec.programs[0].insns.iter().flat_map(|slot| slot.to_bytes(skep_isa::Endian::Little)).collect();
    let bytes: &'static [u8] = bytes.leak();
    let mut vm = rbpf::EbpfVmMbuff::new(Some(bytes))?;
    if compiled {
        vm.jit_compile()?;
    }
    let context = xdp_context()?;
    let mut meta = context.bytes();
    let packet = context.packet().context("packet")?;
    // SAFETY: the packet's own bytes, which live as long as the context that the closure keeps.
    let memory: &'static mut [u8] = unsafe {
        let bytes = packet.bytes();
        std::slice::from_raw_parts_mut(bytes.as_ptr().cast_mut(), bytes.len())
    };
    Ok(Box::new(move |repeat| {
        let _kept = &context;
        let started = Stopwatch::start();
        let mut result = 0;
        for _ in 0..repeat {
            result = match compiled {
                // SAFETY: the kernel's verifier has passed the program.
                true => unsafe { vm.execute_program_jit(memory, &mut meta)? },
                false => vm.execute_program(memory, &meta)?,
            };
        }
        Ok((result as u32, started.elapsed_ns() / f64::from(repeat)))
    }))
}

fn native_side(case: &Case, data: &Data) -> Side {
    let mut run = (case.native)(data);
    let mut packet = packet();
    Box::new(move |repeat| {
        let started = Stopwatch::start();
        let mut result = 0;
        for _ in 0..repeat {
            result = black_box(run(black_box(&mut packet)));
        }
        Ok((result, started.elapsed_ns() / f64::from(repeat)))
    })
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().context("usage: bench_vm OBJECTS [ROUNDS]")?;
    let rounds: usize = args.next().map_or(Ok(15), |text| text.parse())?;
    let mut out = String::from(
        "| program | interpreter | JIT | rbpf interpreter | rbpf JIT | native Rust | kernel JIT | JIT / kernel | \
         rbpf / interpreter |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let (mut to_kernel, mut to_rbpf) = (Vec::new(), Vec::new());
    for case in CASES {
        let elf = std::fs::read(Path::new(&dir).join(format!("{}.bpf.o", case.name)))?;
        let spec = ObjectSpec::parse(case.name, &elf)?;
        let data = data(case.name);
        let mut sides: Vec<Option<Side>> = vec![
            Some(vm(&spec, Mode::Interpreter, &data)?),
            Some(vm(&spec, Mode::Compiled, &data)?),
            rbpf(&spec, false).ok(),
            rbpf(&spec, true).ok(),
            Some(native_side(case, &data)),
            Some(kernel(&spec, &data)?),
        ];
        let mut repeats = Vec::new();
        let mut results = Vec::new();
        for side in &mut sides {
            let Some(run) = side else {
                repeats.push(0);
                continue;
            };
            // A side that cannot run it after all is left out, but none may give another number.
            match run(1) {
                Ok((result, _)) => results.push(result),
                Err(error) if repeats.len() == 2 || repeats.len() == 3 => {
                    eprintln!("{}: rbpf: {error}", case.name);
                    *side = None;
                    repeats.push(0);
                    continue;
                }
                Err(error) => return Err(error.context(case.name)),
            }
            let (_, first) = run(100)?;
            repeats.push((SLICE.as_nanos() as f64 / first.max(1.0)).clamp(10.0, 1e7) as u32);
        }
        if results.windows(2).any(|pair| pair[0] != pair[1]) {
            bail!("{}: the engines disagree: {results:x?}", case.name);
        }
        let mut times = vec![Vec::new(); sides.len()];
        for _ in 0..rounds {
            for ((side, times), repeat) in sides.iter_mut().zip(&mut times).zip(&repeats) {
                if let Some(run) = side {
                    times.push(run(*repeat)?.1);
                }
            }
        }
        let cells: Vec<Option<f64>> = times.iter_mut().map(|t| (!t.is_empty()).then(|| median(t))).collect();
        let ratio = |a: usize, b: usize| Some(cells[a]? / cells[b]?);
        let ns = |cell: Option<f64>| cell.map_or("-".to_owned(), |ns| format!("{ns:.0}"));
        let times = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        write!(out, "| {} ", case.title)?;
        for cell in &cells {
            write!(out, "| {} ", ns(*cell))?;
        }
        writeln!(out, "| {} | {} |", times(ratio(1, 5)), times(ratio(2, 0)))?;
        to_kernel.extend(ratio(1, 5));
        to_rbpf.extend(ratio(2, 0));
    }
    let mean = |ratios: &[f64]| (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let worst = to_kernel.iter().copied().fold(0.0, f64::max);
    writeln!(out, "| geometric mean | | | | | | | {:.2} | {:.2} |\n", mean(&to_kernel), mean(&to_rbpf))?;
    writeln!(
        out,
        "To reach: JIT / kernel at most 1.10 in the mean and never above 1.50 (worst here {worst:.2}); rbpf / interpreter at least 1.50.\n"
    )?;
    writeln!(out, "Load to first run of a program of 1,000 instructions: {} (to reach: 1 ms).", first_run()?)?;
    print!("{out}");
    Ok(())
}

/// From bytes to the first result, compiled, checked and fast.
fn first_run() -> Result<String> {
    let mut text = String::from("r0 = 1\nr6 = 3\n");
    for step in 0..997 {
        match step % 5 {
            0 => text.push_str("r0 += r6\n"),
            1 => text.push_str("r0 ^= 77\n"),
            2 => text.push_str("*(u64 *)(r10 - 8) = r0\n"),
            3 => text.push_str("r6 = *(u64 *)(r10 - 8)\n"),
            _ => text.push_str("if r0 == r6 goto +0\n"),
        }
    }
    text.push_str("exit");
    let slots = skep_isa::encode(&skep_isa::assemble(&text).map_err(|errors| anyhow::anyhow!("{errors:?}"))?);
    let measure = |memory, limits| -> Result<f64> {
        let mut times = Vec::new();
        for _ in 0..21 {
            let vm = Vm::new(Config { memory, mode: Mode::Compiled, limits, ..Config::default() });
            let started = Stopwatch::start();
            let program = vm.load_slots("first", ProgramType::Unspec, &slots)?;
            vm.run(&program, &mut Context::memory(&mut []))?;
            times.push(started.elapsed_ns() / 1e3);
        }
        Ok(median(&mut times))
    };
    let fast = measure(Memory::Fast, Limits::default())?;
    let checked = measure(Memory::Checked, Config::default().limits)?;
    Ok(format!("{fast:.0} µs without checks, {checked:.0} µs checked and limited"))
}

/// The same work in Rust, by the standard library.
mod native {
    use super::{Data, HashMap};

    /// Works on a packet.
    pub(crate) type Run = Box<dyn FnMut(&mut [u8]) -> u32>;

    /// Verdict and number by network address, for prefixes of one length.
    type Table = HashMap<u32, (u32, u32)>;

    fn word(bytes: &[u8]) -> u64 {
        bytes.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    fn half(bytes: &[u8]) -> u32 {
        bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn fold(sum: u64) -> u32 {
        (sum ^ (sum >> 32)) as u32
    }

    pub(crate) fn arithmetic(_: &Data) -> Run {
        Box::new(|packet| {
            let (mut x, mut sum) = (word(packet) | 1, 0u64);
            for _ in 0..1000 {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                sum = sum.wrapping_add(x / ((x & 0xffff) + 1));
                sum = sum.rotate_left(5).wrapping_mul(31);
            }
            fold(sum)
        })
    }

    pub(crate) fn copy(_: &Data) -> Run {
        Box::new(|packet| {
            let Some((from, rest)) = packet.split_at_mut_checked(512) else { return 0 };
            for round in 0..8 {
                for (to, from) in rest.chunks_exact_mut(8).zip(from.chunks_exact(8)) {
                    to.copy_from_slice(from);
                }
                let at = round * 8;
                let next = word(&from[at..]).wrapping_add(1);
                from[at..at + 8].copy_from_slice(&next.to_ne_bytes());
            }
            fold(word(&rest[24..]))
        })
    }

    fn next(x: u64) -> u64 {
        x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
    }

    pub(crate) fn hash(data: &Data) -> Run {
        let table: HashMap<u64, u64> = data["table"].iter().map(|(key, value)| (word(key), word(value))).collect();
        Box::new(move |packet| {
            let (mut x, mut sum) = (word(packet), 0u64);
            for _ in 0..64 {
                x = next(x);
                let key = (x >> 33) % 13333;
                match table.get(&key) {
                    Some(value) => sum = sum.wrapping_add(*value),
                    None => sum ^= key,
                }
            }
            fold(sum)
        })
    }

    pub(crate) fn array(data: &Data) -> Run {
        let table: Vec<u64> = data["table"].iter().map(|(_, value)| word(value)).collect();
        Box::new(move |packet| {
            let (mut x, mut sum) = (word(packet), 0u64);
            for _ in 0..64 {
                x = next(x);
                if let Some(value) = table.get(((x >> 33) & 1023) as usize) {
                    sum = sum.wrapping_add(*value ^ x);
                }
            }
            fold(sum)
        })
    }

    fn mix(mut x: u64) -> u64 {
        x ^= x >> 33;
        x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
        x ^= x >> 33;
        x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        x ^ (x >> 33)
    }

    pub(crate) fn maglev(data: &Data) -> Run {
        let ring: Vec<u32> = data["ring"].iter().map(|(_, value)| half(value)).collect();
        let mut backends: Vec<([u8; 6], u64)> =
            data["backends"].iter().map(|(_, value)| (value[..6].try_into().unwrap_or_default(), 0)).collect();
        let mut flows: HashMap<(u32, u32, u16, u16, u32), u32> = HashMap::new();
        Box::new(move |packet| {
            if packet.len() < 38 || packet[12..14] != [8, 0] || packet[14] & 15 != 5 || !matches!(packet[23], 6 | 17) {
                return 2;
            }
            let short = |at: usize| u16::from_ne_bytes([packet[at], packet[at + 1]]);
            let flow = (half(&packet[26..]), half(&packet[30..]), short(34), short(36), u32::from(packet[23]));
            let chosen = match flows.get(&flow) {
                Some(chosen) => *chosen,
                None => {
                    let key = mix(u64::from(flow.0) << 32 | u64::from(flow.1));
                    let ports = u64::from(flow.2) << 32 | u64::from(u32::from(flow.3) << 16 | flow.4);
                    // The slot is a 32-bit number before the modulo is taken of the whole, as in the C program.
                    let slot = (mix(key ^ ports) % 65537) as usize;
                    let Some(chosen) = ring.get(slot).copied() else { return 1 };
                    if flow.2 & 1u16.to_be() == 0 {
                        flows.insert(flow, chosen);
                    }
                    chosen
                }
            };
            let Some(backend) = backends.get_mut(chosen as usize) else { return 1 };
            backend.1 += 1;
            packet.copy_within(0..6, 6);
            packet[..6].copy_from_slice(&backend.0);
            3
        })
    }

    pub(crate) fn firewall(data: &Data) -> Run {
        // One table for each prefix length, the longest first.
        let mut tables: Vec<Table> = vec![Table::new(); 33];
        for (key, value) in &data["rules"] {
            let (length, address) = (half(key), half(&key[4..]).swap_bytes());
            tables[length as usize].insert(address, (half(value), half(&value[4..])));
        }
        let mut hits = vec![0u64; 1024];
        let tables: Vec<(u32, Table)> = (0..33).zip(tables).rev().filter(|(_, table)| !table.is_empty()).collect();
        Box::new(move |packet| {
            if packet.len() < 34 || packet[12..14] != [8, 0] {
                return 2;
            }
            let source = half(&packet[26..]).swap_bytes();
            let found = tables
                .iter()
                .find_map(|(length, table)| table.get(&(source & u32::MAX.checked_shl(32 - length).unwrap_or(0))));
            let Some((verdict, id)) = found else { return 2 };
            if let Some(count) = hits.get_mut(*id as usize) {
                *count += 1;
            }
            *verdict
        })
    }

    pub(crate) fn scan(_: &Data) -> Run {
        Box::new(|packet| {
            let Some(text) = packet.get(..1024) else { return 0 };
            let (mut lines, mut found) = (0u32, 0);
            for (at, window) in text.windows(8).take(1016).enumerate() {
                if window[0] == b'\n' {
                    lines += 1;
                }
                if window == b"/metrics" {
                    found = at as u32;
                    break;
                }
            }
            found << 8 | lines & 0xff
        })
    }
}
