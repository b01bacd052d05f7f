//! Checksums of the Internet protocols: ones' complement sums, and their replacement when a few bytes change.
//!
//! Source: RFC 1071, RFC 1624; `include/net/checksum.h` for what is done with numbers that are congruent but not equal.
//!
//! Limits: what an interface has summed up itself (`CHECKSUM_COMPLETE`) is not known of a packet from outside, so
//! `bpf_csum_update` fails as it does in the kernel for such packets.

use super::{ENOTSUPP, protocol, with_skb};
use crate::context::sk_buff;
use crate::env::Env;
use crate::helper::HelperResult;
use crate::helpers::fail;
use crate::helpers::packet::room::{IPV4, IPV6, is_vlan};
use crate::packet::{Packet, Summed};

/// The sum of two sums: the carry comes in again at the bottom.
fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u32::from(carry)
}

/// The sum of the words of `bytes` in this machine's byte order, and of `seed`.
fn sum(bytes: &[u8], seed: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    words.iter().chain([&last]).fold(seed, |total, word| add(total, u32::from_ne_bytes(*word)))
}

/// To 16 bits. Source: `csum_from32to16`.
fn to_16(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// A header's checksum. Source: `csum_fold`.
fn fold(sum: u32) -> u16 {
    !to_16(sum)
}

/// The checksum after something that changes the sum by `diff`. Source: `csum_replace_by_diff`.
fn replaced_by_diff(old: u16, diff: u32) -> u16 {
    fold(add(diff, !u32::from(old)))
}

/// The checksum after `from` has become `to`. Source: `csum_replace4`.
fn replaced_word(old: u16, from: u32, to: u32) -> u16 {
    fold(add(add(!u32::from(old), !from), to))
}

/// The same for 16 bits. Source: `csum_replace2`.
fn replaced_half(old: u16, from: u16, to: u16) -> u16 {
    let add = |a: u16, b: u16| {
        let (sum, carry) = a.overflowing_add(b);
        sum + u16::from(carry)
    };
    !add(add(!old, !from), to)
}

const FIELD_MASK: u64 = 0xf;

/// The checksum at this place of the packet, if one can be there.
fn checksum_at(packet: &mut Packet, offset: u32) -> Option<&mut [u8; 2]> {
    if offset > 0xffff || offset & 1 != 0 {
        return None;
    }
    packet.part_mut(offset.into(), 2)?.try_into().ok()
}

pub(super) fn l3_replace(env: &mut Env, [context, offset, from, to, flags]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_l3_csum_replace", context, |_, packet| {
        if flags & !FIELD_MASK != 0 {
            return fail(libc::EINVAL);
        }
        let Some(place) = checksum_at(packet, offset as u32) else { return fail(libc::EFAULT) };
        let old = u16::from_ne_bytes(*place);
        let new = match flags {
            0 if from != 0 => return fail(libc::EINVAL),
            0 => replaced_by_diff(old, to as u32),
            2 => replaced_half(old, from as u16, to as u16),
            4 => replaced_word(old, from as u32, to as u32),
            _ => return fail(libc::EINVAL),
        };
        *place = new.to_ne_bytes();
        Ok(0)
    })
}

pub(super) fn l4_replace(env: &mut Env, [context, offset, from, to, flags]: [u64; 5]) -> HelperResult {
    // That a pseudo header is meant matters only for sums that the interface made.
    const PSEUDO_HEADER: u64 = 1 << 4;
    const MARK_MANGLED_0: u64 = 1 << 5;
    const MARK_ENFORCE: u64 = 1 << 6;
    const IPV6_PSEUDO_HEADER: u64 = 1 << 7;
    with_skb(env, "bpf_l4_csum_replace", context, |_, packet| {
        if flags & !(FIELD_MASK | PSEUDO_HEADER | MARK_MANGLED_0 | MARK_ENFORCE | IPV6_PSEUDO_HEADER) != 0 {
            return fail(libc::EINVAL);
        }
        let Some(place) = checksum_at(packet, offset as u32) else { return fail(libc::EFAULT) };
        let old = u16::from_ne_bytes(*place);
        // 0 says that there is no checksum (UDP).
        if flags & MARK_MANGLED_0 != 0 && flags & MARK_ENFORCE == 0 && old == 0 {
            return Ok(0);
        }
        let new = match flags & FIELD_MASK {
            0 if from != 0 => return fail(libc::EINVAL),
            0 => replaced_by_diff(old, to as u32),
            // 16 bits, too, are taken as a word.
            2 => replaced_word(old, u32::from(from as u16), u32::from(to as u16)),
            4 => replaced_word(old, from as u32, to as u32),
            _ => return fail(libc::EINVAL),
        };
        let new = if flags & MARK_MANGLED_0 != 0 && new == 0 { 0xffff } else { new };
        *place = new.to_ne_bytes();
        Ok(0)
    })
}

