//! Settings: read in one place, through a trait so that tests never touch the process environment; every mistake is reported at
//! once, and the table in the documents is made from the same list.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::{self, Display, Write as _};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// What every name of a setting begins with.
pub const PREFIX: &str = "FLAGHOIST_";

/// Where settings come from: the process environment, or a map in tests.
pub trait Source {
    /// The value of a setting, if it is given.
    fn get(&self, name: &str) -> Option<String>;

    /// The names that are given and begin with [`PREFIX`], so that a misspelt one is noticed.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The process environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Environment;

impl Source for Environment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn names(&self) -> Vec<String> {
        let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        names.filter(|name| name.starts_with(PREFIX) && !of_the_cluster(name)).collect()
    }
}

/// Whether Kubernetes has put the name there for a Service, such as `FLAGHOIST_SEND_PORT_9000_TCP_ADDR` for one that is called
/// `flaghoist-send`. No setting has such a name.
fn of_the_cluster(name: &str) -> bool {
    let port = name.split("_PORT_").nth(1).is_some_and(|rest| {
        let mut words = rest.split('_');
        words.next().is_some_and(|number| number.parse::<u16>().is_ok())
            && words.next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
    });
    port || name.ends_with("_PORT") || name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT")
}

macro_rules! maps {
    ($($map:ident),*) => {$(
        impl<K: std::borrow::Borrow<str> + Ord + std::hash::Hash, V: Display> Source for $map<K, V> {
            fn get(&self, name: &str) -> Option<String> {
                $map::get(self, name).map(V::to_string)
            }

            fn names(&self) -> Vec<String> {
                self.keys().map(|name| name.borrow().to_owned()).filter(|name| name.starts_with(PREFIX)).collect()
            }
        }
    )*};
}
maps!(BTreeMap, HashMap);

/// Settings that come from one source, or else from another.
#[derive(Clone, Copy, Debug)]
pub struct Over<A, B>(pub A, pub B);

impl<A: Source, B: Source> Source for Over<A, B> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).or_else(|| self.1.get(name))
    }

    fn names(&self) -> Vec<String> {
        [self.0.names(), self.1.names()].concat()
    }
}

/// One documented setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, for example `FLAGHOIST_SEND_STORE`.
    pub name: &'static str,
    /// What holds if it is not given.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting.
    pub name: String,
    /// What is wrong with it.
    pub text: String,
}

/// Every mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl std::error::Error for Mistakes {}

impl Display for Mistakes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of the settings cannot be used:", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(out, "\n  {}: {}", mistake.name, mistake.text))
    }
}

