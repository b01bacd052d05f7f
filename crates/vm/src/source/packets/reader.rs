//! Reads captures.

use super::{CaptureError, Format, Interface, LinkType, MAX_BLOCK_BYTES, MAX_INTERFACES, Packet, Resolution};
use std::fs::File;
use std::io::{self, BufReader, Read};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
/// The packet block of before 2009.
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// The bits of a pcap header's last word that are the link type; above is what is said of frame check sequences.
const LINK_TYPE_BITS: u32 = 0x03ff_ffff;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(if self == Order::Little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// pcap, and how long the header of a packet is.
    Pcap { order: Order, header: usize },
    /// pcapng, and the first interface of the section.
    PcapNg { order: Order, first_interface: usize },
    /// Nothing more can be read after an error.
    Failed,
}

/// Reads the packets of a capture, see the module.
#[derive(Debug)]
pub struct Reader<R> {
    name: String,
    input: R,
    /// Where the block begins that is being read.
    block_at: u64,
    /// Where the next byte is.
    offset: u64,
    buffer: Vec<u8>,
    state: State,
    format: Format,
    interfaces: Vec<Interface>,
}

/// A packet's place in the buffer.
struct Found {
    interface: u32,
    ticks: Option<u64>,
    original_length: u32,
    start: usize,
    length: usize,
}

