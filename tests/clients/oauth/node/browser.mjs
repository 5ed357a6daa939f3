// Signs a person in to an application that lives in a browser alone (`page.mjs`, by oidc-client-ts), in a real one: Chromium clicks
// and types on the issuer's own pages. The application is on a port of its own, so the browser asks the issuer's leave (CORS) for
// whatever its script fetches.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { build } from "esbuild";
import { Chromium } from "./chromium.mjs";
import { ISSUER, PASSWORD, PERSON, REGISTRATION_TOKEN, application, ok, want } from "./people.mjs";

const beside = (name) => new URL(name, import.meta.url);
const entryPoints = [beside("page.mjs").pathname];
const bundled = await build({ entryPoints, bundle: true, format: "esm", write: false, logLevel: "warning" });
const files = {
  "/page.js": [bundled.outputFiles[0].text, "text/javascript"],
  "/settings.json": ["", "application/json"],
};
const html = [await readFile(beside("page.html"), "utf8"), "text/html"];
for (const path of ["/", "/callback", "/bye"]) files[path] = html;

const site = createServer((request, response) => {
  const [file, type] = files[new URL(request.url, "http://localhost").pathname] ?? [];
  response.writeHead(file === undefined ? 404 : 200, { "content-type": type ?? "text/plain" });
  response.end(file);
}).listen(0, "127.0.0.1");
await new Promise((listening) => site.once("listening", listening));
const here = `http://localhost:${site.address().port}`;

const registered = await fetch(`${ISSUER}/oauth2/register`, {
  method: "POST",
  headers: { authorization: `Bearer ${REGISTRATION_TOKEN}`, "content-type": "application/json" },
  body: JSON.stringify({
    ...application("Wiki", { token_endpoint_auth_method: "none" }),
    redirect_uris: [`${here}/callback`],
    post_logout_redirect_uris: [`${here}/bye`],
  }),
});
const { client_id } = await registered.json();
want(client_id, `the application was not registered: ${registered.status}`);
files["/settings.json"][0] = JSON.stringify({ authority: ISSUER, client_id });

const browser = await Chromium.start();

/** What the page says of a step, once it does. */
async function said(step) {
  const line = `document.querySelector("#said")?.textContent.split("\\n").find((line) => line.includes('"step":"${step}"'))`;
  return JSON.parse(await browser.waits(line));
}

async function beginsAtTheSite() {
  await browser.goes(`${here}/`);
  await said("here");
  await browser.clicks("#sign-in");
}

async function typesThePassword() {
  await browser.types("#handle", PERSON);
  await browser.types("#password", PASSWORD);
  await browser.clicks("button[value=sign_in]");
}

await beginsAtTheSite();
await typesThePassword();
await browser.clicks("button[value=deny]");
const denied = await said("came-back");
want(denied.failed === "access_denied", `after a denial the page says ${JSON.stringify(denied)}`);
ok("a person who does not agree comes back with access_denied");

await beginsAtTheSite();
await browser.clicks("button[value=allow]");
const person = await said("came-back");
want(person.profile?.preferred_username === PERSON && person.refresh_token, `the page says ${JSON.stringify(person)}`);
ok("signed in: discovery, code with PKCE and userinfo, fetched by a script of another origin");

const address = await browser.waits("location.href");
await browser.goes("about:blank");
await browser.goes(address);
const again = await said("came-back");
want(again.failed?.includes("state"), `at the same address again the page says ${JSON.stringify(again)}`);
ok("the same answer brought twice is refused by the library");

await browser.clicks("#renew");
const renewed = await said("renew");
want(renewed.access_token && renewed.access_token !== person.access_token, `renewed, the page says ${JSON.stringify(renewed)}`);
want(renewed.profile.sub === person.profile.sub, "renewed, it is another person");
ok("renewed the tokens");

await browser.clicks("#ask-silently");
const silent = await said("ask-silently");
want(silent.profile?.sub === person.profile.sub && silent.refresh_token, `asked in a frame, it says ${JSON.stringify(silent)}`);
ok("asked again without a page, in a frame");

await browser.clicks("#give-back");
const back = await said("give-back");
want(!back.failed, `the tokens were not given back: ${back.failed}`);
const { status } = await fetch(`${ISSUER}/userinfo`, { headers: { authorization: `Bearer ${silent.access_token}` } });
want(status === 401, `a token that was given back opens userinfo: ${status}`);
ok("gave the tokens back");

await beginsAtTheSite();
const page = await browser.waits('document.querySelector("#password") ? "password" : location.pathname === "/callback" && "back"');
if (page === "password") await typesThePassword();
await said("came-back");
await browser.clicks("#sign-out");
const left = await said("left");
want(!left.failed, `signing out: ${left.failed}`);
await beginsAtTheSite();
await browser.waits("document.querySelector('#password') !== null");
ok("signed out: the issuer asks for the password again");

await browser.ends();
site.close();
site.closeAllConnections();
