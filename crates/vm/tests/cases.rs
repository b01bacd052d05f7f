//! The text cases under tests/vm: every program runs by the interpreter and compiled, checked and fast, and in the kernel;
//! all must give the same result, memory and maps.
//!
//! A file holds cases. `SKEP_BLESS=1` writes the results that the checked interpreter gave in place of those that differ
//! (and only if all the others agree).
//!
//! ```text
//! == name                            # a comment
//! mem 01 02 03 04                    the bytes that r1 points to; r2 is their number (or: mem zero 16)
//! map counts hash 4 8 10             type, key and value size, entries; then flags=1 extra=1 lock=0 timer=0 self
//! map outer array_of_maps 4 4 2 inner array 4 8 1
//! set counts 01000000 = 0500000000000000
//! type xdp                           a program of this type in place of one on plain memory
//! packet 00 11 22 ...                for such a program; the 32-bit result is compared, and the packet
//! limit 5                            instructions
//! checked only: reason               not run fast
//! kernel as syscall                  the program type that the kernel gets it as (else tc)
//! kernel no: reason                  not run in the kernel
//!     r1 = map(counts)               the program, indented. value(counts) is the first value's address; helpers and
//!     call bpf_map_lookup_elem       kernel functions (`call kfunc(bpf_iter_num_new)`) have names
//!     exit
//! => 5                               the result, decimal or hexadecimal, or
//! => fault 1: read of 4 bytes        the faulting instruction and a part of the message (the kernel must refuse it)
//! memory 01 02 03 04                 what it left there
//!
//! == family {a} {b}                  one case for each row of a table
//!     r0 = {a} ll
//!     r1 = {b} ll
//!     r0 += r1
//!     exit
//! each a b
//!   1 2 => 3
//!   5 0xffffffffffffffff => 4
//! ```

use skep_abi::{MapType, ProgramType};
use skep_isa::{Call, Insn, InsnIdx, Wide};
use skep_kernel::load::LoadOptions;
use skep_kernel::{TestInput, Update};
use skep_progen::{Func, Generated, MapDef, Special};
use skep_vm::context::{Arrival, PacketRunner, Start};
use skep_vm::map::Map;
use skep_vm::{Config, Context, Fault, FaultKind, Limits, Memory, Mode, ObjectOptions, Vm};
use std::fmt::{self, Write};
use std::path::Path;

/// The type that the kernel gets a program on plain memory as.
const KERNEL_TYPE: ProgramType = ProgramType::SchedCls;

const ETHERNET_HEADER: usize = 14;

#[derive(Clone, Debug, Default)]
struct Case {
    name: String,
    maps: Vec<MapDef>,
    sets: Vec<(String, Vec<u8>, Vec<u8>)>,
    memory: Vec<u8>,
    prog_type: Option<ProgramType>,
    packet: Vec<u8>,
    limit: Option<u64>,
    kernel_type: Option<ProgramType>,
    kernel: bool,
    checked_only: bool,
    text: String,
    expected: Option<Expected>,
    /// Line of the expected result, from 0.
    line: usize,
    memory_after: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Expected {
    Value(u64),
    Fault(u32, String),
}

/// What a run left.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
    result: Result<u64, Stopped>,
    memory: Vec<u8>,
    maps: Vec<(String, Contents)>,
}

/// Keys and values of a map, sorted.
type Contents = Vec<(Vec<u8>, Vec<u8>)>;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("zero ") {
        Some(count) => vec![0; number(count) as usize],
        None => hex(text),
    }
}

fn number(text: &str) -> u64 {
    let text = text.trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    let value = value.unwrap_or_else(|_| panic!("{text} is no number"));
    if negative { value.wrapping_neg() } else { value }
}

fn shown(value: u64) -> String {
    match value as i64 {
        small @ -65536..=65536 => small.to_string(),
        _ => format!("{value:#x}"),
    }
}

