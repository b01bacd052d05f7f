//! The form of a case, and a run of it in the embedded engine.

use skep_abi::{AttachType, ProgramType};
use skep_isa::Raw;
use skep_vm::context::{Arrival, Outcome, PacketRunner, Redirect, Start};
use skep_vm::{Config, Memory, Mode, Vm};
use std::fmt::Write as _;

/// A case in its file.
pub(crate) struct Part<'t> {
    /// Everything from the end of the last case's results to the start of this one's, the case itself included.
    pub(crate) before: &'t str,
    /// What the file says that comes of it.
    pub(crate) results: &'t str,
}

/// Splits a file at its results, lines with `-> `.
pub(crate) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut at, mut results) = (0, 0, None);
    for line in text.split_inclusive('\n').chain([""]) {
        let is_result = line.contains("-> ") && !line.starts_with([' ', '#']);
        match (is_result, results) {
            (true, None) => results = Some(at),
            (false, Some(from)) => {
                parts.push(Part { before: &text[start..from], results: &text[from..at] });
                (start, results) = (at, None);
            }
            _ => {}
        }
        // A case without results yet ends where the next begins.
        if line.starts_with("== ") && text[start..at].lines().any(|line| line.starts_with("== ")) {
            parts.push(Part { before: &text[start..at], results: "" });
            start = at;
        }
        at += line.len();
    }
    if start < text.len() {
        parts.push(Part { before: &text[start..], results: "" });
    }
    parts
}

/// A program, a packet, and the values that its parameters take.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) program: ProgramType,
    pub(crate) attach: Option<AttachType>,
    pub(crate) packet: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) arrival: Arrival,
    pub(crate) asm: String,
    pub(crate) parameters: Vec<(String, Vec<String>)>,
    /// Why the kernel cannot run it.
    pub(crate) not_in_kernel: Option<String>,
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect(text)).collect()
}

/// Names with `bpf_` left out become numbers.
pub(crate) fn with_helper_numbers(asm: &str) -> String {
    let line = |line: &str| match line.split_once("call ") {
        Some((before, name)) if name.chars().next().is_some_and(char::is_alphabetic) => {
            let helper = skep_abi::helpers::by_name(name.trim()).unwrap_or_else(|| panic!("no helper {name}"));
            format!("{before}call {}", helper.id)
        }
        _ => line.to_owned(),
    };
    asm.lines().map(line).collect::<Vec<_>>().join("\n")
}

impl Case {
    /// `None` for a part without a case (the file's end).
    pub(crate) fn parse(part: &Part<'_>, file: &str) -> Option<Case> {
        let name = part.before.lines().find_map(|line| line.strip_prefix("== "))?.to_owned();
        let mut case = Case {
            name,
            program: ProgramType::Unspec,
            attach: None,
            packet: Vec::new(),
            metadata: Vec::new(),
            arrival: Arrival::default(),
            asm: String::new(),
            parameters: Vec::new(),
            not_in_kernel: None,
        };
        let lines = part.before.lines().skip_while(|line| !line.starts_with("== ")).skip(1);
        for line in lines {
            if let Some(asm) = line.strip_prefix("    ") {
                case.asm.push_str(asm);
                case.asm.push('\n');
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "" => {}
                _ if word.starts_with('#') => {}
                "type" => {
                    let mut words = rest.split(' ');
                    let program = words.next().unwrap();
                    case.program = ProgramType::from_name(program).unwrap_or_else(|| panic!("no type {program}"));
                    case.attach = words.next().map(|attach| AttachType::from_name(attach).expect(attach));
                }
                "packet" => {
                    let definition = format!("let {} =", rest.split(' ').next().unwrap());
                    let found = file.lines().find_map(|line| line.strip_prefix(&definition));
                    case.packet = hex(found.unwrap_or(rest));
                }
                "padded" => case.packet.resize(rest.parse().unwrap(), 0xa5),
                "metadata" => case.metadata = hex(rest),
                "with" => rest.split(' ').for_each(|setting| case.set(setting)),
                "for" => {
                    let (name, values) = rest.split_once(" in ").expect(line);
                    case.parameters.push((name.to_owned(), values.split_whitespace().map(str::to_owned).collect()));
                }
                "kernel" => case.not_in_kernel = Some(rest.to_owned()),
                _ => panic!("case {}: what is `{line}`?", case.name),
            }
        }
        Some(case)
    }

