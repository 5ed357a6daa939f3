//! Watching a server's system calls with strace, for what cannot be seen from outside: that the disk had the data before
//! the answer went out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A finished system call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its arguments as strace writes them, the paths of files and sockets too.
    pub arguments: String,
    /// When it began, in seconds since 1970.
    pub began: f64,
    /// When it returned.
    pub ended: f64,
    /// What it returned; negative for an error.
    pub result: i64,
}

/// Where strace writes, and how the server is put under it.
#[derive(Clone, Debug)]
pub struct Watch {
    file: PathBuf,
}

impl Watch {
    /// A watch that writes to `file`.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into() }
    }

    /// Whether strace is there and allowed to trace; it is installed when the machine lets us.
    ///
    /// # Errors
    /// Why not.
    pub fn possible() -> Result<(), String> {
        let works = || Command::new("strace").args(["-qq", "-e", "trace=none", "true"]).status();
        if works().is_err() && rustix::process::geteuid().is_root() {
            let _ = Command::new("apt-get").args(["install", "-y", "-qq", "strace"]).output();
        }
        match works() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("strace may not trace here ({status})")),
            Err(error) => Err(format!("strace cannot be started ({error})")),
        }
    }

    /// The program and arguments that the server's command line is put behind. The tracer is a grandchild, so that the
    /// process that was started is the server itself.
    pub fn wrapper(&self) -> Vec<String> {
        let mut words: Vec<String> =
            ["strace", "-D", "-f", "-qq", "-ttt", "-T", "-yy", "-s", "70000", "-e", "signal=none", "-e"]
                .map(String::from)
                .to_vec();
        words.push("trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg".into());
        words.extend(["-o".into(), self.file.display().to_string()]);
        words
    }

    /// The calls seen so far, in the order in which they ended.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn calls(&self) -> std::io::Result<Vec<Call>> {
        Ok(parse(&String::from_utf8_lossy(&std::fs::read(Path::new(&self.file))?)))
    }
}

/// Whether `text` was written to `file`, then synced there, and only then written to a socket.
///
/// # Errors
/// Which of these is missing or came too late.
pub fn synced_before_answered(calls: &[Call], file: &str, text: &str) -> Result<(), String> {
    let in_file = |call: &&Call| call.arguments.contains(file);
    let holds = |call: &&Call| call.result > 0 && call.arguments.contains(text);
    let written = calls.iter().filter(in_file).filter(|call| call.name.starts_with("pwrite")).find(holds);
    let written = written.ok_or_else(|| format!("{text} was never written to {file}"))?;
    let syncs = calls.iter().filter(in_file).filter(|call| call.name == "fdatasync" || call.name == "fsync");
    let synced = syncs.filter(|call| call.result == 0 && call.began >= written.ended).min_by(|a, b| {
        // They are in the order of their ends; what counts is the first that began late enough.
        a.ended.total_cmp(&b.ended)
    });
    let synced = synced.ok_or_else(|| format!("{text} was never synced"))?;
    let sockets = calls.iter().filter(|call| call.arguments.contains("<TCP:") || call.arguments.contains("<socket:"));
    let answered = sockets.clone().find(holds).ok_or_else(|| format!("the answer to {text} was never written"))?;
    if synced.ended <= answered.began {
        Ok(())
    } else {
        Err(format!("{text} was answered {:.6} s before it was on disk", synced.ended - answered.began))
    }
}

/// Reads strace's lines, joining calls that other threads interrupted.
pub fn parse(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut open: HashMap<&str, (f64, String)> = HashMap::new();
    for line in text.lines() {
        let mut words = line.splitn(2, ' ');
        let (Some(pid), Some(rest)) = (words.next(), words.next()) else { continue };
        let Some((time, rest)) = rest.trim_start().split_once(' ') else { continue };
        let Ok(time) = time.parse::<f64>() else { continue };
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            open.insert(pid, (time, begun.trim_end().to_owned()));
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((_, end)) = resumed.split_once(" resumed>") else { continue };
            if let Some((began, begun)) = open.remove(pid) {
                calls.extend(call(&format!("{begun}{end}"), began));
            }
        } else {
            calls.extend(call(rest, time));
        }
    }
    calls
}

/// Reads `name(arguments) = result <seconds>`.
fn call(text: &str, began: f64) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (rest, took) = rest.rsplit_once(" <")?;
    let took: f64 = took.strip_suffix('>')?.parse().ok()?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split_whitespace().next()?.parse().ok()?;
    let arguments = arguments.trim_end().strip_suffix(')')?.to_owned();
    Some(Call { name: name.to_owned(), arguments, began, ended: began + took, result })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_calls_are_joined() {
        let text = concat!(
            "10 100.000001 fdatasync(7</d/send.db-wal> <unfinished ...>\n",
            "11 100.000002 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"a = 5 <x>\", 9) = 9 <0.000010>\n",
            "10 100.000500 <... fdatasync resumed>) = 0 <0.000499>\n",
            "11 100.000600 fsync(3</d>) = -1 EIO (Input/output error) <0.000001>\n",
        );
        let calls = parse(text);
        let names: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.result)).collect();
        assert_eq!(names, [("write", 9), ("fdatasync", 0), ("fsync", -1)]);
        assert_eq!(calls[1].arguments, "7</d/send.db-wal>");
        assert!((calls[1].ended - 100.0005).abs() < 1e-6);
    }

    fn verdict(lines: [&str; 3]) -> Result<(), String> {
        synced_before_answered(&parse(&lines.join("\n")), "send.db-wal", "text")
    }

    #[test]
    fn an_answer_before_the_sync_is_noticed() {
        let write = |at: f64| format!("1 {at:.6} pwrite64(7</d/send.db-wal>, \"..text..\", 8, 0) = 8 <0.000010>");
        let sync = |at: f64| format!("1 {at:.6} fdatasync(7</d/send.db-wal>) = 0 <0.001000>");
        let answer =
            |at: f64| format!("2 {at:.6} writev(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, [\"text\"], 1) = 4 <0.000010>");
        assert_eq!(verdict([&write(1.0), &sync(1.1), &answer(1.2)]), Ok(()));
        assert!(verdict([&write(1.0), &answer(1.1), &sync(1.2)]).is_err());
        assert!(verdict([&write(1.0), &sync(1.1), &answer(1.1005)]).is_err(), "the sync was still under way");
        assert!(verdict([&sync(0.9), &write(1.0), &answer(1.2)]).is_err(), "that sync was for something else");
        let failed = sync(1.1).replace("= 0", "= -1 EIO (Input/output error)");
        assert!(verdict([&write(1.0), &failed, &answer(1.2)]).is_err());
    }
}
