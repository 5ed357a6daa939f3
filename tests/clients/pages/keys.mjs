// Security keys and passkeys, which Chromium has virtual ones of: added, used in place of the password and after it; and what must be
// refused of them.
import { ok, Visitor, want } from "./world.mjs";

/** Adds a key on the account pages. */
async function adds(visitor, name, kind) {
  await visitor.goes("/account/security-key");
  await visitor.types("#name", name);
  await visitor.page.click(`input[value=${kind}]`);
  await visitor.presses("form[data-keys] button");
}

/** Someone with a new account, a key of `protocol` and the kind of use it was added for. */
async function withKey(browser, issuer, handle, protocol, kind) {
  const someone = await Visitor.at(browser, issuer);
  const key = await someone.plugsIn(protocol);
  await someone.goes("/account/security-key");
  await someone.signsIn(handle);
  await adds(someone, `${handle}'s key`, kind);
  want((await someone.page.$$(".codes li")).length === 10, `${handle} got no recovery codes: ${await someone.text()}`);
  await someone.goes("/account");
  await someone.signsOut();
  return { someone, key };
}

export async function keys(browser, { issuer }) {
  const { someone: bob, key } = await withKey(browser, issuer, "bob", "ctap2", "passkey");
  ok("a passkey is added");
  await bob.goes("/account/security");
  await bob.touches();
  want(bob.path === "/account/security" && /bob's key/.test(await bob.text()), `the browser is at ${bob.page.url()}`);
  ok("a passkey signs in without handle and password");
  await bob.page.$eval("details", (part) => (part.open = true));
  await bob.types(".rows input[name=name]", "The green one");
  await bob.presses("button[value=rename_key]");
  want(/The green one/.test(await bob.text()), "the key is not renamed");
  await bob.signsOut();
  await bob.goes("/account");
  await bob.signsIn("bob");
  want(await bob.page.$("#code"), "the password alone is enough");
  await bob.touches();
  want(bob.path === "/account", `the browser is at ${bob.page.url()}`);
  ok("the same key confirms after the password");
  await bob.signsOut();
  bob.key = key;
  bobs = bob;

  const { someone: warden } = await withKey(browser, issuer, "warden", "u2f", "second");
  await warden.goes("/account");
  await warden.signsIn("warden");
  await warden.touches();
  want(warden.path === "/account", `the browser is at ${warden.page.url()}`);
  ok("an old key (u2f) is added and confirms after the password");
  await warden.leave();
}

/** Whose key the refusals are about: bob, who is signed out. */
let bobs;

export async function refusals(browser, { issuer }) {
  const bob = bobs;
  // What was sent when he signed in is sent once more, in a login that has begun anew and in the one that it was for.
  const before = bob.posted.findLast((request) => request.url().endsWith("/login") && /finish_key/.test(request.postData()));
  const replayed = new URLSearchParams(before.postData());
  await bob.goes("/account");
  const [challenge, token] = await bob.page.$$eval("form[data-keys] input", (fields) =>
    ["login_challenge", "token"].map((name) => fields.find((field) => field.name === name).value),
  );
  const sends = (fields) =>
    bob.page.evaluate(async (fields) => {
      const answer = await fetch("/login", { method: "POST", body: new URLSearchParams(fields) });
      return [answer.status, answer.headers.get("content-type"), await answer.text()];
    }, fields);
  const own = { login_challenge: challenge, token };
  const [, , begun] = await sends({ ...own, decision: "start_key" });
  const { login } = JSON.parse(begun);
  for (const fields of [
    Object.fromEntries(replayed),
    { ...own, decision: "finish_key", login: replayed.get("login"), credential: replayed.get("credential") },
    { ...own, decision: "finish_key", login, credential: replayed.get("credential") },
  ]) {
    const [status, , page] = await sends(fields);
    want(status === 422 || status === 403, `a replayed answer: ${status} ${page}`);
  }
  ok("a replayed answer is refused, in its own login and in another");

  // An answer that says it was given on another page.
  await bob.goes("/account");
  await bob.page.evaluate(() => {
    // Our script listens to the form, and would ask the key once more: a copy of it is sent.
    const form = document.querySelector("form[data-keys]");
    HTMLFormElement.prototype.submit = function () {
      const credential = JSON.parse(this.elements.credential.value);
      const told = JSON.parse(atob(credential.response.clientDataJSON.replace(/-/g, "+").replace(/_/g, "/")));
      told.origin = "https://evil.example.com";
      credential.response.clientDataJSON = btoa(JSON.stringify(told)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
      const copy = form.cloneNode(true);
      for (const { name, value } of this.elements) if (name) copy.elements[name].value = value;
      copy.elements.credential.value = JSON.stringify(credential);
      document.body.append(copy);
      copy.requestSubmit();
    };
  });
  const elsewhere = await bob.touches();
  want(elsewhere.status() === 422 && /not accepted/.test(await bob.text()), `another origin: ${elsewhere.status()}`);
  // The same page under another name of the host: the browser itself does not ask the key.
  const address = issuer.replace("localhost", "127.0.0.1");
  const guest = await Visitor.at(browser, issuer);
  await guest.plugsIn();
  await guest.goes("/account");
  await guest.page.goto(`${address}${new URL(guest.page.url()).pathname}${new URL(guest.page.url()).search}`);
  await guest.page.waitForSelector("[data-keys-only]:not([hidden])");
  await guest.page.click("form[data-keys] button");
  await guest.page.waitForFunction(() => document.querySelector("[role=status]").innerText.includes("did not answer"));
  ok("an answer for another origin is refused, and at another name of the host no key is asked");
  await guest.leave();

  // A key that counts from the beginning again: a copy of it.
  const { credentials } = await bob.cdp.send("WebAuthn.getCredentials", { authenticatorId: bob.key });
  const [{ credentialId, ...credential }] = credentials;
  want(credential.signCount > 1, `the key does not count: ${credential.signCount}`);
  await bob.cdp.send("WebAuthn.removeCredential", { authenticatorId: bob.key, credentialId });
  const copy = { ...credential, credentialId, signCount: 1 };
  await bob.cdp.send("WebAuthn.addCredential", { authenticatorId: bob.key, credential: copy });
  await bob.goes("/account");
  const counted = await bob.touches();
  want(counted.status() === 422 && /not accepted/.test(await bob.text()), `a count that goes back: ${counted.status()}`);
  ok("a key whose count goes back is refused");
  await bob.leave();
}
