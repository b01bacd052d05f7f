//! C source to a BPF object, by driving clang.
//!
//! [`Compiler::compile`] turns the path of a C file into the bytes of an ELF object. It finds clang, writes `vmlinux.h`
//! (the types of the running kernel, as C) and skep's own headers into a cache, and adds the flags that every BPF
//! program needs, so that a source starts like this and no makefile stands beside it:
//!
//! ```c
//! #include "vmlinux.h"
//! #include <bpf/bpf_helpers.h>
//! #include "skep.h"
//! ```
//!
//! ```no_run
//! use std::path::Path;
//! let compiler = skep_cc::Compiler::from_env();
//! let compiled = compiler.compile(Path::new("examples/hello.bpf.c"))?;
//! println!("{} bytes by clang {}", compiled.object.len(), compiled.clang.version);
//! # Ok::<(), skep_cc::CcError>(())
//! ```
//!
//! Limits: one source file gives one object; nothing is linked. Objects are not cached, as clang takes a fraction of a
//! second. The object is for this machine's byte order and its register layout (`__TARGET_ARCH_*`). The environment is
//! read in [`Compiler::from_env`] and nowhere else.

mod cache;
mod clang;
mod error;

pub use cache::Headers;
pub use clang::{Clang, Version};
pub use error::CcError;

use std::env::consts::ARCH;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where Linux shows its own types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The BPF instruction set version that clang may use (`-mcpu`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cpu {
    /// The first instruction set, for kernels before 4.14.
    V1,
    /// With the jumps by `<` and `<=`; Linux 4.14.
    V2,
    /// With 32-bit arithmetic and jumps; Linux 5.1.
    #[default]
    V3,
    /// With sign extension, signed division and long jumps; Linux 6.6, clang 18.
    V4,
}

impl Cpu {
    fn as_str(self) -> &'static str {
        match self {
            Cpu::V1 => "v1",
            Cpu::V2 => "v2",
            Cpu::V3 => "v3",
            Cpu::V4 => "v4",
        }
    }
}

/// How C is to be compiled. Make one with [`Compiler::from_env`] or [`Compiler::from_vars`] and change what should differ.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// This clang, a path or a name to look for in `search_path`; `None` looks for the newest.
    pub clang: Option<PathBuf>,
    /// Directories in which clang is looked for, as in `$PATH`.
    pub search_path: OsString,
    /// The BTF that `vmlinux.h` is written from.
    pub btf_source: PathBuf,
    /// Where generated headers are kept. `None`, or a directory that cannot be used, means a temporary directory for each
    /// compilation, which costs the time to write `vmlinux.h` anew.
    pub cache_dir: Option<PathBuf>,
    /// Directories searched for headers before skep's own.
    pub include_dirs: Vec<PathBuf>,
    /// Macros: `NAME` or `NAME=VALUE`.
    pub defines: Vec<OsString>,
    /// The user's own flags. They stand after all of skep's, so that they win.
    pub flags: Vec<OsString>,
    /// The instruction set to use.
    pub cpu: Cpu,
    /// Whether clang colours its diagnostics: true where they go to a terminal.
    pub color: bool,
}

/// What came of a compilation.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The ELF object.
    pub object: Vec<u8>,
    /// The clang that made it.
    pub clang: Clang,
    /// What clang said (warnings), as it wrote it; usually empty. Bytes, as it may name a path that is not UTF-8.
    pub diagnostics: Vec<u8>,
    /// From the call to the object, the search for clang and the headers included.
    pub elapsed: Duration,
}

impl Compiler {
    /// The configuration that this process's environment asks for. Reads `CLANG`, `PATH`, `XDG_CACHE_HOME` and `HOME`.
    pub fn from_env() -> Compiler {
        Compiler::from_vars(|name| std::env::var_os(name))
    }

    /// The configuration that an environment asks for, given as a function from a variable's name to its value.
    pub fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Compiler {
        let set = |name| var(name).filter(|value| !value.is_empty());
        // The XDG specification says that a relative path is to be ignored.
        let absolute = |name| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache_root = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        Compiler {
            clang: set("CLANG").map(PathBuf::from),
            search_path: set("PATH").unwrap_or_default(),
            btf_source: PathBuf::from(KERNEL_BTF),
            cache_dir: cache_root.map(|root| root.join("skep")),
            include_dirs: Vec::new(),
            defines: Vec::new(),
            flags: Vec::new(),
            cpu: Cpu::default(),
            color: false,
        }
    }

    /// The clang that would be used. Runs it once, for its version.
    pub fn find_clang(&self) -> Result<Clang, CcError> {
        clang::find(self.clang.as_deref(), &self.search_path)
    }

    /// The generated headers, written first where the cache does not have them. For editors (`-I`) and for `skep doctor`;
    /// [`Compiler::compile`] calls it itself.
    pub fn headers(&self) -> Result<Headers, CcError> {
        cache::headers(&self.btf_source, self.cache_dir.as_deref())
    }

