use super::*;
use proptest::prelude::*;
use std::process::Command;

/// A packet that owns its bytes: interface, time, original length, data.
type Owned = (u32, Option<u64>, u32, Vec<u8>);

fn read_all(file: &[u8]) -> Result<(Vec<Interface>, Vec<Owned>), String> {
    let mut reader = Reader::new("in.pcap", file).map_err(|error| error.to_string())?;
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().map_err(|error| error.to_string())? {
        packets.push((packet.interface, packet.ticks, packet.original_length, packet.data.to_vec()));
    }
    Ok((reader.interfaces().to_vec(), packets))
}

fn write_all(format: Format, interfaces: &[Interface], packets: &[Owned]) -> Result<Vec<u8>, String> {
    let mut file = Vec::new();
    let mut writer = Writer::new("out", &mut file, format);
    for (interface, ticks, original_length, data) in packets {
        let packet = Packet { interface: *interface, ticks: *ticks, original_length: *original_length, data };
        writer.write(&interfaces[*interface as usize], &packet).map_err(|error| error.to_string())?;
    }
    writer.finish().map_err(|error| error.to_string())?;
    Ok(file)
}

/// An Ethernet frame of an IPv4 UDP packet, with the payload's length in its headers.
fn udp_frame(id: u16, payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let total = (20 + 8 + payload) as u16;
    frame.extend([0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x30, 0x39, 0x00, 0x35]);
    frame.extend(((8 + payload) as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|i| i as u8));
    frame
}

struct Ng {
    big: bool,
    bytes: Vec<u8>,
}

