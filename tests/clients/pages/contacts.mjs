// Someone gives an email address, forgets their password, and sets a new one by the link that is sent there. The server writes its
// messages as files (FLAGHOIST_LOGIN_NOTIFIER=folder), which are read here as a mailbox would be.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ok, PASSWORD, Visitor, want } from "./world.mjs";

const FORGOTTEN = "nine moons over quiet otters";

/** What `pattern` finds in the newest message to an address that has it; waits for one, as people do. */
export async function received(given, to, pattern) {
  const folder = join(given.data, "notices");
  for (let waited = 0; waited < 20_000; waited += 100) {
    let names = [];
    try {
      names = readdirSync(folder).filter((name) => name.endsWith(".txt")).sort().reverse();
    } catch (error) {
      // The first message makes the folder.
      if (error.code !== "ENOENT") throw error;
    }
    for (const name of names) {
      const message = readFileSync(join(folder, name), "utf8");
      const found = message.startsWith(`To: ${to}\n`) && message.match(pattern);
      if (found) return found[1];
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`no message to ${to} has ${pattern}`);
}

export const CODE = /(?:is|是) ([0-9a-z-]{6,})\n\n/;
export const LINK = /\n(http\S+\/reset\?\S+)\n/;

/** Has a code sent to an address, from the page of the profile. */
export async function givesEmail(visitor, address) {
  await visitor.types("#email", address);
  return visitor.presses("button[value=set_contact]");
}

export async function contacts(browser, given) {
  const erin = await Visitor.at(browser, given.issuer);
  await erin.goes("/account");
  await erin.signsIn("erin");
  want((await givesEmail(erin, "erin@example")).status() === 422, "what is no address is taken");
  await givesEmail(erin, "erin@example.com");
  want(/erin@example\.com\s*not verified/i.test(await erin.text("[aria-labelledby=email-title] h3")), await erin.text("[aria-labelledby=email-title]"));
  const code = await received(given, "erin@example.com", CODE);
  await erin.types("input[name=code]", "00000000");
  want((await erin.presses("button[value=verify_contact]")).status() === 422, "any code verifies an address");
  await erin.types("input[name=code]", code);
  await erin.presses("button[value=verify_contact]");
  want(/erin@example\.com\s*verified/i.test(await erin.text("[aria-labelledby=email-title] h3")), "the address is not verified");
  ok("an email address is verified by the code that was sent there, and by no other");

  // Forgotten: the way begins at the page where people notice, and works without scripts.
  const lost = await Visitor.at(browser, given.issuer, { scripts: false });
  await lost.goes("/account");
  await lost.presses(".aside a");
  want(lost.path === "/reset", `the browser is at ${lost.page.url()}`);
  await lost.types("#identifier", "nobody-has-this-handle");
  await lost.presses("main button");
  const unknown = await lost.text();
  await lost.goes("/reset");
  await lost.types("#identifier", "erin");
  await lost.presses("main button");
  want((await lost.text()) === unknown, "the page tells which accounts there are");
  const link = await received(given, "erin@example.com", LINK);
  await lost.goes(link);
  want(/erin/.test(await lost.text()), "the link is for somebody else");
  await lost.types("#password", "password");
  want((await lost.presses("main button")).status() === 422, "the commonest password of all is taken");
  await lost.types("#password", FORGOTTEN);
  await lost.presses("main button");
  want((await lost.goes(link)).status() === 403, "the link is good twice");
  ok("a forgotten password is set anew by a link, once, without scripts, and nobody learns who has an account");

  await erin.goes("/account");
  want(erin.path === "/login", "the sessions of before go on");
  await erin.signsIn("erin");
  want(erin.path === "/login", "the forgotten password is still good");
  await erin.signsIn("erin", FORGOTTEN);
  want(erin.path === "/account", `the browser is at ${erin.page.url()}`);
  ok("a new password ends every session, and it alone signs in");
  await erin.presses("button[value=remove_contact]");
  want((await erin.page.$("[aria-labelledby=email-title] h3")) === null, "the address is still there");
  await received(given, "erin@example.com", /(was removed)/);
  ok("an address is removed, and told so");
  await erin.leave();
  await lost.leave();
}
