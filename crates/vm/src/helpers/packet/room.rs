//! Room for headers: a packet made longer or shorter at its ends or between its headers, VLAN tags put in and out.
//!
//! Limits: of packets of segmentation offload the kernel must know which protocol they are of; that is not known of a packet
//! from outside, so what depends on it fails as in the kernel for a protocol that it cannot segment.

use super::checksum::{is_gso, reset};
use super::{ENOTSUPP, moved, protocol, refuse, set_protocol, with_skb};
use crate::context::{MAX_GROWN_BYTES, sk_buff};
use crate::env::Env;
use crate::helper::HelperResult;
use crate::helpers::fail;
use crate::packet::Packet;

/// Ethernet types.
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// Bytes of the headers without options.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;

pub(super) fn is_vlan(protocol: u16) -> bool {
    matches!(protocol, VLAN | SERVICE_VLAN)
}

fn ip_header(protocol: u16) -> u32 {
    if protocol == IPV4 { IPV4_HEADER } else { IPV6_HEADER }
}

/// From the packet's start to a header; negative where the header is before it.
fn offset(packet: &Packet, place: u32) -> i64 {
    i64::from(place) - i64::from(packet.start())
}

/// Puts zeros between the headers, and the headers' places with those bytes that are before. Source:
/// `bpf_skb_net_hdr_push`.
fn push(packet: &mut Packet, off: u32, len: u32) -> Result<(), i32> {
    if !packet.insert(off, len) {
        return Err(libc::ENOMEM);
    }
    let skb = &mut packet.skb;
    let same = skb.transport == Some(skb.network);
    // `insert` made room in front, so there is as much.
    skb.mac = skb.mac.saturating_sub(len);
    skb.network = skb.network.saturating_sub(len);
    if same {
        skb.transport = Some(skb.network);
    }
    Ok(())
}

/// Takes bytes from between the headers. Source: `bpf_skb_net_hdr_pop`.
fn pop(packet: &mut Packet, off: u32, len: u32) -> Result<(), i32> {
    if !packet.remove(off, len) {
        return Err(libc::ENOMEM);
    }
    let skb = &mut packet.skb;
    let same = skb.transport == Some(skb.network);
    skb.mac += len;
    skb.network += len;
    if same {
        skb.transport = Some(skb.network);
    }
    Ok(())
}

/// The result of a helper that may have moved the packet.
fn done(env: &mut Env, packet: &Packet, result: Result<(), i32>) -> HelperResult {
    moved(env, packet);
    match result {
        Ok(()) => Ok(0),
        Err(number) => fail(number),
    }
}

/// Bytes of the link-layer header. Source: `skb_mac_header_len`.
fn link_header(packet: &Packet) -> u32 {
    packet.skb.network.saturating_sub(packet.skb.mac)
}

/// Source: `skb_reset_mac_len`.
fn note_link_header(packet: &mut Packet) {
    packet.skb.mac_len = link_header(packet) & 0xffff;
}

pub(super) fn change_proto(env: &mut Env, [context, to, flags, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_change_proto", context, |env, packet| {
        if flags != 0 {
            return fail(libc::EINVAL);
        }
        let to = u16::from_be(to as u16);
        let (off, len) = (link_header(packet), IPV6_HEADER - IPV4_HEADER);
        let result = match (protocol(env), to) {
            (IPV4, IPV6) => push(packet, off, len),
            (IPV6, IPV4) => pop(packet, off, len),
            _ => Err(ENOTSUPP),
        };
        if result.is_ok() {
            set_protocol(env, to);
            env.set_context(sk_buff::HASH, [0; 4]);
        }
        done(env, packet, result)
    })
}

/// Flags of `bpf_skb_adjust_room`.
mod flag {
    pub(super) const FIXED_GSO: u64 = 1;
    pub(super) const ENCAP_IPV4: u64 = 1 << 1;
    pub(super) const ENCAP_IPV6: u64 = 1 << 2;
    pub(super) const ENCAP_GRE: u64 = 1 << 3;
    pub(super) const ENCAP_UDP: u64 = 1 << 4;
    pub(super) const NO_CSUM_RESET: u64 = 1 << 5;
    pub(super) const ENCAP_ETHERNET: u64 = 1 << 6;
    pub(super) const DECAP_IPV4: u64 = 1 << 7;
    pub(super) const DECAP_IPV6: u64 = 1 << 8;
    pub(super) const ENCAP_IP: u64 = ENCAP_IPV4 | ENCAP_IPV6;
    pub(super) const DECAP_IP: u64 = DECAP_IPV4 | DECAP_IPV6;
    /// The length of the inner link-layer header stands above.
    pub(super) const ENCAP_LINK_SHIFT: u32 = 56;
    pub(super) const ALL: u64 = FIXED_GSO
        | ENCAP_IP
        | ENCAP_GRE
        | ENCAP_UDP
        | NO_CSUM_RESET
        | ENCAP_ETHERNET
        | DECAP_IP
        | 0xff << ENCAP_LINK_SHIFT;
}

