//! Bad input, as a user meets it: the exit code, a message that names what was attempted, on what, why it failed and what to
//! do next, no panic, and nothing left loaded. Cases that are only text stand under `tests/bad_input/`.

use crate::support::{Cgroup, Wire, compile, is_root, json_lines, loaded, must, root, show, skep};
use skep_object::ObjectSpec;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What is wrong with how a command was refused: it must end with this code and say each of the words after "error: ".
fn complaint(output: &Output, code: i32, words: &[&str]) -> Option<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
    let right = output.status.code() == Some(code) && said.starts_with("error: ") && missing.is_empty();
    let panicked = said.contains("panicked") || said.contains("RUST_BACKTRACE");
    (!right || panicked).then(|| format!("not exit {code}, or without {missing:?}: {}", show(output)))
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(complaint(output, code, words), None);
}

#[track_caller]
fn no_panic(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{}", show(output));
    assert!(output.status.code().is_some(), "ended by a signal: {}", show(output));
}

fn run(arguments: &[&str]) -> Output {
    skep().arg("run").args(arguments).stdin(Stdio::null()).output().expect("skep starts")
}

/// The cases of a text file: what stands before `=>`, the exit code, the words. Empty lines and comments are passed over.
fn cases(file: &str) -> Vec<(String, i32, Vec<String>)> {
    let path = root().join("tests/bad_input").join(file);
    let text = std::fs::read_to_string(&path).expect("the cases");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let case = |line: &str| {
        let (given, expected) = line.split_once(" => ")?;
        let (code, words) = expected.split_once(": ")?;
        let words = words.split(", ").map(str::to_owned).collect();
        Some((given.to_owned(), code.parse().ok()?, words))
    };
    lines.map(|line| case(line).unwrap_or_else(|| panic!("{file}: a case that cannot be read: {line}"))).collect()
}

/// Compiles C text, without any header, to an object in `dir`.
fn compile_text(dir: &Path, name: &str, text: &str, flags: &[&str]) -> PathBuf {
    let source = dir.join(format!("{name}.bpf.c"));
    std::fs::write(&source, text).expect("write C");
    compile(&source, dir, flags)
}

const PRELUDE: &str =
    "#define SEC(name) __attribute__((section(name), used))\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n";

#[test]
fn files_that_are_no_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("text.o"), "not an object\n").expect("write");
    std::fs::write(path("empty.o"), "").expect("write");
    std::fs::write(path("empty.c"), "").expect("write");
    std::fs::write(path("short.o"), "\x7fELF").expect("write");
    std::fs::create_dir(path("dir.o")).expect("make");
    let cases: [(&str, i32, &[&str]); 8] = [
        ("text.o", 1, &["neither C source", "ELF", "clang -target bpf"]),
        ("empty.o", 1, &["neither C source"]),
        ("empty.c", 1, &["no BPF program", "SEC("]),
        ("short.o", 1, &["truncated"]),
        ("dir.o", 2, &["directory"]),
        ("missing.o", 2, &["No such file"]),
        ("missing.c", 2, &["No such file"]),
        ("a\u{1b}[2Jb.o", 2, &["No such file"]),
    ];
    for (name, code, words) in cases {
        let output = run(&[&path(name)]);
        refused(&output, code, words);
        let said = String::from_utf8_lossy(&output.stderr);
        // Once: an error that repeats its object has been wrapped without care.
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        assert!(!said.contains('\u{1b}'), "an escape sequence in a name reaches the terminal: {said:?}");
    }
}

#[test]
fn objects_for_other_machines() {
    refused(&run(&["/bin/true"]), 1, &["/bin/true", "x86-64", "clang -target bpf"]);
    let other = if cfg!(target_endian = "little") { "tests/object/prebuilt/big_endian.o" } else { return };
    refused(&run(&[other]), 1, &["byte order", "bpfel"]);
}

#[test]
fn c_that_does_not_compile_is_answered_by_clang_itself() {
    let output = run(&["tests/bad_input/syntax.bpf.c"]);
    refused(&output, 1, &["tests/bad_input/syntax.bpf.c:3:14: error: expected expression", "int answer = ;"]);
}

