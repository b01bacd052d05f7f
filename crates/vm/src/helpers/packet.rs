//! Helpers of programs that run on packets: bytes in and out, checksums, room for headers, where the packet is to go.
//!
//! A redirect is a verdict here, not an action: it is noted in the packet (`Redirect`) and reported after the run; a copy
//! sent by `bpf_clone_redirect` is kept (`Cloned`). After everything that moves the packet the context's fields say where
//! it is, and the regions of the checked mode follow it, so that an old pointer ends where the kernel's verifier ends it.
//!
//! Source: `net/core/filter.c` (6.18), from which the order of checks and the error numbers are.
//!
//! Not here, since the embedded engine has nothing to answer them with: routes, neighbours and device sizes
//! (`bpf_fib_lookup`, `bpf_check_mtu`, `bpf_get_route_realm`), sockets (`bpf_sk_*`, `bpf_skc_*`, `bpf_tcp_*`,
//! `bpf_get_socket_cookie`, `bpf_get_socket_uid`, `bpf_bind`), tunnels and IPsec (`bpf_skb_*_tunnel_*`,
//! `bpf_skb_get_xfrm_state`, `bpf_lwt_*`), cgroups of a packet's sender, the kernel's own flow hash
//! (`bpf_get_hash_recalc`), and maps of devices (`bpf_redirect_map`).
#![expect(unsafe_code, reason = "the form in which compiled code calls helpers")]

mod checksum;
mod room;

use super::{errno, fail};
use crate::context::{MAX_CLONES, MAX_METADATA, sk_buff, xdp_md};
use crate::env::Env;
use crate::fault::FaultKind;
use crate::helper::{Builtin, HelperResult, Stop, helper_fn};
use crate::packet::{Cloned, Kind, Packet, Redirect, XDP_FRAME_BYTES, XDP_LINEAR_END};

/// Rows `number name = function`, in the order of their numbers.
macro_rules! helpers {
    ($($id:literal $name:literal = $function:path;)*) => {
        &[$(Builtin { id: $id, name: $name, function: helper_fn!($function) },)*]
    };
}

static HELPERS: &[Builtin] = helpers! {
    9 "bpf_skb_store_bytes" = skb_store_bytes;
    10 "bpf_l3_csum_replace" = checksum::l3_replace;
    11 "bpf_l4_csum_replace" = checksum::l4_replace;
    13 "bpf_clone_redirect" = clone_redirect;
    18 "bpf_skb_vlan_push" = room::vlan_push;
    19 "bpf_skb_vlan_pop" = room::vlan_pop;
    23 "bpf_redirect" = redirect;
    26 "bpf_skb_load_bytes" = skb_load_bytes;
    28 "bpf_csum_diff" = checksum::diff;
    31 "bpf_skb_change_proto" = room::change_proto;
    32 "bpf_skb_change_type" = skb_change_type;
    38 "bpf_skb_change_tail" = room::change_tail;
    39 "bpf_skb_pull_data" = skb_pull_data;
    40 "bpf_csum_update" = checksum::update;
    41 "bpf_set_hash_invalid" = set_hash_invalid;
    43 "bpf_skb_change_head" = room::change_head;
    44 "bpf_xdp_adjust_head" = xdp_adjust_head;
    48 "bpf_set_hash" = set_hash;
    50 "bpf_skb_adjust_room" = room::adjust_room;
    54 "bpf_xdp_adjust_meta" = xdp_adjust_meta;
    65 "bpf_xdp_adjust_tail" = xdp_adjust_tail;
    68 "bpf_skb_load_bytes_relative" = skb_load_bytes_relative;
    97 "bpf_skb_ecn_set_ce" = checksum::ecn_set_ce;
    135 "bpf_csum_level" = checksum::level;
    152 "bpf_redirect_neigh" = redirect_neigh;
    155 "bpf_redirect_peer" = redirect_peer;
    188 "bpf_xdp_get_buff_len" = xdp_get_buff_len;
    189 "bpf_xdp_load_bytes" = xdp_load_bytes;
    190 "bpf_xdp_store_bytes" = xdp_store_bytes;
    192 "bpf_skb_set_tstamp" = skb_set_tstamp;
};

/// The helper with this number.
pub(super) fn by_id(id: u32) -> Option<&'static Builtin> {
    let at = HELPERS.binary_search_by_key(&id, |helper| helper.id).ok()?;
    HELPERS.get(at)
}

/// `ENOTSUPP`, which only the kernel's inside has.
const ENOTSUPP: i32 = 524;

