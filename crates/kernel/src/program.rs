//! Programs: loaded from parameters, opened by id or from a pin; asked about, run for a test.
//!
//! A load asks for no log. When the kernel refuses, it is asked again with one, and the answer is a
//! [`Refusal`](crate::log::Refusal). See [`crate::load`] for loading whole objects.
//!
//! Verifying a large program takes seconds, so that it is done as seldom as can be. Since 6.4 what a buffer has no room
//! for is the log's beginning; the reason for a refusal stands at its end, so the first buffer will do. A log that was asked
//! for of an accepted program, and any on older kernels, which drop the end, gets larger buffers, up to 64 MiB.

use crate::error::{Errno, Error, Result};
use crate::info::{self, prog_at};
use crate::sys::{self, obj, prog};
use crate::{Map, pin};
use skep_abi::{AttachType, ProgramType};
use skep_isa::{Endian, Raw};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;

/// Program load flags. Source: `BPF_F_*` in `include/uapi/linux/bpf.h`.
pub mod flags {
    /// Loads and stores must be aligned on every machine.
    pub const STRICT_ALIGNMENT: u32 = 1 << 0;
    /// The program may sleep.
    pub const SLEEPABLE: u32 = 1 << 4;
    /// An XDP program that understands packets in several buffers.
    pub const XDP_HAS_FRAGS: u32 = 1 << 5;
    /// A program bound to a device.
    pub const XDP_DEV_BOUND_ONLY: u32 = 1 << 6;
}

/// What a program is loaded from. [`ProgramParams::new`] sets what every program needs, the rest starts at "none".
#[derive(Clone, Debug)]
pub struct ProgramParams<'a> {
    /// Name; the kernel takes up to 15 letters, digits, `_` and `.` of it.
    pub name: &'a str,
    /// Type.
    pub prog_type: ProgramType,
    /// Instructions with every descriptor and address in place.
    pub insns: &'a [Raw],
    /// Licence; the kernel knows `GPL`, `GPL v2`, `GPL and additional rights`, `Dual BSD/GPL`, `Dual MIT/GPL`, `Dual MPL/GPL`.
    pub license: &'a str,
    /// `LINUX_VERSION_CODE`; kprobe programs on kernels before 5.0 need the running kernel's.
    pub kernel_version: u32,
    /// See [`flags`].
    pub flags: u32,
    /// What it will be attached as, where the type has such.
    pub attach_type: Option<AttachType>,
    /// Interface for a program that is offloaded or bound to a device, else 0.
    pub ifindex: u32,
    /// Its BTF object, needed for function and line records.
    pub btf: Option<BorrowedFd<'a>>,
    /// Function records: (first instruction, `Func` id).
    pub funcs: &'a [(u32, u32)],
    /// Line records: (first instruction, file name offset, line text offset, line, column).
    pub lines: &'a [LineRecord],
    /// What it is made for, by BTF id: kernel function, tracepoint typedef, function of another program.
    pub attach_btf_id: u32,
    /// The program (freplace) or module BTF that `attach_btf_id` is an id in; the kernel's own BTF if `None`.
    pub attach_target: Option<BorrowedFd<'a>>,
    /// Module BTF descriptors for kfunc calls, by index; index 0 stays unused.
    pub fd_array: &'a [i32],
}

/// `struct bpf_line_info` as the kernel takes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LineRecord {
    /// First instruction.
    pub insn: u32,
    /// Offset of the file name in the program's BTF.
    pub file_name_off: u32,
    /// Offset of the text of the line.
    pub text_off: u32,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
}

impl<'a> ProgramParams<'a> {
    /// The parameters that every program needs.
    pub fn new(name: &'a str, prog_type: ProgramType, insns: &'a [Raw], license: &'a str) -> ProgramParams<'a> {
        ProgramParams {
            name,
            prog_type,
            insns,
            license,
            kernel_version: 0,
            flags: 0,
            attach_type: None,
            ifindex: 0,
            btf: None,
            funcs: &[],
            lines: &[],
            attach_btf_id: 0,
            attach_target: None,
            fd_array: &[],
        }
    }
}

/// How much the verifier is to say. Source: `BPF_LOG_*` in `include/linux/bpf_verifier.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum LogLevel {
    /// Nothing, unless the program is refused.
    #[default]
    None = 0,
    /// The path that was refused.
    Level1 = 1,
    /// Every path.
    Level2 = 2,
    /// Only the counts at the end.
    Stats = 4,
}

