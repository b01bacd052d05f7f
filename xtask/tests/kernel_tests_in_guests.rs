//! The tests of attaching and of buffers in every guest kernel. A hardened host refuses kprobe.multi, fentry, LSM hooks
//! and what else its kernel was built without, and there these tests say so and pass; a guest has to have them
//! (`SKEP_REQUIRE`, see `crates/kernel/tests/attach_support`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use xtask::guest::Guest;

/// Test binaries of `skep-kernel`.
const BINARIES: [&str; 2] = ["attach", "buffers"];

/// What runs of them in a guest, one after the other: name, binary and options. The two long tests take more time under
/// emulation than they tell; the one that takes a CPU away is no company for others.
const RUNS: [(&str, &str); 3] = [
    ("attach", "/opt/attach"),
    ("buffers", "/opt/buffers --skip a_million_records_in_order --skip a_flood --skip a_cpu_that_goes_and_comes_back"),
    ("hotplug", "/opt/buffers --exact a_cpu_that_goes_and_comes_back"),
];

/// What a kernel has to be able to.
const EVERYWHERE: &str = "kprobe,fentry,fexit,lsm,uprobe,flow_dissector,hotplug";
const NEWER: &str = "kprobe.multi,uprobe.multi,tcx,netfilter";

/// Longer than a run takes on two emulated processors while the machine does nothing else (under a minute).
const LIMIT: Duration = Duration::from_secs(300);

/// Has cargo build the test binaries, and takes their paths from what it says.
fn binaries() -> Vec<PathBuf> {
    // Of the whole workspace, so that what is there already fits.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--no-run", "--quiet", "--message-format=json"]);
    cargo.args(BINARIES.iter().flat_map(|name| ["--test", name]));
    // This test lies in TARGET/PROFILE/deps.
    let own = std::env::current_exe().expect("own path");
    let target = own.ancestors().nth(3).expect("target directory");
    let output = cargo.arg("--target-dir").arg(target).current_dir(xtask::workspace_dir()).output().expect("cargo");
    assert!(output.status.success(), "the tests were not built: {}", String::from_utf8_lossy(&output.stderr));
    let messages: Vec<Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a message of cargo"))
        .collect();
    let of_kernel = |message: &Value| {
        let manifest = message["manifest_path"].as_str().map(Path::new);
        manifest.is_some_and(|path| path.ends_with("crates/kernel/Cargo.toml"))
    };
    let path = |name: &str| {
        let found =
            messages.iter().find(|m| of_kernel(m) && m["target"]["name"] == name && m["executable"].is_string());
        let found = found.and_then(|message| message["executable"].as_str());
        PathBuf::from(found.unwrap_or_else(|| panic!("cargo built no test {name} of skep-kernel")))
    };
    BINARIES.iter().map(|name| path(name)).collect()
}

/// The number of tests that passed, by the line `test result: ok. N passed; 0 failed; ...`.
fn passed(output: &str) -> Option<u32> {
    let line = output.lines().rev().find_map(|line| line.strip_prefix("test result: ok. "))?;
    line.split_once(" passed")?.0.parse().ok()
}

fn all_pass_in(series: &str, required: &str) {
    // Two guests at once on two processors take longer than one after the other.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let binaries = binaries();
    let mut guest = Guest::new(series).expect(series).timeout(LIMIT).env("SKEP_REQUIRE", required);
    // The tests start these two by name, and need more of them than busybox knows.
    for tool in ["ip", "tc"] {
        guest = guest.file(format!("/usr/sbin/{tool}"), Some(&Path::new("/bin").join(tool))).expect(tool);
    }
    let mut script = String::new();
    for (path, name) in binaries.iter().zip(BINARIES) {
        guest = guest.file(path, Some(&Path::new("/opt").join(name))).expect(name);
    }
    for (name, command) in RUNS {
        // Each one's end as a line of its own, so that one that fails does not hide the next.
        script.push_str(&format!("echo begin {name}; {command} --nocapture; echo end {name} $?\n"));
    }
    let output = guest.output(["sh", "-c", &script]).unwrap_or_else(|error| panic!("{series}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let both = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    for (name, _) in RUNS {
        let part = text.split_once(&format!("begin {name}\n")).map_or("", |(_, rest)| rest);
        let (part, _) =
            part.split_once(&format!("end {name} 0\n")).unwrap_or_else(|| panic!("{series}: {name}\n{both}"));
        let count = passed(part).unwrap_or_else(|| panic!("{series}: {name} tells no result\n{both}"));
        assert!(count > 0, "{series}: {name} ran no test\n{both}");
        // What a test says of a hook that the kernel lacks; some came after 6.1.
        let refused: Vec<&str> = both.lines().filter(|line| line.contains("not here")).collect();
        assert!(series == "6.1" || refused.is_empty(), "{series}: {refused:#?}");
        println!("{series}: {name}: {count} passed ({:?} of {:?} to the command)", output.total, output.boot);
    }
}

#[test]
fn kernel_6_1() {
    all_pass_in("6.1", EVERYWHERE);
}

#[test]
fn kernel_6_12() {
    all_pass_in("6.12", &format!("{EVERYWHERE},{NEWER}"));
}

#[test]
fn kernel_7_2() {
    all_pass_in("7.2", &format!("{EVERYWHERE},{NEWER}"));
}

#[test]
fn results_of_tests_are_read() {
    assert_eq!(passed("running 2 tests\n\ntest result: ok. 2 passed; 0 failed; 0 ignored\n\n"), Some(2));
    assert_eq!(passed("test result: ok. 0 passed; 0 failed; 9 filtered out\n"), Some(0));
    assert_eq!(passed("test result: FAILED. 2 passed; 1 failed\n"), None);
    assert_eq!(passed(""), None);
}
