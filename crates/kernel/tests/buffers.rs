//! Ring buffers, perf buffers and bpf_printk: everything that a program wrote comes out, in order, or is counted as lost.

mod attach_support;

use attach_support::*;
use skep_abi::MapType;
use skep_isa::Raw;
use skep_kernel::perfbuf::{PerfBuffer, PerfBufferOptions, PerfItem};
use skep_kernel::reader::{Reader, Report};
use skep_kernel::ringbuf::RingBuffer;
use skep_kernel::trace_pipe::TracePipe;
use skep_kernel::{Map, MapParams, Program, TestInput};
use std::time::{Duration, Instant};

/// Runs a program so many times in the kernel.
fn run_times(program: &Program, repeat: u32) {
    let packet = [0u8; 64];
    let input = TestInput { data: &packet, repeat, ..TestInput::default() };
    program.test_run(&input).expect("test run");
}

fn ring(bytes: u32) -> Map {
    Map::create(&MapParams::new("skep_ring", MapType::Ringbuf, 0, 0, bytes)).expect("a ring buffer")
}

/// A program that writes its number (slot 0 of `state`) to a ring buffer, in records of 8 to 504 bytes: 8 times the
/// number's low six bits, each 8 bytes the number. What found no room is counted in slot 1.
fn writer(ring: &Map, state: &Map) -> Program {
    let mut insns = lookup(state, 0, 0);
    insns.extend([
        // r6 = number; number += 1
        insn(0x79, 6, 0, 0, 0),
        copy(1, 6),
        add(1, 1),
        insn(0x7b, 0, 1, 0, 0),
    ]);
    // The last 504 bytes of the stack are the record.
    insns.extend((1..=63).map(|n| insn(0x7b, 10, 6, -8 * n, 0)));
    insns.extend(load_map(1, ring));
    insns.extend([
        copy(2, 10),
        add(2, -504),
        // r3 = (number & 63) * 8, at least 8
        copy(3, 6),
        insn(0x57, 3, 0, 0, 63),
        insn(0x67, 3, 0, 0, 3),
        insn(0x55, 3, 0, 1, 0),
        mov(3, 8),
        mov(4, 0),
        call(130),
    ]);
    let counted = count_into(state, 1, 0);
    insns.push(insn(0x15, 0, 0, counted.len() as i16, 0));
    insns.extend(counted);
    insns.extend([mov(0, 0), exit()]);
    for_test_runs(&insns)
}

fn length(number: u64) -> usize {
    ((number & 63) * 8).max(8) as usize
}

/// Reads records out of a ring while another thread writes a million of them; gives how many were read. A patient writer
/// waits while the ring is half full.
fn read_while_writing(patient: bool) -> u64 {
    const RECORDS: u32 = 1_000_000;
    let state = counters(2);
    let map = ring(256 << 10);
    let program = writer(&map, &state);
    let mut reader = Reader::new().expect("reader");
    reader.add_ring(7, &map).expect("ring");
    let writing = std::thread::spawn(move || {
        let watch = RingBuffer::new(&map).expect("ring");
        for _ in 0..RECORDS / 200 {
            while patient && watch.fill().0 > watch.fill().1 / 2 {
                std::thread::yield_now();
            }
            run_times(&program, 200);
        }
    });
    let (mut seen, mut next, mut quiet) = (0u64, 0u64, 0);
    while quiet < 2 {
        let done = writing.is_finished();
        let got = reader
            .poll(Duration::from_millis(50), &mut |report| {
                let Report::Record { buffer, data, .. } = report else { panic!("{report:?}") };
                assert_eq!(buffer, 7);
                let number = u64::from_ne_bytes(data[..8].try_into().expect("8 bytes"));
                assert!(number >= next, "{number} after {next}");
                assert_eq!(data.len(), length(number));
                assert!(data.chunks(8).all(|c| c == number.to_ne_bytes()), "{number}: torn");
                next = number + 1;
                seen += 1;
            })
            .expect("poll");
        quiet = if done && got == 0 { quiet + 1 } else { 0 };
    }
    writing.join().expect("the writer");
    assert_eq!(counter(&state, 0), u64::from(RECORDS));
    assert_eq!(seen + counter(&state, 1), u64::from(RECORDS), "seen and refused are all");
    seen
}

#[test]
fn a_million_records_in_order() {
    if root("a_million_records_in_order") {
        assert_eq!(read_while_writing(true), 1_000_000);
    }
}

#[test]
fn a_flood() {
    if root("a_flood") {
        let seen = read_while_writing(false);
        assert!(seen > 1000, "{seen}");
    }
}

