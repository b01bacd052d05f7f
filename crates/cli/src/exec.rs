//! `skep exec`: raw bytecode from standard input, run in the embedded engine or printed as assembler text.

use crate::args::{ExecArgs, ExecEngine};
use crate::failure::{Exit, Failure};
use crate::output::{Output, tell};
use skep_abi::ProgramType;
use skep_isa::{Endian, Listing, Raw};
use skep_vm::{Config, Context, Limits, Memory, Mode, SystemHost, Vm};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// Hex digits that are read: the largest program, with some white space.
const MAX_INPUT_BYTES: u64 = 64 << 20;

/// Time that a run may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs or prints the program on standard input.
pub(crate) fn exec(args: &ExecArgs) -> Result<(), Failure> {
    let mut text = String::new();
    io::stdin()
        .take(MAX_INPUT_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| Failure::say(Exit::NotSo, format!("read bytecode from standard input: {error}")))?;
    let bytes =
        hex(&text).map_err(|error| Failure::say(Exit::NotSo, format!("read bytecode from standard input: {error}")))?;
    let (slots, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || slots.is_empty() {
        return Err(Failure::say(
            Exit::NotSo,
            format!(
                "read bytecode from standard input: it has {} bytes; a program has 8 bytes an instruction, at least one",
                bytes.len()
            ),
        ));
    }
    let slots: Vec<Raw> = slots.iter().map(|slot| Raw::from_bytes(*slot, Endian::Little)).collect();
    let mut out = Output::new();
    if args.disasm {
        out.text(&Listing::new(&slots).to_string());
    } else {
        out.text(&format!("{:#x}\n", run(args, &slots)?));
    }
    out.end()
}

fn run(args: &ExecArgs, slots: &[Raw]) -> Result<u64, Failure> {
    let host = Arc::new(SystemHost::default());
    let mode = match args.engine {
        ExecEngine::Interp => Mode::Interpreter,
        ExecEngine::Jit => Mode::Compiled,
    };
    // Nobody has verified these bytes.
    let vm = Vm::new(Config {
        memory: Memory::Checked,
        mode,
        limits: Limits { insns: Some(args.budget), time: Some(TIME_LIMIT), ..Limits::default() },
        host: host.clone(),
        ..Config::default()
    });
    let fail = |error: &dyn std::fmt::Display| Failure::say(Exit::NotSo, format!("run the program: {error}"));
    let program = vm.load_slots("program", ProgramType::Unspec, slots).map_err(|error| fail(&error))?;
    if mode == Mode::Compiled && !program.is_compiled() {
        return Err(Failure::say(
            Exit::Unavailable,
            "run the program: there is no compiler for this machine's processor; use --engine interp",
        ));
    }
    let mut memory = args.mem.clone().unwrap_or_default().0;
    let result = vm.run(&program, &mut Context::memory(&mut memory));
    let (prints, lost) = host.take_prints();
    for line in prints {
        tell(line.text);
    }
    if lost > 0 {
        tell(format_args!("skep: {lost} more printed lines were lost"));
    }
    result.map_err(|fault| fail(&fault))
}

/// Bytes given as hex digits on the command line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct HexBytes(pub(crate) Vec<u8>);

impl std::str::FromStr for HexBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<HexBytes, String> {
        hex(text).map(HexBytes)
    }
}

/// Reads hex digits, two a byte. White space may stand anywhere, and `0x` at the start.
fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.trim_start();
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut high = None;
    for digit in digits.chars().filter(|c| !c.is_whitespace()) {
        let Some(value) = digit.to_digit(16).and_then(|value| u8::try_from(value).ok()) else {
            return Err(format!("{digit:?} is no hex digit"));
        };
        match high.take() {
            None => high = Some(value << 4),
            Some(high) => bytes.push(high | value),
        }
    }
    match high {
        None => Ok(bytes),
        Some(_) => Err(format!("an odd number of hex digits, {}", bytes.len() * 2 + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_digits() {
        assert_eq!(hex("95 00\n0A"), Ok(vec![0x95, 0, 10]));
        assert_eq!(hex("0x9500"), Ok(vec![0x95, 0]));
        assert_eq!(hex(""), Ok(vec![]));
        assert_eq!(hex("950"), Err("an odd number of hex digits, 3".to_owned()));
        assert_eq!(hex("9x"), Err("'x' is no hex digit".to_owned()));
    }
}
