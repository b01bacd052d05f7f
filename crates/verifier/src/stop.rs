//! Why a path, and with it the check, ends: [`Stop`], a rejection or a feature that is not modelled, made by chaining.

use skep_isa::InsnIdx;

use crate::{Code, Rejection, Unsupported};

/// The end of a check. Methods add to it; what is not given is filled in by the explorer (the instruction, the path).
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    Reject(Box<Partial>),
    Unsupported(Box<Unsupported>),
}

/// A rejection in the making.
#[derive(Clone, Debug)]
pub(crate) struct Partial {
    pub(crate) rejection: Rejection,
    /// Whether `rejection.insn` was set.
    pub(crate) placed: bool,
    /// The register whose history explains it.
    pub(crate) about: Option<crate::Place>,
}

impl Stop {
    /// Refuses the program. `label` goes under the instruction's source line.
    pub(crate) fn reject(code: Code, label: impl Into<String>) -> Stop {
        Stop::Reject(Box::new(Partial {
            rejection: Rejection {
                code,
                insn: InsnIdx(0),
                title: code.title().to_owned(),
                label: label.into(),
                path: Vec::new(),
                facts: Vec::new(),
                help: None,
                kernel_says: None,
            },
            placed: false,
            about: None,
        }))
    }

    /// Gives no verdict.
    pub(crate) fn unsupported(feature: impl Into<String>) -> Stop {
        Stop::Unsupported(Box::new(Unsupported { feature: feature.into(), insn: None }))
    }

    fn edit(mut self, change: impl FnOnce(&mut Partial)) -> Stop {
        if let Stop::Reject(partial) = &mut self {
            change(partial);
        }
        self
    }

    /// At this instruction and not where the path stands.
    pub(crate) fn at(mut self, insn: InsnIdx) -> Stop {
        match &mut self {
            Stop::Reject(partial) => {
                partial.rejection.insn = insn;
                partial.placed = true;
            }
            Stop::Unsupported(what) => what.insn = Some(insn),
        }
        self
    }

    /// What is wrong, in the programmer's words; else it is the code's title.
    pub(crate) fn title(self, title: impl Into<String>) -> Stop {
        self.edit(|partial| partial.rejection.title = title.into())
    }

    /// Something that is known there.
    pub(crate) fn fact(self, fact: impl Into<String>) -> Stop {
        self.edit(|partial| partial.rejection.facts.push(fact.into()))
    }

    /// What to write instead.
    pub(crate) fn help(self, help: impl Into<String>) -> Stop {
        self.edit(|partial| partial.rejection.help = Some(help.into()))
    }

    /// How the kernel says it.
    pub(crate) fn kernel(self, says: impl Into<String>) -> Stop {
        self.edit(|partial| partial.rejection.kernel_says = Some(says.into()))
    }

    /// Something that happened earlier and belongs to it.
    pub(crate) fn step(self, insn: InsnIdx, kind: crate::StepKind) -> Stop {
        self.edit(|partial| partial.rejection.path.push(crate::Step { insn, kind }))
    }

    /// The value whose history explains it.
    pub(crate) fn about(self, place: impl Into<crate::Place>) -> Stop {
        self.edit(|partial| partial.about = Some(place.into()))
    }
}

impl From<skep_isa::Reg> for crate::Place {
    fn from(reg: skep_isa::Reg) -> crate::Place {
        crate::Place::Reg(reg)
    }
}
