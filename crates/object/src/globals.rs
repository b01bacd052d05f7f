//! `NAME=VALUE` -> changed contents of a data section, before it is loaded.
//!
//! This is how `skep run --param` sets the constants of a program: `const volatile __u32 target_pid;` stands in
//! `.rodata`, and once the map is loaded and frozen, the verifier knows its value.

use skep_btf::TypeId;

use crate::{Error, MapOrigin, ObjectSpec, VarSpec, near};

impl ObjectSpec {
    /// The global variable of this name in `.rodata*`, `.data*` or `.bss*`, and its map's index. A name that is not
    /// static is found before one that is.
    pub fn global(&self, name: &str) -> Option<(crate::MapIdx, &VarSpec)> {
        let all = || self.globals().filter(|(_, var)| var.name == name);
        all().find(|(_, var)| !var.is_static).or_else(|| all().next())
    }

    /// Every global variable that can be set, with its map's index.
    pub fn globals(&self) -> impl Iterator<Item = (crate::MapIdx, &VarSpec)> {
        self.maps
            .iter()
            .enumerate()
            .filter(|(_, map)| matches!(map.origin, MapOrigin::Rodata | MapOrigin::Data | MapOrigin::Bss))
            .flat_map(|(index, map)| map.vars.iter().map(move |var| (crate::MapIdx(index), var)))
    }

    /// Sets a global variable to these bytes, in the object's byte order.
    ///
    /// # Errors
    /// No variable of this name (near ones are named), or not as many bytes as it has.
    pub fn set_global(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let fail = |cause: String| Error::Global { name: name.to_owned(), cause };
        let Some((map, var)) = self.global(name) else { return Err(fail(self.no_such_global(name))) };
        let (from, size) = (var.offset as usize, var.size as usize);
        if bytes.len() != size {
            return Err(fail(format!("it has {size} bytes, not {}", bytes.len())));
        }
        let data = self.maps.get_mut(map.0).and_then(|map| map.data.as_mut());
        match data.and_then(|data| data.get_mut(from..from + size)) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(fail("it lies outside its section".to_owned())),
        }
    }

    /// Sets a global variable to a value written as text, which its type says how to read: `42`, `-1`, `0x10`, `true`,
    /// the name of an enumerator, `"text"` for an array of `char`.
    ///
    /// # Errors
    /// No variable of this name (near ones are named); no type information; text that is no value of the type.
    pub fn set_global_text(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let fail = |cause: String| Error::Global { name: name.to_owned(), cause };
        let Some((_, var)) = self.global(name) else { return Err(fail(self.no_such_global(name))) };
        let btf = self.btf.as_ref().filter(|_| var.ty != TypeId::VOID);
        let btf = btf.ok_or_else(|| fail("the file does not say its type; compile with -g".to_owned()))?;
        let bytes = skep_btf::value::encode(btf, var.ty, text).map_err(|e| fail(e.to_string()))?;
        self.set_global(name, &bytes)
    }

    fn no_such_global(&self, name: &str) -> String {
        let names: Vec<&str> = self.globals().map(|(_, var)| var.name.as_str()).collect();
        if names.is_empty() {
            return "the object has no global variables".to_owned();
        }
        let hint = near::hint(name, names.iter().copied());
        if hint.is_empty() {
            let some: Vec<&str> = names.into_iter().filter(|n| !n.contains('.')).take(8).collect();
            return format!("the object has no such global variable; it has {}", some.join(", "));
        }
        format!("the object has no such global variable{hint}")
    }
}
