//! The running kernel as the oracle: the same creations and the same operations on both, every result compared.
//!
//! Needs root. What differs for a known reason is left out where it stands.

use crate::map::{Definition, Errno, Map, SpecialField, SpecialKind};
use skep_abi::MapType as M;
use skep_kernel as kernel;
use skep_kernel::Update;

/// A small generator of numbers, the same in every run.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % sides as u64) as usize
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll(256) as u8).collect()
    }
}

pub(super) fn is_root() -> bool {
    let root = kernel::privilege::Capabilities::current().has("CAP_SYS_ADMIN");
    if !root {
        eprintln!("needs root, not run");
    }
    root
}

pub(super) fn cpus() -> u32 {
    kernel::cpu::possible().expect("CPUs") as u32
}

/// The error number of a call, 0 for success.
fn errno_of<T>(result: &kernel::Result<T>) -> i32 {
    result.as_ref().err().map_or(0, |e| e.errno().map_or(-1, |n| n.0))
}

pub(super) const TYPES: &[M] = &[
    M::Hash,
    M::Array,
    M::ProgArray,
    M::PerfEventArray,
    M::PercpuHash,
    M::PercpuArray,
    M::LruHash,
    M::LruPercpuHash,
    M::LpmTrie,
    M::ArrayOfMaps,
    M::HashOfMaps,
    M::Queue,
    M::Stack,
    M::Ringbuf,
    M::BloomFilter,
];

fn create_both(
    d: &Definition,
    inner: Option<&kernel::Map>,
) -> (Result<std::sync::Arc<Map>, Errno>, kernel::Result<kernel::Map>) {
    let mut params = kernel::MapParams::new(&d.name, d.map_type, d.key_size, d.value_size, d.max_entries);
    params.flags = d.flags;
    params.map_extra = d.map_extra;
    params.inner = inner.map(kernel::Map::fd);
    let ours = Map::create(d, cpus()).map_err(|e| e.errno());
    (ours, kernel::Map::create(&params))
}

#[test]
fn creation_is_refused_as_by_the_kernel() {
    if !is_root() {
        return;
    }
    let inner_kernel = kernel::Map::create(&kernel::MapParams::new("inner", M::Array, 4, 8, 1)).expect("inner");
    let inner = Map::create(&Definition::new("inner", M::Array, 4, 8, 1), cpus()).expect("inner");
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let big = 4 << 20;
    let keys = [0, 1, 2, 4, 4, 4, 5, 8, 16, 260, 261, 512, 513, 5000, big - 64, big, 1 << 31, u32::MAX];
    let values = [
        0,
        1,
        3,
        4,
        4,
        7,
        8,
        8,
        16,
        4096,
        32761,
        32768,
        32769,
        1 << 20,
        big - 280,
        big - 279,
        big - 60,
        big - 53,
        big - 52,
        big - 51,
        big,
        big + 1,
        1 << 31,
        u32::MAX,
    ];
    let entries = [0, 1, 1, 2, 3, 4096, 8192, 12288];
    let mut differ = Vec::new();
    let (mut made, mut refused) = (0, 0);
    for round in 0..12_000 {
        let map_type = dice.pick(TYPES);
        // Half of the time sizes that the type takes, so that what comes behind is tried too.
        let fitting = round % 2 == 0;
        let (key, value) = match map_type {
            M::Queue | M::Stack | M::BloomFilter if fitting => (0, dice.pick(&values)),
            M::Ringbuf if fitting => (0, 0),
            M::LpmTrie if fitting => (8, dice.pick(&values)),
            M::Array | M::PercpuArray if fitting => (4, dice.pick(&values)),
            M::ProgArray | M::PerfEventArray | M::ArrayOfMaps if fitting => (4, 4),
            M::HashOfMaps if fitting => (dice.pick(&keys), 4),
            _ => (dice.pick(&keys), dice.pick(&values)),
        };
        let mut max_entries = dice.pick(&entries);
        if key.saturating_add(value) > 1 << 14 {
            // Room that the kernel takes at once.
            max_entries = max_entries.min(1);
        }
        let mut flags = match map_type {
            M::LpmTrie if fitting => 1,
            _ => 0,
        };
        for _ in 0..dice.roll(3) {
            // 1 << 16 (token) is answered by whether there is a token.
            let bit = dice.pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 31]);
            flags |= 1 << bit;
        }
        let with_inner = dice.roll(4) != 0;
        let mut d = Definition::new("t", map_type, key, value, max_entries);
        d.flags = flags;
        d.map_extra = dice.pick(&[0, 0, 0, 0, 0, 3, 15, 16]);
        d.inner = with_inner.then(|| inner.clone());
        let (ours, theirs) = create_both(&d, with_inner.then_some(&inner_kernel));
        let theirs_errno = errno_of(&theirs);
        let ours_errno = ours.as_ref().err().map_or(0, |e| e.0);
        if theirs.is_ok() {
            made += 1
        } else {
            refused += 1
        }
        if ours_errno != theirs_errno {
            differ.push(format!(
                "{map_type} key {key} value {value} entries {max_entries} flags {flags:#x} extra {} inner {with_inner}: \
                 vm {ours_errno} kernel {theirs_errno}",
                d.map_extra
            ));
        }
        if let (Ok(ours), Ok(theirs)) = (&ours, &theirs) {
            assert_eq!(ours.max_entries(), theirs.info().expect("info").max_entries, "{d:?}");
        }
    }
    differ.sort();
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(made > 1000 && refused > 1000, "{made} made, {refused} refused");
}

