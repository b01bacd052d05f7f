//! `cargo xtask agree`: does skep's verifier say of generated programs what the running kernel says?
//!
//! Every program is loaded (and let go of at once) and checked. The table has a line for each family of programs and for
//! each program type. Disagreements are made as small as they stay disagreements and written to files, one for each
//! pair of messages: `cargo xtask agree --file FILE` asks both again. Those that are known and explained stand in
//! `tests/verifier/disagreements.txt`.

mod judge;
mod known;

pub use judge::{Judge, KernelSays, Outcome, SkepSays};
pub use known::Known;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use skep_progen::{Family, Generated, Options, generate};

/// How long a disagreement is made smaller.
const SHRINK_TIME: Duration = Duration::from_secs(6);

/// Arguments of `cargo xtask agree`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Programs in all
    #[arg(long, default_value_t = 1000)]
    pub count: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Only families whose name begins so
    #[arg(long)]
    pub family: Option<String>,
    /// Programs without deliberate mistakes
    #[arg(long)]
    pub valid: bool,
    /// Directory for disagreements
    #[arg(long, default_value = "target/disagree")]
    pub out: PathBuf,
    /// Disagreements to shrink and write at most
    #[arg(long, default_value_t = 40)]
    pub most: usize,
    /// Ask both about this text instead, and show what the kernel wrote
    #[arg(long)]
    pub file: Option<PathBuf>,
    /// Only the kernel: what it accepts, and why it refuses the rest
    #[arg(long)]
    pub kernel_only: bool,
    /// Print the text of the program with this seed (needs a family) and ask about it
    #[arg(long)]
    pub show: bool,
}

/// Runs it.
pub fn main(args: &Args) -> Result<()> {
    ensure!(Judge::may_load(), "agree: loading programs takes root");
    let judge = Judge::new()?;
    // A panic of the verifier is counted and told; its trace would only hide the rest.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let program = Generated::parse(&text).with_context(|| format!("read {}", path.display()))?;
        return show(&judge, &program);
    }
    let families = families(args)?;
    let options = if args.valid { Options::valid() } else { Options::mixed() };
    if args.show {
        return show(&judge, &generate(families[0], args.seed, &options));
    }
    let tally = run(&judge, args, &families, &options)?;
    println!("{}", tally.table());
    if args.kernel_only {
        println!("{}", tally.reasons(60));
        return Ok(());
    }
    let (same, of) = tally.agreement();
    println!("agreement: {same} of {of} programs that both judge ({:.2} %)", 100.0 * same as f64 / of.max(1) as f64);
    if !tally.found.is_empty() {
        write_found(&judge, &tally, &args.out, args.most)?;
    }
    let lax = tally.count(Outcome::TooLax) + tally.count(Outcome::Panic);
    ensure!(lax == 0, "agree: {lax} programs passed that the kernel refuses, or panicked: see {}", args.out.display());
    ensure!(same * 100 >= of * 99, "agree: less than 99 % agreement");
    Ok(())
}

fn families(args: &Args) -> Result<Vec<Family>> {
    let wanted = args.family.as_deref().unwrap_or("");
    let found: Vec<Family> = Family::ALL
        .iter()
        .copied()
        .filter(|family| family.is_loadable() && family.name().starts_with(wanted))
        .collect();
    if found.is_empty() {
        let names: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
        bail!("agree: no family begins with {wanted:?}; there are: {}", names.join(", "));
    }
    Ok(found)
}

fn show(judge: &Judge, program: &Generated) -> Result<()> {
    println!("{program}\n{}", judge.log(program));
    match judge.kernel(program, false) {
        KernelSays::Refuses { errno, message, .. } => println!("kernel: refuses ({errno}): {message}"),
        other => println!("kernel: {other:?}"),
    }
    println!("skep: {:?}", judge.skep(program));
    Ok(())
}

/// What came out of many programs.
#[derive(Default)]
pub struct Tally {
    /// By family and by type: how many of each outcome.
    rows: BTreeMap<String, BTreeMap<Outcome, u64>>,
    /// Disagreements.
    found: Vec<(Generated, Outcome)>,
    /// Why the kernel refused, by family and message.
    reasons: BTreeMap<(String, String), u64>,
    /// What is not modelled.
    unsupported: BTreeMap<String, u64>,
    /// Known disagreements, by name.
    explained: BTreeMap<String, u64>,
}