    fn set(&mut self, setting: &str) {
        let (name, value) = setting.split_once('=').expect(setting);
        let number = || match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
            None => value.parse().unwrap(),
        };
        let arrival = &mut self.arrival;
        match name {
            "mark" => arrival.mark = number() as u32,
            "priority" => arrival.priority = number() as u32,
            "time_ns" => arrival.time_ns = number(),
            "hardware_time_ns" => arrival.hardware_time_ns = number(),
            "wire_len" => arrival.wire_len = number() as u32,
            "ingress_ifindex" => arrival.ingress_ifindex = number() as u32,
            "gso_segments" => arrival.gso_segments = number() as u32,
            "gso_size" => arrival.gso_size = number() as u32,
            "cb" => arrival.cb[0] = number() as u32,
            _ => panic!("case {}: no such setting: {name}", self.name),
        }
    }

    /// One for each choice of values.
    pub(crate) fn runs(&self) -> Vec<Run<'_>> {
        let mut choices: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
        for (name, values) in &self.parameters {
            choices = choices
                .iter()
                .flat_map(|chosen| values.iter().map(move |value| [&chosen[..], &[(name, value)]].concat()))
                .collect();
        }
        choices.into_iter().map(|chosen| Run { case: self, chosen }).collect()
    }
}

/// A case with values for its parameters.
pub(crate) struct Run<'c> {
    pub(crate) case: &'c Case,
    chosen: Vec<(&'c str, &'c str)>,
}

/// What came of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) value: u32,
    /// The packet, from the link header on for tc and XDP.
    pub(crate) packet: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    /// What `BPF_PROG_TEST_RUN` gives out of the context.
    pub(crate) fields: Vec<(&'static str, u64)>,
    /// What only the vm can say.
    pub(crate) more: String,
}

/// The fields of `struct __sk_buff` that the kernel gives out, with place and size.
pub(crate) const FIELDS: [(&str, usize, usize); 13] = [
    ("mark", 8, 4),
    ("priority", 32, 4),
    ("ingress_ifindex", 36, 4),
    ("ifindex", 40, 4),
    ("cb[0]", 48, 4),
    ("cb[1]", 52, 4),
    ("cb[2]", 56, 4),
    ("cb[3]", 60, 4),
    ("cb[4]", 64, 4),
    ("tstamp", 152, 8),
    ("wire_len", 160, 4),
    ("gso_segs", 164, 4),
    ("hwtstamp", 184, 8),
];

pub(crate) fn fields(context: &[u8]) -> Vec<(&'static str, u64)> {
    let number = |at: usize, size: usize| {
        context[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    FIELDS.iter().map(|&(name, at, size)| (name, number(at, size))).collect()
}

impl Run<'_> {
    pub(crate) fn label(&self) -> String {
        self.chosen.iter().fold(String::new(), |mut text, (name, value)| {
            write!(text, "{name}={value} ").unwrap();
            text
        })
    }

    pub(crate) fn slots(&self) -> Vec<Raw> {
        let mut asm = with_helper_numbers(&self.case.asm);
        for (name, value) in &self.chosen {
            asm = asm.replace(&format!("{{{name}}}"), value);
        }
        let insns =
            skep_isa::assemble(&asm).unwrap_or_else(|errors| panic!("case {}: {errors:?}\n{asm}", self.case.name));
        skep_isa::encode(&insns)
    }

    pub(crate) fn is_xdp(&self) -> bool {
        self.case.program == ProgramType::Xdp
    }

    /// In the engine as it is by default; what the other ways of running give must be the same.
    pub(crate) fn in_vm(&self) -> Seen {
        let seen = self.in_vm_as(Memory::Checked, Mode::Interpreter);
        assert_eq!(self.in_vm_as(Memory::Checked, Mode::Compiled), seen, "{} {}", self.case.name, self.label());
        if self.case.not_in_kernel.is_none() {
            for mode in [Mode::Interpreter, Mode::Compiled] {
                assert_eq!(self.in_vm_as(Memory::Fast, mode), seen, "{} {} {mode:?}", self.case.name, self.label());
            }
        }
        seen
    }

    fn in_vm_as(&self, memory: Memory, mode: Mode) -> Seen {
        let case = self.case;
        let vm = Vm::new(Config { memory, mode, ..Config::default() });
        let program = match vm.load_slots("case", case.program, &self.slots()) {
            Ok(program) => program,
            Err(error) => return Seen { more: error.to_string(), ..Seen::default() },
        };
        let mut runner = PacketRunner::new(&vm, &program, case.attach, case.packet.len()).unwrap();
        if case.program == ProgramType::SocketFilter {
            runner = runner.starting_at(Start::Network);
        }
        match runner.run_with_metadata(&case.packet, &case.metadata, &case.arrival) {
            Ok(outcome) => seen(&runner, outcome, self.is_xdp()),
            Err(error) => Seen { more: without_addresses(&error.to_string()), ..Seen::default() },
        }
    }
}

/// Addresses are others each time.
fn without_addresses(fault: &str) -> String {
    let fault = fault.split(" (it owns").next().unwrap();
    let mut parts = fault.split("0x");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + "ADDRESS" + part.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()))
}