/// Builds pcapng by hand, in either byte order.
impl Ng {
    fn u32(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn u16(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let length = self.u32((12 + body.len().next_multiple_of(4)) as u32);
        self.bytes.extend(self.u32(kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.bytes.extend(length);
    }

    fn section(&mut self, big: bool) {
        self.big = big;
        let body = [&self.u32(0x1a2b_3c4d)[..], &self.u16(1), &self.u16(0), &[0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body);
    }

    fn interface(&mut self, link: u16, snap: u32, resolution: Option<u8>) {
        let mut body = [&self.u16(link)[..], &[0; 2], &self.u32(snap)].concat();
        if let Some(byte) = resolution {
            body.extend([&self.u16(9)[..], &self.u16(1), &[byte, 0, 0, 0]].concat());
            body.extend([&self.u16(2)[..], &self.u16(5), b"eth0\0\0\0\0"].concat());
            body.extend([0; 4]);
        }
        self.block(1, &body);
    }

    fn packet(&mut self, interface: u32, ticks: u64, original: u32, data: &[u8]) {
        let words = [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, original];
        let mut body: Vec<u8> = words.iter().flat_map(|&word| self.u32(word)).collect();
        body.extend(data);
        self.block(6, &body);
    }
}

#[test]
fn sections_in_both_byte_orders_simple_and_old_packets() {
    let mut file = Ng { big: false, bytes: Vec::new() };
    for big in [false, true] {
        file.section(big);
        file.interface(1, 64, None);
        file.interface(101, 0, Some(9));
        file.packet(1, 0x1_0000_0002, 5, b"abc");
        // Blocks that are passed over: statistics and one that nobody knows.
        file.block(5, &[0; 12]);
        file.block(0x0bad, b"whatever");
        let original = file.u32(70);
        file.block(3, &[&original[..], &[7; 64]].concat());
        let old =
            [&file.u16(0)[..], &file.u16(9), &file.u32(0), &file.u32(5), &file.u32(2), &file.u32(2), b"xy"].concat();
        file.block(2, &old);
    }
    let (interfaces, packets) = read_all(&file.bytes).expect("it is right");
    assert_eq!(interfaces.len(), 4);
    assert_eq!((interfaces[0].resolution, interfaces[3].resolution), (Resolution::MICRO, Resolution::NANO));
    assert_eq!(interfaces[3].name.as_deref(), Some("eth0"));
    let expected = |first: u32| {
        [
            (first + 1, Some(0x1_0000_0002), 5, b"abc".to_vec()),
            (first, None, 70, vec![7; 64]),
            (first, Some(5), 2, b"xy".to_vec()),
        ]
    };
    assert_eq!(packets, [expected(0), expected(2)].concat());
    assert_eq!(
        interfaces[1].time_ns(&Packet { interface: 1, ticks: Some(1 << 32), original_length: 0, data: &[] }),
        Some(1 << 32)
    );

    // What is written reads the same; interfaces that are described alike become one.
    let again = write_all(Format::PcapNg, &interfaces, &packets).expect("writable");
    let (interfaces, written) = read_all(&again).expect("our own");
    assert_eq!(interfaces.len(), 2);
    let without =
        |packets: Vec<Owned>| packets.into_iter().map(|(_, ticks, n, data)| (ticks, n, data)).collect::<Vec<_>>();
    let mut expected = without(packets);
    // A packet without a time stays one only on a file's first interface; here that is the other.
    for packet in expected.iter_mut().filter(|packet| packet.0.is_none()) {
        packet.0 = Some(0);
    }
    assert_eq!(without(written), expected);
}

#[test]
fn resolutions() {
    for byte in 0..=255 {
        let Some(resolution) = Resolution::from_byte(byte) else { continue };
        assert_eq!(resolution.byte(), byte);
        assert!(resolution.per_second() >= 1);
    }
    let interface = |resolution, offset_s| Interface { resolution, offset_s, ..Interface::new(LinkType::RAW) };
    let packet = |ticks| Packet { interface: 0, ticks: Some(ticks), original_length: 0, data: &[] };
    assert_eq!(interface(Resolution::Binary(10), 0).time_ns(&packet(1536)), Some(1_500_000_000));
    assert_eq!(interface(Resolution::MICRO, -1).time_ns(&packet(1_500_000)), Some(500_000_000));
    assert_eq!(interface(Resolution::MICRO, -2).time_ns(&packet(1_500_000)), None);
    assert_eq!(interface(Resolution::Decimal(0), 0).time_ns(&packet(u64::MAX)), None);
}

#[test]
fn every_pcap_header() {
    for (magic, big, ns, extra) in [
        (0xa1b2_c3d4_u32, false, false, 0),
        (0xa1b2_c3d4, true, false, 0),
        (0xa1b2_3c4d, false, true, 0),
        (0xa1b2_3c4d, true, true, 0),
        (0xa1b2_cd34, false, false, 8),
        (0xa1b2_cd34, true, false, 8),
    ] {
        let put = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
        let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
        let mut file = [&put(magic)[..], &version, &[0; 8], &put(96), &put(0x5000_0001)].concat();
        file.extend([put(3), put(7), put(2), put(1500)].concat());
        file.extend(vec![0xee; extra]);
        file.extend(b"ab");
        let (interfaces, packets) = read_all(&file).expect("it is right");
        let ticks = if ns { 3_000_000_007 } else { 3_000_007 };
        assert_eq!(packets, [(0, Some(ticks), 1500, b"ab".to_vec())]);
        assert_eq!((interfaces[0].link, interfaces[0].snap_length), (LinkType::ETHERNET, 96));
    }
}

#[test]
fn damage_is_named_with_its_place() {
    let error = |file: &[u8]| read_all(file).expect_err("damaged");
    assert_eq!(error(b""), "read in.pcap: at byte 0: the file is empty, and so no capture");
    assert_eq!(
        error(b"GET / HTTP/1.1"),
        "read in.pcap: at byte 0: neither a pcap nor a pcapng file: it begins with 47455420"
    );
    assert_eq!(error(&[0x1f, 0x8b, 8, 0]), "read in.pcap: at byte 0: the file is compressed; unpack it first (gunzip)");
    let one = [Interface::new(LinkType::ETHERNET)];
    let file = write_all(Format::Pcap, &one, &[(0, Some(1), 60, vec![1; 60])]).expect("writable");
    assert_eq!(
        error(&file[..70]),
        "read in.pcap: at byte 70: the file ends within a packet, after 30 of 60 bytes: it has been cut off"
    );
    assert_eq!(
        error(&file[..30]),
        "read in.pcap: at byte 30: the file ends within the header of a packet, after 6 of 16 bytes: it has been cut off"
    );
    let mut long = file.clone();
    long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        error(&long),
        "read in.pcap: at byte 32: a packet of 4294967295 bytes, more than the 16777216 that are read: the file is damaged"
    );

    let mut ng = Ng { big: false, bytes: Vec::new() };
    ng.section(false);
    ng.packet(0, 0, 1, b"a");
    assert_eq!(error(&ng.bytes), "read in.pcap: at byte 36: a packet of interface 0, of which there are 0 so far");
    let mut ng = Ng { big: true, bytes: Vec::new() };
    ng.section(true);
    ng.interface(1, 0, Some(0x7f));
    assert_eq!(error(&ng.bytes), "read in.pcap: at byte 48: a time resolution of 0x7f, finer than 64 bits can count");
    let end = ng.bytes.len();
    ng.bytes[44..46].copy_from_slice(&[0, 99]);
    ng.bytes[end - 1] ^= 4;
    assert!(error(&ng.bytes).starts_with(&format!("read in.pcap: at byte {}: a block of 44 bytes that says", end - 4)));
    ng.bytes[28 + 7] = 7;
    assert_eq!(
        error(&ng.bytes),
        "read in.pcap: at byte 32: a block of 7 bytes: its length is a multiple of 4 and at least 20"
    );
}

#[test]
fn what_a_file_cannot_hold() {
    let two = [Interface::new(LinkType::ETHERNET), Interface::new(LinkType::RAW)];
    let packets = [(0, Some(1), 1, vec![1]), (1, Some(1), 1, vec![2])];
    assert_eq!(
        write_all(Format::Pcap, &two, &packets).expect_err("two link types"),
        "write out: packet 2: it is raw IP, and the file is of Ethernet packets: a pcap file holds one kind; name the file .pcapng"
    );
    assert!(write_all(Format::PcapNg, &two, &packets).is_ok());
    let late = [(0, Some(u64::MAX), 1, vec![1])];
    assert!(write_all(Format::Pcap, &two, &late).expect_err("2554").contains("1970 to 2106"));
    assert!(LinkType::LINUX_SLL.for_xdp().expect_err("no Ethernet").to_string().contains("are Linux cooked;"));
    assert_eq!(LinkType::ETHERNET.for_xdp(), Ok(()));
}

#[test]
fn network_headers() {
    assert_eq!(LinkType::ETHERNET.network(&udp_frame(1, 0)), Some((14, 0x0800)));
    assert_eq!(LinkType::RAW.network(&[0x60, 0]), Some((0, 0x86dd)));
    assert_eq!(LinkType::RAW.network(&[]), None);
    assert_eq!(LinkType::LINUX_SLL.network(&[0; 15]), None);
    assert_eq!(LinkType::LINUX_SLL2.network(&[0x08, 0x06]), Some((20, 0x0806)));
}

#[test]
fn a_changed_packet_keeps_what_was_cut() {
    let packet = Packet { interface: 0, ticks: Some(1), original_length: 1500, data: &[0; 100] };
    assert_eq!(packet.with_data(&[0; 104]).original_length, 1504);
    assert!(packet.with_data(&[0; 4]).truncated());
    assert!(!Packet { original_length: 100, ..packet }.with_data(&[0; 90]).truncated());
}

/// A reader that hands out one byte at a time, as a pipe may.
struct Slow<'a>(&'a [u8]);

impl io::Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let one = buffer.len().min(1);
        io::Read::read(&mut self.0, &mut buffer[..one])
    }
}

