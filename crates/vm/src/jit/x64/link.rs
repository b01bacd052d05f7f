//! Instructions -> bytes at their place, small loops each on one line of the instruction cache.
//!
//! A processor fetches 64 bytes at a time. A loop that is smaller but lies across two lines takes twice the fetches, which
//! made loops of a few instructions up to half slower, by chance. So there is room in front of every place that a jump
//! leads back to; where the loop would not lie on one line that room is filled, once its place is known.

use super::{Asm, X64Code};
use crate::jit::exec::Blank;
use iced_x86::{BlockEncoder, BlockEncoderOptions, BlockEncoderResult, Instruction, InstructionBlock};

/// Bytes of a line.
const LINE: u32 = 64;

/// Bytes that one place for padding takes.
const PAD: u32 = 16;

/// Places for padding before a loop: enough for all but one byte of a line.
pub(super) const PADS: usize = 4;

/// Where a jump leads back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loop {
    /// Its first operation.
    pub(super) head: usize,
    /// Of the places for padding before it the first, as an index of instructions.
    pub(super) pads: usize,
    /// The instruction behind each jump back.
    pub(super) end: usize,
}

/// So many bytes that do nothing.
fn padding(bytes: u32) -> Vec<u8> {
    const NOPS: [&[u8]; 8] = [
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    let mut out = Vec::new();
    let mut left = bytes as usize;
    while let Some(nop) = NOPS.get(left.min(NOPS.len()).wrapping_sub(1)) {
        out.extend_from_slice(nop);
        left -= nop.len();
    }
    out
}

fn encode(instructions: &[Instruction], at: usize) -> Result<BlockEncoderResult, String> {
    let block = InstructionBlock::new(instructions, at as u64);
    BlockEncoder::encode(64, block, BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS)
        .map_err(|error| error.to_string())
}

/// Fills the room before loops that need it; whether any do.
fn align(instructions: &mut [Instruction], offsets: &[u32], loops: &[Loop]) -> Result<bool, String> {
    let mut shift = 0;
    let mut changed = false;
    // By head, the smaller loop first.
    let mut done = None;
    for found in loops {
        let (Some(start), Some(end)) = (offsets.get(found.pads + PADS), offsets.get(found.end)) else { continue };
        let len = end.wrapping_sub(*start);
        let at = (start + shift) % LINE;
        if done == Some(found.head) || len > LINE || at + len <= LINE {
            continue;
        }
        done = Some(found.head);
        let mut left = LINE - at;
        shift += left;
        changed = true;
        for place in found.pads..found.pads + PADS {
            let bytes = left.min(PAD);
            if bytes > 0
                && let Some(instruction) = instructions.get_mut(place)
            {
                // A label may stand at it.
                let label = instruction.ip();
                *instruction = Instruction::with_declare_byte(&padding(bytes)).map_err(|error| error.to_string())?;
                instruction.set_ip(label);
            }
            left -= bytes;
        }
    }
    Ok(changed)
}

impl Asm<'_> {
    /// Room for padding.
    pub(super) fn pads(&mut self) -> super::Emitted<usize> {
        let place = self.a.instructions().len();
        for _ in 0..PADS {
            self.a.zero_bytes()?;
        }
        Ok(place)
    }

    /// Assembles all of it into memory that can be run.
    pub(super) fn link(mut self) -> Result<X64Code, String> {
        let mut instructions = self.a.take_instructions();
        self.loops.sort_unstable_by_key(|found| (found.pads, found.end));
        // Enough for nearly all programs; the code is assembled again where it is not.
        let mut room = instructions.len() * 8 + 256;
        let memory = |error: std::io::Error| format!("no memory for machine code: {error}");
        for _ in 0..3 {
            let blank = Blank::new(room).map_err(memory)?;
            let mut assembled = encode(&instructions, blank.address())?;
            let loops = std::mem::take(&mut self.loops);
            if align(&mut instructions, &assembled.new_instruction_offsets, &loops)? {
                assembled = encode(&instructions, blank.address())?;
            }
            if assembled.code_buffer.len() > blank.capacity() {
                room = assembled.code_buffer.len() * 9 / 8;
                continue;
            }
            let code = blank.write(&assembled.code_buffer).map_err(memory)?;
            let offset =
                |index: usize| assembled.new_instruction_offsets.get(index).map_or(0, |offset| *offset as usize);
            let funcs = self.code.funcs.iter().zip(&self.starts).map(|(func, index)| (func.start, offset(*index)));
            let funcs = funcs.collect();
            return Ok(X64Code { code, options: self.options, funcs });
        }
        Err("the machine code does not settle at one size".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_as_long_as_asked_for() {
        for bytes in 0..=PAD {
            assert_eq!(padding(bytes).len(), bytes as usize);
        }
    }
}
