//! What a run prints while it goes on: records and bpf_printk lines as they come, maps and globals on each interval and at
//! the end.

use crate::args::{Format, RunArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Output, tell};
use crate::signals::Stop;
use crate::view::map::{Facts, GlobalsView, MapView};
use crate::view::records::RecordView;
use crate::view::table::{self, Column, printable};
use serde_json::json;
use skep_btf::{Btf, Kind, TypeId};
use skep_engine::{Error, Event, Session, Summary};
use skep_object::{MapIdx, MapOrigin, MapSpec, ObjectSpec};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// How often signals and the command are looked at while nothing comes in.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Rows of a table that are tried in turn where the screen has no room for more.
const FEWER_ROWS: [usize; 3] = [12, 6, 3];

/// Entries of a map that are read for one print. What is beyond is said to be there.
const MOST_ENTRIES: usize = 100_000;

/// The printing side of a run.
pub(crate) struct Stream {
    out: Output,
    format: Format,
    interval: Option<Duration>,
    top: usize,
    maps: Vec<(MapIdx, MapView)>,
    globals: Vec<(MapIdx, GlobalsView)>,
    records: HashMap<MapIdx, RecordView>,
    /// The last thing printed, so that a heading comes again after something else.
    last: Last,
    /// Whether lines have been printed that a redraw would wipe out.
    streamed: bool,
    lost: HashMap<MapIdx, u64>,
    prints_lost: u64,
    /// The start of an iterator's line whose end has not come yet.
    unfinished: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Records(MapIdx),
    Other,
}

impl Stream {
    /// Prepares views for everything the session has.
    pub(crate) fn new(args: &RunArgs, session: &dyn Session) -> Result<Stream, Failure> {
        let out = Output::new();
        let spec = session.spec();
        let default =
            if out.is_terminal() && args.format == Format::Text { Some(Duration::from_secs(1)) } else { None };
        let interval = args.interval.map_or(default, |interval| Some(interval).filter(|i| !i.is_zero()));
        let mut maps = Vec::new();
        let mut globals = Vec::new();
        let mut records = HashMap::new();
        let wanted = record_types(&args.records, spec)?;
        for (index, map) in spec.maps.iter().enumerate() {
            let index = MapIdx(index);
            match map.origin {
                MapOrigin::Rodata | MapOrigin::Kconfig => {}
                MapOrigin::Data | MapOrigin::Bss => {
                    let view = GlobalsView::new(spec.btf.as_ref(), &map.vars);
                    if !view.is_empty() && session.is_readable(index) {
                        globals.push((index, view));
                    }
                }
                MapOrigin::Declared | MapOrigin::Legacy if is_buffer(map) => {
                    let ty = wanted.get(&index).copied().or(map.record_type).or_else(|| value_type(map, spec));
                    records.insert(index, RecordView::new(&map.name, spec.btf.as_ref(), ty));
                }
                MapOrigin::Declared | MapOrigin::Legacy if is_hidden(map, spec) => {}
                MapOrigin::Declared | MapOrigin::Legacy if session.is_readable(index) => {
                    maps.push((index, MapView::new(&facts(map, spec.btf.as_ref()))));
                }
                MapOrigin::Declared | MapOrigin::Legacy => {}
            }
        }
        // clang leaves no trace of the order in the source. Tables first: bars are long.
        maps.sort_by_key(|(_, view)| view.is_histogram());
        let format = args.format;
        Ok(Stream {
            out,
            format,
            interval,
            top: args.top,
            maps,
            globals,
            records,
            last: Last::Nothing,
            streamed: false,
            lost: HashMap::new(),
            prints_lost: 0,
            unfinished: Vec::new(),
        })
    }

