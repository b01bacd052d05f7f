//! Sequences of helpers with arguments at and around every limit, on packets of any kind: vm and kernel must agree.

use crate::case::Case;
use crate::kernel;
use proptest::prelude::*;
use proptest::sample::select;
use skep_abi::{AttachType, ProgramType};
use skep_vm::context::Arrival;
use std::fmt::Write as _;

/// A call: text with the context in r6; its result is in r0.
fn skb_call() -> impl Strategy<Value = String> {
    let offset = || select(vec![0, 1, 2, 10, 12, 13, 14, 16, 24, 34, 40, 46, 49, 50, 51, 60, 100, 65535, 65536, -1]);
    let by = || select(vec![0, 1, 2, 4, 8, 14, 20, 28, 40, 100, 1000, 4095, 4096, -1, -2, -4, -8, -16, -20, -28, -40]);
    let word = || select(vec![0u32, 1, 0xffff, 0x1_0000, 0x1234_5678, 0xabcd, 0xffff_ffff, 0xffff_0000]);
    let field = || select(vec![0, 2, 4, 16, 18, 20, 32, 34, 36, 50, 98, 128, 148]);
    let room = || {
        select(vec![0u64, 1, 2, 4, 6, 8, 10, 18, 32, 34, 36, 64, 128, 256, 66 | 14 << 56, 2 | 8 << 56, 20 | 20 << 56])
    };
    let call = |name: &'static str, arguments: &[String]| {
        let mut text = "r1 = r6\n".to_owned();
        for (place, argument) in arguments.iter().enumerate() {
            writeln!(text, "r{} = {argument}", place + 2).unwrap();
        }
        text + &format!("call {name}\n")
    };
    let ll = |number: u64| format!("{number:#x} ll");
    let buffer = |text: String| format!("r3 = r10\nr3 += -16\n{text}");
    prop_oneof![
        (offset(), 1i32..9).prop_map(move |(off, len)| buffer(format!(
            "r1 = r6\nr2 = {off}\nr4 = {len}\ncall skb_load_bytes\nr2 = *(u64 *)(r10 - 16)\nr0 += r2\n"
        ))),
        (offset(), 1i32..9, 0i32..3).prop_map(move |(off, len, header)| buffer(format!(
            "r1 = r6\nr2 = {off}\nr4 = {len}\nr5 = {header}\ncall skb_load_bytes_relative\nr2 = *(u64 *)(r10 - 16)\n\
             r0 += r2\n"
        ))),
        (offset(), 1i32..9, 0i32..4).prop_map(move |(off, len, flags)| buffer(format!(
            "r1 = r6\nr2 = {off}\nr4 = {len}\nr5 = {flags}\ncall skb_store_bytes\n"
        ))),
        (offset(), word(), word(), field()).prop_map(move |(off, from, to, flags)| call(
            "l3_csum_replace",
            &[off.to_string(), ll(from.into()), ll(to.into()), flags.to_string()]
        )),
        (offset(), word(), word(), field()).prop_map(move |(off, from, to, flags)| call(
            "l4_csum_replace",
            &[off.to_string(), ll(from.into()), ll(to.into()), flags.to_string()]
        )),
        (0i32..5).prop_map(move |level| call("csum_level", &[level.to_string()])),
        offset().prop_map(move |len| call("skb_pull_data", &[len.to_string()])),
        (0i32..5).prop_map(move |kind| call("skb_change_type", &[kind.to_string()])),
        offset().prop_map(move |len| call("skb_change_tail", &[len.to_string(), "0".to_owned()])),
        by().prop_map(move |by| call("skb_change_head", &[by.to_string(), "0".to_owned()])),
        select(vec![0xdd86, 0x0008, 0x0081])
            .prop_map(move |to| call("skb_change_proto", &[to.to_string(), "0".to_owned()])),
        (by(), 0i32..3, room())
            .prop_map(move |(by, mode, flags)| call("skb_adjust_room", &[by.to_string(), mode.to_string(), ll(flags)])),
        (by(), 0i32..2)
            .prop_map(move |(by, mode)| call("skb_adjust_room", &[by.to_string(), mode.to_string(), "0".to_owned()])),
        select(vec![0x0081, 0xa888, 0])
            .prop_map(move |kind| call("skb_vlan_push", &[kind.to_string(), "0x1064".to_owned()])),
        Just(call("skb_vlan_pop", &[])),
        Just(call("skb_ecn_set_ce", &[])),
        word().prop_map(move |hash| call("set_hash", &[ll(hash.into())])),
        select(vec![0, 4, 16, 20, 24, 28, 68, 164, 176]).prop_map(|field| format!("r0 = *(u32 *)(r6 + {field})\n")),
        (0i32..3, 0i32..2).prop_map(move |(kind, time)| call("skb_set_tstamp", &[time.to_string(), kind.to_string()])),
    ]
}

