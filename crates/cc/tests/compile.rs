//! Compiling with the machine's real clang: what goes in, what comes out, what the errors say, what is left behind.

use skep_cc::{CcError, Compiled, Compiler};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SMALL: &str = "int run(void *ctx) { return 0; }\n";
const WITH_KERNEL_TYPES: &str = "#include \"vmlinux.h\"\nint run(struct task_struct *task) { return task->pid; }\n";

/// A directory of the test's own with a cache in it, and the compiler that uses it. It knows no kernel types unless
/// [`Bench::with_kernel_types`] gives it this machine's: to write them takes a debug build a second.
struct Bench {
    dir: tempfile::TempDir,
    compiler: Compiler,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut compiler = Compiler::from_env();
        compiler.cache_dir = Some(dir.path().join("cache"));
        compiler.btf_source = dir.path().join("no-btf");
        Bench { dir, compiler }
    }

    fn with_kernel_types() -> Option<Bench> {
        let mut bench = Bench::new();
        bench.compiler.btf_source = skep_cc::KERNEL_BTF.into();
        let there = bench.compiler.btf_source.exists();
        if !there {
            println!("needs a kernel with {}", skep_cc::KERNEL_BTF);
        }
        there.then_some(bench)
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: impl AsRef<Path>, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn compile(&self, text: &str) -> Result<Compiled, CcError> {
        self.compiler.compile(&self.write("a.bpf.c", text))
    }

    fn error(&self, text: &str) -> CcError {
        self.compile(text).expect_err("compiled")
    }

    /// A program on the search path (and nothing else on it) that prints `says` when asked for its version.
    fn fake_clang(&mut self, name: &str, says: &str) -> PathBuf {
        self.script(name, &format!("echo '{says}'"))
    }

    fn script(&mut self, name: &str, script: &str) -> PathBuf {
        let text = self.write("script", &format!("#!/bin/sh\n{script}\n"));
        let path = self.path("bin").join(name);
        fs::create_dir_all(self.path("bin")).unwrap();
        // Another process copies it: a file that this one has written may still be open in a child that another test has
        // just forked, and cannot be run for as long ("text file busy").
        let copied = std::process::Command::new("install").arg("-m755").arg(text).arg(&path).status().unwrap();
        assert!(copied.success());
        self.compiler.clang = None;
        self.compiler.search_path = self.path("bin").into();
        path
    }

    fn cached(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("cache")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn assert_elf(compiled: &Compiled) {
    assert_eq!(&compiled.object[..4], b"\x7fELF");
}

#[test]
fn kernel_types_are_written_once() {
    let Some(bench) = Bench::with_kernel_types() else { return };
    assert_elf(&bench.compile(WITH_KERNEL_TYPES).unwrap());
    let cached = bench.cached();
    assert_eq!(cached.len(), 1, "{cached:?}");
    let header = bench.path("cache").join(&cached[0]).join("vmlinux.h");
    let written = header.metadata().unwrap().modified().unwrap();
    assert_elf(&bench.compile(WITH_KERNEL_TYPES).unwrap());
    assert_eq!(header.metadata().unwrap().modified().unwrap(), written, "written again");
    assert_eq!(bench.cached(), cached);
}

#[test]
fn many_processes_may_fill_an_empty_cache_at_once() {
    let Some(bench) = Bench::with_kernel_types() else { return };
    let source = bench.write("a.bpf.c", SMALL);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_elf(&bench.compiler.compile(&source).unwrap()));
        }
    });
    assert_eq!(bench.cached().len(), 1, "one directory, and no unfinished one: {:?}", bench.cached());
}

#[test]
fn the_cache_has_a_bound_and_forgets_what_was_not_used() {
    let bench = Bench::new();
    for i in 0..20 {
        fs::create_dir_all(bench.path(format!("cache/headers-old{i:02}"))).unwrap();
    }
    fs::create_dir_all(bench.path("cache/somebody-elses")).unwrap();
    fs::set_permissions(bench.path("cache"), fs::Permissions::from_mode(0o700)).unwrap();
    bench.compile(SMALL).unwrap();
    let (ours, others): (Vec<_>, Vec<_>) = bench.cached().into_iter().partition(|name| name.starts_with("headers-"));
    assert_eq!(ours.len(), 8, "{ours:?}");
    assert_eq!(others, ["somebody-elses"]);
    assert_eq!(bench.compiler.headers().unwrap().dir().parent(), Some(bench.path("cache").as_path()), "ours was kept");
}

