//! Follows the command: the stops that the kernel reports -> events for the callback -> how each task goes on.
//!
//! One stop is handled at a time: the task reports (waitpid), its events go to the callback while it stands still, and it
//! is resumed. The order of events is the order in which the kernel reports stops, put right in one place: a new task may
//! report before the parent that made it, and then waits (`early`) until the parent has.

use super::filter;
use super::start::{Launch, Stage};
use super::sys::{self, CallStop, Resume, Ticker};
use super::task::{self, InCall, Process, State, Task};
use super::{
    Arch, Calls, Command, End, Event, EventKind, Exec, Exit, Fork, Progress, Signal, Stops, SysEnter, SysExit,
    TraceError, Until, Wants,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a time limit and a stop flag are looked at while nothing happens.
const TICK_NS: u32 = 20_000_000;

/// How long tasks are waited for after they were killed.
const REAP_TIME: Duration = Duration::from_secs(5);

// Numbers of x86-64 that mean something to the tracer itself.
const RT_SIGACTION: u32 = 13;
const RT_SIGRETURN: i64 = 15;
const EXECVE: i64 = 59;
const PRCTL: i64 = 157;
/// setuid, setgid, setreuid, setregid, setresuid, setresgid.
const CHANGE_USER: [u32; 6] = [105, 106, 113, 114, 117, 119];
/// Bit 30 marks a call of the x32 interface.
const X32: i64 = 0x4000_0000;

const PR_SET_NAME: u64 = 15;
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_THREAD: u64 = 0x1_0000;
/// The exit signal in clone(2)'s flags.
const CSIGNAL: u64 = 0xff;

// Words of `struct user_regs_struct`.
const REG_BX: usize = 5;
const REG_AX: usize = 10;
const REG_DI: usize = 14;
const REG_ORIG_AX: usize = 15;

type OnEvent<'a> = dyn FnMut(&Event, &Task<'_>) -> ControlFlow<()> + 'a;

/// A command that is followed, see the module. It waits until [`Tracer::run`] is called for the first time. Dropped, it and
/// all it started are killed.
#[derive(Debug)]
pub struct Tracer {
    command: String,
    launch: Launch,
    wants: Wants,
    /// Calls stop by the filter, not all of them.
    by_filter: bool,
    /// The command has not replaced the child yet.
    launching: bool,
    leader_end: Option<End>,
    tasks: HashMap<u32, State>,
    processes: HashMap<u32, Process>,
    /// New tasks whose parent has not reported them yet, with the status they reported.
    early: BTreeMap<u32, i32>,
    now_ns: u64,
    /// The callback wants a break.
    broke: bool,
    ticker: Ticker,
    /// ptrace binds to the thread.
    _stays_here: PhantomData<*const ()>,
}

impl Tracer {
    /// Starts the command up to where it would become the program, and holds it there.
    ///
    /// # Errors
    /// [`TraceError::Exec`] when there is no such program (other reasons it cannot run show in [`Tracer::run`]),
    /// [`TraceError::NotPermitted`] where ptrace is forbidden, [`TraceError::OtherChildren`] on a thread that has children.
    pub fn start(command: &Command, wants: &Wants) -> Result<Tracer, TraceError> {
        let name = command.name();
        if let Some(child) = own_child() {
            return Err(TraceError::OtherChildren { command: name, child });
        }
        let by_filter = wants.stops == Stops::Fewest && wants.exit != Calls::All;
        let program = by_filter.then(|| {
            let mut calls = wants.enter.clone();
            calls.add(&wants.exit);
            calls.add(&Calls::Only(CHANGE_USER.into_iter().collect()));
            if wants.signal {
                calls.add(&Calls::Only(BTreeSet::from([RT_SIGACTION])));
            }
            match calls {
                Calls::All => filter::program(&BTreeSet::new(), true, false),
                Calls::Only(calls) => filter::program(&calls, false, true),
                Calls::None => filter::program(&BTreeSet::new(), false, true),
            }
        });
        let ticker = Ticker::new().map_err(|source| TraceError::Start {
            command: name.clone(),
            action: "make a timer",
            source,
        })?;
        let launch = Launch::new(command, program.as_deref())?;
        let pid = launch.pid;
        let state = State { tgid: pid, started: true, ..State::default() };
        let tracer = Tracer {
            command: name,
            launch,
            wants: wants.clone(),
            by_filter,
            launching: true,
            leader_end: None,
            tasks: HashMap::from([(pid, state)]),
            processes: HashMap::from([(pid, Process { live: 1, ..Process::default() })]),
            early: BTreeMap::new(),
            now_ns: 0,
            broke: false,
            ticker,
            _stays_here: PhantomData,
        };
        // From here on dropping the tracer ends the child.
        tracer.seize(pid)?;
        Ok(tracer)
    }

