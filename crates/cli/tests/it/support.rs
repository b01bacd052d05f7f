//! What the tests of the command share.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The binary under test.
pub(crate) fn skep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.current_dir(root());
    command
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("workspace")
}

/// Whether this process may load programs. Says so where it may not: the test then has nothing to test.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("needs root: not run");
    }
    root
}

/// Standard output, standard error and exit code as text, for messages.
pub(crate) fn show(output: &Output) -> String {
    format!(
        "exit {:?}\n--- stdout\n{}--- stderr\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs a command that must succeed.
pub(crate) fn must(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", show(&output));
    output
}

/// `ip` with these words.
pub(crate) fn ip(words: &str) {
    must(Command::new("ip").args(words.split(' ')));
}

/// Two network namespaces with a pair of veth interfaces between them: `left` has `veth0` with 10.77.0.1, `right` has
/// `veth0` with 10.77.0.2. Deleted when dropped, also by a failing test.
pub(crate) struct Wire {
    /// Name of a namespace.
    pub(crate) left: String,
    /// Name of the other.
    pub(crate) right: String,
}

impl Wire {
    /// Makes them; `name` keeps tests that run side by side apart.
    pub(crate) fn new(name: &str) -> Wire {
        let id = std::process::id();
        let wire = Wire { left: format!("skep-{name}-l-{id}"), right: format!("skep-{name}-r-{id}") };
        let (left, right) = (&wire.left, &wire.right);
        ip(&format!("netns add {left}"));
        ip(&format!("netns add {right}"));
        ip(&format!("-n {left} link add veth0 type veth peer name veth0 netns {right}"));
        for (namespace, last) in [(left, 1), (right, 2)] {
            ip(&format!("-n {namespace} addr add 10.77.0.{last}/24 dev veth0"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set veth0 up"));
        }
        wire
    }

    /// A shell command in a namespace.
    pub(crate) fn shell(namespace: &str, command: &str) -> Command {
        let mut words = Command::new("ip");
        words.args(["netns", "exec", namespace, "timeout", "30", "sh", "-c", command]).current_dir(root());
        words
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [&self.left, &self.right] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

/// A version 2 cgroup of this test's own, removed when dropped.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Cgroup {
    /// Makes it below the mount of cgroup2.
    pub(crate) fn new(name: &str) -> Cgroup {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let mount = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a cgroup2 mount");
        let point = mount.split(' ').nth(4).expect("mount point");
        let path = Path::new(point).join(format!("skep-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("make a cgroup");
        Cgroup(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The lines of standard output as JSON.
pub(crate) fn json_lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Programs that are loaded and have this name, once the kernel has had time to free those that nothing holds.
pub(crate) fn loaded(name: &str) -> usize {
    let mut count = 0;
    for _ in 0..20 {
        let output = must(skep().args(["ps", "programs", "--format", "json"]));
        count = json_lines(&output).iter().filter(|program| program["name"] == name).count();
        if count == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    count
}

/// Compiles a C file as `skep run` does, with these flags behind its own, to an object in `dir`.
pub(crate) fn compile(source: &Path, dir: &Path, flags: &[&str]) -> PathBuf {
    let mut compiler = skep_cc::Compiler::from_env();
    compiler.flags = flags.iter().map(Into::into).collect();
    let compiled = compiler.compile(source).unwrap_or_else(|error| panic!("{error}"));
    let name = source.file_stem().expect("a file name").to_string_lossy().into_owned();
    let object = dir.join(name).with_extension("o");
    std::fs::write(&object, compiled.object).expect("write the object");
    object
}

/// Held by tests that read bpf_printk lines: the kernel has one pipe of them, and each line is seen by one reader alone.
pub(crate) fn reads_prints() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