#[test]
fn without_a_usable_cache_it_still_compiles_and_leaves_nothing() {
    let mut bench = Bench::new();
    let open_to_all = bench.path("open");
    fs::create_dir(&open_to_all).unwrap();
    fs::set_permissions(&open_to_all, fs::Permissions::from_mode(0o777)).unwrap();
    let in_the_way = bench.write("file", "");
    for unusable in [None, Some(open_to_all.clone()), Some(in_the_way)] {
        bench.compiler.cache_dir = unusable.clone();
        let headers = bench.compiler.headers().unwrap();
        let dir = headers.dir().to_path_buf();
        assert!(dir.join("skep.h").is_file(), "{unusable:?}");
        assert!(unusable.is_none_or(|unusable| !dir.starts_with(unusable)));
        drop(headers);
        assert!(!dir.exists(), "{dir:?} is left");
        assert_elf(&bench.compile(SMALL).unwrap());
    }
    assert_eq!(fs::read_dir(open_to_all).unwrap().count(), 0, "written where anybody may write");
}

#[test]
fn headers_of_skep_and_libbpf_and_the_kernel_interface_are_found() {
    let bench = Bench::new();
    // linux/bpf.h leads to asm/types.h, which Debian keeps where clang does not look for BPF.
    bench
        .compile(
            "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n#include <skep.h>\n#include <skep_syscalls.h>\n",
        )
        .unwrap();
}

#[test]
fn the_users_headers_come_before_skeps() {
    let mut bench = Bench::new();
    bench.write("mine/skep.h", "#define MINE 1\n");
    bench.compiler.include_dirs = vec![bench.path("mine")];
    bench.compile("#include <skep.h>\n_Static_assert(MINE, \"\");\n").unwrap();
}

#[test]
fn the_users_flags_come_last() {
    let mut bench = Bench::new();
    bench.compiler.defines = vec!["VALUE=1".into(), "BARE".into()];
    bench.compile("_Static_assert(VALUE == 1 && BARE, \"\");\n").unwrap();
    bench.compiler.flags = vec!["-UVALUE".into(), "-DVALUE=2".into(), "-Wno-all".into()];
    let compiled = bench.compile("_Static_assert(VALUE == 2, \"\"); static int unused_variable;\n").unwrap();
    assert_eq!(compiled.diagnostics, b"");
}

#[test]
fn warnings_are_handed_on() {
    let bench = Bench::new();
    let compiled = bench.compile("static int unused_variable;\n").unwrap();
    let text = String::from_utf8(compiled.diagnostics).unwrap();
    assert!(text.contains("unused variable 'unused_variable'"), "{text}");
    assert!(!text.contains('\x1b'), "coloured without being asked: {text:?}");
}

#[test]
fn diagnostics_are_clangs_own() {
    let mut bench = Bench::new();
    let source = bench.write("broken.bpf.c", "int run(void *ctx)\n{\n\treturn unknown;\n}\n");
    let error = bench.compiler.compile(&source).unwrap_err();
    let clang = bench.compiler.find_clang().unwrap();
    let own = std::process::Command::new(clang.path)
        .args(["-target", "bpf", "-fsyntax-only", "-fno-color-diagnostics"])
        .arg(&source)
        .output()
        .unwrap();
    assert_eq!(error.diagnostics(), own.stderr);
    let text = error.to_string();
    assert!(matches!(error, CcError::Refused { .. }), "{text}");
    assert!(text.contains("broken.bpf.c:3:9: error: use of undeclared identifier 'unknown'"), "{text}");

    bench.compiler.color = true;
    assert!(bench.compiler.compile(&source).unwrap_err().diagnostics().contains(&0x1b), "no colour");
}