/// Lets a helper work on the packet and on the program's memory at once; the packet itself is no memory of the program
/// meanwhile, as the kernel's verifier takes no packet pointers for these helpers.
fn with_packet(
    env: &mut Env,
    helper: &'static str,
    kind: Kind,
    context: u64,
    work: impl FnOnce(&mut Env, &mut Packet) -> HelperResult,
) -> HelperResult {
    let Some(mut packet) = env.packet.take() else {
        return Err(FaultKind::Helper { helper, why: "this program does not run on a packet".to_owned() }.into());
    };
    // What the last access fell into may be the packet.
    env.forget_cached();
    let wrong = if packet.kind != kind {
        Some("the packet of this program is not of its kind".to_owned())
    } else if context != env.context_start() && env.is_checked() {
        Some(format!("its first argument, {context:#x}, is not the context"))
    } else {
        None
    };
    let result = match wrong {
        Some(why) => Err(FaultKind::Helper { helper, why }.into()),
        None => work(env, &mut packet),
    };
    env.packet = Some(packet);
    result
}

/// The same for `struct __sk_buff`.
fn with_skb(
    env: &mut Env,
    helper: &'static str,
    context: u64,
    work: impl FnOnce(&mut Env, &mut Packet) -> HelperResult,
) -> HelperResult {
    with_packet(env, helper, Kind::Skb, context, work)
}

/// The same for `struct xdp_md`.
fn with_xdp(
    env: &mut Env,
    helper: &'static str,
    context: u64,
    work: impl FnOnce(&mut Env, &mut Packet) -> HelperResult,
) -> HelperResult {
    with_packet(env, helper, Kind::Xdp, context, work)
}

/// The packet has moved or changed its size: the context says so, and what was looked up before is looked up again.
fn moved(env: &mut Env, packet: &Packet) {
    let (meta, data, end) = (packet.data_meta(), packet.data(), packet.data_end());
    let places = match packet.kind {
        Kind::Xdp => [xdp_md::DATA_META, xdp_md::DATA, xdp_md::DATA_END],
        _ => [sk_buff::DATA_META, sk_buff::DATA, sk_buff::DATA_END],
    };
    for (off, value) in places.into_iter().zip([meta, data, end]) {
        env.set_context(off, value.to_ne_bytes());
    }
    if packet.kind == Kind::Skb {
        env.set_context(sk_buff::LEN, packet.len().to_ne_bytes());
    }
    env.forget_cached();
}

/// `skb->protocol`, as an Ethernet type.
fn protocol(env: &Env) -> u16 {
    u16::from_be(env.context_u32(sk_buff::PROTOCOL) as u16)
}

fn set_protocol(env: &mut Env, protocol: u16) {
    env.set_context(sk_buff::PROTOCOL, u32::from(protocol.to_be()).to_ne_bytes());
}

fn skb_store_bytes(env: &mut Env, [context, offset, from, len, flags]: [u64; 5]) -> HelperResult {
    const RECOMPUTE_CSUM: u64 = 1;
    const INVALIDATE_HASH: u64 = 2;
    with_skb(env, "bpf_skb_store_bytes", context, |env, packet| {
        let from = env.bytes(from, len)?;
        if flags & !(RECOMPUTE_CSUM | INVALIDATE_HASH) != 0 {
            return fail(libc::EINVAL);
        }
        let offset = offset as u32;
        if offset > i32::MAX as u32 {
            return fail(libc::EFAULT);
        }
        let Some(place) = packet.part_mut(offset.into(), len) else { return fail(libc::EFAULT) };
        place.copy_from_slice(from);
        if flags & INVALIDATE_HASH != 0 {
            env.set_context(sk_buff::HASH, [0; 4]);
        }
        Ok(0)
    })
}

fn skb_load_bytes(env: &mut Env, [context, offset, to, len, _]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_load_bytes", context, |env, packet| {
        let to = env.bytes_mut(to, len)?;
        let offset = offset as u32;
        let found = if offset > i32::MAX as u32 { None } else { packet.part(offset.into(), len) };
        Ok(fill(to, found))
    })
}

/// Copies what was found; zeros and `-EFAULT` where nothing was.
fn fill(to: &mut [u8], found: Option<&[u8]>) -> u64 {
    match found {
        Some(found) => {
            to.copy_from_slice(found);
            0
        }
        None => {
            to.fill(0);
            errno(libc::EFAULT)
        }
    }
}