    /// The command's process.
    pub fn pid(&self) -> u32 {
        self.launch.pid
    }

    /// How the command ended, if it has; what it started may still run.
    pub fn command_end(&self) -> Option<End> {
        self.leader_end
    }

    fn seize(&self, pid: u32) -> Result<(), TraceError> {
        let mut options = libc::PTRACE_O_EXITKILL
            | libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEEXEC;
        if self.by_filter {
            options |= libc::PTRACE_O_TRACESECCOMP;
        }
        // A call that its task's end interrupts ends there too, without a stop of its own.
        if self.wants.task_exit || self.wants.exit != Calls::None {
            options |= libc::PTRACE_O_TRACEEXIT;
        }
        sys::seize(pid, options).map_err(|source| self.seize_failed(pid, source))?;
        let follow = |action| move |source| TraceError::Follow { tid: pid, action, source };
        sys::interrupt(pid).map_err(follow("stop it"))?;
        loop {
            match sys::wait(pid as i32, sys::WALL) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(follow("wait for it to stop")(error)),
                Ok(Some((_, status))) if libc::WIFSTOPPED(status) => {
                    if status >> 16 == libc::PTRACE_EVENT_STOP {
                        return Ok(());
                    }
                    let signal = libc::WSTOPSIG(status);
                    sys::resume(pid, Resume::Cont, signal).map_err(follow("let it go on"))?;
                }
                Ok(_) => {
                    let source = io::Error::other("it ended before the command was started");
                    return Err(follow("wait for it to stop")(source));
                }
            }
        }
    }

    fn seize_failed(&self, pid: u32, source: io::Error) -> TraceError {
        let command = self.command.clone();
        let action = "follow";
        if !matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS)) {
            return TraceError::Follow { tid: pid, action: "start to follow it", source };
        }
        let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
        let tracer = task::status_number(&status, "TracerPid:").filter(|&pid| pid != 0);
        let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
        let scope = scope.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
        let (cause, next) = if let Some(tracer) = tracer {
            (
                format!("process {tracer} follows it already, and only one can ({source})"),
                "run this outside of that debugger or strace",
            )
        } else if scope >= 2 {
            (
                format!("ptrace is kept for privileged users here (kernel.yama.ptrace_scope is {scope})"),
                "run as root, have an administrator lower kernel.yama.ptrace_scope to 1, or use the kernel engine",
            )
        } else {
            (
                format!("ptrace is refused here ({source}), as a container's security profile does"),
                "allow ptrace there (docker and podman: --cap-add SYS_PTRACE), or use the kernel engine",
            )
        };
        TraceError::NotPermitted { command, action, cause, next }
    }

    /// Follows the command until it has ended, the callback breaks, or `until` says so. The callback is called for each
    /// event, with the task stopped; when it breaks, the events of the same stop still come, then the task runs on to its next.
    ///
    /// # Errors
    /// [`TraceError::Exec`] and [`TraceError::NotPermitted`] when the command could not be started, [`TraceError::Follow`]
    /// when the kernel refuses what it never should.
    pub fn run(&mut self, until: Until<'_>, on_event: &mut OnEvent<'_>) -> Result<Progress, TraceError> {
        if !self.launch.gone() {
            let pid = self.launch.pid;
            let follow = |source| TraceError::Follow { tid: pid, action: "let it go", source };
            self.launch.go().map_err(follow)?;
            self.resume(pid, 0)?;
        }
        let ticks = until.deadline.is_some() || until.stop.is_some();
        if ticks {
            let follow = |source| TraceError::Follow { tid: self.launch.pid, action: "start a timer", source };
            self.ticker.start(TICK_NS).map_err(follow)?;
        }
        let result = self.follow(until, on_event);
        if ticks {
            self.ticker.stop();
        }
        result
    }

    fn follow(&mut self, until: Until<'_>, on_event: &mut OnEvent<'_>) -> Result<Progress, TraceError> {
        loop {
            if self.tasks.is_empty() && self.early.is_empty() {
                return self.ended();
            }
            if until.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(Progress::Stopped);
            }
            if until.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Progress::TimedOut);
            }
            match sys::wait(-1, sys::WALL | sys::THIS_THREAD) {
                Ok(Some((tid, status))) => {
                    self.now_ns = self.now_ns.max(sys::now_ns());
                    self.report(tid, status, on_event)?;
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing is left that could report, whatever was thought to be there.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    self.tasks.clear();
                    self.early.clear();
                }
                Err(source) => {
                    return Err(TraceError::Follow { tid: self.launch.pid, action: "wait for its next event", source });
                }
            }
            if std::mem::take(&mut self.broke) {
                return Ok(Progress::Broke);
            }
        }
    }

    /// All tasks are gone.
    fn ended(&self) -> Result<Progress, TraceError> {
        if self.launching
            && let Some((stage, source)) = self.launch.failure()
        {
            let command = self.command.clone();
            return Err(match stage {
                Stage::Exec => TraceError::Exec { command, source },
                Stage::Directory => TraceError::Start { command, action: "change into its directory", source },
                Stage::Filter => TraceError::NotPermitted {
                    command,
                    action: "install the system call filter for",
                    cause: source.to_string(),
                    next: "follow it without a filter (Stops::EveryCall), which is slower",
                },
            });
        }
        match self.leader_end {
            Some(end) => Ok(Progress::Ended(end)),
            None => Err(TraceError::Follow {
                tid: self.launch.pid,
                action: "learn how it ended",
                source: io::Error::from_raw_os_error(libc::ECHILD),
            }),
        }
    }

    /// What a task reports.
    fn report(&mut self, tid: u32, status: i32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        if !self.tasks.contains_key(&tid) {
            // Its parent's report is still to come, or never will if the parent has just been killed.
            self.early.insert(tid, status);
            self.adopt_orphans(on_event)?;
            return Ok(());
        }
        if let Some(state) = self.tasks.get(&tid) {
            state.registers.set(None);
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return self.gone(tid, status, on_event);
        }
        if !libc::WIFSTOPPED(status) {
            return Ok(());
        }
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => self.call_stop(tid, on_event)?,
            0 => return self.signal_stop(tid, signal, on_event),
            libc::PTRACE_EVENT_SECCOMP => self.call_stop(tid, on_event)?,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                self.fork_stop(tid, on_event)?;
            }
            libc::PTRACE_EVENT_EXEC => self.exec_stop(tid, on_event)?,
            libc::PTRACE_EVENT_EXIT => self.exit_stop(tid, on_event)?,
            libc::PTRACE_EVENT_STOP => return self.event_stop(tid, signal, on_event),
            _ => {}
        }
        self.resume(tid, 0)
    }

    /// Lets a stopped task go on. One that was killed meanwhile reports its end next.
    fn resume(&self, tid: u32, signal: i32) -> Result<(), TraceError> {
        let awaits_end = self.tasks.get(&tid).is_some_and(|state| state.call.is_some());
        let how = if self.by_filter && !awaits_end { Resume::Cont } else { Resume::Syscall };
        self.request(tid, how, signal)
    }

    fn request(&self, tid: u32, how: Resume, signal: i32) -> Result<(), TraceError> {
        match sys::resume(tid, how, signal) {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => {
                Err(TraceError::Follow { tid, action: "let it go on", source })
            }
            _ => Ok(()),
        }
    }

    fn emit(&mut self, tid: u32, kind: EventKind, alive: bool, on_event: &mut OnEvent<'_>) {
        let Some(state) = self.tasks.get(&tid) else { return };
        let event = Event { at_ns: self.now_ns, tid, tgid: state.tgid, kind };
        let task = Task { tid, now_ns: self.now_ns, state, alive };
        if on_event(&event, &task).is_break() {
            self.broke = true;
        }
    }

    /// Asks the kernel something about a stopped task; `None` if it was killed meanwhile.
    fn ask<T>(tid: u32, action: &'static str, answer: io::Result<T>) -> Result<Option<T>, TraceError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
            Err(source) => Err(TraceError::Follow { tid, action, source }),
        }
    }

    fn call_stop(&mut self, tid: u32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        let Some(info) = Self::ask(tid, "ask for its system call", sys::call_info(tid))? else { return Ok(()) };
        let arch = arch_of(info.arch);
        match info.stop {
            CallStop::None => {}
            CallStop::Entry | CallStop::Seccomp => {
                let [a0, a1, ..] = info.args;
                let call = InCall { arch, number: info.first as i64, args: [a0, a1] };
                if self.wants.enter.contains(arch, call.number) && self.shown(&call) {
                    let enter = SysEnter { arch, number: call.number, args: info.args, ip: info.ip, sp: info.sp };
                    self.emit(tid, EventKind::SysEnter(enter), true, on_event);
                }
                let end_matters =
                    !self.by_filter || self.wants.exit.contains(arch, call.number) || self.concerns(&call);
                if let Some(state) = self.tasks.get_mut(&tid) {
                    state.call = end_matters.then_some(call);
                }
            }
            CallStop::Exit => {
                // The call that a task was in when it began to be followed is the tracer's own.
                let Some(call) = self.tasks.get_mut(&tid).and_then(|state| state.call.take()) else { return Ok(()) };
                let result = info.first as i64;
                self.learn(tid, &call, result);
                if self.wants.exit.contains(call.arch, call.number) && self.shown(&call) {
                    let returns = call.arch == Arch::X86_64 && call.number == RT_SIGRETURN;
                    let number = if returns { -1 } else { call.number };
                    self.emit(tid, EventKind::SysExit(SysExit { arch, number, result }), true, on_event);
                }
            }
        }
        Ok(())
    }

    /// Until the command runs, all that the child does is the tracer's own matter, but for becoming the command.
    fn shown(&self, call: &InCall) -> bool {
        !self.launching || call.arch == Arch::X86_64 && call.number == EXECVE
    }

    /// Whether what is known of a task may change by this call.
    fn concerns(&self, call: &InCall) -> bool {
        let number = u32::try_from(call.number).unwrap_or(u32::MAX);
        call.arch == Arch::X86_64
            && (CHANGE_USER.contains(&number)
                || call.number == PRCTL && call.args[0] == PR_SET_NAME
                || self.wants.signal && number == RT_SIGACTION)
    }

    /// Takes note of a call that has succeeded.
    fn learn(&mut self, tid: u32, call: &InCall, result: i64) {
        if result != 0 || !self.concerns(call) {
            return;
        }
        let Some(state) = self.tasks.get(&tid) else { return };
        if call.number == PRCTL {
            state.comm.set(None);
        } else if call.number == i64::from(RT_SIGACTION) {
            let [signal, action] = call.args;
            // The handler and the flags are the first two words of the kernel's struct sigaction.
            let mut words = [0; 16];
            let read = action != 0 && sys::read_memory(tid, action, &mut words).is_ok_and(|read| read == words.len());
            if read && let Some(process) = self.processes.get_mut(&state.tgid) {
                let [h0, h1, h2, h3, h4, h5, h6, h7, flags @ ..] = words;
                let handler = u64::from_ne_bytes([h0, h1, h2, h3, h4, h5, h6, h7]);
                process.handlers.insert(signal as i32, (handler, u64::from_ne_bytes(flags)));
            }
        } else {
            state.user.set(None);
        }
    }

    fn signal_stop(&mut self, tid: u32, signal: i32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        if self.wants.signal && !self.launching && !ignored(tid, signal) {
            let info = Self::ask(tid, "ask for its signal", sys::signal_info(tid))?;
            if let Some((_, errno, code)) = info {
                let tgid = self.tasks.get(&tid).map(|state| state.tgid).unwrap_or_default();
                let handlers = self.processes.get(&tgid).map(|process| &process.handlers);
                let (handler, handler_flags) =
                    handlers.and_then(|handlers| handlers.get(&signal)).copied().unwrap_or_default();
                let signal = Signal { signal, errno, code, handler, handler_flags };
                self.emit(tid, EventKind::Signal(signal), true, on_event);
            }
        }
        self.resume(tid, signal)
    }

    /// The first stop of a new task, one by job control, or the end of that.
    fn event_stop(&mut self, tid: u32, signal: i32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        if let Some(state) = self.tasks.get_mut(&tid)
            && !state.started
        {
            state.started = true;
            // What it returns from first is the call that made it, but only the parent has been seen going in.
            if let Some(call) = state.made_by.take()
                && self.wants.exit.contains(call.arch, call.number)
            {
                let exit = SysExit { arch: call.arch, number: call.number, result: 0 };
                self.emit(tid, EventKind::SysExit(exit), true, on_event);
            }
        }
        match signal {
            libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => self.request(tid, Resume::Listen, 0),
            _ => self.resume(tid, 0),
        }
    }

    fn fork_stop(&mut self, tid: u32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        let Some(child) = Self::ask(tid, "ask for its child", sys::event_message(tid))? else { return Ok(()) };
        let Ok(child) = u32::try_from(child) else { return Ok(()) };
        let call = made_by(tid);
        let flags = call.map_or(0, |call| clone_flags(tid, &call));
        self.adopt(child, tid, flags, call, on_event)
    }

    /// Takes a new task in, which may have reported already.
    fn adopt(
        &mut self,
        child: u32,
        parent: u32,
        clone_flags: u64,
        made_by: Option<InCall>,
        on_event: &mut OnEvent<'_>,
    ) -> Result<(), TraceError> {
        let (parent_tgid, comm, user) = match self.tasks.get(&parent) {
            Some(state) => (state.tgid, state.comm.get(), state.user.get()),
            None => (parent, None, None),
        };
        let tgid = if clone_flags & CLONE_THREAD == 0 { child } else { parent_tgid };
        let handlers = self.processes.get(&parent_tgid).map(|process| process.handlers.clone()).unwrap_or_default();
        self.processes.entry(tgid).or_insert(Process { live: 0, handlers }).live += 1;
        let state = State { tgid, made_by, ..State::default() };
        state.comm.set(comm);
        state.user.set(user);
        self.tasks.insert(child, state);
        if self.wants.fork && !self.launching {
            let fork = Fork { child_tid: child, child_tgid: tgid, clone_flags };
            self.emit(parent, EventKind::Fork(fork), true, on_event);
        }
        match self.early.remove(&child) {
            Some(status) => self.report(child, status, on_event),
            None => Ok(()),
        }
    }

    /// New tasks whose parent has died without reporting them: SIGKILL does that.
    fn adopt_orphans(&mut self, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        let waiting: Vec<u32> = self.early.keys().copied().collect();
        for child in waiting {
            let status = std::fs::read(format!("/proc/{child}/status")).unwrap_or_default();
            let tgid = task::status_number(&status, "Tgid:").unwrap_or(child);
            let parent = if tgid == child { task::status_number(&status, "PPid:").unwrap_or(0) } else { tgid };
            // As long as one task of the parent's process lives, its report may be on its way.
            if self.processes.get(&parent).is_some_and(|process| process.live > 0) {
                continue;
            }
            let flags = if tgid == child { 0 } else { CLONE_THREAD };
            self.adopt(child, parent, flags, None, on_event)?;
        }
        Ok(())
    }

    fn exec_stop(&mut self, tid: u32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        let Some(old) = Self::ask(tid, "ask which thread it was", sys::event_message(tid))? else { return Ok(()) };
        let old = u32::try_from(old).unwrap_or(tid);
        if old != tid {
            // The thread takes the place of its process's first one, which ended without a report.
            self.end_task(tid, Exit { code: 0, signal: 0, group_dead: false }, false, on_event);
            if let Some(state) = self.tasks.remove(&old) {
                self.tasks.insert(tid, state);
            }
        }
        if tid == self.launch.pid {
            self.launching = false;
        }
        if let Some(state) = self.tasks.get(&tid) {
            state.comm.set(None);
            state.user.set(None);
        }
        // Of the other threads some may not have reported their end yet; they do, but count no more.
        let others: Vec<u32> = self
            .tasks
            .iter()
            .filter(|&(&other, state)| state.tgid == tid && other != tid)
            .map(|(&other, _)| other)
            .collect();
        for other in others {
            self.end_task(other, Exit { code: 0, signal: 0, group_dead: false }, false, on_event);
        }
        if let Some(process) = self.processes.get_mut(&tid) {
            process.live = 1;
            // Handlers are gone with the program; what was ignored stays ignored.
            process.handlers.retain(|_, (handler, _)| *handler == libc::SIG_IGN as u64);
        }
        if self.wants.exec {
            let exec = Exec { filename: exec_filename(tid), old_tid: old };
            self.emit(tid, EventKind::Exec(exec), true, on_event);
        }
        Ok(())
    }

    fn exit_stop(&mut self, tid: u32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        let Some(status) = Self::ask(tid, "ask for its exit status", sys::event_message(tid))? else { return Ok(()) };
        let call = self.tasks.get_mut(&tid).and_then(|state| state.call.take());
        // A task that was killed within a call has returned from it, but did not stop on the way.
        if let Some(call) = call
            && !never_returns(&call)
            && self.wants.exit.contains(call.arch, call.number)
            && self.shown(&call)
            && let Some(registers) = Self::ask(tid, "read its registers", sys::registers(tid))?
            && let Some(&result) = registers.get(REG_AX)
        {
            let exit = SysExit { arch: call.arch, number: call.number, result: result as i64 };
            self.emit(tid, EventKind::SysExit(exit), true, on_event);
        }
        self.end_task(tid, exit_of(status as i32), true, on_event);
        Ok(())
    }

    /// A task has ended, or is about to; the event comes once.
    fn end_task(&mut self, tid: u32, exit: Exit, alive: bool, on_event: &mut OnEvent<'_>) {
        let Some(state) = self.tasks.get_mut(&tid) else { return };
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        let tgid = state.tgid;
        let mut group_dead = false;
        if let Some(process) = self.processes.get_mut(&tgid) {
            process.live = process.live.saturating_sub(1);
            group_dead = process.live == 0;
        }
        if self.wants.task_exit && !self.launching {
            self.emit(tid, EventKind::Exit(Exit { group_dead, ..exit }), alive, on_event);
        }
    }

    /// A task is gone for good.
    fn gone(&mut self, tid: u32, status: i32, on_event: &mut OnEvent<'_>) -> Result<(), TraceError> {
        self.end_task(tid, exit_of(status), false, on_event);
        let Some(state) = self.tasks.remove(&tid) else { return Ok(()) };
        if tid == self.launch.pid {
            self.leader_end = Some(if libc::WIFEXITED(status) {
                End::Code(libc::WEXITSTATUS(status) as u8)
            } else {
                End::Signal { number: libc::WTERMSIG(status) as u8, core_dumped: libc::WCOREDUMP(status) }
            });
        }
        if !self.tasks.values().any(|other| other.tgid == state.tgid) {
            self.processes.remove(&state.tgid);
        }
        if self.early.is_empty() { Ok(()) } else { self.adopt_orphans(on_event) }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        for &pid in self.processes.keys().chain(self.early.keys()) {
            sys::kill(pid, libc::SIGKILL);
        }
        let give_up = Instant::now() + REAP_TIME;
        while !(self.tasks.is_empty() && self.early.is_empty()) && Instant::now() < give_up {
            match sys::wait(-1, sys::WALL | sys::THIS_THREAD | sys::NO_HANG) {
                Ok(Some((tid, status))) if libc::WIFSTOPPED(status) => {
                    // A child made in the last moment has not been killed yet.
                    if !self.tasks.contains_key(&tid) {
                        self.early.insert(tid, status);
                        sys::kill(tid, libc::SIGKILL);
                    }
                    let _ = sys::resume(tid, Resume::Cont, 0);
                }
                Ok(Some((tid, _))) => {
                    self.tasks.remove(&tid);
                    self.early.remove(&tid);
                }
                Ok(None) => std::thread::sleep(Duration::from_micros(200)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // None is left.
                Err(_) => return,
            }
        }
    }
}

