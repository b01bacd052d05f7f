//! Sections of the documentation that a command writes: what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

use anyhow::{Context, Result};
use std::path::Path;

/// Puts `text` between the marks of this name; everything else of the page stays as it is.
pub(crate) fn put(path: &Path, name: &str, text: &str) -> Result<()> {
    let page = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let new = replaced(&page, name, text).with_context(|| format!("{} has no marks for {name}", path.display()))?;
    std::fs::write(path, new).with_context(|| format!("write {}", path.display()))
}

/// What stands between the marks.
pub(crate) fn get<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&begin(name))?;
    rest.split_once(&end(name)).map(|(text, _)| text)
}

fn begin(name: &str) -> String {
    format!("<!-- {name}:begin -->\n")
}

fn end(name: &str) -> String {
    format!("<!-- {name}:end -->")
}

fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(&begin(name))?;
    let (_, after) = rest.split_once(&end(name))?;
    Some(format!("{before}{}{}\n{}{after}", begin(name), text.trim_end(), end(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n";
        assert_eq!(replaced(page, "x", "new\n\n").as_deref(), Some("a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"));
        assert_eq!(get(page, "x"), Some("old\n"));
        assert_eq!(replaced(page, "y", "new"), None);
    }
}
