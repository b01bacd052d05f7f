//! Maps against the running kernel, and what bpftool says of the same ones.

mod support;

use skep_abi::MapType;
use skep_kernel::{Error, Map, MapParams, Update, cpu};
use std::collections::BTreeMap;
use std::process::Command;

fn map(name: &str, map_type: MapType, key: u32, value: u32, entries: u32) -> Map {
    Map::create(&MapParams::new(name, map_type, key, value, entries)).expect("a map")
}

fn bpftool(args: &[&str]) -> serde_json::Value {
    let out = Command::new("bpftool").arg("-j").args(args).output().expect("bpftool");
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("bpftool {args:?}: {e}: {}", String::from_utf8_lossy(&out.stdout)))
}

/// A list of "0x.." bytes.
fn bytes(value: &serde_json::Value) -> Vec<u8> {
    let hex = |v: &serde_json::Value| {
        u8::from_str_radix(v.as_str().expect("text").trim_start_matches("0x"), 16).expect("hex")
    };
    value.as_array().expect("bytes").iter().map(hex).collect()
}

#[test]
fn hash_as_bpftool_sees_it() {
    if !support::root("hash_as_bpftool_sees_it") {
        return;
    }
    let map = map("skep_t_hash", MapType::Hash, 4, 8, 5000);
    let wanted: BTreeMap<Vec<u8>, Vec<u8>> =
        (0..3000u32).map(|i| (i.to_ne_bytes().to_vec(), (u64::from(i) * 7).to_ne_bytes().to_vec())).collect();
    let keys: Vec<u8> = wanted.keys().flatten().copied().collect();
    let values: Vec<u8> = wanted.values().flatten().copied().collect();
    map.update_batch(&keys, &values, Update::Any).expect("update");
    let ours: BTreeMap<_, _> = map.entries().expect("walk").into_iter().collect();
    assert_eq!(ours, wanted);

    let id = map.id().expect("id").to_string();
    let theirs: BTreeMap<Vec<u8>, Vec<u8>> = bpftool(&["map", "dump", "id", &id])
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| (bytes(&e["key"]), bytes(&e["value"])))
        .collect();
    assert_eq!(theirs, wanted);
    let info = map.info().expect("info");
    let show = bpftool(&["map", "show", "id", &id]);
    assert_eq!(show["name"], info.name.as_str());
    assert_eq!(show["bytes_key"], info.key_size);
    assert_eq!(show["bytes_value"], info.value_size);
    assert_eq!(show["max_entries"], info.max_entries);

    // Deleting passes over keys that are not there.
    let some: Vec<u8> = [5u32, 9_999_999, 6, 9_999_998, 7].iter().flat_map(|k| k.to_ne_bytes()).collect();
    assert_eq!(map.delete_batch(&some).expect("delete"), 3);
    assert_eq!(map.entries().expect("walk").len(), 2997);
    let batch = map.lookup_and_delete_batch(None, 4000).expect("take");
    assert_eq!(batch.iter().count(), 2997);
    assert_eq!(map.entries().expect("walk").len(), 0);
}

#[test]
fn updates_keep_their_promises() {
    if !support::root("updates_keep_their_promises") {
        return;
    }
    let map = map("skep_t_flags", MapType::Hash, 4, 4, 2);
    let (one, two, three) = (1u32.to_ne_bytes(), 2u32.to_ne_bytes(), 3u32.to_ne_bytes());
    assert_eq!(map.update(&one, &one, Update::Exist).expect_err("not there").errno().expect("errno").0, libc::ENOENT);
    map.update(&one, &one, Update::NoExist).expect("new");
    assert_eq!(map.update(&one, &two, Update::NoExist).expect_err("there").errno().expect("errno").0, libc::EEXIST);
    map.update(&two, &two, Update::Any).expect("second");
    let full = map.update(&three, &three, Update::Any).expect_err("full");
    assert!(full.to_string().contains("it is full: 2 entries"), "{full}");
    assert_eq!(map.lookup_and_delete(&one).expect("take"), Some(one.to_vec()));
    assert_eq!(map.lookup(&one).expect("lookup"), None);
    assert!(!map.delete(&one).expect("delete"));
    assert!(map.delete(&two).expect("delete"));
    assert!(matches!(map.lookup(&[1, 2]), Err(Error::Size { expected: 4, given: 2, .. })));
    assert!(matches!(map.update(&one, &[0; 8], Update::Any), Err(Error::Size { what: "a value", .. })));
}

