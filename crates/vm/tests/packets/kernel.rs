//! A run of a case in the running kernel, by `BPF_PROG_TEST_RUN`. That attaches nothing.

use crate::case::{Run, Seen, fields};
use skep_abi::ProgramType;
use skep_kernel::{LogLevel, Program, ProgramParams, TestInput};

pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("needs root: not compared with the kernel");
    }
    root
}

pub(crate) fn load(run: &Run) -> Result<Program, String> {
    let slots = run.slots();
    let mut params = ProgramParams::new("case", run.case.program, &slots, "GPL");
    params.attach_type = run.case.attach;
    if run.is_xdp() {
        params.flags = skep_kernel::flags::XDP_HAS_FRAGS;
    }
    Program::load(&params, LogLevel::None).map_err(|refused| format!("{}: {}", refused.errno, refused.log))
}

pub(crate) fn run(run: &Run) -> Result<Seen, String> {
    let program = load(run)?;
    let case = run.case;
    let data = [&case.metadata[..], &case.packet].concat();
    let mut context = Vec::new();
    if run.is_xdp() {
        for number in [case.metadata.len() as u32, data.len() as u32, 0, 0, 0, 0] {
            context.extend_from_slice(&number.to_le_bytes());
        }
    } else {
        context.resize(192, 0);
        let arrival = &case.arrival;
        let mut put = |at: usize, bytes: &[u8]| context[at..at + bytes.len()].copy_from_slice(bytes);
        put(8, &arrival.mark.to_le_bytes());
        put(32, &arrival.priority.to_le_bytes());
        put(36, &arrival.ingress_ifindex.to_le_bytes());
        put(48, &arrival.cb[0].to_le_bytes());
        put(152, &arrival.time_ns.to_le_bytes());
        put(160, &arrival.wire_len.to_le_bytes());
        put(164, &arrival.gso_segments.to_le_bytes());
        put(176, &arrival.gso_size.to_le_bytes());
        put(184, &arrival.hardware_time_ns.to_le_bytes());
    }
    let input = TestInput {
        data: &data,
        context: &context,
        data_out_len: Some(data.len() + (1 << 16)),
        context_out_len: Some(context.len()),
        ..TestInput::default()
    };
    let output = program.test_run(&input).map_err(|error| error.to_string())?;
    let mut seen = Seen { value: output.value, ..Seen::default() };
    if run.is_xdp() {
        // The packet begins at the metadata, and the context says where that ends.
        let data = output.context.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        seen.metadata = output.data[..data].to_vec();
        seen.packet = output.data[data..].to_vec();
    } else {
        // Where a program begins at the network header, zeros stand in place of the one before.
        let from = if matches!(case.program, ProgramType::SchedCls | ProgramType::SchedAct) { 0 } else { 14 };
        seen.packet = output.data[from..].to_vec();
        seen.fields = fields(&output.context);
    }
    Ok(seen)
}
