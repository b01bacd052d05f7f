//! Links: attachments that live as long as their owner.
//!
//! What the kernel offers as a `bpf_link` is one here: it goes away with its last descriptor, also after SIGKILL, unless
//! it is pinned. Hooks of older kernels without links are held by a perf event or a socket, which go away likewise, or by
//! what has to be undone: the classic tc hook, cgroup attachments that are not links, programs on sock maps. These are
//! undone by `Drop`, which a killed process does not get to: [`Link::survives_kill`] tells which they are.

use crate::attach::classic_tc;
use crate::error::{Error, Result};
use crate::info::Fields;
use crate::sys::{self, obj};
use crate::{Program, pin};
use skep_abi::{AttachType, LinkType};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// An attachment; it ends when this is dropped.
#[derive(Debug)]
pub struct Link {
    held: Held,
    place: String,
    note: Option<String>,
}

/// What holds the attachment.
#[derive(Debug)]
pub(crate) enum Held {
    /// A `bpf_link`.
    Bpf(OwnedFd),
    /// A perf event with a program in it (kernels before 5.15).
    PerfEvent(OwnedFd),
    /// A packet socket with a program in it.
    Socket(OwnedFd),
    /// A filter of the classic tc hook.
    ClassicTc(classic_tc::Filter),
    /// `BPF_PROG_ATTACH`: a cgroup, a network namespace or a sock map.
    Attached {
        /// What it is attached to.
        target: OwnedFd,
        /// The program, which has to be named to detach it.
        program: OwnedFd,
        /// As what.
        attach_type: AttachType,
    },
    /// A program in a caller's reuseport group.
    Reuseport(OwnedFd),
    /// Detached already.
    Nothing,
}

/// What the kernel tells of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSummary {
    /// Id.
    pub id: u32,
    /// Number of the type.
    pub raw_type: u32,
    /// The type, `None` for one that is newer than this program.
    pub link_type: Option<LinkType>,
    /// The program that is attached.
    pub program_id: u32,
}

impl Link {
    pub(crate) fn new(held: Held, place: impl Into<String>) -> Link {
        Link { held, place: place.into(), note: None }
    }

    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Link {
        self.note = Some(note.into());
        self
    }

    /// Opens the link with this id. It then lives at least as long as this handle.
    pub fn from_id(id: u32) -> Result<Link> {
        let fd = obj::open_id(obj::Kind::Link, id).map_err(|e| Error::kernel("open link", format!("id {id}"), e))?;
        Ok(Link::new(Held::Bpf(fd), format!("link {id}")))
    }

    /// Opens the link pinned at `path`.
    pub fn from_pin(path: &Path) -> Result<Link> {
        let fd = pin::get_kind(path, obj::Kind::Link)?;
        Ok(Link::new(Held::Bpf(fd), format!("link pinned at {}", path.display())))
    }

    /// Where it is, for people: `tracepoint sched/sched_switch`, `XDP veth0 (native)`.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// What a person should know about how it was attached, such as why XDP is generic.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The descriptor that holds it: a `bpf_link`, a perf event or a socket.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Bpf(fd) | Held::PerfEvent(fd) | Held::Socket(fd) | Held::Reuseport(fd) => Some(fd.as_fd()),
            Held::ClassicTc(_) | Held::Attached { .. } | Held::Nothing => None,
        }
    }

    /// Its `bpf_link`, `None` where it is none.
    pub fn bpf_link(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Bpf(fd) => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// Whether it would stay attached if this process were killed before it could undo it.
    pub fn survives_kill(&self) -> bool {
        matches!(self.held, Held::ClassicTc(_) | Held::Attached { .. } | Held::Reuseport(_))
    }

    /// What would stay of a classic tc attachment if this process were killed.
    pub fn leftover(&self) -> Option<classic_tc::Leftover> {
        match &self.held {
            Held::ClassicTc(filter) => filter.leftover(),
            _ => None,
        }
    }

    fn as_bpf_link(&self, action: &'static str) -> Result<BorrowedFd<'_>> {
        self.bpf_link().ok_or_else(|| Error::Unsupported {
            what: format!("{action} {}", self.place),
            why: "it is attached the older way, without a bpf_link".into(),
            next: "detach it and attach it again".into(),
        })
    }

    /// What the kernel tells of it; an error for what is no `bpf_link`.
    pub fn summary(&self) -> Result<LinkSummary> {
        let fd = self.as_bpf_link("ask about")?;
        // struct bpf_link_info starts with type, id, prog_id.
        let bytes: [u8; 16] = obj::plain_info(fd).map_err(|e| Error::kernel("ask about", self.place.clone(), e))?;
        let f = Fields(&bytes);
        Ok(LinkSummary {
            raw_type: f.u32(0),
            link_type: LinkType::from_u32(f.u32(0)),
            id: f.u32(4),
            program_id: f.u32(8),
        })
    }

    /// Its id; an error for what is no `bpf_link`.
    pub fn id(&self) -> Result<u32> {
        self.summary().map(|s| s.id)
    }

    /// Puts another program of the same type in its place, without a moment in between.
    ///
    /// The kernel can do this for XDP, tcx, cgroup, netns and struct_ops links.
    pub fn update(&self, program: &Program) -> Result<()> {
        let fd = self.as_bpf_link("update")?;
        sys::link::update(fd, program.fd()).map_err(|e| {
            let errno = e.raw_os_error();
            let error = Error::kernel("update", format!("{} to program {}", self.place, program.name()), e);
            match errno {
                Some(libc::EOPNOTSUPP | libc::EINVAL) => error.with_next(
                    "only XDP, tcx, cgroup and network namespace links take another program of the same type; attach \
                     the new program beside it, then detach the old one",
                ),
                Some(libc::ENOLINK) => error.with_next("its target is gone or it was detached"),
                _ => error,
            }
        })
    }

    /// Gives it a path in a BPF file system, so that it outlives this process.
    pub fn pin(&self, path: &Path) -> Result<()> {
        pin::pin(self.as_bpf_link("pin")?, path, || self.place.clone())
    }

    /// Ends the attachment now, also one that is pinned, where the kernel can do that (cgroup, netns, XDP, tcx); else
    /// lets go of it as dropping does.
    pub fn detach(mut self) -> Result<()> {
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        match held {
            Held::Bpf(fd) => match sys::link::detach(fd.as_fd()) {
                Ok(()) => Ok(()),
                Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => Ok(()),
                Err(e) => Err(Error::kernel("detach", self.place.clone(), e)),
            },
            other => undo(other).map_err(|e| Error::kernel("detach", self.place.clone(), e)),
        }
    }
}

/// Undoes what does not end with a descriptor.
fn undo(held: Held) -> std::io::Result<()> {
    match held {
        Held::Bpf(_) | Held::PerfEvent(_) | Held::Socket(_) | Held::Nothing => Ok(()),
        Held::ClassicTc(filter) => filter.remove(),
        Held::Attached { target, program, attach_type } => {
            sys::link::prog_detach(program.as_fd(), target.as_fd(), attach_type)
        }
        Held::Reuseport(socket) => {
            sys::perf::set_socket_option(socket.as_fd(), sys::perf::SocketOption::DetachReuseport, 0)
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Nobody is left to tell: a target that is gone by now has taken the attachment with it.
        drop(undo(std::mem::replace(&mut self.held, Held::Nothing)));
    }
}
