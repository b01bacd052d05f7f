//! Writes captures.

use super::{CaptureError, Format, Interface, LinkType, MAX_BLOCK_BYTES, Packet, Resolution};
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// What pcap files say where packets are not cut, as tcpdump has it. The limit that packets were captured with is not passed
/// on: a program may have made one longer, and libpcap takes none beyond the limit.
const NO_SNAP_LENGTH: u32 = 262_144;

/// Writes packets into a capture, in little-endian byte order. Interfaces are written down when their first packet comes.
#[derive(Debug)]
pub struct Writer<W: Write> {
    name: String,
    output: W,
    format: Format,
    /// The header has been written. It waits for the first packet, whose interface a pcap header describes.
    begun: bool,
    /// The interfaces written down, by their number there.
    interfaces: Vec<Interface>,
    packets: u64,
    block: Vec<u8>,
}

impl Writer<Box<dyn Write>> {
    /// Makes a file, or writes to standard output if the name is `-`. What was in the file is gone.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(name: &str, format: Format) -> Result<Writer<Box<dyn Write>>, CaptureError> {
        if name == "-" {
            return Ok(Writer::new("standard output", Box::new(BufWriter::new(io::stdout())), format));
        }
        let file = File::create(name).map_err(|source| CaptureError::Open { name: name.to_owned(), source })?;
        Ok(Writer::new(name, Box::new(BufWriter::with_capacity(1 << 18, file)), format))
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `output`, which should be buffered. `name` is for messages.
    pub fn new(name: &str, output: W, format: Format) -> Writer<W> {
        let name = name.to_owned();
        Writer { name, output, format, begun: false, interfaces: Vec::new(), packets: 0, block: Vec::new() }
    }

    /// Writes a packet of an interface, described as in [`super::Reader::interfaces`]; `packet.interface` does not matter.
    ///
    /// # Errors
    /// The file cannot be written; a pcap file cannot hold packets of two link types, nor of before 1970 and after 2106.
    pub fn write(&mut self, interface: &Interface, packet: &Packet<'_>) -> Result<(), CaptureError> {
        self.packets += 1;
        // A block has less room than its length by header, padding and end.
        if packet.data.len() > MAX_BLOCK_BYTES - 64 {
            return Err(self.unwritable(format!("{} bytes, more than a capture can hold", packet.data.len())));
        }
        match self.format {
            Format::Pcap => self.write_pcap(interface, packet),
            Format::PcapNg => self.write_pcapng(interface, packet),
        }
    }

