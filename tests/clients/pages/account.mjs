// Someone looks after their account; and a tour through every page in one language, of which pictures are kept.
import { join } from "node:path";
import { CODE, givesEmail, LINK, received } from "./contacts.mjs";
import { early, look, ok, PASSWORD, totp, Visitor, want } from "./world.mjs";

const SESSION = "__Host-flaghoist-account";
const CALLBACK = "https://wiki.example.com/callback";

/** What an application sends a browser with. */
function authorize(more = {}) {
  const query = new URLSearchParams({
    response_type: "code",
    client_id: "wiki",
    redirect_uri: CALLBACK,
    scope: "openid profile chat.read",
    state: "s",
    code_challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    code_challenge_method: "S256",
    ...more,
  });
  return `/oauth2/authorize?${query}`;
}

/** Presses a button that leads to the application, which nobody serves. */
async function goesOn(visitor, selector) {
  const sent = visitor.page.waitForRequest((request) => request.url().startsWith(CALLBACK));
  await visitor.page.click(selector);
  return new URL((await sent).url()).searchParams;
}

async function noteOf(visitor) {
  return visitor.text(".note.done");
}

/** Sets an authenticator app up, from the page of factors. Answers its secret and the recovery codes. */
async function setsUpApp(visitor) {
  await visitor.presses("a[href='/account/authenticator']");
  const secret = await visitor.text(".secret");
  await visitor.types("#code", "000000");
  const wrong = await visitor.presses("main button");
  want(wrong.status() === 422 && (await visitor.text(".secret")) === secret, "a wrong code ends the enrolment");
  await early();
  await visitor.types("#code", totp(secret, -1));
  await visitor.presses("main button");
  const codes = await visitor.page.$$eval(".codes li", (list) => list.map((code) => code.innerText));
  want(codes.length === 10, `there are ${codes.length} recovery codes`);
  return { secret, codes };
}

