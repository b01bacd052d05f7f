//! Prints what an object file says: `cargo run -p skep-object --example dump -- FILE.o [BTF]`; with a BTF file, after
//! CO-RE relocation against it.

use std::process::ExitCode;

use skep_object::ObjectSpec;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, btf @ ..] = args.as_slice() else {
        eprintln!("usage: dump FILE.o [BTF]");
        return ExitCode::from(2);
    };
    match show(file, btf.first()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn show(file: &str, btf: Option<&String>) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(file)?;
    let start = std::time::Instant::now();
    let mut spec = ObjectSpec::parse(file, &bytes)?;
    eprintln!("parsed in {:?}", start.elapsed());
    if let Some(btf) = btf {
        let start = std::time::Instant::now();
        let target = skep_btf::Btf::parse(std::fs::read(btf)?)?;
        eprintln!("opened {btf} in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        let known = target.find("task_struct", skep_btf::Kind::Struct).is_some();
        eprintln!("looked up a name (found: {known}) in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        skep_object::core::relocate(&mut spec, &target)?;
        eprintln!("relocated in {:?}", start.elapsed());
    }
    print!("{}", spec.dump());
    Ok(())
}
