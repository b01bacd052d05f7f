//! Fragments about the context and kernel objects.

use skep_abi::context::{self, ContextKind, Field, FieldAccess, FieldKind};
use skep_isa::{AluOp, JmpOp, Reg, Size};

use super::Gen;
use super::{R0, R1, R2, R3, R6, R7};
use Reg::{R8, R9};

fn size_of(bytes: u8) -> Size {
    match bytes {
        1 => Size::B,
        2 => Size::H,
        4 => Size::W,
        _ => Size::DW,
    }
}

impl Gen<'_, '_, '_> {
    /// Loads a number from the context, if there is one to be had.
    pub(super) fn context_number(&mut self, dst: Reg) -> bool {
        let prog_type = self.site.prog_type;
        match context::kind(prog_type) {
            ContextKind::Struct(_) => {
                let Some((field, access)) = self.some_field(|field, access| {
                    field.kind == FieldKind::Scalar && access.reads & 4 != 0 && field.element == 4
                }) else {
                    return false;
                };
                let _ = access;
                self.b.load(Size::W, dst, R6, field.offset as i16);
            }
            ContextKind::Registers => {
                let off = 8 * self.c.below(20) as i16;
                self.b.load(Size::DW, dst, R6, off);
            }
            ContextKind::TracepointRecord => {
                let off = 8 + 8 * self.c.below(5) as i16;
                self.b.load(Size::DW, dst, R6, off);
            }
            ContextKind::Words { .. } => {
                let off = 8 * self.c.below(4) as i16;
                self.b.load(Size::DW, dst, R6, off);
            }
            ContextKind::Caller => {
                let size = self.size();
                let off = i16::from(size.bytes()) * self.c.below(8) as i16;
                self.b.load(size, dst, R6, off);
            }
            _ => return false,
        }
        true
    }

    fn some_field(
        &mut self,
        wanted: impl Fn(&Field, &FieldAccess) -> bool,
    ) -> Option<(&'static Field, &'static FieldAccess)> {
        let access = context::access(self.site.prog_type, self.site.attach_type)?;
        let list: Vec<(&'static Field, &'static FieldAccess)> = access
            .fields
            .iter()
            .filter_map(|one| Some((access.context.field(one.field)?, one)))
            .filter(|(field, one)| wanted(field, one))
            .collect();
        self.c.pick_ref(&list).copied()
    }

    /// A read of a field by a size that is allowed, or by another.
    pub(super) fn context_read(&mut self) {
        let prog_type = self.site.prog_type;
        let ContextKind::Struct(_) = context::kind(prog_type) else {
            if self.context_number(R3) {
                self.b.mov(R7, R3);
            } else {
                self.scalar_chain();
            }
            return;
        };
        let Some((field, access)) = self.some_field(|_, access| access.reads != 0) else { return };
        let sizes: Vec<u8> = [1u8, 2, 4, 8].into_iter().filter(|size| access.reads & size != 0).collect();
        let size = if self.fault("another size of a field") { self.size() } else { size_of(self.c.pick(&sizes)) };
        let elements = (field.size / u16::from(field.element.max(1))).max(1);
        let mut off = field.offset as i16 + i16::from(field.element) * self.c.below(elements.into()) as i16;
        if size.bytes() < field.element && self.c.chance(30) && field.kind == FieldKind::Scalar {
            off += i16::from(size.bytes());
        }
        if self.fault("not at the start of a field") {
            off += 1;
        }
        self.b.load(size, R3, R6, off);
        match field.kind {
            FieldKind::Scalar => self.b.mov(R7, R3),
            FieldKind::FlowKeys => {
                self.b.mov(R8, R3);
                self.touch(R8, 56, true);
            }
            FieldKind::Sock | FieldKind::SockCommonOrNull | FieldKind::SockOrNull => {
                let end = self.b.label();
                self.b.mov(R8, R3);
                if field.kind != FieldKind::Sock || self.c.chance(30) {
                    self.null_check(R8, end);
                }
                let off = self.c.pick(&[4i16, 8, 12, 0, 72]);
                self.b.load(Size::W, R2, R8, off);
                self.b.here(end);
            }
            FieldKind::Kernel(_) => {
                self.b.mov(R8, R3);
                let off = 8 * self.c.below(8) as i16;
                self.b.load(Size::DW, R2, R8, off);
            }
            _ => {}
        }
    }

    pub(super) fn context_write(&mut self) {
        let ContextKind::Struct(_) = context::kind(self.site.prog_type) else {
            if self.site.sleepable || self.fault("a write to a context that is only read") {
                let size = self.size();
                let off = i16::from(size.bytes()) * self.c.below(8) as i16;
                self.b.store(size, R6, off, R7);
            }
            return;
        };
        let any = self.fault("a write to a context that is only read");
        let Some((field, access)) = self.some_field(|_, access| any || access.writes != 0) else {
            return self.context_read();
        };
        let sizes: Vec<u8> = [1u8, 2, 4, 8].into_iter().filter(|size| access.writes & size != 0).collect();
        let size = if self.fault("another size of a field") { self.size() } else { size_of(self.c.pick(&sizes)) };
        let elements = (field.size / u16::from(field.element.max(1))).max(1);
        let off = field.offset as i16 + i16::from(field.element) * self.c.below(elements.into()) as i16;
        if self.c.chance(60) {
            self.b.store(size, R6, off, R7);
        } else {
            self.b.store_k(size, R6, off, 1);
        }
    }

    /// Anywhere in the context, or just outside; or by an address that is not the context's start.
    pub(super) fn context_odd(&mut self) {
        let size = self.size();
        let bytes = i16::from(size.bytes());
        if self.c.chance(60) {
            // A constant is added and taken away, or made part of the distance.
            let by = 4 * self.c.below(8) as i16;
            self.b.mov(R8, R6);
            self.b.alu_k(AluOp::Add, R8, by.into());
            if self.c.chance(50) {
                self.b.alu_k(AluOp::Sub, R8, by.into());
                self.b.mov(R6, R8);
            } else if let Some((field, _)) = self.some_field(|field, access| {
                field.kind == FieldKind::Scalar && access.reads & 4 != 0 && field.element == 4
            }) {
                self.b.load(Size::W, R7, R8, field.offset as i16 - by);
            }
            return;
        }
        if self.c.chance(70) {
            return self.context_read();
        }
        let off = bytes * self.c.below(240 / usize::from(size.bytes())) as i16;
        self.b.load(size, R3, R6, off);
    }

    /// Fields of the current task, or of what the program's arguments point to.
    pub(super) fn object_field(&mut self) {
        let end = self.b.label();
        if self.c.chance(60) && self.may_call("get_current_task_btf") {
            self.b.helper("get_current_task_btf");
            self.b.mov(R8, R0);
        } else if context::kind(self.site.prog_type) != ContextKind::TypedArguments {
            return self.context_read();
        } else {
            let argument = 8 * self.c.below(4) as i16;
            self.b.load(Size::DW, R8, R6, argument);
        }
        for _ in 0..1 + self.c.below(3) {
            let size = self.size();
            let bytes = i16::from(size.bytes());
            let off = bytes * self.c.below(1200 / usize::from(size.bytes())) as i16;
            if self.fault("a write to a kernel object") {
                self.b.store_k(size, R8, off, 0);
            } else if self.c.chance(40) && size == Size::DW {
                // Perhaps it is an address, and leads on.
                self.b.load(Size::DW, R9, R8, off);
                if self.c.chance(50) {
                    self.b.jump_k(JmpOp::Eq, R9, 0, end);
                }
                self.b.load(Size::W, R3, R9, 8);
            } else {
                self.b.load(size, R3, R8, off);
            }
        }
        self.b.here(end);
    }

    /// Tasks by number: a reference that must be given back.
    pub(super) fn object_reference(&mut self) {
        let end = self.b.label();
        self.b.mov(R1, R7);
        self.b.kfunc("bpf_task_from_pid");
        self.null_check(R0, end);
        self.b.mov(R8, R0);
        let off = 8 * self.c.below(100) as i16;
        self.b.load(Size::DW, R3, R8, off);
        if self.c.chance(30) {
            self.b.mov(R1, R8);
            self.b.kfunc("bpf_task_acquire");
            let skip = self.b.label();
            self.null_check(R0, skip);
            if !self.fault("a task that is not released") {
                self.b.mov(R1, R0);
                self.b.kfunc("bpf_task_release");
            }
            self.b.here(skip);
        }
        if self.fault("a task that is not released on one path") {
            self.some_branch(R7, end);
        }
        if !self.fault("a task that is not released") {
            self.b.mov(R1, R8);
            self.b.kfunc("bpf_task_release");
        }
        if self.fault("a task is used that was released") {
            self.b.mov(R1, R8);
            self.b.kfunc("bpf_task_release");
        }
        self.b.here(end);
    }

    /// A section in which what is read stays.
    pub(super) fn object_rcu(&mut self) {
        let end = self.b.label();
        self.b.kfunc("bpf_rcu_read_lock");
        self.b.helper("get_current_task_btf");
        self.b.mov(R8, R0);
        let off = 8 * self.c.below(300) as i16;
        self.b.load(Size::DW, R9, R8, off);
        if self.c.chance(30) {
            self.b.jump_k(JmpOp::Eq, R9, 0, end);
            self.b.load(Size::DW, R3, R9, 16);
        }
        self.b.here(end);
        if !self.fault("a section that is not left") {
            self.b.kfunc("bpf_rcu_read_unlock");
        }
        if self.fault("a section is left twice") {
            self.b.kfunc("bpf_rcu_read_unlock");
        }
        self.b.mov_k(R0, 0);
    }
}