fn skb_load_bytes_relative(env: &mut Env, [context, offset, to, len, header]: [u64; 5]) -> HelperResult {
    const MAC: u32 = 0;
    const NETWORK: u32 = 1;
    with_skb(env, "bpf_skb_load_bytes_relative", context, |env, packet| {
        let to = env.bytes_mut(to, len)?;
        let offset = offset as u32;
        let found = match header as u32 {
            _ if offset > 0xffff => None,
            MAC => packet.part_from(packet.skb.mac, offset.into(), len),
            NETWORK => packet.part_from(packet.skb.network, offset.into(), len),
            _ => None,
        };
        Ok(fill(to, found))
    })
}

/// Every packet is in one piece, so there is nothing to pull; only what is not there cannot be.
fn skb_pull_data(env: &mut Env, [context, len, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_pull_data", context, |env, packet| {
        moved(env, packet);
        if len as u32 > packet.len() { fail(libc::ENOMEM) } else { Ok(0) }
    })
}

fn skb_change_type(env: &mut Env, [context, kind, ..]: [u64; 5]) -> HelperResult {
    const OTHERHOST: u32 = 3;
    with_skb(env, "bpf_skb_change_type", context, |env, _| {
        let kind = kind as u32;
        if env.context_u32(sk_buff::PKT_TYPE) > OTHERHOST || kind > OTHERHOST {
            return fail(libc::EINVAL);
        }
        env.set_context(sk_buff::PKT_TYPE, kind.to_ne_bytes());
        Ok(0)
    })
}

fn set_hash_invalid(env: &mut Env, [context, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_set_hash_invalid", context, |env, _| {
        env.set_context(sk_buff::HASH, [0; 4]);
        Ok(0)
    })
}

fn set_hash(env: &mut Env, [context, hash, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_set_hash", context, |env, _| {
        env.set_context(sk_buff::HASH, (hash as u32).to_ne_bytes());
        Ok(0)
    })
}

fn skb_set_tstamp(env: &mut Env, [context, time, kind, ..]: [u64; 5]) -> HelperResult {
    const REALTIME: u32 = 0;
    const MONOTONIC: u32 = 1;
    const TAI: u32 = 2;
    with_skb(env, "bpf_skb_set_tstamp", context, |env, _| {
        if !matches!(protocol(env), room::IPV4 | room::IPV6) {
            return fail(libc::EOPNOTSUPP);
        }
        match kind as u32 {
            REALTIME => {}
            MONOTONIC | TAI if time != 0 => {}
            _ => return fail(libc::EINVAL),
        }
        env.set_context(sk_buff::TSTAMP, time.to_ne_bytes());
        env.set_context(sk_buff::TSTAMP_TYPE, [kind as u8]);
        Ok(0)
    })
}

const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
const TC_ACT_SHOT: u64 = 2;
const TC_ACT_REDIRECT: u64 = 7;
const BPF_F_INGRESS: u64 = 1;

/// It has no context argument: the packet says what kind of program this is.
fn redirect(env: &mut Env, [ifindex, flags, ..]: [u64; 5]) -> HelperResult {
    let Some(packet) = &mut env.packet else {
        let why = "this program does not run on a packet".to_owned();
        return Err(FaultKind::Helper { helper: "bpf_redirect", why }.into());
    };
    let (allowed, refused, accepted) = match packet.kind {
        Kind::Xdp => (0, XDP_ABORTED, XDP_REDIRECT),
        _ => (BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_REDIRECT),
    };
    if flags & !allowed != 0 {
        return Ok(refused);
    }
    packet.redirect = Some(Redirect::Interface { ifindex: ifindex as u32, flags });
    Ok(accepted)
}

/// Notes the target of a tc program.
fn redirect_to(env: &mut Env, helper: &'static str, target: Redirect) -> HelperResult {
    let context = env.context_start();
    with_skb(env, helper, context, |_, packet| {
        packet.redirect = Some(target);
        Ok(TC_ACT_REDIRECT)
    })
}

fn redirect_peer(env: &mut Env, [ifindex, flags, ..]: [u64; 5]) -> HelperResult {
    if flags != 0 {
        return Ok(TC_ACT_SHOT);
    }
    redirect_to(env, "bpf_redirect_peer", Redirect::Peer { ifindex: ifindex as u32 })
}

fn redirect_neigh(env: &mut Env, [ifindex, params, len, flags, _]: [u64; 5]) -> HelperResult {
    let given = env.bytes(params, len)?.first_chunk::<20>().copied();
    if flags != 0 || (len as u32 != 0 && given.is_none()) {
        return Ok(TC_ACT_SHOT);
    }
    redirect_to(env, "bpf_redirect_neigh", Redirect::Neighbour { ifindex: ifindex as u32, next_hop: given })
}

