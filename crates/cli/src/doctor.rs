//! `skep doctor`: what this machine can run, what is missing, how to get it.

use crate::args::{DoctorArgs, Format};
use crate::failure::Failure;
use crate::output::Output;
use crate::view::table::{self, Column};
use serde_json::json;
use skep_cc::{CcError, Compiler};
use skep_kernel::doctor::{self, Area, Finding};
use skep_kernel::features::State;
use std::fmt::Write;

/// Prints the report. Missing things are what was asked for, not a failure: the exit code is 0.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let findings = doctor::report();
    let compiling = compiling();
    let mut out = Output::new();
    match args.format {
        Format::Text => out.text(&text(&findings, &compiling)),
        Format::Json => {
            for finding in &findings {
                out.json(&json!({
                    "area": finding.area.name(),
                    "name": finding.name,
                    "state": word(finding.state),
                    "detail": finding.detail,
                    "remedy": finding.remedy,
                }));
            }
            for check in &compiling {
                let state = if check.ok { "ok" } else { "missing" };
                out.json(&json!({
                    "area": "compiling C",
                    "name": check.name,
                    "state": state,
                    "detail": check.detail,
                    "remedy": check.remedy,
                }));
            }
        }
    }
    out.end()
}

/// Something that compiling C needs.
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    remedy: String,
}

fn compiling() -> Vec<Check> {
    let compiler = Compiler::from_env();
    let clang = match compiler.find_clang() {
        Ok(clang) if clang.has_bpf_target().unwrap_or(false) => Check {
            name: "clang",
            ok: true,
            detail: format!("{} (version {})", clang.path.display(), clang.version),
            remedy: String::new(),
        },
        Ok(clang) => Check {
            name: "clang",
            ok: false,
            detail: format!("{} was built without BPF", clang.path.display()),
            remedy: "apt install clang, or set CLANG".to_owned(),
        },
        Err(error) => failed("clang", &error, "apt install clang (dnf install clang), or set CLANG"),
    };
    let headers = match std::fs::metadata("/usr/include/bpf/bpf_helpers.h") {
        Ok(_) => {
            Check { name: "libbpf headers", ok: true, detail: "/usr/include/bpf".to_owned(), remedy: String::new() }
        }
        Err(error) => Check {
            name: "libbpf headers",
            ok: false,
            detail: format!("/usr/include/bpf/bpf_helpers.h: {error}"),
            remedy: "apt install libbpf-dev (dnf install libbpf-devel)".to_owned(),
        },
    };
    let types = match compiler.headers() {
        Ok(headers) => Check {
            name: "vmlinux.h",
            ok: headers.missing_types().is_none(),
            detail: headers.missing_types().map_or_else(|| headers.dir().display().to_string(), ToString::to_string),
            remedy: "run a kernel built with CONFIG_DEBUG_INFO_BTF=y".to_owned(),
        },
        Err(error) => failed("vmlinux.h", &error, "set XDG_CACHE_HOME to a directory that can be written"),
    };
    vec![clang, headers, types]
}

fn failed(name: &'static str, error: &CcError, remedy: &str) -> Check {
    Check { name, ok: false, detail: error.to_string(), remedy: remedy.to_owned() }
}

fn text(findings: &[Finding], compiling: &[Check]) -> String {
    let columns = || [Column::text(""), Column::text(""), Column::text(""), Column::text("")];
    let row = |name: &str, state: &str, detail: &str, remedy: &str| {
        let note = match (detail, remedy) {
            (detail, "") => detail.to_owned(),
            ("", remedy) => format!("-> {remedy}"),
            (detail, remedy) => format!("{detail} -> {remedy}"),
        };
        vec![String::new(), name.to_owned(), state.to_owned(), note]
    };
    let mut out = String::new();
    let mut part = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            // The headings are empty: what the columns are shows by itself.
            let set = table::set(&columns(), rows);
            let body = set.split_once('\n').map_or("", |(_, body)| body);
            let _ = writeln!(out, "{title}\n{}", body.trim_end());
        }
    };
    let mut areas: Vec<_> = Vec::new();
    for finding in findings {
        if !areas.contains(&finding.area) {
            areas.push(finding.area);
        }
    }
    for area in areas {
        let of_area = findings.iter().filter(|finding| finding.area == area);
        if matches!(area, Area::ProgramType | Area::MapType) {
            part(heading(area), summary(of_area));
            continue;
        }
        let rows = of_area.map(|f| {
            let remedy = if f.state == State::Ok { "" } else { f.remedy.as_str() };
            row(&f.name, word(f.state), &f.detail, remedy)
        });
        part(heading(area), rows.collect());
    }
    let rows = compiling.iter().map(|check| {
        let (state, remedy) = if check.ok { ("ok", "") } else { ("missing", check.remedy.as_str()) };
        row(check.name, state, &check.detail, remedy)
    });
    part("compiling C", rows.collect());
    out
}

/// Types are many and mostly all there, or all denied: how many, and each that stands out.
fn summary<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Vec<String>> {
    const FEW: usize = 8;
    let findings: Vec<&Finding> = findings.collect();
    let row = |name: &str, state: State, note: &str| {
        vec![String::new(), name.to_owned(), word(state).to_owned(), note.to_owned()]
    };
    let mut rows = Vec::new();
    for state in [State::Ok, State::Missing, State::Denied] {
        let of_state: Vec<_> = findings.iter().filter(|finding| finding.state == state).collect();
        match of_state.len() {
            0 => {}
            count if state == State::Ok || count > FEW => rows.push(row(&format!("{count} types"), state, "")),
            _ => rows.extend(of_state.iter().map(|f| row(&f.name, state, &f.detail))),
        }
    }
    rows
}

fn heading(area: Area) -> &'static str {
    match area {
        Area::Machine => "machine",
        Area::Hook => "hooks",
        Area::Feature => "features",
        Area::ProgramType => "program types",
        Area::MapType => "map types",
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Missing => "missing",
        State::Denied => "denied",
    }
}
