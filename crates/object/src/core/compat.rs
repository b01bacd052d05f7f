//! When two types of different BTFs count as the same: three relations, from loose to strict.
//!
//! - [`fields`]: may a member of the one be read as a member of the other? Any two structs, any two pointers, any two
//!   integers; enumerations by name.
//! - [`types`]: is it the same type by and large? Kinds must agree all the way down, contents of structs are not looked at.
//! - [`matches()`]: does the target have everything that the local type has, with the same types?
//!
//! Source of the rules: `tools/lib/bpf/relo_core.c`. Limits: [`MAX_DEPTH`] nested types; [`Budget`] for all questions of
//! one record together, since nested structs can be asked about exponentially often.

use skep_btf::{Array, Btf, Kind, Type, TypeId};

use super::essential_name;

/// Nested types that a comparison follows.
const MAX_DEPTH: u32 = 32;

/// Members and types that one record may look at. The largest struct of a kernel has some hundreds of members; a record
/// looks at some thousands, one that asks for a whole `task_struct` to match at some hundred thousands.
const MAX_COMPARED: u32 = 10_000_000;

/// How much of [`MAX_COMPARED`] is left.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    pub(super) fn new() -> Budget {
        Budget(MAX_COMPARED)
    }

    pub(super) fn spend(&mut self) -> Result<(), String> {
        let too_many = || format!("the types are too entangled to compare (more than {MAX_COMPARED} steps)");
        self.0 = self.0.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }
}

fn text(e: skep_btf::Error) -> String {
    e.to_string()
}

/// Whether kinds agree, both forms of enumerations taken as one.
pub(super) fn kinds(a: Kind, b: Kind) -> bool {
    let is_enum = |k| matches!(k, Kind::Enum | Kind::Enum64);
    a == b || is_enum(a) && is_enum(b)
}

/// Whether a member of the local type may be read from a member of the target type.
pub(super) fn fields(local: &Btf, local_id: TypeId, target: &Btf, target_id: TypeId) -> Result<bool, String> {
    let (mut local_id, mut target_id) = (local_id, target_id);
    for _ in 0..MAX_DEPTH {
        let a = local.get(local.resolve(local_id).map_err(text)?).map_err(text)?;
        let b = target.get(target.resolve(target_id).map_err(text)?).map_err(text)?;
        return Ok(match (&a, &b) {
            (Type::Struct(_) | Type::Union(_), Type::Struct(_) | Type::Union(_)) => true,
            (Type::Ptr { .. }, Type::Ptr { .. }) | (Type::Float { .. }, Type::Float { .. }) => true,
            (Type::Fwd { name: a, .. }, Type::Fwd { name: b, .. }) => same_or_anonymous(a, b),
            (Type::Enum(a), Type::Enum(b)) => same_or_anonymous(a.name, b.name),
            // Bit fields of old BTF are not comparable.
            (Type::Int(a), Type::Int(b)) => a.offset == 0 && b.offset == 0,
            (Type::Array(a), Type::Array(b)) => {
                (local_id, target_id) = (a.element, b.element);
                continue;
            }
            _ => false,
        });
    }
    Err(format!("types are nested more than {MAX_DEPTH} deep"))
}

fn same_or_anonymous(a: &str, b: &str) -> bool {
    a.is_empty() || b.is_empty() || essential_name(a) == essential_name(b)
}

/// Whether the target type is the local type by and large. The caller has compared the names.
pub(super) fn types(
    local: &Btf,
    local_id: TypeId,
    target: &Btf,
    target_id: TypeId,
    level: u32,
    budget: &mut Budget,
) -> Result<bool, String> {
    let (mut local_id, mut target_id) = (local_id, target_id);
    if !kinds(local.kind(local_id).map_err(text)?, target.kind(target_id).map_err(text)?) {
        return Ok(false);
    }
    for _ in 0..MAX_DEPTH {
        budget.spend()?;
        local_id = local.resolve(local_id).map_err(text)?;
        target_id = target.resolve(target_id).map_err(text)?;
        let kind = local.kind(local_id).map_err(text)?;
        if !kinds(kind, target.kind(target_id).map_err(text)?) {
            return Ok(false);
        }
        if matches!(kind, Kind::Void | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd) {
            return Ok(true);
        }
        match (local.get(local_id).map_err(text)?, target.get(target_id).map_err(text)?) {
            (Type::Int(a), Type::Int(b)) => return Ok(a.offset == 0 && b.offset == 0),
            (Type::Ptr { target: a }, Type::Ptr { target: b }) => (local_id, target_id) = (a, b),
            (Type::Array(Array { element: a, .. }), Type::Array(Array { element: b, .. })) => {
                (local_id, target_id) = (a, b);
            }
            (Type::FuncProto(a), Type::FuncProto(b)) => {
                if a.params.len() != b.params.len() {
                    return Ok(false);
                }
                for (a, b) in a.params.iter().zip(&b.params) {
                    let level = level.checked_sub(1).ok_or("function types are nested too deep")?;
                    let (a, b) = (local.resolve(a.ty).map_err(text)?, target.resolve(b.ty).map_err(text)?);
                    if !types(local, a, target, b, level, budget)? {
                        return Ok(false);
                    }
                }
                (local_id, target_id) = (a.ret, b.ret);
            }
            _ => return Ok(false),
        }
    }
    Err(format!("types are nested more than {MAX_DEPTH} deep"))
}

