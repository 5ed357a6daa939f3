//! The step after the password, for accounts that have one: a code of an authenticator app or a recovery code.

use std::path::{Path, PathBuf};

use flaghoist_proto::login::v1::login_service_client::LoginServiceClient;
use flaghoist_proto::login::v1::{Factor, SecondFactors, SignedIn, SubmitRecoveryCodeRequest, SubmitTotpRequest};

use super::super::connection::Connection;
use super::super::password;
use crate::exit::{Exit, Failure};

/// Where a code comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct CodeFrom {
    /// Read the code of the second factor, where the account has one, from FILE; `-` is standard input. Asked for without it
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
}

impl CodeFrom {
    /// Whether it comes from standard input.
    pub(super) fn standard_input(&self) -> bool {
        self.code_file.as_deref() == Some(Path::new("-"))
    }

    fn read(&self, factors: &[Factor]) -> Result<String, Failure> {
        let prompt = match (factors.contains(&Factor::Totp), factors.contains(&Factor::RecoveryCode)) {
            (true, true) => "Code of your authenticator app, or a recovery code: ",
            (true, false) => "Code of your authenticator app: ",
            _ => "A recovery code (or sign in with your security key by `flaghoist login --browser`): ",
        };
        let typed = match &self.code_file {
            Some(path) => password::from_file(path)?,
            None => password::ask(prompt)?,
        };
        Ok(typed.trim().to_owned())
    }
}

/// Asks for a code and submits it.
pub(super) async fn submit(
    connection: &Connection,
    login: String,
    wanted: &SecondFactors,
    from: &CodeFrom,
) -> Result<SignedIn, Failure> {
    let factors: Vec<Factor> = wanted.factors().collect();
    if !factors.contains(&Factor::Totp) && !factors.contains(&Factor::RecoveryCode) {
        let asked = "the account asks for a security key, which the command line cannot speak to";
        return Err(Failure::new(Exit::Refused, format!("{asked}: run `flaghoist login --browser`")));
    }
    let typed = from.read(&factors)?;
    // Apps show their six digits with a space at times.
    let digits: String = typed.chars().filter(|letter| !letter.is_whitespace()).collect();
    let signed_in = if digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        let request = SubmitTotpRequest { login, code: digits };
        let submitted =
            connection.once(|channel| async move { LoginServiceClient::new(channel).submit_totp(request).await });
        submitted.await?.signed_in
    } else {
        let request = SubmitRecoveryCodeRequest { login, code: typed };
        let submitted = connection
            .once(|channel| async move { LoginServiceClient::new(channel).submit_recovery_code(request).await });
        let answer = submitted.await?;
        if answer.recovery_codes_left < 3 {
            eprintln!("flaghoist: {} recovery codes are left: make new ones", answer.recovery_codes_left);
        }
        answer.signed_in
    };
    signed_in.ok_or_else(|| Failure::new(Exit::Failed, "the server answered without tokens"))
}
