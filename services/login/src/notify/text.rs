//! What people are written, in English and in Chinese.

use serde::{Deserialize, Serialize};

use super::Letter;
use crate::contact::{Contact, ContactKind};
use crate::history::EventKind;

/// A message that is on its way.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) to: Contact,
    /// Whose account it is about.
    pub(crate) handle: String,
    /// The tag of the person's language; English for those that are not spoken here.
    pub(crate) language: String,
    /// Where the installation is, as people know it.
    pub(crate) host: String,
    pub(crate) content: Content,
}

/// What a message says.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Content {
    /// The code that shows that a contact is the person's.
    Code(String),
    /// A contact was replaced by another one; the message goes to the old one.
    Replaced(ContactKind),
    /// A contact was removed; the message goes to it.
    Removed(ContactKind),
    /// Someone has signed in from where nobody has before.
    SignIn {
        /// When, as people write it.
        at: String,
        /// From which address.
        address: String,
        /// With what.
        agent: String,
    },
    /// Something about how the person signs in has changed.
    Changed(EventKind),
    /// The link by which the password is set anew.
    Reset(String),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Message({})", self.content.label())
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.label())
    }
}

impl Content {
    /// What it is about, and nothing of what it says.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Code(_) => "contact code",
            Self::Replaced(_) => "contact replaced",
            Self::Removed(_) => "contact removed",
            Self::SignIn { .. } => "sign-in from a new place",
            Self::Changed(_) => "way of signing in changed",
            Self::Reset(_) => "password reset",
        }
    }
}

impl Message {
    /// The message as it is read.
    pub(crate) fn letter(&self) -> Letter {
        let chinese = self.language.split('-').next().is_some_and(|tag| tag.eq_ignore_ascii_case("zh"));
        let (subject, text) = if chinese { self.chinese() } else { self.english() };
        // A phone shows no subject and bills every line.
        let text = match (self.to.kind, &self.content) {
            (ContactKind::Phone, _) => text.split("\n\n").next().unwrap_or_default().to_owned() + "\n",
            (ContactKind::Email, _) => text,
        };
        Letter { to: self.to.clone(), subject, text }
    }

    fn english(&self) -> (String, String) {
        let Self { handle, host, .. } = self;
        let kind = |kind: ContactKind| if kind == ContactKind::Email { "email address" } else { "phone number" };
        let not_you = format!(
            "If this was not you, sign in at {host}, change your password and end the sessions that you do not know."
        );
        match &self.content {
            Content::Code(code) => (
                format!("{code} is your code for {host}"),
                format!(
                    "Your code for @{handle} at {host} is {code}\n\nIt is good for 15 minutes and once. Give it to nobody: nobody of \
                     {host} asks for it. If you have not asked for it, do nothing.\n"
                ),
            ),
            Content::Replaced(what) => (
                format!("Your {} at {host} was replaced", kind(*what)),
                format!(
                    "@{handle} at {host} has another {} now; this one is not used any more.\n\n{not_you}\n",
                    kind(*what)
                ),
            ),
            Content::Removed(what) => (
                format!("Your {} at {host} was removed", kind(*what)),
                format!("@{handle} at {host} does not use this {} any more.\n\n{not_you}\n", kind(*what)),
            ),
            Content::SignIn { at, address, agent } => (
                format!("A new sign-in at {host}"),
                format!(
                    "Someone signed in as @{handle} at {host} from where you have not been before.\n\nTime: {at}\nAddress: {address}\n\
                     Program: {agent}\n\n{not_you}\n"
                ),
            ),
            Content::Changed(what) => {
                let what = match what {
                    EventKind::PasswordChanged => "The password was changed",
                    EventKind::PasswordReset => "The password was set anew by a link",
                    EventKind::FactorAdded => "A second factor was added",
                    EventKind::FactorRemoved => "A second factor was removed",
                    EventKind::RecoveryCodesMade => "New recovery codes were made",
                    _ => "Something was changed",
                };
                (format!("{what} at {host}"), format!("{what} for @{handle} at {host}.\n\n{not_you}\n"))
            }
            Content::Reset(link) => (
                format!("Set a new password at {host}"),
                format!(
                    "Someone, you hopefully, wants to set a new password for @{handle} at {host}. This is done here:\n\n{link}\n\nThe \
                     link is good for 30 minutes and once. If this was not you, do nothing: the password stays as it is.\n"
                ),
            ),
        }
    }

