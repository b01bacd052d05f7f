//! What a CO-RE record refers to: a path of members and array indices through the types of one BTF.
//!
//! `&task->group_leader->pid` makes two records; that of `struct task_struct { ...; struct { int a; pid_t pid; }; }` and
//! access string `0:7:1` is the path (index 0 of the pointer, member `pid`), since anonymous structs leave no trace in a
//! path: the target may nest the member differently.
//!
//! Limits: [`MAX_STEPS`] numbers in an access string, as the kernel and libbpf have it.

use skep_abi::insn::CoreReloKind;
use skep_btf::{Array, Btf, Composite, Kind, Member, Type, TypeId};

use super::compat::{self, Budget};

/// Numbers in an access string.
pub(crate) const MAX_STEPS: usize = 64;

/// One step of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step<'a> {
    /// The struct or union that has the member; for an index the element's type.
    pub(super) ty: TypeId,
    /// Index of the member, enumerator or element.
    pub(super) index: u32,
    /// Name of the member or enumerator, `None` for an element.
    pub(super) name: Option<&'a str>,
}

/// A path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Access<'a> {
    /// Where it starts.
    pub(super) root: TypeId,
    /// Empty for a record about a type as a whole.
    pub(super) steps: Vec<Step<'a>>,
    /// Bits from the start of the root to what the path leads to.
    pub(super) bit_offset: u64,
}

fn text(e: skep_btf::Error) -> String {
    e.to_string()
}

/// The struct or union beneath a type.
pub(super) fn composite(btf: &Btf, id: TypeId) -> Result<Option<Composite<'_>>, String> {
    Ok(match btf.get(id).map_err(text)? {
        Type::Struct(found) | Type::Union(found) => Some(found),
        _ => None,
    })
}

fn element_bits(btf: &Btf, element: TypeId, index: u32) -> Result<u64, String> {
    let size = btf.size_of(element).map_err(text)?;
    size.checked_mul(8)
        .and_then(|bits| bits.checked_mul(u64::from(index)))
        .ok_or_else(|| "an offset has more than 64 bits".to_owned())
}

fn add(a: u64, b: u64) -> Result<u64, String> {
    a.checked_add(b).ok_or_else(|| "an offset has more than 64 bits".to_owned())
}

/// Whether an array of no elements is the open end of the struct that the last step leads into.
fn is_flexible(btf: &Btf, last: Option<&Step<'_>>, array: &Array) -> bool {
    let Some(Step { ty, index, name: Some(_) }) = last else { return false };
    array.count == 0
        && composite(btf, *ty).ok().flatten().is_some_and(|c| c.members.len() as u64 == u64::from(*index) + 1)
}

