// Debian's Chromium without a window, driven as a person does it: by clicks and keys at what is seen. It is spoken to by its
// DevTools protocol over two pipes.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE_MS = 30_000;
const GLANCE_MS = 100;

export class Chromium {
  #process;
  #profile;
  #session;
  #next = 1;
  #waiting = new Map();
  #said = "";

  static async start() {
    const browser = new Chromium();
    browser.#profile = await mkdtemp(join(tmpdir(), "sign-in-"));
    const flags = ["--headless", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"];
    // Chromium's own sandbox does not work for root; the pages are our own.
    if (process.getuid() === 0) flags.push("--no-sandbox");
    const program = process.env.CHROMIUM ?? "chromium";
    const all = [...flags, `--user-data-dir=${browser.#profile}`];
    browser.#process = spawn(program, all, { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
    process.on("exit", () => browser.#process.kill());
    browser.#listen();
    const { targetInfos } = await browser.#asks("Target.getTargets");
    let page = targetInfos.find(({ type }) => type === "page")?.targetId;
    page ??= (await browser.#asks("Target.createTarget", { url: "about:blank" })).targetId;
    browser.#session = (await browser.#asks("Target.attachToTarget", { targetId: page, flatten: true })).sessionId;
    await browser.#asks("Page.enable");
    return browser;
  }

  #listen() {
    const [, , errors, , answers] = this.#process.stdio;
    errors.on("data", (bytes) => (this.#said = (this.#said + bytes).slice(-4000)));
    let rest = "";
    answers.on("data", (bytes) => {
      const messages = (rest + bytes).split("\0");
      rest = messages.pop();
      for (const message of messages) {
        const { id, result, error } = JSON.parse(message);
        this.#waiting.get(id)?.(result, error);
        this.#waiting.delete(id);
      }
    });
    this.#process.on("error", (error) => this.#end(`the browser did not start: ${error.message}`));
    this.#process.on("close", () => this.#end(`the browser has ended: ${this.#said}`));
  }

  #end(why) {
    for (const tell of this.#waiting.values()) tell(undefined, { message: why });
    this.#waiting.clear();
  }

  #asks(method, params = {}) {
    return new Promise((resolve, reject) => {
      const id = this.#next++;
      const late = setTimeout(() => this.#waiting.get(id)?.(undefined, { message: "no answer" }), PATIENCE_MS);
      this.#waiting.set(id, (result, error) => {
        clearTimeout(late);
        if (error) reject(new Error(`${method}: ${error.message}`));
        else resolve(result);
      });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: this.#session })}\0`);
    });
  }

  async goes(url) {
    await this.#asks("Page.navigate", { url });
  }

  /** What an expression is on the page, or nothing while the page is changing. */
  async #sees(expression) {
    const seen = await this.#asks("Runtime.evaluate", { expression, returnByValue: true }).catch(() => undefined);
    return seen?.result?.value;
  }

  /** Waits until an expression is something on the page. */
  async waits(expression) {
    const end = Date.now() + PATIENCE_MS;
    for (;;) {
      const seen = await this.#sees(expression);
      if (seen) return seen;
      if (Date.now() > end) {
        const page = await this.#sees("location.href + '\\n' + document.body.innerText");
        throw new Error(`nothing is as ${expression} wants it, at ${page}`);
      }
      await new Promise((later) => setTimeout(later, GLANCE_MS));
    }
  }

  /** Clicks at the middle of what a selector finds, as soon as it is there. */
  async clicks(selector) {
    const found = JSON.stringify(selector);
    const place = `(() => { const box = document.querySelector(${found})?.getBoundingClientRect();
      return document.readyState === "complete" && box?.width ? [box.x + box.width / 2, box.y + box.height / 2] : null; })()`;
    const [x, y] = await this.waits(place);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.#asks("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }

  async types(selector, text) {
    await this.clicks(selector);
    await this.#asks("Input.insertText", { text });
  }

  async ends() {
    const gone = new Promise((gone) => this.#process.on("close", gone));
    this.#process.kill();
    await gone;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
