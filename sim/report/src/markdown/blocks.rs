//! Pieces of Markdown.

use std::fmt::Write as _;

/// A table whose columns after the first are aligned to the right.
pub fn table<const N: usize>(
    page: &mut String,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) {
    let _ = writeln!(page, "| {} |\n|:---{}|", head.join(" | "), "|---:".repeat(N - 1));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
    page.push('\n');
}

/// Text that Markdown shows as it is, in a table too.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' | '~' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A block of code, in a fence longer than any within it.
pub fn fenced(code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}text\n{code}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_change_the_page() {
        insta::assert_snapshot!(escape("a|b\n<script> *x* `y`"), @r"a\|b &lt;script> \*x\* \`y\`");
        insta::assert_snapshot!(fenced("a\n```\nb"), @r"
        ````text
        a
        ```
        b
        ````
        ");
    }
}