    /// What an iterator program printed, line by line; a line that is not whole yet waits for its end. Says whether to go on.
    pub(crate) fn iterator(&mut self, chunk: &[u8], stop: &Stop) -> ControlFlow<()> {
        self.unfinished.extend_from_slice(chunk);
        let whole = self.unfinished.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.unfinished.drain(..whole).collect();
        self.iterator_lines(&lines);
        if stop.asked() || self.out.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A last line without an end.
    pub(crate) fn iterator_ended(&mut self) {
        let rest = std::mem::take(&mut self.unfinished);
        self.iterator_lines(&rest);
    }

    fn iterator_lines(&mut self, lines: &[u8]) {
        for line in String::from_utf8_lossy(lines).lines() {
            match self.format {
                // The program's own text: its line breaks and tabs stay, other control characters are shown.
                Format::Text => {
                    let line: Vec<String> = line.split('\t').map(|part| printable(part.to_owned())).collect();
                    self.out.text(&format!("{}\n", line.join("\t")));
                }
                Format::Json => self.out.json(&json!({"type": "iter", "text": line})),
            }
            self.streamed = true;
        }
        self.out.flush();
    }

    /// Prints until the time is up, somebody asks for the end, the command ends, or nobody reads any more.
    pub(crate) fn follow(
        &mut self,
        session: &mut dyn Session,
        stop: &Stop,
        duration: Option<Duration>,
        command_ended: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let mut next_print = self.interval.map(|interval| started + interval);
        loop {
            let now = Instant::now();
            let left = duration.map(|duration| duration.saturating_sub(now - started));
            let source_ended = session.summary().is_some();
            if stop.asked() || command_ended() || source_ended || self.out.is_closed() || left == Some(Duration::ZERO) {
                return Ok(());
            }
            let to_print = next_print.map(|at| at.saturating_duration_since(now));
            let wait = [Some(LOOK_EVERY), left, to_print].into_iter().flatten().min().unwrap_or(LOOK_EVERY);
            self.poll(session, wait)?;
            if let (Some(at), Some(interval)) = (next_print, self.interval)
                && Instant::now() >= at
            {
                // A machine that is too slow skips prints, it does not pile them up.
                next_print = Some((at + interval).max(Instant::now()));
                self.snapshot(session, false)?;
            }
        }
    }

    /// Detaches, takes what is still in the buffers, and prints maps, globals and losses a last time: what is counted and
    /// what is printed then agree.
    pub(crate) fn finish(&mut self, session: &mut dyn Session) -> Result<(), Error> {
        session.detach();
        // Nothing new comes but prints of other programs, and records from those that share a pinned buffer; they may not
        // hold up the end.
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline && self.poll(session, Duration::ZERO)? > 0 && !self.out.is_closed() {}
        self.snapshot(session, true)?;
        if let Some(summary) = session.summary() {
            self.summary(&summary);
        }
        let spec = session.spec();
        let mut lost: Vec<_> = self.lost.iter().collect();
        lost.sort();
        for (map, count) in lost {
            tell(format_args!(
                "skep: {count} records of {} were lost: the buffer was full. A larger max_entries, or fewer records, helps",
                spec.maps[map.0].name
            ));
        }
        if self.prints_lost > 0 {
            tell(format_args!(
                "skep: {} bpf_printk lines were lost: the kernel's trace buffer was full",
                self.prints_lost
            ));
        }
        Ok(())
    }

    /// What a source of events that has ended came to.
    fn summary(&mut self, summary: &Summary) {
        let Summary { verdicts, packets, faults, .. } = summary;
        match self.format {
            Format::Text => {
                if let Some(packets) = packets {
                    let rows = verdicts.iter().map(|(program, verdict, count)| {
                        let share = 100.0 * *count as f64 / packets.read.max(1) as f64;
                        vec![program.clone(), verdict.clone(), count.to_string(), format!("{share:.1}%")]
                    });
                    let columns = [
                        Column::text("program"),
                        Column::text("verdict"),
                        Column::number("packets"),
                        Column::number("share"),
                    ];
                    self.out.text(&format!("\n{}", table::set(&columns, rows)));
                    let mut line = format!("{} packets, {} bytes", packets.read, packets.bytes);
                    if packets.written > 0 {
                        line.push_str(&format!("; {} written", packets.written));
                    }
                    if packets.truncated > 0 {
                        line.push_str(&format!("; of {} the capture has not all bytes", packets.truncated));
                    }
                    self.out.text(&format!("{line}\n"));
                }
            }
            Format::Json => {
                for (program, verdict, count) in verdicts {
                    self.out
                        .json(&json!({"type": "verdict", "program": program, "verdict": verdict, "packets": count}));
                }
                if let Some(packets) = packets {
                    self.out.json(&json!({
                        "type": "packets", "read": packets.read, "bytes": packets.bytes,
                        "written": packets.written, "truncated": packets.truncated,
                    }));
                }
            }
        }
        if *faults > 0 {
            tell(format_args!("skep: {faults} runs were ended by a fault, what they did before stays"));
        }
        self.out.flush();
    }

    /// Whether all of it could be written.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.out.end()
    }