/// Reads settings and collects the mistakes in them.
pub struct Reader<'a> {
    source: &'a dyn Source,
    known: BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reader").field("mistakes", &self.mistakes).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    /// Reads from `source`.
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, known: BTreeSet::new(), mistakes: Vec::new() }
    }

    /// Makes settings known that are not read here but by another part, so that they are no mistake.
    pub fn know(&mut self, settings: &[Setting]) {
        self.known.extend(settings.iter().map(|setting| setting.name));
    }

    /// Any text.
    pub fn text(&mut self, setting: &Setting) -> String {
        self.known.insert(setting.name);
        self.source.get(setting.name).unwrap_or_else(|| setting.default.to_owned())
    }

    /// A number within bounds.
    pub fn number<T>(&mut self, setting: &Setting, bounds: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
        self.parsed(setting, &expected, |text| text.parse().ok().filter(|number| bounds.contains(number)))
            .unwrap_or(*bounds.start())
    }

    /// A time like `250ms`, `300s`, `5m`, `2h` or `14d`, within bounds.
    pub fn duration(&mut self, setting: &Setting, bounds: RangeInclusive<Duration>) -> Duration {
        let expected =
            format!("a time from {} to {}, like 300s", duration_text(*bounds.start()), duration_text(*bounds.end()));
        self.parsed(setting, &expected, |text| parse_duration(text).filter(|time| bounds.contains(time)))
            .unwrap_or(*bounds.start())
    }

    /// `true` or `false`.
    pub fn flag(&mut self, setting: &Setting) -> bool {
        self.parsed(setting, "true or false", |text| text.parse().ok()).unwrap_or(false)
    }

    /// One of a few words.
    ///
    /// # Panics
    /// If there are no choices.
    pub fn choice<T: Copy>(&mut self, setting: &Setting, choices: &[(&str, T)]) -> T {
        let words = choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let find = |text: &str| choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        self.parsed(setting, &format!("one of {words}"), find).unwrap_or_else(|| choices[0].1)
    }

    /// An `http` or `https` address without query; a slash at its end is dropped.
    pub fn url(&mut self, setting: &Setting) -> String {
        self.parsed(setting, "an address like https://chat.example.com", |text| {
            let uri = text.parse::<http::Uri>().ok()?;
            let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
            let whole = scheme && uri.authority().is_some() && uri.query().is_none() && !text.contains('#');
            whole.then(|| text.trim_end_matches('/').to_owned())
        })
        .unwrap_or_default()
    }

    /// An address to listen on, like `127.0.0.1:9000`.
    pub fn address(&mut self, setting: &Setting) -> SocketAddr {
        self.parsed(setting, "an address and port like 127.0.0.1:9000", |text| text.parse().ok())
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// A path that is not empty.
    pub fn path(&mut self, setting: &Setting) -> PathBuf {
        self.parsed(setting, "a path", |text| (!text.is_empty()).then(|| PathBuf::from(text))).unwrap_or_default()
    }

    /// A setting that is read in another way: `parse` answers nothing for what is not as `expected`, and then the default holds
    /// while the mistake is noted.
    pub fn parsed<T>(&mut self, setting: &Setting, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(setting);
        parse(text.trim()).or_else(|| {
            self.mistake(setting.name, format!("{text:?} is not {expected}"));
            parse(setting.default)
        })
    }

    /// Notes a mistake.
    pub fn mistake(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.mistakes.push(Mistake { name: name.into(), text: text.into() });
    }

    /// Every mistake at once, also names that no setting has.
    pub fn finish(mut self) -> Result<(), Mistakes> {
        let given = self.source.names().into_iter().collect::<BTreeSet<_>>();
        for name in given.iter().filter(|name| !self.known.contains(name.as_str())) {
            let text = match nearest(name, &self.known) {
                Some(near) => format!("there is no such setting; is {near} meant?"),
                None => "there is no such setting; --help lists them".to_owned(),
            };
            self.mistakes.push(Mistake { name: name.clone(), text });
        }
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
    }
}

/// Reads a time like `250ms`, `300s`, `5m`, `2h` or `14d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number = number.parse::<u64>().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// A time as [`parse_duration`] reads it.
pub fn duration_text(time: Duration) -> String {
    let seconds = time.as_secs();
    if time.subsec_millis() > 0 || seconds == 0 {
        return format!("{}ms", time.as_millis());
    }
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let (size, unit) = units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size)).unwrap_or((1, "s"));
    format!("{}{unit}", seconds / size)
}

/// All settings as a markdown table.
pub fn markdown(settings: &[&[Setting]]) -> String {
    let mut table = String::from("| setting | default | meaning |\n|---|---|---|\n");
    for setting in settings.iter().copied().flatten() {
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        // Writing to a string does not fail.
        let _ok = writeln!(table, "| `{}` | {default} | {} |", setting.name, sentence(setting.doc).replace('|', "\\|"));
    }
    table
}

/// All settings as text for `--help`.
pub fn help(settings: &[&[Setting]]) -> String {
    let mut text = String::new();
    for setting in settings.iter().copied().flatten() {
        let default = if setting.default.is_empty() { "" } else { setting.default };
        // Writing to a string does not fail.
        let _ok = writeln!(text, "  {}={default}\n          {}", setting.name, sentence(setting.doc));
    }
    text
}

/// An explanation as a sentence, whether or not it was written as one.
fn sentence(doc: &str) -> String {
    let mut letters = doc.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let stop = if doc.ends_with('.') { "" } else { "." };
    format!("{first}{}{stop}", letters.as_str())
}

/// The known name that is nearest to `name`, if it is near enough to be a slip.
fn nearest(name: &str, known: &BTreeSet<&'static str>) -> Option<&'static str> {
    let ranked = known.iter().map(|near| (distance(name, near), *near)).min();
    ranked.filter(|(steps, _)| *steps <= 4).map(|(_, near)| near)
}

/// How many letters must be changed, added or left out to make one text of the other.
fn distance(from: &str, to: &str) -> usize {
    let to = to.as_bytes();
    let mut row = (0..=to.len()).collect::<Vec<_>>();
    for (line, left) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, right) in to.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests;
