//! A person at a browser, as far as it takes one: cookies, redirects and forms.

use std::collections::BTreeMap;
use std::env;

use openidconnect::reqwest;
use openidconnect::reqwest::blocking::{Client, Response};
use openidconnect::url::Url;

use crate::{CALLBACK, Outcome};

/// What `tests/clients/run` says by the environment.
pub fn told(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start this by tests/clients/run"))
}

/// A client that follows no redirects: an address of the issuer that redirects says something that has to be looked at.
pub fn http() -> Outcome<Client> {
    Ok(Client::builder().redirect(reqwest::redirect::Policy::none()).build()?)
}

/// Where a browser is.
pub enum Page {
    /// At a page of the issuer: where its form goes to and the fields with the values that they were given.
    Form(String, BTreeMap<String, String>),
    /// At an address of the application.
    Back(Url),
}

pub struct Browser {
    http: Client,
    issuer: String,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    pub fn new() -> Outcome<Self> {
        Ok(Self { http: http()?, issuer: told("OAUTH_ISSUER"), cookies: BTreeMap::new() })
    }

    /// Goes to an address and follows redirects.
    pub fn goes(&mut self, address: &str) -> Outcome<Page> {
        let asked = self.http.get(address).header("cookie", self.cookie()).send()?;
        self.follows(asked)
    }

    /// Sends a form, with what is typed into it.
    pub fn sends(&mut self, page: Page, typed: &[(&str, &str)]) -> Outcome<Page> {
        let Page::Form(action, mut fields) = page else { return Err("there is no form to fill in".into()) };
        fields.extend(typed.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let address = format!("{}{action}", self.issuer);
        let asked = self.http.post(address).header("cookie", self.cookie()).form(&fields).send()?;
        self.follows(asked)
    }

    /// Signs the person in, agrees, and answers where the application is called back.
    pub fn signs_in(&mut self, address: &Url) -> Outcome<Url> {
        let mut page = self.goes(address.as_str())?;
        if matches!(&page, Page::Form(action, _) if action == "/login") {
            page = self.types_the_password(page)?;
        }
        if matches!(&page, Page::Form(action, _) if action == "/oauth2/consent") {
            page = self.sends(page, &[("decision", "allow")])?;
        }
        match page {
            Page::Back(address) if address.as_str().starts_with(CALLBACK) => Ok(address),
            Page::Back(address) => Err(format!("the browser is at {address}").into()),
            Page::Form(action, _) => Err(format!("the browser is at a form for {action}").into()),
        }
    }

    /// Connects the device that shows this address.
    pub fn connects(&mut self, address: &str) -> Outcome<()> {
        let page = self.goes(address)?;
        let page = self.sends(page, &[])?;
        let page = self.types_the_password(page)?;
        self.sends(page, &[("decision", "allow")]).map(drop)
    }

    fn types_the_password(&mut self, page: Page) -> Outcome<Page> {
        let (handle, password) = (told("OAUTH_PERSON"), told("OAUTH_PASSWORD"));
        self.sends(page, &[("handle", &handle), ("password", &password), ("decision", "sign_in")])
    }

    fn cookie(&self) -> String {
        self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn follows(&mut self, mut answer: Response) -> Outcome<Page> {
        loop {
            for line in answer.headers().get_all("set-cookie") {
                let pair = line.to_str()?.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').ok_or("a cookie without a value")?;
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            if answer.status() == 200 {
                return Ok(form(&answer.text()?));
            }
            let Some(address) = answer.headers().get("location").filter(|_| answer.status() == 303) else {
                return Err(format!("{}: {} {}", answer.url().clone(), answer.status(), answer.text()?).into());
            };
            let address = address.to_str()?.to_owned();
            if !address.starts_with(&format!("{}/", self.issuer)) {
                return Ok(Page::Back(Url::parse(&address)?));
            }
            answer = self.http.get(address).header("cookie", self.cookie()).send()?;
        }
    }
}

/// The one form of a page; one without fields if there is none.
fn form(page: &str) -> Page {
    let tags = || page.split('<').filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag);
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let action = tags().find(|tag| tag.starts_with("form ")).and_then(|tag| attribute(tag, "action"));
    let inputs = tags().filter(|tag| tag.starts_with("input "));
    let fields = inputs.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())));
    Page::Form(action.unwrap_or_default(), fields.collect())
}