#[test]
fn short_reads_do_not_matter() {
    let packets: Vec<Owned> = (0..20).map(|i| (0, Some(i), 60 + i as u32, vec![i as u8; 60])).collect();
    for format in [Format::Pcap, Format::PcapNg] {
        let file = write_all(format, &[Interface::new(LinkType::ETHERNET)], &packets).expect("writable");
        let mut reader = Reader::new("-", Slow(&file)).expect("ours");
        let mut count = 0;
        while let Some(packet) = reader.next_packet().expect("ours") {
            assert_eq!(packet.data, packets[count].3);
            count += 1;
        }
        assert_eq!((count, reader.format()), (packets.len(), format));
    }
}

/// tcpdump's own reading of a file: a line and a hex dump each packet.
fn tcpdump(file: &[u8]) -> Option<String> {
    let dir = tempfile::tempdir().ok()?;
    let path = dir.path().join("capture");
    std::fs::write(&path, file).ok()?;
    let output = Command::new("tcpdump").args(["-nn", "-tt", "-xx", "--nano", "-r"]).arg(&path).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The bytes in such a dump, and the times.
fn dumped(text: &str) -> Vec<(String, Vec<u8>)> {
    let mut packets: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('\t').and_then(|line| line.split_once(':')) {
            Some((_, hex)) => {
                let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
                let bytes =
                    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).unwrap_or(0));
                packets.last_mut().expect("a line before the bytes").1.extend(bytes);
            }
            None => packets.push((line.split(' ').next().unwrap_or_default().to_owned(), Vec::new())),
        }
    }
    packets
}