#[test]
fn a_machine_without_clang_is_told_what_to_install() {
    let run = |name: &str, value: &str| {
        skep()
            .args(["run", "tests/bad_input/syntax.bpf.c"])
            .env_remove("CLANG")
            .env(name, value)
            .output()
            .expect("starts")
    };
    refused(&run("PATH", "/nonexistent"), 3, &["no clang", "apt install clang", "dnf install clang"]);
    refused(&run("CLANG", "/nonexistent/clang"), 3, &["/nonexistent/clang", "$CLANG"]);
    refused(&run("CLANG", "/bin/true"), 3, &["/bin/true", "not clang"]);
}

#[test]
fn a_machine_without_the_headers_is_told_what_to_install() {
    if !is_root() {
        return;
    }
    // A mount namespace of its own, in which an empty directory covers the headers.
    let output = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs none /usr/include/bpf && exec \"$0\" run tests/bad_input/full_map.bpf.c",
        ])
        .arg(env!("CARGO_BIN_EXE_skep"))
        .current_dir(root())
        .output()
        .expect("unshare");
    refused(&output, 3, &["libbpf", "apt install libbpf-dev"]);
}

#[test]
fn no_prefix_and_no_flipped_bit_of_an_object_panics() {
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(&root().join("examples/syscall_latency.bpf.c"), dir.path(), &[]);
    let bytes = std::fs::read(&object).expect("the object");
    let mut parsed = 0;
    for end in (0..bytes.len()).step_by(199) {
        parsed += usize::from(ObjectSpec::parse("prefix", &bytes[..end]).is_ok());
    }
    // The section table stands last: without it there is nothing to read.
    assert_eq!(parsed, 0);
    for at in (0..bytes.len()).step_by(97) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let _ = ObjectSpec::parse("flipped", &bytes);
    }
    // The same through the command. No program is named so; what can be parsed is refused for that.
    let damaged = dir.path().join("damaged.o");
    let name = damaged.display().to_string();
    for part in 0..16 {
        std::fs::write(&damaged, &bytes[..bytes.len() * part / 16]).expect("write");
        refused(&run(&["--prog", "skbi_nonexistent", &name]), 1, &[]);
        let mut flipped = bytes.clone();
        for at in 0..8 {
            // Near the start, where the header is, and spread over the rest.
            let at = if part < 4 { part * 16 + at * 2 } else { (bytes.len() / 128) * (part * 8 + at) };
            flipped[at] ^= 0x55;
        }
        std::fs::write(&damaged, &flipped).expect("write");
        let output = run(&["--prog", "skbi_nonexistent", &name]);
        no_panic(&output);
        assert!(matches!(output.status.code(), Some(1..=3)), "{}", show(&output));
    }
}

