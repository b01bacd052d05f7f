//! The machine's own apt sources to a source for other suites of the same archive.
//!
//! No host name is written down in this repository: the archive is whichever the machine already uses for
//! Debian, a mirror as well. For example, a machine on bookworm asked for sid:
//!
//! ```text
//! Types: deb                             Types: deb
//! URIs: <the archive>                    URIs: <the archive>
//! Suites: bookworm bookworm-updates  ->  Suites: sid
//! Components: main contrib               Components: main
//! Signed-By: <a keyring>                 Signed-By: <a keyring>
//! ```
//!
//! Both spellings are read: deb822 stanzas (`*.sources`) and one-line entries (`*.list`); see
//! sources.list(5). Limits: an entry counts as Debian's when it names a suite of Debian with the component
//! `main`; among several, the one with Debian's keyring, or at a path ending in `debian`, goes first.

use std::path::{Path, PathBuf};

/// Names of suites that stand in Debian's main archive, newest first. Derived suites
/// (`-updates`, `-backports`) don't count: some mirrors keep them apart.
const DEBIAN_SUITES: &[&str] =
    &["sid", "unstable", "forky", "testing", "trixie", "stable", "bookworm", "oldstable", "bullseye", "oldoldstable"];

/// One entry of the machine's sources that leads to a Debian archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DebianSource {
    /// The entry's spelling, with what has to stay as it is.
    kind: Kind,
    /// How surely this is Debian's own archive and not a third party's that took over its suite names.
    score: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The fields of a stanza in order, name and raw value (which may go over several lines).
    Deb822(Vec<(String, String)>),
    /// The part in square brackets, brackets included, or nothing; and the address.
    OneLine { options: String, uri: String },
}

impl DebianSource {
    /// Text for a private sources directory, naming `suites` in place of the entry's own.
    pub(crate) fn with_suites(&self, suites: &[&str]) -> String {
        match &self.kind {
            Kind::Deb822(fields) => {
                let replaced = ["types", "suites", "components", "architectures", "enabled"];
                let mut text =
                    format!("Types: deb\nSuites: {}\nComponents: main\nArchitectures: amd64\n", suites.join(" "));
                for (name, value) in fields {
                    if !replaced.contains(&name.to_ascii_lowercase().as_str()) {
                        text.push_str(&format!("{name}:{value}\n"));
                    }
                }
                text
            }
            Kind::OneLine { options, uri } => {
                suites.iter().map(|suite| format!("deb {options} {uri} {suite} main\n")).collect()
            }
        }
    }

    /// The file name that tells apt which spelling [`Self::with_suites`] has.
    pub(crate) fn file_name(&self) -> &'static str {
        match self.kind {
            Kind::Deb822(_) => "guest.sources",
            Kind::OneLine { .. } => "guest.list",
        }
    }
}

/// Finds the Debian entry in `files` (path and content), the likeliest first; `None` when there is none.
pub(crate) fn find_debian<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Option<DebianSource> {
    let mut found: Option<DebianSource> = None;
    for (path, text) in files {
        let entries = match path.extension().and_then(|e| e.to_str()) {
            Some("sources") => parse_deb822(text),
            Some("list") => parse_one_line(text),
            _ => continue,
        };
        for entry in entries {
            if found.as_ref().is_none_or(|best| entry.score > best.score) {
                found = Some(entry);
            }
        }
    }
    found
}