/// A child that the calling thread has already, where the kernel tells.
fn own_child() -> Option<u32> {
    let children = std::fs::read_to_string("/proc/thread-self/children").ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

fn arch_of(audit: u32) -> Arch {
    if audit == filter::ARCH_I386 { Arch::I386 } else { Arch::X86_64 }
}

/// exit and exit_group.
fn never_returns(call: &InCall) -> bool {
    match call.arch {
        Arch::X86_64 => matches!(call.number & !X32, 60 | 231),
        Arch::I386 => matches!(call.number, 1 | 252),
    }
}

/// The call that a task is in while it reports a child.
fn made_by(tid: u32) -> Option<InCall> {
    let arch = arch_of(sys::call_info(tid).ok()?.arch);
    let registers = sys::registers(tid).ok()?;
    let first = if arch == Arch::I386 { REG_BX } else { REG_DI };
    let [number, a0] = [registers.get(REG_ORIG_AX)?, registers.get(first)?];
    Some(InCall { arch, number: *number as i64, args: [*a0, 0] })
}

/// The flags of the call that made a child, as far as they can be read.
fn clone_flags(tid: u32, call: &InCall) -> u64 {
    let number = if call.arch == Arch::X86_64 { call.number & !X32 } else { call.number };
    match (call.arch, number) {
        (Arch::X86_64, 56) | (Arch::I386, 120) => call.args[0] & !CSIGNAL,
        (Arch::X86_64, 58) | (Arch::I386, 190) => CLONE_VFORK | CLONE_VM,
        (_, 435) => {
            // clone3: the first word of a struct.
            let mut flags = [0; 8];
            match sys::read_memory(tid, call.args[0], &mut flags) {
                Ok(8) => u64::from_ne_bytes(flags),
                _ => 0,
            }
        }
        _ => 0,
    }
}

/// Whether the kernel would have dropped this signal, had nothing traced the task.
fn ignored(tid: u32, signal: i32) -> bool {
    let status = std::fs::read(format!("/proc/{tid}/status")).unwrap_or_default();
    let bit =
        |label: &str| task::status_mask(&status, label).is_some_and(|mask| signal > 0 && mask >> (signal - 1) & 1 == 1);
    let ignored_by_default = matches!(signal, libc::SIGCHLD | libc::SIGCONT | libc::SIGWINCH | libc::SIGURG);
    bit("SigIgn:") || ignored_by_default && !bit("SigCgt:")
}

/// The exit status of a task, in the form that waitpid(2) has it too.
fn exit_of(status: i32) -> Exit {
    Exit { code: (status >> 8 & 0xff) as u8, signal: (status & 0x7f) as u8, group_dead: false }
}

/// The name that execve(2) was given: the kernel leaves its address in the new program's auxiliary vector.
fn exec_filename(tid: u32) -> Vec<u8> {
    const AT_EXECFN: u64 = 31;
    /// The longest path that execve(2) takes.
    const PATH_MAX: usize = 4096;
    let in_vector = || -> Option<Vec<u8>> {
        let auxv = std::fs::read(format!("/proc/{tid}/auxv")).ok()?;
        let word = if arch_of(sys::call_info(tid).ok()?.arch) == Arch::I386 { 4 } else { 8 };
        let number = |bytes: &[u8]| {
            let mut whole = [0; 8];
            whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(u64::from_le_bytes(whole))
        };
        let entry = auxv.chunks_exact(word * 2).find(|pair| pair.get(..word).and_then(number) == Some(AT_EXECFN))?;
        let address = number(entry.get(word..)?)?;
        let state = State::default();
        Task { tid, now_ns: 0, state: &state, alive: true }.read_cstr(address, PATH_MAX).ok()
    };
    in_vector().unwrap_or_else(|| {
        let link = std::fs::read_link(format!("/proc/{tid}/exe")).unwrap_or_default();
        std::os::unix::ffi::OsStrExt::as_bytes(link.as_os_str()).to_vec()
    })
}
