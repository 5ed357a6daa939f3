//! What the client prints: text for people, with everything that could command a terminal made harmless, or one JSON
//! object a line for scripts. Nothing is coloured, so `NO_COLOR` has nothing to switch off.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use prost_types::Timestamp;
use serde_json::Value;

use crate::exit::{Exit, Failure};

/// Standard output in one of its two forms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Output as JSON lines, or as text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// Prints one thing: the object for scripts, the line for people. What comes from others must have gone through
    /// [`harmless`] in the line; the object is taken care of here.
    pub(crate) fn show(self, object: &Value, line: impl FnOnce() -> String) -> Result<(), Failure> {
        self.write(&if self.json { json_line(object) } else { line() })
    }

    fn write(self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::new(Exit::Unread, "")),
            Err(error) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}"))),
        }
    }
}

/// `text` with everything that a terminal would obey instead of show written as an escape: control characters, line
/// breaks, and the marks that reverse the direction of writing.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if commanding(character) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// One line of JSON in which no character commands a terminal either.
fn json_line(object: &Value) -> String {
    let line = object.to_string();
    if !line.chars().any(commanding) {
        return line;
    }
    // Such characters occur within strings only, where JSON knows an escape for them.
    let mut shown = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        if commanding(character) {
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether a terminal obeys the character instead of showing it. All of these lie in the first plane of Unicode.
fn commanding(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time as people read it, in UTC and to the second; a dash if there is none.
pub(crate) fn time(at: Option<&Timestamp>) -> String {
    at.map_or_else(
        || "-".to_owned(),
        |at| Timestamp { seconds: at.seconds, nanos: 0 }.to_string().replacen('T', " ", 1),
    )
}

/// A time as scripts read it (RFC 3339), or null.
pub(crate) fn time_value(at: Option<&Timestamp>) -> Value {
    at.map_or(Value::Null, |at| at.to_string().into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_an_escape() {
        assert_eq!(harmless("a\u{1b}[2Jb\u{7}\n"), "a\\u{1b}[2Jb\\u{7}\\n");
        assert_eq!(harmless("\u{9b}31m \u{202e}drow"), "\\u{9b}31m \\u{202e}drow");
        assert_eq!(harmless("grüße 👩‍👩‍👧 \\"), "grüße 👩‍👩‍👧 \\");
    }

    #[test]
    fn json_lines_are_single_harmless_and_keep_their_meaning() {
        let object = json!({"text": "a\u{1b}\n\u{9b}\u{202e}\u{2028}\u{7f}ü"});
        let line = json_line(&object);
        assert!(!line.chars().any(commanding), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), object);
    }

    #[test]
    fn times_are_shown_to_the_second() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 5_000_000 };
        assert_eq!(time(Some(&at)), "2023-11-14 22:13:20Z");
        assert_eq!(time_value(Some(&at)), "2023-11-14T22:13:20.005Z");
        assert_eq!(time(None), "-");
    }
}