#[test]
fn odd_paths_work() {
    let mut bench = Bench::new();
    let odd = OsStr::from_bytes(b"a b'\"$\xff\xfe");
    bench.compiler.cache_dir = Some(bench.path(odd).join("cache"));
    bench.compiler.include_dirs = vec![bench.path(odd).join("include")];
    bench.write(Path::new(odd).join("include/mine.h"), "#define MINE 1\n");
    let mut name = odd.to_owned();
    name.push(".c");
    let source =
        bench.write(Path::new(odd).join(name), "#include <mine.h>\n#include <skep_syscalls.h>\nint x = MINE;\n");
    assert_elf(&bench.compiler.compile(&source).unwrap());
}

#[test]
fn a_name_that_looks_like_an_option_is_a_file() {
    // Relative names only: the test's own directory is the package's, so the file is named from there.
    let bench = Bench::new();
    let name = format!("-x skep-test-{}.c", std::process::id());
    fs::write(&name, SMALL).unwrap();
    let result = bench.compiler.compile(Path::new(&name));
    fs::remove_file(&name).unwrap();
    assert_elf(&result.unwrap());
}

#[test]
fn a_source_that_cannot_be_read() {
    let bench = Bench::new();
    let error = bench.compiler.compile(&bench.path("none.bpf.c")).unwrap_err();
    assert!(matches!(error, CcError::Source { .. }), "{error}");
    assert!(error.to_string().contains("none.bpf.c") && error.to_string().contains("No such file"), "{error}");
    // A directory opens but does not compile.
    let error = bench.compiler.compile(bench.dir.path()).unwrap_err();
    assert!(matches!(error, CcError::Refused { .. }), "{error}");
}

#[test]
fn missing_headers_of_libbpf_say_what_to_install() {
    let bench = Bench::new();
    let error = bench.error("#include <bpf/not_there.h>\n");
    let text = error.to_string();
    assert!(matches!(&error, CcError::NoLibbpfHeaders { header, .. } if header == "bpf/not_there.h"), "{text}");
    assert!(text.contains("apt install libbpf-dev") && text.contains("dnf install libbpf-devel"), "{text}");
    assert!(text.contains("a.bpf.c:1:10: fatal error"), "clang's own words are missing: {text}");
}

#[test]
fn a_kernel_without_types_matters_only_where_they_are_used() {
    let bench = Bench::new();
    bench.compile(SMALL).unwrap();
    let text = bench.error(WITH_KERNEL_TYPES).to_string();
    assert!(text.contains("no-btf") && text.contains("CONFIG_DEBUG_INFO_BTF=y"), "{text}");
    // A vmlinux.h beside the source needs no kernel.
    bench.write("vmlinux.h", "struct task_struct { int pid; };\n");
    bench.compile(WITH_KERNEL_TYPES).unwrap();
}

/// What kernels from 6.19 on have in their types.
#[test]
fn an_unnamed_member_of_a_named_struct_is_no_warning() {
    let bench = Bench::new();
    bench.write("vmlinux.h", "struct inner { int pid; };\nstruct task_struct { int a; struct inner; };\n");
    assert_eq!(bench.compile(WITH_KERNEL_TYPES).unwrap().diagnostics, b"");
}

#[test]
fn types_that_cannot_be_decoded_are_told_each_time_and_never_cached() {
    let mut bench = Bench::new();
    for broken in ["", "garbage", "\u{fffd}\0\0"] {
        bench.compiler.btf_source = bench.write("broken-btf", broken);
        for _ in 0..2 {
            bench.compile(SMALL).unwrap();
            let error = bench.error(WITH_KERNEL_TYPES);
            assert!(matches!(error, CcError::NoKernelTypes { .. }), "{error}");
        }
    }
    let cached = bench.cached();
    assert_eq!(cached.len(), 1, "{cached:?}");
    assert!(!bench.path("cache").join(&cached[0]).join("vmlinux.h").exists());
}

