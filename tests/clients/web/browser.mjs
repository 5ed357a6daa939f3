// Opens the page in Debian's Chromium without a window, and ends as the conversation in it does. The page is served from a
// port of its own, so that the browser asks the server's leave (CORS) as it would for any site; it tells its steps by
// sending them back here.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE_MS = 90_000;
const at = process.argv.indexOf("--target");
const target = at < 0 ? "127.0.0.1:9000" : process.argv[at + 1];

const files = {
  "/": ["page.html", "text/html"],
  "/conversation.js": ["dist/conversation.js", "text/javascript"],
};

const profile = await mkdtemp(join(tmpdir(), "first-conversation-"));
let ends;
const outcome = new Promise((resolve) => (ends = resolve));

const site = createServer(async (request, response) => {
  let told = "";
  for await (const piece of request) told += piece;
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname === "/ok") console.log(`ok - browser: ${told}`);
  if (pathname === "/done") ends(0);
  if (pathname === "/not-ok") ends(`not ok - ${told}`);
  const [file, type] = files[pathname] ?? [];
  response.writeHead(file ? 200 : 204, file && { "content-type": type });
  response.end(file && (await readFile(new URL(file, import.meta.url))));
}).listen(0, "127.0.0.1");
await new Promise((listening) => site.once("listening", listening));

const page = `http://127.0.0.1:${site.address().port}/?server=${encodeURIComponent(`http://${target}`)}`;
const flags = ["--headless", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", `--user-data-dir=${profile}`];
// Chromium's own sandbox does not work for root; the page is our own.
if (process.getuid() === 0) flags.push("--no-sandbox");
const browser = spawn(process.env.CHROMIUM ?? "chromium", [...flags, "--remote-debugging-port=0", page], {
  stdio: ["ignore", "ignore", "pipe"],
});
let said = "";
browser.stderr.on("data", (bytes) => (said = (said + bytes).slice(-4000)));
browser.on("error", (error) => ends(`not ok - the browser did not start: ${error.message}`));
const gone = new Promise((gone) => browser.on("close", gone));
gone.then(() => ends("not ok - the browser has ended"));
setTimeout(() => ends("not ok - the page said nothing more"), PATIENCE_MS).unref();

const ending = await outcome;
browser.kill();
await gone;
site.close();
site.closeAllConnections();
await rm(profile, { recursive: true, force: true, maxRetries: 5 });
if (ending !== 0) {
  console.error(said);
  console.error(ending);
  process.exitCode = 1;
}
