//! Iterators: running one and reading what it writes.
//!
//! Each opening of the link runs the program anew, over every object of its kind, while its output is read.

use crate::Link;
use crate::error::{Error, Result};
use crate::sys::link::iter_create;
use std::fs::File;
use std::io::{self, Read, Write};

/// Starts a run of an iterator; reading the file goes on with it.
pub fn open(link: &Link) -> Result<File> {
    let fail = |e| Error::kernel("run", link.place().to_owned(), e);
    let fd = link.bpf_link().ok_or_else(|| fail(io::Error::from_raw_os_error(libc::EINVAL)))?;
    iter_create(fd).map(File::from).map_err(fail)
}

/// Runs an iterator to its end and writes what it prints. Gives the number of bytes.
pub fn run(link: &Link, out: &mut dyn Write) -> Result<u64> {
    let mut file = open(link)?;
    let mut chunk = vec![0u8; 64 << 10];
    let mut total = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(total),
            Ok(len) => {
                out.write_all(chunk.get(..len).unwrap_or(&[]))
                    .map_err(|e| Error::kernel("write the output of", link.place().to_owned(), e))?;
                total += len as u64;
            }
            // After very many objects without output the kernel asks to be called again.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            Err(e) => return Err(Error::kernel("read", link.place().to_owned(), e)),
        }
    }
}

/// Runs an iterator to its end and gives what it printed.
pub fn read(link: &Link) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    run(link, &mut out)?;
    Ok(out)
}
