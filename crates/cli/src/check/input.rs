//! From what stands on the command line to specs that can be checked.

use super::running_kernel;
use crate::args::{CheckArgs, ProgramKind};
use crate::failure::{Exit, Failure};
use crate::run::source;
use skep_abi::maps::{self, EntriesRule};
use skep_abi::{AttachType, KernelVersion, MapType, ProgramType};
use skep_btf::{Btf, Kind};
use skep_isa::{Endian, InsnIdx, Raw};
use skep_object::{
    ExternKind, FuncSpan, Hook, MapOrigin, ObjectSpec, ProgramIdx, ProgramSpec, RelocKind, Target, core, externs,
};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// What is to be checked, and against what.
pub(crate) struct Input {
    /// With CO-RE records applied and configuration filled in, as far as that can be had.
    pub(crate) spec: ObjectSpec,
    /// The types of the kernel that it is checked for.
    pub(crate) btf: Option<Btf>,
    /// The kernel that it is checked for.
    pub(crate) kernel: KernelVersion,
    /// What is odd but does not decide.
    pub(crate) warnings: Vec<String>,
}

/// Reads a file, or bytecode from standard input.
pub(super) fn read(args: &CheckArgs, file: &Path) -> Result<Input, Failure> {
    let mut spec = match &args.raw {
        Some(kind) => raw(kind, file)?,
        None => source::read_file(file, &args.cflags)?,
    };
    let mut warnings = std::mem::take(&mut spec.warnings);
    set_types(args, &mut spec, &mut warnings)?;
    let btf = target_btf(args.btf.as_deref(), &spec, &mut warnings)?;
    warnings.extend(maps_without_size(&spec));
    fit(spec, btf, warnings)
}

/// Makes of a spec what the running kernel is about to be given.
pub(crate) fn for_this_kernel(spec: ObjectSpec) -> Result<Input, Failure> {
    let mut warnings = Vec::new();
    let btf = target_btf(None, &spec, &mut warnings)?;
    fit(spec, btf, warnings)
}

/// Fills in what depends on the kernel.
fn fit(mut spec: ObjectSpec, btf: Option<Btf>, mut warnings: Vec<String>) -> Result<Input, Failure> {
    let kernel = running_kernel();
    fill_config(&mut spec, kernel, &mut warnings);
    let targets: Vec<Btf> = btf.iter().cloned().collect();
    core::relocate_with(&mut spec, &targets).map_err(|error| Failure::say(Exit::NotSo, error))?;
    warnings.extend(missing_externs(&spec, btf.as_ref()));
    Ok(Input { spec, btf, kernel, warnings })
}

/// The programs that are to be checked: all, also those that are loaded on demand only.
pub(super) fn chosen(args: &CheckArgs, spec: &ObjectSpec) -> Result<Vec<ProgramIdx>, Failure> {
    let all = || (0..spec.programs.len()).map(ProgramIdx);
    if args.programs.is_empty() {
        return Ok(all().collect());
    }
    if let Some(name) = args.programs.iter().find(|name| spec.program(name).is_none()) {
        let names: Vec<&str> = spec.programs.iter().map(|program| program.name.as_str()).collect();
        let text = format!("check program `{name}`: {} has {}", spec.name, names.join(", "));
        return Err(Failure::say(Exit::Usage, text));
    }
    Ok(all().filter(|index| args.programs.contains(&spec.programs[index.0].name)).collect())
}

