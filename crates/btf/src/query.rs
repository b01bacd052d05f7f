//! Questions to a BTF: by name, through modifiers, sizes, members by path.
//!
//! A name is looked for in the strings first, and then the types are searched for one that has it there: about 0.4 ms for a
//! kernel. Whoever asks for more than [`SCANS`] names gets an index, which takes as long as some ten such searches to
//! make: a chained hash table of ids (two `u32` arrays, about 1 MB for a kernel), no copies of the names.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use crate::{Btf, DEPTH_LIMIT, Error, FuncProto, Kind, Member, Type, TypeId};

/// Names that are searched for before an index is made.
pub(crate) const SCANS: usize = 8;

/// Places in the strings where a name may stand, before a search gives way to the index: a short name is the end of many.
const MAX_PLACES: usize = 64;

/// Ids by hash of their name. Chains run in ascending order of ids.
#[derive(Debug)]
pub(crate) struct NameIndex {
    /// Seeded at random, so that a file cannot be written to put all its names into one chain.
    hasher: RandomState,
    /// Own index + 1 of the first type of each chain, 0 for none. A power of two of them.
    heads: Vec<u32>,
    /// Own index + 1 of the next type of the same chain, 0 at its end.
    next: Vec<u32>,
}

impl NameIndex {
    pub(crate) fn build(btf: &Btf) -> NameIndex {
        let hasher = RandomState::new();
        let count = btf.offsets().len();
        let buckets = count.next_power_of_two().max(1);
        let mut index = NameIndex { hasher, heads: vec![0; buckets], next: vec![0; count] };
        // From the back, because each is put in front of its chain.
        for own in (0..count).rev() {
            let name = own_id(btf, own).and_then(|id| name_bytes(btf, id));
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                let bucket = index.bucket(name);
                index.next[own] = index.heads[bucket];
                index.heads[bucket] = own as u32 + 1;
            }
        }
        index
    }

    fn bucket(&self, name: &[u8]) -> usize {
        self.hasher.hash_one(name) as usize & (self.heads.len() - 1)
    }

    /// Own ids of this name in ascending order.
    fn ids<'a>(&'a self, btf: &'a Btf, name: &'a str) -> impl Iterator<Item = TypeId> + 'a {
        let mut link = if name.is_empty() { 0 } else { self.heads[self.bucket(name.as_bytes())] };
        std::iter::from_fn(move || {
            while link != 0 {
                let own = link as usize - 1;
                link = self.next[own];
                let id = own_id(btf, own)?;
                if name_bytes(btf, id) == Some(name.as_bytes()) {
                    return Some(id);
                }
            }
            None
        })
    }
}

fn own_id(btf: &Btf, own: usize) -> Option<TypeId> {
    btf.first_id().0.checked_add(u32::try_from(own).ok()?).map(TypeId)
}

fn name_bytes(btf: &Btf, id: TypeId) -> Option<&[u8]> {
    let (raw, words) = btf.raw(id).ok()?;
    words.owner.string_bytes(raw.name_off).ok()
}

/// A member found by name, possibly inside anonymous structs and unions or along a dotted path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberPath<'a> {
    /// The member itself; its offset is within the struct that holds it directly.
    pub member: Member<'a>,
    /// Offset in bits from the start of the outermost type.
    pub bit_offset: u64,
    /// The indices of the members on the way, one for each step into a struct, union or array. This is what follows the
    /// leading `0:` of a CO-RE access string.
    pub indices: Vec<u32>,
}

impl Btf {
    /// The first type of this kind and name. Uses an index that is built at the first call. A split BTF is asked after its
    /// base. The kind must match exactly: an enum may be an [`Kind::Enum`] or an [`Kind::Enum64`].
    pub fn find(&self, name: &str, kind: Kind) -> Option<TypeId> {
        self.find_any(name, &[kind])
    }

    /// The first type of this name and of one of these kinds.
    pub fn find_any(&self, name: &str, kinds: &[Kind]) -> Option<TypeId> {
        if let Some(id) = self.base().and_then(|base| base.find_any(name, kinds)) {
            return Some(id);
        }
        self.own_ids(name).into_iter().find(|id| self.kind(*id).is_ok_and(|kind| kinds.contains(&kind)))
    }

