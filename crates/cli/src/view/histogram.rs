//! Power-of-two slots as a histogram of bars.
//!
//! Slot 0 counts the values 0 and 1, slot `n` the values from 2^n up to 2^(n+1): what `log2` of a value gives, the
//! convention of the tools that people know. Empty slots before the first and behind the last full one are left out.

use std::fmt::Write;

/// Cells of the longest bar.
const BAR_CELLS: usize = 40;

/// Most slots that make a histogram: one for each bit of a value.
pub(crate) const MAX_SLOTS: usize = 64;

/// Fewest slots that are taken for a histogram and not for a small array.
pub(crate) const MIN_SLOTS: usize = 8;

/// Draws the slots, a line each, indented by two spaces. No line where every slot is empty.
pub(crate) fn draw(slots: &[u64]) -> String {
    let Some(first) = slots.iter().position(|&count| count > 0) else { return String::new() };
    let last = slots.iter().rposition(|&count| count > 0).unwrap_or(first);
    let most = slots.iter().copied().max().unwrap_or(1).max(1);
    let mut out = String::new();
    for (slot, &count) in slots.iter().enumerate().take(last + 1).skip(first) {
        let low = if slot == 0 { "0".to_owned() } else { power_of_two(slot) };
        let range = format!("[{low}, {})", power_of_two(slot + 1));
        // Rounded to the nearest cell, but a full slot never looks empty.
        let cells = (count as u128 * BAR_CELLS as u128 * 2 / most as u128).div_ceil(2) as usize;
        let cells = if count > 0 { cells.clamp(1, BAR_CELLS) } else { 0 };
        let _ = writeln!(out, "  {range:<16}{count:>10} |{:<BAR_CELLS$}|", "@".repeat(cells));
    }
    out
}

/// 2^exponent in the short form of the tracing tools: 512, 1K, 64M.
fn power_of_two(exponent: usize) -> String {
    let unit = ["", "K", "M", "G", "T", "P", "E"].get(exponent / 10).copied().unwrap_or("?");
    format!("{}{unit}", 1u32 << (exponent % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_from_the_first_to_the_last_full_slot() {
        let mut slots = [0; 27];
        slots[1] = 1;
        slots[3] = 40;
        slots[10] = 20;
        let text = draw(&slots);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[0], format!("  [2, 4)                   1 |@{}|", " ".repeat(39)));
        assert_eq!(lines[2], format!("  [8, 16)                 40 |{}|", "@".repeat(40)));
        assert_eq!(lines[9], format!("  [1K, 2K)                20 |{}{}|", "@".repeat(20), " ".repeat(20)));
    }

    #[test]
    fn nothing_seen_is_nothing_drawn() {
        assert_eq!(draw(&[0; 64]), "");
        assert_eq!(draw(&[]), "");
    }

    #[test]
    fn the_edges_hold() {
        let mut slots = [u64::MAX; MAX_SLOTS];
        slots[0] = 1;
        let text = draw(&slots);
        assert!(text.starts_with("  [0, 2)"));
        assert!(text.contains("[8E, 16E)"), "{text}");
    }
}