fn seen(runner: &PacketRunner, outcome: Outcome, xdp: bool) -> Seen {
    let mut more = String::new();
    match outcome.redirect {
        Some(Redirect::Interface { ifindex, flags }) => write!(more, " redirect to {ifindex} flags {flags}"),
        Some(Redirect::Peer { ifindex }) => write!(more, " redirect to the peer of {ifindex}"),
        Some(Redirect::Neighbour { ifindex, next_hop }) => {
            write!(more, " redirect to neighbour of {ifindex}, next hop given: {}", next_hop.is_some())
        }
        None => Ok(()),
    }
    .unwrap();
    for copy in runner.clones() {
        write!(more, " copy of {} bytes to {} flags {}", copy.bytes.len(), copy.ifindex, copy.flags).unwrap();
    }
    Seen {
        value: outcome.value as u32,
        packet: runner.packet().to_vec(),
        metadata: runner.metadata().to_vec(),
        fields: if xdp { Vec::new() } else { fields(&runner.context().bytes()) },
        more,
    }
}

impl Seen {
    /// Without what only the vm can say.
    pub(crate) fn comparable(&self, _: &Run) -> Seen {
        Seen { more: String::new(), ..self.clone() }
    }

    /// What differs from the start.
    pub(crate) fn text(&self, run: &Run) -> String {
        if self.packet.is_empty() {
            return self.more.clone();
        }
        let mut text = format!("{:#x}", self.value);
        let from = if run.case.program == ProgramType::SchedCls || run.is_xdp() { 0 } else { 14 };
        if self.packet != run.case.packet[from..] {
            if self.packet.len() <= 80 {
                let hex: String = self.packet.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(text, " packet {hex}").unwrap();
            } else {
                let sum = self.packet.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
                write!(text, " packet of {} bytes ({sum:08x})", self.packet.len()).unwrap();
            }
        }
        if self.metadata != run.case.metadata {
            let hex: String = self.metadata.iter().map(|byte| format!("{byte:02x}")).collect();
            write!(text, " metadata '{hex}'").unwrap();
        }
        let arrival = &run.case.arrival;
        for (name, value) in &self.fields {
            let before = match *name {
                "mark" => arrival.mark.into(),
                "priority" => arrival.priority.into(),
                "ingress_ifindex" => arrival.ingress_ifindex.into(),
                "ifindex" => arrival.ifindex.into(),
                "cb[0]" => arrival.cb[0].into(),
                "tstamp" => arrival.time_ns,
                "wire_len" => (run.case.packet.len() - from) as u64,
                "gso_segs" => arrival.gso_segments.into(),
                "hwtstamp" => arrival.hardware_time_ns,
                _ => 0,
            };
            if *value != before {
                write!(text, " {name}={value:#x}").unwrap();
            }
        }
        text.push_str(&self.more);
        text
    }
}
