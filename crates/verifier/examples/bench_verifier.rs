//! The time that skep's verifier and the kernel's take for the same programs, as a table. Called by
//! `cargo xtask bench-verifier`.
//!
//! The kernel says itself how long it took ("verification time" of its log); skep's time is that of `check`. Both take
//! turns; a cell is the median. Memory is what `check` had allocated at most.
#![expect(unsafe_code, reason = "counting memory takes an allocator of one's own")]

use anyhow::{Context, Result, ensure};
use skep_abi::{KernelVersion, ProgramType};
use skep_btf::Btf;
use skep_kernel::LogLevel;
use skep_kernel::load::{LoadOptions, load};
use skep_object::{ObjectSpec, ProgramIdx, core, externs};
use skep_progen::Family;
use skep_verifier::{Options, Verdict, check};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Counts what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Of each family of generated programs, so many with so many fragments.
const LARGE: &[(Family, usize)] = &[
    (Family::Packet, 20),
    (Family::Maps, 12),
    (Family::Index, 8),
    (Family::Spills, 15),
    (Family::Loops, 30),
    (Family::Callbacks, 12),
    (Family::Subprograms, 12),
    (Family::Scalars, 10),
];

/// Generated programs that are tried of a kind, until two are found that both sides accept.
const TRIED: u64 = 200;

/// A program that both sides accept, as a row.
struct Row {
    name: String,
    insns: usize,
    kernel_insns: u64,
    our_insns: u32,
    kernel_us: f64,
    our_us: f64,
    peak_kib: f64,
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().context("usage: bench_verifier OBJECTS [ROUNDS]")?;
    let rounds: usize = args.next().map_or(Ok(11), |text| text.parse())?;
    let btf = Btf::parse(std::fs::read("/sys/kernel/btf/vmlinux")?)?;
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    let mut objects: Vec<_> = std::fs::read_dir(&dir)?.collect::<Result<Vec<_>, _>>()?;
    objects.sort_by_key(std::fs::DirEntry::file_name);
    for object in objects {
        let path = object.path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().replace(".bpf", "");
        let spec = ObjectSpec::parse(&name, &std::fs::read(&path)?)?;
        measure(&name, &spec, &btf, rounds, &mut rows, &mut left_out)?;
    }
    let examples = rows.len();
    for (family, fragments) in LARGE {
        let mut found = 0;
        for seed in 0..TRIED {
            let program = skep_progen::generate(*family, seed, &skep_progen::Options::large(*fragments));
            let spec = program.to_spec();
            let before = rows.len();
            let name = format!("generated {} {seed}", family.name());
            measure(&name, &spec, &btf, rounds, &mut rows, &mut Vec::new())?;
            found += usize::from(rows.len() > before);
            if found == 2 {
                break;
            }
        }
    }
    ensure!(examples > 0 && rows.len() > examples, "too few programs were measured: {examples} and {}", rows.len());
    print(&rows, examples, &left_out);
    Ok(())
}

fn print(rows: &[Row], examples: usize, left_out: &[String]) {
    println!(
        "| program | instructions | looked at (kernel) | looked at (skep) | kernel, µs | skep, µs | skep / kernel | skep's memory, KiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} | {:.0} | {:.0} | {:.2} | {:.0} |",
            row.name,
            row.insns,
            row.kernel_insns,
            row.our_insns,
            row.kernel_us,
            row.our_us,
            row.our_us / row.kernel_us,
            row.peak_kib
        );
    }
    let mean = |rows: &[Row]| {
        let sum: f64 = rows.iter().map(|row| (row.our_us / row.kernel_us).ln()).sum();
        (sum / rows.len() as f64).exp()
    };
    println!("| geometric mean of the examples | | | | | | {:.2} | |", mean(&rows[..examples]));
    println!("| geometric mean of the generated | | | | | | {:.2} | |", mean(&rows[examples..]));
    println!("| geometric mean | | | | | | {:.2} | |\n", mean(rows));
    let slowest = rows[..examples].iter().map(|row| row.our_us).fold(0.0, f64::max);
    let most = rows.iter().map(|row| row.peak_kib).fold(0.0, f64::max);
    println!(
        "To reach: no slower than the kernel in the geometric mean; 10 ms for a typical tool (slowest example here {:.1} ms). \
         Most memory: {:.1} MiB.",
        slowest / 1e3,
        most / 1024.0
    );
    if !left_out.is_empty() {
        println!("\nLeft out, because one side does not judge them here: {}.", left_out.join("; "));
    }
}

/// Measures the programs of a spec that both sides accept.
fn measure(
    name: &str,
    spec: &ObjectSpec,
    btf: &Btf,
    rounds: usize,
    rows: &mut Vec<Row>,
    left_out: &mut Vec<String>,
) -> Result<()> {
    let mut ours = spec.clone();
    let version = KernelVersion::new(6, 18);
    externs::set_kconfig(&mut ours, |name| match name {
        "LINUX_KERNEL_VERSION" => Some(version.code().to_string()),
        _ => None,
    })
    .ok();
    core::relocate_with(&mut ours, std::slice::from_ref(btf))?;
    for (index, program) in spec.programs.iter().enumerate() {
        let label = if spec.programs.len() == 1 { name.to_owned() } else { format!("{name}: {}", program.name) };
        let options = Options { kernel: version, target_btf: Some(btf), ..Options::default() };
        let (mut kernel_us, mut our_us, mut kernel_insns) = (Vec::new(), Vec::new(), 0);
        let mut our_insns = 0;
        let mut peak_kib = 0.0;
        for round in 0..=rounds {
            let wanted = skep_kernel::load::Selection::Named(vec![program.name.clone()]);
            let load_options = LoadOptions { programs: wanted, log_level: LogLevel::Stats, ..LoadOptions::default() };
            let loaded = match load(spec, &load_options) {
                Ok(loaded) => loaded,
                Err(_) => {
                    left_out.push(format!("{label} (the kernel)"));
                    break;
                }
            };
            let log = loaded.programs().next().map(|program| program.log().to_owned()).unwrap_or_default();
            let Some((time, insns)) = from_log(&log) else {
                left_out.push(format!("{label} (no time in the kernel's log)"));
                break;
            };
            let before = NOW.load(Relaxed);
            PEAK.store(before, Relaxed);
            let started = Instant::now();
            let report = check(&ours, ProgramIdx(index), &options);
            let elapsed = started.elapsed().as_secs_f64() * 1e6;
            peak_kib = (PEAK.load(Relaxed) - before) as f64 / 1024.0;
            if !matches!(report.verdict, Verdict::Pass) {
                left_out.push(format!("{label} (skep)"));
                break;
            }
            our_insns = report.stats.insns_processed;
            kernel_insns = insns;
            // The first round warms both up.
            if round > 0 {
                kernel_us.push(time);
                our_us.push(elapsed);
            }
        }
        if our_us.len() < rounds || program.hook.prog_type == ProgramType::Unspec {
            continue;
        }
        rows.push(Row {
            name: label,
            insns: program.insns.len(),
            kernel_insns,
            our_insns,
            kernel_us: median(&mut kernel_us),
            our_us: median(&mut our_us),
            peak_kib,
        });
    }
    Ok(())
}

/// Time in µs and instructions looked at.
fn from_log(log: &str) -> Option<(f64, u64)> {
    let number = |before: &str| {
        let rest = log.split_once(before)?.1;
        rest.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    Some((number("verification time ")?.max(1.0), number("processed ")? as u64))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