    fn chinese(&self) -> (String, String) {
        let Self { handle, host, .. } = self;
        let kind = |kind: ContactKind| if kind == ContactKind::Email { "邮箱地址" } else { "手机号码" };
        let not_you = format!("如果这不是您本人的操作，请登录 {host}，修改密码，并结束您不认识的会话。");
        match &self.content {
            Content::Code(code) => (
                format!("{code} 是您在 {host} 的验证码"),
                format!(
                    "您在 {host} 的账号 @{handle} 的验证码是 {code}\n\n验证码 15 分钟内有效，只能使用一次。请勿告诉任何人，{host} 的工作人员也不会\
                     向您索要。如果您没有申请验证码，请忽略本消息。\n"
                ),
            ),
            Content::Replaced(what) => (
                format!("您在 {host} 的{}已更换", kind(*what)),
                format!("{host} 的账号 @{handle} 已更换{}，此联系方式不再使用。\n\n{not_you}\n", kind(*what)),
            ),
            Content::Removed(what) => (
                format!("您在 {host} 的{}已移除", kind(*what)),
                format!("{host} 的账号 @{handle} 不再使用此{}。\n\n{not_you}\n", kind(*what)),
            ),
            Content::SignIn { at, address, agent } => (
                format!("{host} 有新的登录"),
                format!(
                    "有人从您未曾使用过的地方登录了 {host} 的账号 @{handle}。\n\n时间：{at}\n地址：{address}\n程序：{agent}\n\n{not_you}\n"
                ),
            ),
            Content::Changed(what) => {
                let what = match what {
                    EventKind::PasswordChanged => "密码已修改",
                    EventKind::PasswordReset => "密码已通过链接重设",
                    EventKind::FactorAdded => "已添加一种两步验证方式",
                    EventKind::FactorRemoved => "已移除一种两步验证方式",
                    EventKind::RecoveryCodesMade => "已生成新的恢复码",
                    _ => "登录方式已变更",
                };
                (format!("{host}：{what}"), format!("{host} 的账号 @{handle}：{what}。\n\n{not_you}\n"))
            }
            Content::Reset(link) => (
                format!("重设您在 {host} 的密码"),
                format!(
                    "有人（希望是您本人）要重设 {host} 的账号 @{handle} 的密码。请打开以下链接：\n\n{link}\n\n链接 30 分钟内有效，只能使用一次。\
                     如果这不是您本人的操作，请忽略本邮件，密码不会改变。\n"
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_the_language_of_the_person_and_short_on_a_phone() {
        let to = |kind, value: &str| Contact { kind, value: value.into() };
        let message = |kind, language: &str| Message {
            to: to(kind, "x"),
            handle: "alice".into(),
            language: language.into(),
            host: "chat.example.com".into(),
            content: Content::Code("12345678".into()),
        };
        let english = message(ContactKind::Email, "de").letter();
        assert_eq!(english.subject, "12345678 is your code for chat.example.com");
        assert!(
            english.text.contains("@alice at chat.example.com is 12345678\n\nIt is good for 15 minutes"),
            "{}",
            english.text
        );
        let chinese = message(ContactKind::Email, "zh-CN").letter();
        assert!(chinese.subject.contains("验证码") && chinese.text.contains("12345678\n\n"), "{}", chinese.text);
        let phone = message(ContactKind::Phone, "").letter();
        assert_eq!(phone.text, "Your code for @alice at chat.example.com is 12345678\n");
        assert_eq!(format!("{:?} {phone:?}", message(ContactKind::Email, "")), "Message(contact code) Letter(…)");
    }
}
