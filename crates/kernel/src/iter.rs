//! Iterators: running one and reading what it writes.
//!
//! Each opening of the link runs the program anew, over every object of its kind, while its output is read: what is not
//! read has not run yet.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! # fn example(link: &skep_kernel::Link, stop: &std::sync::atomic::AtomicBool) -> skep_kernel::Result<()> {
//! let ended = skep_kernel::iter::run(link, |chunk| {
//!     print!("{}", String::from_utf8_lossy(chunk));
//!     match stop.load(std::sync::atomic::Ordering::Relaxed) {
//!         true => ControlFlow::Break(()),
//!         false => ControlFlow::Continue(()),
//!     }
//! })?;
//! # let _ = ended; Ok(()) }
//! ```
//!
//! Limits: the kernel takes at most 32 KiB of output for one object (`E2BIG` beyond). What a program prints for an object is
//! in one chunk. Source: `bpf_seq_read` in `kernel/bpf/bpf_iter.c`.

use crate::Link;
use crate::error::{Error, Result};
use crate::sys::link::iter_create;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;

/// Bytes that are asked for at once. The kernel gives half of it or less.
const CHUNK: usize = 64 << 10;

/// Starts a run of an iterator; reading the file goes on with it. For callers with a loop of their own: a read fails with
/// `EAGAIN` where the kernel passed very many objects without output, and with `EINTR` at a signal; it may then go on.
pub fn open(link: &Link) -> Result<File> {
    let fail = |e| Error::kernel("run", link.place().to_owned(), e);
    let fd = link.bpf_link().ok_or_else(|| fail(io::Error::from_raw_os_error(libc::EINVAL)))?;
    iter_create(fd).map(File::from).map_err(fail)
}

/// Runs an iterator and hands over what it prints while it prints it, in chunks of at most 64 KiB.
///
/// A chunk may be empty: a signal came, or very many objects passed without output, and whoever wants to stop can do so.
/// Gives whether it ran to its end ([`ControlFlow::Continue`]) or was stopped by the callback.
pub fn run<B>(link: &Link, sink: impl FnMut(&[u8]) -> ControlFlow<B>) -> Result<ControlFlow<B>> {
    pump(open(link)?, sink).map_err(|e| Error::kernel("read", link.place().to_owned(), e))
}

fn pump<B>(mut from: impl Read, mut sink: impl FnMut(&[u8]) -> ControlFlow<B>) -> io::Result<ControlFlow<B>> {
    let mut chunk = vec![0u8; CHUNK];
    loop {
        let len = match from.read(&mut chunk) {
            Ok(0) => return Ok(ControlFlow::Continue(())),
            Ok(len) => len,
            Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => 0,
            Err(e) => return Err(e),
        };
        if let stopped @ ControlFlow::Break(_) = sink(chunk.get(..len).unwrap_or(&[])) {
            return Ok(stopped);
        }
    }
}

/// Runs an iterator to its end and gives what it printed.
pub fn read(link: &Link) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let _ended = run(link, |chunk| {
        out.extend_from_slice(chunk);
        ControlFlow::<()>::Continue(())
    })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives these in turn, an error by its number.
    struct Script(std::vec::IntoIter<Result<&'static [u8], i32>>);

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let bytes = self.0.next().unwrap_or(Ok(b"")).map_err(io::Error::from_raw_os_error)?;
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    #[test]
    fn signals_come_out_between_chunks() {
        let steps: Vec<Result<&[u8], i32>> =
            vec![Ok(b"one"), Err(libc::EINTR), Ok(b"two"), Err(libc::EAGAIN), Ok(b"three")];
        let mut seen = Vec::new();
        let ended = pump(Script(steps.clone().into_iter()), |chunk| {
            seen.push(chunk.to_vec());
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(ended.expect("read"), ControlFlow::Continue(()));
        assert_eq!(seen, [&b"one"[..], b"", b"two", b"", b"three"]);

        // Stopped at the signal, nothing more is read.
        let mut script = Script(steps.into_iter());
        let stop =
            |chunk: &[u8]| if chunk.is_empty() { ControlFlow::Break("stopped") } else { ControlFlow::Continue(()) };
        assert_eq!(pump(&mut script, stop).expect("read"), ControlFlow::Break("stopped"));
        assert_eq!(script.0.len(), 3);

        let broken = pump(Script(vec![Err(libc::EIO)].into_iter()), |_| ControlFlow::<()>::Continue(()));
        assert_eq!(broken.expect_err("broken").raw_os_error(), Some(libc::EIO));
    }
}