/// What an operation gave, in a form that both sides have.
#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Done,
    Bytes(Vec<u8>),
    Error(i32),
}

fn ours<T>(result: Result<T, Errno>, bytes: impl FnOnce(T) -> Outcome) -> Outcome {
    result.map_or_else(|e| Outcome::Error(e.0), bytes)
}

fn theirs_read(result: kernel::Result<Option<Vec<u8>>>) -> Outcome {
    match result {
        Ok(Some(bytes)) => Outcome::Bytes(bytes),
        Ok(None) => Outcome::Error(Errno::ENOENT.0),
        Err(e) => Outcome::Error(e.errno().map_or(-1, |n| n.0)),
    }
}

fn theirs_done(result: kernel::Result<()>) -> Outcome {
    result.map_or_else(|e| Outcome::Error(e.errno().map_or(-1, |n| n.0)), |()| Outcome::Done)
}

fn theirs_delete(result: kernel::Result<bool>) -> Outcome {
    match result {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Error(Errno::ENOENT.0),
        Err(e) => Outcome::Error(e.errno().map_or(-1, |n| n.0)),
    }
}

/// Sets what user space does not see to the same on both sides: the bytes between a value and the end of its slot.
fn without_padding(map: &Map, mut value: Vec<u8>) -> Vec<u8> {
    let size = map.value_size() as usize;
    if map.is_per_cpu() {
        value.chunks_mut(size.next_multiple_of(8)).for_each(|slot| slot[size..].fill(0));
    }
    value
}

/// Plays `steps` random operations on a map of both.
fn play(d: &Definition, keys: &[Vec<u8>], steps: usize, seed: u64) {
    let (map, theirs) = create_both(d, None);
    let (map, theirs) = (map.expect("ours"), theirs.expect("theirs"));
    play_on(d, &map, &theirs, keys, steps, seed);
}