fn map_of(words: &[&str]) -> MapDef {
    let [name, kind, key, value, entries, rest @ ..] = words else { panic!("a map has five words: {words:?}") };
    let kind = MapType::from_name(kind).unwrap_or_else(|| panic!("no map type {kind}"));
    let mut map = MapDef::new(name, kind, number(key) as u32, number(value) as u32, number(entries) as u32);
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("flags", value) => map.flags = number(value) as u32,
            ("extra", value) => map.extra = number(value),
            ("lock", value) => map.field = Some((Special::SpinLock, number(value) as u32)),
            ("timer", value) => map.field = Some((Special::Timer, number(value) as u32)),
            ("self", _) => map.holds_self = true,
            ("inner", _) => {
                let mut inner = vec!["inner"];
                inner.extend(rest.by_ref());
                map.inner = Some(Box::new(map_of(&inner)));
            }
            _ => panic!("map option {word}"),
        }
    }
    map
}

fn expected(text: &str) -> Option<Expected> {
    let text = text.trim();
    match text.strip_prefix("fault ") {
        Some(rest) => {
            let (at, why) = rest.split_once(':').unwrap_or((rest, ""));
            Some(Expected::Fault(number(at) as u32, why.trim().to_owned()))
        }
        None if text.is_empty() => None,
        None => Some(Expected::Value(number(text))),
    }
}

/// The cases of a file; tables are written out.
fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = Case::default();
    let mut columns: Option<Vec<String>> = None;
    // Lines with parameters, kept until the row that fills them in.
    let mut raw: Vec<&str> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let plain = line.split(" #").next().unwrap_or_default().trim_end();
        if plain.trim().is_empty() || plain.starts_with('#') {
            continue;
        }
        if let Some(name) = plain.strip_prefix("== ") {
            case = Case { name: name.to_owned(), kernel: true, ..Case::default() };
            columns = None;
            raw.clear();
        } else if let Some(columns) = &columns {
            let (values, result) = plain.split_once("=>").unwrap_or((plain, ""));
            let values: Vec<&str> = values.split_whitespace().collect();
            assert_eq!(values.len(), columns.len(), "line {}: {} values are wanted", at + 1, columns.len());
            let fill = |text: &str| {
                columns
                    .iter()
                    .zip(&values)
                    .fold(text.to_owned(), |text, (column, value)| text.replace(&format!("{{{column}}}"), value))
            };
            let mut row = Case { name: fill(&case.name), kernel: true, ..Case::default() };
            for line in &raw {
                row.take(&fill(line), at);
            }
            (row.expected, row.line) = (expected(result), at);
            cases.push(row);
        } else if let Some(names) = plain.strip_prefix("each ") {
            columns = Some(names.split_whitespace().map(str::to_owned).collect());
        } else if let Some(result) = plain.strip_prefix("=>") {
            for line in &raw {
                case.take(line, at);
            }
            raw.clear();
            (case.expected, case.line) = (expected(result), at);
            cases.push(case.clone());
        } else if let Some(after) = plain.strip_prefix("memory ") {
            if let Some(last) = cases.last_mut() {
                last.memory_after = Some(bytes(after));
            }
        } else {
            raw.push(plain);
        }
    }
    cases
}

