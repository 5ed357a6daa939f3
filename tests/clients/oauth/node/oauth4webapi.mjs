// The steps of OAuth one by one, by oauth4webapi, which checks every answer against the standards and forgives nothing: a public
// client whose ID tokens are ES256 and a confidential one whose are EdDSA, in the order that a person would meet them.
import * as oauth from "oauth4webapi";
import { answered, application, BYE, Browser, CALLBACK, ISSUER, job, ok, PERSON } from "./people.mjs";
import { REGISTRATION_TOKEN, refused, television, want } from "./people.mjs";

const plain = { [oauth.allowInsecureRequests]: true };
const SCOPE = "openid profile offline_access";

async function discover() {
  const issuer = new URL(ISSUER);
  for (const algorithm of ["oidc", "oauth2"]) {
    const answer = await oauth.discoveryRequest(issuer, { algorithm, ...plain });
    want((await oauth.processDiscoveryResponse(issuer, answer)).issuer === ISSUER, "another issuer");
  }
  ok("both metadata documents are good");
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, plain));
}

async function register(server, metadata) {
  const options = { initialAccessToken: REGISTRATION_TOKEN, ...plain };
  const answer = await oauth.dynamicClientRegistrationRequest(server, metadata, options);
  const client = await oauth.processDynamicClientRegistrationResponse(answer);
  const proof = client.client_secret ? oauth.ClientSecretBasic(client.client_secret) : oauth.None();
  return { server, client, proof };
}

/** Sends a browser away with a pushed request; answers what it brings back, checked. */
async function authorize({ server, client, proof }, browser, { verifier, nonce }, options = plain) {
  const state = oauth.generateRandomState();
  const request = {
    response_type: "code",
    redirect_uri: CALLBACK,
    scope: SCOPE,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    nonce,
    state,
  };
  const push = () => oauth.pushedAuthorizationRequest(server, client, proof, request, options);
  const pushed = await withNonce(push, (answer) => oauth.processPushedAuthorizationResponse(server, client, answer));
  const address = new URL(server.authorization_endpoint);
  address.search = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri });
  return oauth.validateAuthResponse(server, client, await browser.signsIn(address), state);
}

/** Asks, and asks once more where the server wants its nonce in a DPoP proof. */
async function withNonce(asks, reads) {
  try {
    return await reads(await asks());
  } catch (failure) {
    if (!oauth.isDPoPNonceError(failure)) throw failure;
    return reads(await asks());
  }
}

async function exchange({ server, client, proof }, came, { verifier, nonce }, options = plain) {
  const asks = () => oauth.authorizationCodeGrantRequest(server, client, proof, came, CALLBACK, verifier, options);
  return withNonce(asks, async (answer) => {
    const checks = { expectedNonce: nonce, requireIdToken: true };
    const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, checks);
    await oauth.validateApplicationLevelSignature(server, answer, plain);
    return tokens;
  });
}

async function renew({ server, client, proof }, token, options = plain) {
  const asks = () => oauth.refreshTokenGrantRequest(server, client, proof, token, options);
  return withNonce(asks, (answer) => oauth.processRefreshTokenResponse(server, client, answer));
}

async function userinfo({ server, client }, token, sub, options = plain) {
  const asks = () => oauth.userInfoRequest(server, client, token, options);
  return withNonce(asks, (answer) => oauth.processUserInfoResponse(server, client, sub, answer));
}

const fresh = () => ({ verifier: oauth.generateRandomCodeVerifier(), nonce: oauth.generateRandomNonce() });

async function signIn(server, method, algorithm) {
  const registered = { token_endpoint_auth_method: method, id_token_signed_response_alg: algorithm };
  const app = await register(server, application("Wiki", registered));
  app.client[oauth.clockSkew] = 0;
  const browser = new Browser();
  const secrets = fresh();
  const came = await authorize(app, browser, secrets);
  const tokens = await exchange(app, came, secrets);
  const { sub } = oauth.getValidatedIdTokenClaims(tokens);
  const said = await userinfo(app, tokens.access_token, sub);
  want(said.preferred_username === PERSON, `userinfo says ${JSON.stringify(said)}`);
  ok(`${method}: signed in by a pushed request; the ID token is good (${algorithm})`);

  const renewed = await renew(app, tokens.refresh_token);
  const anew = await renew(app, tokens.refresh_token);
  want(anew.refresh_token === renewed.refresh_token, "an answer that was lost has two successors");
  const other = await register(server, application("Another", registered));
  await refused(() => renew(other, anew.refresh_token), answered("invalid_grant"), "another client renewed the tokens");
  await refused(() => renew(app, anew.refresh_token), answered("invalid_grant"), "a token that was taken away is renewed still");
  ok(`${method}: renewed the tokens, also after an answer that was lost; brought by another client they end`);

  for (const change of [{ verifier: oauth.generateRandomCodeVerifier() }, {}]) {
    const secrets = fresh();
    const came = await authorize(app, browser, secrets);
    if (!change.verifier) await exchange(app, came, secrets);
    const again = () => exchange(app, came, { ...secrets, ...change });
    await refused(again, answered("invalid_grant"), change.verifier ? "another verifier was accepted" : "a code was exchanged twice");
  }
  const asked = fresh();
  const nonce = await authorize(app, browser, asked);
  const mistaken = () => exchange(app, nonce, { ...asked, nonce: oauth.generateRandomNonce() });
  const own = (failure) => failure.message.includes('"nonce"');
  await refused(mistaken, own, "another nonce was accepted");
  ok(`${method}: refused another verifier, another nonce, and a code brought twice`);

  const last = fresh();
  const open = await exchange(app, await authorize(app, browser, last), last);
  const revoke = await oauth.revocationRequest(server, app.client, app.proof, open.access_token, plain);
  await oauth.processRevocationResponse(revoke);
  const ended = (failure) => failure.status === 401;
  await refused(() => userinfo(app, open.access_token, sub), ended, "a revoked access token still opens userinfo");
  const hint = new URLSearchParams({ id_token_hint: open.id_token, post_logout_redirect_uri: BYE });
  const out = await browser.goes(`${server.end_session_endpoint}?${hint}`);
  want(out.back?.href === BYE, `the browser is at ${out.back}`);
  ok(`${method}: gave a token back and signed out`);
}