    /// All types of this name, any kind, in ascending order of their ids.
    pub fn find_all(&self, name: &str) -> Vec<TypeId> {
        let mut ids = self.base().map(|base| base.find_all(name)).unwrap_or_default();
        ids.extend(self.own_ids(name));
        ids
    }

    /// Own types of this name, ascending.
    fn own_ids(&self, name: &str) -> Vec<TypeId> {
        if name.is_empty() {
            return Vec::new();
        }
        match self.index_or_scan() {
            Some(index) => index.ids(self, name).collect(),
            None => self.scan(name).unwrap_or_else(|| self.index().ids(self, name).collect()),
        }
    }

    /// Searches the strings, then the types. `None` when the name stands in too many places to be worth it.
    fn scan(&self, name: &str) -> Option<Vec<TypeId>> {
        let needle: Vec<u8> = name.bytes().chain([0]).collect();
        let finder = memchr::memmem::Finder::new(&needle);
        let mut places = Vec::new();
        let mut owner = Some(self);
        while let Some(btf) = owner {
            let (first, strings) = btf.own_strings();
            for at in finder.find_iter(strings) {
                // A name may also be the end of a longer string: what counts is what stands from its offset on.
                places.push(first.checked_add(u32::try_from(at).ok()?)?);
                if places.len() > MAX_PLACES {
                    return None;
                }
            }
            owner = btf.base();
        }
        if places.is_empty() {
            return Some(Vec::new());
        }
        places.sort_unstable();
        let has_name = |id: &TypeId| self.raw(*id).is_ok_and(|(raw, _)| places.binary_search(&raw.name_off).is_ok());
        Some((0..self.offsets().len()).filter_map(|own| own_id(self, own)).filter(has_name).collect())
    }

    /// Follows typedefs, const, volatile, restrict and type tags to the type beneath; a cycle is an error.
    pub fn resolve(&self, id: TypeId) -> Result<TypeId, Error> {
        let mut at = id;
        for _ in 0..=DEPTH_LIMIT {
            let raw = self.raw(at)?.0;
            if !raw.kind.is_modifier() {
                return Ok(at);
            }
            at = raw.target();
        }
        Err(Error::TooDeep { action: "resolve", id, limit: DEPTH_LIMIT })
    }

    /// Follows const, volatile, restrict and type tags, but not typedefs.
    pub fn skip_qualifiers(&self, id: TypeId) -> Result<TypeId, Error> {
        let mut at = id;
        for _ in 0..=DEPTH_LIMIT {
            let raw = self.raw(at)?.0;
            if !raw.kind.is_modifier() || raw.kind == Kind::Typedef {
                return Ok(at);
            }
            at = raw.target();
        }
        Err(Error::TooDeep { action: "resolve", id, limit: DEPTH_LIMIT })
    }

    /// Size in bytes of a value of this type (modifiers followed, arrays multiplied, a pointer is 8 bytes). A variable has
    /// the size of its type; void, functions and forward declarations have none, which is an error.
    pub fn size_of(&self, id: TypeId) -> Result<u64, Error> {
        let mut at = id;
        let mut count = 1u64;
        for _ in 0..=DEPTH_LIMIT {
            let (raw, words) = self.raw(at)?;
            let size = match raw.kind {
                Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float | Kind::Datasec => {
                    u64::from(raw.size_or_type)
                }
                Kind::Ptr => 8,
                Kind::Typedef | Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag | Kind::Var => {
                    at = raw.target();
                    continue;
                }
                Kind::Array => {
                    count = count.checked_mul(u64::from(words.get(5))).ok_or(Error::SizeOverflow { id })?;
                    at = TypeId(words.get(3));
                    continue;
                }
                kind @ (Kind::Void | Kind::Fwd | Kind::Func | Kind::FuncProto | Kind::DeclTag) => {
                    return Err(Error::NoSize { id, at, kind });
                }
            };
            return size.checked_mul(count).ok_or(Error::SizeOverflow { id });
        }
        Err(Error::TooDeep { action: "take the size of", id, limit: DEPTH_LIMIT })
    }