    fn poll(&mut self, session: &mut dyn Session, wait: Duration) -> Result<usize, Error> {
        let Stream { out, format, records, last, streamed, lost, prints_lost, .. } = self;
        let count = session.poll(wait, &mut |event| {
            *streamed = true;
            match event {
                Event::Record { map, cpu, data } => {
                    let Some(view) = records.get_mut(&map) else { return };
                    match format {
                        Format::Text => {
                            out.text(&view.text(&time_of_day(), data, *last != Last::Records(map)));
                        }
                        Format::Json => out.json(&view.json(data, cpu)),
                    }
                    *last = Last::Records(map);
                }
                Event::Lost { map, count } => {
                    let total = lost.entry(map).or_default();
                    *total = total.saturating_add(count);
                    let name = records.get(&map).map(RecordView::name).unwrap_or_default();
                    match format {
                        Format::Text => out.text(&format!("{} {count} records of {name} lost\n", time_of_day())),
                        Format::Json => out.json(&json!({"type": "lost", "map": name, "count": count})),
                    }
                    *last = Last::Other;
                }
                Event::PrintsLost { count } => {
                    *prints_lost = prints_lost.saturating_add(count);
                    match format {
                        Format::Text => out.text(&format!("{} {count} bpf_printk lines lost\n", time_of_day())),
                        Format::Json => out.json(&json!({"type": "lost", "map": null, "count": count})),
                    }
                    *last = Last::Other;
                }
                Event::Fault { text } => {
                    match format {
                        Format::Text => tell(format_args!("skep: a run was ended: {}", printable(text.to_owned()))),
                        Format::Json => out.json(&json!({"type": "fault", "text": text})),
                    }
                    *last = Last::Other;
                }
                Event::Print { task, pid, cpu, text } => {
                    match format {
                        Format::Text => {
                            let line = format!("{} {task}-{pid} [{cpu:03}] {text}", time_of_day());
                            out.text(&printable(line));
                            out.text("\n");
                        }
                        Format::Json => {
                            out.json(&json!({"type": "printk", "task": task, "pid": pid, "cpu": cpu, "text": text}))
                        }
                    }
                    *last = Last::Other;
                }
            }
        })?;
        if count > 0 {
            self.out.flush();
        }
        Ok(count)
    }

    /// Prints maps and globals as they are now.
    fn snapshot(&mut self, session: &dyn Session, last: bool) -> Result<(), Error> {
        let mut maps = Vec::new();
        for (map, view) in &self.maps {
            maps.push((view, session.read_map(*map, MOST_ENTRIES)?));
        }
        let mut globals = Vec::new();
        for (map, view) in &self.globals {
            let contents = session.read_map(*map, 1)?;
            let data = contents.entries.into_iter().next().and_then(|entry| entry.values.into_iter().next());
            globals.push((view, data.unwrap_or_default()));
        }
        match self.format {
            Format::Text => {
                let text = |top: usize| {
                    let maps = maps.iter().map(|(view, contents)| view.text(contents, top));
                    let parts = maps.chain(globals.iter().map(|(view, data)| view.text(data)));
                    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
                };
                // Lines that came before stay; the tables go below them under the time.
                let in_place = self.out.is_terminal() && self.interval.is_some() && !self.streamed;
                let whole = text(self.top);
                if in_place && !last {
                    // On a small screen rather fewer rows of each table than only the first table.
                    let lines = self.out.size().map_or(usize::MAX, |(lines, _)| lines);
                    let fits = |text: &String| text.lines().count() < lines;
                    let fewer = FEWER_ROWS.into_iter().filter(|rows| self.top == 0 || *rows < self.top).map(text);
                    let frame = std::iter::once(whole).chain(fewer).reduce(|a, b| if fits(&a) { a } else { b });
                    self.out.draw(&frame.unwrap_or_default());
                } else if !whole.is_empty() {
                    match in_place {
                        true => self.out.clear(),
                        false if self.interval.is_some() => self.out.text(&format!("--- {} ---\n", time_of_day())),
                        false => {}
                    }
                    self.out.text(&whole);
                    self.last = Last::Other;
                }
            }
            Format::Json => {
                let maps = maps.iter().flat_map(|(view, contents)| view.json(contents));
                for mut object in maps.chain(globals.iter().flat_map(|(view, data)| view.json(data))) {
                    object["final"] = json!(last);
                    self.out.json(&object);
                }
            }
        }
        self.out.flush();
        Ok(())
    }
}

