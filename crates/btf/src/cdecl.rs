//! Types written as C declares them: `int (*name[4])(struct file *, char)`.
//!
//! C writes a declaration from the inside out: what is a pointer goes left of the name, what is an array or a function
//! right of it. So a chain of types is walked from the outside in, and two texts grow around the name.

use std::fmt::Write;

use crate::{Btf, DEPTH_LIMIT, Error, Kind, Type, TypeId};

/// Declarations within declarations: parameters of parameters, members of anonymous structs within them. The kernel's go
/// to about 10.
const NESTING_LIMIT: u32 = 64;

/// What a caller may write differently from C's plain rules.
pub(crate) trait Style {
    /// Writes the specifier of a type that is not a pointer, array, function or qualifier, such as `struct file`.
    fn base(&mut self, btf: &Btf, id: TypeId, out: &mut String) -> Result<(), Error>;
    /// Whether type tags are written as attributes.
    fn tags(&self) -> bool;
    /// How many declarations are open, counted by [`declare`].
    fn nesting(&mut self) -> &mut u32;
}

/// Names types for messages; anonymous ones become `struct {...}`.
#[derive(Default)]
struct Plain {
    nesting: u32,
}

impl Style for Plain {
    fn base(&mut self, btf: &Btf, id: TypeId, out: &mut String) -> Result<(), Error> {
        let (keyword, name) = match btf.kind(id)? {
            Kind::Void => ("", "void"),
            Kind::Struct => ("struct", btf.name(id)?),
            Kind::Union => ("union", btf.name(id)?),
            Kind::Enum | Kind::Enum64 => ("enum", btf.name(id)?),
            Kind::Fwd if btf.kind_flag(id)? => ("union", btf.name(id)?),
            Kind::Fwd => ("struct", btf.name(id)?),
            _ => ("", btf.name(id)?),
        };
        out.push_str(keyword);
        match (keyword, name) {
            ("", name) => out.push_str(name),
            (_, "") => out.push_str(" {...}"),
            (_, name) => {
                out.push(' ');
                out.push_str(name);
            }
        }
        Ok(())
    }

    fn tags(&self) -> bool {
        false
    }

    fn nesting(&mut self) -> &mut u32 {
        &mut self.nesting
    }
}

impl Btf {
    /// The type written as C would name it, such as `struct task_struct *` or `char[16]`. A type that cannot be followed to
    /// its end is written as `<bad type ID>`.
    pub fn type_name(&self, id: TypeId) -> String {
        let mut out = String::new();
        match declare(self, id, "", &mut Plain::default(), &mut out) {
            Ok(()) => out,
            Err(_) => format!("<bad type {}>", id.0),
        }
    }

    /// The declaration of something of this type as C writes it, such as `char comm[16]`.
    pub fn declaration(&self, id: TypeId, name: &str) -> String {
        let mut out = String::new();
        match declare(self, id, name, &mut Plain::default(), &mut out) {
            Ok(()) => out,
            Err(_) => format!("<bad type {}> {name}", id.0),
        }
    }
}

/// Appends the declaration of `name` with the type `id`; with an empty name, the type's name.
pub(crate) fn declare(btf: &Btf, id: TypeId, name: &str, style: &mut dyn Style, out: &mut String) -> Result<(), Error> {
    *style.nesting() += 1;
    if *style.nesting() > NESTING_LIMIT {
        return Err(Error::TooDeep { action: "write in C", id, limit: NESTING_LIMIT });
    }
    declare_within(btf, id, name, style, out)?;
    *style.nesting() -= 1;
    Ok(())
}

