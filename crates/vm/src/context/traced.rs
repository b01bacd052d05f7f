//! Contexts of tracing programs: records and arguments of tracepoints, registers, samples.
//!
//! Limits: an argument that is a pointer to an object of the kernel (`struct task_struct *`) cannot be given, since the
//! object is not there; [`typed_arguments`] finds that out before a program is attached.

use super::{Access, Context};
use skep_abi::syscalls::Arch;
use skep_btf::{Btf, Kind, Type, TypeId};

/// Bytes of a tracepoint's record that every tracepoint has and programs may not read. Source: `tp_prog_is_valid_access`.
const COMMON_BYTES: u16 = 8;

impl Context<'_> {
    /// A tracepoint's record, as its `format` in tracefs describes it; the first 8 bytes are there but not for programs.
    pub fn tracepoint(record: &[u8]) -> Context<'static> {
        Context::of_bytes(record, Access::ReadFrom(COMMON_BYTES))
    }

    /// The arguments of a raw tracepoint, 8 bytes each.
    pub fn words(arguments: &[u64]) -> Context<'static> {
        let bytes: Vec<u8> = arguments.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Context::of_bytes(&bytes, Access::ReadOnly)
    }

    /// The arguments of a tracepoint whose types are known, for raw tracepoints and those by BTF. The one that is a pointer to registers, if there
    /// is one, points to `registers`.
    pub fn typed_arguments(types: &[TypedArgument], arguments: &[u64], registers: &[u8]) -> Context<'static> {
        let words: Vec<u8> = arguments.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut context = Context::of_parts(&words, Access::ReadOnly, registers);
        for (place, kind) in types.iter().enumerate().take(arguments.len()) {
            if *kind == TypedArgument::Registers {
                context.point(8 * place);
            }
        }
        context
    }

    /// The registers at a probe, laid out as this machine's `struct pt_regs` is.
    pub fn registers(registers: &[u8]) -> Context<'static> {
        Context::of_bytes(registers, Access::ReadOnly)
    }

    /// A sample of a perf event: registers, the period it was taken by, and the address that was accessed, 0 if the event has
    /// none. `None` where the registers are not as large as this machine's.
    pub fn perf_event(registers: &[u8], sample_period: u64, addr: u64) -> Option<Context<'static>> {
        let size = usize::from(skep_abi::context::registers(Arch::of_this_build()?).size);
        let bytes = [registers, &sample_period.to_ne_bytes(), &addr.to_ne_bytes()].concat();
        (registers.len() == size).then(|| Context::of_bytes(&bytes, Access::ReadOnly))
    }
}

/// What an argument of a tracepoint is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TypedArgument {
    /// A number.
    Number,
    /// A pointer to `struct pt_regs`.
    Registers,
    /// A pointer to an object of the kernel, by its C type.
    Kernel(String),
}

/// The types of a tracepoint's arguments by the kernel's BTF; `None` if it has no tracepoint of this name.
pub fn typed_arguments(btf: &Btf, tracepoint: &str) -> Option<Vec<TypedArgument>> {
    let hook = btf.find(&format!("btf_trace_{tracepoint}"), Kind::Typedef)?;
    let pointer = btf.resolve(hook).ok()?;
    let Type::Ptr { target } = btf.get(pointer).ok()? else { return None };
    let Type::FuncProto(prototype) = btf.get(btf.resolve(target).ok()?).ok()? else { return None };
    // The first is the kernel's own.
    prototype.params.iter().skip(1).map(|param| argument(btf, param.ty)).collect()
}

