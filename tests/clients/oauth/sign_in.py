"""An application that signs people in with flaghoist's accounts, by Authlib: the authorization code flow with PKCE, the ID token
checked against the published keys, userinfo, a refresh, and signing out; a device that is signed in from that browser; and a program
that signs in place of keeping a secret. Every step is checked and printed; the first one that goes wrong ends the program."""

import argparse
import hashlib
import json
import secrets
import sys
from base64 import urlsafe_b64encode

import grpc
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from people import BYE, CALLBACK, PASSWORD, PATIENCE_SECONDS, Broken, Browser, ok, register, sign_up, want

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def sign_in(metadata, channel, client_id, secret, consents, algorithm):
    """Signs a new person in to the application, from the first address to the last."""
    issuer = metadata["issuer"]
    handle = sign_up(channel, "anna")
    browser = Browser(issuer)
    app = OAuth2Session(
        client_id,
        secret or None,
        scope="openid profile offline_access",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
    )
    verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(12)
    address, _ = app.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=verifier, nonce=nonce, login_hint=handle
    )
    _, page = browser.goes(address)
    want(page.fields["handle"] == handle, "the page does not show the hint")
    back, page = browser.sends(page, password=PASSWORD, decision="sign_in")
    if consents:
        want(page is not None, "nobody was asked for their consent")
        back, page = browser.sends(page, decision="allow")
    want(back.startswith(CALLBACK), f"the browser is at {back}")
    token = app.fetch_token(metadata["token_endpoint"], authorization_response=back, code_verifier=verifier)
    ok(f"{handle} signed in, and the code was exchanged for {', '.join(sorted(token))}")

    keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=PATIENCE_SECONDS).json())
    said = jwt.decode(token["id_token"], keys, algorithms=[algorithm])
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        nonce={"essential": True, "value": nonce},
        exp={"essential": True},
    )
    registry.validate(said.claims)
    want(said.header["alg"] == algorithm, f"signed with {said.header['alg']}")
    half = hashlib.sha256(token["access_token"].encode()).digest()[:16]
    want(said.claims["at_hash"] == urlsafe_b64encode(half).rstrip(b"=").decode(), "at_hash is another's")
    ok(f"the ID token is good ({algorithm})")

    info = app.get(metadata["userinfo_endpoint"]).json()
    expected = {"sub": said.claims["sub"], "name": "Anna", "preferred_username": handle}
    want(info == expected, f"userinfo says {info}")
    ok("userinfo says who it is")

    renewed = app.refresh_token(metadata["token_endpoint"], refresh_token=token["refresh_token"])
    want(renewed["refresh_token"] != token["refresh_token"], "the refresh token was not exchanged")
    want(app.get(metadata["userinfo_endpoint"]).json()["sub"] == info["sub"], "the new token is another's")
    ok("the tokens were renewed")

    out, _ = browser.goes(f"{metadata['end_session_endpoint']}?id_token_hint={renewed['id_token']}&post_logout_redirect_uri={BYE}")
    want(out == BYE, f"the browser is at {out}")
    want(app.get(metadata["userinfo_endpoint"]).status_code == 401, "the access token outlives the session")
    try:
        app.fetch_token(metadata["token_endpoint"], authorization_response=back, code_verifier=verifier)
        raise Broken("a code was exchanged twice")
    except OAuthError as error:
        want(error.error == "invalid_grant", f"a second exchange is {error.error}")
    ok("signed out, and the code is used up")


def connect_a_device(metadata, channel, client_id):
    """Connects a device that has no browser, by one that is elsewhere."""
    handle = sign_up(channel, "dora")
    begun = requests.post(
        metadata["device_authorization_endpoint"],
        data={"client_id": client_id, "scope": "openid profile"},
        timeout=PATIENCE_SECONDS,
    ).json()
    app = OAuth2Session(client_id, token_endpoint_auth_method="none")
    asks = {"grant_type": DEVICE_GRANT, "device_code": begun["device_code"]}
    try:
        app.fetch_token(metadata["token_endpoint"], **asks)
        raise Broken("a device got tokens before anybody agreed")
    except OAuthError as error:
        want(error.error == "authorization_pending", f"a device is told {error.error}")
    browser = Browser(metadata["issuer"])
    _, page = browser.goes(begun["verification_uri_complete"])
    want(page.fields["user_code"] == begun["user_code"], "the page does not show the code")
    _, page = browser.sends(page)
    _, page = browser.sends(page, handle=handle, password=PASSWORD, decision="sign_in")
    browser.sends(page, decision="allow")
    token = app.fetch_token(metadata["token_endpoint"], **asks)
    info = app.get(metadata["userinfo_endpoint"]).json()
    want(info["preferred_username"] == handle and "id_token" in token, f"userinfo says {info}")
    ok("a device was connected by a browser elsewhere")


def sign_instead_of_keeping_a_secret(metadata, client_id, key):
    """Gets a program's own token by an assertion that it signs."""
    app = OAuth2Session(
        client_id,
        key,
        token_endpoint_auth_method=PrivateKeyJWT(metadata["token_endpoint"], alg="ES256"),
    )
    first = app.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    second = app.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    want(first["access_token"] != second["access_token"], "two calls gave one token")
    ok("a program signs in place of keeping a secret")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--target", required=True, help="HOST:PORT of gRPC")
    arguments.add_argument("--issuer", required=True, help="the address of the issuer")
    arguments.add_argument("--grant-admin", required=True, help="the command that makes the handle after it an admin")
    given = arguments.parse_args()
    discovery = requests.get(f"{given.issuer}/.well-known/openid-configuration", timeout=PATIENCE_SECONDS)
    metadata = discovery.json()
    want(metadata["issuer"] == given.issuer, f"the issuer calls itself {metadata['issuer']}")
    with grpc.insecure_channel(given.target) as channel:
        public, _ = register(channel, given.grant_admin)
        sign_in(metadata, channel, public, "", consents=True, algorithm="RS256")
        confidential, secret = register(
            channel, given.grant_admin, confidential=True, first_party=True, id_token_signed_response_alg="ES256"
        )
        sign_in(metadata, channel, confidential, secret, consents=False, algorithm="ES256")
        grants = [DEVICE_GRANT, "authorization_code", "refresh_token"]
        device, _ = register(channel, given.grant_admin, grant_types=grants)
        connect_a_device(metadata, channel, device)
        key = ECKey.generate_key("P-256")
        signer, none = register(
            channel,
            given.grant_admin,
            confidential=True,
            token_endpoint_auth_method="private_key_jwt",
            jwks=json.dumps({"keys": [key.as_dict(private=False)]}),
        )
        want(none == "", "a client that signs was given a secret")
        sign_instead_of_keeping_a_secret(metadata, signer, key)


if __name__ == "__main__":
    try:
        main()
    except Broken as broken:
        sys.exit(f"not ok - sign_in: {broken}")