/// What stands in a ring before the reader comes, around its end many times.
#[test]
fn around_the_end() {
    if !root("around_the_end") {
        return;
    }
    let state = counters(2);
    let map = ring(4096);
    let program = writer(&map, &state);
    let mut reader = RingBuffer::new(&map).expect("ring");
    let mut numbers = Vec::new();
    for _ in 0..500 {
        run_times(&program, 3);
        reader.drain(|data| numbers.push(u64::from_ne_bytes(data[..8].try_into().expect("8 bytes"))));
        assert_eq!(reader.fill(), (0, 4096));
    }
    assert_eq!(numbers, (0..1500).collect::<Vec<u64>>());
    assert_eq!(counter(&state, 1), 0);
    run_times(&program, 1);
    assert!(reader.fill().0 > 0);
}

/// A reader that came too late finds what fits; the rest was refused.
#[test]
fn a_full_ring() {
    if !root("a_full_ring") {
        return;
    }
    let state = counters(2);
    let map = ring(4096);
    let program = writer(&map, &state);
    run_times(&program, 1000);
    let mut reader = RingBuffer::new(&map).expect("ring");
    let mut seen = 0;
    assert_eq!(reader.drain(|_| seen += 1), seen as usize);
    assert!(seen > 0);
    assert_eq!(seen + counter(&state, 1), 1000);
}

/// Reserved and given up records are passed over, and don't hold up the others.
#[test]
fn discarded_records() {
    if !root("discarded_records") {
        return;
    }
    let state = counters(1);
    let map = ring(4096);
    // Reserves 16 bytes, writes its number; odd ones are given up.
    let mut insns = lookup(&state, 0, 0);
    insns.extend([insn(0x79, 6, 0, 0, 0), copy(1, 6), add(1, 1), insn(0x7b, 0, 1, 0, 0)]);
    insns.extend(load_map(1, &map));
    insns.extend([
        mov(2, 16),
        mov(3, 0),
        call(131),
        insn(0x55, 0, 0, 2, 0),
        mov(0, 0),
        exit(),
        insn(0x7b, 0, 6, 0, 0),
        insn(0x7b, 0, 6, 8, 0),
        copy(1, 0),
        mov(2, 0),
        insn(0x57, 6, 0, 0, 1),
        insn(0x15, 6, 0, 3, 0),
        call(133),
        mov(0, 0),
        exit(),
        call(132),
        mov(0, 0),
        exit(),
    ]);
    let program = for_test_runs(&insns);
    let mut reader = RingBuffer::new(&map).expect("ring");
    let mut numbers = Vec::new();
    for _ in 0..100 {
        run_times(&program, 10);
        reader.drain(|data| {
            assert_eq!(data.len(), 16);
            numbers.push(u64::from_ne_bytes(data[8..].try_into().expect("8 bytes")));
        });
    }
    assert_eq!(numbers, (0..1000).step_by(2).collect::<Vec<u64>>());
}

/// Several rings behind one reader.
#[test]
fn several_rings() {
    if !root("several_rings") {
        return;
    }
    let mut reader = Reader::new().expect("reader");
    let rings: Vec<(Program, Map)> = (0..3)
        .map(|n| {
            let (map, state) = (ring(4096), counters(2));
            assert!(reader.add(n, &map, PerfBufferOptions::default()).expect("add"));
            (writer(&map, &state), state)
        })
        .collect();
    assert!(!reader.add(9, &counters(1), PerfBufferOptions::default()).expect("no buffer"));
    for (n, (program, _)) in rings.iter().enumerate() {
        run_times(program, n as u32 + 1);
    }
    let mut counts = [0; 3];
    reader
        .poll(Duration::from_secs(1), &mut |report| {
            if let Report::Record { buffer, .. } = report {
                counts[buffer] += 1;
            }
        })
        .expect("poll");
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(reader.rings().count(), 3);

    // Nothing there: it waits as long as it was told, and a record ends the waiting at once.
    let start = Instant::now();
    assert_eq!(reader.poll(Duration::from_millis(60), &mut |_| {}).expect("poll"), 0);
    assert!(start.elapsed() >= Duration::from_millis(60));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            run_times(&rings[1].0, 1);
        });
        let start = Instant::now();
        assert_eq!(reader.poll(Duration::from_secs(20), &mut |_| {}).expect("poll"), 1);
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

