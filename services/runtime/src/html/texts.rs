//! Everything that is written on pages, in every language that there is. A text that lacks a language does not compile.
//!
//! A text has no markup. Where a value belongs into the middle of one, `{}` stands for it ([`filled`]).

/// The table: a name, the English text, the Chinese one.
macro_rules! texts {
    ($($name:ident: $english:literal, $chinese:literal;)*) => {
        /// The texts of one language, each by its name.
        #[derive(Debug)]
        pub struct Texts {
            $(#[doc = $english] pub $name: &'static str,)*
        }

        pub(super) static ENGLISH: Texts = Texts { $($name: $english,)* };
        pub(super) static CHINESE: Texts = Texts { $($name: $chinese,)* };

        /// Each name with its texts.
        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $english, $chinese),)*];
    };
}

texts! {
    // Of every page.
    skip: "Skip to the content", "跳到正文";
    cancel: "Cancel", "取消";
    go_on: "Continue", "继续";
    back: "Back", "返回";
    or: "or", "或";
    not_working: "This does not work", "无法继续";
    bad_request: "What brought you here is not as it should be. Go back to the application and begin again.", "您带来的请求不正确。请返回应用，重新开始。";
    not_allowed: "This was begun in another browser, or is over. Go back to the application and begin again.", "此操作是在另一个浏览器中开始的，或已结束。请返回应用，重新开始。";
    wait_a_little: "Too many attempts. Wait a little, then try again.", "尝试次数过多。请稍等片刻后再试。";
    try_later: "This does not work at the moment. Try again in a little while.", "目前无法完成。请稍后再试。";

    // Signing in.
    sign_in: "Sign in", "登录";
    to_go_on_to: "to go on to", "以继续使用";
    handle: "Handle", "用户名";
    password: "Password", "密码";
    with_passkey: "Sign in with a passkey", "使用通行密钥登录";
    credentials_wrong: "Handle and password do not belong together, or you may not sign in.", "用户名与密码不匹配，或您无权登录。";
    sign_in_over: "This sign-in is over. Go back to the application and begin again.", "此次登录已结束。请返回应用，重新开始。";
    form_foreign: "This form was not made for this browser, or the browser takes no cookies. Go back and begin again.", "此表单不属于当前浏览器，或浏览器不接受 Cookie。请返回并重新开始。";
    form_large: "The form is larger than 16 KiB, or was cut off.", "表单超过 16 KiB，或未完整送达。";
    form_malformed: "The form is malformed.", "表单格式不正确。";
    address_malformed: "The address of this page is malformed.", "此页面的地址格式不正确。";
    method_wrong: "Use GET or POST.", "请使用 GET 或 POST。";
    took_too_long: "That took too long, or something has changed. Sign in once more.", "用时过长，或情况已有变化。请重新登录。";
    confirm: "Confirm that it is you", "确认是您本人";
    use_key: "Use a security key or passkey", "使用安全密钥或通行密钥";
    code_or_recovery: "Code from your authenticator app, or a recovery code", "身份验证器应用中的验证码，或恢复代码";
    recovery_code: "Recovery code", "恢复代码";
    code_wrong: "This code is wrong, expired or used. Try the next one that the app shows.", "此验证码有误、已过期或已使用。请试用应用显示的下一个验证码。";
    key_refused: "This key was not accepted. Try again, or use another way to sign in.", "此密钥未被接受。请重试，或换一种方式登录。";
    key_silent: "The key did not answer, or you have cancelled. You can try again.", "密钥没有响应，或您已取消。可以再试一次。";
    key_asks: "Follow what your browser or your key asks of you.", "请按照浏览器或密钥的提示操作。";
    key_needs_script: "Security keys and passkeys need JavaScript, which this browser has switched off.", "安全密钥和通行密钥需要 JavaScript，而此浏览器已将其关闭。";

    // A forgotten password.
    forgot: "Forgot your password?", "忘记密码？";
    reset_lead: "A link to choose a new one is sent to the verified email address of your account.", "用于设置新密码的链接将发送到您账户中已验证的电子邮箱。";
    reset_who: "Handle or email address", "用户名或电子邮箱";
    reset_nobody: "Type your handle or your email address.", "请输入您的用户名或电子邮箱。";
    reset_send: "Send a link", "发送链接";
    reset_sent: "Look into your mailbox", "请查看邮箱";
    reset_sent_lead: "If there is such an account with a verified email address, a message is on its way. Its link is good for 30 minutes.", "如果存在这样的账户且邮箱已验证，邮件正在发送途中。其中的链接 30 分钟内有效。";
    reset_unsent: "This installation sends no mail, so it cannot send you a link for a new password. Ask whoever runs it.", "此系统不发送邮件，因此无法向您发送设置新密码的链接。请联系管理员。";
    reset_over: "This link is used or expired, or the password was changed since. Have another one sent.", "此链接已使用、已过期，或密码此后已更改。请重新获取链接。";
    reset_choose: "Choose a new password", "设置新密码";
    reset_for: "for the account", "账户：";
    reset_ends: "Once it is set, you are signed out everywhere.", "设置后，您将在所有设备上退出登录。";
    reset_set: "Set the password", "设置密码";
    reset_with_key: "Set it with a security key or passkey", "使用安全密钥或通行密钥设置";
    reset_second: "Your account has a second factor. Type its code as well, or use your key.", "您的账户设有第二验证方式。请同时输入验证码，或使用密钥。";
    reset_key_refused: "This key was not accepted. Try again.", "此密钥未被接受。请重试。";
    reset_done: "Your new password is set", "新密码已设置";
    reset_done_lead: "You were signed out everywhere. Sign in with the new password.", "您已在所有设备上退出登录。请使用新密码登录。";

    // What the issuer asks.
    agree: "Do you agree?", "是否同意？";
    asks_in_your_name: "asks for the following in your name:", "请求以您的名义：";
    allow: "Allow", "允许";
    deny: "Deny", "拒绝";
    scope_read: "read your conversations", "阅读您的会话";
    scope_send: "write messages and manage your conversations as you", "以您的身份发送消息和管理会话";
    scope_admin: "administer this installation as you, as far as you may", "以您的身份在您的权限内管理此系统";
    scope_openid: "know that it is you", "确认您的身份";
    scope_profile: "see your name and your handle", "查看您的姓名和用户名";
    scope_email: "see your email address", "查看您的电子邮箱地址";
    scope_phone: "see your telephone number", "查看您的电话号码";
    scope_address: "see your postal address", "查看您的通信地址";
    scope_offline: "do so while you are away", "在您离开时继续进行以上操作";
    scope_other: "something that this page cannot explain", "此页面无法说明的权限";
    connect_device: "Connect a device", "连接设备";
    device_lead: "Type the code that the device shows.", "请输入设备上显示的代码。";
    device_code: "The code that the device shows", "设备上显示的代码";
    device_unknown: "No device waits with this code. Look at the device once more: it may show a new one.", "没有设备在等待此代码。请再看一下设备，它可能显示了新的代码。";
    device_asks: "A device that shows this code wants to be connected:", "一台显示此代码的设备请求连接：";
    device_warning: "Allow that only if you have the device before you, and began this yourself.", "仅当设备就在您面前、且由您本人发起时才允许。";
    connected: "Connected", "已连接";
    not_connected: "Not connected", "未连接";
    device_connected: "The device is connected. You can close this page and go back to it.", "设备已连接。您可以关闭此页面，回到设备上。";
    device_refused: "The device was not connected. You can close this page.", "设备未连接。您可以关闭此页面。";
    sign_out: "Sign out", "退出登录";
    sign_out_question: "Sign out?", "退出登录？";
    sign_out_lead: "Do you want to sign out of this browser?", "您要在此浏览器中退出登录吗？";
    signed_out: "Signed out", "已退出登录";
    signed_out_lead: "You are signed out. You can close this page.", "您已退出登录。可以关闭此页面。";

    // The account.
    account: "Account", "账户";
    profile: "Profile", "个人资料";
    security: "Security", "安全";
    sessions: "Sessions", "会话设备";
    applications: "Apps", "应用";
    profile_lead: "Who you are to the people you talk with.", "与您交谈的人所看到的您。";
    name: "Name", "姓名";
    name_hint: "One line of at most 64 characters, which others see.", "单行，最多 64 个字符，他人可见。";
    name_bad: "The name is not one line of 1 to 64 characters.", "姓名须为单行，1 至 64 个字符。";
    handle_hint: "Others find you by it. It cannot be changed.", "他人通过它找到您，不能更改。";
    email: "Email address", "电子邮箱";
    email_hint: "A link for a new password is sent there if you forget yours.", "忘记密码时，设置新密码的链接会发送到这里。";
    email_bad: "This is not an email address like name@example.com.", "这不是形如 name@example.com 的电子邮箱。";
    phone: "Phone number", "电话号码";
    phone_hint: "With its country code, such as +49 30 123456.", "请带上国家代码，例如 +49 30 123456。";
    phone_bad: "This is not a phone number with its country code, such as +49 30 123456.", "这不是带国家代码的电话号码，例如 +49 30 123456。";
    contact_verified: "verified", "已验证";
    contact_waiting: "not verified yet", "尚未验证";
    contact_change: "Change", "更改";
    contact_send: "Send a code", "发送验证码";
    contact_sent: "A code is on its way. It is good for 15 minutes.", "验证码正在发送途中，15 分钟内有效。";
    contact_code: "The eight digits that were sent to {}", "发送到 {} 的八位数字";
    contact_code_wrong: "This code is wrong, expired or used. Look at the newest message, or have another code sent.", "此验证码有误、已过期或已使用。请查看最新的消息，或重新发送验证码。";
    contact_confirmed: "Verified.", "验证成功。";
    contact_unreachable: "This installation sends no messages there, so nothing can be verified.", "此系统不向此处发送消息，因此无法验证。";
    save: "Save", "保存";
    saved: "Saved.", "已保存。";
    security_lead: "How you prove that it is you.", "您证明身份的方式。";
    change_password: "Change password", "更改密码";
    password_lead: "Your other sessions end when the password changes.", "密码更改后，您的其他会话将结束。";
    password_now: "Present password", "当前密码";
    password_new: "New password", "新密码";
    password_rule: "At least 8 characters. A few unusual words are easy to keep in mind and hard to guess.", "至少 8 个字符。几个不常见的词容易记住，也难以猜到。";
    password_changed: "Your password was changed, and your other sessions were ended.", "密码已更改，其他会话已结束。";
    password_wrong: "The present password is wrong.", "当前密码有误。";
    password_short: "The new password has fewer than 8 characters.", "新密码少于 8 个字符。";
    password_long: "The new password is longer than 1024 bytes.", "新密码超过 1024 字节。";
    password_weak: "The new password is too easily guessed. Take a few words that have nothing to do with each other or with you.", "新密码太容易被猜到。请使用几个彼此无关、也与您无关的词。";
    app: "Authenticator app", "身份验证器应用";
    app_none: "Shows a new code every 30 seconds, also without a network.", "每 30 秒显示一个新验证码，无需网络。";
    app_set_up: "Set up", "设置";
    app_replace: "Use another app", "更换应用";
    app_scan: "Scan this with your authenticator app.", "请用身份验证器应用扫描此图。";
    app_picture: "QR code with the key of your authenticator app", "含有身份验证器密钥的二维码";
    app_type: "Or type this key into the app:", "或在应用中输入此密钥：";
    app_code: "The six digits that the app shows now", "应用当前显示的六位数字";
    app_confirm: "Confirm", "确认";
    app_over: "The time to confirm the app was over. Here is a new key: scan it once more.", "确认应用的时间已过。这是一个新密钥，请重新扫描。";
    app_on: "Your authenticator app is set up.", "身份验证器应用已设置好。";
    keys: "Security keys and passkeys", "安全密钥与通行密钥";
    keys_none: "The safest way to sign in: nobody can guess or copy them, and no false page gets anything out of them.", "最安全的登录方式：无法被猜测或复制，假冒页面也得不到任何东西。";
    key_add: "Add a key", "添加密钥";
    key_name: "What you call it", "名称";
    key_name_hint: "Such as “blue key” or “my phone”.", "例如“蓝色密钥”或“我的手机”。";
    key_kind: "What it is for", "用途";
    key_passkey: "Passkey", "通行密钥";
    key_passkey_hint: "Signs you in alone, without handle and password. Asks for a finger, a face or a PIN.", "无需用户名和密码即可登录。需要指纹、面容或 PIN 码。";
    key_second: "Security key", "安全密钥";
    key_second_hint: "Confirms that it is you after your password. Also works with older keys.", "在输入密码之后确认是您本人。也适用于较旧的密钥。";
    key_added: "The key was added.", "密钥已添加。";
    key_known: "This key is already registered.", "此密钥已注册。";
    key_full: "You have as many keys as there may be. Remove one first.", "密钥数量已达上限。请先移除一个。";
    rename: "Rename", "重命名";
    remove: "Remove", "移除";
    removed: "Removed.", "已移除。";
    last_factor: "This is your last second factor. Without it your password alone opens your account, and your recovery codes are gone.", "这是您最后一个第二验证方式。移除后，仅凭密码即可打开账户，恢复代码也将失效。";
    remove_last: "Remove it all the same", "仍然移除";
    recovery_codes: "Recovery codes", "恢复代码";
    recovery_lead: "For the day on which your app or key is out of reach.", "以备无法使用应用或密钥时使用。";
    recovery_none: "They come with your first authenticator app or security key.", "在您首次设置身份验证器应用或安全密钥时生成。";
    recovery_left: "{} left", "剩余 {} 个";
    recovery_new: "Make new codes", "生成新代码";
    recovery_keep: "Each of these works once, and they are shown only now. Write them down, or print this page.", "每个代码只能使用一次，且仅显示这一次。请抄写下来，或打印此页。";
    recovery_kept: "I have kept them", "我已保存好";
    added_at: "Added {}", "添加于 {}";
    used_at: "last used {}", "最近使用 {}";
    never_used: "not used yet", "尚未使用";
    sessions_lead: "Where you are signed in.", "您已登录的位置。";
    this_session: "this one", "当前";
    session_end: "End", "结束";
    sessions_end_others: "Sign out everywhere else", "退出所有其他登录";
    session_ended: "Ended.", "已结束。";
    sessions_ended_others: "Signed out everywhere else.", "已退出所有其他登录。";
    history: "What happened lately", "最近活动";
    history_lead: "If something here was not you, change your password and sign out everywhere else.", "如果其中有非您本人的操作，请更改密码，并退出所有其他登录。";
    event_signed_in: "Signed in", "登录";
    event_factor_refused: "A wrong code or key after the right password", "密码正确，但验证码或密钥有误";
    event_password_changed: "Password changed", "更改了密码";
    event_password_reset: "Password set anew by a link", "通过链接重设了密码";
    event_factor_added: "Second factor added", "添加了第二验证方式";
    event_factor_removed: "Second factor removed", "移除了第二验证方式";
    event_codes_made: "New recovery codes", "生成了新的恢复代码";
    event_contact_changed: "Contact confirmed", "验证了联系方式";
    event_contact_removed: "Contact removed", "移除了联系方式";
    session_of_cli: "Command line", "命令行";
    session_of_account: "These account pages", "账户页面";
    address_unknown: "unknown place", "未知位置";
    applications_lead: "What you have allowed other programs.", "您授权给其他程序的权限。";
    applications_none: "You have allowed nothing to any application.", "您没有授权任何应用。";
    allowed_at: "Allowed {}", "授权于 {}";
    withdraw: "Withdraw", "撤回";
    withdrawn: "Withdrawn. What the application had is worth nothing any more.", "已撤回。该应用持有的凭据不再有效。";
    not_signed_in: "You are not signed in", "您尚未登录";
    not_signed_in_lead: "The sign-in was cancelled, took too long, or was begun in another browser.", "登录被取消、用时过长，或是在另一个浏览器中开始的。";
    begin_again: "Begin again", "重新开始";
}

