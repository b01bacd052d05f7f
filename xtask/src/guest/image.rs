//! Debian packages to what QEMU boots: a kernel and a base initramfs, cached under target/guest/.
//!
//! ```text
//! target/guest/lock              held while anything here is made
//! target/guest/apt/              private apt state (super::apt)
//! target/guest/6.12/packages/    the packages as downloaded
//! target/guest/6.12/vmlinuz      the kernel
//! target/guest/6.12/base.cpio    busybox, kernel modules, /init; the files of a run follow it (super::payload)
//! target/guest/6.12/base.dirs    the directories in base.cpio, one a line
//! target/guest/6.12/recipe       what the image was made from; another recipe makes it anew
//! ```
//!
//! In the guest /usr/bin, /usr/sbin and /sbin are /bin, and /usr/lib is /lib.
//!
//! Limits: only the modules of [`MODULES`] and what they depend on are there. The image stays as downloaded
//! until `--refresh`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use super::apt::{self, Apt};
use super::{Kernel, cpio, payload};

const INIT: &str = include_str!("init.sh");

/// Modules to take along where the kernel hasn't them built in: the channel to the host, then links, queueing
/// disciplines, classifiers, tunnels and what containers use. Loaded when asked for (modprobe, or the kernel).
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "veth",
    "dummy",
    "ifb",
    "tun",
    "bridge",
    "br_netfilter",
    "vxlan",
    "geneve",
    "ipvlan",
    "macvlan",
    "vrf",
    "8021q",
    "ipip",
    "sit",
    "ip_gre",
    "ip6_tunnel",
    "sch_ingress",
    "sch_fq",
    "sch_htb",
    "sch_netem",
    "cls_bpf",
    "cls_matchall",
    "cls_flower",
    "act_bpf",
    "act_mirred",
    "act_gact",
    "nf_tables",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_chain_nat",
    "nf_conntrack",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "tcp_bbr",
    "tls",
    "overlay",
    "loop",
];

/// What the init script and the build of an image call; a busybox without one of these is not used.
const APPLETS: &[&str] = &[
    "sh", "mount", "modprobe", "depmod", "poweroff", "mkfifo", "cat", "ip", "xzcat", "usleep", "hostname", "ln",
    "chmod", "mkdir", "printf",
];

/// A kernel and its base initramfs, ready to boot.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) vmlinuz: PathBuf,
    pub(crate) base: PathBuf,
    /// The directories that `base` already has.
    pub(crate) directories: Vec<PathBuf>,
}