    /// Writes what is left: the header too, if there was no packet (for Ethernet then).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self) -> Result<(), CaptureError> {
        if !self.begun {
            match self.format {
                Format::Pcap => self.begin_pcap(&Interface::new(LinkType::ETHERNET))?,
                Format::PcapNg => self.begin_pcapng()?,
            }
        }
        self.output.flush().map_err(|source| CaptureError::Write { name: self.name.clone(), source })
    }

    fn unwritable(&self, cause: String) -> CaptureError {
        CaptureError::Unwritable { name: self.name.clone(), number: self.packets, cause }
    }

    /// Writes `block` out.
    fn put(&mut self) -> Result<(), CaptureError> {
        self.output.write_all(&self.block).map_err(|source| CaptureError::Write { name: self.name.clone(), source })
    }

    /// Whether a pcap file of these packets has nanoseconds: microseconds are enough where times are no finer.
    fn nanoseconds(interface: &Interface) -> bool {
        interface.resolution.per_second() > Resolution::MICRO.per_second()
    }

    fn begin_pcap(&mut self, interface: &Interface) -> Result<(), CaptureError> {
        let magic: u32 = if Self::nanoseconds(interface) { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
        self.block.clear();
        self.block.extend(magic.to_le_bytes());
        self.block.extend([2, 0, 4, 0]);
        self.block.extend([0; 8]);
        self.block.extend(NO_SNAP_LENGTH.to_le_bytes());
        self.block.extend(interface.link.0.to_le_bytes());
        self.begun = true;
        self.interfaces.push(interface.clone());
        self.put()
    }

    fn write_pcap(&mut self, interface: &Interface, packet: &Packet<'_>) -> Result<(), CaptureError> {
        if !self.begun {
            self.begin_pcap(interface)?;
        }
        let Some(first) = self.interfaces.first() else { return Ok(()) };
        if first.link != interface.link {
            let cause = format!(
                "it is {}, and the file is of {} packets: a pcap file holds one kind; name the file .pcapng",
                interface.link, first.link
            );
            return Err(self.unwritable(cause));
        }
        let nanoseconds = Self::nanoseconds(first);
        let time_ns = if packet.ticks.is_none() { Some(0) } else { interface.time_ns(packet) };
        let seconds = time_ns.and_then(|time| u32::try_from(time / 1_000_000_000).ok());
        let (Some(time_ns), Some(seconds)) = (time_ns, seconds) else {
            let cause = "its time is not within what a pcap file can hold (1970 to 2106); name the file .pcapng";
            return Err(self.unwritable(cause.to_owned()));
        };
        let fraction = (time_ns % 1_000_000_000) as u32;
        self.block.clear();
        self.block.extend(seconds.to_le_bytes());
        self.block.extend(if nanoseconds { fraction } else { fraction / 1000 }.to_le_bytes());
        self.block.extend((packet.data.len() as u32).to_le_bytes());
        self.block.extend(packet.original_length.to_le_bytes());
        self.block.extend(packet.data);
        self.put()
    }

    /// Ends the block that was begun with its type and room for its length, and writes it.
    fn put_block(&mut self) -> Result<(), CaptureError> {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
        let length = ((self.block.len() + 4) as u32).to_le_bytes();
        self.block.extend(length);
        if let Some(place) = self.block.get_mut(4..8) {
            place.copy_from_slice(&length);
        }
        self.put()
    }

    fn begin_block(&mut self, kind: u32) {
        self.block.clear();
        self.block.extend(kind.to_le_bytes());
        self.block.extend([0; 4]);
    }

    fn begin_pcapng(&mut self) -> Result<(), CaptureError> {
        self.begin_block(0x0a0d_0d0a);
        self.block.extend(0x1a2b_3c4d_u32.to_le_bytes());
        self.block.extend([1, 0, 0, 0]);
        // The section's length: not known.
        self.block.extend([0xff; 8]);
        self.begun = true;
        self.put_block()
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        // A name that is longer than an option can be is cut.
        let value = value.get(..value.len().min(0xffff)).unwrap_or_default();
        self.block.extend(code.to_le_bytes());
        self.block.extend((value.len() as u16).to_le_bytes());
        self.block.extend(value);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// The number of an interface, which is written down if it is new.
    fn number_of(&mut self, interface: &Interface) -> Result<u32, CaptureError> {
        if let Some(number) = self.interfaces.iter().position(|known| known == interface) {
            return Ok(number as u32);
        }
        let Ok(link) = u16::try_from(interface.link.0) else {
            return Err(self.unwritable(format!("its {} does not fit a pcapng file", interface.link)));
        };
        self.begin_block(1);
        self.block.extend(link.to_le_bytes());
        self.block.extend([0; 2]);
        // No limit, see NO_SNAP_LENGTH.
        self.block.extend([0; 4]);
        if let Some(name) = &interface.name {
            self.option(2, name.as_bytes());
        }
        self.option(9, &[interface.resolution.byte()]);
        if interface.offset_s != 0 {
            self.option(14, &interface.offset_s.to_le_bytes());
        }
        self.option(0, &[]);
        self.put_block()?;
        self.interfaces.push(interface.clone());
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn write_pcapng(&mut self, interface: &Interface, packet: &Packet<'_>) -> Result<(), CaptureError> {
        if !self.begun {
            self.begin_pcapng()?;
        }
        let number = self.number_of(interface)?;
        let simple = packet.ticks.is_none() && number == 0 && !packet.truncated();
        if simple {
            // A packet without a time stays one, where that can be said: a simple block has one length alone.
            self.begin_block(3);
        } else {
            self.begin_block(6);
            let ticks = packet.ticks.unwrap_or_default();
            self.block.extend(number.to_le_bytes());
            self.block.extend(((ticks >> 32) as u32).to_le_bytes());
            self.block.extend((ticks as u32).to_le_bytes());
            self.block.extend((packet.data.len() as u32).to_le_bytes());
        }
        self.block.extend(packet.original_length.to_le_bytes());
        self.block.extend(packet.data);
        self.put_block()
    }
}
