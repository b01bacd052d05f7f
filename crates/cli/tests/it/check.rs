//! `skep check` on the classic mistakes: each `tests/verifier/classic/NAME.bpf.c` with all that is printed of it in
//! `NAME.expected`. `SKEP_BLESS=1` writes what is printed there; read the difference.
//!
//! A source may say in a line `// args: ...` with which options it is checked.

use crate::support::{root, skep};

/// What is printed, and the exit code, without what differs from run to run.
fn printed(args: &[&str]) -> String {
    let output = skep().arg("check").args(args).output().expect("skep runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let mut out = format!("exit {}\n", output.status.code().unwrap_or(-1));
    for line in text.lines() {
        // Times are the only thing that differs.
        let line = match line.rsplit_once(", ") {
            Some((before, time)) if time.ends_with(" ms") => format!("{before}, [time] ms"),
            _ => line.to_owned(),
        };
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[test]
fn classic_mistakes() {
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let dir = root().join("tests/verifier/classic");
    let mut sources: Vec<String> = std::fs::read_dir(&dir)
        .expect("tests/verifier/classic")
        .filter_map(|entry| entry.expect("entry").file_name().into_string().ok())
        .filter(|name| name.ends_with(".bpf.c"))
        .collect();
    sources.sort();
    assert!(sources.len() >= 10, "only {} sources", sources.len());
    let mut failures = Vec::new();
    for name in sources {
        let source = std::fs::read_to_string(dir.join(&name)).expect("source");
        let options = source.lines().find_map(|line| line.strip_prefix("// args: ")).unwrap_or_default();
        let file = format!("tests/verifier/classic/{name}");
        let args: Vec<&str> = options.split_whitespace().chain([file.as_str()]).collect();
        let found = printed(&args);
        let place = dir.join(name.replace(".bpf.c", ".expected"));
        if bless {
            std::fs::write(&place, &found).expect("write expectation");
        }
        let expected = std::fs::read_to_string(&place).unwrap_or_default();
        if found != expected {
            failures.push(format!("{file}: expected\n{expected}\nfound\n{found}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_page_of_errors_is_made_of_the_codes() {
    let text = format!(
        "# Error codes of skep check\n\nMade from crates/verifier/src/pages.md; `skep check --explain CODE` prints one. A number is given \
         once and keeps its\nmeaning.\n\n{}\n",
        skep_verifier::pages::all().trim_end()
    );
    let place = root().join("docs/errors.md");
    if std::env::var_os("SKEP_BLESS").is_some() {
        std::fs::write(&place, &text).expect("write docs/errors.md");
    }
    let page = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(page == text, "docs/errors.md is not what the codes say; SKEP_BLESS=1 makes it anew");
}

fn with_input(args: &[&str], input: &str) -> (Option<i32>, String) {
    use std::io::Write;
    let mut child = skep()
        .arg("check")
        .args(args)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("skep runs");
    child.stdin.take().expect("stdin").write_all(input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn raw_bytecode() {
    let safe = "b700000000000000 9500000000000000";
    let (code, text) = with_input(&["--raw", "xdp", "-", "--format", "json"], safe);
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, found["verdict"].as_str()), (Some(0), Some("pass")), "{text}");
    assert_eq!(found["section"], "xdp");
    // Leaves without a result.
    let (code, text) = with_input(&["--raw", "xdp", "-", "--format", "json"], "9500000000000000");
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, found["verdict"].as_str(), found["insn"].as_u64()), (Some(1), Some("fail"), Some(0)), "{text}");
    assert_eq!(with_input(&["--raw", "nothing", "-"], safe).0, Some(2));
    assert_eq!(with_input(&["--raw", "xdp", "-"], "95").0, Some(1));
}

#[test]
fn exit_codes() {
    let code = |args: &[&str]| skep().arg("check").args(args).output().expect("skep runs").status.code();
    assert_eq!(code(&[]), Some(2));
    assert_eq!(code(&["no/such/file.o"]), Some(2));
    assert_eq!(code(&["README.md"]), Some(1));
    assert_eq!(code(&["--explain", "SKEP0007"]), Some(0));
    assert_eq!(code(&["--explain", "SKEP9999"]), Some(2));
    assert_eq!(code(&["examples/hello.bpf.c", "--btf", "README.md"]), Some(1));
    assert_eq!(code(&["examples/hello.bpf.c", "--prog", "nobody"]), Some(2));
}

#[test]
fn lines_come_from_dwarf_where_there_is_no_btf() {
    let source = root().join("tests/verifier/classic/missing_bounds_check.bpf.c");
    let mut object = skep_cc::Compiler::from_env().compile(&source).expect("clang").object;
    // Sections of these names are not looked for any more.
    while let Some(at) = object.windows(4).position(|bytes| bytes == b".BTF") {
        object[at..at + 4].copy_from_slice(b".XYZ");
    }
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("stripped.o");
    std::fs::write(&path, &object).expect("write");
    let output = skep().arg("check").arg(&path).output().expect("skep runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("missing_bounds_check.bpf.c:10:") && text.contains("`eth` is loaded from"), "{text}");
    // Cut or changed anywhere, it says less, but never fails to end.
    for length in (0..object.len()).step_by(object.len() / 40) {
        std::fs::write(&path, &object[..length]).expect("write");
        let code = skep().arg("check").arg(&path).output().expect("skep runs").status.code();
        assert!(matches!(code, Some(0..=3)), "{length}: {code:?}");
    }
}