async function connectADevice(server) {
  const { client, proof } = await register(server, television);
  const began = await oauth.deviceAuthorizationRequest(server, client, proof, { scope: "openid profile" }, plain);
  const device = await oauth.processDeviceAuthorizationResponse(server, client, began);
  const asks = async () => {
    const answer = await oauth.deviceCodeGrantRequest(server, client, proof, device.device_code, plain);
    return oauth.processDeviceCodeResponse(server, client, answer);
  };
  await refused(asks, answered("authorization_pending"), "a device got tokens before anybody agreed");
  await refused(asks, answered("slow_down"), "a device may ask as often as it likes");
  await new Browser().connects(device.verification_uri_complete);
  await new Promise((later) => setTimeout(later, (device.interval + 5) * 1000));
  const tokens = await asks();
  want(oauth.getValidatedIdTokenClaims(tokens)?.sub, "a device got no ID token");
  await refused(asks, answered("invalid_grant"), "a device code gave tokens twice");
  ok("connected a device, once");
}

async function workWithoutAPerson(server) {
  for (const algorithm of ["PS256", "ES256", "Ed25519"]) {
    const { publicKey, privateKey } = await oauth.generateKeyPair(algorithm, { extractable: true });
    const jwk = { ...(await crypto.subtle.exportKey("jwk", publicKey)), kid: "one" };
    const signing = { token_endpoint_auth_method: "private_key_jwt", jwks: { keys: [jwk] } };
    const { client } = await register(server, { ...job, ...signing });
    const proof = oauth.PrivateKeyJwt({ key: privateKey, kid: "one" });
    const answer = await oauth.clientCredentialsGrantRequest(server, client, proof, { scope: "chat.read" }, plain);
    const tokens = await oauth.processClientCredentialsResponse(server, client, answer);
    const asked = await oauth.introspectionRequest(server, client, proof, tokens.access_token, plain);
    const about = await oauth.processIntrospectionResponse(server, client, asked);
    want(about.active && about.scope === "chat.read", `introspection says ${JSON.stringify(about)}`);
    const resource = new Request("http://chat.example.com/", { headers: { authorization: `Bearer ${tokens.access_token}` } });
    const claims = await oauth.validateJwtAccessToken(server, resource, "flaghoist", plain);
    want(claims.client_id === client.client_id, "the token names another client");
    ok(`signs in place of keeping a secret (${algorithm}); its access token is one of RFC 9068`);
  }
}

async function proveWhoseTokensTheyAre(server) {
  for (const algorithm of ["ES256", "RS256", "PS256", "Ed25519"]) {
    want(server.dpop_signing_alg_values_supported?.includes(algorithm), `the metadata does not offer DPoP by ${algorithm}`);
    const app = await register(server, application("Wiki", { token_endpoint_auth_method: "none" }));
    const bound = async () => ({ ...plain, DPoP: oauth.DPoP(app.client, await oauth.generateKeyPair(algorithm)) });
    const mine = await bound();
    const theirs = await bound();
    const browser = new Browser();
    const secrets = fresh();
    const tokens = await exchange(app, await authorize(app, browser, secrets, mine), secrets, mine);
    want(tokens.token_type === "dpop", `the tokens are for ${tokens.token_type}`);
    const { sub } = oauth.getValidatedIdTokenClaims(tokens);
    await userinfo(app, tokens.access_token, sub, mine);
    const unproven = (failure) => failure.status === 401;
    await refused(() => userinfo(app, tokens.access_token, sub), unproven, "a bound token was taken without a proof");
    await refused(() => userinfo(app, tokens.access_token, sub, theirs), unproven, "another key proved a token");
    const renewed = await renew(app, tokens.refresh_token, mine);
    await userinfo(app, renewed.access_token, sub, mine);
    const bad = (failure) => ["invalid_grant", "invalid_dpop_proof"].includes(failure.error);
    await refused(() => renew(app, renewed.refresh_token, theirs), bad, "another key renewed the tokens");

    const again = fresh();
    const code = await authorize(app, browser, again, mine);
    await refused(() => exchange(app, code, again, theirs), bad, "a code that was bound to a key was exchanged with another");
    ok(`tokens and codes are bound to a key (DPoP, ${algorithm})`);
  }
}

const server = await discover();
await signIn(server, "none", "ES256");
await signIn(server, "client_secret_basic", "EdDSA");
await connectADevice(server);
await workWithoutAPerson(server);
await proveWhoseTokensTheyAre(server);
