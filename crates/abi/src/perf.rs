//! Perf events by name: `page-faults` -> type 1 (software), config 2.
//!
//! ```
//! use skep_abi::perf::{self, PerfType};
//! let event = perf::by_name("cycles").expect("a hardware event");
//! assert_eq!((event.kind, event.config), (PerfType::Hardware, 0));
//! ```
//!
//! Source: `include/uapi/linux/perf_event.h`. Names are those that `perf list` prints. Whether the machine has the
//! counter (a guest often has none) only an attempt tells. Events of a PMU (`/sys/bus/event_source`) are no table.

/// `perf_event_attr.type`. Source: `enum perf_type_id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u32)]
pub enum PerfType {
    /// `PERF_TYPE_HARDWARE`: a counter of the processor under its general name.
    Hardware = 0,
    /// `PERF_TYPE_SOFTWARE`: counted by the kernel.
    Software = 1,
    /// `PERF_TYPE_TRACEPOINT`: the config is the tracepoint's id in tracefs.
    Tracepoint = 2,
    /// `PERF_TYPE_HW_CACHE`: see [`cache_config`].
    HwCache = 3,
    /// `PERF_TYPE_RAW`: the config is the processor's own code.
    Raw = 4,
    /// `PERF_TYPE_BREAKPOINT`: a hardware breakpoint.
    Breakpoint = 5,
}

/// A perf event with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PerfEvent {
    /// `perf_event_attr.type`.
    pub kind: PerfType,
    /// `perf_event_attr.config`.
    pub config: u64,
    /// The name in the kernel's header, such as `PERF_COUNT_SW_CPU_CLOCK`.
    pub kernel_name: &'static str,
    /// The names that people type, the one to print first.
    pub names: &'static [&'static str],
    /// The sample period bpftrace takes where none is given; 0 where the event is sampled by frequency.
    pub default_period: u64,
}

/// The event with this name: `page-faults`, `faults` or `PERF_COUNT_SW_PAGE_FAULTS`.
pub fn by_name(name: &str) -> Option<&'static PerfEvent> {
    EVENTS.iter().find(|event| event.kernel_name == name || event.names.contains(&name))
}

/// The event with this type and config.
pub fn by_number(kind: PerfType, config: u64) -> Option<&'static PerfEvent> {
    EVENTS.iter().find(|event| event.kind == kind && event.config == config)
}