fn declare_within(btf: &Btf, id: TypeId, name: &str, style: &mut dyn Style, out: &mut String) -> Result<(), Error> {
    /// Qualifiers met and not yet written.
    #[derive(Default)]
    struct Qualifiers(Vec<Qualifier>);
    enum Qualifier {
        Word(&'static str),
        Attribute(String),
    }
    impl Qualifiers {
        /// Once is enough: a const array has const elements, and both say so.
        fn word(&mut self, word: &'static str) {
            if !self.0.iter().any(|q| matches!(q, Qualifier::Word(known) if *known == word)) {
                self.0.push(Qualifier::Word(word));
            }
        }

        fn write(&mut self, out: &mut String) {
            for qualifier in self.0.drain(..) {
                match qualifier {
                    Qualifier::Word(word) => out.push_str(word),
                    Qualifier::Attribute(text) => out.push_str(&text),
                }
                out.push(' ');
            }
        }
    }

    // What stands left of the name, innermost first; what stands right of it.
    let mut left: Vec<String> = Vec::new();
    let mut right = String::new();
    let mut pending = Qualifiers::default();
    let mut behind_pointer = false;
    let mut at = id;
    for _ in 0..=DEPTH_LIMIT {
        let raw = btf.raw(at)?.0;
        match raw.kind {
            Kind::Const => pending.word("const"),
            Kind::Volatile => pending.word("volatile"),
            Kind::Restrict => pending.word("restrict"),
            Kind::TypeTag if style.tags() => {
                let tag = btf.name(at)?;
                // A tag is any text; what could end the attribute early is left out.
                if tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:,() ".contains(&b)) {
                    pending.0.push(Qualifier::Attribute(match raw.kind_flag {
                        true => format!("__attribute__(({tag}))"),
                        false => format!("__attribute__((btf_type_tag(\"{tag}\")))"),
                    }));
                }
            }
            Kind::TypeTag => {}
            Kind::Ptr => {
                let mut text = String::from("*");
                pending.write(&mut text);
                left.push(text);
                behind_pointer = true;
            }
            Kind::Array => {
                // A qualified array is an array of qualified elements: the qualifiers wait for the element.
                let Type::Array(array) = btf.get(at)? else { continue };
                if behind_pointer {
                    left.push("(".to_owned());
                    right.push(')');
                }
                behind_pointer = false;
                let _ = write!(right, "[{}]", array.count);
                at = array.element;
                continue;
            }
            Kind::FuncProto => {
                // A function has no qualifiers; old compilers wrote `noreturn` as volatile.
                pending.0.clear();
                if behind_pointer {
                    left.push("(".to_owned());
                    right.push(')');
                }
                behind_pointer = false;
                write_params(btf, at, style, &mut right)?;
            }
            _ => {
                pending.write(out);
                style.base(btf, at, out)?;
                if !left.is_empty() || !name.is_empty() {
                    out.push(' ');
                }
                for text in left.iter().rev() {
                    out.push_str(text);
                }
                // `* const ` in front of nothing ends in a space that belongs to nothing.
                if name.is_empty() {
                    out.truncate(out.trim_end_matches(' ').len());
                }
                out.push_str(name);
                out.push_str(&right);
                return Ok(());
            }
        }
        at = raw.target();
    }
    Err(Error::TooDeep { action: "name", id, limit: DEPTH_LIMIT })
}

fn write_params(btf: &Btf, id: TypeId, style: &mut dyn Style, out: &mut String) -> Result<(), Error> {
    let Type::FuncProto(proto) = btf.get(id)? else { return Ok(()) };
    out.push('(');
    if proto.params.is_empty() {
        out.push_str("void");
    }
    for (i, param) in proto.params.iter().enumerate() {
        if i > 0 {
            out.push_str(", ");
        }
        if param.ty == TypeId::VOID {
            out.push_str("...");
        } else {
            declare(btf, param.ty, param.name, style, out)?;
        }
        if out.len() > TEXT_LIMIT {
            return Err(Error::TooDeep { action: "name", id, limit: DEPTH_LIMIT });
        }
    }
    out.push(')');
    Ok(())
}

/// Bytes of one declaration. Prototypes of prototypes can multiply: 16 levels of 100 parameters that are each the next
/// level would be more text than any machine holds.
const TEXT_LIMIT: usize = 64 << 10;