impl Case {
    fn take(&mut self, line: &str, at: usize) {
        if line.starts_with(' ') {
            self.text.push_str(line);
            self.text.push('\n');
            return;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let type_named = |name: &str| ProgramType::from_name(name).unwrap_or_else(|| panic!("no program type {name}"));
        match word {
            "mem" => self.memory = bytes(rest),
            "map" => self.maps.push(map_of(&rest.split_whitespace().collect::<Vec<_>>())),
            "set" => {
                let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
                let (map, key) = key.trim().split_once(' ').unwrap_or((key.trim(), ""));
                self.sets.push((map.to_owned(), hex(key), bytes(value.trim())));
            }
            "type" => self.prog_type = Some(type_named(rest)),
            "packet" => self.packet = bytes(rest),
            "limit" => self.limit = Some(number(rest)),
            "checked" => self.checked_only = true,
            "kernel" => match rest.strip_prefix("as ") {
                Some(name) => self.kernel_type = Some(type_named(name)),
                None => self.kernel = false,
            },
            _ => panic!("line {}: {line}", at + 1),
        }
    }

    /// The program, with these lines before it.
    fn program(&self, before: &str, prog_type: ProgramType, maps: Vec<MapDef>) -> Generated {
        // A negative offset from a table.
        let mut text = format!("{before}{}", self.text).replace("+ -", "- ");
        for (index, map) in maps.iter().enumerate() {
            text = text.replace(&format!("map({})", map.name), &format!("map_by_idx({index})"));
            text = text.replace(&format!("value({})", map.name), &format!("map_val(map_by_idx({index}))"));
        }
        let mut kfuncs: Vec<String> = Vec::new();
        while let Some(at) = text.find("kfunc(bpf_") {
            let rest = &text[at + 6..];
            let name = rest[..rest.find(')').expect("a bracket")].to_owned();
            let index = kfuncs.iter().position(|known| *known == name).unwrap_or_else(|| {
                kfuncs.push(name.clone());
                kfuncs.len() - 1
            });
            text = text.replace(&format!("kfunc({name})"), &format!("kfunc({index})"));
        }
        let insns = skep_isa::assemble_with(&text, &Names).unwrap_or_else(|errors| {
            let errors: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
            panic!("{}: {}\n{text}", self.name, errors.join("; "))
        });
        let mut starts = vec![InsnIdx(0)];
        let mut at = InsnIdx(0);
        for insn in &insns {
            if let Insn::Call(Call::Subprog(_)) | Insn::LoadWide { value: Wide::Func(_), .. } = insn {
                starts.extend(insn.target(at));
            }
            at.0 += insn.slots();
        }
        starts.sort_unstable();
        starts.dedup();
        let funcs = starts.iter().enumerate().map(|(index, start)| Func {
            start: *start,
            name: if index == 0 { "prog".to_owned() } else { format!("func{index}") },
            global: false,
            params: Vec::new(),
            void: false,
        });
        let funcs = funcs.collect();
        Generated {
            name: "case".to_owned(),
            family: "case".to_owned(),
            prog_type,
            attach_type: None,
            target: None,
            sleepable: false,
            license: "GPL".to_owned(),
            memory: None,
            insns,
            funcs,
            maps,
            kfuncs,
            notes: Vec::new(),
        }
    }

    /// Whether a test run of the kernel gives the packet without its Ethernet header.
    fn begins_at_network(&self) -> bool {
        matches!(self.prog_type, Some(ProgramType::SocketFilter | ProgramType::CgroupSkb))
    }

    fn run_vm(&self, mode: Mode, memory: Memory) -> Result<(Outcome, u64), String> {
        let limits = Limits {
            insns: self.limit.or((memory == Memory::Checked).then_some(100_000_000)),
            time: None,
            ..Limits::default()
        };
        let cpus = skep_kernel::cpu::possible().map_or(1, |cpus| cpus as u32);
        let vm = Vm::new(Config { mode, memory, limits, cpus, ..Config::default() });
        let prog_type = self.prog_type.unwrap_or(ProgramType::Unspec);
        let spec = self.program("", prog_type, self.maps.clone()).to_spec();
        let object = vm.load(&spec, &ObjectOptions::default()).map_err(|error| format!("load: {error}"))?;
        let program = object.program_named("prog").ok_or("not loaded")?;
        if mode == Mode::Compiled && cfg!(target_arch = "x86_64") {
            assert!(program.is_compiled());
        }
        for (map, key, value) in &self.sets {
            let map = object.map_named(map).unwrap_or_else(|| panic!("no map {map}"));
            let value = if map.is_per_cpu() { value.repeat(map.cpus() as usize) } else { value.clone() };
            if key.is_empty() {
                map.user().push(&value, false).map_err(|error| format!("push: {error:?}"))?;
            } else {
                map.user().update(key, &value, 0).map_err(|error| format!("set: {error:?}"))?;
            }
        }
        let mut after = self.memory.clone();
        let (result, used) = match self.prog_type {
            None => {
                let mut runner = vm.runner();
                let result = runner.run(program, &mut Context::memory(&mut after));
                (result.map_err(|fault| told(&fault)), runner.used_insns())
            }
            Some(_) => {
                let runner = PacketRunner::new(&vm, program, None, 1 << 14).map_err(|error| error.to_string())?;
                // As a test run of the kernel has it.
                let mut runner = match self.begins_at_network() {
                    true => runner.starting_at(Start::Network),
                    false => runner,
                };
                let result = runner.run(&self.packet, &Arrival::default());
                after = runner.packet().to_vec();
                let result = match result {
                    Ok(outcome) => Ok(u64::from(outcome.value as u32)),
                    Err(skep_vm::context::RunError::Fault(fault)) => Err(told(&fault)),
                    Err(other) => return Err(other.to_string()),
                };
                (result, runner.runner_mut().used_insns())
            }
        };
        let maps = self.maps.iter().zip(0..).filter_map(|(def, index)| {
            let map = object.map(skep_object::MapIdx(index))?;
            Some((def.name.clone(), contents_vm(map)?))
        });
        Ok((Outcome { result, memory: after, maps: maps.collect() }, used))
    }

    fn run_kernel(&self) -> Result<Outcome, String> {
        let mut maps = self.maps.clone();
        let mut before = String::new();
        if self.prog_type.is_none() {
            let size = (self.memory.len() as u32).max(1);
            maps.push(MapDef::new("the_memory", MapType::Array, 4, size, 1));
            maps.push(MapDef::new("the_result", MapType::Array, 4, 8, 1));
            before = match self.memory.len() {
                0 => "r1 = 0\nr2 = 0\n".to_owned(),
                len => format!("r1 = value(the_memory)\nr2 = {len}\n"),
            };
            before.push_str("call the_case\nr1 = value(the_result)\n*(u64 *)(r1 + 0) = r0\nr0 = 0\nexit\nthe_case:\n");
        }
        let prog_type = self.prog_type.or(self.kernel_type).unwrap_or(KERNEL_TYPE);
        let spec = self.program(&before, prog_type, maps).to_spec();
        let loaded =
            skep_kernel::load::load(&spec, &LoadOptions::default()).map_err(|error| format!("load: {error}"))?;
        let program = loaded.program_named("prog").ok_or("not loaded")?;
        let map = |name: &str| loaded.map_named(name).unwrap_or_else(|| panic!("no map {name}"));
        for (name, key, value) in &self.sets {
            let map = map(name);
            let any = Update::Any;
            let set = match key.is_empty() {
                true => map.push(value, false),
                false if map.is_per_cpu() => map.spread(value).and_then(|value| map.update(key, &value, any)),
                false => map.update(key, value, any),
            };
            set.map_err(|error| error.to_string())?;
        }
        let zero = 0u32.to_ne_bytes();
        if self.prog_type.is_none() && !self.memory.is_empty() {
            let any = Update::Any;
            map("the_memory").update(&zero, &self.memory, any).map_err(|error| error.to_string())?;
        }
        let packet = if self.packet.is_empty() { vec![0; 64] } else { self.packet.clone() };
        let input = match prog_type {
            ProgramType::Syscall => TestInput::default(),
            _ => TestInput { data: &packet, data_out_len: Some(1 << 14), ..TestInput::default() },
        };
        let mut output = program.test_run(&input).map_err(|error| error.to_string())?;
        if self.begins_at_network() {
            output.data.drain(..ETHERNET_HEADER.min(output.data.len()));
        }
        let mut outcome =
            Outcome { result: Ok(u64::from(output.value)), memory: output.data.clone(), maps: Vec::new() };
        if self.prog_type.is_none() {
            let first = |name: &str| map(name).lookup(&zero).ok().flatten().unwrap_or_default();
            let result = first("the_result");
            outcome.result = Ok(result.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)));
            outcome.memory = if self.memory.is_empty() { Vec::new() } else { first("the_memory") };
        }
        for def in &self.maps {
            if let Some(contents) = contents_kernel(map(&def.name)) {
                outcome.maps.push((def.name.clone(), contents));
            }
        }
        Ok(outcome)
    }
}

