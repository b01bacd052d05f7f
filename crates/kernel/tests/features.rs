//! Feature probes against those of bpftool.

mod support;

use skep_abi::{MapType, ProgramType};
use skep_kernel::features::{self, State};

#[test]
fn types_as_bpftool_finds_them() {
    if !support::root("types_as_bpftool_finds_them") {
        return;
    }
    let out =
        std::process::Command::new("bpftool").args(["-j", "feature", "probe", "kernel"]).output().expect("bpftool");
    let theirs: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let has = |group: &str, name: String| theirs[group].get(name).and_then(serde_json::Value::as_bool);
    let mut compared = 0;
    for t in MapType::ALL {
        if let Some(theirs) = has("map_types", format!("have_{t}_map_type")) {
            assert_eq!(features::map_type(*t) == State::Ok, theirs, "map type {t}");
            compared += 1;
        }
    }
    for t in ProgramType::ALL {
        // bpftool probes these as fentry programs and calls them missing where a kernel refuses those; skep tells the type
        // from the hook, and a refusal from an absence.
        if matches!(t, ProgramType::Tracing | ProgramType::Lsm | ProgramType::Ext) {
            continue;
        }
        if let Some(theirs) = has("program_types", format!("have_{t}_prog_type")) {
            assert_eq!(features::program_type(*t) == State::Ok, theirs, "program type {t}");
            compared += 1;
        }
    }
    assert!(compared > 40, "only {compared} compared");
}
