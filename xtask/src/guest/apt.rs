//! Packages from Debian's archive, without installing them and without touching the machine's own apt state.
//!
//! Everything apt keeps (lists, cache, status) stands under one private directory; the source is the
//! machine's own with other suites ([`super::sources`]); proxies and keys come from the machine's
//! configuration. Signatures are checked as always.
//!
//! Limits: amd64 only; needs apt and dpkg, so a Debian or Ubuntu machine.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::sources;

/// A private apt, set up for some suites.
pub(crate) struct Apt {
    dir: PathBuf,
    suites: Vec<&'static str>,
}

/// What the archive says of one version of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The names in `Depends`, alternatives and versions left out.
    pub(crate) depends: Vec<String>,
}

impl Apt {
    /// Sets up `dir` for `suites` of the archive that the machine takes Debian from, and fetches their lists.
    pub(crate) fn update(dir: &Path, suites: &[&'static str]) -> Result<Self> {
        let files: Vec<(PathBuf, String)> = sources::machine_files()
            .into_iter()
            .filter_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
            .collect();
        let source = sources::find_debian(files.iter().map(|(path, text)| (path.as_path(), text.as_str()))).context(
            "find a Debian archive in this machine's apt sources (/etc/apt/sources.list, \
                 /etc/apt/sources.list.d): none of the entries names a Debian suite with the component main.\n\
                 Guest kernels are Debian's cloud kernels. On another distribution, put a Debian entry into a \
                 file NAME.sources or NAME.list and set SKEP_APT_SOURCES to its path",
        )?;

        let apt = Self { dir: dir.to_path_buf(), suites: suites.to_vec() };
        let parts = dir.join("sources.list.d");
        if parts.exists() {
            fs::remove_dir_all(&parts)?;
        }
        for path in ["sources.list.d", "preferences.d", "lists/partial", "cache/archives/partial"] {
            let path = dir.join(path);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        fs::write(parts.join(source.file_name()), source.with_suites(suites))?;
        fs::write(dir.join("status"), "")?;
        fs::write(dir.join("apt.conf"), configuration(dir)?)?;
        apt.get(&["update", "--quiet", "--error-on=any"], dir)
            .with_context(|| format!("fetch the package lists of Debian {}", suites.join(", ")))?;
        Ok(apt)
    }

    /// The newest version of the newest cloud kernel of the series (`6.12`), signed or, since Debian's
    /// images carry their signature otherwise, plain; never the `-unsigned`, `-dbg` or `-rt` flavours.
    pub(crate) fn cloud_kernel(&self, series: &str) -> Result<Package> {
        let prefix = format!("linux-image-{series}");
        let names = self.cache(&["pkgnames", &prefix])?;
        let mut newest: Option<Package> = None;
        for name in names.lines().filter(|name| is_cloud_kernel(name, &prefix)) {
            for package in self.versions(name)? {
                if newest.as_ref().is_none_or(|best| compare(&package, best) == Ordering::Greater) {
                    newest = Some(package);
                }
            }
        }
        newest.with_context(|| {
            format!(
                "find a kernel {series} in Debian {}: no package {prefix}*-cloud-amd64 there; \
                 the suites may have moved on, see KERNELS in xtask/src/guest/mod.rs",
                self.suites.join(", ")
            )
        })
    }

    /// Every version of a package that the suites have.
    pub(crate) fn versions(&self, name: &str) -> Result<Vec<Package>> {
        Ok(parse_stanzas(&self.cache(&["show", name])?))
    }

    /// Downloads `name` (at `version` if given) into `into`, and gives the path of the package file.
    pub(crate) fn download(&self, name: &str, version: Option<&str>, into: &Path) -> Result<PathBuf> {
        let wanted = version.map_or_else(|| name.to_owned(), |version| format!("{name}={version}"));
        let fresh = into.join(format!(".{name}"));
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        self.get(&["download", "--quiet", &wanted], &fresh).with_context(|| format!("download {wanted}"))?;
        let package = fs::read_dir(&fresh)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "deb"))
            .with_context(|| format!("download {wanted}: apt-get left no package file"))?;
        let kept = into.join(format!("{name}.deb"));
        fs::rename(&package, &kept)?;
        fs::remove_dir_all(&fresh)?;
        Ok(kept)
    }

