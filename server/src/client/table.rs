//! Columns for people.

/// Lines up `rows` under `heads`; columns named in `right` are numbers.
pub(crate) fn table<const N: usize>(
    heads: [&str; N],
    right: [bool; N],
    rows: &[[String; N]],
) -> String {
    let mut widths = heads.map(|head| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for ((cell, width), right) in cells.into_iter().zip(widths).zip(right) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            match right {
                true => line.extend([padding.as_str(), cell]),
                false => line.extend([cell, padding.as_str()]),
            }
        }
        line.trim_end().to_owned()
    };
    let mut out = line(heads);
    for row in rows {
        out.push('\n');
        out.push_str(&line(row.each_ref().map(String::as_str)));
    }
    out
}

/// Bytes in the largest unit that keeps them readable.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = "B";
    let mut tenths = u128::from(count) * 10;
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["long".to_owned(), "100".to_owned()],
        ];
        assert_eq!(
            table(["name", "n"], [false, true], &rows),
            "name    n\na       1\nlong  100"
        );
    }

    #[test]
    fn sizes_are_readable() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