fn clone_redirect(env: &mut Env, [context, ifindex, flags, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_clone_redirect", context, |env, packet| {
        // Interfaces are counted from 1.
        if flags & !BPF_F_INGRESS != 0 || ifindex as u32 == 0 {
            return fail(libc::EINVAL);
        }
        if packet.clones.len() >= MAX_CLONES {
            return fail(libc::ENOMEM);
        }
        let bytes = packet.bytes().to_vec();
        packet.clones.push(Cloned { ifindex: ifindex as u32, flags, bytes });
        moved(env, packet);
        Ok(0)
    })
}

/// An Ethernet header, below which no XDP packet can be cut.
const ETHERNET_HEADER: i64 = 14;

fn xdp_adjust_head(env: &mut Env, [context, offset, ..]: [u64; 5]) -> HelperResult {
    with_xdp(env, "bpf_xdp_adjust_head", context, |env, packet| {
        let start = i64::from(packet.start());
        let metadata = packet.metadata().len() as i64;
        let linear_end = (start + i64::from(packet.len())).min(XDP_LINEAR_END.into());
        let data = start + i64::from(offset as i32);
        if data < i64::from(XDP_FRAME_BYTES) + metadata || data > linear_end - ETHERNET_HEADER {
            return fail(libc::EINVAL);
        }
        if !packet.move_data(data as u32) {
            return fail(libc::EINVAL);
        }
        moved(env, packet);
        Ok(0)
    })
}

fn xdp_adjust_meta(env: &mut Env, [context, offset, ..]: [u64; 5]) -> HelperResult {
    with_xdp(env, "bpf_xdp_adjust_meta", context, |env, packet| {
        let start = i64::from(packet.start());
        let meta = start - packet.metadata().len() as i64 + i64::from(offset as i32);
        if meta < XDP_FRAME_BYTES.into() || meta > start {
            return fail(libc::EINVAL);
        }
        let len = start - meta;
        if len % 4 != 0 || len > MAX_METADATA.into() {
            return fail(libc::EACCES);
        }
        packet.move_meta(meta as u32);
        moved(env, packet);
        Ok(0)
    })
}

fn xdp_adjust_tail(env: &mut Env, [context, offset, ..]: [u64; 5]) -> HelperResult {
    with_xdp(env, "bpf_xdp_adjust_tail", context, |env, packet| {
        let start = i64::from(packet.start());
        let end = start + i64::from(packet.len()) + i64::from(offset as i32);
        if end > packet.xdp_hard_end().into() || end < start + ETHERNET_HEADER || !packet.move_end(end as u32) {
            return fail(libc::EINVAL);
        }
        moved(env, packet);
        Ok(0)
    })
}

fn xdp_get_buff_len(env: &mut Env, [context, ..]: [u64; 5]) -> HelperResult {
    with_xdp(env, "bpf_xdp_get_buff_len", context, |_, packet| Ok(packet.len().into()))
}

/// Why a part of an XDP packet cannot be had, if it cannot. Source: `bpf_xdp_pointer`.
fn xdp_part(packet: &Packet, offset: u32, len: u64) -> Result<(), i32> {
    if offset > 0xffff || len > 0xffff {
        Err(libc::EFAULT)
    } else if u64::from(offset) + len > packet.len().into() {
        Err(libc::EINVAL)
    } else {
        Ok(())
    }
}

fn xdp_load_bytes(env: &mut Env, [context, offset, to, len, _]: [u64; 5]) -> HelperResult {
    with_xdp(env, "bpf_xdp_load_bytes", context, |env, packet| {
        let to = env.bytes_mut(to, len)?;
        match (xdp_part(packet, offset as u32, len), packet.part((offset as u32).into(), len)) {
            (Ok(()), Some(found)) => {
                to.copy_from_slice(found);
                Ok(0)
            }
            (Err(number), _) => fail(number),
            (Ok(()), None) => fail(libc::EINVAL),
        }
    })
}

fn xdp_store_bytes(env: &mut Env, [context, offset, from, len, _]: [u64; 5]) -> HelperResult {
    with_xdp(env, "bpf_xdp_store_bytes", context, |env, packet| {
        let from = env.bytes(from, len)?;
        if let Err(number) = xdp_part(packet, offset as u32, len) {
            return fail(number);
        }
        let Some(place) = packet.part_mut((offset as u32).into(), len) else { return fail(libc::EINVAL) };
        place.copy_from_slice(from);
        Ok(0)
    })
}

/// A fault of a helper that got what it cannot work with.
fn refuse(helper: &'static str, why: &str) -> Stop {
    FaultKind::Helper { helper, why: why.to_owned() }.into()
}

#[cfg(test)]
mod tests;
