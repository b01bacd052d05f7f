//! Why an object cannot be used: the action, the object, the cause, the next step.

use skep_isa::InsnIdx;

/// Why an object could not be read, linked or relocated.
///
/// Each text starts with the file's name, except where the caller knows the file better than this crate does
/// ([`Error::Core`], [`Error::Global`]).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not ELF at all.
    #[error("read {file}: not an ELF file (it starts with {start}); compile it with `clang -target bpf -c`")]
    NotElf {
        /// The file.
        file: String,
        /// Its first bytes, for the person.
        start: String,
    },
    /// ELF, but not of the kind that BPF programs come in.
    #[error("read {file}: {found}, not {expected}; compile with `clang -target bpf -c`")]
    WrongElf {
        /// The file.
        file: String,
        /// What the header says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The ELF structure does not hold together: cut off, or a table points outside the file.
    #[error("read {file}: {part}: {cause}; the file is truncated or damaged")]
    Malformed {
        /// The file.
        file: String,
        /// Which part of it.
        part: String,
        /// What is wrong.
        cause: String,
    },
    /// A number that would let a file use up memory or time.
    #[error("read {file}: {what} is {found}, more than the limit of {limit}")]
    Limit {
        /// The file.
        file: String,
        /// What is counted.
        what: String,
        /// How much there is.
        found: u64,
        /// How much there may be.
        limit: u64,
    },
    /// Neither a program nor a map.
    #[error("read {file}: it holds no BPF program; put each function under SEC(\"...\")")]
    Empty {
        /// The file.
        file: String,
    },
    /// The type information is broken, or something needs it and it is not there.
    #[error("read {file}: {what}: {cause}")]
    Btf {
        /// The file.
        file: String,
        /// What the type information is for.
        what: String,
        /// What is wrong.
        cause: String,
    },
    /// A map definition that cannot be understood.
    #[error("read {file}: map {map}: {cause}")]
    Map {
        /// The file.
        file: String,
        /// The map.
        map: String,
        /// What is wrong and what would be right.
        cause: String,
    },
    /// A function or its calls cannot be put together.
    #[error("link {function} of {file}: instruction {insn}: {cause}")]
    Link {
        /// The file.
        file: String,
        /// The function.
        function: String,
        /// Instruction within the function.
        insn: u64,
        /// What is wrong.
        cause: String,
    },
    /// A symbol that is neither in the file nor declared as the kernel's.
    #[error(
        "link {function} of {file}: {symbol} is not defined in the file, and not declared `__ksym` or `__kconfig`\
         {near}; define it, or declare it as the kernel's"
    )]
    Undefined {
        /// The file.
        file: String,
        /// The function that refers to it.
        function: String,
        /// The symbol.
        symbol: String,
        /// Names like it, as text to append.
        near: String,
    },
    /// An extern with a type that cannot be filled in.
    #[error("read {file}: extern {name}: {cause}")]
    Extern {
        /// The file.
        file: String,
        /// The extern.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// A CO-RE record that is wrong in itself or has no single answer (one that has no answer is no error: it poisons
    /// its instruction).
    #[error("relocate {program}: instruction {insn}: {what}: {cause}")]
    Core {
        /// The program.
        program: String,
        /// The instruction within the linked program.
        insn: InsnIdx,
        /// The record, such as `byte_off of struct task_struct.pid`.
        what: String,
        /// What is wrong.
        cause: String,
    },
    /// A global that cannot be set.
    #[error("set {name}: {cause}")]
    Global {
        /// The name that was given.
        name: String,
        /// What is wrong, with near names.
        cause: String,
    },
}