const fn software(config: u64, kernel_name: &'static str, names: &'static [&'static str], period: u64) -> PerfEvent {
    PerfEvent { kind: PerfType::Software, config, kernel_name, names, default_period: period }
}

const fn hardware(config: u64, kernel_name: &'static str, names: &'static [&'static str], period: u64) -> PerfEvent {
    PerfEvent { kind: PerfType::Hardware, config, kernel_name, names, default_period: period }
}

/// The software and hardware events.
pub static EVENTS: &[PerfEvent] = &[
    software(0, "PERF_COUNT_SW_CPU_CLOCK", &["cpu-clock", "cpu"], 1_000_000),
    software(1, "PERF_COUNT_SW_TASK_CLOCK", &["task-clock"], 1_000_000),
    software(2, "PERF_COUNT_SW_PAGE_FAULTS", &["page-faults", "faults"], 100),
    software(3, "PERF_COUNT_SW_CONTEXT_SWITCHES", &["context-switches", "cs"], 1000),
    software(4, "PERF_COUNT_SW_CPU_MIGRATIONS", &["cpu-migrations", "migrations"], 1),
    software(5, "PERF_COUNT_SW_PAGE_FAULTS_MIN", &["minor-faults"], 100),
    software(6, "PERF_COUNT_SW_PAGE_FAULTS_MAJ", &["major-faults"], 1),
    software(7, "PERF_COUNT_SW_ALIGNMENT_FAULTS", &["alignment-faults"], 1),
    software(8, "PERF_COUNT_SW_EMULATION_FAULTS", &["emulation-faults"], 1),
    software(9, "PERF_COUNT_SW_DUMMY", &["dummy"], 1),
    software(10, "PERF_COUNT_SW_BPF_OUTPUT", &["bpf-output"], 1),
    software(11, "PERF_COUNT_SW_CGROUP_SWITCHES", &["cgroup-switches"], 1000),
    hardware(0, "PERF_COUNT_HW_CPU_CYCLES", &["cycles", "cpu-cycles"], 1_000_000),
    hardware(1, "PERF_COUNT_HW_INSTRUCTIONS", &["instructions"], 1_000_000),
    hardware(2, "PERF_COUNT_HW_CACHE_REFERENCES", &["cache-references"], 1_000_000),
    hardware(3, "PERF_COUNT_HW_CACHE_MISSES", &["cache-misses"], 1_000_000),
    hardware(4, "PERF_COUNT_HW_BRANCH_INSTRUCTIONS", &["branches", "branch-instructions"], 100_000),
    hardware(5, "PERF_COUNT_HW_BRANCH_MISSES", &["branch-misses"], 100_000),
    hardware(6, "PERF_COUNT_HW_BUS_CYCLES", &["bus-cycles"], 100_000),
    hardware(
        7,
        "PERF_COUNT_HW_STALLED_CYCLES_FRONTEND",
        &["stalled-cycles-frontend", "idle-cycles-frontend", "frontend-stalls"],
        1_000_000,
    ),
    hardware(
        8,
        "PERF_COUNT_HW_STALLED_CYCLES_BACKEND",
        &["stalled-cycles-backend", "idle-cycles-backend", "backend-stalls"],
        1_000_000,
    ),
    hardware(9, "PERF_COUNT_HW_REF_CPU_CYCLES", &["ref-cycles"], 1_000_000),
];

/// `enum perf_hw_cache_id` by the names that `perf list` prints, number = place.
pub static CACHES: &[&str] = &["L1-dcache", "L1-icache", "LLC", "dTLB", "iTLB", "branch", "node"];
/// `enum perf_hw_cache_op_id`, number = place.
pub static CACHE_OPERATIONS: &[&str] = &["load", "store", "prefetch"];

/// The config of a [`PerfType::HwCache`] event: which cache, what is done, and whether only misses count.
///
/// `cache` is a place in [`CACHES`], `operation` one in [`CACHE_OPERATIONS`]; `None` beyond their ends.
pub fn cache_config(cache: usize, operation: usize, misses: bool) -> Option<u64> {
    let inside = cache < CACHES.len() && operation < CACHE_OPERATIONS.len();
    inside.then_some(cache as u64 | (operation as u64) << 8 | u64::from(misses) << 16)
}

/// The config of a cache event as `perf list` writes it: `LLC-load-misses`, `dTLB-stores`, `L1-dcache-loads`.
pub fn cache_by_name(name: &str) -> Option<u64> {
    CACHES.iter().enumerate().find_map(|(cache, cache_name)| {
        let rest = name.strip_prefix(cache_name)?.strip_prefix('-')?;
        CACHE_OPERATIONS.iter().enumerate().find_map(|(operation, word)| {
            let plural = if *word == "prefetch" { "es" } else { "s" };
            match rest.strip_prefix(word)? {
                end if end == plural => cache_config(cache, operation, false),
                "-misses" => cache_config(cache, operation, true),
                _ => None,
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_come_once() {
        for event in EVENTS {
            assert_eq!(by_number(event.kind, event.config), Some(event));
            for name in event.names.iter().chain([&event.kernel_name]) {
                assert_eq!(by_name(name), Some(event), "{name}");
            }
        }
    }

    #[test]
    fn cache_events_have_the_kernels_bits() {
        assert_eq!(cache_by_name("LLC-load-misses"), Some(0x1_0002));
        assert_eq!(cache_by_name("dTLB-stores"), Some(0x103));
        assert_eq!(cache_by_name("L1-dcache-prefetches"), Some(0x200));
        for bad in ["LLC", "LLC-", "LLC-load", "LLC-load-", "L2-loads", ""] {
            assert_eq!(cache_by_name(bad), None, "{bad}");
        }
        assert_eq!(cache_config(7, 0, false), None);
    }
}