pub(super) fn adjust_room(env: &mut Env, [context, by, mode, flags, _]: [u64; 5]) -> HelperResult {
    const BEHIND_NETWORK: u32 = 0;
    const BEHIND_LINK: u32 = 1;
    const MOST: u32 = 0xfff;
    with_skb(env, "bpf_skb_adjust_room", context, |env, packet| {
        let by = by as i32;
        let (len, shrink) = (by.unsigned_abs(), by < 0);
        if flags & !flag::ALL != 0 {
            return fail(libc::EINVAL);
        }
        if len > MOST {
            return fail(libc::EFAULT);
        }
        let version = protocol(env);
        if !matches!(version, IPV4 | IPV6) {
            return fail(ENOTSUPP);
        }
        let off = match mode as u32 {
            BEHIND_NETWORK => link_header(packet) + ip_header(version),
            BEHIND_LINK => link_header(packet),
            _ => return fail(ENOTSUPP),
        };
        let least = match flags & flag::DECAP_IP {
            0 => ip_header(version),
            _ if !shrink => return fail(libc::EINVAL),
            flag::DECAP_IPV4 => IPV4_HEADER,
            flag::DECAP_IPV6 => IPV6_HEADER,
            _ => return fail(libc::EINVAL),
        };
        let current = i64::from(packet.len()) - offset(packet, packet.skb.network);
        let fits = if shrink {
            current - i64::from(len) >= least.into() && i64::from(len) < current
        } else {
            packet.len() + len <= MAX_GROWN_BYTES || is_gso(env)
        };
        if !fits {
            return fail(ENOTSUPP);
        }
        let result = if shrink { shrunk(env, packet, off, len, flags) } else { grown(env, packet, off, len, flags) };
        if result.is_ok() && flags & flag::NO_CSUM_RESET == 0 {
            reset(packet);
        }
        done(env, packet, result)
    })
}

/// Source: `bpf_skb_net_grow`.
fn grown(env: &mut Env, packet: &mut Packet, off: u32, len: u32, flags: u64) -> Result<(), i32> {
    if is_gso(env) {
        return Err(ENOTSUPP);
    }
    let wraps = flags & flag::ENCAP_IP != 0;
    let inner_link = (flags >> flag::ENCAP_LINK_SHIFT) as u32;
    let link = link_header(packet);
    if wraps {
        let both = |pair: u64| flags & pair == pair;
        if both(flag::ENCAP_IP)
            || both(flag::ENCAP_GRE | flag::ENCAP_UDP)
            || flags & flag::ENCAP_ETHERNET != 0 && inner_link < 14
        {
            return Err(libc::EINVAL);
        }
        if packet.skb.encapsulated {
            return Err(libc::EALREADY);
        }
        if inner_link > len {
            return Err(libc::EINVAL);
        }
    }
    push(packet, off, len)?;
    if wraps {
        let outer = if flags & flag::ENCAP_IPV6 != 0 { IPV6 } else { IPV4 };
        packet.skb.encapsulated = true;
        packet.skb.network = packet.start() + link;
        if flags & (flag::ENCAP_GRE | flag::ENCAP_UDP) != 0 {
            packet.skb.transport = Some(packet.start() + link + ip_header(outer));
        }
        set_protocol(env, outer);
    }
    Ok(())
}

/// Source: `bpf_skb_net_shrink`.
fn shrunk(env: &mut Env, packet: &mut Packet, off: u32, len: u32, flags: u64) -> Result<(), i32> {
    if flags & !(flag::FIXED_GSO | flag::DECAP_IP | flag::NO_CSUM_RESET) != 0 {
        return Err(libc::EINVAL);
    }
    if is_gso(env) {
        return Err(ENOTSUPP);
    }
    pop(packet, off, len)?;
    match flags & flag::DECAP_IP {
        flag::DECAP_IPV4 => set_protocol(env, IPV4),
        flag::DECAP_IPV6 => set_protocol(env, IPV6),
        _ => {}
    }
    Ok(())
}

pub(super) fn change_tail(env: &mut Env, [context, len, flags, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_change_tail", context, |env, packet| {
        let len = len as u32;
        let network = offset(packet, packet.skb.network);
        let transport = packet.skb.transport.map_or(0, |place| offset(packet, place));
        let least = if transport > 0 { transport } else { network };
        if flags != 0 || len > MAX_GROWN_BYTES || i64::from(len) < least {
            return fail(libc::EINVAL);
        }
        if packet.skb.encapsulated {
            return fail(ENOTSUPP);
        }
        let result = if packet.move_end(packet.start() + len) { Ok(()) } else { Err(libc::ENOMEM) };
        if result.is_ok() && is_gso(env) {
            env.set_context(sk_buff::GSO_SIZE, [0; 4]);
            env.set_context(sk_buff::GSO_SEGS, [0; 4]);
        }
        done(env, packet, result)
    })
}

