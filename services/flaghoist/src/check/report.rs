//! What a check says: groups of lines, each with what was looked at and, if it is not as it should be, what is wrong and what to do.
//! Printed as text for people, or as one JSON object a line for scripts.

use serde_json::{Value, json};

use crate::client::harmless;

/// How many findings of one line are printed for people; scripts get all.
const FINDINGS_SHOWN: usize = 6;

/// How one thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing, or not to be seen from here; no failure.
    Warning,
    /// Not as it must be.
    Failed,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(crate) struct Line {
    /// What should hold, as a statement.
    pub(crate) what: String,
    /// How it was found.
    pub(crate) verdict: Verdict,
    /// What speaks against it.
    pub(crate) found: Vec<String>,
    /// What to do about it.
    pub(crate) hint: String,
}

/// Lines about one part of an installation.
#[derive(Debug)]
pub(crate) struct Group {
    /// The part.
    pub(crate) name: &'static str,
    /// What was looked at, in order.
    pub(crate) lines: Vec<Line>,
}

impl Group {
    /// A group with no lines yet.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, lines: Vec::new() }
    }

    /// Something is as it should be.
    pub(crate) fn ok(&mut self, what: impl Into<String>) {
        self.say(what.into(), Verdict::Ok, Vec::new(), String::new());
    }

    /// Something is not as it must be.
    pub(crate) fn failed(&mut self, what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) {
        self.say(what.into(), Verdict::Failed, vec![found.into()], hint.into());
    }

    /// Something is worth knowing, or could not be seen.
    pub(crate) fn warning(&mut self, what: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) {
        self.say(what.into(), Verdict::Warning, vec![found.into()], hint.into());
    }

    /// Something holds if nothing speaks against it.
    pub(crate) fn must(&mut self, what: impl Into<String>, faults: Vec<String>, hint: impl Into<String>) {
        self.unless(Verdict::Failed, what.into(), faults, hint.into());
    }

    /// The same where what speaks against it is no failure.
    pub(crate) fn should(&mut self, what: impl Into<String>, faults: Vec<String>, hint: impl Into<String>) {
        self.unless(Verdict::Warning, what.into(), faults, hint.into());
    }

    fn unless(&mut self, verdict: Verdict, what: String, faults: Vec<String>, hint: String) {
        if faults.is_empty() { self.ok(what) } else { self.say(what, verdict, faults, hint) }
    }

    fn say(&mut self, what: String, verdict: Verdict, found: Vec<String>, hint: String) {
        self.lines.push(Line { what, verdict, found, hint });
    }
}

/// All that a check found.
#[derive(Debug)]
pub(crate) struct Report(pub(crate) Vec<Group>);

impl Report {
    /// How many lines ended so.
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().flat_map(|group| &group.lines).filter(|line| line.verdict == verdict).count()
    }

    /// The lines for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for group in &self.0 {
            text += group.name;
            text += "\n";
            for line in &group.lines {
                text += &format!("{} {}\n", mark(line.verdict), harmless(&line.what));
                for found in line.found.iter().take(FINDINGS_SHOWN) {
                    text += &format!("    {}\n", harmless(found));
                }
                if line.found.len() > FINDINGS_SHOWN {
                    text += &format!("    and {} more (--json has all)\n", line.found.len() - FINDINGS_SHOWN);
                }
                if line.verdict != Verdict::Ok && !line.hint.is_empty() {
                    text += &format!("    → {}\n", harmless(&line.hint));
                }
            }
            text += "\n";
        }
        let (failed, warnings) = (self.count(Verdict::Failed), self.count(Verdict::Warning));
        let (state, verdict) = if failed > 0 { ("failed", Verdict::Failed) } else { ("passed", Verdict::Ok) };
        text + &format!(
            "{} the check {state}: {} ok, {warnings} warned, {failed} failed\n",
            mark(verdict),
            self.count(Verdict::Ok)
        )
    }

    /// The objects for scripts: one for each line, and one for the whole.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let lines = self.0.iter().flat_map(|group| group.lines.iter().map(move |line| (group.name, line)));
        let mut objects: Vec<Value> = lines
            .map(|(group, line)| {
                json!({ "type": "check", "group": group, "check": line.what, "result": word(line.verdict),
                    "found": line.found, "hint": (line.verdict != Verdict::Ok).then_some(&line.hint) })
            })
            .collect();
        let failed = self.count(Verdict::Failed);
        objects.push(json!({ "type": "result", "result": if failed > 0 { "failed" } else { "ok" },
            "ok": self.count(Verdict::Ok), "warnings": self.count(Verdict::Warning), "failed": failed }));
        objects
    }
}

fn mark(verdict: Verdict) -> char {
    match verdict {
        Verdict::Ok => '✓',
        Verdict::Warning => '!',
        Verdict::Failed => '✗',
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut group = Group::new("pods");
        group.ok("all is well");
        group.must("each is ready", (0..8).map(|nth| format!("pod-{nth} is not\u{1b}")).collect(), "wait");
        group.should("none was restarted", vec!["pod-0 was".into()], "");
        group.must("there is one", Vec::new(), "never said");
        Report(vec![group])
    }

    #[test]
    fn people_get_a_mark_a_few_findings_and_what_to_do() {
        let text = report().text();
        assert!(text.starts_with("pods\n✓ all is well\n✗ each is ready\n    pod-0 is not\\u{1b}\n"), "{text}");
        assert!(
            text.contains("    and 2 more (--json has all)\n    → wait\n! none was restarted\n    pod-0 was\n"),
            "{text}"
        );
        assert!(text.ends_with("✓ there is one\n\n✗ the check failed: 2 ok, 1 warned, 1 failed\n"), "{text}");
    }

    #[test]
    fn scripts_get_every_line_and_the_whole() {
        let objects = report().objects();
        assert_eq!(objects.len(), 5);
        assert_eq!(objects[1]["found"].as_array().map(Vec::len), Some(8));
        assert_eq!((&objects[1]["result"], &objects[1]["hint"]), (&json!("failed"), &json!("wait")));
        assert_eq!(objects[0]["hint"], Value::Null);
        assert_eq!(objects[4], json!({ "type": "result", "result": "failed", "ok": 2, "warnings": 1, "failed": 1 }));
    }
}