/// The files apt reads sources from on this machine: /etc/apt/sources.list and what stands in
/// sources.list.d, in name order; or only `$SKEP_APT_SOURCES` when that is set.
pub(crate) fn machine_files() -> Vec<PathBuf> {
    if let Some(file) = std::env::var_os("SKEP_APT_SOURCES") {
        return vec![PathBuf::from(file)];
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    files
}

fn parse_deb822(text: &str) -> Vec<DebianSource> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(debian_stanza(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            // A continued value, such as a key written out in Signed-By.
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    sources
}

fn debian_stanza(fields: Vec<(String, String)>) -> Option<DebianSource> {
    let value = |wanted: &str| {
        fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map_or("", |(_, value)| value.as_str())
    };
    let has = |wanted: &str, word: &str| value(wanted).split_whitespace().any(|found| found == word);
    let disabled = ["no", "false", "0", "off", "without", "disable"];
    if !has("Types", "deb") || disabled.contains(&value("Enabled").trim().to_ascii_lowercase().as_str()) {
        return None;
    }
    let suites: Vec<&str> = value("Suites").split_whitespace().collect();
    if !suites.iter().any(|suite| DEBIAN_SUITES.contains(suite)) || !has("Components", "main") {
        return None;
    }
    let uri = value("URIs").split_whitespace().next()?.to_owned();
    let score = score(&uri, value("Signed-By"));
    Some(DebianSource { kind: Kind::Deb822(fields), score })
}

fn parse_one_line(text: &str) -> Vec<DebianSource> {
    text.lines().filter_map(debian_line).collect()
}

fn debian_line(line: &str) -> Option<DebianSource> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t']) {
        return None; // deb-src, or no entry at all
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(_) => {
            let end = rest.find(']')?;
            (without_architecture(&rest[1..end]), rest[end + 1..].trim_start())
        }
        None => (String::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    if !DEBIAN_SUITES.contains(&suite) || !words.any(|component| component == "main") {
        return None;
    }
    Some(DebianSource { score: score(uri, &options), kind: Kind::OneLine { options, uri: uri.to_owned() } })
}

/// The options of a one-line entry in brackets, for amd64 only.
fn without_architecture(options: &str) -> String {
    let kept: Vec<&str> = options.split_whitespace().filter(|option| !option.starts_with("arch=")).collect();
    if kept.is_empty() { String::new() } else { format!("[{}]", kept.join(" ")) }
}

fn score(uri: &str, signed_by: &str) -> u32 {
    let at_debian = uri.trim_end_matches('/').rsplit('/').next() == Some("debian");
    1 + u32::from(at_debian) + 2 * u32::from(signed_by.contains("debian-archive-keyring"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap(files: &[(&str, &str)], suites: &[&str]) -> Option<String> {
        let files = files.iter().map(|(path, text)| (Path::new(*path), *text));
        find_debian(files).map(|source| source.with_suites(suites))
    }

    #[test]
    fn a_deb822_stanza_keeps_its_archive_and_key() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://archive.example/debian\nSuites: bookworm \
                    bookworm-updates\nComponents: main contrib\nSigned-By:\n -----BEGIN\n .\n key\n -----END\n";
        assert_eq!(
            swap(&[("debian.sources", text)], &["sid", "trixie-backports"]).unwrap(),
            "Types: deb\nSuites: sid trixie-backports\nComponents: main\nArchitectures: amd64\n\
             URIs: http://archive.example/debian\nSigned-By:\n -----BEGIN\n .\n key\n -----END\n"
        );
    }

    #[test]
    fn a_one_line_entry_keeps_its_options() {
        let text = "# deb http://no.example/debian bookworm main\ndeb-src http://no.example/debian bookworm main\n\
                    deb [arch=arm64 signed-by=/k.gpg] http://archive.example/debian/ bookworm main contrib # here\n";
        assert_eq!(
            swap(&[("/etc/apt/sources.list", text)], &["trixie", "sid"]).unwrap(),
            "deb [signed-by=/k.gpg] http://archive.example/debian/ trixie main\n\
             deb [signed-by=/k.gpg] http://archive.example/debian/ sid main\n"
        );
    }

    #[test]
    fn third_parties_security_and_other_distributions_are_passed_over() {
        let ubuntu = "Types: deb\nURIs: http://archive.example/ubuntu\nSuites: noble\nComponents: main universe\n";
        let security =
            "Types: deb\nURIs: http://archive.example/debian-security\nSuites: bookworm-security\nComponents: main\n";
        let disabled = "Types: deb\nURIs: http://a.example/debian\nSuites: sid\nComponents: main\nEnabled: no\n";
        let files = [("u.sources", ubuntu), ("s.sources", security), ("d.sources", disabled), ("x.save", disabled)];
        assert_eq!(swap(&files, &["sid"]), None);

        let third = "deb http://vendor.example/apt bookworm main\n";
        let debian = "deb http://archive.example/debian bookworm main\n";
        let text = swap(&[("a.list", third), ("b.list", debian)], &["sid"]).unwrap();
        assert!(text.contains("archive.example"), "{text}");
    }
}
