//! Helpers of programs in the running kernel as the oracle: the same operation by a program there and by the face towards
//! programs here, every result compared. Also with flags that user space cannot give. Needs root.

#![expect(unsafe_code, reason = "plays the part of programs")]

use super::kernel::{Dice, cpus, is_root};
use crate::map::{Definition, Map, pin};
use skep_abi::{MapType as M, ProgramType};
use skep_kernel as kernel;
use std::os::fd::AsRawFd;

#[derive(Clone, Copy, Debug)]
enum Op {
    Lookup,
    Update(u64),
    Delete,
    Push(u64),
    Pop,
    Peek,
}

/// What a program that does this in the kernel returns: the error, or the value where there is one.
fn theirs(map: &kernel::Map, op: Op, key: u64, value: u64) -> i32 {
    let (call, flags, reads) = match op {
        Op::Lookup => (1, 0, true),
        Op::Update(flags) => (2, flags, false),
        Op::Delete => (3, 0, false),
        Op::Push(flags) => (87, flags, false),
        Op::Pop => (88, 0, true),
        Op::Peek => (89, 0, true),
    };
    let keyless = matches!(op, Op::Push(_) | Op::Pop | Op::Peek);
    let (second, third) = if keyless { (-8, format!("r3 = {flags} ll")) } else { (-16, "r3 = r10\nr3 += -8".into()) };
    let after = match op {
        Op::Lookup => "if r0 == 0 goto none\nr0 = *(u64 *)(r0 + 0)\nexit\nnone: r0 = -2\nexit",
        _ if reads => "if r0 != 0 goto out\nr0 = *(u64 *)(r10 - 8)\nout: exit",
        _ => "exit",
    };
    let text = format!(
        "r1 = {key} ll\n*(u64 *)(r10 - 16) = r1\nr1 = {value} ll\n*(u64 *)(r10 - 8) = r1\n\
         r1 = map_by_fd({})\nr2 = r10\nr2 += {second}\n{third}\nr4 = {flags} ll\ncall {call}\n{after}\n",
        map.fd().as_raw_fd()
    );
    run(&text)
}

/// What a program of this text returns in the kernel.
fn run(text: &str) -> i32 {
    let insns = skep_isa::assemble(text).unwrap_or_else(|errors| panic!("{text}{errors:?}"));
    let insns = skep_isa::encode(&insns);
    let params = kernel::ProgramParams::new("op", ProgramType::SocketFilter, &insns, "GPL");
    let program = kernel::Program::load(&params, kernel::LogLevel::None)
        .unwrap_or_else(|refused| panic!("{text}{} {}", refused.errno, refused.log));
    let input = kernel::TestInput { data: &[0; 64], ..Default::default() };
    program.test_run(&input).expect("it runs").value as i32
}

/// The same here.
fn ours(map: &Map, op: Op, key: u64, mut value: u64) -> i32 {
    let _guard = pin();
    let (key, at): (*const u8, *mut u8) = ((&raw const key).cast(), (&raw mut value).cast());
    // SAFETY: keys and values have at most 8 bytes; pinned.
    unsafe {
        let result = match op {
            Op::Lookup => {
                let found = map.lookup(key, 0);
                return if found.is_null() { -2 } else { found.cast::<u64>().read() as i32 };
            }
            Op::Update(flags) => return map.update(key, at, flags, 0) as i32,
            Op::Delete => return map.delete(key) as i32,
            Op::Push(flags) => return map.push(at, flags) as i32,
            Op::Pop => map.pop(at),
            Op::Peek => map.peek(at),
        };
        if result == 0 { value as i32 } else { result as i32 }
    }
}