/// Holds target/guest/ for one process; let go when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for its turn.
    pub(crate) fn take(cache: &Path) -> Result<Self> {
        fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
        let path = cache.join("lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        file.lock().with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// The image of a kernel, from the cache or made now. With `refresh`, the newest package is looked up again.
pub(crate) fn prepare(cache: &Path, kernel: &Kernel, refresh: bool, _lock: &Lock) -> Result<Image> {
    let dir = cache.join(kernel.series);
    let recipe = recipe();
    if !refresh && fs::read_to_string(dir.join("recipe")).is_ok_and(|made| made == recipe) {
        return open(&dir);
    }
    if !cfg!(target_arch = "x86_64") {
        bail!("guest kernels are amd64 kernels, and the programs to run in them come from this machine, which is not");
    }
    let action = || format!("make the image of guest kernel {}", kernel.series);
    let packages = dir.join("packages");
    if refresh || !packages.join("complete").exists() {
        fetch(cache, kernel, &packages).with_context(action)?;
    }
    // The recipe is written last: an image without one counts as not made.
    let _ = fs::remove_file(dir.join("recipe"));
    build(&dir, &packages).with_context(action)?;
    fs::write(dir.join("recipe"), recipe)?;
    open(&dir)
}

/// The release of the kernel in the cache (`6.1.0-50-cloud-amd64`), if there is one.
pub(crate) fn release(cache: &Path, kernel: &Kernel) -> Option<String> {
    fs::read_to_string(cache.join(kernel.series).join("release")).ok().map(|text| text.trim().to_owned())
}

fn recipe() -> String {
    format!("format 1\nmodules {}\n{INIT}", MODULES.join(" "))
}

fn open(dir: &Path) -> Result<Image> {
    let list = dir.join("base.dirs");
    let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    Ok(Image {
        vmlinuz: dir.join("vmlinuz"),
        base: dir.join("base.cpio"),
        directories: text.lines().map(PathBuf::from).collect(),
    })
}

/// Downloads the kernel's packages, and busybox where the machine has no fitting one.
fn fetch(cache: &Path, kernel: &Kernel, packages: &Path) -> Result<()> {
    if packages.exists() {
        fs::remove_dir_all(packages)?;
    }
    fs::create_dir_all(packages)?;
    eprintln!("xtask guest: fetching kernel {} ({})", kernel.series, kernel.suites.join(", "));
    let apt = Apt::update(&cache.join("apt"), kernel.suites)?;
    let image = apt.cloud_kernel(kernel.series)?;
    apt.download(&image.name, Some(&image.version), packages)?;
    // Since 6.17 or so the image package is empty and names its parts: linux-binary-V, linux-modules-V, ...
    let flavour = image.name.trim_start_matches("linux-image");
    for part in image.depends.iter().filter(|name| name.starts_with("linux-") && name.ends_with(flavour)) {
        apt.download(part, Some(&image.version), packages)?;
    }
    if host_busybox().is_none() {
        apt.download("busybox-static", None, packages)?;
    }
    fs::write(packages.join("complete"), format!("{} {}\n", image.name, image.version))?;
    Ok(())
}

/// Unpacks the packages and writes vmlinuz, base.cpio and base.dirs.
fn build(dir: &Path, packages: &Path) -> Result<()> {
    let root = dir.join("unpacked");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    for entry in fs::read_dir(packages)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            apt::unpack(&path, &root)?;
        }
    }
    let modules = Modules::find(&root)?;
    let vmlinuz = [modules.dir.join("vmlinuz"), root.join("boot").join(format!("vmlinuz-{}", modules.release))];
    let vmlinuz = vmlinuz.iter().find(|path| path.is_file()).with_context(|| {
        format!("find vmlinuz of {} in {}; the packages are laid out in a new way", modules.release, root.display())
    })?;
    let busybox = packaged_busybox(&root).or_else(host_busybox).context(
        "find a static busybox: none on this machine and none downloaded; install busybox-static, or use --refresh",
    )?;

    let staged = dir.join("staged");
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    modules.stage(&staged, &busybox)?;
    let file = File::create(dir.join("base.cpio"))?;
    let directories = write_base(file, &busybox, &staged)?;
    fs::write(dir.join("base.dirs"), directories.iter().map(|d| format!("{}\n", d.display())).collect::<String>())?;
    fs::copy(vmlinuz, dir.join("vmlinuz"))?;
    fs::set_permissions(dir.join("vmlinuz"), fs::Permissions::from_mode(0o644))?;
    fs::write(dir.join("release"), format!("{}\n", modules.release))?;
    fs::remove_dir_all(&staged)?;
    fs::remove_dir_all(&root)?;
    Ok(())
}

fn write_base(out: File, busybox: &Path, staged: &Path) -> Result<Vec<PathBuf>> {
    let mut archive = cpio::Writer::new(BufWriter::new(out), []);
    for dir in ["bin", "dev", "etc", "lib", "lib64", "proc", "root", "run", "skep", "sys", "tmp", "usr", "var"] {
        archive.directory(Path::new(dir))?;
    }
    let merged = [
        ("sbin", "bin"),
        ("usr/bin", "../bin"),
        ("usr/sbin", "../bin"),
        ("usr/lib", "../lib"),
        ("usr/lib64", "../lib64"),
        ("var/run", "../run"),
    ];
    for (link, target) in merged {
        archive.symlink(Path::new(link), Path::new(target))?;
    }
    archive.file(Path::new("bin/busybox"), 0o755, &fs::read(busybox)?)?;
    for applet in applets(busybox)?.iter().filter(|name| *name != "busybox") {
        archive.symlink(&Path::new("bin").join(applet), Path::new("busybox"))?;
    }
    archive.file(Path::new("init"), 0o755, INIT.as_bytes())?;
    archive.file(
        Path::new("etc/passwd"),
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    )?;
    archive.file(Path::new("etc/group"), 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file(Path::new("etc/hosts"), 0o644, b"127.0.0.1 localhost guest\n::1 localhost\n")?;
    add_tree(&mut archive, staged, Path::new(""))?;
    let (_, directories) = archive.finish()?;
    Ok(directories.into_iter().collect())
}

fn add_tree<W: Write>(archive: &mut cpio::Writer<W>, from: &Path, to: &Path) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(from)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            archive.directory(&to)?;
            add_tree(archive, &path, &to)?;
        } else {
            archive.file(&to, 0o644, &fs::read(&path)?)?;
        }
    }
    Ok(())
}

/// The modules directory of an unpacked kernel.
struct Modules {
    dir: PathBuf,
    release: String,
    /// Module name (with `_`) to its file.
    files: BTreeMap<String, PathBuf>,
    /// Content of modules.builtin.
    builtin: String,
}

