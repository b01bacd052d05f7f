//! BTF objects in the kernel: loading a program's types, reading the kernel's own and its modules'.

use crate::error::{Errno, Error, Result};
use crate::info;
use crate::sys::obj;
use skep_btf::Btf;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

/// A BTF object in the kernel; lives as long as something holds it.
#[derive(Debug)]
pub struct BtfObject {
    fd: OwnedFd,
}

/// BTF that the kernel refused.
#[derive(Clone, Debug)]
pub struct BtfRefused {
    /// What it answered.
    pub errno: Errno,
    /// What it wrote.
    pub log: String,
}

impl BtfObject {
    /// Loads BTF. When the kernel refuses, it is asked again with a log.
    pub fn load(bytes: &[u8]) -> Result<BtfObject, BtfRefused> {
        let error = match obj::btf_load(bytes, None) {
            Ok(fd) => return Ok(BtfObject { fd }),
            Err(e) => e,
        };
        if error.raw_os_error() == Some(libc::EPERM) {
            if crate::sys::raise_memlock()
                && let Ok(fd) = obj::btf_load(bytes, None)
            {
                return Ok(BtfObject { fd });
            }
            return Err(BtfRefused { errno: Errno::of(&error), log: String::new() });
        }
        let mut size = 64 << 10;
        loop {
            let mut log = vec![0u8; size];
            match obj::btf_load(bytes, Some(&mut log)) {
                Ok(fd) => return Ok(BtfObject { fd }),
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && size < 8 << 20 => size *= 4,
                Err(_) => return Err(BtfRefused { errno: Errno::of(&error), log: info::text(&log) }),
            }
        }
    }

    /// Opens the object with this id.
    pub fn from_id(id: u32) -> Result<BtfObject> {
        let fd =
            obj::open_id(obj::Kind::Btf, id).map_err(|e| Error::kernel("open BTF object", format!("id {id}"), e))?;
        Ok(BtfObject { fd })
    }

    /// Its descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Its descriptor's number, for kfunc descriptor arrays.
    pub(crate) fn raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// What the kernel knows of it.
    pub fn info(&self) -> Result<info::BtfInfo> {
        info::btf_info(self.fd())
    }

    /// Its bytes.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        obj::btf_data(self.fd()).map_err(|e| Error::kernel("read", "a BTF object", e))
    }

    /// Its types. A module's are read on top of the kernel's.
    pub fn read(&self) -> Result<Btf> {
        let info = self.info()?;
        let data = self.bytes()?;
        let of = if info.name.is_empty() { format!("BTF object {}", info.id) } else { info.name.clone() };
        let parsed = if info.kernel && info.name != "vmlinux" {
            Btf::parse_split(data, &kernel_btf()?)
        } else {
            Btf::parse(data)
        };
        parsed.map_err(|source| Error::Btf { of, source })
    }
}

/// Where the kernel shows its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The running kernel's types. Read once; later calls share it.
///
/// From `/sys/kernel/btf/vmlinux`, else from the `.BTF` section of a kernel image where distributions put it.
pub fn kernel_btf() -> Result<Btf> {
    static BTF: OnceLock<Result<Btf>> = OnceLock::new();
    BTF.get_or_init(read_kernel_btf).clone()
}

fn read_kernel_btf() -> Result<Btf> {
    // The kernel's types never change while it runs.
    let read = std::fs::File::open(VMLINUX).and_then(|mut file| match crate::sys::copy_mapped(&file) {
        Some(data) => Ok(data),
        None => {
            let mut data = Vec::new();
            file.read_to_end(&mut data).map(|_| data)
        }
    });
    match read {
        Ok(data) => return Btf::parse(data).map_err(|source| Error::Btf { of: VMLINUX.into(), source }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::file("read", VMLINUX, e)),
    }
    let release = crate::sys::kernel_release();
    for path in image_paths(&release) {
        let Ok(data) = std::fs::read(&path) else { continue };
        let section = match elf_section(&data, ".BTF") {
            Some(section) => section,
            // Some places hold bare BTF.
            None if data.starts_with(&0xeb9f_u16.to_ne_bytes()) => data.clone(),
            None => continue,
        };
        return Btf::parse(section).map_err(|source| Error::Btf { of: path.display().to_string(), source });
    }
    Err(Error::Unsupported {
        what: "types of the running kernel".into(),
        why: format!("{VMLINUX} is not there (CONFIG_DEBUG_INFO_BTF is off) and no kernel image with BTF was found"),
        next: format!(
            "put the kernel's BTF at /boot/vmlinux-{release}, or use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
        ),
    })
}

/// The types of a kernel from a file: bare BTF, as under `/sys/kernel/btf`, or an ELF image with a section `.BTF`.
pub fn btf_of_file(path: &std::path::Path) -> Result<Btf> {
    let name = path.display().to_string();
    let data = std::fs::read(path).map_err(|error| Error::file("read", &name, error))?;
    let data = match data.starts_with(b"\x7fELF") {
        false => data,
        true => elf_section(&data, ".BTF").ok_or_else(|| Error::Invalid {
            action: "read",
            object: name.clone(),
            why: "it is an ELF file without a section .BTF".into(),
        })?,
    };
    Btf::parse(data).map_err(|source| Error::Btf { of: name, source })
}

fn image_paths(release: &str) -> Vec<PathBuf> {
    [
        format!("/boot/vmlinux-{release}"),
        format!("/lib/modules/{release}/vmlinux-{release}"),
        format!("/lib/modules/{release}/build/vmlinux"),
        format!("/usr/lib/modules/{release}/kernel/vmlinux"),
        format!("/usr/lib/debug/boot/vmlinux-{release}"),
        format!("/usr/lib/debug/boot/vmlinux-{release}.debug"),
        format!("/usr/lib/debug/lib/modules/{release}/vmlinux"),
    ]
    .map(PathBuf::from)
    .to_vec()
}

/// The bytes of a section of a 64-bit ELF file in the machine's byte order; `None` for anything else.
fn elf_section(data: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let u16_at = |at: usize| data.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let u64_at = |at: usize| data.get(at..at.checked_add(8)?).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes);
    let u32_at = |at: usize| data.get(at..at.checked_add(4)?).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    if !data.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let (table, size, count, names) = (u64_at(40)? as usize, u16_at(58)? as usize, u16_at(60)?, u16_at(62)? as usize);
    let header = |i: usize| table.checked_add(i.checked_mul(size)?);
    let body = |at: usize| {
        let (offset, len) = (u64_at(at + 24)? as usize, u64_at(at + 32)? as usize);
        data.get(offset..offset.checked_add(len)?)
    };
    let strings = body(header(names)?)?;
    (0..usize::from(count)).find_map(|i| {
        let at = header(i)?;
        let name = strings.get(u32_at(at)? as usize..)?;
        name.strip_prefix(wanted.as_bytes())?.starts_with(&[0]).then(|| body(at).map(<[u8]>::to_vec))?
    })
}
