"""Debian's Apache with mod_auth_openidc stands before a folder that only people with an account of the chat may see, as a web server
that somebody else looks after would: it signs them in by the code flow with PKCE, lets in whom a claim names, renews their tokens,
signs them out, is told when they sign out elsewhere, and asks the issuer about access tokens that are brought to it."""

import argparse
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import grpc
import requests
from flaghoist.auth.v1 import token_pb2 as tokens
from flaghoist.auth.v1 import token_pb2_grpc as tokens_grpc
from flaghoist.login.v1 import login_pb2 as login
from flaghoist.login.v1 import login_pb2_grpc as login_grpc
from people import BYE, PASSWORD, PATIENCE_SECONDS, Broken, Browser, ok, register, sign_up, want

# What the server is: the module's own settings, and as little else as Apache starts with. `www-data` is who it runs as where it is
# started by root.
SETTINGS = """
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/pid
ErrorLog {folder}/log
DocumentRoot {folder}/pages
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_openidc_module {modules}/mod_auth_openidc.so

{user}


OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCClientID {client}
OIDCClientSecret {secret}
OIDCRedirectURI {site}/private/callback
OIDCCryptoPassphrase {passphrase}
OIDCScope "openid profile offline_access chat.read"
OIDCPKCEMethod S256
OIDCRedirectURLsAllowed ^({bye}|{site}/.*)$
OIDCRemoteUserClaim preferred_username
OIDCInfoHook access_token id_token userinfo refresh_token
OIDCOAuthServerMetadataURL {issuer}/.well-known/oauth-authorization-server
OIDCOAuthIntrospectionEndpointAuth client_secret_basic
OIDCOAuthClientID {client}
OIDCOAuthClientSecret {secret}
OIDCOAuthTokenIntrospectionInterval -1
OIDCOAuthRemoteUserClaim sub

<Location /private>
    AuthType openid-connect
    Require valid-user
</Location>
<Location /private/others>
    AuthType openid-connect
    Require claim preferred_username:somebody-else
</Location>
<Location /api>
    AuthType oauth20
    Require claim "scope~\\\\bchat.read\\\\b"
</Location>
"""
MODULES = "/usr/lib/apache2/modules"
# A notice of a logout is sent within two seconds; a slow machine has some more.
NOTICE_SECONDS = 15


class Apache:
    """The server, and what the module answers."""

    def __init__(self, folder, port, issuer, client, secret):
        self.folder, self.site = folder, f"http://localhost:{port}"
        for name in ["private", "private/others", "api"]:
            (folder / "pages" / name).mkdir(parents=True)
            (folder / "pages" / name / "page.html").write_text("what only they may see")
        user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
        settings = SETTINGS.format(
            folder=folder, port=port, issuer=issuer, client=client, secret=secret, bye=BYE, site=self.site, modules=MODULES,
            passphrase=secrets.token_hex(16), user=user,
        )  # fmt: skip
        (folder / "apache.conf").write_text(settings)
        program = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")
        self.process = subprocess.Popen([program, "-f", str(folder / "apache.conf"), "-DFOREGROUND"])
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            want(self.process.poll() is None and time.monotonic() < end, f"Apache did not start: {self.log()}")
            time.sleep(0.1)

    def answers(self):
        try:
            return requests.get(self.site, timeout=PATIENCE_SECONDS) is not None
        except requests.ConnectionError:
            return False

    def hook(self, browser, **parameters):
        """What is answered at the address that the module keeps for itself."""
        return browser.asks("GET", f"{self.site}/private/callback?{urlencode(parameters)}")

    def knows(self, browser):
        """What the module knows about the person at this browser."""
        answer = self.hook(browser, info="json")
        want(answer.status_code == 200, f"the module knows nobody: {answer.status_code} {self.log()}")
        return answer.json()

    def log(self):
        log = self.folder / "log"
        return log.read_text()[-4000:] if log.exists() else ""

    def stop(self):
        self.process.terminate()
        self.process.wait()


def sign_in(apache, issuer, handle):
    """Signs the person in, by asking for a page that is not for everybody. Answers the browser, and where it came back."""
    browser = Browser(issuer, apache.site)
    page = f"{apache.site}/private/page.html"
    asked = browser.asks("GET", page)
    want(asked.is_redirect, f"Apache answers {asked.status_code} {apache.log()}")
    asks_for = parse_qs(urlsplit(asked.headers["location"]).query)
    want(asks_for["code_challenge_method"] == ["S256"] and "nonce" in asks_for, f"Apache asks for {asks_for}")
    _, form = browser.follows(asked)
    typed = {"handle": handle, "password": PASSWORD, "decision": "sign_in"}
    answer = browser.asks("POST", issuer + form.action, data={**form.fields, **typed})
    while answer.headers["location"].startswith(issuer):
        answer = browser.asks("GET", answer.headers["location"])
    back = answer.headers["location"]
    at, _ = browser.follows(answer)
    want(at == page, f"the browser is at {at}")
    return browser, back


