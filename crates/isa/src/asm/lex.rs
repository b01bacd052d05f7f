//! A line of assembly -> tokens, each with the byte where it starts.

/// A token. Numbers are kept as written, because `5e` is a number only to a listing that shows opcodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token<'a> {
    /// Name of a register, instruction, function or label.
    Name(&'a str),
    /// Starts with a digit.
    Number(&'a str),
    /// An operator or bracket.
    Symbol(&'static str),
}

impl Token<'_> {
    /// For messages.
    pub(crate) fn text(&self) -> &str {
        match self {
            Token::Name(text) | Token::Number(text) => text,
            Token::Symbol(text) => text,
        }
    }
}

/// A token and the byte of the line where it starts.
pub(crate) type Spanned<'a> = (usize, Token<'a>);

/// Every symbol; where one begins with another, the longer one stands first.
const SYMBOLS: [&str; 37] = [
    "s>>=", "s>=", "s<=", "s/=", "s%=", "<<=", ">>=", "s>", "s<", "+=", "-=", "*=", "/=", "|=", "&=", "%=", "^=", "==",
    "!=", ">=", "<=", ">", "<", "=", "+", "-", "*", "&", "(", ")", "[", "]", ",", ":", "#", "{", "}",
];

/// Splits a line, without its comment, into tokens.
///
/// # Errors
/// The byte and the character that begins no token.
pub(crate) fn tokens(line: &str) -> Result<Vec<Spanned<'_>>, (usize, char)> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let at = line.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            return Ok(found);
        };
        let token = if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            rest = &rest[symbol.len()..];
            Token::Symbol(symbol)
        } else if first.is_ascii_alphanumeric() || "_.$@".contains(first) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_.$@".contains(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            if first.is_ascii_digit() { Token::Number(word) } else { Token::Name(word) }
        } else {
            return Err((at, first));
        };
        found.push((at, token));
    }
}

/// The line up to the first of the comment marks.
pub(crate) fn without_comment<'a>(line: &'a str, marks: &[&str]) -> &'a str {
    let end = marks.iter().filter_map(|mark| line.find(mark)).min().unwrap_or(line.len());
    &line[..end]
}

/// The value of a number as written: decimal, or hexadecimal after `0x`; at most 64 bits.
pub(crate) fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix would take a sign, which the lexer never leaves here, and nothing else that is not a digit.
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_without_needing_spaces() {
        let texts = |line| tokens(line).map(|found| found.iter().map(|(_, t)| t.text().to_owned()).collect::<Vec<_>>());
        assert_eq!(texts("r1 s>>=-5").unwrap(), ["r1", "s>>=", "-", "5"]);
        assert_eq!(texts("*(u32*)(r1+0x4)=r2").unwrap().len(), 12);
        assert_eq!(texts("if r1 s> 5").unwrap(), ["if", "r1", "s>", "5"]);
        assert_eq!(texts("a § b"), Err((2, '§')));
    }

    #[test]
    fn numbers() {
        assert_eq!(number("0xffffffffffffffff"), Some(u64::MAX));
        assert_eq!(number("18446744073709551616"), None);
        assert_eq!(number("5e"), None);
        assert_eq!(number("0x"), None);
    }
}
