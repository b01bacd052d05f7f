//! The names people type are those that bpftool takes and prints: its help and its probe are read and looked up.

use std::{collections::BTreeSet, process::Command};

use skep_abi::{AttachType, MapType, ProgramType, flags};

/// What bpftool prints, on both of its outputs; `None`, said aloud, where there is no bpftool.
fn bpftool(arguments: &[&str]) -> Option<String> {
    match Command::new("bpftool").args(arguments).output() {
        Ok(output) => {
            Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => {
            eprintln!("skipped: needs bpftool ({error})");
            None
        }
    }
}

/// The words between the braces of `KEY := { a | b | c }`, which may go over several lines.
fn alternatives(help: &str, key: &str) -> BTreeSet<String> {
    let start = help.find(&format!(" {key} := {{")).unwrap_or_else(|| panic!("{key} in bpftool's help"));
    let body = &help[start..];
    let (open, close) = (body.find('{').expect("a brace"), body.find('}').expect("its end"));
    body[open + 1..close].split('|').map(|word| word.trim().to_owned()).collect()
}

#[test]
fn map_types_and_update_flags() {
    let Some(help) = bpftool(&["map", "help"]) else { return };
    let words = alternatives(&help, "TYPE");
    assert!(words.len() >= 30, "{words:?}");
    for word in words {
        let kind = MapType::from_name(&word).unwrap_or_else(|| panic!("map type {word}"));
        assert_eq!(kind.short_name(), word);
    }
    for word in alternatives(&help, "UPDATE_FLAGS").iter().filter(|word| *word != "any") {
        assert!(flags::by_name(flags::map_update::ALL, word).is_some(), "update flag {word}");
    }
}

#[test]
fn program_types_and_attach_types() {
    let Some(help) = bpftool(&["prog", "help"]) else { return };
    for word in alternatives(&help, "TYPE") {
        // cgroup/connect4 and its like are a type and a place in one word; the part behind the slash is the place.
        let place = word.strip_prefix("cgroup/").and_then(AttachType::from_name);
        assert!(ProgramType::from_name(&word).is_some() || place.is_some(), "program type {word}");
    }
    for word in alternatives(&help, "ATTACH_TYPE") {
        assert!(AttachType::from_name(&word).is_some(), "attach type {word}");
    }
    let Some(help) = bpftool(&["cgroup", "help"]) else { return };
    for word in alternatives(&help, "ATTACH_TYPE") {
        assert!(AttachType::from_name(&word).is_some(), "cgroup attach type {word}");
    }
    for word in alternatives(&help, "ATTACH_FLAGS") {
        let name = format!("allow_{word}");
        assert!(flags::by_name(flags::attach::ALL, &name).is_some(), "attach flag {word}");
    }
}

#[test]
fn names_that_the_probe_prints() {
    let Some(probe) = bpftool(&["feature", "list_builtins", "prog_types"]) else { return };
    for name in probe.lines().map(str::trim).filter(|name| !name.is_empty()) {
        assert_eq!(ProgramType::from_name(name).map(ProgramType::short_name), Some(name));
    }
    let Some(probe) = bpftool(&["feature", "list_builtins", "map_types"]) else { return };
    for name in probe.lines().map(str::trim).filter(|name| !name.is_empty()) {
        assert_eq!(MapType::from_name(name).map(MapType::short_name), Some(name));
    }
    let Some(probe) = bpftool(&["feature", "list_builtins", "attach_types"]) else { return };
    for name in probe.lines().map(str::trim).filter(|name| !name.is_empty()) {
        assert_eq!(AttachType::from_name(name).map(AttachType::short_name), Some(name));
    }
    let Some(probe) = bpftool(&["feature", "list_builtins", "link_types"]) else { return };
    for name in probe.lines().map(str::trim).filter(|name| !name.is_empty()) {
        assert_eq!(skep_abi::LinkType::from_name(name).map(skep_abi::LinkType::short_name), Some(name));
    }
    let Some(probe) = bpftool(&["feature", "list_builtins", "helpers"]) else { return };
    for name in probe.lines().map(str::trim).filter(|name| !matches!(*name, "" | "bpf_unspec")) {
        assert!(skep_abi::helpers::by_name(name).is_some(), "helper {name}");
    }
}