/// Works on any memory of the program, the packet too, and since 6.13 on any number of bytes.
pub(super) fn diff(env: &mut Env, [from, from_size, to, to_size, seed]: [u64; 5]) -> HelperResult {
    let seed = seed as u32;
    let taken = |bytes: &[u8], seed: u32| !sum(bytes, !seed);
    let result = match (from_size as u32, to_size as u32) {
        (0, 0) => seed,
        (0, _) => sum(env.bytes(to, to_size)?, seed),
        (_, 0) => taken(env.bytes(from, from_size)?, seed),
        _ => {
            let added = sum(env.bytes(to, to_size)?, seed);
            add(added, !sum(env.bytes(from, from_size)?, 0))
        }
    };
    Ok(to_16(result).into())
}

pub(super) fn update(env: &mut Env, [context, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_csum_update", context, |_, _| fail(ENOTSUPP))
}

pub(super) fn level(env: &mut Env, [context, level, ..]: [u64; 5]) -> HelperResult {
    const QUERY: u64 = 0;
    const INCREASE: u64 = 1;
    const DECREASE: u64 = 2;
    const RESET: u64 = 3;
    const MAX_LEVEL: u8 = 3;
    with_skb(env, "bpf_csum_level", context, |_, packet| {
        let summed = &mut packet.skb.summed;
        *summed = match (level, *summed) {
            (QUERY, Summed::Unnecessary(level)) => return Ok(level.into()),
            (QUERY, Summed::None) => return fail(libc::EACCES),
            (INCREASE, Summed::Unnecessary(level)) => Summed::Unnecessary((level + 1).min(MAX_LEVEL)),
            (INCREASE, Summed::None) => Summed::Unnecessary(0),
            (DECREASE, Summed::Unnecessary(level)) if level > 0 => Summed::Unnecessary(level - 1),
            (DECREASE | RESET, _) => Summed::None,
            _ => return fail(libc::EINVAL),
        };
        Ok(0)
    })
}

/// The protocol behind VLAN tags that stand in the packet, 0 where they do not end. Source: `__vlan_get_protocol`.
fn protocol_behind_tags(env: &Env, packet: &Packet) -> u16 {
    const MAX_TAGS: u32 = 8;
    const TAG: u32 = 4;
    let mut found = protocol(env);
    // The first tag ends where the network header is said to begin, if anything has said so.
    let first = match packet.skb.mac_len {
        0 => 14,
        len => len.saturating_sub(TAG),
    };
    for tag in 0..MAX_TAGS {
        if !is_vlan(found) {
            return found;
        }
        let place = packet.part((first + TAG * tag + 2).into(), 2).and_then(|bytes| bytes.first_chunk::<2>());
        let Some(next) = place else { return 0 };
        found = u16::from_be_bytes(*next);
    }
    0
}

/// Marks congestion in the IP header: 1 if it is marked, 0 if the sender does not know of such marks or it is no IP packet.
pub(super) fn ecn_set_ce(env: &mut Env, [context, ..]: [u64; 5]) -> HelperResult {
    with_skb(env, "bpf_skb_ecn_set_ce", context, |env, packet| {
        let version = protocol_behind_tags(env, packet);
        let header = if version == IPV4 { 20 } else { 40 };
        let Some(offset) = packet.skb.network.checked_sub(packet.start()) else { return Ok(0) };
        if packet.len() < header {
            return Ok(0);
        }
        let Some(header) = packet.part_mut(offset.into(), header.into()) else { return Ok(0) };
        Ok(match version {
            IPV4 => mark_v4(header),
            IPV6 => mark_v6(header),
            _ => false,
        }
        .into())
    })
}

/// Bits 6 and 7 of the second byte: 00 not capable, 01 and 10 capable, 11 congested.
fn mark_v4(header: &mut [u8]) -> bool {
    let [_, tos, _, _, _, _, _, _, _, _, high, low, ..] = header else { return false };
    match *tos & 3 {
        0 => false,
        3 => true,
        old => {
            // The mark adds 3 - old to a 16-bit word, so the checksum loses as much. Source: `IP_ECN_set_ce`.
            let check = u32::from(u16::from_ne_bytes([*high, *low]));
            let ecn = u16::from((old + 1) & 3);
            let added = check + u32::from(0xfffbu16.to_be()) + u32::from(ecn.to_be());
            let sum = (added & 0xffff) + (added >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            [*high, *low] = (sum as u16).to_ne_bytes();
            *tos |= 3;
            true
        }
    }
}

/// The same bits lie in the middle of the second byte: 4 bits of the version's, 8 of the traffic class.
fn mark_v6(header: &mut [u8]) -> bool {
    let [_, second, ..] = header else { return false };
    if *second >> 4 & 3 == 0 {
        return false;
    }
    *second |= 0x30;
    true
}

/// What `bpf_skb_adjust_room` does to the checksum's state.
pub(super) fn reset(packet: &mut Packet) {
    packet.skb.summed = Summed::None;
}

/// Whether the packet stands for several, so that the kernel treats its length differently.
pub(super) fn is_gso(env: &Env) -> bool {
    env.context_u32(sk_buff::GSO_SIZE) as u16 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header's checksum from scratch, RFC 1071.
    fn checksum(bytes: &[u8]) -> u16 {
        let total: u64 = bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
        let mut folded = total;
        while folded > 0xffff {
            folded = (folded & 0xffff) + (folded >> 16);
        }
        !(folded as u16)
    }

    proptest! {
        #[test]
        fn a_replaced_checksum_is_that_of_the_changed_bytes(
            mut bytes in proptest::collection::vec(any::<u8>(), 20), at in 0usize..5, word: [u8; 4],
        ) {
            // A sum of all zeros has two spellings; the first byte sees to it that there is none.
            bytes[0] |= 1;
            let old = checksum(&bytes);
            let place = 4 * at;
            let from: [u8; 4] = bytes[place..place + 4].try_into().unwrap();
            bytes[place..place + 4].copy_from_slice(&word);
            bytes[0] |= 1;
            let to: [u8; 4] = bytes[place..place + 4].try_into().unwrap();
            let new = checksum(&bytes);
            let (from_word, to_word) = (u32::from_ne_bytes(from), u32::from_ne_bytes(to));
            prop_assert_eq!(replaced_word(old, from_word, to_word), new);
            let difference = add(sum(&to, 0), !sum(&from, 0));
            prop_assert_eq!(replaced_by_diff(old, difference), new);
            let half = |bytes: [u8; 4], at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
            let between = replaced_half(old, half(from, 0), half(to, 0));
            prop_assert_eq!(replaced_half(between, half(from, 2), half(to, 2)), new);
        }

        #[test]
        fn a_congestion_mark_keeps_the_checksum_right(mut bytes in proptest::collection::vec(any::<u8>(), 20)) {
            bytes[10..12].fill(0);
            let check = checksum(&bytes);
            bytes[10..12].copy_from_slice(&check.to_ne_bytes());
            let capable = bytes[1] & 3 != 0;
            prop_assert_eq!(mark_v4(&mut bytes), capable);
            prop_assert!(!capable || bytes[1] & 3 == 3);
            let check = u16::from_ne_bytes([bytes[10], bytes[11]]);
            bytes[10..12].fill(0);
            prop_assert!(check == checksum(&bytes) || check == 0xffff && checksum(&bytes) == 0);
        }
    }
}
