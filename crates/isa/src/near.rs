//! A name that was written -> the known name that was perhaps meant.

/// Names longer than this are not compared; the comparison takes time in the product of the lengths.
const MAX_LEN: usize = 64;

/// The known name with the fewest changed characters, if that is less than about a third of them.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    if length > MAX_LEN {
        return None;
    }
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LEN)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(changes, _)| changes > 0 && changes <= (length / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: insertions, deletions and replacements that make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            let cost = (diagonal + usize::from(ca != *cb)).min(above + 1).min(left + 1);
            row[j] = left;
            diagonal = above;
            left = cost;
        }
        row[b.len()] = left;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_typo_and_nothing_far_away() {
        assert_eq!(nearest("lop", ["loop", "end"]), Some("loop"));
        assert_eq!(nearest("atomic_fetch_ad", ["atomic_fetch_and", "atomic_fetch_add"]), Some("atomic_fetch_add"));
        assert_eq!(nearest("x", ["loop"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