fn play_on(d: &Definition, map: &Map, theirs: &kernel::Map, keys: &[Vec<u8>], steps: usize, seed: u64) {
    let mut dice = Dice(seed | 1);
    let user = map.user();
    assert_eq!(user.value_len(), theirs.value_len(), "{d:?}");
    // The order of hashes is each one's own.
    let ordered = !matches!(d.map_type, M::Hash | M::PercpuHash | M::LruHash | M::LruPercpuHash | M::HashOfMaps);
    for step in 0..steps {
        let key = &keys[dice.roll(keys.len())];
        let how = dice.pick(&[Update::Any, Update::Any, Update::NoExist, Update::Exist]);
        let read = |result| ours(result, |v| Outcome::Bytes(without_padding(map, v)));
        let (name, a, b) = match dice.roll(12) {
            0..=3 => {
                let value = without_padding(map, dice.bytes(user.value_len()));
                let a = ours(user.update(key, &value, how as u64), |()| Outcome::Done);
                ("update", a, theirs_done(theirs.update(key, &value, how)))
            }
            4 | 5 => ("delete", ours(user.delete(key), |()| Outcome::Done), theirs_delete(theirs.delete(key))),
            6 | 7 if d.map_type != M::BloomFilter => {
                ("lookup", read(user.lookup(key, 0)), theirs_read(theirs.lookup(key)))
            }
            8 => {
                ("lookup and delete", read(user.lookup_and_delete(key, 0)), theirs_read(theirs.lookup_and_delete(key)))
            }
            9 => {
                let value = without_padding(map, dice.bytes(user.value_len()));
                let a = ours(user.update(key, &value, how as u64 | 4), |()| Outcome::Done);
                ("update locked", a, theirs_done(theirs.update_locked(key, &value, how)))
            }
            10 if d.map_type != M::BloomFilter => {
                ("lookup locked", read(user.lookup(key, 4)), theirs_read(theirs.lookup_locked(key)))
            }
            _ if ordered && d.key_size > 0 => {
                let from = (dice.roll(4) != 0).then_some(key.as_slice());
                ("next key", ours(user.next_key(from), Outcome::Bytes), theirs_read(theirs.next_key(from)))
            }
            _ => continue,
        };
        assert_eq!(a, b, "{d:?}, step {step}: {name} of {key:?} (left: vm, right: kernel)");
    }
    if theirs.is_readable() {
        let mut ours = user.entries().expect("our entries");
        ours.iter_mut().for_each(|(_, value)| *value = without_padding(map, std::mem::take(value)));
        let mut others = theirs.entries().expect("their entries");
        if !ordered {
            ours.sort();
            others.sort();
        }
        assert_eq!(ours, others, "{d:?}: contents at the end");
    }
}

fn numbered_keys(count: u8, size: usize) -> Vec<Vec<u8>> {
    (0..count).map(|i| (0..size).map(|at| if at == 0 { i } else { 0 }).collect()).collect()
}

#[test]
fn hashes_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    for (n, (key, value)) in [(1, 1), (4, 8), (8, 8), (16, 12), (5, 3), (64, 100)].into_iter().enumerate() {
        for map_type in [M::Hash, M::PercpuHash] {
            for flags in [0, 1, 1 << 6] {
                let d = Definition::new("h", map_type, key, value, 6).with_flags(flags);
                play(&d, &numbered_keys(10, key as usize), 1500, n as u64 * 7919 + flags + 1);
            }
        }
        for map_type in [M::LruHash, M::LruPercpuHash] {
            for flags in [0, 1 << 1] {
                // Few keys and much room: which one goes when it is full is each one's own.
                let d = Definition::new("l", map_type, key, value, 2048).with_flags(flags);
                play(&d, &numbered_keys(10, key as usize), 1500, n as u64 * 104_729 + flags + 1);
            }
        }
    }
}

#[test]
fn arrays_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    for (n, value) in [1, 4, 8, 12, 100].into_iter().enumerate() {
        for map_type in [M::Array, M::PercpuArray] {
            for flags in if map_type == M::Array { vec![0, 1 << 10, 1 << 12] } else { vec![0] } {
                let d = Definition::new("a", map_type, 4, value, 7).with_flags(flags);
                play(&d, &numbered_keys(10, 4), 1000, n as u64 + 11);
            }
        }
    }
}