/// Helper names for the assembler.
struct Names;

impl skep_isa::Symbols for Names {
    fn helper(&self, name: &str) -> Option<u32> {
        skep_abi::helpers::by_name(name).map(|helper| helper.id)
    }
}

/// Whether the contents of such a map can be listed and compared.
fn listed(kind: MapType) -> bool {
    matches!(
        kind,
        MapType::Array
            | MapType::PercpuArray
            | MapType::Hash
            | MapType::PercpuHash
            | MapType::LruHash
            | MapType::LruPercpuHash
            | MapType::LpmTrie
    )
}

/// Values of CPUs in an order of their own: which CPU a program ran on is no matter.
fn settled(mut contents: Contents, per_cpu: Option<usize>) -> Contents {
    for (_, value) in &mut contents {
        if let Some(size) = per_cpu {
            let mut values: Vec<&[u8]> = value.chunks(size.next_multiple_of(8)).collect();
            values.sort_unstable();
            *value = values.concat();
        }
    }
    contents.sort_unstable();
    contents
}

fn contents_vm(map: &Map) -> Option<Contents> {
    let entries = listed(map.map_type()).then(|| map.user().entries().expect("listed"))?;
    Some(settled(entries, map.is_per_cpu().then(|| map.value_size() as usize)))
}

