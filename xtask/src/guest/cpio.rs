//! Files, directories and symbolic links to a cpio archive in the "newc" format, which is what the kernel
//! unpacks as its initial file system.
//!
//! Format: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`. Archives may follow one
//! another in one initramfs, which is how a cached base gets the files of one run added.
//!
//! Limits: a file has less than 4 GiB; every entry belongs to root and carries time 0, so that the same
//! input gives the same bytes; no hard links, no device nodes (the guest mounts devtmpfs).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Writes one archive. Directories above an entry are made by themselves; nothing is written twice.
pub(crate) struct Writer<W: Write> {
    out: W,
    inode: u32,
    directories: BTreeSet<PathBuf>,
}

impl<W: Write> Writer<W> {
    /// An archive in which the directories of `present` count as there already (an earlier archive of the
    /// same initramfs has them), so that they are not written again.
    pub(crate) fn new(out: W, present: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { out, inode: 1, directories: present.into_iter().map(|p| relative(&p)).collect() }
    }

    /// A directory, and those above it.
    pub(crate) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let path = relative(path);
        let mut above = PathBuf::new();
        for part in path.components() {
            above.push(part);
            if self.directories.insert(above.clone()) {
                self.header(&above, DIRECTORY | 0o755, 0)?;
            }
        }
        Ok(())
    }

    /// A regular file with these bytes; `mode` holds the permission bits.
    pub(crate) fn file(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.file_from(path, mode, bytes.len() as u64, bytes)
    }

    /// A regular file of exactly `len` bytes, read from `source`; an error when it has fewer.
    pub(crate) fn file_from(&mut self, path: &Path, mode: u32, len: u64, source: impl Read) -> io::Result<()> {
        let size = u32::try_from(len).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("{} has 4 GiB or more", path.display()))
        })?;
        self.parent_of(path)?;
        self.header(&relative(path), REGULAR | (mode & 0o7777), size)?;
        let copied = io::copy(&mut source.take(len), &mut self.out)?;
        if copied != len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{} shrank to {copied} of {len} bytes while it was read", path.display()),
            ));
        }
        self.pad(len)
    }

    /// A symbolic link at `path` that says `target`.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.parent_of(path)?;
        let target = target.as_os_str().as_bytes();
        let size = u32::try_from(target.len()).map_err(io::Error::other)?;
        self.header(&relative(path), SYMLINK | 0o777, size)?;
        self.out.write_all(target)?;
        self.pad(u64::from(size))
    }

    /// Ends the archive and gives back what it was written to, and the directories now present.
    pub(crate) fn finish(mut self) -> io::Result<(W, BTreeSet<PathBuf>)> {
        self.inode = 0;
        self.header(Path::new("TRAILER!!!"), 0, 0)?;
        self.out.flush()?;
        Ok((self.out, self.directories))
    }

    fn parent_of(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |above| self.directory(above))
    }

    fn header(&mut self, path: &Path, mode: u32, size: u32) -> io::Result<()> {
        let name = name_bytes(path.as_os_str())?;
        // The name's length counts its NUL. A link count of 1 keeps the kernel from looking for hard links.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.inode += 1;
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08X}")?;
        }
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        // Header (110 bytes) and name together fill a multiple of four; so does the content, each apart.
        self.pad(110 + name.len() as u64 + 1)
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let missing = (4 - written % 4) % 4;
        self.out.write_all(&[0; 3][..missing as usize])
    }
}

/// The path as the archive names it: without root, `.` and `..`.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// The kernel refuses longer names (PATH_MAX) by skipping them in silence; say it here instead.
fn name_bytes(name: &OsStr) -> io::Result<&[u8]> {
    let bytes = name.as_bytes();
    if bytes.len() >= 4096 {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "a path of 4096 bytes or more"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_starts_on_a_multiple_of_four_and_parents_come_first() {
        let mut writer = Writer::new(Vec::new(), []);
        writer.file(Path::new("/a/b/c"), 0o644, b"hello").unwrap();
        writer.symlink(Path::new("a/link"), Path::new("b/c")).unwrap();
        writer.directory(Path::new("a/b")).unwrap();
        let (bytes, directories) = writer.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(directories.contains(Path::new("a/b")));

        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[at + 6 + n * 8..at + 14 + n * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap() as usize
            };
            let (size, name_len) = (field(6), field(11));
            let name = String::from_utf8(bytes[at + 110..at + 110 + name_len - 1].to_vec()).unwrap();
            names.push((name, field(1), size));
            at = (at + 110 + name_len).next_multiple_of(4);
            at = (at + size).next_multiple_of(4);
        }
        let shown: Vec<_> = names.iter().map(|(name, mode, size)| (name.as_str(), *mode, *size)).collect();
        assert_eq!(
            shown,
            [
                ("a", 0o040_755, 0),
                ("a/b", 0o040_755, 0),
                ("a/b/c", 0o100_644, 5),
                ("a/link", 0o120_777, 3),
                ("TRAILER!!!", 0, 0)
            ]
        );
    }

    #[test]
    fn directories_of_an_earlier_archive_are_not_written_again() {
        let mut writer = Writer::new(Vec::new(), [PathBuf::from("/bin")]);
        writer.file(Path::new("/bin/x"), 0o755, b"").unwrap();
        let (bytes, _) = writer.finish().unwrap();
        assert_eq!(bytes.windows(6).filter(|w| w == b"070701").count(), 2);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let mut writer = Writer::new(Vec::new(), []);
        let error = writer.file_from(Path::new("x"), 0o644, 5, &b"abc"[..]).unwrap_err();
        assert!(error.to_string().contains("3 of 5"), "{error}");
    }
}