fn perf_array() -> Map {
    let cpus = skep_kernel::cpu::possible().expect("CPUs") as u32;
    Map::create(&MapParams::new("skep_perf", MapType::PerfEventArray, 4, 4, cpus)).expect("a perf event array")
}

/// Writes its number in records of 12 to 508 bytes to this CPU's ring.
fn perf_writer(map: &Map, state: &Map) -> Program {
    let mut insns: Vec<Raw> = vec![copy(9, 1)];
    insns.extend(lookup(state, 0, 0));
    insns.extend([
        // A fetching add: several CPUs write at once.
        mov(6, 1),
        insn(0xdb, 0, 6, 0, 1),
    ]);
    insns.extend((1..=63).map(|n| insn(0x7b, 10, 6, -8 * n, 0)));
    insns.extend([copy(1, 9)]);
    insns.extend(load_map(2, map));
    insns.extend([
        // BPF_F_CURRENT_CPU
        insn(0xb4, 3, 0, 0, -1),
        copy(4, 10),
        add(4, -504),
        copy(5, 6),
        insn(0x57, 5, 0, 0, 63),
        insn(0x67, 5, 0, 0, 3),
        insn(0x55, 5, 0, 1, 0),
        mov(5, 8),
        call(25),
        mov(0, 0),
        exit(),
    ]);
    for_test_runs(&insns)
}

fn number_of(data: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(data[..8].try_into().expect("8 bytes"));
    // Padded to 4 bytes after a multiple of 8.
    assert_eq!(data.len(), length(number) + 4);
    assert!(data[..length(number)].chunks(8).all(|c| c == number.to_ne_bytes()), "{number}: torn");
    number
}

#[test]
fn perf_buffer_in_order() {
    if !root("perf_buffer_in_order") {
        return;
    }
    let (map, state) = (perf_array(), counters(1));
    let program = perf_writer(&map, &state);
    let mut buffer = PerfBuffer::new(&map, PerfBufferOptions { pages: 3, wakeup_bytes: 0 }).expect("perf buffer");
    assert_eq!(buffer.fds().count(), skep_kernel::cpu::online().expect("CPUs").len());
    let mut numbers = Vec::new();
    let mut cpus = std::collections::BTreeSet::new();
    for _ in 0..400 {
        // From several threads, so that several CPUs have records.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| run_times(&program, 4));
            }
        });
        let mut last = 0;
        buffer.drain(|item| match item {
            PerfItem::Record { cpu, time_ns, data } => {
                assert!(time_ns >= last, "{time_ns} after {last}");
                last = time_ns;
                cpus.insert(cpu);
                numbers.push(number_of(data));
            }
            PerfItem::Lost { .. } => panic!("{item:?}"),
        });
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..3200).collect::<Vec<u64>>());
    eprintln!("CPUs {cpus:?}");
}

/// A ring of one page is too small: what does not come is counted.
#[test]
fn perf_buffer_losses() {
    if !root("perf_buffer_losses") {
        return;
    }
    let (map, state) = (perf_array(), counters(1));
    let program = perf_writer(&map, &state);
    let mut reader = Reader::new().expect("reader");
    reader.add_perf(3, &map, PerfBufferOptions { pages: 1, wakeup_bytes: 0 }).expect("perf buffer");
    let (mut seen, mut lost) = (0u64, 0u64);
    let mut read = |reader: &mut Reader| {
        reader
            .poll(Duration::from_millis(1500), &mut |report| match report {
                Report::Record { buffer, cpu, time_ns, data } => {
                    assert!(buffer == 3 && cpu.is_some() && time_ns.is_some());
                    number_of(data);
                    seen += 1;
                }
                Report::Lost { buffer, count, .. } => {
                    assert_eq!(buffer, 3);
                    lost += count;
                }
                _ => panic!("{report:?}"),
            })
            .expect("poll")
    };
    for _ in 0..10 {
        run_times(&program, 1000);
        read(&mut reader);
    }
    // Losses that no later record tells of come within a second or two.
    while read(&mut reader) > 0 {}
    assert!(lost > 0 && seen > 0, "{seen} seen, {lost} lost");
    assert_eq!(seen + lost, 10_000, "{seen} seen, {lost} lost");
    drop(reader);
    assert_eq!(map.next_key(None).ok().flatten().map(|k| map.lookup(&k).ok().flatten()), Some(None), "slots are empty");
}