fn contents_kernel(map: &skep_kernel::Map) -> Option<Contents> {
    let entries = map.map_type().filter(|kind| listed(*kind)).map(|_| map.entries().expect("listed"))?;
    Some(settled(entries, map.is_per_cpu().then_some(map.value_size())))
}

/// A fault: what must be the same in every run, and the message, in which addresses and neighbours are those of its run.
#[derive(Clone, Eq)]
struct Stopped {
    same: String,
    message: String,
}

impl PartialEq for Stopped {
    fn eq(&self, other: &Stopped) -> bool {
        self.same == other.same
    }
}

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn told(fault: &Fault) -> Stopped {
    let without_addresses =
        |text: &str| text.split_whitespace().filter(|word| !word.starts_with("0x")).collect::<Vec<_>>().join(" ");
    let same = match &fault.kind {
        FaultKind::Access(access) => {
            format!("{} {} {} {}", fault.insn, access.size, access.write, access.why.as_deref().unwrap_or_default())
        }
        _ => without_addresses(&fault.to_string()),
    };
    Stopped { same, message: without_addresses(&fault.to_string()) }
}

/// What is wrong with a case, if anything, and what the checked interpreter gave.
fn check(case: &Case, root: bool) -> (Vec<String>, Option<Outcome>) {
    let (definition, used) = match case.run_vm(Mode::Interpreter, Memory::Checked) {
        Ok(outcome) => outcome,
        Err(error) => return (vec![error], None),
    };
    let mut wrong = Vec::new();
    let mut compare = |who: &str, outcome: &Outcome| {
        if outcome != &definition {
            let mut text = format!("{who} disagrees with the checked interpreter");
            if outcome.result != definition.result {
                let _ = write!(text, ": {:x?}, not {:x?}", outcome.result, definition.result);
            }
            if outcome.memory != definition.memory {
                let _ = write!(text, ": memory {:02x?}, not {:02x?}", outcome.memory, definition.memory);
            }
            if outcome.maps != definition.maps {
                let _ = write!(text, ": maps {:02x?}, not {:02x?}", outcome.maps, definition.maps);
            }
            wrong.push(text);
        }
    };
    match case.run_vm(Mode::Compiled, Memory::Checked) {
        Ok((outcome, count)) => {
            compare("the checked compiler", &outcome);
            if count != used {
                wrong.push(format!("the checked compiler counts {count} instructions, not {used}"));
            }
        }
        Err(error) => wrong.push(format!("the checked compiler: {error}")),
    }
    if !case.checked_only && (definition.result.is_ok() || case.limit.is_some_and(|limit| used == limit)) {
        for (who, mode) in [("the fast interpreter", Mode::Interpreter), ("the fast compiler", Mode::Compiled)] {
            match case.run_vm(mode, Memory::Fast) {
                Ok((outcome, _)) => {
                    let compare = |outcome: &Outcome| {
                        (outcome != &definition).then(|| {
                            format!(
                                "{who} disagrees with the checked interpreter: {outcome:02x?}, not {definition:02x?}"
                            )
                        })
                    };
                    wrong.extend(compare(&outcome));
                }
                Err(error) => wrong.push(format!("{who}: {error}")),
            }
        }
    }
    if root && case.kernel && case.limit.is_none() {
        match (case.run_kernel(), &definition.result) {
            (Ok(outcome), Ok(_)) if outcome != definition => {
                wrong.push(format!("the kernel disagrees: {outcome:02x?}, not {definition:02x?}"));
            }
            (Ok(_), Ok(_)) => {}
            (Ok(outcome), Err(fault)) => {
                wrong.push(format!("the kernel takes it and gives {outcome:02x?}, not {fault:?}"))
            }
            (Err(error), Ok(_)) => wrong.push(format!("the kernel: {error}")),
            (Err(_), Err(_)) => {}
        }
    }
    if let Some(after) = &case.memory_after
        && after != &definition.memory
    {
        wrong.push(format!("it leaves the memory {:02x?}, not {after:02x?}", definition.memory));
    }
    (wrong, Some(definition))
}