    fn get(&self, args: &[&str], cwd: &Path) -> Result<String> {
        run(Command::new("apt-get").arg("-c").arg(self.dir.join("apt.conf")).args(args).current_dir(cwd))
    }

    fn cache(&self, args: &[&str]) -> Result<String> {
        run(Command::new("apt-cache").arg("-c").arg(self.dir.join("apt.conf")).args(args))
    }
}

/// Unpacks the files of a package file into `root`.
pub(crate) fn unpack(package: &Path, root: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(root))
        .with_context(|| format!("unpack {} into {}", package.display(), root.display()))?;
    Ok(())
}

/// Runs a command to its end; its standard output, or an error that carries the end of its standard error.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Messages are parsed nowhere, but ldd's "not a dynamic executable" is told apart by words.
    let output = command.env("LC_ALL", "C").output().with_context(|| format!("start {program}; is it installed?"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let mut tail: Vec<&str> = stderr.lines().rev().take(8).collect();
        tail.reverse();
        bail!("{program} ended with {}: {}", output.status, tail.join("\n"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Read after the machine's own configuration, so that `#clear` takes away hooks which would act on the machine.
fn configuration(dir: &Path) -> Result<String> {
    let dir = dir.to_str().context("the target directory's path is not UTF-8, which apt.conf needs")?;
    if dir.contains(['"', '\n', ';']) {
        bail!("the target directory's path ({dir}) has a character that apt.conf cannot quote");
    }
    Ok(format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Pre-Invoke;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{dir}/sources.list.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{dir}/preferences.d";
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
"#
    ))
}

/// `linux-image-6.1.0-50-cloud-amd64` for `linux-image-6.1`, but not for `linux-image-6`.
fn is_cloud_kernel(name: &str, prefix: &str) -> bool {
    let Some(rest) = name.strip_prefix(prefix) else { return false };
    rest.starts_with(['.', '+', '-']) && rest.ends_with("-cloud-amd64")
}

fn parse_stanzas(text: &str) -> Vec<Package> {
    text.split("\n\n")
        .filter_map(|stanza| {
            let value = |wanted: &str| {
                stanza.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':').map(str::trim))
            };
            let depends = value("Depends").unwrap_or_default().split([',', '|']);
            Some(Package {
                name: value("Package")?.to_owned(),
                version: value("Version")?.to_owned(),
                depends: depends.filter_map(|one| one.split_whitespace().next()).map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// By version, as dpkg orders them.
fn compare(a: &Package, b: &Package) -> Ordering {
    let holds = |relation: &str| {
        Command::new("dpkg")
            .args(["--compare-versions", &a.version, relation, &b.version])
            .status()
            .is_ok_and(|status| status.success())
    };
    if holds("gt") {
        Ordering::Greater
    } else if holds("lt") {
        Ordering::Less
    } else {
        Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cloud_kernels_of_the_series_count() {
        let prefix = "linux-image-6.1";
        assert!(is_cloud_kernel("linux-image-6.1.0-50-cloud-amd64", prefix));
        assert!(is_cloud_kernel("linux-image-6.12.107+deb13-cloud-amd64", "linux-image-6.12"));
        for other in [
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64-unsigned",
            "linux-image-6.1.0-50-cloud-amd64-dbg",
            "linux-image-6.1.0-50-rt-amd64",
            "linux-image-6.1.0-50-amd64",
        ] {
            assert!(!is_cloud_kernel(other, prefix), "{other}");
        }
    }

    #[test]
    fn stanzas_give_names_and_dependencies() {
        let text = "Package: a\nVersion: 1-2\nDepends: dracut | initramfs-tools (>= 0.1), b-x (= 1-2)\n\n\
                    Package: b\nVersion: 3\n";
        let packages = parse_stanzas(text);
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].depends, ["dracut", "initramfs-tools", "b-x"]);
        assert_eq!((packages[1].name.as_str(), packages[1].version.as_str()), ("b", "3"));
    }
}
