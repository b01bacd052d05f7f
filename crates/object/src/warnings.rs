//! What is odd but not wrong, kept in bounds: a hostile file must not make a list without end.

/// More than this many are counted, not kept.
const MAX: usize = 64;

/// Warnings in the order they came up, each once.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    texts: Vec<String>,
    left_out: usize,
}

impl Warnings {
    pub(crate) fn push(&mut self, text: String) {
        if self.texts.contains(&text) {
            return;
        }
        if self.texts.len() < MAX {
            self.texts.push(text);
        } else {
            self.left_out += 1;
        }
    }

    pub(crate) fn into_vec(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.texts.push(format!("{} more warnings are left out", self.left_out));
        }
        self.texts
    }
}
