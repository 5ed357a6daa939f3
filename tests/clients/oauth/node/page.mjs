// An application without a server: people sign in with it by oidc-client-ts, and all that it knows stays in their browser. What it
// is told it writes on its page, a line of JSON for each step, where `browser.mjs` reads it.
import { UserManager, WebStorageStateStore } from "oidc-client-ts";

const settings = await (await fetch("/settings.json")).json();
const people = new UserManager({
  ...settings,
  redirect_uri: `${location.origin}/callback`,
  silent_redirect_uri: `${location.origin}/callback`,
  post_logout_redirect_uri: `${location.origin}/bye`,
  scope: "openid profile offline_access",
  loadUserInfo: true,
  automaticSilentRenew: false,
  userStore: new WebStorageStateStore({ store: localStorage }),
});

function say(step, more) {
  document.querySelector("#said").textContent += `${JSON.stringify({ step, ...more })}\n`;
}

async function attempt(step, does) {
  try {
    say(step, await does());
  } catch (failure) {
    say(step, { failed: failure.error ?? failure.message });
  }
}

const about = ({ profile, scope, refresh_token, access_token }) => ({ profile, scope, refresh_token, access_token });

document.querySelector("#sign-in").onclick = () => attempt("sign-in", () => people.signinRedirect());
document.querySelector("#renew").onclick = () => attempt("renew", async () => about(await people.signinSilent()));
// Without a refresh token the library asks in a frame that nobody sees, by prompt=none.
document.querySelector("#ask-silently").onclick = () =>
  attempt("ask-silently", async () => {
    const person = await people.getUser();
    delete person.refresh_token;
    await people.storeUser(person);
    return about(await people.signinSilent());
  });
document.querySelector("#give-back").onclick = () =>
  attempt("give-back", () => people.revokeTokens(["access_token", "refresh_token"]));
document.querySelector("#sign-out").onclick = () => attempt("sign-out", () => people.signoutRedirect());

if (location.pathname === "/callback") {
  await attempt("came-back", async () => {
    const person = await people.signinCallback();
    return person && about(person);
  });
} else if (location.pathname === "/bye") {
  await attempt("left", async () => void (await people.signoutCallback()));
} else {
  say("here");
}