fn xdp_call() -> impl Strategy<Value = String> {
    let offset = || select(vec![0, 1, 13, 14, 42, 49, 50, 51, 3500, 3519, 3520, 3521, 7615, 7616, 65535, 65536, -1]);
    let by = || {
        select(vec![
            0, 1, 2, 4, 8, 32, 36, 100, 200, 252, 1000, 3470, 3520, 4096, -1, -4, -8, -32, -36, -100, -216, -252, -256,
            -3000, -5000,
        ])
    };
    let move_by = select(vec!["xdp_adjust_head", "xdp_adjust_tail", "xdp_adjust_meta"]);
    prop_oneof![
        3 => (move_by, by()).prop_map(|(name, by)| format!("r1 = r6\nr2 = {by}\ncall {name}\n")),
        1 => (offset(), 1i32..9).prop_map(|(off, len)| format!(
            "r1 = r6\nr2 = {off}\nr3 = r10\nr3 += -16\nr4 = {len}\ncall xdp_load_bytes\nr2 = *(u64 *)(r10 - 16)\nr0 += r2\n"
        )),
        1 => (offset(), 1i32..9).prop_map(|(off, len)| format!(
            "r1 = r6\nr2 = {off}\nr3 = r10\nr3 += -16\nr4 = {len}\ncall xdp_store_bytes\n"
        )),
        1 => Just("r1 = r6\ncall xdp_get_buff_len\n".to_owned()),
        1 => (0i32..2, 0i32..2).prop_map(|(to, flags)| format!("r1 = {to}\nr2 = {flags}\ncall redirect\n")),
    ]
}

/// Makes a program of the calls: what they return goes into one number.
fn program(calls: &[String]) -> String {
    let mut text = "r6 = r1\nr7 = 0x8877665544332211 ll\n*(u64 *)(r10 - 8) = r7\n*(u64 *)(r10 - 16) = r7\n".to_owned();
    for call in calls {
        text.push_str(call);
        text.push_str("r7 *= 31\nr7 += r0\n");
    }
    text + "r0 = r7\nexit\n"
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let ethernet = |kind: u16| [&[0; 6][..], &[2; 6], &kind.to_be_bytes()].concat();
    let bytes = |len| proptest::collection::vec(any::<u8>(), len);
    prop_oneof![
        4 => (bytes(36..60), 0u8..4).prop_map(move |(mut rest, tos)| {
            rest[..2].copy_from_slice(&[0x45, tos]);
            [ethernet(0x0800), rest].concat()
        }),
        3 => (bytes(48..90), any::<u8>()).prop_map(move |(mut rest, class)| {
            rest[..2].copy_from_slice(&[0x60, class]);
            [ethernet(0x86dd), rest].concat()
        }),
        2 => bytes(30..60).prop_map(move |rest| [ethernet(0x8100), vec![0x20, 0x64, 8, 0], rest].concat()),
        1 => bytes(30..60).prop_map(move |rest| {
            [ethernet(0x88a8), vec![0x10, 0x01, 0x81, 0, 0x20, 0x64, 8, 0], rest].concat()
        }),
        1 => (bytes(20..60), any::<u16>()).prop_map(move |(rest, kind)| [ethernet(kind & 0x7ff), rest].concat()),
    ]
}

fn check(program: ProgramType, packet: Vec<u8>, metadata: Vec<u8>, calls: &[String], arrival: Arrival) {
    let case = Case {
        name: "generated".to_owned(),
        program,
        attach: None::<AttachType>,
        packet,
        metadata,
        arrival,
        asm: self::program(calls),
        parameters: Vec::new(),
        not_in_kernel: None,
    };
    for run in case.runs() {
        let seen = run.in_vm();
        let expected = kernel::run(&run).unwrap_or_else(|error| panic!("{error}\n{}", case.asm));
        let (is, but) = (seen.comparable(&run).text(&run), expected.text(&run));
        assert!(seen.comparable(&run) == expected, "vm     {is}\nkernel {but}\n{}", case.asm);
    }
}

/// Whether a tail is cut after the head has grown by more than the 64 bytes that a test run's packet has room for.
///
/// Then the kernel gives the packet new memory and moves the places of its headers, the transport header's too, though
/// nothing has said where that is; from then on it takes it to be at a place that means nothing, and lets no packet be cut
/// before it. Packets that came in by an interface have a transport header's place.
fn cuts_after_growing(calls: &[String]) -> bool {
    let mut grown = 0;
    for call in calls {
        if call.contains("change_tail") && grown > 64 {
            return true;
        }
        let by = call.lines().find_map(|line| line.strip_prefix("r2 = ")).and_then(|by| by.parse::<i64>().ok());
        grown += match by {
            Some(by) if call.contains("change_head") || call.contains("adjust_room") => by.max(0),
            _ => 20,
        };
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_on_any_packet_of_tc(
        packet in packet(),
        calls in proptest::collection::vec(skb_call(), 1..6),
        gso in prop_oneof![9 => Just((0, 0)), 1 => Just((4, 10))],
    ) {
        prop_assume!(!cuts_after_growing(&calls));
        if kernel::is_root() {
            let arrival = Arrival { gso_segments: gso.0, gso_size: gso.1, ..Arrival::default() };
            check(ProgramType::SchedCls, packet, Vec::new(), &calls, arrival);
        }
    }

    #[test]
    fn any_calls_on_any_packet_of_xdp(
        packet in packet(),
        len in select(vec![0, 0, 1500, 3500, 3520, 3521, 7616, 7617, 9000]),
        metadata in select(vec![0usize, 0, 4, 32, 216]),
        calls in proptest::collection::vec(xdp_call(), 1..6),
    ) {
        if kernel::is_root() {
            let mut packet = packet;
            packet.resize(packet.len().max(len).saturating_sub(metadata).max(packet.len()), 0xa5);
            check(ProgramType::Xdp, packet, vec![0x77; metadata], &calls, Arrival::default());
        }
    }
}
