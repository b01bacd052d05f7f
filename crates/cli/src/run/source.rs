//! From the file on the command line to a spec, whatever kind of file it is.

use crate::args::RunArgs;
use crate::failure::{Exit, Failure};
use skep_cc::{CcError, Compiler};
use skep_object::ObjectSpec;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

/// Largest object that is read. Objects with all their debug information stay far below.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// First bytes of an ELF file.
const ELF: &[u8] = b"\x7fELF";

/// Reads or compiles the file of `skep run`.
pub(crate) fn read(args: &RunArgs) -> Result<ObjectSpec, Failure> {
    read_file(&args.file, &args.cflags)
}

/// Reads or compiles a file, with these flags for clang.
pub(crate) fn read_file(path: &Path, cflags: &[OsString]) -> Result<ObjectSpec, Failure> {
    let name = path.display().to_string();
    let bytes = object_bytes(path, cflags)?;
    if !bytes.starts_with(ELF) {
        return Err(Failure::say(
            Exit::NotSo,
            format!(
                "read {name}: it is neither C source (its name does not end in .c) nor an ELF object. Give a .c file, or \
                 an object that clang -target bpf made of one"
            ),
        ));
    }
    ObjectSpec::parse(&name, &bytes).map_err(|error| Failure::say(Exit::NotSo, error))
}

/// The object: the file itself, or what clang makes of it.
pub(crate) fn object_bytes(path: &Path, cflags: &[OsString]) -> Result<Vec<u8>, Failure> {
    let is_c = path.extension().is_some_and(|extension| extension == "c");
    if is_c { compile(path, cflags) } else { load(path) }
}

/// A file that is not there is wrong usage; one that may not be read is a matter of rights.
pub(crate) fn exit_of(error: &io::Error) -> Exit {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::Unavailable,
        _ => Exit::Usage,
    }
}

fn load(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let fail = |error: io::Error| Failure::say(exit_of(&error), format!("read {name}: {error}"));
    let file = std::fs::File::open(path).map_err(fail)?;
    let about = file.metadata().map_err(fail)?;
    if about.is_dir() {
        return Err(Failure::say(Exit::Usage, format!("read {name}: it is a directory; give a .c file or an object")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(MAX_FILE_BYTES) + 1).unwrap_or(0));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let limit = MAX_FILE_BYTES >> 20;
        return Err(Failure::say(Exit::NotSo, format!("read {name}: larger than {limit} MiB, which no BPF object is")));
    }
    Ok(bytes)
}

fn compile(path: &Path, cflags: &[OsString]) -> Result<Vec<u8>, Failure> {
    let mut compiler = Compiler::from_env();
    compiler.flags = cflags.to_vec();
    compiler.color = io::stderr().is_terminal();
    let compiled = compiler.compile(path).map_err(|error| {
        let exit = match &error {
            CcError::Source { cause, .. } => exit_of(cause),
            CcError::Refused { .. } => Exit::NotSo,
            _ => Exit::Unavailable,
        };
        // clang's words as they are, with its colours on a terminal.
        Failure::rendered(exit, format!("error: {error}"))
    })?;
    // clang's warnings as it wrote them, whatever bytes they hold.
    let _ = io::stderr().write_all(&compiled.diagnostics);
    Ok(compiled.object)
}
