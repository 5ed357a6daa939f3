// A server, its people and a browser: what the story in pages.mjs is told with. The browser is Debian's Chromium, driven over its
// DevTools protocol; security keys are the virtual ones that it has for tests.
import { execFile } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

export const PASSWORD = "gentle otters paint nine moons";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = { phone: { width: 390, height: 844 }, desktop: { width: 1280, height: 800 } };

export function ok(step) {
  console.log(`ok - pages: ${step}`);
}

export function want(so, otherwise) {
  if (!so) throw new Error(otherwise);
}

/** Runs the command line with the settings of these tests. */
export function flaghoist(given, words, typed = "") {
  const env = { ...process.env, HOME: given.home, XDG_CONFIG_HOME: given.home, FLAGHOIST_SERVER: given.server };
  return new Promise((resolve, reject) => {
    const child = execFile(given.bin, words, { env }, (error, out, said) =>
      error ? reject(new Error(`flaghoist ${words.join(" ")}: ${said}`)) : resolve(out),
    );
    child.stdin.end(typed);
  });
}

/** Waits until the codes of authenticator apps stay the same for some seconds. */
export async function early() {
  const left = 30_000 - (Date.now() % 30_000);
  if (left < 5_000) await new Promise((done) => setTimeout(done, left));
}

/** The code that an authenticator app shows so many steps of 30 s from now (RFC 6238). */
export function totp(secret, steps = 0) {
  const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  let bits = "";
  for (const letter of secret.replace(/\s/g, "")) bits += letters.indexOf(letter).toString(2).padStart(5, "0");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps));
  const digest = createHmac("sha1", key).update(step).digest();
  const at = digest.at(-1) & 15;
  return String((digest.readUInt32BE(at) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

export async function open() {
  const args = ["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"];
  // Chromium's own sandbox does not work for root; the pages are our own.
  if (process.getuid() === 0) args.push("--no-sandbox");
  return puppeteer.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

/** A browser of its own, without cookies: someone at their desk. */
export class Visitor {
  static async at(browser, issuer, { language = "en-GB", scripts = true } = {}) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    const visitor = new Visitor();
    Object.assign(visitor, { issuer, context, page, cdp: await page.createCDPSession(), posted: [] });
    page.setDefaultTimeout(20_000);
    await page.setViewport(SIZES.desktop);
    await page.setExtraHTTPHeaders({ "accept-language": language });
    await page.setJavaScriptEnabled(scripts);
    page.on("dialog", (dialog) => {
      visitor.scripted = dialog.message();
      dialog.dismiss();
    });
    page.on("request", (request) => request.method() === "POST" && visitor.posted.push(request));
    page.on("console", (message) => {
      if (/Content Security Policy/.test(message.text())) visitor.violated = message.text();
    });
    return visitor;
  }

  async leave() {
    want(!this.scripted, `a script of somebody else ran: ${this.scripted}`);
    want(!this.violated, `the page breaks its own policy: ${this.violated}`);
    await this.context.close();
  }

  goes(path) {
    return this.page.goto(new URL(path, this.issuer).href);
  }

  get path() {
    return new URL(this.page.url()).pathname;
  }

  text(selector = "main") {
    return this.page.$eval(selector, (part) => part.innerText);
  }

  async types(selector, words) {
    await this.page.$eval(selector, (input) => (input.value = ""));
    await this.page.type(selector, words);
  }

  /** Presses a button or link, and waits for the page that follows. */
  async presses(selector) {
    const [answer] = await Promise.all([this.page.waitForNavigation(), this.page.click(selector)]);
    return answer;
  }

  /** Signs in at the page of the first step. */
  async signsIn(handle, password = PASSWORD) {
    want(this.path === "/login", `the browser is at ${this.page.url()}`);
    await this.types("#handle", handle);
    await this.types("#password", password);
    return this.presses("button[value=sign_in]");
  }

  async signsOut() {
    await this.presses("form[action='/account/sign-out'] button");
    want(this.path === "/oauth2/logout", `the browser is at ${this.page.url()}`);
  }

  async cookie(name) {
    const { cookies } = await this.cdp.send("Network.getCookies", { urls: [this.issuer] });
    return cookies.find((cookie) => cookie.name === name);
  }

  /** Plugs a virtual security key in: one that knows its people and asks for a PIN, or an old one. */
  async plugsIn(protocol = "ctap2") {
    await this.cdp.send("WebAuthn.enable");
    const modern = protocol === "ctap2";
    const options = { protocol, transport: "usb", hasResidentKey: modern, hasUserVerification: modern, isUserVerified: modern };
    const added = await this.cdp.send("WebAuthn.addVirtualAuthenticator", {
      options: { ...options, automaticPresenceSimulation: true },
    });
    return added.authenticatorId;
  }

  /** Signs in with a key at whichever step the page is. Answers the page that follows. */
  async touches() {
    await this.page.waitForSelector("[data-keys-only]:not([hidden]) form[data-keys] button");
    return this.presses("form[data-keys] button");
  }
}

/** Looks at a page: a picture in each size and scheme, and axe-core, which must find nothing serious. */
export async function look(visitor, folder, name) {
  mkdirSync(folder, { recursive: true });
  const { page } = visitor;
  const title = await visitor.text("h1");
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewport(viewport);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMediaFeatures([
        { name: "prefers-color-scheme", value: scheme },
        { name: "prefers-reduced-motion", value: "reduce" },
      ]);
      await page.screenshot({ path: join(folder, `${name}-${size}-${scheme}.png`), fullPage: true });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      want(!wide, `${name} is wider than a ${size}`);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => axe.run());
      const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      const said = grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
      want(!grave.length, `axe on ${name} (${size}, ${scheme}): ${said.join("; ")}`);
    }
  }
  want((await visitor.text("h1")) === title, `${name} has become another page: ${title}`);
  const lang = await page.$eval("html", (html) => html.lang);
  want(lang.startsWith(visitor.expects ?? "en"), `${name} is written in ${lang}`);
  await page.emulateMediaFeatures([]);
  await page.setViewport(SIZES.desktop);
}