/// How large a log buffer is at first, and at most.
#[derive(Clone, Copy, Debug)]
struct LogRoom {
    first: usize,
    most: usize,
}

const LOG_ROOM: LogRoom = LogRoom { first: 1 << 20, most: 64 << 20 };

/// What kernels before 5.13 take; newer ones take up to `UINT_MAX >> 2` bytes. Source: `kernel/bpf/verifier.c`.
const LOG_LIMIT_BEFORE_5_13: usize = (16 << 20) - 1;

/// A load that the kernel refused: the error number and the log.
#[derive(Clone, Debug)]
pub struct LoadRefused {
    /// What it answered.
    pub errno: Errno,
    /// What the verifier wrote, empty if it had not come that far.
    pub log: String,
    /// Whether there was more than this: it is the end (before 6.4: the first 64 MiB) of the log.
    pub log_cut: bool,
}

/// A program in the kernel; lives as long as something holds it: this handle, a link, a pin, another program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
    name: String,
    raw_type: u32,
    attach_type: Option<AttachType>,
    id: OnceLock<u32>,
    log: Log,
}

/// What the verifier wrote.
#[derive(Clone, Debug, Default)]
struct Log {
    text: String,
    /// Whether there was more.
    cut: bool,
}

impl Program {
    /// Loads a program. With a `level` other than `None` the verifier's log of the successful load stands in
    /// [`Program::log`].
    pub fn load(params: &ProgramParams<'_>, level: LogLevel) -> Result<Program, LoadRefused> {
        Program::load_with(params, level, LogLevel::Level1)
    }

    /// [`Program::load`] with the level to ask again with after a refusal.
    pub fn load_with(
        params: &ProgramParams<'_>,
        level: LogLevel,
        refusal_level: LogLevel,
    ) -> Result<Program, LoadRefused> {
        let early = |errno| LoadRefused { errno: Errno(errno), log: String::new(), log_cut: false };
        let license = CString::new(params.license).map_err(|_| early(libc::EINVAL))?;
        let insns: Vec<u8> = params.insns.iter().flat_map(|i| i.to_bytes(Endian::NATIVE)).collect();
        let func_info: Vec<u8> =
            params.funcs.iter().flat_map(|(insn, ty)| [insn.to_ne_bytes(), ty.to_ne_bytes()]).flatten().collect();
        let line_info: Vec<u8> = params
            .lines
            .iter()
            .flat_map(|l| {
                let place = l.line << 10 | l.column.min(0x3ff);
                [l.insn, l.file_name_off, l.text_off, place].map(u32::to_ne_bytes)
            })
            .flatten()
            .collect();
        let request = prog::Load {
            prog_type: params.prog_type.as_u32(),
            insns: &insns,
            license: &license,
            kern_version: params.kernel_version,
            flags: params.flags,
            name: sys::object_name(params.name),
            ifindex: params.ifindex,
            expected_attach_type: params.attach_type.map_or(0, AttachType::as_u32),
            btf: params.btf,
            func_info: &func_info,
            line_info: &line_info,
            attach_btf_id: params.attach_btf_id,
            attach_target: params.attach_target,
            fd_array: params.fd_array,
        };
        let (fd, log) = load(request, level, refusal_level)?;
        Ok(Program {
            fd,
            name: params.name.to_owned(),
            raw_type: params.prog_type.as_u32(),
            attach_type: params.attach_type,
            id: OnceLock::new(),
            log,
        })
    }

    /// Opens the program with this id.
    pub fn from_id(id: u32) -> Result<Program> {
        let fd =
            obj::open_id(obj::Kind::Program, id).map_err(|e| Error::kernel("open program", format!("id {id}"), e))?;
        Program::from_fd(fd)
    }

    /// Opens the program pinned at `path`.
    pub fn from_pin(path: &Path) -> Result<Program> {
        Program::from_fd(pin::get_kind(path, obj::Kind::Program)?)
    }

