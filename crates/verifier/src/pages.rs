//! The page of each error code: what it means, an example that is refused, and how to write it instead.
//!
//! The pages stand in `pages.md`, which a person edits; `docs/errors.md` is made of them.

use crate::Code;

const PAGES: &str = include_str!("pages.md");

/// The page of a code as Markdown: a heading with code and title, then the text.
pub fn page(code: Code) -> String {
    format!("# {code}: {}\n\n{}\n", code.title(), text(code).unwrap_or_default())
}

/// Every page, one after the other, as Markdown below the headings of a chapter.
pub fn all() -> String {
    let mut out = String::new();
    for &code in Code::ALL {
        out.push_str(&format!("## {code}: {}\n\n{}\n\n", code.title(), text(code).unwrap_or_default()));
    }
    out
}

/// What stands below a code's heading.
fn text(code: Code) -> Option<&'static str> {
    let heading = format!("\n## {code}\n");
    let (_, rest) = PAGES.split_once(&heading)?;
    Some(rest.split_once("\n## SKEP").map_or(rest, |(text, _)| text).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page() {
        let missing: Vec<String> =
            Code::ALL.iter().filter(|code| text(**code).is_none_or(str::is_empty)).map(Code::to_string).collect();
        assert!(missing.is_empty(), "no page in pages.md: {}", missing.join(", "));
        assert_eq!(PAGES.matches("\n## SKEP").count(), Code::ALL.len());
    }
}