#[test]
fn per_cpu_values_have_a_slot_for_each_cpu() {
    if !support::root("per_cpu_values") {
        return;
    }
    // 12 bytes are rounded up to 16 in each slot.
    let map = map("skep_t_percpu", MapType::PercpuArray, 4, 12, 3);
    let cpus = cpu::possible().expect("cpus");
    assert_eq!(map.value_len(), 16 * cpus);
    let zero = 0u32.to_ne_bytes();
    map.update(&zero, &map.spread(b"twelve bytes").expect("spread"), Update::Any).expect("update");
    let value = map.lookup(&zero).expect("lookup").expect("there");
    let slots: Vec<&[u8]> = map.per_cpu(&value).collect();
    assert_eq!(slots, vec![b"twelve bytes".as_slice(); cpus]);
    assert_eq!(map.entries().expect("walk").len(), 3);
    let theirs = bpftool(&["map", "dump", "id", &map.id().expect("id").to_string()]);
    assert_eq!(theirs[0]["values"].as_array().expect("values").len(), cpus);
    assert_eq!(bytes(&theirs[0]["values"][cpus - 1]["value"]), b"twelve bytes");
}

#[test]
fn maps_without_batches_are_walked_by_key() {
    if !support::root("maps_without_batches") {
        return;
    }
    let mut params = MapParams::new("skep_t_lpm", MapType::LpmTrie, 8, 4, 10);
    params.flags = 1;
    let map = Map::create(&params).expect("a trie");
    for (bits, a) in [(8u32, 10u8), (16, 172), (24, 192)] {
        let mut key = bits.to_ne_bytes().to_vec();
        key.extend([a, 0, 0, 0]);
        map.update(&key, &bits.to_ne_bytes(), Update::Any).expect("update");
    }
    assert_eq!(map.entries().expect("walk").len(), 3);
    // A stack trace map has neither batches nor, in old kernels, a first key.
    let stacks = Map::create(&MapParams::new("skep_t_stack", MapType::StackTrace, 4, 8 * 8, 8)).expect("a map");
    assert_eq!(stacks.entries().expect("walk").len(), 0);
}

#[test]
fn queues_and_stacks() {
    if !support::root("queues_and_stacks") {
        return;
    }
    let queue = map("skep_t_queue", MapType::Queue, 0, 4, 2);
    let stack = map("skep_t_stack", MapType::Stack, 0, 4, 2);
    for n in [1u32, 2] {
        queue.push(&n.to_ne_bytes(), false).expect("push");
        stack.push(&n.to_ne_bytes(), false).expect("push");
    }
    assert!(queue.push(&3u32.to_ne_bytes(), false).is_err());
    queue.push(&3u32.to_ne_bytes(), true).expect("makes room");
    assert_eq!(queue.lookup(&[]).expect("peek"), Some(2u32.to_ne_bytes().to_vec()));
    assert_eq!(queue.pop().expect("pop"), Some(2u32.to_ne_bytes().to_vec()));
    assert_eq!(stack.pop().expect("pop"), Some(2u32.to_ne_bytes().to_vec()));
    assert_eq!(queue.pop().expect("pop"), Some(3u32.to_ne_bytes().to_vec()));
    assert_eq!(queue.pop().expect("pop"), None);
    let bloom = map("skep_t_bloom", MapType::BloomFilter, 0, 4, 100);
    bloom.push(&7u32.to_ne_bytes(), false).expect("push");
    assert!(bloom.contains(&7u32.to_ne_bytes()).expect("contains"));
}