    /// Takes over a descriptor, which must be a program's.
    pub fn from_fd(fd: OwnedFd) -> Result<Program> {
        if sys::fd_kind(fd.as_fd()) != Some(obj::Kind::Program) {
            return Err(Error::Invalid {
                action: "open program",
                object: format!("descriptor {}", fd.as_raw_fd()),
                why: "it is not a program's".into(),
            });
        }
        let info = info::program_info(fd.as_fd())?;
        Ok(Program {
            fd,
            name: info.name,
            raw_type: info.raw_type,
            attach_type: None,
            id: OnceLock::from(info.id),
            log: Log::default(),
        })
    }

    /// Another handle to the same program.
    pub fn try_clone(&self) -> Result<Program> {
        let fd = self.fd.try_clone().map_err(|e| Error::kernel("duplicate program", self.name.clone(), e))?;
        Ok(Program {
            fd,
            name: self.name.clone(),
            raw_type: self.raw_type,
            attach_type: self.attach_type,
            id: self.id.clone(),
            log: self.log.clone(),
        })
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its name: the full one for a program loaded here, else the kernel's 15 bytes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type, `None` for one that is newer than this program.
    pub fn prog_type(&self) -> Option<ProgramType> {
        ProgramType::from_u32(self.raw_type)
    }

    /// What it was loaded to be attached as; `None` also for a program opened by id or from a pin (the kernel does not tell).
    pub fn attach_type(&self) -> Option<AttachType> {
        self.attach_type
    }

    /// The id that others can open it by.
    pub fn id(&self) -> Result<u32> {
        if let Some(id) = self.id.get() {
            return Ok(*id);
        }
        let id = self.info()?.id;
        Ok(*self.id.get_or_init(|| id))
    }

    /// What the verifier wrote while it was loaded, where it was asked to.
    pub fn log(&self) -> &str {
        &self.log.text
    }

    /// Whether the log was longer than 64 MiB: [`Program::log`] is then its end (before 6.4: its beginning).
    pub fn log_is_cut(&self) -> bool {
        self.log.cut
    }

    /// What the kernel knows of it.
    pub fn info(&self) -> Result<info::ProgramInfo> {
        info::program_info(self.fd())
    }

    /// The instructions as the verifier left them: map addresses are ids, context accesses rewritten. Empty when not
    /// permitted to see them.
    pub fn xlated(&self) -> Result<Vec<Raw>> {
        let len = self.info()?.xlated_len as usize;
        let parts = [obj::Part {
            address_at: prog_at::XLATED,
            count_at: prog_at::XLATED_LEN,
            element: 1,
            count: len,
            record_at: None,
        }];
        let mut buffers = self.parts(&parts)?;
        let bytes = buffers.pop().unwrap_or_default();
        Ok(bytes
            .chunks_exact(Raw::SIZE)
            .filter_map(|c| c.try_into().ok())
            .map(|c| Raw::from_bytes(c, Endian::NATIVE))
            .collect())
    }

    /// The machine code, all functions one behind the other. Empty when not permitted to see it.
    pub fn jited(&self) -> Result<Vec<u8>> {
        let len = self.info()?.jited_len as usize;
        let parts = [obj::Part {
            address_at: prog_at::JITED,
            count_at: prog_at::JITED_LEN,
            element: 1,
            count: len,
            record_at: None,
        }];
        Ok(self.parts(&parts)?.pop().unwrap_or_default())
    }

    /// Function records: (first instruction after translation, `Func` id in the program's BTF).
    pub fn funcs(&self) -> Result<Vec<(u32, u32)>> {
        let count = self.info()?.func_count as usize;
        let parts = [obj::Part {
            address_at: prog_at::FUNC_INFO,
            count_at: prog_at::NR_FUNC_INFO,
            element: prog::FUNC_INFO,
            count,
            record_at: Some(prog_at::FUNC_INFO_REC),
        }];
        let bytes = self.parts(&parts)?.pop().unwrap_or_default();
        Ok(bytes.chunks_exact(prog::FUNC_INFO).map(|c| (info::Fields(c).u32(0), info::Fields(c).u32(4))).collect())
    }

    /// Line records, by instruction after translation.
    pub fn lines(&self) -> Result<Vec<LineRecord>> {
        let count = self.info()?.line_count as usize;
        let parts = [obj::Part {
            address_at: prog_at::LINE_INFO,
            count_at: prog_at::NR_LINE_INFO,
            element: prog::LINE_INFO,
            count,
            record_at: Some(prog_at::LINE_INFO_REC),
        }];
        let bytes = self.parts(&parts)?.pop().unwrap_or_default();
        Ok(bytes
            .chunks_exact(prog::LINE_INFO)
            .map(|c| {
                let f = info::Fields(c);
                LineRecord {
                    insn: f.u32(0),
                    file_name_off: f.u32(4),
                    text_off: f.u32(8),
                    line: f.u32(12) >> 10,
                    column: f.u32(12) & 0x3ff,
                }
            })
            .collect())
    }

    fn parts(&self, parts: &[obj::Part]) -> Result<Vec<Vec<u8>>> {
        obj::program_parts(self.fd(), parts)
            .map(|(_, buffers)| buffers)
            .map_err(|e| Error::kernel("ask about", format!("program {}", self.name), e))
    }

    /// The name of its first function in its BTF, which is not cut at 15 bytes; the kernel's name if it has no BTF.
    pub fn full_name(&self) -> Result<String> {
        let info = self.info()?;
        if info.btf_id == 0 || info.func_count == 0 {
            return Ok(info.name);
        }
        let Some((_, ty)) = self.funcs()?.first().copied() else { return Ok(info.name) };
        let btf = crate::BtfObject::from_id(info.btf_id)?.read()?;
        match btf.get(skep_btf::TypeId(ty)) {
            Ok(skep_btf::Type::Func { name, .. }) if !name.is_empty() => Ok(name.to_owned()),
            _ => Ok(info.name),
        }
    }

    /// Makes it hold a map, so that the map lives as long as the program.
    pub fn bind_map(&self, map: &Map) -> Result<()> {
        prog::bind_map(self.fd(), map.fd())
            .map_err(|e| Error::kernel("bind", format!("map {} to program {}", map.name(), self.name), e))
    }

    /// Gives it a path in a BPF file system, so that it outlives this process.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pin::pin(self.fd(), path, || format!("program {}", self.name))
    }