fn is_buffer(map: &MapSpec) -> bool {
    use skep_abi::MapType;
    matches!(map.map_type, MapType::Ringbuf | MapType::PerfEventArray)
}

/// The type of a buffer's values as that of its records. Not where it is a plain integer: so perf buffers are declared by
/// convention, whatever goes through them.
fn value_type(map: &MapSpec, spec: &ObjectSpec) -> Option<TypeId> {
    let (btf, ty) = (spec.btf.as_ref()?, map.value_type?);
    let plain = btf.resolve(ty).and_then(|ty| btf.kind(ty)).is_ok_and(|kind| kind == Kind::Int);
    if plain { None } else { Some(ty) }
}

/// The convention of `skep.h`: SKEP_HIDE leaves a variable of this name.
fn is_hidden(map: &MapSpec, spec: &ObjectSpec) -> bool {
    let name = format!("skep_hide__{}", map.name);
    spec.btf.as_ref().is_some_and(|btf| btf.find(&name, Kind::Var).is_some())
}

fn facts<'a>(map: &'a MapSpec, btf: Option<&'a Btf>) -> Facts<'a> {
    Facts {
        name: &map.name,
        map_type: map.map_type,
        key_size: map.key_size,
        value_size: map.value_size,
        max_entries: map.max_entries,
        btf,
        key_type: map.key_type,
        value_type: map.value_type,
    }
}

/// The types that `--record` names, by buffer.
fn record_types(options: &[String], spec: &ObjectSpec) -> Result<HashMap<MapIdx, TypeId>, Failure> {
    let mut types = HashMap::new();
    for option in options {
        let usage = |text: String| Failure::say(Exit::Usage, format!("--record {option}: {text}"));
        let (map, name) = match option.split_once('=') {
            Some((map, name)) => (Some(map), name),
            None => (None, option.as_str()),
        };
        let btf = spec.btf.as_ref().ok_or_else(|| usage("the file has no BTF; compile it with -g".to_owned()))?;
        let bare = name.trim_start_matches("struct ").trim_start_matches("union ").trim();
        let ty = [Kind::Struct, Kind::Typedef, Kind::Union, Kind::Enum, Kind::Int]
            .into_iter()
            .find_map(|kind| btf.find(bare, kind))
            .ok_or_else(|| usage(format!("the file's BTF has no type `{bare}`{}", near(bare, type_names(btf)))))?;
        let buffers =
            spec.maps.iter().enumerate().filter(|(_, m)| is_buffer(m) && map.is_none_or(|name| name == m.name));
        let before = types.len();
        types.extend(buffers.map(|(index, _)| (MapIdx(index), ty)));
        if types.len() == before && map.is_some() {
            let name = map.unwrap_or_default();
            let buffers = spec.maps.iter().filter(|map| is_buffer(map)).map(|map| map.name.as_str());
            let buffers: Vec<&str> = buffers.collect();
            let has = if buffers.is_empty() { "none".to_owned() } else { buffers.join(", ") };
            return Err(usage(format!("the file has no ring or perf buffer `{name}`; it has: {has}")));
        }
    }
    Ok(types)
}

/// Names of the types that a record can have.
fn type_names(btf: &Btf) -> impl Iterator<Item = &str> {
    let ids = (1..btf.type_count()).map(TypeId);
    ids.filter(|id| matches!(btf.kind(*id), Ok(Kind::Struct | Kind::Typedef | Kind::Union | Kind::Enum | Kind::Int)))
        .filter_map(|id| btf.name(id).ok())
        .filter(|name| !name.is_empty())
}

/// Up to three names that are much like this one, as a question; nothing where there is none.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut alike: Vec<_> =
        known.map(|known| (strsim::jaro_winkler(name, known), known)).filter(|(like, _)| *like > 0.85).collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<&str> = alike.into_iter().take(3).map(|(_, name)| name).collect();
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(", ")) }
}

fn time_of_day() -> String {
    jiff::Zoned::now().strftime("%H:%M:%S%.3f").to_string()
}