/// Bytecode from standard input, as hex digits.
fn raw(kind: &ProgramKind, file: &Path) -> Result<ObjectSpec, Failure> {
    if file != Path::new("-") {
        let text = "check --raw TYPE -: bytecode is read from standard input; write - in place of a file";
        return Err(Failure::say(Exit::Usage, text));
    }
    /// Hex digits that are read: the largest program, with some white space.
    const MAX_INPUT_BYTES: u64 = 64 << 20;
    let fail = |cause: &dyn std::fmt::Display| {
        Failure::say(Exit::NotSo, format!("read bytecode from standard input: {cause}"))
    };
    let mut text = String::new();
    std::io::stdin().take(MAX_INPUT_BYTES).read_to_string(&mut text).map_err(|error| fail(&error))?;
    let bytes: crate::exec::HexBytes = text.parse().map_err(|error: String| fail(&error))?;
    let (slots, rest) = bytes.0.as_chunks::<8>();
    if !rest.is_empty() || slots.is_empty() {
        let count = bytes.0.len();
        return Err(fail(&format!("it has {count} bytes; a program has 8 bytes an instruction, at least one")));
    }
    let insns: Vec<Raw> = slots.iter().map(|slot| Raw::from_bytes(*slot, Endian::Little)).collect();
    let hook = Hook {
        prog_type: kind.prog_type,
        attach_type: kind.attach_type,
        target: Target::Unspecified,
        sleepable: kind.sleepable,
        xdp_frags: false,
        autoload: true,
    };
    let program = ProgramSpec {
        name: "stdin".to_owned(),
        section: kind.prog_type.to_string(),
        hook,
        insns,
        relocs: Vec::new(),
        core_relocs: Vec::new(),
        funcs: vec![FuncSpan { start: InsnIdx(0), name: "stdin".into(), ty: skep_btf::TypeId::VOID }],
        lines: Vec::new(),
        poisoned: Vec::new(),
    };
    Ok(ObjectSpec {
        name: "-".to_owned(),
        endian: Endian::Little,
        license: "GPL".to_owned(),
        kernel_version: 0,
        programs: vec![program],
        maps: Vec::new(),
        externs: Vec::new(),
        btf: None,
        warnings: Vec::new(),
    })
}

/// What `--type` says of programs.
fn set_types(args: &CheckArgs, spec: &mut ObjectSpec, warnings: &mut Vec<String>) -> Result<(), Failure> {
    for choice in &args.types {
        let mut used = false;
        for program in &mut spec.programs {
            let fits = match &choice.section {
                Some(section) => *section == program.section,
                // Without a section it is for programs whose own does not say.
                None => program.hook.prog_type == ProgramType::Unspec,
            };
            if fits {
                used = true;
                // Said by whoever read the file, of names that say nothing.
                let said = format!("section {}: no convention", program.section);
                warnings.retain(|warning| !warning.starts_with(&said));
                program.hook.prog_type = choice.kind.prog_type;
                program.hook.attach_type = choice.kind.attach_type;
                program.hook.sleepable |= choice.kind.sleepable;
            }
        }
        match (&choice.section, used) {
            (Some(section), false) => {
                warnings.push(format!("--type {section}=...: there is no program in such a section"));
            }
            (None, false) => warnings.push("--type: every section says what its program is".to_owned()),
            _ => {}
        }
    }
    Ok(())
}

/// The types to check against: from the file that was named, else the running kernel's, where any program needs them.
fn target_btf(file: Option<&Path>, spec: &ObjectSpec, warnings: &mut Vec<String>) -> Result<Option<Btf>, Failure> {
    if let Some(path) = file {
        // A file that is not there is wrong usage, one that may not be read a matter of rights.
        std::fs::File::open(path)
            .map_err(|error| Failure::say(source::exit_of(&error), format!("read {}: {error}", path.display())))?;
        let btf = skep_kernel::btf_of_file(path).map_err(|error| Failure::new(Exit::from(error.class()), error))?;
        return Ok(Some(btf));
    }
    let demanded = core::needs_target(spec) || spec.programs.iter().any(wants_types);
    let useful = demanded || !spec.externs.is_empty();
    match skep_kernel::kernel_btf() {
        _ if !useful => Ok(None),
        Ok(btf) => Ok(Some(btf)),
        Err(error) if demanded => Err(Failure::say(
            Exit::Unavailable,
            format!("check {}: it needs the types of a kernel: {error}; give them with --btf FILE", spec.name),
        )),
        Err(error) => {
            warnings.push(format!("the kernel's types cannot be had: {error}"));
            Ok(None)
        }
    }
}