impl<'a> Access<'a> {
    /// The path that a record of the object's own BTF describes.
    pub(super) fn parse(btf: &'a Btf, root: TypeId, access: &str, kind: CoreReloKind) -> Result<Access<'a>, String> {
        let mut path = Access { root, steps: Vec::new(), bit_offset: 0 };
        if kind.is_type() {
            return if access == "0" { Ok(path) } else { Err(format!("access string {access:?} should be \"0\"")) };
        }
        let numbers = access
            .split(':')
            .map(|part| part.parse::<u32>().map_err(|_| format!("access string {access:?} is not numbers and colons")))
            .collect::<Result<Vec<u32>, String>>()?;
        if numbers.len() > MAX_STEPS {
            return Err(format!("access string of {} numbers, more than {MAX_STEPS}", numbers.len()));
        }
        let Some((&first, rest)) = numbers.split_first() else { return Err("the access string is empty".to_owned()) };
        let mut at = btf.resolve(root).map_err(text)?;
        if kind.is_enumval() {
            let Type::Enum(found) = btf.get(at).map_err(text)? else {
                return Err(format!("{} is no enumeration", btf.type_name(root)));
            };
            let variant = found.variants.get(first as usize).filter(|_| rest.is_empty());
            let variant = variant.ok_or_else(|| format!("{} has no enumerator {access}", btf.type_name(root)))?;
            path.steps.push(Step { ty: at, index: first, name: Some(variant.name) });
            return Ok(path);
        }
        path.steps.push(Step { ty: at, index: first, name: None });
        path.bit_offset = element_bits(btf, at, first)?;
        for &index in rest {
            at = btf.resolve(at).map_err(text)?;
            match btf.get(at).map_err(text)? {
                Type::Struct(found) | Type::Union(found) => {
                    let member = found
                        .members
                        .get(index as usize)
                        .ok_or_else(|| format!("{} has no member {index}", btf.type_name(at)))?;
                    path.bit_offset = add(path.bit_offset, u64::from(member.bit_offset))?;
                    if !member.name.is_empty() {
                        path.steps.push(Step { ty: at, index, name: Some(member.name) });
                    }
                    at = member.ty;
                }
                Type::Array(array) => {
                    if index >= array.count && !is_flexible(btf, path.steps.last(), &array) {
                        return Err(format!("index {index} is outside {}", btf.type_name(at)));
                    }
                    at = btf.resolve(array.element).map_err(text)?;
                    path.steps.push(Step { ty: at, index, name: None });
                    path.bit_offset = add(path.bit_offset, element_bits(btf, at, index)?)?;
                }
                other => return Err(format!("the path leads through {}, a {}", btf.type_name(at), other.kind())),
            }
        }
        Ok(path)
    }

    /// The same path from a type of the target, if it is there.
    pub(super) fn match_field<'t>(
        &self,
        local: &Btf,
        target: &'t Btf,
        root: TypeId,
        budget: &mut Budget,
    ) -> Result<Option<Access<'t>>, String> {
        let mut path = Access { root, steps: Vec::new(), bit_offset: 0 };
        let mut at = root;
        for (i, step) in self.steps.iter().enumerate() {
            at = target.resolve(at).map_err(text)?;
            let Some(name) = step.name else {
                if i > 0 {
                    let Type::Array(array) = target.get(at).map_err(text)? else { return Ok(None) };
                    if step.index >= array.count && !is_flexible(target, path.steps.last(), &array) {
                        return Ok(None);
                    }
                    at = target.resolve(array.element).map_err(text)?;
                }
                path.steps.push(Step { ty: at, index: step.index, name: None });
                path.bit_offset = add(path.bit_offset, element_bits(target, at, step.index)?)?;
                continue;
            };
            let local_type = composite(local, step.ty)?
                .and_then(|c| c.members.get(step.index as usize).map(|m| m.ty))
                .ok_or_else(|| format!("the path's member {name} is gone"))?;
            let wanted = Wanted { local, name, ty: local_type };
            match find_member(&wanted, target, at, 0, budget)? {
                Some((step, member, bits)) => {
                    path.bit_offset = add(path.bit_offset, bits)?;
                    path.steps.push(step);
                    at = member.ty;
                }
                None => return Ok(None),
            }
        }
        Ok(Some(path))
    }

    /// The enumerator of the same name in an enumeration of the target.
    pub(super) fn match_enumerator<'t>(&self, target: &'t Btf, root: TypeId) -> Result<Option<Access<'t>>, String> {
        let wanted = self.steps.first().and_then(|s| s.name).map(super::essential_name);
        let at = target.resolve(root).map_err(text)?;
        let Type::Enum(found) = target.get(at).map_err(text)? else { return Ok(None) };
        let place = found.variants.iter().position(|v| Some(super::essential_name(v.name)) == wanted);
        Ok(place.and_then(|place| {
            let name = found.variants.get(place)?.name;
            let step = Step { ty: at, index: u32::try_from(place).ok()?, name: Some(name) };
            Some(Access { root, steps: vec![step], bit_offset: 0 })
        }))
    }

    /// The path as C writes it: `.mm[3].pgd`.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        for (i, step) in self.steps.iter().enumerate() {
            match step.name {
                Some(name) => {
                    out.push('.');
                    out.push_str(name);
                }
                None if i > 0 || step.index > 0 => out.push_str(&format!("[{}]", step.index)),
                None => {}
            }
        }
        out
    }
}

struct Wanted<'w> {
    local: &'w Btf,
    name: &'w str,
    ty: TypeId,
}

/// Finds a member by name in a struct or union of the target, through anonymous ones in the order of members, and checks
/// that its type is compatible. A member of the right name and wrong type ends the search in the struct that has it.
fn find_member<'t>(
    wanted: &Wanted<'_>,
    target: &'t Btf,
    id: TypeId,
    depth: usize,
    budget: &mut Budget,
) -> Result<Option<(Step<'t>, Member<'t>, u64)>, String> {
    if depth > MAX_STEPS {
        return Err(format!("anonymous structs are nested more than {MAX_STEPS} deep"));
    }
    let id = target.resolve(id).map_err(text)?;
    if !matches!(target.kind(id).map_err(text)?, Kind::Struct | Kind::Union) {
        return Ok(None);
    }
    let Some(found) = composite(target, id)? else { return Ok(None) };
    for (index, member) in found.members.iter().enumerate() {
        budget.spend()?;
        if member.name.is_empty() {
            if let Some((step, member, bits)) = find_member(wanted, target, member.ty, depth + 1, budget)? {
                let outer = found.members.get(index).map_or(0, |m| u64::from(m.bit_offset));
                return Ok(Some((step, member, add(outer, bits)?)));
            }
        } else if member.name == wanted.name {
            if !compat::fields(wanted.local, wanted.ty, target, member.ty)? {
                return Ok(None);
            }
            let index = u32::try_from(index).map_err(|_| "a struct has more than 32 bits of members".to_owned())?;
            let step = Step { ty: id, index, name: Some(member.name) };
            return Ok(Some((step, *member, u64::from(member.bit_offset))));
        }
    }
    Ok(None)
}
