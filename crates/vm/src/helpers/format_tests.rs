//! The formats against the running kernel: `bpf_snprintf` in a program of its own for each, by test run.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use skep_abi::{MapType, ProgramType};
use skep_kernel::{LogLevel, Map, MapParams, Program, ProgramParams, TestInput, Update};
use std::fmt::Write;
use std::os::fd::AsRawFd;

/// An argument, which the kernel finds at an address of its own.
#[derive(Clone, Debug)]
enum Arg {
    Number(u64),
    /// Bytes in the program's memory.
    Bytes(Vec<u8>),
}

/// Where arguments with bytes lie in the model: each so far from the other that none reaches the next.
const BASE: u64 = 1 << 32;

struct Model<'a>(&'a [Arg]);

impl Model<'_> {
    fn from(&self, addr: u64) -> Option<&[u8]> {
        match self.0.get(usize::try_from(addr >> 32).ok()?.checked_sub(1)?)? {
            Arg::Bytes(bytes) if addr as u32 == 0 => Some(bytes),
            _ => None,
        }
    }
}

impl Memory for Model<'_> {
    fn string(&mut self, addr: u64, most: usize, of_task: bool) -> Option<Vec<u8>> {
        let bytes = self.from(addr).filter(|_| !of_task)?;
        let end = bytes.iter().position(|byte| *byte == 0).map_or(bytes.len(), |zero| zero + 1);
        bytes.get(..end.min(most)).map(<[u8]>::to_vec)
    }

    fn bytes<const N: usize>(&mut self, addr: u64) -> Option<[u8; N]> {
        self.from(addr)?.first_chunk().copied()
    }
}

/// The result and what is in the buffer, which was filled with `#`; or the error of a wrong format.
type Outcome = Result<(u64, Vec<u8>), i32>;

fn ours(format: &[u8], args: &[Arg], size: usize) -> Outcome {
    let numbers: Vec<u64> = args
        .iter()
        .zip(1..)
        .map(|(arg, place)| match arg {
            Arg::Number(number) => *number,
            Arg::Bytes(_) => place * BASE,
        })
        .collect();
    let mut buffer = vec![b'#'; size];
    let packed = prepare(format, &numbers, &mut Model(args))?;
    let result = print(format, &packed, &mut buffer) + 1;
    Ok((result, buffer))
}

const OUT_BYTES: usize = 1024;
const IN_BYTES: usize = 8192;
/// Where bytes of arguments start in the map with the format.
const ARGS_AT: usize = 512;
const ARG_BYTES: usize = 600;

/// Whether this is run by root, without whom the kernel cannot be asked.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: needs root, not run");
    }
    root
}

fn kernels(format: &[u8], args: &[Arg], size: usize) -> Outcome {
    let mut input = vec![0; IN_BYTES];
    input[..format.len()].copy_from_slice(format);
    let mut text = String::new();
    let constant = |at: usize, fd: i32| format!("map_val(map_by_fd({fd})) + {at}");
    let read_only = MapParams { flags: 1 << 7, ..MapParams::new("input", MapType::Array, 4, IN_BYTES as u32, 1) };
    let (input_map, out_map) = (
        Map::create(&read_only).unwrap(),
        Map::create(&MapParams::new("out", MapType::Array, 4, (8 + OUT_BYTES) as u32, 1)).unwrap(),
    );
    let (input_fd, out_fd) = (input_map.fd().as_raw_fd(), out_map.fd().as_raw_fd());
    for (place, arg) in args.iter().enumerate() {
        let value = match arg {
            Arg::Number(number) => format!("{number:#x} ll"),
            Arg::Bytes(bytes) => {
                let at = ARGS_AT + place * ARG_BYTES;
                input[at..at + bytes.len()].copy_from_slice(bytes);
                constant(at, input_fd)
            }
        };
        writeln!(text, "r1 = {value}\n*(u64 *)(r10 - {}) = r1", 96 - 8 * place).unwrap();
    }
    let list = if args.is_empty() { "r4 = 0" } else { "r4 = r10\nr4 += -96" };
    writeln!(
        text,
        "r1 = {}\nr2 = {size}\nr3 = {}\n{list}\nr5 = {}\ncall 165\nr1 = {}\n*(u64 *)(r1 + 0) = r0\nr0 = 0\nexit",
        constant(8, out_fd),
        constant(0, input_fd),
        args.len() * 8,
        constant(0, out_fd),
    )
    .unwrap();
    input_map.update(&[0; 4], &input, Update::Any).unwrap();
    input_map.freeze().unwrap();
    let mut out = vec![b'#'; 8 + OUT_BYTES];
    out_map.update(&[0; 4], &out, Update::Any).unwrap();
    let slots = skep_isa::encode(&skep_isa::assemble(&text).unwrap_or_else(|errors| panic!("{errors:?}\n{text}")));
    let params = ProgramParams::new("snprintf", ProgramType::SchedCls, &slots, "GPL");
    let program = match Program::load(&params, LogLevel::None) {
        Ok(program) => program,
        Err(refused) => {
            assert!(refused.log.contains("Invalid format string"), "{}", refused.log);
            return Err(refused.errno.0);
        }
    };
    program.test_run(&TestInput { data: &[0; 64], ..TestInput::default() }).unwrap();
    out.copy_from_slice(&out_map.lookup(&[0; 4]).unwrap().unwrap());
    let result = u64::from_ne_bytes(*out.first_chunk().unwrap());
    match result as i64 {
        error if error < 0 => Err(-error as i32),
        _ => Ok((result, out[8..8 + size].to_vec())),
    }
}