    /// Compiles one C file.
    ///
    /// # Errors
    /// No clang, or one that cannot make BPF; a source that cannot be read; headers that cannot be had although the source
    /// includes them; and what clang refuses, with its diagnostics as it wrote them.
    pub fn compile(&self, source: &Path) -> Result<Compiled, CcError> {
        let started = Instant::now();
        // Looked at first: "no such file" is then said in our words, and before anything else is set up.
        std::fs::File::open(source).map_err(|cause| CcError::Source { source_file: source.into(), cause })?;
        let clang = self.find_clang()?;
        if self.cpu == Cpu::V4 && clang.version.major < 18 {
            return Err(CcError::ClangTooOld { clang, needed: 18, what: "instruction set v4" });
        }
        let headers = self.headers()?;
        // The object comes through a pipe: no temporary file can be left behind, whatever ends this process.
        let output = self
            .command(&clang, &headers, source)
            .stdin(Stdio::null())
            .output()
            .map_err(|cause| CcError::Run { clang: clang.path.clone(), cause })?;
        if !output.status.success() || output.stdout.is_empty() {
            return Err(error::explain(source, clang, output.status, output.stderr, &headers));
        }
        Ok(Compiled { object: output.stdout, clang, diagnostics: output.stderr, elapsed: started.elapsed() })
    }

    fn command(&self, clang: &Clang, headers: &Headers, source: &Path) -> Command {
        let mut command = Command::new(&clang.path);
        command.args(["-target", if cfg!(target_endian = "big") { "bpfeb" } else { "bpfel" }]);
        command.arg(format!("-mcpu={}", self.cpu.as_str()));
        // -g writes BTF and line information, without which there are no typed maps and no C lines in errors. Without
        // optimisation clang emits code that the kernel's verifier cannot follow.
        command.args(["-O2", "-g", "-Wall"]);
        // Since 6.19 the kernel has structs whose unnamed member is of a named struct, and its types as C have them too.
        command.args(["-fms-extensions", "-Wno-microsoft-anon-tag"]);
        command.arg(if self.color { "-fcolor-diagnostics" } else { "-fno-color-diagnostics" });
        if let Some(arch) = target_arch(ARCH) {
            command.arg(format!("-D__TARGET_ARCH_{arch}"));
        }
        for define in &self.defines {
            command.arg(joined("-D", define));
        }
        for dir in self.include_dirs.iter().map(PathBuf::as_path).chain([headers.dir()]) {
            command.arg(joined("-I", dir.as_os_str()));
        }
        // Debian keeps asm/types.h and its like per machine, where clang does not look when the target is bpf.
        if let Some(dir) = multiarch_dir(ARCH).filter(|dir| dir.is_dir()) {
            command.arg("-idirafter").arg(dir);
        }
        command.args(&self.flags);
        command.args(["-c", "-o", "-"]);
        // clang takes a name that starts with '-' for an option, even after "--".
        if source.as_os_str().as_encoded_bytes().starts_with(b"-") {
            command.arg(Path::new(".").join(source));
        } else {
            command.arg(source);
        }
        command
    }
}

fn joined(flag: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(flag);
    argument.push(value);
    argument
}

/// What libbpf's `bpf_tracing.h` calls a machine: it picks the registers that hold arguments by it.
fn target_arch(arch: &str) -> Option<&'static str> {
    Some(match arch {
        "x86" | "x86_64" => "x86",
        "aarch64" => "arm64",
        "arm" => "arm",
        "riscv64" => "riscv",
        "s390x" => "s390",
        "powerpc64" => "powerpc",
        "loongarch64" => "loongarch",
        "mips" | "mips64" => "mips",
        _ => return None,
    })
}

/// Where Debian keeps the headers that differ by machine.
fn multiarch_dir(arch: &str) -> Option<PathBuf> {
    let triple = match arch {
        "x86_64" => "x86_64-linux-gnu",
        "x86" => "i386-linux-gnu",
        "aarch64" => "aarch64-linux-gnu",
        "arm" => "arm-linux-gnueabihf",
        "riscv64" => "riscv64-linux-gnu",
        "s390x" => "s390x-linux-gnu",
        "powerpc64" => "powerpc64le-linux-gnu",
        "loongarch64" => "loongarch64-linux-gnu",
        "mips64" => "mips64el-linux-gnuabi64",
        _ => return None,
    };
    Some(Path::new("/usr/include").join(triple))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Compiler {
        Compiler::from_vars(|name| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_environment_says_where_the_cache_is() {
        let cache = |vars| from(vars).cache_dir;
        assert_eq!(cache(&[("HOME", "/h")]), Some("/h/.cache/skep".into()));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/skep".into()));
        assert_eq!(cache(&[("HOME", "/h"), ("XDG_CACHE_HOME", "relative")]), Some("/h/.cache/skep".into()));
        assert_eq!(cache(&[("HOME", "")]), None);
        assert_eq!(cache(&[]), None);
    }

    #[test]
    fn an_empty_clang_variable_is_as_good_as_none() {
        assert_eq!(from(&[("CLANG", "")]).clang, None);
        assert_eq!(from(&[("CLANG", "clang-19")]).clang, Some("clang-19".into()));
    }

    #[test]
    fn this_machine_has_a_name_in_libbpf() {
        assert!(target_arch(ARCH).is_some(), "no __TARGET_ARCH_ name for {ARCH}");
    }
}