#[test]
fn sections_and_places_that_do_not_exist() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let cases = cases("hooks.txt");
    // One object with a program for each case; `--prog` picks one. They all return what lets things pass.
    let mut text = PRELUDE.to_owned();
    for (index, (given, ..)) in cases.iter().enumerate() {
        let section = given.split(" | ").next().expect("a section");
        text.push_str(&format!("SEC(\"?{section}\") int skbi_hook_{index}(void *ctx) {{ return 1; }}\n"));
    }
    let object = compile_text(dir.path(), "hooks", &text, &[]).display().to_string();
    let mut wrong = Vec::new();
    for (index, (given, code, words)) in cases.iter().enumerate() {
        let options = given.split_once(" | ").map_or("", |(_, options)| options);
        let program = format!("skbi_hook_{index}");
        let mut arguments = vec!["-q", "--prog", &program, &object];
        arguments.extend(options.split_whitespace());
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        words.push(&program);
        wrong.extend(complaint(&run(&arguments), *code, &words).map(|wrong| format!("{given}: {wrong}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(loaded_with_prefix("skbi_hook_"), 0);
}

/// Programs whose name starts so, once the kernel has had time to free those that nothing holds.
fn loaded_with_prefix(prefix: &str) -> usize {
    let count = || {
        let output = must(skep().args(["ps", "programs", "--format", "json"]));
        json_lines(&output).iter().filter(|p| p["name"].as_str().is_some_and(|name| name.starts_with(prefix))).count()
    };
    (0..20)
        .map(|_| count())
        .find(|&count| {
            if count > 0 {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            count == 0
        })
        .unwrap_or(1)
}

#[test]
fn options_that_make_no_sense() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(&root().join("tests/bad_input/params.bpf.c"), dir.path(), &[]).display().to_string();
    let mut wrong = Vec::new();
    for (given, code, words) in cases("options.txt") {
        let mut arguments: Vec<&str> = given.split(' ').collect();
        arguments.push(&object);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        wrong.extend(complaint(&run(&arguments), code, &words).map(|wrong| format!("{given}: {wrong}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    refused(&skep().arg("rum").output().expect("starts"), 2, &["rum", "run"]);
    refused(&skep().arg("run").output().expect("starts"), 2, &["<FILE>"]);
    // All of them as they should be.
    let options = "--param small_limit=0xff --param signed_limit=-32768 --param verbose=true --param prefix=1234567 \
                   --param mode=skbi_mode_on --record skbi_events=skbi_event --duration 0";
    let mut arguments: Vec<&str> = options.split_whitespace().collect();
    arguments.push(&object);
    let output = run(&arguments);
    assert!(output.status.success(), "{}", show(&output));
    assert_eq!(loaded("skbi_params"), 0);
}

#[test]
fn broken_map_definitions() {
    for (file, words) in [
        ("map_type", ["map m", "999"]),
        ("map_no_type", ["map m", "__uint(type"]),
        ("map_no_key", ["map m", "__type(key"]),
        ("map_sizes", ["map m", "key_size is 8"]),
        ("map_slot", ["map m", "max_entries is 2"]),
        ("map_unknown_member", ["max_entrys", "max_entries"]),
        ("map_pinning", ["map m", "LIBBPF_PIN_BY_NAME"]),
        ("undefined", ["count_packets", "count_packet?"]),
    ] {
        refused(&run(&[&format!("tests/object/bad/{file}.c")]), 1, &words);
    }
}

#[test]
fn maps_that_the_kernel_refuses() {
    if !is_root() {
        return;
    }
    let output = run(&["tests/bad_input/huge_map.bpf.c"]);
    refused(&output, 1, &["map `skbi_huge`", "value 65536", "268435440 entries", "make it smaller"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("memlock"), "{}", show(&output));
    assert_eq!(loaded("skbi_huge_map"), 0);
}

#[test]
fn an_object_without_types_runs_and_so_do_its_old_style_maps() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(&root().join("tests/bad_input/no_types.bpf.c"), dir.path(), &["-g0"]).display().to_string();
    let bytes = std::fs::read(&object).expect("the object");
    assert!(ObjectSpec::parse("object", &bytes).expect("parses").btf.is_none(), "it was to have no BTF");
    let output = run(&["--format", "json", &object, "--", "/bin/true"]);
    assert!(output.status.success(), "{}", show(&output));
    let lines = json_lines(&output);
    let counts =
        lines.iter().find(|line| line["map"] == "skbi_old_counts").unwrap_or_else(|| panic!("{}", show(&output)));
    assert!(counts["value"].as_u64() >= Some(1), "{counts}");
    assert_eq!(loaded("skbi_no_types"), 0);
}

#[test]
fn a_program_that_the_verifier_refuses_is_shown_with_its_line() {
    if !is_root() {
        return;
    }
    let output = run(&["tests/bad_input/refused.bpf.c", "--", "/bin/true"]);
    refused(
        &output,
        1,
        &[
            "program `skbi_refused`",
            "tests/bad_input/refused.bpf.c:21",
            "*count += 1; /* no test for NULL */",
            "map_value_or_null",
            "help",
            "--log",
        ],
    );
    assert!(output.stdout.is_empty(), "{}", show(&output));
    let output = run(&["--log", "tests/bad_input/refused.bpf.c"]);
    refused(&output, 1, &["verifier log:", "processed "]);
    assert_eq!(loaded("skbi_refused"), 0);
}

#[test]
fn a_full_map_does_not_stop_the_program() {
    if !is_root() {
        return;
    }
    let script = "for i in 1 2 3 4 5 6; do /bin/true; done";
    let output = run(&["--format", "json", "tests/bad_input/full_map.bpf.c", "--", "sh", "-c", script]);
    assert!(output.status.success(), "{}", show(&output));
    let lines = json_lines(&output);
    let value = |name: &str| lines.iter().find(|line| line["name"] == name).and_then(|line| line["value"].as_u64());
    assert_eq!(lines.iter().filter(|line| line["map"] == "skbi_full").count(), 2, "{}", show(&output));
    assert!(value("seen_count") >= Some(7) && value("refused_count") >= Some(4), "{}", show(&output));
}

#[test]
fn a_busy_interface_says_what_is_there() {
    if !is_root() {
        return;
    }
    let wire = Wire::new("busy");
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!("{PRELUDE}SEC(\"xdp\") int skbi_pass(void *ctx) {{ return 2; }}\n");
    let object = compile_text(dir.path(), "pass", &text, &[]).display().to_string();
    let skep = env!("CARGO_BIN_EXE_skep");
    let outer = format!("{skep} run -q --iface veth0 {object} -- {skep} run --iface veth0 {object} -d 0");
    refused(&Wire::shell(&wire.left, &outer).output().expect("ip"), 1, &["skbi_pass", "veth0", "busy"]);
    // Free again.
    let output = Wire::shell(&wire.left, &format!("{skep} run --iface veth0 {object} -d 0")).output().expect("ip");
    assert!(output.status.success(), "{}", show(&output));
    let link = must(&mut Wire::shell(&wire.left, "ip link show veth0"));
    assert!(!String::from_utf8_lossy(&link.stdout).contains("xdp"), "{}", show(&link));
    assert_eq!(loaded("skbi_pass"), 0);
}

#[test]
fn an_ordinary_user_is_told_what_is_missing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("chmod");
    open(dir.path(), 0o755);
    let skep = dir.path().join("skep");
    std::fs::copy(env!("CARGO_BIN_EXE_skep"), &skep).expect("copy");
    open(&skep, 0o755);
    let object = compile(&root().join("tests/bad_input/full_map.bpf.c"), dir.path(), &[]);
    open(&object, 0o644);
    let source = dir.path().join("full_map.bpf.c");
    std::fs::copy(root().join("tests/bad_input/full_map.bpf.c"), &source).expect("copy");
    open(&source, 0o644);
    let secret = dir.path().join("secret.o");
    std::fs::copy(&object, &secret).expect("copy");
    open(&secret, 0o600);
    let user = |words: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&skep)
            .args(words)
            .current_dir("/")
            .env("HOME", "/nonexistent")
            .env_remove("XDG_CACHE_HOME")
            .output()
            .expect("setpriv")
    };
    let run = |path: &Path| user(&["run", &path.display().to_string()]);
    for output in [run(&object), run(&source)] {
        refused(&output, 3, &["not permitted", "CAP_BPF", "sudo"]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("memlock"), "{}", show(&output));
    }
    refused(&run(&secret), 3, &["secret.o", "Permission denied"]);
    for listing in ["programs", "maps", "links"] {
        refused(&user(&["ps", listing]), 3, &["not permitted", "CAP_SYS_ADMIN", "sudo"]);
    }
    for map in ["1", "some_map"] {
        refused(&user(&["dump", map]), 3, &["not permitted", "sudo"]);
    }
    // What the machine can run is no secret.
    let output = user(&["doctor"]);
    assert!(output.status.success(), "{}", show(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("sudo"), "{}", show(&output));
}

#[test]
fn a_program_works_where_nothing_is_mounted() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(&root().join("examples/hello.bpf.c"), dir.path(), &[]);
    // Out of the tree of mounts that a tracing program might want: tracefs, debugfs, bpffs.
    let script = "for point in /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug /sys/fs/bpf; do \
                  umount $point 2>/dev/null; done; grep -q -e ' - tracefs' -e ' - bpf ' /proc/self/mountinfo && exit 99; \
                  \"$0\" run --format json \"$1\" -- /bin/true";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([env!("CARGO_BIN_EXE_skep"), &object.display().to_string()])
        .output()
        .expect("unshare");
    assert!(output.status.success(), "{}", show(&output));
    let hello =
        json_lines(&output).iter().any(|line| line["text"].as_str().is_some_and(|text| text.contains("hello, true")));
    assert!(hello, "{}", show(&output));
}

#[test]
fn a_path_with_spaces_and_another_directory() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let odd = dir.path().join("a dir; with 'odd' \"names\"");
    std::fs::create_dir(&odd).expect("make");
    std::fs::copy(root().join("tests/bad_input/full_map.bpf.c"), odd.join("my prog.bpf.c")).expect("copy");
    let output = skep().current_dir(&odd).args(["run", "-d", "0", "my prog.bpf.c"]).output().expect("starts");
    assert!(output.status.success(), "{}", show(&output));
    let output =
        skep().current_dir("/").args(["run", "-d", "0"]).arg(odd.join("my prog.bpf.c")).output().expect("starts");
    assert!(output.status.success(), "{}", show(&output));
}

#[test]
fn a_command_that_cannot_be_started() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let object = compile(&root().join("tests/bad_input/full_map.bpf.c"), dir.path(), &[]).display().to_string();
    let output = run(&["-q", &object, "--", "/nonexistent/command", "argument"]);
    refused(&output, 127, &["/nonexistent/command", "No such file"]);
    let output = run(&["-q", &object, "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.code(), Some(128 + 15), "{}", show(&output));
    assert_eq!(loaded("skbi_full_map"), 0);
}

#[test]
fn a_cgroup_that_goes_away_is_no_trouble() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let text = format!("{PRELUDE}SEC(\"cgroup/connect4\") int skbi_allow(void *ctx) {{ return 1; }}\n");
    let object = compile_text(dir.path(), "allow", &text, &[]).display().to_string();
    let cgroup = Cgroup::new("gone");
    let path = cgroup.0.display().to_string();
    let output = run(&["-q", "--cgroup", &path, &object, "--", "rmdir", &path]);
    assert!(output.status.success(), "{}", show(&output));
    assert_eq!(loaded("skbi_allow"), 0);
}

#[test]
fn maps_that_are_asked_for_and_not_there() {
    if !is_root() {
        return;
    }
    refused(&skep().args(["dump", "4294967295"]).output().expect("starts"), 1, &["4294967295"]);
    refused(
        &skep().args(["dump", "skbi_no_such_map"]).output().expect("starts"),
        1,
        &["skbi_no_such_map", "skep ps maps"],
    );
    refused(&skep().args(["dump", "/etc/passwd"]).output().expect("starts"), 1, &["/etc/passwd"]);
    refused(&skep().args(["dump", "/nonexistent/pin"]).output().expect("starts"), 1, &["/nonexistent/pin"]);
    refused(&skep().args(["dump", ""]).output().expect("starts"), 1, &["skep ps maps"]);
}

/// A map is pinned by name while the object loads; when what comes behind the load fails, the pin is taken back.
#[test]
fn a_failed_run_leaves_no_pin() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    for (number, (section, code)) in [("tp/sched/nosuchtp", 1), ("xdp", 2)].into_iter().enumerate() {
        let name = format!("skep_left_{}_{number}", std::process::id());
        let text = format!(
            "{PRELUDE}struct {{ int (*type)[2]; int (*max_entries)[1]; unsigned *key; unsigned *value; int (*pinning)[1]; }} \
             {name} SEC(\".maps\");\n\
             static void *(*look)(void *, void *) = (void *)1;\n\
             SEC(\"{section}\") int p(void *ctx) {{ unsigned k = 0; return look(&{name}, &k) ? 1 : 0; }}\n"
        );
        let object = compile_text(dir.path(), &name, &text, &[]);
        refused(&run(&[object.to_str().expect("a path")]), code, &["p"]);
        let pin = Path::new("/sys/fs/bpf").join(&name);
        let left = pin.exists();
        let _ = std::fs::remove_file(&pin);
        assert!(!left, "{} stays after a run of {section} that failed", pin.display());
    }
}
