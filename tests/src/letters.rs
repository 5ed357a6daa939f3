//! The messages that login has handed over to people, as it leaves them in a folder.

use std::path::PathBuf;

use crate::wait::eventually;
use crate::world::World;

/// The setting that has messages left there.
pub const AS_FILES: (&str, &str) = ("FLAGHOIST_LOGIN_NOTIFIER", "folder");

/// The messages of a world that was started with [`AS_FILES`].
#[derive(Clone, Debug)]
pub struct Letters(PathBuf);

impl Letters {
    /// Those of a world; all pods of a cluster leave theirs in one folder.
    pub fn of(world: &World) -> Self {
        let folder = world.cluster().map_or_else(|| world.data().to_owned(), |cluster| cluster.login_folder());
        Self(folder.join("notices"))
    }

    /// What a contact was sent, the oldest first.
    pub fn to(&self, contact: &str) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let mut files: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
        files.sort_unstable();
        let texts = files.into_iter().filter_map(|file| std::fs::read_to_string(file).ok());
        texts.filter(|text| text.starts_with(&format!("To: {contact}\n"))).collect()
    }

    /// The latest message to a contact that has these words, once there are `count` of them.
    pub async fn with(&self, words: &str, contact: &str, count: usize) -> String {
        let look = async || {
            let mut found: Vec<_> = self.to(contact).into_iter().filter(|text| text.contains(words)).collect();
            if found.len() >= count { found.pop() } else { None }
        };
        eventually(&format!("a message to {contact} with {words:?}"), look).await
    }

    /// The code in the `count`th message with one.
    pub async fn code(&self, contact: &str, count: usize) -> String {
        let text = self.with("Your code for", contact, count).await;
        let code = text.split(" is ").filter_map(|rest| rest.get(..8)).find(|code| code.parse::<u32>().is_ok());
        code.unwrap_or_else(|| panic!("no code in {text}")).to_owned()
    }

    /// The secret of the link for a new password in the `count`th message with one.
    pub async fn reset(&self, contact: &str, count: usize) -> String {
        let text = self.with("/reset?token=", contact, count).await;
        let secret = text.split("/reset?token=").nth(1).and_then(|rest| rest.lines().next());
        secret.unwrap_or_else(|| panic!("no link in {text}")).to_owned()
    }
}