/// A CPU goes offline and comes back, once while the reader looks and once behind its back. Only in guests, which say so:
/// this machine's CPUs are not ours to take.
#[test]
fn a_cpu_that_goes_and_comes_back() {
    if !root("a_cpu_that_goes_and_comes_back") || !required("hotplug") {
        return eprintln!("a_cpu_that_goes_and_comes_back: only where SKEP_REQUIRE has hotplug");
    }
    const CPU: usize = 1;
    let switch = |state: &str| std::fs::write("/sys/devices/system/cpu/cpu1/online", state).expect("switch CPU 1");
    let (map, state) = (perf_array(), counters(1));
    let program = perf_writer(&map, &state);
    let mut reader = Reader::new().expect("reader");
    reader.add_perf(0, &map, PerfBufferOptions::default()).expect("perf buffer");
    let write = || {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut cpus = rustix::thread::CpuSet::new();
                cpus.set(CPU);
                rustix::thread::sched_setaffinity(None, &cpus).expect("CPU 1");
                run_times(&program, 3);
            });
        });
    };
    let mut numbers = Vec::new();
    // Until there are three, or as long as the reader takes to see that a ring stands still.
    let mut read = |reader: &mut Reader, enough: usize| {
        let end = Instant::now() + Duration::from_millis(2500);
        while Instant::now() < end && numbers.len() < enough {
            let mut sink = |report: Report<'_>| match report {
                Report::Record { cpu, data, .. } => {
                    assert_eq!(cpu, Some(CPU as u32));
                    numbers.push(number_of(data));
                }
                _ => panic!("{report:?}"),
            };
            reader.poll(Duration::from_millis(100), &mut sink).expect("poll");
        }
        std::mem::take(&mut numbers)
    };
    write();
    assert_eq!(read(&mut reader, 3), [0, 1, 2]);
    // What is in the ring when its CPU goes still comes.
    write();
    switch("0");
    assert_eq!(read(&mut reader, usize::MAX), [3, 4, 5]);
    switch("1");
    assert_eq!(read(&mut reader, usize::MAX), []);
    write();
    assert_eq!(read(&mut reader, 3), [6, 7, 8]);
    switch("0");
    switch("1");
    assert_eq!(read(&mut reader, usize::MAX), []);
    write();
    assert_eq!(read(&mut reader, 3), [9, 10, 11]);
}

/// Time goes on for the rings of CPUs that stay.
#[test]
fn cpus_that_stay_keep_their_rings() {
    if !root("cpus_that_stay_keep_their_rings") {
        return;
    }
    let (map, state) = (perf_array(), counters(1));
    let program = perf_writer(&map, &state);
    let mut buffer = PerfBuffer::new(&map, PerfBufferOptions::default()).expect("perf buffer");
    for round in 0..20 {
        run_times(&program, 1);
        assert_eq!(buffer.follow_cpus().expect("CPUs"), 0);
        let mut seen = Vec::new();
        buffer.drain(|item| match item {
            PerfItem::Record { data, .. } => seen.push(number_of(data)),
            PerfItem::Lost { .. } => panic!("{item:?}"),
        });
        assert_eq!(seen, [round]);
    }
}

/// A line with a number that nobody else prints.
#[test]
fn printed_lines() {
    if !root("printed_lines") {
        return;
    }
    let mark = (std::process::id() << 8 | 0x5e) as i32 & 0x7fff_ffff;
    // "skep%d" and a zero byte on the stack.
    let word = i64::from_le_bytes(*b"skep%d\0\0");
    let insns = [
        insn(0x18, 1, 0, 0, word as i32),
        insn(0, 0, 0, 0, (word >> 32) as i32),
        insn(0x7b, 10, 1, -8, 0),
        copy(1, 10),
        add(1, -8),
        mov(2, 7),
        mov(3, mark),
        call(6),
        mov(0, 0),
        exit(),
    ];
    let program = for_test_runs(&insns);
    let mut pipe = TracePipe::open().expect("trace_pipe");
    pipe.discard().expect("read");
    let mut reader = Reader::new().expect("reader");
    reader.add_pipe(pipe);
    let expected = format!("skep{mark}");
    // Another reader of the machine's one trace may take a line away, so more than one is printed.
    let found = within_seconds(|| {
        run_times(&program, 1);
        let mut found = false;
        reader
            .poll(Duration::from_millis(200), &mut |report| {
                if let Report::Print(print) = report
                    && print.text == expected
                {
                    assert_eq!(print.task, "printed_lines");
                    assert_eq!(print.pid, rustix::thread::gettid().as_raw_nonzero().get() as u32);
                    assert!(print.time_s > 0.0);
                    found = true;
                }
            })
            .expect("poll");
        found
    });
    assert!(found);
}