fn as_expected(case: &Case, outcome: &Outcome) -> bool {
    match (&case.expected, &outcome.result) {
        (Some(Expected::Value(value)), Ok(result)) => value == result,
        (Some(Expected::Fault(at, part)), Err(fault)) => {
            fault.message.contains(&format!("instruction {at}:")) && fault.message.contains(part.as_str())
        }
        _ => false,
    }
}

#[test]
fn every_engine_agrees_with_the_text_cases() {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("needs root: the cases are not run in the kernel");
    }
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let only = std::env::var("SKEP_CASE").ok();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("tests/vm is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let (mut count, mut failures) = (0, Vec::new());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("readable");
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut blessed = false;
        for case in parse(&text) {
            if only.as_ref().is_some_and(|only| !format!("{file} {}", case.name).contains(only)) {
                continue;
            }
            count += 1;
            let (wrong, outcome) = check(&case, root);
            let place = format!("{file}:{}: {}", case.line + 1, case.name);
            for wrong in &wrong {
                failures.push(format!("{place}: {wrong}"));
            }
            let Some(outcome) = outcome else { continue };
            if as_expected(&case, &outcome) {
                continue;
            }
            match (&outcome.result, bless && wrong.is_empty()) {
                (Ok(value), true) => {
                    let line = &mut lines[case.line];
                    let keep = line.split("=>").next().unwrap_or_default().trim_end().to_owned();
                    *line = if keep.is_empty() {
                        format!("=> {}", shown(*value))
                    } else {
                        format!("{keep} => {}", shown(*value))
                    };
                    blessed = true;
                }
                (result, _) => {
                    let result = result.as_ref().map(|value| shown(*value));
                    failures.push(format!("{place}: {result:?}, not {:?}", case.expected));
                }
            }
        }
        if blessed {
            std::fs::write(&path, lines.join("\n") + "\n").expect("writable");
        }
    }
    assert!(failures.is_empty(), "{} of {count} cases:\n{}", failures.len(), failures.join("\n"));
    println!("{count} cases");
    assert!(only.is_some() || count >= 400, "only {count} cases");
}
