//! Each example is compiled once, against this machine's kernel, and the one object runs in every guest kernel: what CO-RE
//! promises. Hooks that this host's kernel may lack (kprobe, fentry, LSM) are tested here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use xtask::guest::Guest;

/// The skep that cargo built beside this test.
fn skep() -> PathBuf {
    let test = std::env::current_exe().expect("test binary");
    let skep = test.parent().and_then(Path::parent).expect("target/debug").join("skep");
    if !skep.exists() {
        let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "skep-cli"]).status().expect("cargo");
        assert!(status.success(), "skep was not built");
    }
    assert!(skep.exists(), "{} is missing: cargo build -p skep-cli", skep.display());
    skep
}

/// Compiles every example into a directory; gives their number.
fn objects(dir: &Path) -> usize {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).expect("directory");
    let examples = xtask::workspace_dir().join("examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).expect("examples") {
        let source = entry.expect("entry").path();
        let Some(stem) = source.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".c")) else {
            continue;
        };
        let compiled = skep_cc::Compiler::from_env().compile(&source).unwrap_or_else(|e| panic!("{stem}: {e}"));
        std::fs::write(dir.join(format!("{stem}.o")), compiled.object).expect("object");
        count += 1;
    }
    count
}

#[test]
fn one_object_each_runs_on_every_kernel() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-examples");
    let count = objects(&dir);
    assert!(count >= 14, "{count} examples");
    let script = xtask::workspace_dir().join("tests/guest/examples.sh");
    let mut failures = String::new();
    for kernel in ["6.1", "6.12", "7.2"] {
        let output = Guest::new(kernel)
            .and_then(|guest| guest.file(skep(), Some(Path::new("/bin/skep"))))
            .and_then(|guest| guest.file(&script, Some(Path::new("/examples.sh"))))
            // Busybox's ip knows no peer names, and its shell takes its own tools before any other of the name.
            .and_then(|guest| guest.file("/usr/sbin/ip", Some(Path::new("/bin/ip2"))))
            .and_then(|guest| guest.dir(&dir, Some(Path::new("/examples"))))
            .map(|guest| guest.timeout(Duration::from_secs(300)))
            .and_then(|guest| guest.output(["sh", "/examples.sh"]))
            .unwrap_or_else(|error| panic!("{kernel}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{kernel} ({:?}):\n{text}", output.total);
        if output.status != 0 || !text.trim_end().ends_with("done") {
            failures.push_str(&format!(
                "{kernel}: exit {}\n{text}{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