fn names_match(local: &str, target: &str) -> bool {
    essential_name(local) == essential_name(target)
}

/// Whether the target type has everything that the local type has. Behind a pointer, structs are compared by name only.
pub(super) fn matches(
    local: &Btf,
    local_id: TypeId,
    target: &Btf,
    target_id: TypeId,
    behind_pointer: bool,
    level: u32,
    budget: &mut Budget,
) -> Result<bool, String> {
    let level = level.checked_sub(1).ok_or("types are nested too deep")?;
    let (mut local_id, mut target_id, mut behind_pointer) = (local_id, target_id, behind_pointer);
    for _ in 0..MAX_DEPTH {
        budget.spend()?;
        local_id = local.resolve(local_id).map_err(text)?;
        target_id = target.resolve(target_id).map_err(text)?;
        if !names_match(local.name(local_id).map_err(text)?, target.name(target_id).map_err(text)?) {
            return Ok(false);
        }
        let (a, b) = (local.get(local_id).map_err(text)?, target.get(target_id).map_err(text)?);
        match (a, b) {
            (Type::Void, Type::Void) => return Ok(true),
            (Type::Fwd { is_union: a, .. }, Type::Fwd { is_union: b, .. }) => return Ok(a == b),
            (Type::Fwd { is_union, .. }, Type::Struct(_)) => return Ok(behind_pointer && !is_union),
            (Type::Fwd { is_union, .. }, Type::Union(_)) => return Ok(behind_pointer && is_union),
            (Type::Struct(_), Type::Fwd { is_union, .. }) => return Ok(behind_pointer && !is_union),
            (Type::Union(_), Type::Fwd { is_union, .. }) => return Ok(behind_pointer && is_union),
            (Type::Enum(a), Type::Enum(b)) => {
                if a.size != b.size || a.variants.len() > b.variants.len() {
                    return Ok(false);
                }
                for variant in &a.variants {
                    let mut found = false;
                    for other in &b.variants {
                        budget.spend()?;
                        if names_match(variant.name, other.name) {
                            found = true;
                            break;
                        }
                    }
                    if !found {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            (Type::Struct(a), Type::Struct(b)) | (Type::Union(a), Type::Union(b)) => {
                if behind_pointer {
                    return Ok(true);
                }
                if a.members.len() > b.members.len() {
                    return Ok(false);
                }
                for member in &a.members {
                    let mut found = false;
                    for other in &b.members {
                        budget.spend()?;
                        if names_match(member.name, other.name)
                            && matches(local, member.ty, target, other.ty, behind_pointer, level, budget)?
                        {
                            found = true;
                            break;
                        }
                    }
                    if !found {
                        return Ok(false);
                    }
                }
                return Ok(true);
            }
            (Type::Int(a), Type::Int(b)) => return Ok(a.size == b.size && a.signed == b.signed),
            (Type::Ptr { target: a }, Type::Ptr { target: b }) => {
                behind_pointer = true;
                (local_id, target_id) = (a, b);
            }
            (Type::Array(a), Type::Array(b)) => {
                if a.count != b.count {
                    return Ok(false);
                }
                (local_id, target_id) = (a.element, b.element);
            }
            (Type::FuncProto(a), Type::FuncProto(b)) => {
                if a.params.len() != b.params.len() {
                    return Ok(false);
                }
                for (a, b) in a.params.iter().zip(&b.params) {
                    if !matches(local, a.ty, target, b.ty, behind_pointer, level, budget)? {
                        return Ok(false);
                    }
                }
                (local_id, target_id) = (a.ret, b.ret);
            }
            _ => return Ok(false),
        }
    }
    Err(format!("types are nested more than {MAX_DEPTH} deep"))
}
