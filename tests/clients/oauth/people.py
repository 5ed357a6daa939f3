"""What the clients of this folder share: the people and the admin who registers applications, by gRPC, and a browser, played by
`requests`, that types a handle and a password into the sign-in page."""

import html.parser
import http.cookies
import pathlib
import secrets
import shlex
import subprocess
import sys
from urllib.parse import urlsplit

import requests
from flaghoist.auth.v1 import client_pb2 as clients
from flaghoist.auth.v1 import client_pb2_grpc as clients_grpc
from flaghoist.login.v1 import login_pb2 as login
from flaghoist.login.v1 import login_pb2_grpc as login_grpc

CALLBACK = "https://wiki.example.com/callback"
BYE = "https://wiki.example.com/bye"
PASSWORD = "gentle otters paint nine moons"
PATIENCE_SECONDS = 30


class Broken(Exception):
    """A step did not go as it should."""


def ok(step):
    """Prints that a step was as it should be."""
    print(f"ok - {pathlib.Path(sys.argv[0]).stem}: {step}", flush=True)


def want(so, otherwise):
    """Ends the program with `otherwise` unless what is claimed is so."""
    if not so:
        raise Broken(otherwise)


class Form(html.parser.HTMLParser):
    """The fields of the one form of a page, with the values that it was given."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields = None, {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.action = attributes["action"]
        elif tag == "input":
            self.fields[attributes["name"]] = attributes.get("value", "")


class Browser:
    """A browser, as far as it takes one: cookies, redirects, and a form. `requests` would not send cookies for TLS to `localhost`
    without it, as browsers do. It goes where the issuer is, and to the other `sites` that are really there."""

    def __init__(self, issuer, *sites):
        self.issuer, self.sites, self.cookies = issuer, [issuer, *sites], {}

    def asks(self, method, address, **more):
        host = urlsplit(address).netloc
        cookies = [f"{name}={value}" for (of, name), value in self.cookies.items() if of == host]
        answer = requests.request(
            method, address, headers={"cookie": "; ".join(cookies)}, allow_redirects=False, timeout=PATIENCE_SECONDS, **more
        )
        for line in answer.raw.headers.getlist("set-cookie"):
            for name, cookie in http.cookies.SimpleCookie(line).items():
                strict = cookie["secure"] and cookie["httponly"] and name.startswith("__Host-")
                want(strict or not address.startswith(self.issuer), f"a weak cookie: {name}")
                self.cookies[host, name] = cookie.value
        return answer

    def goes(self, address):
        """Follows redirects to a page, or to an address where nobody is."""
        return self.follows(self.asks("GET", address))

    def follows(self, answer):
        while answer.is_redirect:
            want(not answer.url.startswith(self.issuer) or answer.status_code == 303, f"a redirect by {answer.status_code}")
            address = answer.headers["location"]
            if not any(address.startswith(f"{site}/") for site in self.sites):
                return address, None
            answer = self.asks("GET", address)
        want(answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text}")
        return answer.url, Form(answer.text)

    def sends(self, form, **typed):
        return self.follows(self.asks("POST", self.issuer + form.action, data={**form.fields, **typed}))


def sign_up(channel, name):
    """Registers a person. Answers their handle."""
    handle = f"{name}-{secrets.token_hex(4)}"
    request = login.CreateAccountRequest(handle=handle, display_name=name.title(), password=PASSWORD)
    login_grpc.AccountServiceStub(channel).CreateAccount(request, timeout=PATIENCE_SECONDS)
    return handle


def register(channel, grant_admin, **registration):
    """Registers an application as an admin. Answers its id and its secret."""
    admin = sign_up(channel, "root")
    subprocess.run([*shlex.split(grant_admin), admin], check=True, capture_output=True)
    request = login.LoginRequest(handle=admin, password=PASSWORD)
    token = login_grpc.LoginServiceStub(channel).Login(request, timeout=PATIENCE_SECONDS).tokens.access_token
    made = clients_grpc.ClientServiceStub(channel).CreateClient(
        clients.CreateClientRequest(
            display_name="Wiki",
            scopes=["openid", "profile", "offline_access", "chat.read"],
            **{key: registration.pop(key) for key in ["confidential"] if key in registration},
            registration=clients.Registration(
                redirect_uris=registration.pop("redirect_uris", [CALLBACK]), post_logout_redirect_uris=[BYE], **registration
            ),
        ),
        metadata=(("authorization", f"Bearer {token}"),),
        timeout=PATIENCE_SECONDS,
    )
    return made.client.name.removeprefix("clients/"), made.client_secret