#[test]
fn no_clang_says_what_to_install() {
    let mut bench = Bench::new();
    bench.compiler.clang = None;
    for search_path in [OsString::new(), bench.path("empty").into()] {
        bench.compiler.search_path = search_path;
        let error = bench.error(SMALL);
        assert!(matches!(error, CcError::NoClang { .. }), "{error}");
        assert!(
            error.to_string().contains("apt install clang") && error.to_string().contains("dnf install"),
            "{error}"
        );
    }
}

#[test]
fn the_newest_clang_is_taken_by_number() {
    let mut bench = Bench::new();
    bench.fake_clang("clang", "clang version 30.0.0");
    assert_eq!(bench.compiler.find_clang().unwrap().path, bench.path("bin/clang"));
    for (name, major) in
        [("clang-9", 9), ("clang-14", 14), ("clang-19", 19), ("clang-2.9", 99), ("clang-format-20", 98)]
    {
        bench.fake_clang(name, &format!("Debian clang version {major}.1.2 (x)"));
    }
    fs::write(bench.path("bin/clang-25"), "not executable").unwrap();
    fs::create_dir(bench.path("bin/clang-26")).unwrap();
    let clang = bench.compiler.find_clang().unwrap();
    assert_eq!((clang.path, clang.version.to_string()), (bench.path("bin/clang-19"), "19.1.2".into()));
}

#[test]
fn the_clang_that_is_asked_for_is_taken() {
    let mut bench = Bench::new();
    bench.fake_clang("clang-19", "clang version 19.0.0");
    let old = bench.fake_clang("clang-14", "clang version 14.0.0");
    for asked in [old.clone(), "clang-14".into()] {
        bench.compiler.clang = Some(asked);
        assert_eq!(bench.compiler.find_clang().unwrap().path, old);
    }
    for missing in ["clang-77", "./clang-14", "/nowhere/clang"] {
        bench.compiler.clang = Some(missing.into());
        let error = bench.compiler.find_clang().unwrap_err();
        assert!(error.to_string().contains("$CLANG"), "{error}");
    }
}

#[test]
fn what_is_no_clang_or_too_old_is_refused() {
    let mut bench = Bench::new();
    bench.fake_clang("clang-9", "clang version 9.0.1");
    let error = bench.error(SMALL);
    assert!(matches!(error, CcError::ClangTooOld { needed: 10, .. }), "{error}");
    bench.fake_clang("clang-10", "gcc (GCC) 12.2.0");
    assert!(matches!(bench.error(SMALL), CcError::NotClang { .. }));
    bench.fake_clang("clang-17", "clang version 17.0.6");
    bench.compiler.cpu = skep_cc::Cpu::V4;
    assert!(matches!(bench.error(SMALL), CcError::ClangTooOld { needed: 18, .. }));
}

/// Stands in for clang: says a version when asked, else does what the script says.
fn with_script(bench: &mut Bench, script: &str) {
    bench.script("clang-15", &format!("[ \"$1\" = --version ] && echo 'clang version 15.0.0' && exit\n{script}"));
}

#[test]
fn a_clang_without_bpf_is_named() {
    let mut bench = Bench::new();
    let said = r#"error: unable to create target: No available targets are compatible with triple "bpfel""#;
    with_script(&mut bench, &format!("echo '{said}' >&2; exit 1"));
    let error = bench.error(SMALL);
    assert!(matches!(error, CcError::NoBpfTarget { .. }), "{error}");
    assert!(error.to_string().contains("clang-15"), "{error}");
    assert!(!bench.compiler.find_clang().unwrap().has_bpf_target().unwrap());
    assert!(Bench::new().compiler.find_clang().unwrap().has_bpf_target().unwrap());
}

#[test]
fn a_clang_that_is_killed_is_an_error() {
    let mut bench = Bench::new();
    with_script(&mut bench, "kill -9 $$");
    let error = bench.error(SMALL);
    assert!(matches!(error, CcError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("signal: 9"), "{error}");
    // An exit code of 0 without an object is no success either.
    with_script(&mut bench, "exit 0");
    assert!(matches!(bench.error(SMALL), CcError::Refused { .. }));
}