/// Whether the type of the program's context comes from the kernel's types.
fn wants_types(program: &ProgramSpec) -> bool {
    let hook = &program.hook;
    matches!(hook.prog_type, ProgramType::Tracing | ProgramType::Lsm | ProgramType::Ext)
        || hook.attach_type == Some(AttachType::LsmCgroup)
}

/// Loaders refuse a map without a size; for a check it is as good as any.
fn maps_without_size(spec: &ObjectSpec) -> impl Iterator<Item = String> {
    let declared = spec.maps.iter().filter(|map| matches!(map.origin, MapOrigin::Declared | MapOrigin::Legacy));
    let may_be_0 = |kind| kind == MapType::PerfEventArray || maps::facts(kind).entries == EntriesRule::Exactly(0);
    declared.filter(move |map| map.max_entries == 0 && !may_be_0(map.map_type)).map(|map| {
        format!("map `{}` has no max_entries: it cannot be made like this; give it some in the source", map.name)
    })
}

/// Values of the kernel's configuration, as far as they can be had: what is not set stays 0.
fn fill_config(spec: &mut ObjectSpec, kernel: KernelVersion, warnings: &mut Vec<String>) {
    if !spec.externs.iter().any(|external| matches!(external.kind, ExternKind::Kconfig { .. })) {
        return;
    }
    let config = skep_kernel::kconfig::Kconfig::read().unwrap_or_default();
    // What "not set" is for a variable of its type: n, or 0.
    let mut unset: HashMap<String, String> = HashMap::new();
    for external in &spec.externs {
        if let (ExternKind::Kconfig { ty, .. }, Some(btf)) = (external.kind, &spec.btf) {
            let takes = |text: &&str| externs::kconfig_value(btf, ty, spec.endian, text).is_ok();
            let text = ["n", "0", "\"\""].into_iter().find(takes).unwrap_or("n");
            unset.insert(external.name.clone(), text.to_owned());
        }
    }
    let mut missing = Vec::new();
    let filled = externs::set_kconfig(spec, |name| match name {
        "LINUX_KERNEL_VERSION" => Some(kernel.code().to_string()),
        "LINUX_HAS_SYSCALL_WRAPPER" | "LINUX_HAS_BPF_COOKIE" => Some("1".to_owned()),
        _ => {
            let value = config.get(name).map(str::to_owned);
            if value.is_none() {
                missing.push(name.to_owned());
            }
            value.or_else(|| unset.get(name).cloned())
        }
    });
    match filled {
        Ok(()) if missing.is_empty() => {}
        Ok(()) => warnings.push(format!("this kernel does not set {}: taken as off", missing.join(", "))),
        Err(error) => warnings.push(error.to_string()),
    }
}

/// Externs that the target does not have and that are not weak: a loader refuses them.
fn missing_externs(spec: &ObjectSpec, btf: Option<&Btf>) -> Vec<String> {
    let used = |index: usize| {
        let relocs = spec.programs.iter().flat_map(|program| &program.relocs);
        relocs.into_iter().any(|reloc| match reloc.kind {
            RelocKind::Extern(found) | RelocKind::ExternCall(found) => found.0 == index,
            _ => false,
        })
    };
    let Some(btf) = btf else { return Vec::new() };
    let mut warnings = Vec::new();
    for (index, external) in spec.externs.iter().enumerate().filter(|(_, external)| !external.weak) {
        let (what, kind) = match external.kind {
            ExternKind::Kfunc { .. } => ("function", Kind::Func),
            ExternKind::TypedKsym { .. } => ("variable", Kind::Var),
            ExternKind::UntypedKsym | ExternKind::Kconfig { .. } => continue,
        };
        let name = external.lookup_name();
        if used(index) && btf.find(name, kind).is_none() {
            warnings.push(format!(
                "the kernel's types have no {what} `{name}`: it may be in a module, or in another version"
            ));
        }
    }
    warnings
}