    /// Runs it in the kernel on made-up input, unattached. A signal to this thread ends a run of many repetitions with
    /// `EINTR`, so that a caller can be stopped.
    pub fn test_run(&self, input: &TestInput<'_>) -> Result<TestOutput> {
        let mut data = vec![0; input.data_out_len.unwrap_or(0)];
        let mut context = vec![0; input.context_out_len.unwrap_or(0)];
        let mut run = prog::TestRun {
            data_in: input.data,
            data_out: &mut data,
            ctx_in: input.context,
            ctx_out: &mut context,
            repeat: input.repeat,
            flags: input.flags,
            cpu: input.cpu,
            batch_size: 0,
        };
        let (told, result) = prog::test_run(self.fd(), &mut run);
        result.map_err(|e| {
            let errno = Errno::of(&e);
            let error = Error::kernel("test-run program", self.name.clone(), e);
            let kind = self.prog_type().map_or_else(|| self.raw_type.to_string(), |t| t.to_string());
            match errno.0 {
                libc::ENOSPC => error.with_next(format!(
                    "it has {} bytes of data and {} of context; ask for that much",
                    told.data_len, told.ctx_len
                )),
                libc::EINTR => error.with_next("a signal ended it; run it again"),
                524 => error.with_next(format!("the kernel has no test runs for programs of type {kind}")),
                libc::EINVAL => error.with_next(format!(
                    "programs of type {kind} do not take this input (packets have at least 14 bytes; raw tracepoints take \
                     a context and no data)"
                )),
                _ => error,
            }
        })?;
        data.truncate(told.data_len as usize);
        context.truncate(told.ctx_len as usize);
        Ok(TestOutput { value: told.retval, data, context, duration_ns: told.duration_ns })
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

/// What a test run gets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestInput<'a> {
    /// The packet, for programs that see packets.
    pub data: &'a [u8],
    /// The context struct, for types that take one.
    pub context: &'a [u8],
    /// Room for the packet afterwards, `None` if it is not wanted.
    pub data_out_len: Option<usize>,
    /// Room for the context afterwards, `None` if it is not wanted.
    pub context_out_len: Option<usize>,
    /// How often to run; the duration is the mean. 0 is once. (Not for raw tracepoints.)
    pub repeat: u32,
    /// `BPF_F_TEST_*`.
    pub flags: u32,
    /// With `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
}

/// What a test run gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TestOutput {
    /// What the program returned.
    pub value: u32,
    /// The packet afterwards, if it was wanted.
    pub data: Vec<u8>,
    /// The context afterwards, if it was wanted.
    pub context: Vec<u8>,
    /// Mean nanoseconds of a run.
    pub duration_ns: u32,
}