#[test]
fn lpm_tries_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    for (bytes, seed) in [(1usize, 5u64), (4, 6), (4, 7), (8, 8), (16, 9), (13, 10)] {
        let mut dice = Dice(seed);
        let keys: Vec<Vec<u8>> = (0..60)
            .map(|_| {
                let len = if dice.roll(20) == 0 { bytes * 8 + 1 } else { dice.roll(bytes * 8 + 1) };
                let mut key = (len as u32).to_ne_bytes().to_vec();
                // Few different bits, so that prefixes begin with one another.
                key.extend((0..bytes).map(|_| dice.pick(&[0u8, 0, 0, 1, 0x80, 0xc0, 0xff])));
                key
            })
            .collect();
        for max_entries in [4, 20, 1000] {
            let d = Definition::new("t", M::LpmTrie, 4 + bytes as u32, 6, max_entries).with_flags(1);
            play(&d, &keys, 6000, seed * 31 + u64::from(max_entries));
        }
    }
}

#[test]
fn queues_stacks_and_filters_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    for value in [1, 4, 8, 12] {
        for map_type in [M::Queue, M::Stack] {
            for max_entries in [1, 5] {
                play(&Definition::new("q", map_type, 0, value, max_entries), &[vec![]], 2000, 3);
            }
        }
        play(&Definition::new("b", M::BloomFilter, 0, value, 100), &[vec![]], 300, 4);
    }
    // What was pushed is there on both sides.
    let d = Definition::new("b", M::BloomFilter, 0, 8, 1000);
    let (map, theirs) = create_both(&d, None);
    let (map, theirs) = (map.expect("ours"), theirs.expect("theirs"));
    let (mut wrong, mut wrong_theirs) = (0, 0);
    for i in 0u64..3000 {
        let value = i.wrapping_mul(0x9e37_79b9).to_ne_bytes();
        if i < 1000 {
            map.user().push(&value, false).expect("push");
            theirs.push(&value, false).expect("push");
            assert!(map.user().contains(&value).expect("peek") && theirs.contains(&value).expect("peek"));
        } else {
            wrong += u32::from(map.user().contains(&value).expect("peek"));
            wrong_theirs += u32::from(theirs.contains(&value).expect("peek"));
        }
    }
    assert!(wrong < 2 * wrong_theirs + 40, "{wrong} taken for members, {wrong_theirs} by the kernel");
}

#[test]
fn maps_of_handles_refuse_as_the_kernels() {
    if !is_root() {
        return;
    }
    for map_type in [M::ProgArray, M::PerfEventArray, M::Ringbuf] {
        let (key, value, entries) = if map_type == M::Ringbuf { (0, 0, 4096) } else { (4, 4, 5) };
        let d = Definition::new("d", map_type, key, value, entries);
        let (map, theirs) = create_both(&d, None);
        let (map, theirs) = (map.expect("ours"), theirs.expect("theirs"));
        let user = map.user();
        for key in if key == 0 { vec![vec![]] } else { numbered_keys(7, 4) } {
            for how in [Update::Any, Update::NoExist, Update::Exist] {
                // No descriptor has this number.
                let bad = vec![0xff; value as usize];
                let a = ours(user.update(&key, &bad, how as u64), |()| Outcome::Done);
                assert_eq!(a, theirs_done(theirs.update(&key, &bad, how)), "{map_type} update {key:?} {how:?}");
            }
            let a = ours(user.lookup(&key, 0), Outcome::Bytes);
            assert_eq!(a, theirs_read(theirs.lookup(&key)), "{map_type} lookup {key:?}");
            let a = ours(user.delete(&key), |()| Outcome::Done);
            assert_eq!(a, theirs_delete(theirs.delete(&key)), "{map_type} delete {key:?}");
            let a = ours(user.lookup_and_delete(&key, 0), Outcome::Bytes);
            assert_eq!(a, theirs_read(theirs.lookup_and_delete(&key)), "{map_type} lookup and delete {key:?}");
            let a = ours(user.next_key(Some(&key)), Outcome::Bytes);
            assert_eq!(a, theirs_read(theirs.next_key(Some(&key))), "{map_type} next key of {key:?}");
        }
    }
}

