//! What a run leaves behind however it ends, and that it holds while it lasts: signals, readers that go away, floods of
//! records, many runs at once and one after another.

use crate::support::{compile, is_root, json_lines, loaded, must, root, show, skep};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long the kernel may take to free what nothing holds any more.
const SOON: Duration = Duration::from_secs(2);

fn object(dir: &tempfile::TempDir, name: &str) -> String {
    compile(&root().join(format!("tests/bad_input/{name}.bpf.c")), dir.path(), &[]).display().to_string()
}

/// What `skep ps` lists.
fn listed(what: &str) -> Vec<Value> {
    json_lines(&must(skep().args(["ps", what, "--format", "json"])))
}

/// Waits until this holds.
#[track_caller]
fn wait_until(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A `skep run` in the background that has told that its programs are attached. Killed when dropped.
struct Running {
    child: Child,
    /// Standard error, behind what it said at the start.
    errors: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("skep starts");
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("attached in") {
            line.clear();
            assert!(errors.read_line(&mut line).expect("standard error") > 0, "it ended before it was attached");
            assert!(!line.contains("error"), "{line}");
        }
        Running { child, errors }
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, name: &str) {
        must(Command::new("kill").args([format!("-{name}"), self.id().to_string()]));
    }

    /// Standard output and error to their ends, and the exit status.
    fn end(mut self) -> Output {
        let mut stdout = Vec::new();
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_end(&mut stdout).expect("standard output");
        }
        let mut stderr = Vec::new();
        self.errors.read_to_end(&mut stderr).expect("standard error");
        let status = self.child.wait().expect("its status");
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_ends_a_run_with_its_tables() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "full_map");
    for signal in ["INT", "TERM", "HUP"] {
        let running = Running::start(skep().args(["run", &object]).stdout(Stdio::piped()));
        must(&mut Command::new("/bin/true"));
        running.signal(signal);
        let output = running.end();
        assert_eq!(output.status.code(), Some(0), "{signal}: {}", show(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("skbi_full") && text.contains("seen_count"), "{signal}: {}", show(&output));
    }
    assert_eq!(loaded("skbi_full_map"), 0);
}

#[test]
fn nohup_keeps_a_run_alive() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "full_map");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" run \"$1\"", env!("CARGO_BIN_EXE_skep"), &object]);
    let mut running = Running::start(command.stdout(Stdio::null()));
    running.signal("HUP");
    std::thread::sleep(Duration::from_millis(200));
    assert!(running.child.try_wait().expect("status").is_none(), "it was told to ignore SIGHUP");
    running.signal("TERM");
    assert_eq!(running.end().status.code(), Some(0));
}

#[test]
fn after_sigkill_nothing_stays_but_what_was_pinned_on_purpose() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "full_map");
    let command = ["--", "sleep", "60"];
    let running = Running::start(skep().args(["run", &object]).args(command).stdout(Stdio::null()));
    let pid = running.id();
    let program = listed("programs").into_iter().find(|p| p["name"] == "skbi_full_map" && holds(p, pid));
    let id = program.expect("it is loaded")["id"].clone();
    let has_link = || listed("links").iter().any(|link| link["program_id"] == id);
    let has_program = || listed("programs").iter().any(|program| program["id"] == id);
    assert!(has_link() && has_program());
    let own_command = children(pid);
    running.signal("KILL");
    wait_until(SOON, "links and programs are gone", || !has_link() && !has_program());
    let maps = || listed("maps").iter().filter(|map| map["name"] == "skbi_full" && holds(map, pid)).count();
    wait_until(SOON, "maps are gone", || maps() == 0);
    // The command is the user's own; it was running and goes on. This test ends it.
    for child in own_command {
        let _ = Command::new("kill").args(["-KILL", &child.to_string()]).output();
    }
}

fn holds(object: &Value, pid: u32) -> bool {
    object["pids"].as_array().is_some_and(|pids| pids.iter().any(|held| held == pid))
}

