//! Any bytes as a capture: an error or packets, and what is written of them reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_vm::source::packets::{Format, Reader, Writer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new("fuzz", bytes) else { return };
    let mut written = Vec::new();
    let mut copy = Writer::new("copy", &mut written, Format::PcapNg);
    let mut packets = Vec::new();
    while let Ok(Some(packet)) = reader.next_packet() {
        let (place, ticks, length, data) =
            (packet.interface, packet.ticks, packet.original_length, packet.data.to_vec());
        let interface = reader.interfaces()[place as usize].clone();
        let again = skep_vm::source::packets::Packet { interface: place, ticks, original_length: length, data: &data };
        if copy.write(&interface, &again).is_err() {
            return;
        }
        packets.push((interface.time_ns(&again), length, data));
    }
    copy.finish().expect("memory takes it all");
    let mut reader = Reader::new("copy", written.as_slice()).expect("what we wrote is a capture");
    for (time_ns, length, data) in packets {
        let packet = reader.next_packet().expect("a packet").expect("as many as were written");
        let (read, about) = (packet.data.to_vec(), (packet.original_length, packet.interface));
        let again = skep_vm::source::packets::Packet { data: &read, ..packet };
        let ticks = again.ticks;
        assert_eq!((about.0, &read), (length, &data));
        let again =
            skep_vm::source::packets::Packet { interface: about.1, ticks, original_length: length, data: &read };
        assert_eq!(reader.interfaces()[about.1 as usize].time_ns(&again), time_ns);
    }
    assert!(reader.next_packet().expect("the end").is_none());
});