fn check(format: &[u8], args: &[Arg], size: usize) {
    let shown = |outcome: &Outcome| match outcome {
        Ok((result, buffer)) => format!("{result} {:?}", String::from_utf8_lossy(buffer)),
        Err(number) => format!("error {number}"),
    };
    let (ours, kernels) = (ours(format, args, size), kernels(format, args, size));
    assert_eq!(shown(&ours), shown(&kernels), "{:?} with {args:?} into {size} bytes", String::from_utf8_lossy(format));
}

fn text(text: &str) -> Arg {
    Arg::Bytes([text.as_bytes(), &[0]].concat())
}

#[test]
fn a_table_of_formats_is_as_in_the_kernel() {
    if !is_root("a_table_of_formats_is_as_in_the_kernel") {
        return;
    }
    use Arg::Number as N;
    let minus = N(-42i64 as u64);
    let table: &[(&str, &[Arg])] = &[
        ("", &[]),
        ("plain\ttext\n", &[]),
        ("100%%", &[]),
        ("%d %i %u %x %X", &[minus.clone(), minus.clone(), minus.clone(), minus.clone(), minus.clone()]),
        ("%ld %li %lu %lx %lX", &[minus.clone(), minus.clone(), minus.clone(), minus.clone(), minus.clone()]),
        ("%lld %lli %llu %llx %llX", &[minus.clone(), minus.clone(), minus.clone(), minus.clone(), minus.clone()]),
        ("%d|%u|%ld", &[N(0x1_ffff_ffff), N(0x1_0000_0000), N(1 << 63)]),
        ("[%5d] [%-5d] [%05d] [%+d] [% d]", &[N(42), N(42), N(42), N(42), N(42)]),
        ("[%+5d] [%-+5d] [%+05d] [%0-5d] [% 05d]", &[N(42), N(42), N(42), minus.clone(), N(42)]),
        ("[%+u] [% x] [%08X] [%-8x]|", &[N(42), N(42), N(0xbeef), N(0xbeef)]),
        ("[%c] [%5c] [%-5c] [%05c]", &[N(65), N(0x141), N(66), N(67)]),
        ("a%cb", &[N(0)]),
        ("[%s] [%6s] [%-6s] [%06s] [%2s]", &[text("abc"), text("abc"), text("abc"), text("abc"), text("abc")]),
        ("[%s]", &[N(0)]),
        ("[%s]", &[N(0x1234)]),
        ("[%s]", &[N(0xffff_8000_0000_0000)]),
        ("[%pks] [%pus]", &[text("abc"), N(16)]),
        ("[%10pks] [%-10pks]", &[text("abc"), text("abc")]),
        ("[%p] [%pK] [%p]", &[N(0), N(0), N(-2i64 as u64)]),
        ("[%20p] [%-20p] [%020p] [%5p]", &[N(0), N(0), N(0), N(0)]),
        ("[%px] [%20px] [%-20px] [%020px] [%3px]", &[N(0xabc), N(0xabc), N(0xabc), N(0xabc), N(0xabc)]),
        ("%-px|", &[N(0xabc)]),
        ("[%ps] [%pS] [%pB]", &[N(0x1234), N(0x1234), N(0x1234)]),
        ("[%10ps] [%-10pS] [%10pB]", &[N(0x1234), N(0x1234), N(0x1234)]),
        ("[%ps] [%pB]", &[N(0), N(0)]),
        ("[%pi4] [%pI4]", &[Arg::Bytes(vec![127, 0, 0, 1]), Arg::Bytes(vec![192, 168, 10, 255])]),
        ("[%pi6] [%pI6]", &[Arg::Bytes((1..17).collect()), Arg::Bytes(vec![0; 16])]),
        ("[%20pI4] [%-20pi4]", &[Arg::Bytes(vec![1, 2, 3, 4]), Arg::Bytes(vec![1, 2, 3, 4])]),
        ("[%pI4] [%pI6]", &[N(0), N(1)]),
        ("%pI4abc def", &[Arg::Bytes(vec![1, 2, 3, 4])]),
        ("%pxabc %pKabc", &[N(1), N(0)]),
        ("%psabc %pBabc", &[N(1), N(1)]),
        ("%p:%p,%p", &[N(0), N(0), N(0)]),
        ("%p%%", &[N(0)]),
        ("%p%", &[N(0)]),
        ("%p%d", &[N(0), N(7)]),
        ("%p%d", &[N(0)]),
        ("%s%", &[text("a")]),
        ("%s%%", &[text("a")]),
        ("%s%d", &[text("a"), N(3)]),
        ("%sa", &[text("a")]),
        ("%s.", &[text("a")]),
        ("%pksa", &[text("a")]),
        ("%pk", &[N(0)]),
        ("%pa", &[N(0)]),
        ("%pi5", &[N(0)]),
        ("%pI", &[N(0)]),
        ("%p\n", &[N(0)]),
        ("%", &[N(0)]),
        ("%", &[]),
        ("%d", &[]),
        ("%d", &[N(1), N(2)]),
        ("text", &[N(1)]),
        ("%lc", &[N(1)]),
        ("%ls", &[N(1)]),
        ("%llld", &[N(1)]),
        ("%5%", &[N(1)]),
        ("%.3d", &[N(1)]),
        ("%*d", &[N(1), N(2)]),
        ("%#x", &[N(1)]),
        ("%hd", &[N(1)]),
        ("%zd", &[N(1)]),
        ("%o", &[N(1)]),
        ("%n", &[N(1)]),
        ("%e", &[N(1)]),
        ("%-", &[N(1)]),
        ("%--------d", &[N(1)]),
        ("%l", &[N(1)]),
        ("%\u{e9}", &[N(1)]),
        ("d\u{e9}j\u{e0} vu %d", &[N(1)]),
        ("\u{1}", &[]),
        ("\u{7f}", &[]),
        ("\u{b}\u{c}\r", &[]),
        ("%600d|", &[N(1)]),
        ("%2000s|%d", &[text("x"), N(7)]),
        ("%999999d", &[N(1)]),
        ("%8388608d", &[N(1)]),
        ("%16777217d", &[N(1)]),
        ("%4294967297d", &[N(1)]),
        ("%2147483648d", &[N(1)]),
    ];
    for (format, args) in table {
        for size in [200, 8, 1] {
            check(format.as_bytes(), args, size);
        }
    }
    check(b"%d", &[N(12345)], 0);
    // Arguments that have no room.
    let long = || Arg::Bytes([vec![b'x'; 300], vec![0]].concat());
    check(b"%s %s", &[long(), long()], 1000);
    check(b"%s %s %d", &[long(), long(), N(1)], 1000);
    check(b"%s %s %s", &[long(), long(), text("a")], 1000);
    check(b"%s %s %c", &[long(), long(), N(65)], 1000);
    check(b"%s %s %pi4", &[long(), long(), Arg::Bytes(vec![1, 2, 3, 4])], 1000);
    // The buffer is full when an address comes: it stays the next argument.
    check(b"%s %pI4 %d", &[text("abcdef"), Arg::Bytes(vec![1, 2, 3, 4]), N(7)], 4);
    check(b"%s %pI4 %s", &[text("abcdef"), Arg::Bytes(vec![1, 2, 3, 4]), text("zz")], 4);
}