/// Processes that this one started.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn a_command_that_is_still_held_dies_with_skep() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "flood");
    // The command's first act would be to make a file.
    let mark = dir.path().join("mark");
    let script = format!("touch {}", mark.display());
    for _ in 0..5 {
        let mut child = skep()
            .args(["run", "-q", &object, "--", "sh", "-c", &script])
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        let pid = child.id();
        wait_until(SOON, "the command is held", || {
            !children(pid).is_empty() || child.try_wait().expect("status").is_some()
        });
        let held = children(pid);
        let _ = child.kill();
        let _ = child.wait();
        for held in held {
            // Ended at once if it was still held; if it had been let go, it is short.
            wait_until(SOON, "the held command is gone", || !is_alive(held));
        }
    }
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn a_reader_that_goes_away_ends_the_run_in_order() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "names");
    let skep = env!("CARGO_BIN_EXE_skep");
    // It starts processes for as long as it is let, so there is always something to print.
    let busy = "while :; do /bin/true; done";
    for pipe in ["| head -n 1", "2>&1 | head -n 1"] {
        let script = format!("{skep} run {object} -- sh -c '{busy}' {pipe} >/dev/null; echo ${{PIPESTATUS[0]}}");
        let output = must(Command::new("timeout").args(["20", "bash", "-c", &script]).stdin(Stdio::null()));
        let code = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(code, "0", "{pipe}: {}", show(&output));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{}", show(&output));
    }
    // Nothing to print, and the reader goes away all the same.
    let mut running = Running::start(
        crate::support::skep().args(["run", "-i", "0", &self::object(&dir, "full_map")]).stdout(Stdio::piped()),
    );
    drop(running.child.stdout.take());
    assert_eq!(running.end().status.code(), Some(0));
    assert_eq!(loaded("skbi_program_with_a_name_longer_than_15_bytes"), 0);
}

#[test]
fn standard_streams_that_are_full_closed_or_no_terminal() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "full_map");
    let sh = |redirections: &str| {
        let script = format!("exec \"$0\" run \"$1\" -- /bin/true {redirections}");
        let output =
            Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_skep"), &object]).output().expect("sh");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{redirections}: {}", show(&output));
        output
    };
    let full = sh(">/dev/full");
    assert_eq!(full.status.code(), Some(1), "{}", show(&full));
    let said = String::from_utf8_lossy(&full.stderr);
    assert!(said.contains("error: write to standard output: No space left on device"), "{said}");
    for redirections in ["2>/dev/full", ">&-", "2>&-", "<&-", "<&- >&- 2>&-"] {
        let output = sh(redirections);
        assert_eq!(output.status.code(), Some(0), "{redirections}: {}", show(&output));
    }
    let colours = sh("</dev/null");
    assert!(!colours.stdout.contains(&0x1b) && !colours.stderr.contains(&0x1b), "{}", show(&colours));
    for listing in ["ps", "doctor"] {
        let script = format!("exec \"$0\" {listing} >/dev/full");
        let output = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_skep")]).output().expect("sh");
        assert_eq!(output.status.code(), Some(1), "{listing}: {}", show(&output));
    }
    assert_eq!(loaded("skbi_full_map"), 0);
}

#[test]
fn fifty_runs_leave_nothing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "names");
    for _ in 0..50 {
        let output = must(skep().args(["run", "-q", "-d", "0", &object]));
        assert!(output.stderr.is_empty(), "{}", show(&output));
    }
    assert_eq!(loaded("skbi_program_with_a_name_longer_than_15_bytes"), 0);
    let left =
        |name: &str| listed("maps").iter().any(|map| map["name"] == name && map["pids"] == serde_json::json!([]));
    wait_until(SOON, "maps are gone", || !left("skbi_names_that") && !left("skbi_counts_of_"));
}