def end_sessions(channel, handle):
    """Ends all sessions of the person, as they do at another device: by the list of their sessions."""
    request = login.LoginRequest(handle=handle, password=PASSWORD)
    token = login_grpc.LoginServiceStub(channel).Login(request, timeout=PATIENCE_SECONDS).tokens.access_token
    bearer, sessions = (("authorization", f"Bearer {token}"),), tokens_grpc.SessionServiceStub(channel)
    for session in sessions.ListSessions(tokens.ListSessionsRequest(), metadata=bearer, timeout=PATIENCE_SECONDS).sessions:
        if not session.current:
            sessions.RevokeSession(tokens.RevokeSessionRequest(name=session.name), metadata=bearer, timeout=PATIENCE_SECONDS)


def drive(apache, issuer, channel, handle):
    """What people and programs do at the server, in the order of a day."""
    browser, back = sign_in(apache, issuer, handle)
    known = apache.knows(browser)
    want(known["userinfo"]["preferred_username"] == handle, f"the module knows {known}")
    ok("Apache signed a person in by a code with PKCE, and shows them the page")
    want(browser.asks("GET", f"{apache.site}/private/others/page.html").status_code in [401, 403], "everybody sees the page of others")
    stolen = Browser(issuer, apache.site).asks("GET", back)
    want(stolen.status_code >= 400, f"an answer for another browser is taken: {stolen.status_code}")
    ok("whom the claim does not name stays outside, and so does another browser with the same answer")

    here = f"{apache.site}/private/page.html"
    apache.hook(browser, refresh=here, access_token=known["access_token"])
    renewed = apache.knows(browser)
    want(renewed["access_token"] != known["access_token"], f"the tokens were not renewed: {apache.log()}")
    ok("the tokens were renewed")

    api = f"{apache.site}/api/page.html"
    brought = {"authorization": f"Bearer {renewed['access_token']}"}
    want(requests.get(api, headers=brought, timeout=PATIENCE_SECONDS).status_code == 200, f"a good token is refused: {apache.log()}")
    forged = {"authorization": "Bearer a.b.c"}
    want(requests.get(api, headers=forged, timeout=PATIENCE_SECONDS).status_code == 401, "any token is taken")
    ok("an access token is taken after the issuer was asked about it, another is not")

    end_sessions(channel, handle)
    end = time.monotonic() + NOTICE_SECONDS
    while apache.hook(browser, info="json").status_code == 200:
        want(time.monotonic() < end, f"nobody told Apache that the session has ended: {apache.log()}")
        time.sleep(0.2)
    want(requests.get(api, headers=brought, timeout=PATIENCE_SECONDS).status_code == 401, "the token outlives the session")
    ok("Apache was told that the person has ended the session elsewhere")

    browser, _ = sign_in(apache, issuer, handle)
    left = apache.hook(browser, logout=BYE)
    want(left.is_redirect, f"Apache does not send to the issuer: {left.status_code} {apache.log()}")
    at, _ = browser.follows(left)
    want(at == BYE, f"after signing out the browser is at {at}: {apache.log()}")
    at, form = browser.goes(here)
    want(at.startswith(issuer) and "password" in form.fields, f"after signing out the page is at {at}")
    ok("the person has signed out by Apache, and is asked for the password again")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--target", required=True, help="HOST:PORT of gRPC")
    arguments.add_argument("--issuer", required=True, help="the address of the issuer")
    arguments.add_argument("--grant-admin", required=True, help="the command that makes the handle after it an admin")
    given = arguments.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    callback = f"http://localhost:{port}/private/callback"
    with grpc.insecure_channel(given.target) as channel, tempfile.TemporaryDirectory(prefix="apache-") as folder:
        # The installation's own, so that nobody is asked for their consent, and told of logouts.
        client, secret = register(
            channel,
            given.grant_admin,
            confidential=True,
            first_party=True,
            redirect_uris=[callback],
            backchannel_logout_uri=f"{callback}?logout=backchannel",
        )
        # Apache is another user than this program where that is root.
        os.chmod(folder, 0o755)
        apache = Apache(pathlib.Path(folder), port, given.issuer, client, secret)
        try:
            drive(apache, given.issuer, channel, sign_up(channel, "anna"))
        finally:
            apache.stop()


if __name__ == "__main__":
    try:
        main()
    except Broken as broken:
        sys.exit(f"not ok - apache: {broken}")
