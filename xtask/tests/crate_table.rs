//! Holds the crate table of the design: a crate uses only what its row names.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, and the skep crates it may use. `all` stands for every crate below it.
const TABLE: &[(&str, &[&str])] = &[
    ("isa", &[]),
    ("btf", &[]),
    ("abi", &["isa", "btf"]),
    ("object", &["isa", "btf", "abi"]),
    ("cc", &["btf"]),
    ("verifier", &["isa", "btf", "abi", "object"]),
    ("vm", &["isa", "btf", "abi", "object"]),
    ("kernel", &["isa", "btf", "abi", "object"]),
    ("engine", &["abi", "object", "verifier", "vm", "kernel"]),
    ("progen", &["isa", "btf", "abi", "object"]),
    ("lang", &["isa", "btf", "abi", "object"]),
    ("trace", &["lang", "engine"]),
    ("net", &["object", "kernel"]),
    ("guard", &["object", "kernel", "engine"]),
    ("agent", &["all"]),
    ("cli", &["all"]),
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo metadata starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Crate name to the names of the workspace's crates that it depends on (development dependencies left out).
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter_map(|package| {
            let name = text(&package["name"]).strip_prefix("skep-")?.to_owned();
            let uses = package["dependencies"]
                .as_array()?
                .iter()
                .filter(|dependency| text(&dependency["kind"]) != "dev")
                .filter_map(|dependency| Some(text(&dependency["name"]).strip_prefix("skep-")?.to_owned()))
                .collect();
            Some((name, uses))
        })
        .collect()
}

/// The forbidden edges among these, as `a -> b`.
fn forbidden(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, uses) in edges {
        let Some((_, allowed)) = TABLE.iter().find(|(row, _)| row == name) else {
            found.push(format!("{name} has no row in the table"));
            continue;
        };
        let position = |name: &str| TABLE.iter().position(|(row, _)| *row == name);
        for used in uses {
            let below = allowed.contains(&"all") && position(used) < position(name);
            if !below && !allowed.contains(&used.as_str()) {
                found.push(format!("{name} -> {used}"));
            }
        }
    }
    found
}

#[test]
fn a_crate_uses_only_what_its_row_names() {
    let edges = edges();
    assert!(edges.contains_key("isa") && edges.contains_key("cli"), "the crates were not found: {edges:?}");
    assert_eq!(forbidden(&edges), Vec::<String>::new());
}

#[test]
fn a_forbidden_edge_is_found() {
    let edge = |from: &str, to: &str| BTreeMap::from([(from.to_owned(), BTreeSet::from([to.to_owned()]))]);
    assert_eq!(forbidden(&edge("isa", "btf")), ["isa -> btf"]);
    assert_eq!(forbidden(&edge("trace", "net")), ["trace -> net"]);
    assert_eq!(forbidden(&edge("agent", "cli")), ["agent -> cli"]);
    assert_eq!(forbidden(&edge("stray", "isa")), ["stray has no row in the table"]);
    assert_eq!(forbidden(&edge("engine", "kernel")), Vec::<String>::new());
}

/// Each crate's manifest takes the workspace's lints, and crates other than `kernel` (and later `vm`) silence no lint
/// about unsafe code.
#[test]
fn unsafe_code_stands_only_where_the_design_says() {
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates");
    for entry in std::fs::read_dir(crates).expect("crates/") {
        let dir = entry.expect("entry").path();
        let name = dir.file_name().and_then(|n| n.to_str()).expect("name").to_owned();
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).expect("manifest");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}: takes the workspace's lints");
        if name == "kernel" || name == "vm" {
            continue;
        }
        let mut queue = vec![dir.join("src")];
        while let Some(path) = queue.pop() {
            if path.is_dir() {
                queue.extend(std::fs::read_dir(&path).expect("dir").map(|e| e.expect("entry").path()));
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("source");
                assert!(!text.contains("expect(unsafe_code"), "{}: unsafe code is not allowed here", path.display());
            }
        }
    }
}