#[test]
fn two_runs_of_one_file_do_not_disturb_each_other() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "flood");
    let run = |count: &'static str| {
        skep()
            .args(["run", "--format", "json", "-p", &format!("records_per_exec={count}"), &object, "--", "/bin/true"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let (one, two) = (run("100"), run("200"));
    for (child, records) in [(one, 100), (two, 200)] {
        let output = child.wait_with_output().expect("its output");
        assert!(output.status.success(), "{}", show(&output));
        let numbers = json_lines(&output).iter().filter(|line| line["type"] == "record").count();
        assert_eq!(numbers, records, "{}", show(&output));
    }
}

#[test]
fn a_flood_of_records_is_whole_or_counted() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "flood");
    let output = skep().args(["run", "-q", "--format", "json", &object, "--", "/bin/true"]).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = json_lines(&output);
    let numbers: Vec<u64> = lines.iter().filter_map(|line| line["record"]["number"].as_u64()).collect();
    let global = |name: &str| lines.iter().find(|line| line["name"] == name).and_then(|line| line["value"].as_u64());
    let (written, full) = (global("written_count").expect("a global"), global("full_count").expect("a global"));
    // Every record that was written is printed, once and in order; every other is counted.
    assert_eq!(written + full, 1_000_000);
    assert_eq!(numbers.len() as u64, written);
    assert!(numbers.iter().enumerate().all(|(index, &number)| number == index as u64), "out of order");
    assert!(written > 10_000, "only {written} of a million were written");
    eprintln!("{written} records printed, {full} found the buffer full");
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "names");
    let odd = dir.path().join("a\u{1b}[2J\r\u{7}\"b");
    std::fs::copy("/bin/true", &odd).expect("copy");
    let text = must(skep().args(["run", "-q", &object, "--"]).arg(&odd));
    let shown = String::from_utf8_lossy(&text.stdout);
    assert!(shown.contains(r#"a\u{1b}[2J\r\u{7}"b"#), "{}", show(&text));
    let control = shown.chars().filter(|c| c.is_control() && *c != '\n').collect::<Vec<_>>();
    assert!(control.is_empty(), "{control:?}: {}", show(&text));
    // JSON has the name as it is, and every line is JSON.
    let json = must(skep().args(["run", "-q", "--format", "json", &object, "--"]).arg(&odd));
    let all = String::from_utf8_lossy(&json.stdout);
    let mut kinds = Vec::new();
    for line in all.lines() {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
        let name = "a\u{1b}[2J\r\u{7}\"b";
        if value["record"]["comm"] == name || value["key"]["comm"] == name || value["task"] == name {
            kinds.push(value["type"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert!(kinds.iter().any(|kind| kind == "record") && kinds.iter().any(|kind| kind == "map"), "{kinds:?}\n{all}");
}

#[test]
fn names_longer_than_the_kernel_keeps() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "names");
    let running = Running::start(skep().args(["run", &object]).stdout(Stdio::null()));
    let name = "skbi_program_with_a_name_longer_than_15_bytes";
    let program = listed("programs").into_iter().find(|p| p["name"] == name && holds(p, running.id()));
    let program = program.expect("listed by its whole name");
    assert_eq!(program["map_ids"].as_array().map(Vec::len), Some(4), "{program}");
    // A map is found by its whole name, though the kernel has kept only the start.
    let map =
        listed("maps").into_iter().find(|m| m["name"] == "skbi_counts_of_" && holds(m, running.id())).expect("listed");
    must(&mut Command::new("/bin/true"));
    let by_id = must(skep().args(["dump", &map["id"].to_string(), "--format", "json"]));
    assert!(json_lines(&by_id).iter().any(|line| line["key"]["comm"] == "true"), "{}", show(&by_id));
    running.signal("TERM");
    running.end();
}

#[test]
fn a_hundred_programs_in_one_object() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("many.bpf.c");
    let write = |hook: &dyn Fn(usize) -> &'static str| {
        let mut text =
            "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n\
                        const volatile __u32 target_pid;\n__u64 runs[100];\n"
                .to_owned();
        for index in 0..100 {
            text.push_str(&format!(
                "SEC(\"tp/sched/{}\") int skbi_many_{index}(void *ctx) {{\n\
                 if (bpf_get_current_pid_tgid() >> 32 == target_pid) runs[{index}]++; return 0; }}\n",
                hook(index)
            ));
        }
        std::fs::write(&source, text).expect("write");
    };
    write(&|index| if index < 50 { "sched_process_exec" } else { "sched_process_exit" });
    let output = must(skep().args(["run", "--format", "json"]).arg(&source).args(["--", "/bin/true"]));
    let runs = json_lines(&output).into_iter().find(|line| line["name"] == "runs").expect("the global");
    let runs: Vec<u64> = runs["value"].as_array().expect("an array").iter().filter_map(Value::as_u64).collect();
    assert!(runs.len() == 100 && runs.iter().all(|&count| count == 1), "{runs:?}\n{}", show(&output));
    // At one tracepoint the kernel takes no more than 64.
    write(&|_| "sched_process_exec");
    let output = skep().arg("run").arg(&source).args(["--", "/bin/true"]).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert!(
        said.starts_with("error: ") && said.contains("sched_process_exec") && said.contains("at most 64"),
        "{said}"
    );
    for last in ["skbi_many_0", "skbi_many_63", "skbi_many_99"] {
        assert_eq!(loaded(last), 0);
    }
}

/// A pin of these tests, removed when dropped.
struct Pin(PathBuf);

impl Drop for Pin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_pinned_map_is_adopted_and_one_that_does_not_fit_is_refused() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let pin = Pin(Path::new("/sys/fs/bpf/skbi_pinned_count").to_owned());
    let _ = std::fs::remove_file(&pin.0);
    let object = object(&dir, "pinned");
    for expected in 1..=3 {
        let output = must(skep().args(["run", "--format", "json", &object, "--", "/bin/true"]));
        let lines = json_lines(&output);
        let count =
            lines.iter().find(|line| line["map"] == "skbi_pinned_count").unwrap_or_else(|| panic!("{}", show(&output)));
        assert_eq!(count["value"], expected, "{}", show(&output));
    }
    let path = pin.0.display().to_string();
    assert!(listed("maps").iter().any(|map| map["pins"] == serde_json::json!([path])), "ps shows the pin");
    let dumped = must(skep().args(["dump", &path, "--format", "json"]));
    assert_eq!(json_lines(&dumped)[0]["value"], 3);
    let other = compile(&root().join("tests/bad_input/pinned.bpf.c"), dir.path(), &["-DMAX_ENTRIES=7"]);
    let output = skep().args(["run"]).arg(&other).args(["--", "/bin/true"]).output().expect("starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    for word in ["error: ", "skbi_pinned_count", path.as_str(), "max_entries 1, not 7", "unpin"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(pin.0.exists(), "what does not fit stays pinned");
    assert_eq!(loaded("skbi_pinned"), 0);
    drop(pin);
    assert!(!Path::new(&path).exists());
}

#[test]
fn the_time_is_kept() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "full_map");
    let started = Instant::now();
    must(skep().args(["run", "-q", "-d", "700ms", &object]));
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(4), "{took:?}");
    // It ends the command too: a run that was given a time is over then.
    let started = Instant::now();
    let output = must(skep().args(["run", "-q", "-d", "300ms", &object, "--", "sleep", "30"]));
    assert!(started.elapsed() < Duration::from_secs(4), "{}", show(&output));
}

