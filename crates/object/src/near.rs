//! A name that was written -> known names that were perhaps meant, as text for an error message.

/// Names longer than this are not compared: the time is the product of the lengths.
const MAX_LEN: usize = 80;
/// At most this many are shown.
const MAX_SHOWN: usize = 3;

/// The known names nearest to `name`, best first: those with less than about a third of their characters changed; if
/// there are none, those that hold the name or start it.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    if name.is_empty() || name.len() > MAX_LEN {
        return Vec::new();
    }
    let bound = (name.chars().count() / 3).max(1);
    let mut close: Vec<(usize, &str)> = Vec::new();
    let mut alike: Vec<(usize, &str)> = Vec::new();
    for candidate in known {
        if candidate.is_empty() || candidate.len() > MAX_LEN || candidate == name {
            continue;
        }
        let changes = distance(name, candidate);
        if changes <= bound {
            close.push((changes, candidate));
        } else if name.len() >= 3 && candidate.len() >= 3 && (candidate.contains(name) || name.starts_with(candidate)) {
            alike.push((changes, candidate));
        }
    }
    let mut found = if close.is_empty() { alike } else { close };
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(MAX_SHOWN).map(|(_, candidate)| candidate).collect()
}

/// `" (did you mean a, b?)"`, or nothing.
pub(crate) fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let names = nearest(name, known);
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(", ")) }
}

/// Levenshtein distance: insertions, deletions and replacements that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let cost = (diagonal + usize::from(from != *to)).min(*cell + 1).min(left + 1);
            diagonal = *cell;
            left = cost;
            *cell = cost;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typing_mistakes_and_nothing_far_away() {
        assert_eq!(nearest("kprob", ["kprobe", "xdp"]), ["kprobe"]);
        assert_eq!(nearest("min_n", ["min_ns", "max_ns", "pid"]), ["min_ns"]);
        assert_eq!(nearest("target", ["target_pid", "max_ns"]), ["target_pid"]);
        assert_eq!(nearest("zzz", ["kprobe", "xdp"]), Vec::<&str>::new());
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
