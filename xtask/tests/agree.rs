//! The verifier and the running kernel say the same of a thousand generated programs. `cargo xtask agree` does it for more,
//! and writes what they disagree on to files.

use std::path::PathBuf;

use skep_progen::{Family, Options};
use xtask::agree::{Args, Judge, Outcome, run};

#[test]
fn a_thousand_programs_are_judged_as_the_kernel_judges_them() {
    if !Judge::may_load() {
        eprintln!("needs root, not run");
        return;
    }
    let judge = Judge::new().expect("the kernel's version and types");
    let args = Args {
        count: 1000,
        seed: 0,
        family: None,
        valid: false,
        out: PathBuf::new(),
        most: 0,
        file: None,
        kernel_only: false,
        show: false,
    };
    let families: Vec<Family> = Family::ALL.iter().copied().filter(|family| family.is_loadable()).collect();
    let tally = run(&judge, &args, &families, &Options::mixed()).expect("the list of known disagreements");
    println!("{}", tally.table());
    for (program, outcome) in tally.disagreements().into_iter().take(10) {
        println!("{}: {}\n{program}", outcome.title(), program.name);
        println!("kernel: {:?}\nskep: {:?}\n", judge.kernel(program, false), judge.skep(program));
    }
    assert_eq!(tally.count(Outcome::TooLax), 0, "programs passed that the kernel refuses");
    assert_eq!(tally.count(Outcome::Panic), 0, "the verifier panicked");
    assert_eq!(tally.count(Outcome::NotAsked), 0, "programs that never came to the kernel's verifier");
    let (same, of) = tally.agreement();
    assert!(same * 100 >= of * 99, "the same of {same} in {of}");
}
