//! Error codes: `SKEP0007` <-> [`Code::OutOfBounds`], each with a title and a page of explanation.
//!
//! A number is given once and keeps its meaning; a code that is no longer used is not given again.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $title:literal;)*) => {
        /// Why a program was refused. Numbers are stable.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $variant = $number,)* }

        impl Code {
            /// Every code, by number.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// What is wrong, as a short sentence without the particulars.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// The code with this number.
            pub fn from_number(number: u16) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// A slot is no instruction, or a reserved field is in use.
    BadInstruction = 1, "this is not a valid instruction";
    /// A jump or call leaves the function or lands within an instruction.
    BadJump = 2, "a jump or call has no valid target";
    /// The last instruction is neither an exit nor a jump.
    FallsOffEnd = 3, "control can run past the end of a function";
    /// An instruction that no path reaches.
    UnreachableCode = 4, "an instruction can never be reached";
    /// The call graph has a cycle.
    Recursion = 5, "a function calls itself";
    /// A register is read before it is written.
    UninitRegister = 6, "a register is used before it has a value";
    /// An access may lie outside of its memory.
    OutOfBounds = 7, "an access may lie outside of its memory";
    /// A packet access without the comparison with the packet's end.
    PacketBounds = 8, "a packet is accessed without a check of its length";
    /// A pointer that may be null is followed.
    MaybeNull = 9, "a pointer may be null here";
    /// A number is used as an address.
    NotAPointer = 10, "a number is used as a pointer";
    /// This kind of pointer cannot be followed this way.
    BadAccess = 11, "this pointer cannot be accessed this way";
    /// Arithmetic on a pointer that would make it unknown.
    PointerArithmetic = 12, "this arithmetic on a pointer is not allowed";
    /// The variable part of a pointer's offset has no bound.
    UnboundedOffset = 13, "an offset that is added to a pointer has no bound";
    /// A write into memory that is only to be read.
    ReadOnly = 14, "memory that is only to be read is written";
    /// An access that is not aligned to its size.
    Misaligned = 15, "an access is not aligned";
    /// An access outside the 512 bytes of stack.
    StackBounds = 16, "an access lies outside of the stack";
    /// Stack is read before it is written.
    UninitStack = 17, "stack memory is used before it has a value";
    /// Frames of all functions together are too large, or too many.
    StackTooDeep = 18, "the functions together need too much stack";
    /// A field that the context does not have for this type of program, or not with this size.
    ContextAccess = 19, "this field of the context cannot be accessed";
    /// The context pointer was changed before it is used.
    ContextChanged = 20, "a changed context pointer is used";
    /// A kernel address would become visible to user space.
    PointerLeak = 21, "a kernel pointer would leak";
    /// The return value may lie outside of what the program type allows.
    ReturnValue = 22, "the program may return a value that is not allowed here";
    /// A loop makes no progress.
    InfiniteLoop = 23, "a loop may never end";
    /// The limit of processed instructions.
    TooComplex = 24, "the program is too complex to be checked";
    /// The limit of pending branches.
    TooManyBranches = 25, "too many branches are pending";
    /// The helper does not exist or is not for this type of program.
    HelperNotAllowed = 26, "this helper cannot be called here";
    /// An argument is not what the function takes.
    ArgumentType = 27, "an argument is not what the function takes";
    /// A size argument has no fitting bounds.
    ArgumentSize = 28, "a size argument does not fit its memory";
    /// Helper and map do not go together.
    MapMismatch = 29, "this map cannot be used this way";
    /// A reference is not released on some path.
    LeakedReference = 30, "a reference is never released";
    /// A release of what is not held.
    BadRelease = 31, "what is released is not held";
    /// Lock, RCU or preemption sections do not balance, or something is done within that must not be.
    LockBalance = 32, "locked sections do not fit together";
    /// Something that may sleep where sleeping is not allowed.
    MaySleep = 33, "something that may sleep is done where sleeping is not allowed";
    /// A function that is kept for GPL-compatible programs.
    Licence = 34, "this needs a GPL-compatible licence";
    /// A dynptr is used against its rules.
    Dynptr = 35, "a dynptr is used against its rules";
    /// An iterator is used against its rules.
    Iterator = 36, "an iterator is used against its rules";
    /// A kernel function that does not exist or is not for this type of program.
    KfuncNotAllowed = 37, "this kernel function cannot be called here";
    /// A pointer that is not known to be good is used where only a good one will do.
    Untrusted = 38, "a pointer is not known to be valid here";
    /// An access to a kernel struct that its type does not allow.
    KernelField = 39, "this access does not fit the kernel's struct";
    /// A field that the kernel manages (lock, timer) is touched directly.
    SpecialField = 40, "a field that the kernel manages is touched directly";
    /// An instruction whose CO-RE relocation failed can be reached.
    CoreUnresolved = 41, "code for a type or field that this kernel does not have can be reached";
    /// A symbol that is not there.
    MissingExtern = 42, "something that only the kernel can provide is missing";
    /// Tail calls where they are not allowed.
    TailCall = 43, "a tail call is not allowed here";
    /// A callback that does not fit.
    Callback = 44, "a callback function does not fit its use";
    /// A global function whose arguments cannot be checked on their own.
    GlobalFunction = 45, "a global function's arguments do not fit";
    /// An atomic operation on memory that does not allow it.
    Atomic = 46, "an atomic operation is not allowed on this memory";
    /// Something that this kernel version does not have yet.
    KernelTooOld = 47, "this kernel is too old for the program";
    /// No instructions, or too many.
    ProgramSize = 48, "the program's size is not allowed";
    /// A pointer on the stack is read or overwritten in part.
    PartialSpill = 49, "a pointer on the stack is accessed in part";
    /// The frame pointer is written.
    FramePointer = 50, "the frame pointer cannot be written";
    /// What cannot be attached or loaded as it is described (target type missing, hook unknown).
    Hook = 51, "the place the program is for does not fit";
    /// A string that must be a constant of the program is not.
    ConstString = 52, "a string must be a constant of the program";
    /// A format string that the kernel does not take.
    Format = 53, "this format string is not one that the kernel takes";
}

impl Code {
    /// 1 to 9999.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The code that is written like this: `SKEP0007`, `skep7`, `7`.
    pub fn from_name(name: &str) -> Option<Code> {
        let digits = match name.get(..4) {
            Some(prefix) if prefix.eq_ignore_ascii_case("SKEP") => name.get(4..)?,
            _ => name,
        };
        Code::from_number(digits.parse().ok()?)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("SKEP{:04}", self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for &code in Code::ALL {
            assert_eq!(Code::from_name(&code.to_string()), Some(code));
        }
        assert_eq!(Code::from_name("7"), Some(Code::OutOfBounds));
        assert_eq!(Code::from_name("SKEP9999"), None);
        assert_eq!(Code::from_name("\u{e9}\u{e9}\u{e9}"), None);
    }
}
