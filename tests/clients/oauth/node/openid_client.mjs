// An application that signs people in by openid-client, the library that most servers in JavaScript do it with: it registers
// itself, goes through the code flow with PKCE and pushed requests, checks what it gets, renews it, asks about it, and gives it
// back; connects a device; and gets tokens of its own by a secret and by a signature.
import * as client from "openid-client";
import { answered, application, BYE, Browser, CALLBACK, ISSUER, job, ok, PERSON } from "./people.mjs";
import { REGISTRATION_TOKEN, refused, television, want } from "./people.mjs";

const execute = [client.allowInsecureRequests, client.enableNonRepudiationChecks];

const register = (metadata, authentication) =>
  client.dynamicClientRegistration(new URL(ISSUER), metadata, authentication, { initialAccessToken: REGISTRATION_TOKEN, execute });

/** Sends a browser away and back. Answers where it came back to, and what has to be checked there. */
async function goAndReturn(app, browser, { pushed = false, dpop, ...more } = {}) {
  const checks = {
    pkceCodeVerifier: client.randomPKCECodeVerifier(),
    expectedNonce: client.randomNonce(),
    expectedState: client.randomState(),
  };
  const parameters = {
    redirect_uri: CALLBACK,
    scope: "openid profile offline_access",
    code_challenge: await client.calculatePKCECodeChallenge(checks.pkceCodeVerifier),
    code_challenge_method: "S256",
    nonce: checks.expectedNonce,
    state: checks.expectedState,
    ...more,
  };
  const address = pushed
    ? await client.buildAuthorizationUrlWithPAR(app, parameters, { DPoP: dpop })
    : client.buildAuthorizationUrl(app, parameters);
  want(address.searchParams.has("request_uri") === pushed, `the request is not where it should be: ${address}`);
  return { back: await browser.signsIn(address), checks };
}

async function signIn() {
  const app = await register(application("Wiki", { id_token_signed_response_alg: "RS256" }), client.ClientSecretBasic());
  const browser = new Browser();
  ok("found the issuer and registered");

  const { back, checks } = await goAndReturn(app, browser);
  const tokens = await client.authorizationCodeGrant(app, back, checks);
  const { sub } = tokens.claims();
  const said = await client.fetchUserInfo(app, tokens.access_token, sub);
  want(said.preferred_username === PERSON, `userinfo says ${JSON.stringify(said)}`);
  ok("signed in by a code with PKCE; the ID token is good, and userinfo says who it is");

  const pushed = await goAndReturn(app, browser, { pushed: true, max_age: "3600" });
  await client.authorizationCodeGrant(app, pushed.back, { ...pushed.checks, maxAge: 3600 });
  ok("signed in again by a pushed request");

  const renewed = await client.refreshTokenGrant(app, tokens.refresh_token);
  want(renewed.refresh_token !== tokens.refresh_token && renewed.claims().sub === sub, "the tokens were not renewed");
  const about = await client.tokenIntrospection(app, renewed.access_token);
  want(about.active && about.sub === sub, `introspection says ${JSON.stringify(about)}`);
  ok("renewed the tokens, and asked about one");

  const out = client.buildEndSessionUrl(app, { id_token_hint: renewed.id_token, post_logout_redirect_uri: BYE, state: "later" });
  const page = await browser.goes(out);
  want(page.back?.href === `${BYE}?state=later`, `the browser is at ${page.back}`);
  want(!(await client.tokenIntrospection(app, renewed.access_token)).active, "the access token outlives the session");
  await refused(() => client.refreshTokenGrant(app, renewed.refresh_token), answered("invalid_grant"), "the session was renewed");
  ok("signed out");
  return app;
}

async function bringWhatIsWrong(app) {
  const browser = new Browser();
  const trade = async (change, more) => {
    const { back, checks } = await goAndReturn(app, browser, more);
    return client.authorizationCodeGrant(app, back, { ...checks, ...change });
  };
  const verifier = { pkceCodeVerifier: client.randomPKCECodeVerifier() };
  await refused(() => trade(verifier), answered("invalid_grant"), "another verifier was accepted");
  const own = (failure) => failure.cause?.message.includes("nonce");
  await refused(() => trade({ expectedNonce: client.randomNonce() }), own, "another nonce was accepted");
  const state = (failure) => failure.cause?.message.includes("state");
  await refused(() => trade({ expectedState: client.randomState() }), state, "another state was accepted");
  const nobody = { prompt: "none" };
  await refused(async () => {
    const { back, checks } = await goAndReturn(app, { signsIn: async (address) => (await new Browser().goes(address)).back }, nobody);
    await client.authorizationCodeGrant(app, back, checks);
  }, answered("login_required"), "somebody was signed in without a page");

  const { back, checks } = await goAndReturn(app, browser);
  const tokens = await client.authorizationCodeGrant(app, back, checks);
  await refused(() => client.authorizationCodeGrant(app, back, checks), answered("invalid_grant"), "a code was exchanged twice");
  want(!(await client.tokenIntrospection(app, tokens.access_token)).active, "what a replayed code has given is still good");
  ok("refused: another verifier, nonce or state, a page that may not be shown, and a code brought twice");

  const last = await trade({});
  await client.tokenRevocation(app, last.refresh_token);
  await refused(() => client.refreshTokenGrant(app, last.refresh_token), answered("invalid_grant"), "a revoked token was renewed");
  ok("gave a refresh token back");
}