export async function account(browser, { issuer }) {
  const alice = await Visitor.at(browser, issuer);
  await alice.goes("/account");
  want(alice.path === "/login", "nobody has to sign in");
  const policy = (await alice.page.reload()).headers()["content-security-policy"];
  want(!/unsafe/.test(policy) && /frame-ancestors 'none'/.test(policy) && /script-src 'self'/.test(policy), policy);

  await alice.page.waitForSelector("#handle:focus");
  await alice.page.keyboard.type("alice");
  await alice.page.keyboard.press("Tab");
  await alice.page.keyboard.type(PASSWORD);
  await Promise.all([alice.page.waitForNavigation(), alice.page.keyboard.press("Enter")]);
  want(alice.path === "/account", `the browser is at ${alice.page.url()}`);
  const first = await alice.cookie(SESSION);
  want(first.httpOnly && first.secure && first.sameSite === "Lax" && first.path === "/", JSON.stringify(first));
  ok("signed in by the keyboard alone");

  const probe = "<script>alert(1)</script><img src=x onerror=alert(2)>";
  await alice.types("#name", probe);
  await alice.presses("main button");
  want((await noteOf(alice)) === "Saved." && (await alice.page.$eval("#name", (input) => input.value)) === probe, "no new name");
  want((await alice.page.$$("main script, main img")).length === 0, "a name became part of the page");
  ok("a name is text, whatever is in it");

  // From the one page whose policy lets a script call the host at all.
  await alice.goes("/account/security-key");
  for (const [path, fields] of [
    ["/account", { name: "Eve" }],
    ["/account", { name: "Eve", token: "0".repeat(64) }],
    ["/account/security", { decision: "new_codes" }],
    ["/account/sessions", {}],
    ["/account/applications", { consent: "users/x/consents/wiki" }],
    ["/account/password", { current: PASSWORD, new: "another seven blue lanterns" }],
    ["/account/security-key", { decision: "start_key", name: "key" }],
    ["/account/authenticator", { code: "000000" }],
    ["/account/sign-out", {}],
    ["/reset", { identifier: "alice" }],
    ["/login", { login_challenge: "x", decision: "sign_in" }],
  ]) {
    const status = await alice.page.evaluate(
      async (path, fields) => (await fetch(path, { method: "POST", body: new URLSearchParams(fields) })).status,
      path,
      fields,
    );
    want(status === 403, `${path} without a token: ${status}`);
  }
  ok("a form without the token of its session is refused, everywhere");

  await alice.goes("/account/security");
  const { secret, codes } = await setsUpApp(alice);
  ok("an authenticator app is set up from its QR code's text, and recovery codes are shown once");

  await alice.goes("/account/security-key");
  want(alice.path === "/login", "who has signed in by one factor adds another");
  await alice.signsIn("alice");
  await alice.types("#code", totp(secret));
  await alice.presses("button[value=sign_in]");
  want(alice.path === "/account/security-key", `the browser is at ${alice.page.url()}`);
  want((await alice.cookie(SESSION)).value !== first.value, "the session is the one from before");
  ok("changing factors asks for both of them, comes back to where it was, and under a new session");

  const plain = await Visitor.at(browser, issuer, { scripts: false });
  await plain.goes("/account/sessions");
  await plain.signsIn("alice");
  await plain.types("#code", totp(secret, 1));
  await plain.presses("button[value=sign_in]");
  want(plain.path === "/account/sessions", `without scripts the browser is at ${plain.page.url()}`);
  ok("password and app sign in without any script");
  await plain.goes("/oauth2/logout");
  await plain.leave();

  const other = await Visitor.at(browser, issuer);
  await other.goes("/account/security");
  await other.signsIn("alice");
  await other.types("#code", codes[0]);
  await other.presses("button[value=sign_in]");
  want(/9 left/.test(await other.text()), "the recovery code was not used up");
  await alice.goes("/account/sessions");
  const before = (await alice.page.$$("section:not([aria-labelledby]) > .rows > li")).length;
  want(before >= 3, `${before} sessions are listed`);
  const history = await alice.text("[aria-labelledby=history]");
  want(/Signed in/.test(history) && /Second factor added/.test(history), history);
  await alice.presses(".rows button");
  want((await alice.page.$$("section:not([aria-labelledby]) > .rows > li")).length === before - 1, "the session is still there");
  await alice.presses("section > form button");
  want((await alice.page.$$("section:not([aria-labelledby]) > .rows > li")).length === 1, "other sessions are still there");
  await other.goes("/account");
  ok("sessions are listed, and ended one by one or all others at once");
  await other.leave();

  await alice.goes(authorize());
  // Whoever signs out everywhere else is remembered by no browser, and signs in for the next application.
  want(alice.path === "/login", `the browser is at ${alice.page.url()}`);
  await alice.signsIn("alice");
  await alice.types("#code", codes[1]);
  await alice.presses("button[value=sign_in]");
  want(/Wiki <b>of<\/b> everything/.test(await alice.text()), "the name of an application is no text");
  const back = await goesOn(alice, "button[value=allow]");
  want(back.get("code") && back.get("state") === "s", `the application got ${back}`);
  await alice.goes("/account/applications");
  want(/Wiki <b>of<\/b> everything/.test(await alice.text()), "the application is not listed");
  await alice.presses(".rows button");
  want(/nothing to any application/.test(await alice.text()), "the application is still listed");
  ok("a consent is given, listed and withdrawn");

  await alice.goes("/account/password");
  await alice.types("#current", "not the password");
  await alice.types("#new", "another seven blue lanterns");
  want((await alice.presses("main form[action='/account/password'] button")).status() === 422, "a wrong password changes it");
  await alice.types("#current", PASSWORD);
  await alice.types("#new", "another seven blue lanterns");
  await alice.presses("main form[action='/account/password'] button");
  want(alice.path === "/account/security" && /password was changed/.test(await noteOf(alice)), "the password is the old one");
  ok("the password is changed");

  for (const path of ["/account/callback?code=x&state=y", "/account/callback?error=access_denied&state=y"]) {
    want((await alice.goes(path)).status() === 403, `${path} is taken`);
  }
  await alice.goes("/account");
  await alice.signsOut();
  want(/signed out/i.test(await alice.text()) && !(await alice.cookie(SESSION)), "still signed in");
  await alice.goes("/account");
  want(alice.path === "/login", "signing out is not signing out of the issuer");
  ok("signing out ends both sessions");
  await alice.leave();
}

