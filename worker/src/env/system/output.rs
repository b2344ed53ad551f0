//! What a child prints: drained for ever, searched for the ready line, its end kept for errors.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};

use crate::env::Address;

/// How much of the end is kept (bytes).
const KEPT: usize = 2 * 1024;
/// A longer line is cut (bytes); the ready line has about 60.
const MAX_LINE: usize = 4 * 1024;

/// The end of what a child has printed, on both pipes.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<Vec<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let excess = tail.len().saturating_sub(KEPT);
        tail.drain(..excess);
    }

    pub(super) fn text(&self) -> String {
        let tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        without_config(&String::from_utf8_lossy(&tail)).trim().to_owned()
    }
}

/// What stands around a config file that OpenCode cannot read, which it prints in full, keys and all.
const CONFIG_BEGINS: &str = "--- JSONC Input ---";
const CONFIG_ENDS: &str = "--- Errors ---";

/// The text without any config file. Its beginning may have been cut off already; the errors quote lines of it.
fn without_config(text: &str) -> String {
    let begins = text.find(CONFIG_BEGINS);
    let ends = text.rfind(CONFIG_ENDS);
    let (before, after) = match (begins, ends) {
        (None, None) => return text.to_owned(),
        (begins, ends) => (&text[..begins.unwrap_or(0)], ends.map_or("", |ends| &text[ends..])),
    };
    let is_quoted = |line: &str| line.trim_start().starts_with("Line ");
    let errors: Vec<&str> = after.lines().filter(|line| !is_quoted(line)).collect();
    format!("{before}[OpenCode's configuration is not shown]\n{}", errors.join("\n"))
}

/// Reads a pipe to its end, so that the child never blocks on it. Sends the address of each ready line, as long as
/// anybody asks.
pub(super) async fn drain(mut pipe: impl AsyncRead + Unpin, tail: Tail, ready: mpsc::Sender<Address>) {
    let mut lines = Lines::default();
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        tail.push(&chunk[..count]);
        for line in lines.push(&chunk[..count]) {
            if let Some(address) = ready_address(&line) {
                let _ = ready.try_send(address);
            }
        }
    }
}

#[derive(Default)]
struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// The lines that a chunk completes.
    fn push(&mut self, chunk: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for &byte in chunk {
            if byte == b'\n' {
                complete.push(String::from_utf8_lossy(&self.open).trim_end().to_owned());
                self.open.clear();
            } else if self.open.len() < MAX_LINE {
                self.open.push(byte);
            }
        }
        complete
    }
}

/// Reads the ready line as OpenCode's own SDK does: a line that begins so, and the URL after `on`.
fn ready_address(line: &str) -> Option<Address> {
    let rest = line.strip_prefix("opencode server listening")?;
    let mut words = rest.split_whitespace().skip_while(|word| *word != "on").skip(1);
    let url: http::Uri = words.next()?.parse().ok()?;
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    Some(Address { host: host.to_owned(), port: url.port_u16()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, u16)>) {
        let found = ready_address(line);
        assert_eq!(found.as_ref().map(|a| (a.host.as_str(), a.port)), expected, "for {line:?}");
    }

    #[test]
    fn the_ready_line_names_the_address() {
        check("opencode server listening on http://127.0.0.1:18401", Some(("127.0.0.1", 18401)));
        check("opencode server listening on http://127.0.0.1:18401/", Some(("127.0.0.1", 18401)));
        check("opencode server listening on http://[::1]:4096", Some(("::1", 4096)));
        check("Warning: OPENCODE_SERVER_PASSWORD is not set; server is unsecured.", None);
        check("opencode server listening on a whim", None);
        check("opencode server listening", None);
        check(" opencode server listening on http://127.0.0.1:1", None);
    }

    #[test]
    fn lines_are_found_across_chunks_and_cut_at_their_bound() {
        let mut lines = Lines::default();
        assert!(lines.push(b"opencode ser").is_empty());
        assert_eq!(lines.push(b"ver\r\nnext\nla"), ["opencode server", "next"]);
        assert!(lines.push(&vec![b'x'; 3 * MAX_LINE]).is_empty());
        assert_eq!(lines.push(b"\n")[0].len(), MAX_LINE);
    }

    #[test]
    fn a_config_file_that_opencode_prints_is_not_kept() {
        let printed = "Error: Config file at /p/opencode.json is not valid JSON(C):\n--- JSONC Input ---\n\
            {\"apiKey\": \"sk-1\"\n--- Errors ---\nCommaExpected at line 1, column 17\n   Line 1: {\"apiKey\": \"sk-1\"\n\
            \x20                  ^\n--- End ---\n";
        let tail = Tail::default();
        tail.push(printed.as_bytes());
        let text = tail.text();
        assert!(text.starts_with("Error: Config file at /p/opencode.json is not valid"), "{text}");
        assert!(text.contains("CommaExpected at line 1") && !text.contains("sk-1"), "{text}");
        // Wherever the end that is kept begins, and wherever the output breaks off.
        for at in 0..printed.len() {
            let begun = without_config(&printed[at..]);
            assert!(!begun.contains("sk-1") || at > printed.rfind("--- Errors").unwrap(), "{begun}");
            let input = printed.find("--- JSONC").unwrap();
            let broken_off = without_config(&printed[..at]);
            assert!(!broken_off.contains("sk-1") || at < input, "{broken_off}");
        }
    }

    #[test]
    fn only_the_end_of_the_output_is_kept() {
        let tail = Tail::default();
        tail.push(&[b'a'; 3000]);
        tail.push(b"the end\n");
        assert!(tail.text().ends_with("aathe end") && tail.text().len() < KEPT);
    }
}