/// Asks both about `args.count` programs.
///
/// # Errors
/// Where the list of known disagreements cannot be read.
pub fn run(judge: &Judge, args: &Args, families: &[Family], options: &Options) -> Result<Tally> {
    let path = crate::workspace_dir().join("tests/verifier/disagreements.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let known = known::parse(&text).with_context(|| format!("read {}", path.display()))?;
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Tally::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= args.count {
                        break;
                    }
                    let family = families[index as usize % families.len()];
                    let program = generate(family, args.seed + index / families.len() as u64, options);
                    let kernel = judge.kernel(&program, false);
                    let skep = match args.kernel_only {
                        true => match kernel {
                            KernelSays::Accepts => SkepSays::Passes,
                            _ => SkepSays::Fails(String::new()),
                        },
                        false => judge.skep(&program),
                    };
                    let outcome = Outcome::of(&kernel, &skep);
                    let explained = (outcome.is_disagreement() && !args.kernel_only)
                        .then(|| explain(judge, &program, outcome, &known))
                        .flatten();
                    let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    tally.add(program, &kernel, &skep, explained);
                }
            });
        }
    });
    Ok(tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// The name of the known disagreement that this is. What explains a program is looked for in what is left of it when all
/// is dropped that does not matter.
fn explain(judge: &Judge, program: &Generated, outcome: Outcome, known: &[Known]) -> Option<String> {
    let small = smaller(judge, program, outcome);
    let (kernel, skep) = (judge.kernel(&small, false), judge.skep(&small));
    known.iter().find(|known| known.explains(outcome, &kernel, &skep, &small)).map(|known| known.name.clone())
}

/// The program as small as both go on to say what they say of it.
fn smaller(judge: &Judge, program: &Generated, outcome: Outcome) -> Generated {
    let key = signature(outcome, &judge.kernel(program, false), &judge.skep(program));
    // Some programs take the verifiers seconds; what is not small by then stays as it is.
    let deadline = Instant::now() + SHRINK_TIME;
    program.shrink(|candidate| {
        Instant::now() < deadline && signature(outcome, &judge.kernel(candidate, false), &judge.skep(candidate)) == key
    })
}

impl Tally {
    fn add(&mut self, program: Generated, kernel: &KernelSays, skep: &SkepSays, explained: Option<String>) {
        let mut outcome = Outcome::of(kernel, skep);
        if let Some(name) = explained {
            *self.explained.entry(name).or_default() += 1;
            outcome = Outcome::Explained;
        }
        for row in [format!("1 {}", program.family), format!("2 {}", type_name(&program)), "3 all".to_owned()] {
            *self.rows.entry(row).or_default().entry(outcome).or_default() += 1;
        }
        if let KernelSays::Refuses { message, .. } | KernelSays::NotAsked(message) = kernel {
            let key = (program.family.clone(), pattern(message));
            *self.reasons.entry(key).or_default() += 1;
        }
        if let SkepSays::Unsupported(feature) = skep {
            *self.unsupported.entry(feature.clone()).or_default() += 1;
        }
        if outcome.is_disagreement() {
            self.found.push((program, outcome));
        }
    }

    /// How many of an outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.rows.get("3 all").and_then(|row| row.get(&outcome)).copied().unwrap_or(0)
    }

    /// Programs that both say the same of, and programs that both judge.
    pub fn agreement(&self) -> (u64, u64) {
        let same = self.count(Outcome::BothAccept) + self.count(Outcome::BothRefuse);
        let of = same + self.count(Outcome::TooStrict) + self.count(Outcome::TooLax) + self.count(Outcome::Panic);
        (same, of)
    }

    /// The disagreements, in order of their names.
    pub fn disagreements(&self) -> Vec<&(Generated, Outcome)> {
        let mut found: Vec<_> = self.found.iter().collect();
        found.sort_by_key(|(program, outcome)| (std::cmp::Reverse(*outcome), program.name.clone()));
        found
    }

    /// A line for each family, each type, and all.
    pub fn table(&self) -> String {
        let mut out = format!("{:<26}", "");
        for outcome in Outcome::ALL {
            let _ = write!(out, "{:>13}", outcome.title());
        }
        let _ = writeln!(out, "{:>10}", "accepted");
        for (name, row) in &self.rows {
            let count = |outcome| row.get(&outcome).copied().unwrap_or(0);
            let _ = write!(out, "{:<26}", &name[2..]);
            for outcome in Outcome::ALL {
                let _ = write!(out, "{:>13}", count(outcome));
            }
            let judged: u64 = row.values().sum::<u64>() - count(Outcome::Unsupported);
            let accepted = count(Outcome::BothAccept) + count(Outcome::TooStrict);
            let _ = writeln!(out, "{:>8} %", 100 * accepted / judged.max(1));
        }
        for (feature, count) in &self.unsupported {
            let _ = writeln!(out, "unsupported: {feature}: {count}");
        }
        for (name, count) in &self.explained {
            let _ = writeln!(out, "explained: {name}: {count}");
        }
        out
    }

    fn reasons(&self, most: usize) -> String {
        let mut list: Vec<_> = self.reasons.iter().collect();
        list.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        list.iter().take(most).fold(String::new(), |mut out, ((family, message), count)| {
            let _ = writeln!(out, "{count:>6}  {family:<16} {message}");
            out
        })
    }
}