#[test]
fn maps_of_maps_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    let made = |d: &Definition| {
        let (ours, theirs) = create_both(d, None);
        (ours.expect("ours"), theirs.expect("theirs"))
    };
    let free = 1 << 12;
    let shapes = [
        Definition::new("a", M::Array, 4, 8, 4),
        Definition::new("b", M::Array, 4, 8, 5),
        Definition::new("c", M::Array, 4, 4, 4),
        Definition::new("d", M::Array, 4, 8, 4).with_flags(free),
        Definition::new("e", M::Array, 4, 8, 9).with_flags(free),
        Definition::new("f", M::Hash, 4, 8, 4),
        Definition::new("g", M::Hash, 4, 8, 400),
        Definition::new("h", M::Hash, 8, 8, 4),
        Definition::new("i", M::Hash, 4, 8, 4).with_flags(1),
        Definition::new("j", M::PercpuArray, 4, 8, 4),
        Definition::new("k", M::PercpuArray, 4, 8, 7),
        Definition::new("l", M::LruHash, 4, 8, 4),
        Definition::new("m", M::Queue, 0, 8, 4),
        Definition::new("n", M::Queue, 0, 8, 9),
        Definition::new("o", M::Ringbuf, 0, 0, 4096),
        Definition::new("p", M::Ringbuf, 0, 0, 8192),
        Definition::new("q", M::ProgArray, 4, 4, 4),
        Definition::new("r", M::PerfEventArray, 4, 4, 4),
        Definition::new("s", M::LpmTrie, 8, 8, 4).with_flags(1),
        Definition::new("t", M::BloomFilter, 0, 8, 4),
        Definition::new("u", M::PercpuHash, 4, 8, 4),
    ];
    let inner: Vec<_> = shapes.iter().map(made).collect();
    let mut of_maps = None;
    for outer_type in [M::ArrayOfMaps, M::HashOfMaps] {
        for (template, template_theirs) in &inner {
            let mut d = Definition::new("outer", outer_type, 4, 4, 3);
            d.inner = Some(template.clone());
            let (map, theirs) = create_both(&d, Some(template_theirs));
            let errno = map.as_ref().err().map_or(0, |e| e.0);
            assert_eq!(errno, errno_of(&theirs), "{outer_type} of {}", template.name());
            let (Ok(map), Ok(theirs)) = (map, theirs) else { continue };
            for (shape, shape_theirs) in &inner {
                for key in 0u32..5 {
                    let key = key.to_ne_bytes();
                    let a = ours(map.user().set_map(&key, shape.clone(), 0), |()| Outcome::Done);
                    let b = theirs_done(theirs.set_fd(&key, shape_theirs.fd()));
                    assert_eq!(a, b, "{outer_type} of {}: {} at {key:?}", template.name(), shape.name());
                }
            }
            for key in 0u32..5 {
                let key = key.to_ne_bytes();
                let there = |a: Outcome| if let Outcome::Bytes(_) = a { Outcome::Done } else { a };
                let a = there(ours(map.user().lookup(&key, 0), Outcome::Bytes));
                assert_eq!(a, there(theirs_read(theirs.lookup(&key))), "{outer_type} lookup {key:?}");
                let a = ours(map.user().lookup_and_delete(&key, 0), Outcome::Bytes);
                assert_eq!(a, theirs_read(theirs.lookup_and_delete(&key)), "{outer_type} take {key:?}");
                for _ in 0..2 {
                    let a = ours(map.user().delete(&key), |()| Outcome::Done);
                    assert_eq!(a, theirs_delete(theirs.delete(&key)), "{outer_type} delete {key:?}");
                }
            }
            of_maps = Some((map, theirs));
        }
    }
    // One level only.
    let (map, theirs) = of_maps.expect("some were made");
    let mut d = Definition::new("outer", M::ArrayOfMaps, 4, 4, 3);
    d.inner = Some(map);
    let (map, theirs) = create_both(&d, Some(&theirs));
    assert_eq!(map.err().map_or(0, |e| e.0), errno_of(&theirs));
}