impl Reader<Box<dyn Read>> {
    /// Opens a file, or standard input if the name is `-`.
    ///
    /// # Errors
    /// It cannot be opened, or is no capture.
    pub fn open(name: &str) -> Result<Reader<Box<dyn Read>>, CaptureError> {
        if name == "-" {
            return Reader::new("standard input", Box::new(io::stdin().lock()));
        }
        let file = File::open(name).map_err(|source| CaptureError::Open { name: name.to_owned(), source })?;
        Reader::new(name, Box::new(BufReader::with_capacity(1 << 18, file)))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the file's header. `name` is for messages. Small reads are made of `input`: it should be buffered.
    ///
    /// # Errors
    /// It is no capture.
    pub fn new(name: &str, input: R) -> Result<Reader<R>, CaptureError> {
        let mut reader = Reader {
            name: name.to_owned(),
            input,
            block_at: 0,
            offset: 0,
            buffer: Vec::new(),
            state: State::Failed,
            format: Format::Pcap,
            interfaces: Vec::new(),
        };
        reader.fill(4)?;
        let magic = Order::Little.u32(&reader.buffer, 0);
        let (order, resolution, header) = match magic {
            None => return Err(reader.no_capture()),
            Some(SECTION_HEADER) => {
                reader.format = Format::PcapNg;
                let order = reader.section_header()?;
                reader.state = State::PcapNg { order, first_interface: 0 };
                return Ok(reader);
            }
            Some(0xa1b2_c3d4) => (Order::Little, Resolution::MICRO, 16),
            Some(0xd4c3_b2a1) => (Order::Big, Resolution::MICRO, 16),
            Some(0xa1b2_3c4d) => (Order::Little, Resolution::NANO, 16),
            Some(0x4d3c_b2a1) => (Order::Big, Resolution::NANO, 16),
            // Kuznetsov's variant: eight more bytes about the interface.
            Some(0xa1b2_cd34) => (Order::Little, Resolution::MICRO, 24),
            Some(0x34cd_b2a1) => (Order::Big, Resolution::MICRO, 24),
            Some(_) => return Err(reader.no_capture()),
        };
        reader.fill_or_cut(20, "the file's header")?;
        let field = |at| order.u32(&reader.buffer, at).unwrap_or_default();
        let major = order.u16(&reader.buffer, 0).unwrap_or_default();
        let (snap_length, link) = (field(12), LinkType(field(16) & LINK_TYPE_BITS));
        if major != 2 {
            return Err(reader.malformed(4, format!("version {major} of the pcap format, not 2")));
        }
        reader.interfaces.push(Interface { snap_length, resolution, ..Interface::new(link) });
        reader.state = State::Pcap { order, header };
        Ok(reader)
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The interfaces seen so far, those of all sections one after the other. A pcap file has one.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The interface of a packet.
    pub fn interface(&self, packet: &Packet<'_>) -> Option<&Interface> {
        self.interfaces.get(packet.interface as usize)
    }

    /// The next packet, `None` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read or is damaged; nothing can be read from it after that (`None`).
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        let found = match self.state {
            State::Pcap { order, header } => self.pcap_packet(order, header),
            State::PcapNg { .. } => self.pcapng_packet(),
            State::Failed => return Ok(None),
        };
        match found {
            Ok(Some(Found { interface, ticks, original_length, start, length })) => {
                let data = self.buffer.get(start..start + length).unwrap_or_default();
                Ok(Some(Packet { interface, ticks, original_length, data }))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// Reads up to that many bytes into the emptied buffer, fewer only at the end of the file.
    fn fill(&mut self, bytes: usize) -> Result<(), CaptureError> {
        self.buffer.clear();
        self.fill_more(bytes)
    }

    fn fill_more(&mut self, bytes: usize) -> Result<(), CaptureError> {
        // Grows with what is there: a length that lies costs nothing.
        let result = self.input.by_ref().take(bytes as u64).read_to_end(&mut self.buffer);
        let read =
            result.map_err(|source| CaptureError::Read { name: self.name.clone(), offset: self.offset, source })?;
        self.offset += read as u64;
        Ok(())
    }

    /// As `fill`; fewer bytes are an error.
    fn fill_or_cut(&mut self, bytes: usize, what: &str) -> Result<(), CaptureError> {
        self.buffer.clear();
        self.more_or_cut(bytes, what)
    }

    fn more_or_cut(&mut self, bytes: usize, what: &str) -> Result<(), CaptureError> {
        let before = self.buffer.len();
        self.fill_more(bytes)?;
        let read = self.buffer.len() - before;
        if read == bytes { Ok(()) } else { Err(self.cut(what, read, bytes)) }
    }

    fn cut(&self, what: &str, have: usize, need: usize) -> CaptureError {
        let cause = format!("the file ends within {what}, after {have} of {need} bytes: it has been cut off");
        self.malformed(self.offset, cause)
    }

    fn malformed(&self, offset: u64, cause: String) -> CaptureError {
        CaptureError::Malformed { name: self.name.clone(), offset, cause }
    }

    /// What the first four bytes are, if not those of a capture.
    fn no_capture(&self) -> CaptureError {
        let cause = match self.buffer.as_slice() {
            [] => "the file is empty, and so no capture".to_owned(),
            [0x1f, 0x8b, ..] => "the file is compressed; unpack it first (gunzip)".to_owned(),
            [0x28, 0xb5, 0x2f, 0xfd] => "the file is compressed; unpack it first (zstd -d)".to_owned(),
            [0xfd, b'7', b'z', b'X'] => "the file is compressed; unpack it first (unxz)".to_owned(),
            start => {
                let start: String = start.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("neither a pcap nor a pcapng file: it begins with {start}")
            }
        };
        self.malformed(0, cause)
    }

    fn pcap_packet(&mut self, order: Order, header: usize) -> Result<Option<Found>, CaptureError> {
        self.block_at = self.offset;
        self.fill(header)?;
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.buffer.len() < header {
            return Err(self.cut("the header of a packet", self.buffer.len(), header));
        }
        let field = |at| order.u32(&self.buffer, at).unwrap_or_default();
        let (seconds, fraction, length, original_length) = (field(0), field(4), field(8) as usize, field(12));
        if length > MAX_BLOCK_BYTES {
            return Err(self.too_long("a packet", self.block_at + 8, length));
        }
        self.fill_or_cut(length, "a packet")?;
        let per_second = self.interfaces.first().map_or(1, |interface| interface.resolution.per_second());
        let ticks = u64::from(seconds) * per_second + u64::from(fraction);
        Ok(Some(Found { interface: 0, ticks: Some(ticks), original_length, start: 0, length }))
    }

    fn too_long(&self, what: &str, offset: u64, length: usize) -> CaptureError {
        let cause =
            format!("{what} of {length} bytes, more than the {MAX_BLOCK_BYTES} that are read: the file is damaged");
        self.malformed(offset, cause)
    }

    /// Reads a section header behind its type, and says what byte order the section has.
    fn section_header(&mut self) -> Result<Order, CaptureError> {
        self.fill_or_cut(8, "a section header")?;
        let order = if Order::Little.u32(&self.buffer, 4) == Some(BYTE_ORDER) {
            Order::Little
        } else if Order::Big.u32(&self.buffer, 4) == Some(BYTE_ORDER) {
            Order::Big
        } else {
            return Err(self.malformed(self.block_at + 8, "a section header without a byte order".to_owned()));
        };
        let length = order.u32(&self.buffer, 0).unwrap_or_default() as usize;
        // Type, length, byte order, version, the section's length, the length again.
        self.check_length(length, 28)?;
        self.fill_or_cut(length - 12, "a section header")?;
        self.check_end(order, length)?;
        let major = order.u16(&self.buffer, 0).unwrap_or_default();
        if major != 1 {
            return Err(self.malformed(self.block_at + 12, format!("version {major} of the pcapng format, not 1")));
        }
        Ok(order)
    }

    fn check_length(&self, length: usize, least: usize) -> Result<(), CaptureError> {
        let at = self.block_at + 4;
        if length > MAX_BLOCK_BYTES {
            return Err(self.too_long("a block", at, length));
        }
        if length < least || !length.is_multiple_of(4) {
            let cause = format!("a block of {length} bytes: its length is a multiple of 4 and at least {least}");
            return Err(self.malformed(at, cause));
        }
        Ok(())
    }

    /// The length stands at the end of a block again.
    fn check_end(&self, order: Order, length: usize) -> Result<(), CaptureError> {
        let at = self.buffer.len().saturating_sub(4);
        match order.u32(&self.buffer, at) {
            Some(again) if again as usize == length => Ok(()),
            again => {
                let again = again.unwrap_or_default();
                let cause = format!("a block of {length} bytes that says {again} bytes at its end");
                Err(self.malformed(self.offset - 4, cause))
            }
        }
    }

    fn pcapng_packet(&mut self) -> Result<Option<Found>, CaptureError> {
        loop {
            let State::PcapNg { order, first_interface } = self.state else { return Ok(None) };
            self.block_at = self.offset;
            self.fill(4)?;
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let Some(kind) = order.u32(&self.buffer, 0) else {
                return Err(self.cut("the header of a block", self.buffer.len(), 4));
            };
            if kind == SECTION_HEADER {
                let order = self.section_header()?;
                self.state = State::PcapNg { order, first_interface: self.interfaces.len() };
                continue;
            }
            self.fill_or_cut(4, "the header of a block")?;
            let length = order.u32(&self.buffer, 0).unwrap_or_default() as usize;
            let least = match kind {
                INTERFACE_DESCRIPTION => 20,
                ENHANCED_PACKET | OLD_PACKET => 32,
                SIMPLE_PACKET => 16,
                _ => 12,
            };
            self.check_length(length, least)?;
            self.fill_or_cut(length - 8, "a block")?;
            self.check_end(order, length)?;
            // From here on the buffer is the block's body and the length that ends it.
            self.buffer.truncate(length - 12);
            let found = match kind {
                INTERFACE_DESCRIPTION => {
                    self.interface_description(order)?;
                    continue;
                }
                ENHANCED_PACKET | OLD_PACKET => self.enhanced_packet(order, first_interface, kind)?,
                SIMPLE_PACKET => self.simple_packet(order, first_interface)?,
                _ => continue,
            };
            return Ok(Some(found));
        }
    }

    /// A field of the block's body.
    fn word(&self, order: Order, at: usize) -> u32 {
        order.u32(&self.buffer, at).unwrap_or_default()
    }

    fn interface_description(&mut self, order: Order) -> Result<(), CaptureError> {
        const END: u16 = 0;
        const NAME: u16 = 2;
        const TIME_RESOLUTION: u16 = 9;
        const TIME_OFFSET: u16 = 14;
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(self.malformed(self.block_at, format!("more than {MAX_INTERFACES} interfaces")));
        }
        let link = LinkType(order.u16(&self.buffer, 0).unwrap_or_default().into());
        let snap_length = self.word(order, 4);
        let mut interface = Interface { snap_length, resolution: Resolution::MICRO, ..Interface::new(link) };
        let mut at = 8;
        while let (Some(code), Some(length)) = (order.u16(&self.buffer, at), order.u16(&self.buffer, at + 2)) {
            if code == END {
                break;
            }
            let length = usize::from(length);
            let Some(value) = self.buffer.get(at + 4..at + 4 + length) else {
                let cause = format!("option {code} of {length} bytes reaches past the end of its block");
                return Err(self.malformed(self.block_at + 8 + at as u64, cause));
            };
            match (code, value) {
                (NAME, name) => {
                    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                    interface.name = Some(String::from_utf8_lossy(name).into_owned());
                }
                (TIME_RESOLUTION, &[byte]) => {
                    interface.resolution = Resolution::from_byte(byte).ok_or_else(|| {
                        let cause = format!("a time resolution of {byte:#04x}, finer than 64 bits can count");
                        self.malformed(self.block_at + 12 + at as u64, cause)
                    })?;
                }
                (TIME_OFFSET, value) if value.len() == 8 => {
                    interface.offset_s = order.u64(value, 0).unwrap_or_default() as i64;
                }
                (TIME_RESOLUTION | TIME_OFFSET, value) => {
                    let cause = format!("option {code} has {} bytes", value.len());
                    return Err(self.malformed(self.block_at + 10 + at as u64, cause));
                }
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// The interface with this number in its section.
    fn find_interface(&self, first: usize, number: u32) -> Result<u32, CaptureError> {
        let index = first.saturating_add(number as usize);
        match u32::try_from(index) {
            Ok(found) if index < self.interfaces.len() => Ok(found),
            _ => {
                let known = self.interfaces.len() - first.min(self.interfaces.len());
                let cause = format!("a packet of interface {number}, of which there are {known} so far");
                Err(self.malformed(self.block_at + 8, cause))
            }
        }
    }

    fn enhanced_packet(&self, order: Order, first_interface: usize, kind: u32) -> Result<Found, CaptureError> {
        let number = match kind {
            // There the upper half counts lost packets.
            OLD_PACKET => order.u16(&self.buffer, 0).unwrap_or_default().into(),
            _ => self.word(order, 0),
        };
        let interface = self.find_interface(first_interface, number)?;
        let ticks = u64::from(self.word(order, 4)) << 32 | u64::from(self.word(order, 8));
        let (length, original_length) = (self.word(order, 12) as usize, self.word(order, 16));
        let start = 20;
        let room = self.buffer.len().saturating_sub(start);
        if length > room {
            let cause = format!("a packet of {length} bytes in a block that has room for {room}");
            return Err(self.malformed(self.block_at + 20, cause));
        }
        Ok(Found { interface, ticks: Some(ticks), original_length, start, length })
    }

    fn simple_packet(&self, order: Order, first_interface: usize) -> Result<Found, CaptureError> {
        let interface = self.find_interface(first_interface, 0)?;
        let original_length = self.word(order, 0);
        let limit = match self.interfaces.get(interface as usize).map_or(0, |interface| interface.snap_length) {
            0 => u32::MAX,
            limit => limit,
        };
        let (start, length) = (4, original_length.min(limit) as usize);
        let room = self.buffer.len().saturating_sub(start);
        if length > room {
            let cause = format!("a packet of {length} bytes in a block that has room for {room}");
            return Err(self.malformed(self.block_at + 8, cause));
        }
        Ok(Found { interface, ticks: None, original_length, start, length })
    }
}
