// Talks to security keys and passkeys (WebAuthn) for a form that asks for one. The form is sent twice: first by this script, to learn
// what the key is to be asked, then by the browser, with the key's answer in it. What either is worth, the server decides.
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const known = (list) => (list ?? []).map((key) => ({ ...key, id: bytes(key.id) }));

async function ask({ publicKey }) {
  const challenge = bytes(publicKey.challenge);
  if (!publicKey.user) {
    const allowCredentials = known(publicKey.allowCredentials);
    return navigator.credentials.get({ publicKey: { ...publicKey, challenge, allowCredentials } });
  }
  const user = { ...publicKey.user, id: bytes(publicKey.user.id) };
  const excludeCredentials = known(publicKey.excludeCredentials);
  return navigator.credentials.create({ publicKey: { ...publicKey, challenge, user, excludeCredentials } });
}

function written({ id, rawId, type, response, authenticatorAttachment, getClientExtensionResults }, credential) {
  const told = {};
  for (const part of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (response[part]) told[part] = text(response[part]);
  }
  if (response.getTransports) told.transports = response.getTransports();
  const extensions = getClientExtensionResults.call(credential);
  return JSON.stringify({ id, rawId: text(rawId), type, response: told, authenticatorAttachment, extensions });
}

async function answer(form, say) {
  const fields = new URLSearchParams(new FormData(form));
  fields.set("decision", "start_key");
  const reply = await fetch(form.action, { method: "POST", body: fields, headers: { accept: "application/json" } });
  if (!reply.headers.get("content-type")?.startsWith("application/json")) return location.reload();
  const { login, options, problem, go } = await reply.json();
  if (go) return location.assign(go);
  if (!options) return say(problem);
  say(form.dataset.asks);
  const credential = await ask(options);
  if (form.elements.login) form.elements.login.value = login;
  form.elements.credential.value = written(credential, credential);
  HTMLFormElement.prototype.submit.call(form);
}

for (const form of document.querySelectorAll("form[data-keys]")) {
  const [button, status] = [form.querySelector("button:not([data-plain])"), form.querySelector("[role=status]")];
  const say = (words) => {
    status.textContent = words ?? form.dataset.silent;
    button.disabled = words === form.dataset.asks;
  };
  form.addEventListener("submit", (event) => {
    // Beside the key there may be another way, such as a code.
    if (event.submitter?.matches("[data-plain]")) return;
    event.preventDefault();
    button.disabled = true;
    answer(form, say).catch(() => say());
  });
}
if (window.PublicKeyCredential) {
  for (const part of document.querySelectorAll("[data-keys-only]")) part.hidden = false;
}
