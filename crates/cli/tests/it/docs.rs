//! Runs the examples of the documentation.
//!
//! In each `console` block of README.md and docs/*.md a line that starts with `$ ` is a command, run by the shell in the
//! root of the workspace with `skep` on its path; the lines below it are what it prints on standard output and standard
//! error. `...` on a line of its own stands for any lines, `[..]` within a line for any text. `? N` right below the command
//! is an exit code other than 0. Runs of blanks count as one blank: columns move with what they hold. In a block marked
//! `console norun` nothing is run.

use crate::support::{is_root, root};
use std::fmt::Write;
use std::process::{Command, Stdio};

struct Case {
    place: String,
    command: String,
    exit: i32,
    expected: Vec<String>,
}

fn cases(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line.trim_start_matches('`').trim() == "console";
        } else if inside {
            if let Some(command) = line.strip_prefix("$ ") {
                let place = format!("{file}:{}", number + 1);
                cases.push(Case { place, command: command.to_owned(), exit: 0, expected: Vec::new() });
            } else if let Some(case) = cases.last_mut() {
                match line.strip_prefix("? ").and_then(|code| code.parse().ok()) {
                    Some(code) if case.expected.is_empty() => case.exit = code,
                    _ => case.expected.push(line.to_owned()),
                }
            }
        }
    }
    cases
}

fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut rest = line;
    let mut parts = expected.split("[..]");
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else { return false };
    rest = after;
    let parts: Vec<&str> = parts.collect();
    for (index, part) in parts.iter().enumerate() {
        if index + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Whether the lines are as expected, `...` taking any number of them.
fn matches(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|skip| matches(rest, &lines[skip..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others))
        }
    }
}

fn run(case: &Case) -> Result<(), String> {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_skep")).parent().expect("directory").to_path_buf();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", &format!("{{ {}\n}} 2>&1", case.command)])
        .env("PATH", format!("{}:{path}", bin.display()))
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = text.lines().map(squeeze).filter(|line| !line.is_empty()).collect();
    let expected: Vec<String> = case.expected.iter().map(|l| squeeze(l)).filter(|line| !line.is_empty()).collect();
    if output.status.code() == Some(case.exit) && matches(&expected, &lines) {
        return Ok(());
    }
    let mut report = String::new();
    let _ = writeln!(report, "{}: $ {}", case.place, case.command);
    let _ = writeln!(report, "exit {:?}, expected {}", output.status.code(), case.exit);
    let _ = writeln!(report, "printed:\n{text}\nexpected:\n{}", case.expected.join("\n"));
    Err(report)
}

#[test]
fn what_the_documentation_shows_is_so() {
    if !is_root() {
        return;
    }
    let _turn = crate::support::reads_prints();
    let mut files = vec![root().join("README.md")];
    files.extend(std::fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("entry").path()));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    let mut count = 0;
    let mut failures = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("page");
        let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
        for case in cases(&name, &text) {
            count += 1;
            failures.extend(run(&case).err());
        }
    }
    assert!(count >= 10, "only {count} examples were found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_matcher_can_fail() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&lines("a\n...\nc [..] e"), &lines("a\nb\nc d e")));
    assert!(!matches(&lines("a\n...\nc [..] f"), &lines("a\nb\nc d e")));
    assert!(!matches(&lines("a"), &lines("a\nb")));
    assert!(matches(&lines("[..]"), &lines("anything")));
    assert!(!matches(&[], &lines("anything")));
}