async function connectADevice() {
  const app = await register(television, client.None());
  const begun = await client.initiateDeviceAuthorization(app, { scope: "openid profile" });
  const waits = client.pollDeviceAuthorizationGrant(app, begun);
  await new Browser().connects(begun.verification_uri_complete);
  const tokens = await waits;
  const said = await client.fetchUserInfo(app, tokens.access_token, tokens.claims().sub);
  want(said.preferred_username === PERSON, `userinfo says ${JSON.stringify(said)}`);
  ok("connected a device");
}

/** The same application, proving itself otherwise. */
function proving(app, authentication) {
  const other = new client.Configuration(app.serverMetadata(), app.clientMetadata().client_id, undefined, authentication);
  client.allowInsecureRequests(other);
  return other;
}

async function workWithoutAPerson() {
  const post = await register({ ...job, token_endpoint_auth_method: "client_secret_post" });
  const narrow = await client.clientCredentialsGrant(post, { scope: "chat.read" });
  want(narrow.scope === "chat.read", `it may ${narrow.scope}`);
  const wrong = proving(post, client.ClientSecretPost("wrong"));
  const known = (failure) => failure.status === 401;
  await refused(() => client.clientCredentialsGrant(wrong), known, "another secret was accepted");

  const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const jwks = { keys: [{ ...(await crypto.subtle.exportKey("jwk", keys.publicKey)), kid: "one" }] };
  const signing = { ...job, token_endpoint_auth_method: "private_key_jwt", jwks };
  const signer = await register(signing, client.PrivateKeyJwt({ key: keys.privateKey, kid: "one" }));
  const first = await client.clientCredentialsGrant(signer);
  const second = await client.clientCredentialsGrant(signer);
  want(first.access_token !== second.access_token, "two calls gave one token");
  const others = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const forger = proving(signer, client.PrivateKeyJwt({ key: others.privateKey, kid: "one" }));
  await refused(() => client.clientCredentialsGrant(forger), known, "another's signature was accepted");
  ok("got tokens of its own by a secret and by a signature");
}

async function proveWhoseTokensTheyAre() {
  const app = await register(application("Wiki", { token_endpoint_auth_method: "none" }), client.None());
  want(app.serverMetadata().dpop_signing_alg_values_supported?.includes("ES256"), "the metadata does not offer DPoP");
  const DPoP = client.getDPoPHandle(app, await client.randomDPoPKeyPair("ES256"));
  const { back, checks } = await goAndReturn(app, new Browser(), { pushed: true, dpop: DPoP });
  const tokens = await client.authorizationCodeGrant(app, back, checks, undefined, { DPoP });
  want(tokens.token_type === "dpop", `the tokens are for ${tokens.token_type}`);
  const { sub } = tokens.claims();
  await client.fetchUserInfo(app, tokens.access_token, sub, { DPoP });
  const renewed = await client.refreshTokenGrant(app, tokens.refresh_token, undefined, { DPoP });
  await client.fetchUserInfo(app, renewed.access_token, sub, { DPoP });
  const unproven = (failure) => failure.status === 401;
  await refused(() => client.fetchUserInfo(app, renewed.access_token, sub), unproven, "a bound token was taken without a proof");
  const thief = { DPoP: client.getDPoPHandle(app, await client.randomDPoPKeyPair("ES256")) };
  await refused(() => client.fetchUserInfo(app, renewed.access_token, sub, thief), unproven, "another key proved a token");
  const again = () => client.refreshTokenGrant(app, renewed.refresh_token, undefined, thief);
  await refused(again, (failure) => ["invalid_grant", "invalid_dpop_proof"].includes(failure.error), "another key renewed the tokens");
  ok("tokens are bound to a key (DPoP)");
}

const app = await signIn();
await bringWhatIsWrong(app);
await connectADevice();
await workWithoutAPerson();
await proveWhoseTokensTheyAre();
