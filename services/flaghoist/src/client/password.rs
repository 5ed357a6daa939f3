//! Asking for a password: from the terminal without echo, or from a file or standard input for scripts. Never from an
//! argument, which everyone on the machine could read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// More than this is no password; the server takes 1024 bytes.
const FILE_MAX_BYTES: u64 = 4096;

/// Where a password comes from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from FILE, without its last line break; `-` is standard input. Asked for without it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordFrom {
    /// The password of someone who knows it.
    pub(crate) fn read(&self, prompt: &str) -> Result<String, Failure> {
        match &self.password_file {
            Some(path) => from_file(path),
            None => ask(prompt),
        }
    }

    /// Whether it comes from standard input.
    pub(crate) fn standard_input(&self) -> bool {
        self.password_file.as_deref() == Some(Path::new("-"))
    }

    /// A new password: asked for twice, since it is not seen while it is typed.
    pub(crate) fn read_new(&self, prompt: &str) -> Result<String, Failure> {
        let Some(path) = &self.password_file else {
            let password = ask(prompt)?;
            if ask("Once more: ")? != password {
                return Err(Failure::new(Exit::BadInput, "the two passwords differ"));
            }
            return Ok(password);
        };
        from_file(path)
    }
}

/// Asks on the terminal.
pub(crate) fn ask(prompt: &str) -> Result<String, Failure> {
    rpassword::prompt_password(prompt).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!(
                "no terminal to ask for a password on ({error}): use --password-file FILE, or `-` for standard input"
            ),
        )
    })
}

/// Reads a password from a file.
pub(crate) fn from_file(path: &Path) -> Result<String, Failure> {
    let refused =
        |why: String| Failure::new(Exit::BadInput, format!("cannot take a password from {}: {why}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(FILE_MAX_BYTES + 1).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_string(&mut text))
    };
    let length = read.map_err(|error| refused(error.to_string()))?;
    if length as u64 > FILE_MAX_BYTES {
        return Err(refused(format!("it holds more than {FILE_MAX_BYTES} bytes")));
    }
    strip_line_break(&mut text);
    if text.is_empty() {
        return Err(refused("it is empty".into()));
    }
    Ok(text)
}

/// Takes away one line break at the end, as editors and `echo` leave it.
pub(crate) fn strip_line_break(text: &mut String) {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<String, Failure> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        from_file(file.path())
    }

    #[test]
    fn one_line_break_is_not_part_of_the_password() {
        assert_eq!(read(b"s3cret\n").unwrap(), "s3cret");
        assert_eq!(read(b"s3cret\r\n").unwrap(), "s3cret");
        assert_eq!(read(b" s3cret\n\n").unwrap(), " s3cret\n");
        assert_eq!(read(b"s3cret").unwrap(), "s3cret");
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for content in [&b""[..], b"\n", b"\xff\xfe", &[b'x'; 5000]] {
            assert_eq!(read(content).unwrap_err().exit, Exit::BadInput);
        }
        assert_eq!(from_file(Path::new("/does/not/exist")).unwrap_err().exit, Exit::BadInput);
    }
}