impl Texts {
    /// What a scope is to a person.
    pub fn scope(&self, name: &str) -> &'static str {
        match name {
            "chat.read" => self.scope_read,
            "chat.send" => self.scope_send,
            "admin" => self.scope_admin,
            "openid" => self.scope_openid,
            "profile" => self.scope_profile,
            "email" => self.scope_email,
            "phone" => self.scope_phone,
            "address" => self.scope_address,
            "offline_access" => self.scope_offline,
            _ => self.scope_other,
        }
    }
}

/// A text with `value` in its gap.
pub fn filled(text: &str, value: &str) -> String {
    text.replacen("{}", value, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_there_in_both_languages_with_the_same_gaps() {
        for (name, english, chinese) in ALL {
            assert!(!english.trim().is_empty() && !chinese.trim().is_empty(), "{name}");
            assert!(chinese.chars().any(|letter| ('\u{4e00}'..='\u{9fff}').contains(&letter)), "{name}: {chinese}");
            assert!(english.chars().all(|letter| letter.len_utf8() < 3 || "“”".contains(letter)), "{name}: {english}");
            assert_eq!(english.matches("{}").count(), chinese.matches("{}").count(), "{name}");
            assert!(!english.contains('<') && !chinese.contains('<'), "{name} has markup in it");
        }
    }

    #[test]
    fn a_value_is_put_into_the_gap_once() {
        assert_eq!(filled(ENGLISH.recovery_left, "{}7"), "{}7 left");
    }
}