fn argument() -> impl Strategy<Value = Arg> {
    prop_oneof![
        any::<u64>().prop_map(Arg::Number),
        (0u64..70000).prop_map(Arg::Number),
        any::<i32>().prop_map(|n| Arg::Number(i64::from(n) as u64)),
        proptest::collection::vec(any::<u8>(), 16..40).prop_map(Arg::Bytes),
        "[a-z ]{0,12}".prop_map(|s| text(&s)),
    ]
}

/// A conversion with an argument that is printed alike everywhere: no hashed addresses, no kernel symbols, none of the
/// addresses that the kernel may or may not have.
fn conversion_with_argument() -> impl Strategy<Value = (String, Arg)> {
    let width = prop_oneof![Just(String::new()), "[0 +-]{1,3}", "[0 +-]{0,3}[1-9][0-9]?"];
    let number = ("l{0,2}[diuxX]", argument_number());
    let one_of = prop_oneof![
        6 => number.prop_map(|(conversion, arg)| (conversion, arg)),
        1 => any::<u8>().prop_map(|c| ("c".to_owned(), Arg::Number(c.into()))),
        3 => ("(s|pks)", "[a-z ]{0,20}").prop_map(|(conversion, s)| (conversion, text(&s))),
        1 => (0u64..5).prop_map(|n| ("s".to_owned(), Arg::Number(n))),
        1 => ("px", any::<u64>()).prop_map(|(conversion, n)| (conversion, Arg::Number(n))),
        1 => ("p[sSB]", 0u64..70000).prop_map(|(conversion, n)| (conversion, Arg::Number(n))),
        1 => ("pK?", prop_oneof![Just(0u64), (1u64..4095).prop_map(u64::wrapping_neg)])
            .prop_map(|(conversion, n)| (conversion, Arg::Number(n))),
        2 => ("p[iI][46]", proptest::collection::vec(any::<u8>(), 16)).prop_map(|(conversion, b)| (conversion, Arg::Bytes(b))),
    ];
    (width, one_of).prop_map(|(width, (conversion, arg))| (format!("%{width}{conversion}"), arg))
}