fn load(mut request: prog::Load<'_>, level: LogLevel, refusal_level: LogLevel) -> Result<(OwnedFd, Log), LoadRefused> {
    if level != LogLevel::None {
        return logged(&mut request, level, None, LOG_ROOM);
    }
    let errno = match attempt(&mut request, None).result {
        Ok(fd) => return Ok((fd, Log::default())),
        Err(e) => Errno::of(&e),
    };
    // These are said before the verifier looks at anything; asking again would only say it again.
    if matches!(errno.0, libc::EPERM | libc::EMFILE | libc::ENFILE) {
        return Err(LoadRefused { errno, log: String::new(), log_cut: false });
    }
    logged(&mut request, refusal_level, Some(errno), LOG_ROOM)
}

/// One load, trying what costs little against refusals that have nothing to do with the program.
fn attempt(request: &mut prog::Load<'_>, mut log: Option<(LogLevel, &mut [u8])>) -> prog::Loaded {
    let mut tries = 0;
    loop {
        let loaded = prog::load(request, log.as_mut().map(|(level, buffer)| (*level as u32, &mut **buffer)));
        let Err(e) = &loaded.result else { return loaded };
        tries += 1;
        match Errno::of(e).0 {
            // The verifier was interrupted, by a signal or for want of memory just now.
            libc::EAGAIN if tries < 5 => {}
            libc::EPERM if sys::raise_memlock() => {}
            // A kernel before 4.15.
            libc::E2BIG | libc::EINVAL if request.name != [0; 16] && !sys::knows_names() => request.name = [0; 16],
            _ => return loaded,
        }
    }
}