fn type_name(program: &Generated) -> String {
    match program.attach_type {
        Some(attach) => format!("{}/{attach}", program.prog_type),
        None => program.prog_type.to_string(),
    }
}

/// A message without its numbers, so that those that say the same are counted together.
fn pattern(message: &str) -> String {
    let mut out = String::new();
    for c in message.chars().take(160) {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !out.ends_with('#') {
            out.push('#');
        }
    }
    out
}

/// Shrinks disagreements and writes each with both messages; of those with the same messages only the smallest.
fn write_found(judge: &Judge, tally: &Tally, out: &Path, most: usize) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut written = 0;
    for (program, outcome) in tally.disagreements() {
        if written >= most {
            break;
        }
        let (kernel, skep) = (judge.kernel(program, false), judge.skep(program));
        let key = signature(*outcome, &kernel, &skep);
        let times = seen.entry(key.clone()).or_default();
        *times += 1;
        if *times > 2 {
            continue;
        }
        let small = smaller(judge, program, *outcome);
        let path = out.join(format!("{}.txt", program.name));
        std::fs::write(&path, report(judge, &small, *outcome)).with_context(|| format!("write {}", path.display()))?;
        println!("{}: {}", outcome.title(), path.display());
        written += 1;
    }
    println!("{} disagreements, {} kinds, {written} written to {}", tally.found.len(), seen.len(), out.display());
    Ok(())
}

/// What makes two disagreements the same kind.
fn signature(outcome: Outcome, kernel: &KernelSays, skep: &SkepSays) -> String {
    let theirs = match kernel {
        KernelSays::Refuses { message, .. } => pattern(message),
        other => format!("{other:?}"),
    };
    let ours = match skep {
        SkepSays::Fails(message) => pattern(message.lines().next().unwrap_or_default()),
        other => format!("{other:?}"),
    };
    format!("{:?}|{}|{theirs}|{ours}", Outcome::of(kernel, skep), outcome.title())
}

/// A disagreement as a text that is a program too.
fn report(judge: &Judge, program: &Generated, outcome: Outcome) -> String {
    let mut out = format!("# {}\n", outcome.title());
    match judge.kernel(program, true) {
        KernelSays::Accepts => out.push_str("# kernel: accepts\n"),
        KernelSays::NotAsked(why) => {
            let _ = writeln!(out, "# kernel: not asked: {}", why.replace('\n', " "));
        }
        KernelSays::Refuses { errno, log, .. } => {
            let _ = writeln!(out, "# kernel: refuses, errno {errno}");
            for line in log.lines() {
                let _ = writeln!(out, "#   {line}");
            }
        }
    }
    for line in format!("skep: {:?}", judge.skep(program)).lines() {
        let _ = writeln!(out, "# {line}");
    }
    let _ = write!(out, "{program}");
    out
}