    /// The alignment in bytes that C gives a type on a 64-bit machine. A struct is as aligned as its most aligned member;
    /// one whose members do not lie at multiples of their own alignment is packed, and then it is 1.
    pub fn align_of(&self, id: TypeId) -> Result<u64, Error> {
        self.align_within(id, id, DEPTH_LIMIT, &mut HashMap::new())
    }

    /// `known` keeps structs that are members more than once from being looked at more than once.
    fn align_within(
        &self,
        outer: TypeId,
        id: TypeId,
        depth: u32,
        known: &mut HashMap<TypeId, u64>,
    ) -> Result<u64, Error> {
        if let Some(align) = known.get(&id) {
            return Ok(*align);
        }
        let depth = depth.checked_sub(1).ok_or(Error::TooDeep { action: "align", id: outer, limit: DEPTH_LIMIT })?;
        let (raw, words) = self.raw(id)?;
        Ok(match raw.kind {
            // 16 is what __int128 has, on BPF as on the 64-bit machines that have it.
            Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Float => {
                u64::from(raw.size_or_type).clamp(1, 16).next_power_of_two()
            }
            Kind::Ptr => 8,
            Kind::Array => self.align_within(outer, TypeId(words.get(3)), depth, known)?,
            Kind::Struct | Kind::Union => {
                let mut align = 1;
                let mut packed = false;
                for i in 0..raw.vlen {
                    let member = words.member(&raw, i)?;
                    let own = self.align_within(outer, member.ty, depth, known)?;
                    packed |= member.bit_size == 0 && u64::from(member.bit_offset) % (own * 8) != 0;
                    align = align.max(own);
                }
                // Its size is a multiple of its alignment, or it is packed.
                packed |= u64::from(raw.size_or_type) % align != 0;
                let align = if packed { 1 } else { align };
                known.insert(id, align);
                align
            }
            kind if kind.is_modifier() || kind == Kind::Var => self.align_within(outer, raw.target(), depth, known)?,
            kind => return Err(Error::NoSize { id: outer, at: id, kind }),
        })
    }