#[test]
fn tcpdump_reads_what_is_written_and_the_other_way_round() {
    let interfaces = [Interface { name: Some("eth0".to_owned()), ..Interface::new(LinkType::ETHERNET) }];
    let packets: Vec<Owned> = (0..5u16)
        .map(|id| {
            let frame = udp_frame(id, usize::from(id) * 7);
            (0, Some(1_700_000_000_000_000_000 + u64::from(id)), frame.len() as u32, frame)
        })
        .collect();
    let expected: Vec<_> = packets
        .iter()
        .map(|(_, ticks, _, data)| (format!("1700000000.{:09}", ticks.unwrap_or(0) % 1_000_000_000), data.clone()))
        .collect();
    for format in [Format::Pcap, Format::PcapNg] {
        let file = write_all(format, &interfaces, &packets).expect("writable");
        let Some(text) = tcpdump(&file) else {
            eprintln!("needs tcpdump");
            return;
        };
        assert_eq!(dumped(&text), expected, "{format:?}\n{text}");
        assert!(text.contains("10.0.0.1.12345 > 10.0.0.2.53"), "{text}");

        // And what tcpdump writes of it is read here.
        let dir = tempfile::tempdir().expect("a directory");
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&from, &file).expect("written");
        let status =
            Command::new("tcpdump").arg("--nano").arg("-r").arg(&from).arg("-w").arg(&to).output().expect("tcpdump");
        assert!(status.status.success());
        let (_, again) = read_all(&std::fs::read(&to).expect("its file")).expect("tcpdump's file");
        assert_eq!(again, packets);
    }
}

fn resolution() -> impl Strategy<Value = Resolution> {
    any::<u8>().prop_filter_map("countable", Resolution::from_byte)
}

fn interface() -> impl Strategy<Value = Interface> {
    let name = proptest::option::of("[a-z0-9é]{0,12}");
    (0u32..300, prop_oneof![Just(0), 1u32..2000], name, resolution(), prop_oneof![Just(0), any::<i64>()]).prop_map(
        |(link, snap_length, name, resolution, offset_s)| Interface {
            link: LinkType(link),
            snap_length,
            name,
            resolution,
            offset_s,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        interfaces in prop::collection::vec(interface(), 1..5),
        packets in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>(), 0u32..100, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let packets: Vec<Owned> = packets
            .into_iter()
            .map(|(at, ticks, cut, data)| (at.index(interfaces.len()) as u32, Some(ticks), data.len() as u32 + cut, data))
            .collect();
        let file = write_all(Format::PcapNg, &interfaces, &packets).expect("writable");
        let (described, again) = read_all(&file).expect("our own");
        prop_assert_eq!(again.len(), packets.len());
        for (packet, (interface, ticks, original, data)) in again.iter().zip(&packets) {
            prop_assert_eq!((packet.1, packet.2, &packet.3), (*ticks, *original, data));
            let expected = Interface { snap_length: 0, ..interfaces[*interface as usize].clone() };
            prop_assert_eq!(&described[packet.0 as usize], &expected);
        }
    }

    #[test]
    fn pcap_keeps_times_of_its_own_unit(
        nano in any::<bool>(),
        packets in prop::collection::vec((any::<u32>(), 0u64..1_000_000, prop::collection::vec(any::<u8>(), 0..100)), 0..20),
    ) {
        let resolution = if nano { Resolution::NANO } else { Resolution::MICRO };
        let interfaces = [Interface { resolution, snap_length: 262_144, ..Interface::new(LinkType::RAW) }];
        let packets: Vec<Owned> = packets
            .into_iter()
            .map(|(seconds, part, data)| (0, Some(u64::from(seconds) * resolution.per_second() + part), 500, data))
            .collect();
        let (described, again) = read_all(&write_all(Format::Pcap, &interfaces, &packets).expect("writable")).expect("our own");
        prop_assert_eq!(again, packets.clone());
        if !packets.is_empty() {
            prop_assert_eq!(&described[..], &interfaces[..]);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_danger(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4usize) {
        let start: &[u8] = [
            &b""[..],
            &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0],
            &[10, 13, 13, 10, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 28, 0, 0, 0],
            &[10, 13, 13, 10, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 28],
        ][kind];
        let _ = read_all(&[start, &bytes].concat());
    }

    #[test]
    fn a_changed_byte_is_no_danger(at in any::<prop::sample::Index>(), value in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut file = Ng { big: true, bytes: Vec::new() };
        file.section(true);
        file.interface(1, 64, Some(9));
        file.packet(0, 7, 70, &[1; 64]);
        file.block(3, &[0, 0, 0, 2, b'a', b'b']);
        let at = at.index(file.bytes.len());
        file.bytes[at] = value;
        let _ = read_all(&file.bytes);
        let _ = read_all(&file.bytes[..cut.index(file.bytes.len())]);
    }
}