/// Compares with a file of expected output; `SKEP_BLESS=1` writes it anew, and the difference is read.
#[track_caller]
fn expect(file: &str, found: &str) {
    let path = root().join("tests/run").join(file);
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(&path, found).expect("write what was found");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == found, "{file} is not what was found:\n{found}");
}

#[test]
fn values_of_every_type_from_every_kind_of_map() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(&root().join("tests/run/values.bpf.c"), dir.path(), &[]);
    let run = |format: &str| {
        let output = must(skep().args(["run", "-q", "--format", format]).arg(&object).args(["--", "/bin/true"]));
        assert!(output.stderr.is_empty(), "{}", show(&output));
        output
    };
    // What differs from run to run: times of day, the CPU, and the ids of maps and programs.
    let text = run("text");
    let text = String::from_utf8_lossy(&text.stdout);
    let mut shown = Vec::new();
    let mut ids = false;
    for line in text.lines() {
        ids = (ids && !line.is_empty()) || matches!(line, "array_of_maps" | "programs");
        let words: Vec<&str> = line.split_whitespace().collect();
        shown.push(match words.as_slice() {
            [time, ..] if time.len() == 12 && time.contains(':') => format!("[TIME]{}", &line[12..]),
            [key, _] if ids && key.parse::<u32>().is_ok() => format!("  {key}  [ID]"),
            ["KEY", "VALUE"] if ids => "KEY  VALUE".to_owned(),
            _ => line.to_owned(),
        });
    }
    expect("values.expected", &(shown.join("\n") + "\n"));
    let json = run("json");
    let mut lines = String::new();
    for line in String::from_utf8_lossy(&json.stdout).lines() {
        let mut value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if value["map"] == "array_of_maps" || value["map"] == "programs" {
            assert!(value["value"].as_u64() > Some(0), "{line}");
            value["value"] = "[ID]".into();
        }
        if value["cpu"].is_u64() {
            value["cpu"] = "[CPU]".into();
        }
        if let Some(each) = value.get_mut("per_cpu").and_then(Value::as_array_mut) {
            // The CPU that it ran on.
            each.sort_by_key(|value| value.to_string());
            each.truncate(1);
        }
        lines.push_str(&format!("{value}\n"));
    }
    expect("values.json", &lines);
}

#[test]
fn runs_side_by_side_each_see_every_print() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "prints");
    let runs: Vec<Running> = (0..3)
        .map(|_| Running::start(skep().args(["run", "--format", "json", &object]).stdout(Stdio::piped())))
        .collect();
    let own = Command::new("/bin/true").spawn().expect("true");
    let pid = own.id();
    { own }.wait().expect("ends");
    std::thread::sleep(Duration::from_millis(300));
    for run in &runs {
        run.signal("INT");
    }
    for run in runs {
        let id = run.id();
        let output = run.end();
        // Three programs print; a print with line ends in it is several lines.
        let lines = json_lines(&output);
        let count = |text: &str| lines.iter().filter(|line| line["pid"] == pid && line["text"] == text).count();
        assert_eq!((count("first"), count("second")), (3, 3), "{}", show(&output));
        let left = format!("/sys/kernel/tracing/instances/skep-{id}-0");
        assert!(!Path::new(&left).exists(), "{left} was left");
    }
}

#[test]
fn the_last_entry_of_a_large_array_is_shown() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = object(&dir, "sparse");
    let output = must(skep().args(["run", "-q", "--format", "json", &object, "--", "/bin/true"]));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 1, "{}", show(&output));
    assert_eq!((&lines[0]["key"], &lines[0]["value"]), (&299_999.into(), &5.into()), "{}", show(&output));
}