#[test]
fn helpers_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    let mut dice = Dice(0xfeed_beef);
    for map_type in [
        M::Array,
        M::PercpuArray,
        M::Hash,
        M::PercpuHash,
        M::LruHash,
        M::LruPercpuHash,
        M::LpmTrie,
        M::Queue,
        M::Stack,
        M::BloomFilter,
    ] {
        let keyless = matches!(map_type, M::Queue | M::Stack | M::BloomFilter);
        let key_size = if keyless {
            0
        } else if matches!(map_type, M::Array | M::PercpuArray) {
            4
        } else {
            8
        };
        // Which element an LRU map gives up when it is full is each one's own.
        let entries = if matches!(map_type, M::LruHash | M::LruPercpuHash) { 2000 } else { 3 };
        let definition =
            Definition::new("h", map_type, key_size, 8, entries).with_flags((map_type == M::LpmTrie).into());
        let map = Map::create(&definition, cpus()).expect("a map");
        let mut params = kernel::MapParams::new("h", map_type, key_size, 8, entries);
        params.flags = definition.flags;
        let other = kernel::Map::create(&params).expect("a map");
        for step in 0..150 {
            let flags = dice.pick(&[0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1 << 32]);
            let op = match (keyless, dice.roll(4)) {
                (true, 0 | 1) => Op::Push(flags),
                (true, 2) if map_type != M::BloomFilter => Op::Pop,
                (true, _) => Op::Peek,
                // The kernel's program may run on any CPU: values for each are not compared here.
                (false, 0) if !map.is_per_cpu() => Op::Lookup,
                (false, 1) => Op::Delete,
                (false, _) => Op::Update(flags),
            };
            let key = match map_type {
                // A length of 0 to 33 bits, and few different bits.
                M::LpmTrie => dice.pick(&[0, 1, 8, 9, 32, 33]) | (dice.roll(3) as u64) << 32,
                _ => dice.roll(5) as u64,
            };
            let value = dice.roll(if map_type == M::BloomFilter { 3 } else { 1 << 30 }) as u64;
            let (a, b) = (ours(&map, op, key, value), theirs(&other, op, key, value));
            assert_eq!(a, b, "{map_type}, step {step}: {op:?} key {key:#x} value {value} (left: vm, right: kernel)");
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum RingOp {
    Output { size: u64, flags: u64 },
    Reserve { size: u64, flags: u64, discard: bool },
    Query(u64),
}

fn ring_theirs(map: &kernel::Map, op: RingOp) -> i32 {
    let map = format!("r1 = map_by_fd({})", map.fd().as_raw_fd());
    run(&match op {
        RingOp::Output { size, flags } => {
            let fill: String = (1..=8).map(|i| format!("*(u64 *)(r10 - {}) = 7\n", i * 8)).collect();
            format!("{fill}{map}\nr2 = r10\nr2 += -64\nr3 = {size}\nr4 = {flags} ll\ncall 130\nexit\n")
        }
        RingOp::Reserve { size, flags, discard } => {
            let end = if discard { 133 } else { 132 };
            format!(
                "{map}\nr2 = {size} ll\nr3 = 0\ncall 131\nif r0 != 0 goto there\nr0 = -11\nexit\n\
                 there: *(u64 *)(r0 + 0) = 9\nr1 = r0\nr2 = {flags} ll\ncall {end}\nr0 = 0\nexit\n"
            )
        }
        RingOp::Query(what) => format!("{map}\nr2 = {what} ll\ncall 134\nexit\n"),
    })
}

fn ring_ours(map: &Map, op: RingOp) -> i32 {
    // SAFETY: 64 bytes of data; records are written within their 8 bytes or more, and ended once.
    unsafe {
        match op {
            RingOp::Output { size, flags } => map.ringbuf_output([7u64; 8].as_ptr().cast(), size, flags) as i32,
            RingOp::Reserve { size, flags, discard } => {
                let record = map.ringbuf_reserve(size, 0);
                if record.is_null() {
                    return -11;
                }
                record.cast::<u64>().write(9);
                match discard {
                    true => crate::map::ringbuf_discard(record, flags),
                    false => crate::map::ringbuf_submit(record, flags),
                }
                0
            }
            RingOp::Query(what) => map.ringbuf_query(what) as i32,
        }
    }
}

#[test]
fn ring_buffers_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    let mut dice = Dice(0xabcd_ef01);
    let map = Map::create(&Definition::new("r", M::Ringbuf, 0, 0, 4096), cpus()).expect("a map");
    let other = kernel::Map::create(&kernel::MapParams::new("r", M::Ringbuf, 0, 0, 4096)).expect("a map");
    let mut reader = kernel::ringbuf::RingBuffer::new(&other).expect("a reader");
    let mut seen = 0;
    for step in 0..300 {
        let flags = dice.pick(&[0, 1, 2, 3]);
        let op = match dice.roll(4) {
            0 => RingOp::Output { size: 1 + dice.roll(64) as u64, flags: dice.pick(&[0, 1, 2, 3, 4, 1 << 40]) },
            1 => {
                let size = dice.pick(&[8, 9, 100, 777, 2000, 4072, 4080, 4081, 4088, 4096, 1 << 20, 1 << 29]);
                RingOp::Reserve { size, flags, discard: dice.roll(3) == 0 }
            }
            2 => RingOp::Query(dice.roll(6) as u64),
            _ => {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                let each = &mut |record: &[u8]| {
                    a.push(record.len());
                    std::ops::ControlFlow::Continue(())
                };
                map.user().poll(each).expect("poll");
                reader.drain(|record| b.push(record.len()));
                assert_eq!(a, b, "step {step}: lengths of records");
                seen += a.len();
                continue;
            }
        };
        assert_eq!(ring_ours(&map, op), ring_theirs(&other, op), "step {step}: {op:?} (left: vm, right: kernel)");
    }
    assert!(seen > 30, "{seen} records");
}
