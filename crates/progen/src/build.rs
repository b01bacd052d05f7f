//! Writing a program instruction by instruction, with labels and functions in place of distances.

use skep_abi::helpers;
use skep_isa::{
    AluOp, AtomicOp, Call, Insn, InsnIdx, JmpOp, NarrowSize, Reg, SignExtend, Size, Source, SwapBits, SwapOp, Wide,
    Width,
};

use crate::program::{Func, MapDef, Param};

/// A place in a program, set once by [`Builder::here`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Label(usize);

/// A function to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FuncId(usize);

/// What a relative instruction leads to.
#[derive(Clone, Copy)]
enum Goal {
    Label(usize),
    Func(usize),
}

struct Declared {
    name: String,
    global: bool,
    void: bool,
    params: Vec<Param>,
    /// Index of its first instruction.
    start: Option<usize>,
}

/// A program under construction. Functions are written one after the other, the entry function first.
pub(crate) struct Builder {
    insns: Vec<Insn>,
    goals: Vec<(usize, Goal)>,
    labels: Vec<Option<usize>>,
    funcs: Vec<Declared>,
    pub(crate) maps: Vec<MapDef>,
    pub(crate) kfuncs: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Builder {
    pub(crate) fn new(params: Vec<Param>) -> Builder {
        let main = Declared { name: "prog".into(), global: true, void: false, params, start: Some(0) };
        Builder {
            insns: Vec::new(),
            goals: Vec::new(),
            labels: Vec::new(),
            funcs: vec![main],
            maps: Vec::new(),
            kfuncs: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Instructions so far.
    pub(crate) fn len(&self) -> usize {
        self.insns.len()
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    pub(crate) fn here(&mut self, label: Label) {
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(self.insns.len());
        }
    }

    /// A label at this place.
    pub(crate) fn label_here(&mut self) -> Label {
        let label = self.label();
        self.here(label);
        label
    }

    pub(crate) fn declare(&mut self, prefix: &str, global: bool, params: Vec<Param>) -> FuncId {
        let name = format!("{prefix}{}", self.funcs.len());
        self.funcs.push(Declared { name, global, void: false, params, start: None });
        FuncId(self.funcs.len() - 1)
    }

    /// Whether something calls the function or takes its address. What nothing refers to is not to be written: the
    /// verifier refuses code that cannot be reached.
    pub(crate) fn is_used(&self, func: FuncId) -> bool {
        self.goals.iter().any(|(_, goal)| matches!(goal, Goal::Func(goal) if *goal == func.0))
    }

    /// What follows is this function.
    pub(crate) fn begin(&mut self, func: FuncId) {
        let at = self.insns.len();
        if let Some(func) = self.funcs.get_mut(func.0) {
            func.start = Some(at);
        }
    }

    /// A map with these properties, shared by all that ask for the same.
    pub(crate) fn map_of(&mut self, def: MapDef) -> usize {
        let same = self.maps.iter().position(|have| MapDef { name: def.name.clone(), ..have.clone() } == def);
        same.unwrap_or_else(|| {
            let name = format!("{}{}", def.name, self.maps.len());
            self.maps.push(MapDef { name, ..def });
            self.maps.len() - 1
        })
    }

    pub(crate) fn emit(&mut self, insn: Insn) {
        self.insns.push(insn);
    }

    fn emit_to(&mut self, insn: Insn, goal: Goal) {
        self.goals.push((self.insns.len(), goal));
        self.insns.push(insn);
    }

    pub(crate) fn alu(&mut self, width: Width, op: AluOp, dst: Reg, src: Source) {
        self.emit(Insn::Alu { width, op, dst, src });
    }

    pub(crate) fn mov(&mut self, dst: Reg, src: Reg) {
        self.alu(Width::W64, AluOp::Mov, dst, Source::Reg(src));
    }

    pub(crate) fn mov_k(&mut self, dst: Reg, imm: i32) {
        self.alu(Width::W64, AluOp::Mov, dst, Source::Imm(imm));
    }

    pub(crate) fn add(&mut self, dst: Reg, src: Reg) {
        self.alu(Width::W64, AluOp::Add, dst, Source::Reg(src));
    }

    pub(crate) fn alu_k(&mut self, op: AluOp, dst: Reg, imm: i32) {
        self.alu(Width::W64, op, dst, Source::Imm(imm));
    }

    pub(crate) fn alu32_k(&mut self, op: AluOp, dst: Reg, imm: i32) {
        self.alu(Width::W32, op, dst, Source::Imm(imm));
    }

    pub(crate) fn movsx(&mut self, form: SignExtend, dst: Reg, src: Reg) {
        self.emit(Insn::MovSx { form, dst, src });
    }

    pub(crate) fn swap(&mut self, op: SwapOp, bits: SwapBits, dst: Reg) {
        self.emit(Insn::ByteSwap { op, bits, dst });
    }

    pub(crate) fn wide(&mut self, dst: Reg, number: u64) {
        self.emit(Insn::LoadWide { dst, value: Wide::Imm64(number) });
    }

    pub(crate) fn map(&mut self, dst: Reg, map: usize) {
        self.emit(Insn::LoadWide { dst, value: Wide::MapIdx(map as i32) });
    }

    pub(crate) fn map_value(&mut self, dst: Reg, map: usize, off: u32) {
        self.emit(Insn::LoadWide { dst, value: Wide::MapIdxValue { idx: map as i32, off } });
    }

    pub(crate) fn func_address(&mut self, dst: Reg, func: FuncId) {
        self.emit_to(Insn::LoadWide { dst, value: Wide::Func(0) }, Goal::Func(func.0));
    }

    pub(crate) fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) {
        self.emit(Insn::Load { size, dst, base, off });
    }

    pub(crate) fn load_sx(&mut self, size: NarrowSize, dst: Reg, base: Reg, off: i16) {
        self.emit(Insn::LoadSx { size, dst, base, off });
    }

    pub(crate) fn store(&mut self, size: Size, base: Reg, off: i16, src: Reg) {
        self.emit(Insn::Store { size, base, off, src: Source::Reg(src) });
    }

    pub(crate) fn store_k(&mut self, size: Size, base: Reg, off: i16, imm: i32) {
        self.emit(Insn::Store { size, base, off, src: Source::Imm(imm) });
    }

    pub(crate) fn atomic(&mut self, width: Width, op: AtomicOp, base: Reg, off: i16, src: Reg) {
        self.emit(Insn::Atomic { width, op, base, off, src });
    }

    pub(crate) fn goto(&mut self, to: Label) {
        self.emit_to(Insn::Jump { off: 0 }, Goal::Label(to.0));
    }

    pub(crate) fn goto_long(&mut self, to: Label) {
        self.emit_to(Insn::JumpLong { off: 0 }, Goal::Label(to.0));
    }

    pub(crate) fn may_goto(&mut self, to: Label) {
        self.emit_to(Insn::MayGoto { off: 0 }, Goal::Label(to.0));
    }

    pub(crate) fn branch(&mut self, width: Width, op: JmpOp, dst: Reg, src: Source, to: Label) {
        self.emit_to(Insn::JumpIf { width, op, dst, src, off: 0 }, Goal::Label(to.0));
    }

    pub(crate) fn jump(&mut self, op: JmpOp, dst: Reg, src: Reg, to: Label) {
        self.branch(Width::W64, op, dst, Source::Reg(src), to);
    }

    pub(crate) fn jump_k(&mut self, op: JmpOp, dst: Reg, imm: i32, to: Label) {
        self.branch(Width::W64, op, dst, Source::Imm(imm), to);
    }

    pub(crate) fn call(&mut self, func: FuncId) {
        self.emit_to(Insn::Call(Call::Subprog(0)), Goal::Func(func.0));
    }

    /// A call of the helper with this name without `bpf_`; of none if there is no such (a test holds that there is).
    pub(crate) fn helper(&mut self, name: &str) {
        let id = helpers::by_name(name).map_or(0, |helper| helper.id);
        self.emit(Insn::Call(Call::Helper(id)));
    }

    pub(crate) fn kfunc(&mut self, name: &str) {
        let index = self.kfuncs.iter().position(|have| have == name).unwrap_or_else(|| {
            self.kfuncs.push(name.to_owned());
            self.kfuncs.len() - 1
        });
        self.emit(Insn::Call(Call::Kfunc { btf_id: index as i32, btf_idx: 0 }));
    }

    pub(crate) fn exit(&mut self) {
        self.emit(Insn::Exit);
    }

    /// `r0 = imm; exit`
    pub(crate) fn exit_k(&mut self, imm: i32) {
        self.mov_k(Reg::R0, imm);
        self.exit();
    }

    /// The instructions with all distances, and the functions. A goal that was never set, or is too far, becomes a
    /// distance of 0.
    pub(crate) fn finish(mut self) -> Finished {
        let slots: Vec<u32> = self
            .insns
            .iter()
            .scan(0u32, |at, insn| {
                let here = *at;
                *at += insn.slots();
                Some(here)
            })
            .collect();
        let end = self.insns.iter().map(Insn::slots).sum::<u32>();
        let slot = |index: usize| slots.get(index).copied().unwrap_or(end);
        for (at, goal) in &self.goals {
            let target = match goal {
                Goal::Label(label) => self.labels.get(*label).copied().flatten(),
                Goal::Func(func) => self.funcs.get(*func).and_then(|func| func.start),
            };
            let distance = target.map_or(0, |target| i64::from(slot(target)) - i64::from(slot(*at)) - 1);
            if let Some(insn) = self.insns.get_mut(*at) {
                set_distance(insn, distance as i32);
            }
        }
        let funcs = self
            .funcs
            .into_iter()
            .filter_map(|func| {
                Some(Func {
                    start: InsnIdx(slot(func.start?)),
                    name: func.name,
                    global: func.global,
                    params: func.params,
                    void: func.void,
                })
            })
            .collect();
        Finished { insns: self.insns, funcs, maps: self.maps, kfuncs: self.kfuncs, notes: self.notes }
    }
}

/// What a [`Builder`] made.
pub(crate) struct Finished {
    pub(crate) insns: Vec<Insn>,
    pub(crate) funcs: Vec<Func>,
    pub(crate) maps: Vec<MapDef>,
    pub(crate) kfuncs: Vec<String>,
    pub(crate) notes: Vec<String>,
}

/// Makes a relative instruction lead somewhere else.
pub(crate) fn set_distance(insn: &mut Insn, distance: i32) {
    let near = i16::try_from(distance).unwrap_or(0);
    match insn {
        Insn::Jump { off } | Insn::JumpIf { off, .. } | Insn::MayGoto { off } => *off = near,
        Insn::JumpLong { off } => *off = distance,
        Insn::Call(Call::Subprog(rel)) | Insn::LoadWide { value: Wide::Func(rel), .. } => *rel = distance,
        _ => {}
    }
}