pub(super) fn change_head(env: &mut Env, [context, by, flags, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_change_head", context, |env, packet| {
        let by = by as u32;
        let new = packet.len().checked_add(by);
        if flags != 0 || new.is_none_or(|new| new > MAX_GROWN_BYTES && !is_gso(env)) {
            return fail(libc::EINVAL);
        }
        let result = if packet.insert(0, by) { Ok(()) } else { Err(libc::ENOMEM) };
        if result.is_ok() {
            packet.skb.mac = packet.start();
            note_link_header(packet);
        }
        done(env, packet, result)
    })
}

/// Where a VLAN tag stands in a frame: behind the two addresses.
const TAG_AT: u32 = 12;
const TAG: u32 = 4;
const ETHERNET_HEADER: u32 = 14;

/// The tag that stands beside the packet: protocol and number.
fn tag_beside(env: &Env) -> Option<(u16, u16)> {
    let protocol = u16::from_be(env.context_u32(sk_buff::VLAN_PROTO) as u16);
    (env.context_u32(sk_buff::VLAN_PRESENT) != 0).then(|| (protocol, env.context_u32(sk_buff::VLAN_TCI) as u16))
}

fn set_tag_beside(env: &mut Env, tag: Option<(u16, u16)>) {
    let (protocol, number) = tag.unwrap_or_default();
    env.set_context(sk_buff::VLAN_PRESENT, u32::from(tag.is_some()).to_ne_bytes());
    env.set_context(sk_buff::VLAN_PROTO, u32::from(protocol.to_be()).to_ne_bytes());
    env.set_context(sk_buff::VLAN_TCI, u32::from(number).to_ne_bytes());
}

/// The new tag goes beside the packet; the one that is there goes into it. Source: `skb_vlan_push`.
pub(super) fn vlan_push(env: &mut Env, [context, kind, number, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_vlan_push", context, |env, packet| {
        let kind = u16::from_be(kind as u16);
        let kind = if is_vlan(kind) { kind } else { VLAN };
        let result = match tag_beside(env) {
            Some((protocol, tag)) => insert_tag(packet, protocol, tag).map(|()| set_protocol(env, protocol)),
            None => Ok(()),
        };
        if result.is_ok() {
            set_tag_beside(env, Some((kind, number as u16)));
        }
        done(env, packet, result)
    })
}

fn insert_tag(packet: &mut Packet, protocol: u16, tag: u16) -> Result<(), i32> {
    if !packet.insert(TAG_AT, TAG) {
        return Err(libc::ENOMEM);
    }
    // The tag belongs to the network layer from now on. `insert` made room in front, so there is as much.
    packet.skb.mac = packet.skb.mac.saturating_sub(TAG);
    packet.skb.network = packet.skb.network.saturating_sub(TAG);
    if let Some(place) = packet.part_mut(TAG_AT.into(), TAG.into()) {
        let [a, b] = protocol.to_be_bytes();
        let [c, d] = tag.to_be_bytes();
        place.copy_from_slice(&[a, b, c, d]);
    }
    Ok(())
}

/// The tag beside the packet goes away, or the one in it; if there is another behind, that goes beside the packet.
/// Source: `skb_vlan_pop`.
pub(super) fn vlan_pop(env: &mut Env, [context, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_vlan_pop", context, |env, packet| {
        if packet.skb.mac != packet.start() {
            return Err(refuse("bpf_skb_vlan_pop", "the packet does not begin with its link-layer header"));
        }
        let mut taken = tag_beside(env).is_some();
        if taken {
            set_tag_beside(env, None);
        }
        while is_vlan(protocol(env)) {
            let kind = protocol(env);
            match take_tag(env, packet) {
                Ok(tag) if taken => {
                    set_tag_beside(env, Some((kind, tag)));
                    break;
                }
                Ok(_) => taken = true,
                Err(number) => return done(env, packet, Err(number)),
            }
        }
        done(env, packet, Ok(()))
    })
}

/// Source: `__skb_vlan_pop`, `vlan_set_encap_proto`.
fn take_tag(env: &mut Env, packet: &mut Packet) -> Result<u16, i32> {
    let part = packet.part(ETHERNET_HEADER.into(), TAG.into()).and_then(|bytes| bytes.first_chunk::<4>());
    let Some(&[a, b, c, d]) = part else { return Err(libc::ENOMEM) };
    let behind = u16::from_be_bytes([c, d]);
    let raw = packet.part((ETHERNET_HEADER + TAG).into(), 2);
    set_protocol(
        env,
        if behind >= 0x600 {
            behind
        } else if raw == Some(&[0xff, 0xff]) {
            1
        } else {
            4
        },
    );
    if !packet.remove(TAG_AT, TAG) {
        return Err(libc::ENOMEM);
    }
    packet.skb.mac += TAG;
    if offset(packet, packet.skb.network) < ETHERNET_HEADER.into() {
        packet.skb.network = packet.start() + ETHERNET_HEADER;
    }
    note_link_header(packet);
    Ok(u16::from_be_bytes([a, b]))
}