#[test]
fn a_walk_survives_changes() {
    if !support::root("a_walk_survives_changes") {
        return;
    }
    let map = map("skep_t_churn", MapType::Hash, 4, 4, 2000);
    let put = |i: u32| map.update(&i.to_ne_bytes(), &i.to_ne_bytes(), Update::Any);
    (0..1000).for_each(|i| put(i).expect("update"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut i = 0u32;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let key = 1000 + i % 900;
                put(key).expect("update");
                map.delete(&(1000 + (i + 450) % 900).to_ne_bytes()).expect("delete");
                i += 1;
            }
        });
        for _ in 0..50 {
            let all: std::collections::HashSet<Vec<u8>> = map.iter().map(|e| e.expect("an element").0).collect();
            // What was there all the while is there.
            assert!((0..1000u32).all(|i| all.contains(i.to_ne_bytes().as_slice())));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        churn.join().expect("joined");
    });
}

#[test]
fn frozen_and_unknown() {
    if !support::root("frozen_and_unknown") {
        return;
    }
    let map = map("skep_t_frozen", MapType::Array, 4, 4, 1);
    map.freeze().expect("freeze");
    let error = map.update(&[0; 4], &[1; 4], Update::Any).expect_err("frozen");
    assert!(error.to_string().contains("frozen"), "{error}");
    let error = Map::create(&MapParams::new("odd", MapType::Array, 3, 4, 1)).expect_err("keys of arrays have 4 bytes");
    assert!(error.to_string().starts_with("create map odd (array, key 3, value 4, 1 entries): "), "{error}");
    assert!(Map::from_id(u32::MAX - 1).is_err());
    assert!(Map::from_fd(std::fs::File::open("/dev/null").expect("open").into(), None).is_err());
}

#[test]
fn another_process_finds_it() {
    if !support::root("another_process_finds_it") {
        return;
    }
    let map = map("skep_t_owner", MapType::Array, 4, 4, 1);
    let id = map.id().expect("id");
    assert!(skep_kernel::inspect::maps().expect("list").iter().any(|m| m.id == id && m.name == "skep_t_owner"));
    let owners = skep_kernel::inspect::owners();
    assert!(owners.maps[&id].iter().any(|o| o.pid == std::process::id()), "{owners:?}");
    let again = Map::from_id(id).expect("open");
    again.update(&[0; 4], &[9; 4], Update::Any).expect("update");
    assert_eq!(map.lookup(&[0; 4]).expect("lookup"), Some(vec![9; 4]));
}

#[test]
fn pins_hold_a_map() {
    if !support::root("pins_hold_a_map") {
        return;
    }
    let dir = std::path::PathBuf::from(format!("/sys/fs/bpf/skep_test_{}", std::process::id()));
    let path = dir.join("held");
    let id = {
        let map = map("skep_t_pin", MapType::Array, 4, 4, 1);
        map.update(&[0; 4], &[3; 4], Update::Any).expect("update");
        map.pin(&path).expect("pin");
        assert!(map.pin(&path).expect_err("taken").to_string().contains("pinned there already"));
        map.id().expect("id")
    };
    let found = skep_kernel::inspect::pins(&dir);
    let again = Map::from_pin(&path);
    skep_kernel::pin::unpin(&path).expect("unpin");
    std::fs::remove_dir(&dir).expect("remove the directory");
    let again = again.expect("the pin");
    assert_eq!(again.id().expect("id"), id);
    assert_eq!(again.lookup(&[0; 4]).expect("lookup"), Some(vec![3; 4]));
    let found = found.expect("list");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].object, skep_kernel::inspect::Pinned::Map(id));
    let error = again.pin(&std::env::temp_dir().join("skep_no_pin")).expect_err("no bpffs");
    assert!(error.to_string().contains("not in a BPF file system"), "{error}");
}

#[test]
fn directories_for_pins_are_made_only_in_a_bpffs() {
    if !support::root("directories_for_pins") {
        return;
    }
    let map = Map::create(&MapParams::new("nowhere", MapType::Array, 4, 4, 1)).expect("a map");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let error = map.pin(&dir.path().join("made/here")).expect_err("no bpffs");
    assert!(error.to_string().contains("not in a BPF file system"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
    // Neither by a way through one.
    let out = format!("/sys/fs/bpf/skep_no_such/../../../..{}/made/here", dir.path().display());
    let error = map.pin(std::path::Path::new(&out)).expect_err("leads out");
    assert!(error.to_string().contains("a path through `..`"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("the directory").count(), 0);
    assert!(!std::path::Path::new("/sys/fs/bpf/skep_no_such").exists());
}