/** Goes through every page in a language, and keeps pictures. */
export async function tour(browser, given, language) {
  const { issuer, out } = given;
  const zh = language === "zh";
  const someone = await Visitor.at(browser, issuer, { language: zh ? "zh-CN,zh;q=0.9,en;q=0.5" : "en" });
  someone.expects = language;
  const handle = zh ? "zhang" : "carol";
  const see = (name) => look(someone, join(out, language), name);
  await someone.plugsIn();
  await someone.goes(authorize({ ui_locales: language }));
  await see("sign-in");
  await someone.signsIn(handle, "wrong");
  await see("sign-in-wrong");
  await someone.signsIn(handle);
  await see("consent");
  await goesOn(someone, "button[value=allow]");
  await someone.goes("/account");
  await see("account");
  const address = `${handle}@example.com`;
  await givesEmail(someone, `${handle}@example`);
  await see("contact-wrong");
  await givesEmail(someone, address);
  await see("contact-waiting");
  await someone.types("input[name=code]", await received(given, address, CODE));
  await someone.presses("button[value=verify_contact]");
  await see("contact-verified");
  await someone.goes("/account/security");
  await see("security-none");
  await someone.presses("a[href='/account/authenticator']");
  await see("authenticator");
  const secret = await someone.text(".secret");
  await early();
  await someone.types("#code", totp(secret, -1));
  await someone.presses("main button");
  await see("recovery-codes");
  const spare = await someone.text(".codes li");
  await someone.goes("/account/security-key");
  await someone.signsIn(handle);
  await see("second-factor");
  await someone.types("#code", totp(secret));
  await someone.presses("button[value=sign_in]");
  await see("security-key");
  await someone.types("#name", zh ? "蓝色密钥" : "The blue key");
  await someone.presses("form[data-keys] button");
  await see("security");
  for (const form of ["remove_key", "remove_app"]) {
    await someone.presses(`button[value=${form}]`);
    if (form === "remove_app") await see("last-factor");
  }
  for (const page of ["sessions", "applications", "password"]) {
    await someone.goes(`/account/${page}`);
    await see(page);
  }
  await someone.goes("/account/callback");
  await see("not-signed-in");
  await someone.goes("/oauth2/authorize?client_id=nobody");
  await see("error");
  await someone.goes("/login?login_challenge=over");
  await see("sign-in-over");
  const device = await fetch(new URL("/oauth2/device_authorization", issuer), {
    method: "POST",
    body: new URLSearchParams({ client_id: "flaghoist-cli" }),
  });
  const { user_code: code } = await device.json();
  await someone.goes("/device");
  await see("device");
  await someone.types("#user_code", code);
  await someone.presses("main button");
  if (someone.path === "/login") {
    await someone.signsIn(handle);
    await someone.types("#code", totp(secret, 1));
    await someone.presses("button[value=sign_in]");
  }
  await see("device-consent");
  await someone.presses("button[value=allow]");
  await see("device-done");
  await someone.goes("/oauth2/logout");
  await see("sign-out");
  await someone.presses("main button");
  await see("signed-out");
  await someone.goes("/account");
  if (someone.path !== "/login") {
    await someone.signsOut();
    await someone.goes("/account");
  }
  await someone.presses(".aside a");
  await see("reset");
  await someone.types("#identifier", address);
  await someone.presses("main button");
  await see("reset-sent");
  await someone.goes(await received(given, address, LINK));
  await see("reset-choose");
  await someone.types("#password", "five green lanterns at dawn");
  await someone.types("#code", "000000");
  await someone.presses("[data-plain]");
  await see("reset-wrong");
  await someone.types("#password", "five green lanterns at dawn");
  await someone.types("#code", spare);
  await someone.presses("[data-plain]");
  await see("reset-done");
  await someone.goes("/reset?token=over");
  await see("reset-over");
  ok(`every page in ${language}: no serious finding of axe, none wider than the screen`);
  await someone.leave();
}