impl Modules {
    fn find(root: &Path) -> Result<Self> {
        for place in ["usr/lib/modules", "lib/modules"] {
            let Ok(entries) = fs::read_dir(root.join(place)) else { continue };
            let Some(dir) = entries.flatten().map(|entry| entry.path()).find(|path| path.is_dir()) else { continue };
            let release = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            let mut files = BTreeMap::new();
            collect_modules(&dir.join("kernel"), &mut files)?;
            let builtin = fs::read_to_string(dir.join("modules.builtin"))
                .with_context(|| format!("read modules.builtin of {release}"))?;
            return Ok(Self { dir, release, files, builtin });
        }
        bail!("find lib/modules in {}; the packages are laid out in a new way", root.display())
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.lines().any(|line| module_name(Path::new(line)).is_some_and(|found| found == name))
    }

    /// Puts the wanted modules and all they depend on under `staged`, uncompressed, with their index.
    fn stage(&self, staged: &Path, busybox: &Path) -> Result<()> {
        let home = Path::new("lib/modules").join(&self.release);
        let to = staged.join(&home);
        let mut left: Vec<String> = MODULES.iter().map(|&name| name.to_owned()).collect();
        let mut done = Vec::new();
        while let Some(name) = left.pop() {
            if done.contains(&name) || self.is_builtin(&name) {
                continue;
            }
            let file = self.files.get(&name).with_context(|| {
                format!("find the module {name} of kernel {}: neither built in nor in its package", self.release)
            })?;
            let bytes = module_bytes(file, busybox)?;
            left.extend(dependencies(&bytes).with_context(|| format!("read the module {}", file.display()))?);
            let inside = file.strip_prefix(&self.dir)?.with_extension("");
            // veth.ko.xz and veth.ko both end up as veth.ko
            let stem = inside.to_string_lossy().trim_end_matches(".ko").to_owned();
            let target = to.join(format!("{stem}.ko"));
            fs::create_dir_all(target.parent().unwrap_or(&to))?;
            fs::write(target, bytes)?;
            done.push(name);
        }
        for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            if self.dir.join(list).exists() {
                fs::copy(self.dir.join(list), to.join(list))?;
            }
        }
        apt::run(Command::new(busybox).arg("depmod").arg("-b").arg(staged).arg(&self.release))
            .context("index the modules with busybox depmod")?;
        Ok(())
    }
}

fn collect_modules(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_modules(&entry.path(), files)?;
        } else if let Some(name) = module_name(&entry.path()) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// `kernel/net/sched/act_bpf.ko.xz` is `act_bpf`; the kernel takes `-` and `_` for the same.
fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once('.')?;
    (rest == "ko" || rest.starts_with("ko.")).then(|| name.replace('-', "_"))
}

fn module_bytes(file: &Path, busybox: &Path) -> Result<Vec<u8>> {
    match file.extension().and_then(|e| e.to_str()) {
        Some("ko") => fs::read(file).with_context(|| format!("read {}", file.display())),
        Some("xz") => {
            let output = Command::new(busybox).arg("xzcat").arg(file).output()?;
            if !output.status.success() {
                bail!("uncompress {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(output.stdout)
        }
        _ => bail!("uncompress {}: only .ko and .ko.xz are known here", file.display()),
    }
}

/// The `depends=` line of a module: names of other modules.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("no section .modinfo")?;
    let data = section.data()?;
    let line = data.split(|&byte| byte == 0).find_map(|line| line.strip_prefix(b"depends="));
    let names = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
    Ok(names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

fn packaged_busybox(root: &Path) -> Option<PathBuf> {
    ["usr/bin/busybox", "bin/busybox"].map(|place| root.join(place)).into_iter().find(|path| fits(path))
}

fn host_busybox() -> Option<PathBuf> {
    ["/usr/bin/busybox", "/bin/busybox"].map(PathBuf::from).into_iter().find(|path| fits(path))
}

/// Static, and with every applet that is needed.
fn fits(busybox: &Path) -> bool {
    busybox.is_file()
        && payload::libraries(busybox).is_ok_and(|libraries| libraries.is_empty())
        && applets(busybox).is_ok_and(|found| APPLETS.iter().all(|wanted| found.iter().any(|name| name == wanted)))
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    Ok(apt::run(Command::new(busybox).arg("--list"))?.lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_those_of_the_kernel() {
        let name = |path: &str| module_name(Path::new(path));
        assert_eq!(name("kernel/net/sched/act_bpf.ko.xz").as_deref(), Some("act_bpf"));
        assert_eq!(name("kernel/drivers/net/virtio-net.ko").as_deref(), Some("virtio_net"));
        assert_eq!(name("modules.order"), None);
    }
}
