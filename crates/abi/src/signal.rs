//! Signals: `9` <-> `SIGKILL` <-> "Killed".
//!
//! ```
//! use skep_abi::signal;
//! assert_eq!(signal::name(9).as_deref(), Some("SIGKILL"));
//! assert_eq!(signal::number("kill"), Some(9));
//! assert_eq!(signal::name(36).as_deref(), Some("SIGRTMIN+2"));
//! ```
//!
//! Source: `include/uapi/asm-generic/signal.h`; x86-64 and arm64 have these numbers (MIPS, Alpha and SPARC do not).
//! The real-time signals start at 34 here, where glibc has SIGRTMIN: 32 and 33 it keeps for its threads.

/// One signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// 1 to 31.
    pub number: u32,
    /// Such as `SIGTERM`.
    pub name: &'static str,
    /// What strsignal(3) says.
    pub text: &'static str,
}

/// The first real-time signal that a program gets from its C library.
pub const RT_MIN: u32 = 34;
/// The last signal there is.
pub const RT_MAX: u32 = 64;

/// The name of a signal: `SIGTERM`, `SIGRTMIN+2`, or `None` for a number that is none (0, 65).
pub fn name(number: u32) -> Option<String> {
    match number {
        32 | 33 => Some(format!("SIG{number}")),
        RT_MIN => Some("SIGRTMIN".to_owned()),
        RT_MAX => Some("SIGRTMAX".to_owned()),
        35..RT_MAX => Some(format!("SIGRTMIN+{}", number - RT_MIN)),
        _ => SIGNALS.iter().find(|signal| signal.number == number).map(|signal| signal.name.to_owned()),
    }
}

/// The number of a signal: `SIGTERM`, `TERM`, `term`, `SIGRTMIN+2`, `SIGRTMAX-1`, and a number as text are known.
pub fn number(name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return (1..=RT_MAX).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |number: Option<u32>| number.filter(|number| (RT_MIN..=RT_MAX).contains(number));
    if let Some(rest) = short.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() { Some(0) } else { rest.strip_prefix('+').and_then(|n| n.parse::<u32>().ok()) };
        return real_time(offset.and_then(|offset| RT_MIN.checked_add(offset)));
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        let offset = if rest.is_empty() { Some(0) } else { rest.strip_prefix('-').and_then(|n| n.parse::<u32>().ok()) };
        return real_time(offset.and_then(|offset| RT_MAX.checked_sub(offset)));
    }
    let short = match short {
        "IOT" => "ABRT",
        "POLL" => "IO",
        "CLD" => "CHLD",
        other => other,
    };
    SIGNALS.iter().find(|signal| signal.name.strip_prefix("SIG") == Some(short)).map(|signal| signal.number)
}

/// The signals with names, by number.
#[rustfmt::skip]
pub static SIGNALS: &[Signal] = &[
    Signal { number: 1, name: "SIGHUP", text: "Hangup" },
    Signal { number: 2, name: "SIGINT", text: "Interrupt" },
    Signal { number: 3, name: "SIGQUIT", text: "Quit" },
    Signal { number: 4, name: "SIGILL", text: "Illegal instruction" },
    Signal { number: 5, name: "SIGTRAP", text: "Trace/breakpoint trap" },
    Signal { number: 6, name: "SIGABRT", text: "Aborted" },
    Signal { number: 7, name: "SIGBUS", text: "Bus error" },
    Signal { number: 8, name: "SIGFPE", text: "Floating point exception" },
    Signal { number: 9, name: "SIGKILL", text: "Killed" },
    Signal { number: 10, name: "SIGUSR1", text: "User defined signal 1" },
    Signal { number: 11, name: "SIGSEGV", text: "Segmentation fault" },
    Signal { number: 12, name: "SIGUSR2", text: "User defined signal 2" },
    Signal { number: 13, name: "SIGPIPE", text: "Broken pipe" },
    Signal { number: 14, name: "SIGALRM", text: "Alarm clock" },
    Signal { number: 15, name: "SIGTERM", text: "Terminated" },
    Signal { number: 16, name: "SIGSTKFLT", text: "Stack fault" },
    Signal { number: 17, name: "SIGCHLD", text: "Child exited" },
    Signal { number: 18, name: "SIGCONT", text: "Continued" },
    Signal { number: 19, name: "SIGSTOP", text: "Stopped (signal)" },
    Signal { number: 20, name: "SIGTSTP", text: "Stopped" },
    Signal { number: 21, name: "SIGTTIN", text: "Stopped (tty input)" },
    Signal { number: 22, name: "SIGTTOU", text: "Stopped (tty output)" },
    Signal { number: 23, name: "SIGURG", text: "Urgent I/O condition" },
    Signal { number: 24, name: "SIGXCPU", text: "CPU time limit exceeded" },
    Signal { number: 25, name: "SIGXFSZ", text: "File size limit exceeded" },
    Signal { number: 26, name: "SIGVTALRM", text: "Virtual timer expired" },
    Signal { number: 27, name: "SIGPROF", text: "Profiling timer expired" },
    Signal { number: 28, name: "SIGWINCH", text: "Window changed" },
    Signal { number: 29, name: "SIGIO", text: "I/O possible" },
    Signal { number: 30, name: "SIGPWR", text: "Power failure" },
    Signal { number: 31, name: "SIGSYS", text: "Bad system call" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_a_name_that_reads_back() {
        for signal in 1..=RT_MAX {
            let text = name(signal).expect("1 to 64 are signals");
            if !(32..34).contains(&signal) {
                assert_eq!(number(&text), Some(signal), "{text}");
                assert_eq!(number(&text.to_lowercase()["sig".len()..]), Some(signal), "{text}");
            }
            assert_eq!(number(&signal.to_string()), Some(signal));
        }
        for bad in ["0", "65", "", "SIG", "nosuch", "SIGRTMIN+31", "SIGRTMAX-99", "RTMIN+", "RTMIN-1"] {
            assert_eq!(number(bad), None, "{bad}");
        }
        assert_eq!(name(0), None);
        assert_eq!(number("SIGRTMAX-1"), Some(63));
        assert_eq!(number("SIGPOLL"), Some(29));
    }
}
