//! Messages as files, for whoever develops or tests: one a message, in a folder that only this user may read. Whoever reads them can
//! open accounts, so no installation that others use has its messages there.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Letter, NotifyError};

/// The folder in the data folder.
pub(crate) const FOLDER: &str = "notices";

/// How many files are kept.
const FILES_MAX: usize = 1000;

/// Writes a message as a file, whole or not at all.
pub(super) async fn write(folder: &Path, number: i64, letter: &Letter) -> Result<(), NotifyError> {
    let (folder, letter) = (folder.to_owned(), letter.clone());
    let written = tokio::task::spawn_blocking(move || write_now(&folder, number, &letter)).await;
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| NotifyError::Later(error);
    written.map_err(|ended| failed(Box::new(ended)))?.map_err(|error| failed(Box::new(error)))
}

fn write_now(folder: &Path, number: i64, letter: &Letter) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (name, begun) = (folder.join(format!("{number:012}.txt")), folder.join(format!(".{number:012}")));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&begun)?;
    write!(file, "To: {}\nSubject: {}\n\n{}", letter.to.value, letter.subject, letter.text)?;
    std::fs::rename(&begun, name)?;
    let mut files: Vec<_> = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort_unstable();
    for old in files.iter().take(files.len().saturating_sub(FILES_MAX)) {
        std::fs::remove_file(old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::contact::{Contact, ContactKind};

    #[tokio::test]
    async fn messages_are_files_for_this_user_alone_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(FOLDER);
        let to = Contact::read(ContactKind::Email, "alice@example.com").unwrap();
        let letter = Letter { to, subject: "Code".into(), text: "12345678\n".into() };
        for number in 1..=1010 {
            write(&folder, number, &letter).await.unwrap();
        }
        let file = folder.join("000000001010.txt");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "To: alice@example.com\nSubject: Code\n\n12345678\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let left = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!((left, folder.join("000000000010.txt").exists()), (1000, false));
    }
}
