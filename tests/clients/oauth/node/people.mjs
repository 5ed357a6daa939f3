// What the clients in this folder share: where the issuer is (`../../run` says it by the environment), steps that are printed,
// and a person at a browser, as far as it takes one: cookies, redirects and forms.
export const ISSUER = need("OAUTH_ISSUER");
export const REGISTRATION_TOKEN = need("OAUTH_REGISTRATION_TOKEN");
export const CALLBACK = "https://wiki.example.com/callback";
export const BYE = "https://wiki.example.com/bye";
export const PERSON = need("OAUTH_PERSON");
export const PASSWORD = need("OAUTH_PASSWORD");

function need(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start this by tests/clients/run`);
  return value;
}

const program = process.argv[1].replace(/.*\//, "").replace(".mjs", "");

process.on("uncaughtException", (failure) => {
  console.error(`not ok - ${program}:`, failure);
  process.exit(1);
});

/** Prints that a step was as it should be, in the name of the program that runs. */
export const ok = (step) => console.log(`ok - ${program}: ${step}`);

/** Ends the program with `otherwise` unless what is claimed is so. */
export function want(so, otherwise) {
  if (!so) throw new Error(otherwise);
}

/** Ends the program unless `attempt` fails as `expected` says; `what` is what has happened otherwise. */
export async function refused(attempt, expected, what) {
  let failure;
  try {
    await attempt();
  } catch (error) {
    failure = error;
  }
  want(failure, what);
  want(expected(failure), `${what}, or nearly: it failed by ${failure.code} ${failure.error}: ${failure.message} ${failure.cause}`);
}

/** Whether an error of oauth4webapi, which openid-client passes on, is the issuer's own answer `code`. */
export const answered = (code) => (failure) => failure.error === code;

/** What every application here registers, beside what is its own. */
export const application = (name, more) => ({
  client_name: name,
  redirect_uris: [CALLBACK],
  post_logout_redirect_uris: [BYE],
  scope: "openid profile offline_access",
  grant_types: ["authorization_code", "refresh_token"],
  ...more,
});

/** What a device registers, and what a program that works for itself does. */
export const television = {
  client_name: "Television",
  scope: "openid profile",
  grant_types: ["urn:ietf:params:oauth:grant-type:device_code"],
  token_endpoint_auth_method: "none",
};
export const job = { client_name: "Nightly job", scope: "chat.read chat.send", grant_types: ["client_credentials"] };

/** The one form of a page: where it goes to, and the fields with the values that they were given. */
function form(page) {
  const attributes = (tag) => Object.fromEntries([...tag.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, name, value]) => [name, value]));
  const opening = page.match(/<form [^>]*>/);
  if (!opening) return undefined;
  const inputs = [...page.matchAll(/<input [^>]*>/g)].map(([tag]) => attributes(tag));
  return { action: attributes(opening[0]).action, fields: Object.fromEntries(inputs.map(({ name, value }) => [name, value ?? ""])) };
}

export class Browser {
  #cookies = new Map();

  async #asks(address, options) {
    const cookie = [...this.#cookies].map((pair) => pair.join("=")).join("; ");
    const answer = await fetch(address, { ...options, headers: { ...options?.headers, cookie }, redirect: "manual" });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
      this.#cookies.set(name, value);
    }
    return answer;
  }

  /** Follows redirects. Answers the form of the page that they end at, or the address of the application. */
  async #follows(answer) {
    while (answer.status === 303) {
      const address = answer.headers.get("location");
      if (!address.startsWith(`${ISSUER}/`)) return { back: new URL(address) };
      answer = await this.#asks(address);
    }
    const page = await answer.text();
    want(answer.status === 200, `${answer.url}: ${answer.status} ${page}`);
    return { form: form(page) };
  }

  async goes(address) {
    return this.#follows(await this.#asks(address));
  }

  async sends(form, typed) {
    const body = new URLSearchParams({ ...form.fields, ...typed });
    return this.#follows(await this.#asks(ISSUER + form.action, { method: "POST", body }));
  }

  /** Signs the person in, agrees, and answers the address that the application is called back at. */
  async signsIn(address) {
    let page = await this.goes(address);
    if (page.form?.action === "/login") {
      page = await this.sends(page.form, { handle: PERSON, password: PASSWORD, decision: "sign_in" });
    }
    if (page.form?.action === "/oauth2/consent") page = await this.sends(page.form, { decision: "allow" });
    want(page.back?.href.startsWith(CALLBACK), `the browser is at ${page.back ?? page.form?.action}`);
    return page.back;
  }

  /** Connects the device that shows this address. */
  async connects(address) {
    let page = await this.goes(address);
    page = await this.sends(page.form);
    page = await this.sends(page.form, { handle: PERSON, password: PASSWORD, decision: "sign_in" });
    await this.sends(page.form, { decision: "allow" });
  }
}
