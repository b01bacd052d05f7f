//! Text cases under tests/btf: C, and what is made of its BTF.
//!
//! A case starts with C, compiled by clang. Each line `==== COMMAND` asks one question, and the answer follows it:
//!
//! - `header` the C header of all types, which must also compile; `header TYPE` that of one and what it needs
//! - `value TYPE HEX` and `json TYPE HEX` the bytes decoded; `..` in the hex repeats the byte before it up to the type's size
//! - `encode TYPE TEXT` the bytes of a text, in hex
//! - `member TYPE PATH` where a member lies
//! - `type VARIABLE` the type of a variable as C names it, and its size
//!
//! TYPE is `struct NAME`, `union NAME`, `enum NAME`, or else a typedef, a variable, a data section or an integer.
//! `BLESS=1 cargo test -p skep-btf --test cases` writes the answers anew; read the diff.

mod support;

use std::fmt::Write;
use std::path::Path;

use skep_btf::{Btf, Kind, TypeId, c_header, value};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/btf");

#[test]
fn cases() {
    let mut paths: Vec<_> = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {FOLDER}");
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = String::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let Some(actual) = answer(&text) else { return };
        if bless {
            std::fs::write(&path, &actual).unwrap();
        } else if actual != text {
            let line = actual.lines().zip(text.lines()).position(|(a, b)| a != b).unwrap_or_default();
            let show = |text: &str| text.lines().skip(line).take(8).collect::<Vec<_>>().join("\n    ");
            let path = path.file_name().unwrap().display();
            writeln!(wrong, "{path}:{}\n  expected\n    {}\n  got\n    {}", line + 1, show(&text), show(&actual))
                .unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The whole text of a case with the answers as they are now.
fn answer(text: &str) -> Option<String> {
    let (source, _) = text.split_once("\n====").expect("a case has a ==== line");
    let dir = tempfile::tempdir().unwrap();
    let object = support::clang(dir.path(), source, &[])?;
    let btf = Btf::parse(support::section(&object, ".BTF").unwrap().to_vec()).unwrap();
    let mut out = format!("{source}\n");
    for line in text.lines().filter_map(|line| line.strip_prefix("==== ")) {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        writeln!(out, "==== {line}").unwrap();
        let said = match command {
            "header" => header(&btf, rest, dir.path()),
            "value" | "json" => {
                let (ty, hex) = rest.rsplit_once(' ').expect("TYPE HEX");
                find(&btf, ty).and_then(|id| {
                    let decoded = value::decode(&btf, id, &bytes(hex, btf.size_of(id).unwrap_or(0)));
                    let decoded = decoded.map_err(|e| e.to_string())?;
                    Ok(if command == "json" { decoded.to_json() } else { decoded.to_string() })
                })
            }
            "encode" => {
                let cut = if rest.starts_with("enum ") { 2 } else { 1 };
                let (at, _) = rest.match_indices(' ').nth(cut - 1).expect("TYPE TEXT");
                find(&btf, &rest[..at]).and_then(|id| {
                    let bytes = value::encode(&btf, id, &rest[at + 1..]).map_err(|e| e.to_string())?;
                    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
                })
            }
            "member" => {
                let (ty, path) = rest.rsplit_once(' ').expect("TYPE PATH");
                find(&btf, ty).and_then(|id| {
                    let found = btf.member_path(id, path).map_err(|e| e.to_string())?;
                    let ty = btf.type_name(found.member.ty);
                    let access: String = found.indices.iter().map(|i| format!(":{i}")).collect();
                    Ok(format!("{ty} at bit {}, width {}, access 0{access}", found.bit_offset, found.member.bit_size))
                })
            }
            "type" => find(&btf, rest).map(|id| {
                let ty = match btf.get(id) {
                    Ok(skep_btf::Type::Var { target, .. }) => target,
                    _ => id,
                };
                let size = btf.size_of(ty).map_or_else(|e| e.to_string(), |size| format!("{size} bytes"));
                format!("{}, {size}", btf.type_name(ty))
            }),
            other => panic!("{other} is not a question that a case can ask"),
        };
        match said {
            Ok(said) => writeln!(out, "{}", said.trim_end()).unwrap(),
            Err(error) => writeln!(out, "error: {error}").unwrap(),
        }
    }
    Some(out)
}

fn find(btf: &Btf, name: &str) -> Result<TypeId, String> {
    let found = match name.split_once(' ') {
        Some(("struct", name)) => btf.find(name, Kind::Struct),
        Some(("union", name)) => btf.find(name, Kind::Union),
        Some(("enum", name)) => btf.find_any(name, &[Kind::Enum, Kind::Enum64]),
        _ => btf.find_any(name, &[Kind::Typedef, Kind::Var, Kind::Datasec, Kind::Int, Kind::Float]),
    };
    found.ok_or_else(|| format!("no {name}"))
}

/// Hex with spaces left out; `..` repeats.
fn bytes(hex: &str, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for pair in hex.as_bytes().chunks(2) {
        match pair {
            b".." => bytes.resize(size as usize, bytes.last().copied().unwrap_or(0)),
            pair => bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex")),
        }
    }
    bytes
}

fn header(btf: &Btf, ty: &str, dir: &Path) -> Result<String, String> {
    let mut options = c_header::Options::plain();
    if !ty.is_empty() {
        options.roots = Some(vec![find(btf, ty)?]);
    }
    let text = c_header::text(btf, &options).map_err(|e| e.to_string())?;
    support::clang(dir, &text, &["-Wall", "-Werror"]);
    Ok(text)
}