fn argument(btf: &Btf, id: TypeId) -> Option<TypedArgument> {
    let Type::Ptr { target } = btf.get(btf.resolve(id).ok()?).ok()? else { return Some(TypedArgument::Number) };
    let target = btf.resolve(target).ok()?;
    Some(match btf.get(target).ok()? {
        Type::Struct(object) if object.name == "pt_regs" => TypedArgument::Registers,
        Type::Struct(object) => TypedArgument::Kernel(format!("struct {} *", object.name)),
        Type::Union(object) => TypedArgument::Kernel(format!("union {} *", object.name)),
        Type::Void => TypedArgument::Kernel("void *".to_owned()),
        other => TypedArgument::Kernel(format!("{} *", other.name())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Vm};
    use skep_abi::ProgramType;

    fn run(text: &str, context: &mut Context<'_>) -> Result<u64, crate::Fault> {
        let vm = Vm::new(Config::default());
        let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap());
        let program = vm.load_slots("test", ProgramType::Unspec, &slots).unwrap();
        vm.run(&program, context)
    }

    #[test]
    fn a_record_is_readable_behind_its_common_part() {
        let mut record = Context::tracepoint(&[1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(run("r0 = *(u32 *)(r1 + 8)\nexit", &mut record), Ok(7));
        for text in [
            "r0 = *(u32 *)(r1 + 0)\nexit",
            "r0 = *(u64 *)(r1 + 4)\nexit",
            "*(u32 *)(r1 + 8) = 1\nr0 = 0\nexit",
            "r0 = *(u32 *)(r1 + 12)\nexit",
        ] {
            run(text, &mut record).unwrap_err();
        }
    }

    #[test]
    fn a_pointer_to_registers_leads_to_them() {
        let types = [TypedArgument::Registers, TypedArgument::Number];
        let registers: Vec<u8> = (0..21u64).flat_map(|register| (register * 3).to_ne_bytes()).collect();
        let mut context = Context::typed_arguments(&types, &[0, 5], &registers);
        let text = "r2 = *(u64 *)(r1 + 0)\nr0 = *(u64 *)(r2 + 112)\nr3 = *(u64 *)(r1 + 8)\nr0 += r3\nexit";
        assert_eq!(run(text, &mut context), Ok(14 * 3 + 5));
        run("r2 = *(u64 *)(r1 + 0)\n*(u64 *)(r2 + 112) = 1\nexit", &mut context).unwrap_err();
    }

    #[test]
    fn registers_can_be_copied_by_a_verified_program_too() {
        let types = [TypedArgument::Registers, TypedArgument::Number];
        let text = "r3 = *(u64 *)(r1 + 0)\nr3 += 112\nr2 = 8\nr1 = r10\nr1 += -8\ncall 113\nr1 = *(u64 *)(r10 - 8)\n\
                    r0 += r1\nexit";
        let slots = skep_isa::encode(&skep_isa::assemble(text).unwrap());
        for memory in [crate::Memory::Checked, crate::Memory::Fast] {
            let vm = Vm::new(Config { memory, ..Config::default() });
            let program = vm.load_slots("test", ProgramType::RawTracepoint, &slots).unwrap();
            let mut context = Context::typed_arguments(&types, &[0, 5], &[7; 168]);
            assert_eq!(vm.run(&program, &mut context), Ok(0x0707_0707_0707_0707), "{memory:?}");
        }
    }

    #[test]
    fn a_sample_has_registers_period_and_address() {
        let Some(mut sample) = Context::perf_event(&[1; 168], 99, 0x1234) else {
            assert_ne!(Arch::of_this_build().map(|arch| skep_abi::context::registers(arch).size), Some(168));
            return;
        };
        assert_eq!(
            run("r0 = *(u64 *)(r1 + 168)\nr2 = *(u64 *)(r1 + 176)\nr0 += r2\nexit", &mut sample),
            Ok(99 + 0x1234)
        );
        assert!(Context::perf_event(&[1; 160], 99, 0).is_none());
    }

    #[test]
    fn the_kernel_says_what_arguments_are() {
        let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("this kernel has no BTF to ask");
            return;
        };
        let btf = Btf::parse(btf).unwrap();
        let kernel = |name: &str| TypedArgument::Kernel(name.to_owned());
        for (tracepoint, expected) in [
            ("sys_enter", Some(vec![TypedArgument::Registers, TypedArgument::Number])),
            ("sched_process_fork", Some(vec![kernel("struct task_struct *"); 2])),
            ("no_such_tracepoint", None),
        ] {
            assert_eq!(typed_arguments(&btf, tracepoint), expected, "{tracepoint}");
        }
    }
}
