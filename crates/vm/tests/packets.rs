//! Programs over packets: the cases of `tests/vm/packets/*.txt`, in the embedded engine and in the running kernel.
//!
//! A case is a program, a packet, and what comes of it for each value of its parameters. Both engines must say the same:
//! what the program returns, the packet as it leaves it, and the fields of the context that the kernel gives out.
//! `SKEP_BLESS=1` writes what came of it into the file. See `tests/vm/packets/README.md` for the form.

#[path = "packets/case.rs"]
mod case;
#[path = "packets/kernel.rs"]
mod kernel;
#[path = "packets/random.rs"]
mod random;

use case::{Case, Run, Seen};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vm/packets");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

#[test]
fn cases_come_out_as_written_and_as_in_the_kernel() {
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let mut wrong = String::new();
    let mut runs = 0;
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut blessed = String::new();
        for part in case::parts(&text) {
            blessed.push_str(part.before);
            let Some(case) = Case::parse(&part, &text) else { continue };
            let mut results = String::new();
            for run in case.runs() {
                runs += 1;
                let seen = run.in_vm();
                writeln!(results, "{}-> {}", run.label(), seen.text(&run)).unwrap();
                compare(&mut wrong, &path, &run, &seen);
            }
            if results != part.results && !bless {
                let (path, name, expected) = (path.display(), &case.name, part.results);
                writeln!(wrong, "{path}: {name}: is\n{results}but the file says\n{expected}").unwrap();
            }
            blessed.push_str(&results);
        }
        if bless {
            std::fs::write(&path, blessed).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    println!("{runs} runs");
}

/// Holds what the vm gave against what the kernel gives.
fn compare(wrong: &mut String, path: &Path, run: &Run, seen: &Seen) {
    if !kernel::is_root() || run.case.not_in_kernel.is_some() {
        return;
    }
    match kernel::run(run) {
        Ok(expected) if expected == seen.comparable(run) => {}
        Ok(expected) => {
            let (is, but) = (seen.comparable(run).text(run), expected.text(run));
            let name = format!("{}: {} {}", path.display(), run.case.name, run.label());
            writeln!(wrong, "{name}: vm     {is}\n{name}: kernel {but}\n").unwrap();
        }
        Err(error) => {
            writeln!(wrong, "{}: {} {}: the kernel: {error}", path.display(), run.case.name, run.label()).unwrap();
        }
    }
}

#[test]
fn every_packet_helper_has_a_case() {
    let text: String = files().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let missing: Vec<&str> = [
        9, 10, 11, 13, 18, 19, 23, 26, 28, 31, 32, 38, 39, 40, 41, 43, 44, 48, 50, 54, 65, 68, 97, 135, 152, 155, 188,
        189, 190, 192,
    ]
    .iter()
    .map(|&id| skep_abi::helpers::by_id(id).unwrap().name)
    .filter(|name| !text.contains(&format!("call {}", name.strip_prefix("bpf_").unwrap())))
    .collect();
    assert!(missing.is_empty(), "no case calls {missing:?}");
}
