// People use the pages of flaghoist in a real browser: they sign in, add a key and an app, sign in with them, and look after their
// account, by mouse, by keyboard and without scripts; and others try what must be refused.
//
//   node pages.mjs --issuer URL --server URL --bin FLAGHOIST --data FOLDER --home FOLDER --out FOLDER
import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { account, tour } from "./account.mjs";
import { contacts } from "./contacts.mjs";
import { keys, refusals } from "./keys.mjs";
import { flaghoist, open, PASSWORD } from "./world.mjs";

const options = Object.fromEntries(["issuer", "server", "bin", "data", "home", "out"].map((name) => [name, { type: "string" }]));
const { values: given } = parseArgs({ options });
rmSync(given.out, { recursive: true, force: true });

for (const handle of ["warden", "alice", "bob", "carol", "erin", "zhang"]) {
  await flaghoist(given, ["register", handle, "--no-login", "--password-file", "-"], PASSWORD);
}
await flaghoist(given, ["admin", "grant", "--data", given.data, "warden"]);
await flaghoist(given, ["login", "warden", "--password-file", "-"], PASSWORD);
const wiki = ["--name", "Wiki <b>of</b> everything", "--public", "--redirect-uri", "https://wiki.example.com/callback"];
const scopes = ["--scope", "openid", "--scope", "profile", "--scope", "chat.read"];
await flaghoist(given, ["admin", "client", "create", "wiki", ...wiki, ...scopes]);

const browser = await open();
try {
  await account(browser, given);
  await contacts(browser, given);
  await keys(browser, given);
  await refusals(browser, given);
  await tour(browser, given, "en");
  await tour(browser, given, "zh");
  console.log(`ok - pages: pictures of every page are in ${given.out}`);
} finally {
  await browser.close();
}