fn argument_number() -> impl Strategy<Value = Arg> {
    prop_oneof![any::<u64>(), 0u64..1000, any::<i32>().prop_map(|n| i64::from(n) as u64)].prop_map(Arg::Number)
}

#[test]
fn generated_formats_are_as_in_the_kernel() {
    if !is_root("generated_formats_are_as_in_the_kernel") {
        return;
    }
    let mut runner = TestRunner::new(Config { cases: 600, failure_persistence: None, ..Config::default() });
    let parts = proptest::collection::vec(("[a-z:,. \\[\\]]{0,4}", conversion_with_argument()), 0..8);
    let size = prop_oneof![3 => Just(600usize), 1 => 0usize..60];
    runner
        .run(&(parts, size), |(parts, size)| {
            // Where a full buffer keeps an address from being printed, the kernel takes what is next from bytes that it
            // never wrote.
            let skips = |conversion: &String| conversion.contains(['k', 'I', 'B']) || conversion.contains("pi");
            let size = if parts.iter().any(|(_, (conversion, _))| skips(conversion)) { OUT_BYTES } else { size };
            let format: String =
                parts.iter().map(|(between, (conversion, _))| format!("{conversion}{between}")).collect();
            let args: Vec<Arg> = parts.into_iter().map(|(_, (_, arg))| arg).collect();
            check(format.as_bytes(), &args, size);
            Ok(())
        })
        .unwrap();
}

/// Whether a format is one at all, whatever its letters are.
#[test]
fn arbitrary_formats_are_refused_where_the_kernel_refuses_them() {
    if !is_root("arbitrary_formats_are_refused_where_the_kernel_refuses_them") {
        return;
    }
    let mut runner = TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() });
    let letters = "[ -~%\u{e9}]{0,2}(%[0 +-]{0,2}[1-9]?l{0,2}[diuxXcspPkKISB46%. ]{1,3}[a-z% ]{0,2}){0,3}";
    runner
        .run(&(letters, proptest::collection::vec(argument(), 0..4)), |(format, args)| {
            // Addresses are printed as the machine has them: only whether they may be.
            let verdict = |outcome: Outcome| outcome.map(|_| ());
            let args: Vec<Arg> = args.into_iter().map(|_| Arg::Number(0)).collect();
            let both = (verdict(ours(format.as_bytes(), &args, 64)), verdict(kernels(format.as_bytes(), &args, 64)));
            assert_eq!(both.0, both.1, "{format:?} with {} arguments", args.len());
            Ok(())
        })
        .unwrap();
}

proptest! {
    /// No format and no argument makes it panic, and nothing is written behind the buffer's end.
    #[test]
    fn nothing_panics(format: Vec<u8>, args in proptest::collection::vec(argument(), 0..6), size in 0usize..100) {
        let _ = ours(&format, &args, size);
    }
}