    /// The prototype of a function, or of a pointer to one.
    pub fn prototype(&self, id: TypeId) -> Result<FuncProto<'_>, Error> {
        let mut at = id;
        for _ in 0..=DEPTH_LIMIT {
            match self.get(at)? {
                Type::FuncProto(proto) => return Ok(proto),
                Type::Func { proto: target, .. }
                | Type::Ptr { target }
                | Type::Typedef { target, .. }
                | Type::Const { target }
                | Type::Volatile { target }
                | Type::Restrict { target }
                | Type::TypeTag { target, .. } => at = target,
                other => {
                    let found = other.kind();
                    return Err(Error::WrongKind {
                        action: "take the prototype of",
                        id,
                        expected: "a function",
                        found,
                    });
                }
            }
        }
        Err(Error::TooDeep { action: "take the prototype of", id, limit: DEPTH_LIMIT })
    }

    /// The members of a struct or union; modifiers are followed.
    pub fn members(&self, id: TypeId) -> Result<Vec<Member<'_>>, Error> {
        let at = self.resolve(id)?;
        let (raw, words) = self.raw(at)?;
        if !matches!(raw.kind, Kind::Struct | Kind::Union) {
            let expected = "a struct or union";
            return Err(Error::WrongKind { action: "list the members of", id, expected, found: raw.kind });
        }
        (0..raw.vlen).map(|i| words.member(&raw, i)).collect()
    }

    /// Where a bit field's value lies: offset in bits from the start of its struct, and width; `None` for a member that is
    /// not a bit field. Knows both the present form and the old one, where the integer type carries offset and width.
    pub fn bit_field(&self, member: &Member<'_>) -> Result<Option<(u32, u32)>, Error> {
        if member.bit_size != 0 {
            return Ok(Some((member.bit_offset, u32::from(member.bit_size))));
        }
        let at = self.resolve(member.ty)?;
        // Asked before `get`, which makes a list of all the members of a struct.
        if self.kind(at)? != Kind::Int {
            return Ok(None);
        }
        match self.get(at)? {
            Type::Int(int) if u32::from(int.bits) != int.size.saturating_mul(8) => {
                Ok(Some((member.bit_offset.saturating_add(u32::from(int.offset)), u32::from(int.bits))))
            }
            _ => Ok(None),
        }
    }

    /// Finds a member by a path such as `sk.__sk_common.skc_daddr` or `comm[3]`. Members of anonymous structs and unions
    /// are found as C finds them. Modifiers are followed, pointers are not.
    pub fn member_path(&self, id: TypeId, path: &str) -> Result<MemberPath<'_>, Error> {
        let missing = |part: &str| Error::NoSuchMember { id, path: path.to_owned(), part: part.to_owned() };
        let mut found: Option<MemberPath<'_>> = None;
        let mut at = id;
        for part in path.split('.') {
            let (name, subscripts) = match part.find('[') {
                Some(open) => part.split_at(open),
                None => (part, ""),
            };
            if name.is_empty() {
                return Err(missing(part));
            }
            let step = self.member_by_name(at, name)?.ok_or_else(|| missing(part))?;
            let mut so_far = match found {
                None => step,
                Some(mut outer) => {
                    outer.indices.extend(&step.indices);
                    MemberPath {
                        member: step.member,
                        bit_offset: outer.bit_offset.checked_add(step.bit_offset).ok_or(Error::SizeOverflow { id })?,
                        indices: outer.indices,
                    }
                }
            };
            at = so_far.member.ty;
            let mut rest = subscripts;
            while !rest.is_empty() {
                let (index, tail) =
                    rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(|| missing(part))?;
                let index: u32 = index.parse().map_err(|_| missing(part))?;
                let Type::Array(array) = self.get(self.resolve(at)?)? else { return Err(missing(part)) };
                // An array of 0 is the open end of a struct; any index goes.
                if array.count != 0 && index >= array.count {
                    return Err(missing(part));
                }
                let bits = self.size_of(array.element)?.checked_mul(8).and_then(|b| b.checked_mul(u64::from(index)));
                so_far.bit_offset =
                    bits.and_then(|bits| so_far.bit_offset.checked_add(bits)).ok_or(Error::SizeOverflow { id })?;
                so_far.indices.push(index);
                so_far.member.ty = array.element;
                at = array.element;
                rest = tail;
            }
            found = Some(so_far);
        }
        found.ok_or_else(|| missing(path))
    }

    /// Finds a member by its name alone, through anonymous structs and unions.
    fn member_by_name(&self, id: TypeId, name: &str) -> Result<Option<MemberPath<'_>>, Error> {
        // Breadth first needs a list of what is still to be searched; an anonymous type that holds itself would make it
        // endless, so the nesting is bounded, and so is the list: each entry is a member that was read.
        let mut open = VecDeque::from([(id, 0u64, Vec::new())]);
        let mut searched = 0u32;
        while let Some((at, offset, indices)) = open.pop_front() {
            searched += 1;
            if indices.len() >= DEPTH_LIMIT as usize || searched > ANONYMOUS_LIMIT {
                return Err(Error::TooDeep { action: "look up a member of", id, limit: DEPTH_LIMIT });
            }
            let at = self.resolve(at)?;
            let (raw, words) = self.raw(at)?;
            if !matches!(raw.kind, Kind::Struct | Kind::Union) {
                let expected = "a struct or union";
                return Err(Error::WrongKind { action: "look up a member of", id, expected, found: raw.kind });
            }
            for i in 0..raw.vlen {
                let member = words.member(&raw, i)?;
                if member.name != name && !member.name.is_empty() {
                    continue;
                }
                let offset = offset.checked_add(u64::from(member.bit_offset)).ok_or(Error::SizeOverflow { id })?;
                let mut indices = indices.clone();
                indices.push(i);
                if member.name == name {
                    return Ok(Some(MemberPath { member, bit_offset: offset, indices }));
                }
                // Unnamed bit fields are padding.
                let beneath = self.resolve(member.ty).and_then(|at| self.kind(at))?;
                if matches!(beneath, Kind::Struct | Kind::Union) {
                    open.push_back((member.ty, offset, indices));
                }
            }
        }
        Ok(None)
    }
}

/// How many anonymous structs and unions are searched for one member name. The kernel's largest struct has a few dozen.
const ANONYMOUS_LIMIT: u32 = 4096;