/// Loads with a log. `known` is what the kernel answered without one: then it is the end of the log that is wanted.
fn logged(
    request: &mut prog::Load<'_>,
    level: LogLevel,
    known: Option<Errno>,
    room: LogRoom,
) -> Result<(OwnedFd, Log), LoadRefused> {
    let mut size = room.first;
    let mut text = String::new();
    loop {
        let mut buffer = vec![0u8; size];
        let prog::Loaded { result, log_true_size } = attempt(request, Some((level, &mut buffer)));
        let wanted = log_true_size as usize;
        let errno = match result {
            Ok(fd) => return Ok((fd, Log { text: info::text(&buffer), cut: false })),
            Err(e) => Errno::of(&e),
        };
        let silent = buffer.first() == Some(&0);
        // It is the size of the buffer that an old kernel does not take; what it said into the last one stands.
        let too_large = errno.0 == libc::EINVAL && silent && size > LOG_LIMIT_BEFORE_5_13;
        let full = errno.0 == libc::ENOSPC && (wanted == 0 || wanted > size);
        if !too_large {
            text = info::text(&buffer);
        }
        if !full && !too_large {
            return Err(LoadRefused { errno, log: text, log_cut: false });
        }
        let holds_end = wanted > size;
        // With `Level1` the verifier takes back what it wrote of paths that turned out well: what is left had room.
        let cut = text.len() + 1 >= buffer.len() || !holds_end;
        if full && cut && size < room.most && !(holds_end && known.is_some()) {
            size = match size {
                _ if holds_end => wanted.min(room.most),
                size if size < LOG_LIMIT_BEFORE_5_13 => (size * 4).min(LOG_LIMIT_BEFORE_5_13).min(room.most),
                _ => room.most,
            };
            continue;
        }
        if cut && holds_end {
            // It begins in the middle of a line.
            text = text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or(text);
        }
        // A log that does not fit hides the verdict behind ENOSPC; without one it comes out.
        let verdict = match known {
            Some(errno) => Err(errno),
            None => attempt(request, None).result.map_err(|e| Errno::of(&e)),
        };
        return match verdict {
            Ok(fd) => Ok((fd, Log { text, cut })),
            Err(errno) => Err(LoadRefused { errno, log: text, log_cut: cut }),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of `count` times `r0 = 0`, loaded with a log of at most `most` bytes.
    fn load_with_room(
        count: usize,
        ending: &[Raw],
        (level, known): (LogLevel, Option<Errno>),
        most: usize,
    ) -> Result<Log, LoadRefused> {
        let set = Raw { opcode: 0xb7, dst: 0, src: 0, off: 0, imm: 0 };
        let insns: Vec<u8> =
            std::iter::repeat_n(&set, count).chain(ending).flat_map(|i| i.to_bytes(Endian::NATIVE)).collect();
        let mut request = prog::Load {
            prog_type: ProgramType::SocketFilter.as_u32(),
            insns: &insns,
            license: c"GPL",
            kern_version: 0,
            flags: 0,
            name: sys::object_name("room"),
            ifindex: 0,
            expected_attach_type: 0,
            btf: None,
            func_info: &[],
            line_info: &[],
            attach_btf_id: 0,
            attach_target: None,
            fd_array: &[],
        };
        logged(&mut request, level, known, LogRoom { first: 1 << 10, most }).map(|(_, log)| log)
    }

    const EXIT: Raw = Raw { opcode: 0x95, dst: 0, src: 0, off: 0, imm: 0 };
    /// `r0 = *(u64 *)(r3 + 0)`: the register was never set.
    const BAD: Raw = Raw { opcode: 0x79, dst: 0, src: 3, off: 0, imm: 0 };

    fn is_root() -> bool {
        let root = crate::privilege::Capabilities::current().has("CAP_SYS_ADMIN");
        if !root {
            eprintln!("needs root, not run");
        }
        root
    }

    #[test]
    fn a_log_that_does_not_fit_is_no_refusal() {
        if !is_root() {
            return;
        }
        let log = load_with_room(1000, &[EXIT], (LogLevel::Level2, None), 4 << 10).expect("accepted");
        assert!(log.cut && log.text.len() <= 4 << 10, "{}", log.text.len());
        assert!(log.text.contains("processed 1001 insns"), "{}", log.text);
        assert!(log.text.starts_with(|c: char| c.is_ascii_digit()), "whole lines: {}", log.text);
        let whole = load_with_room(1000, &[EXIT], (LogLevel::Level2, None), 1 << 20).expect("accepted");
        assert!(!whole.cut && whole.text.contains("\n0: ") && whole.text.len() > 4 << 10, "{}", whole.text);
        // The verifier takes back all but its counts.
        let counts = load_with_room(1000, &[EXIT], (LogLevel::Level1, None), 4 << 10).expect("accepted");
        assert!(!counts.cut && counts.text.starts_with("processed 1001 insns"), "{}", counts.text);
    }

    #[test]
    fn the_end_of_a_log_tells_why() {
        if !is_root() {
            return;
        }
        // The verdict is known: the first buffer will do.
        let refused = load_with_room(1000, &[BAD, EXIT], (LogLevel::Level1, Some(Errno(libc::EACCES))), 1 << 20)
            .expect_err("refused");
        assert!(refused.log_cut && refused.errno.0 == libc::EACCES);
        assert!(refused.log.len() <= 1 << 10 && refused.log.contains("R3 !read_ok"), "{}", refused.log);
        // It is not: the log is whole where it fits, and the verdict is the verifier's.
        let refused = load_with_room(1000, &[BAD, EXIT], (LogLevel::Level1, None), 1 << 20).expect_err("refused");
        assert!(!refused.log_cut && refused.errno.0 == libc::EACCES, "{:?}", refused.errno);
        let refused = load_with_room(1000, &[BAD, EXIT], (LogLevel::Level1, None), 4 << 10).expect_err("refused");
        assert!(refused.log_cut && refused.errno.0 == libc::EACCES, "{:?}", refused.errno);
        assert!(refused.log.contains("R3 !read_ok"), "{}", refused.log);
    }
}