#[test]
fn access_flags_and_freezing_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    for (map_type, key) in [(M::Hash, 4), (M::Array, 4), (M::Queue, 0), (M::LruPercpuHash, 4)] {
        for flags in [0, 1 << 3, 1 << 4, 1 << 7, 1 << 8] {
            let d = Definition::new("f", map_type, key, 8, 2000).with_flags(flags);
            let (map, theirs) = create_both(&d, None);
            let (map, theirs) = (map.expect("ours"), theirs.expect("theirs"));
            let keys = if key == 0 { vec![vec![]] } else { numbered_keys(5, 4) };
            // A map that cannot be read cannot be compared at the end.
            if flags != 1 << 4 {
                play_on(&d, &map, &theirs, &keys, 200, flags + 1);
            }
            for time in 0..2 {
                let a = ours(map.user().freeze(), |()| Outcome::Done);
                assert_eq!(a, theirs_done(theirs.freeze()), "{map_type} flags {flags:#x} freeze {time}");
            }
            if flags != 1 << 4 {
                play_on(&d, &map, &theirs, &keys, 200, flags + 2);
            }
        }
    }
}

/// BTF of `struct v { NAME s; unsigned long x; }` with the special type at 0 or behind, and `unsigned int`.
fn btf_with(name: &str, size: u32, offset: u32, value: u32) -> (kernel::BtfObject, u32, u32) {
    let mut btf = skep_btf::Builder::new();
    let int = btf.int("unsigned int", 4, false).expect("int");
    let inner = match size {
        4 => btf.structure(name, 4, &[("val", int, 0)]).expect("struct"),
        _ => {
            let long = btf.int("unsigned long long", 8, false).expect("int");
            let index = btf.int("int", 4, true).expect("int");
            let array = btf.array(long, index, 2).expect("array");
            btf.structure(name, 16, &[("__opaque", array, 0)]).expect("struct")
        }
    };
    let whole = btf.structure("v", value, &[("s", inner, offset * 8)]).expect("struct");
    let object = kernel::BtfObject::load(&btf.build().expect("BTF")).expect("BTF loads");
    (object, int.0, whole.0)
}

#[test]
fn special_fields_do_as_the_kernels() {
    if !is_root() {
        return;
    }
    let kinds = [
        (SpecialKind::SpinLock, "bpf_spin_lock"),
        (SpecialKind::Timer, "bpf_timer"),
        (SpecialKind::Workqueue, "bpf_wq"),
    ];
    for (kind, name) in kinds {
        for offset in [0, 8] {
            let value = 32;
            let (btf, key_type, value_type) = btf_with(name, kind.size(), offset, value);
            for map_type in [M::Hash, M::Array, M::LruHash, M::PercpuHash, M::PercpuArray, M::LpmTrie, M::LruPercpuHash]
            {
                for flags in [0, 1 << 7] {
                    let flags = if map_type == M::LpmTrie { flags | 1 } else { flags };
                    let key = if map_type == M::LpmTrie { 8 } else { 4 };
                    let mut d = Definition::new("s", map_type, key, value, 6).with_flags(flags);
                    if map_type == M::LruHash {
                        d.max_entries = 2048;
                    }
                    d.special = vec![SpecialField { kind, offset }];
                    let mut params = kernel::MapParams::new("s", map_type, key, value, d.max_entries);
                    params.flags = d.flags;
                    params.btf = Some((btf.fd(), if map_type == M::LpmTrie { 0 } else { key_type }, value_type));
                    let map = Map::create(&d, cpus()).map_err(|e| e.errno());
                    let theirs = kernel::Map::create(&params);
                    let what = format!("{map_type} with {name} at {offset} flags {flags:#x}");
                    if map_type == M::LpmTrie {
                        // Its key would have to be a struct; that it takes none of these fields is what counts.
                        assert!(map.is_err() && theirs.is_err(), "{what}");
                        continue;
                    }
                    assert_eq!(map.as_ref().err().map_or(0, |e| e.0), errno_of(&theirs), "{what}");
                    let (Ok(map), Ok(theirs)) = (map, theirs) else { continue };
                    play_on(&d, &map, &theirs, &numbered_keys(9, 4), 1500, u64::from(offset) + 77);
                    let a = ours(map.user().freeze(), |()| Outcome::Done);
                    assert_eq!(a, theirs_done(theirs.freeze()), "{what}: freeze");
                }
            }
        }
    }
}
