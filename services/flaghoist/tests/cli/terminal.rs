//! Commands on a terminal: the password is asked for and not shown.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use flaghoist_backends::left_out;

use crate::stage::{PASSWORD, Stage, within_patience};

/// A command with a terminal of its own, which `script` (util-linux) makes for it.
struct Terminal {
    process: Child,
    shown: std::sync::mpsc::Receiver<Vec<u8>>,
    screen: String,
}

impl Terminal {
    /// Runs a command; nothing if this machine has no `script`, which is said aloud, or is an error in CI.
    fn run(command: &Command) -> Option<Self> {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let spawned = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) => {
                left_out("a command on a terminal", &format!("`script`, which makes one: {error}"));
                return None;
            }
        };
        let mut out = process.stdout.take().unwrap();
        let (sender, shown) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Some(Self { process, shown, screen: String::new() })
    }

    /// Waits until the screen shows `text`.
    fn shows(&mut self, text: &str) {
        within_patience(|| {
            self.read();
            self.screen.contains(text).then_some(())
        });
    }

    fn types(&mut self, line: &str) {
        let mut keyboard = self.process.stdin.as_ref().unwrap();
        keyboard.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn read(&mut self) {
        for bytes in self.shown.try_iter() {
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// Waits for the end; answers the whole screen.
    fn ends(mut self) -> (ExitStatus, String) {
        let status = within_patience(|| self.process.try_wait().unwrap());
        within_patience(|| match self.shown.try_recv() {
            Ok(bytes) => {
                self.screen.push_str(&String::from_utf8_lossy(&bytes));
                None
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => None,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => Some(()),
        });
        (status, self.screen)
    }
}

#[test]
fn a_password_is_asked_for_on_the_terminal_and_not_shown() {
    let stage = Stage::new(&[]);
    let Some(mut terminal) = Terminal::run(&stage.command("alice", &["register", "alice"])) else { return };
    terminal.shows("New password for alice: ");
    terminal.types(PASSWORD);
    terminal.shows("Once more: ");
    terminal.types(PASSWORD);
    let (status, screen) = terminal.ends();
    assert!(status.success() && screen.contains("registered and signed in @alice"), "{screen}");
    assert!(!screen.contains(PASSWORD), "{screen}");
    stage.does("alice", &["whoami"]);

    let Some(mut terminal) = Terminal::run(&stage.command("alice", &["login", "alice"])) else { return };
    terminal.shows("Password for alice: ");
    terminal.types("something else");
    let (status, screen) = terminal.ends();
    assert_eq!(status.code(), Some(77), "{screen}");
    assert!(!screen.contains("something else"), "{screen}");
}

#[test]
fn two_new_passwords_that_differ_make_no_account() {
    let stage = Stage::new(&[]);
    let Some(mut terminal) = Terminal::run(&stage.command("alice", &["register", "alice"])) else { return };
    terminal.shows("New password for alice: ");
    terminal.types(PASSWORD);
    terminal.shows("Once more: ");
    terminal.types("another one");
    let (status, screen) = terminal.ends();
    assert_eq!(status.code(), Some(65), "{screen}");
    assert!(screen.contains("the two passwords differ"), "{screen}");
}
