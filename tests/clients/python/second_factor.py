"""An authenticator app that nobody here wrote (pyotp) is the other side of one-time codes: someone enrols it from the address that
its picture holds, signs in with the codes that it shows, and finds that each is good once. Every step is checked and printed; the
first one that goes wrong ends the program."""

import argparse
import sys
import time

import grpc
import pyotp

from conversation import signs_up
from flaghoist.login.v1 import login_pb2 as login
from flaghoist.login.v1 import login_pb2_grpc as login_grpc
from steps import PATIENCE_SECONDS, Broken, bearer, ok, refused, want

# How long a code is shown.
STEP_SECONDS = 30


def hold(channel):
    """Enrols an app and signs in with it."""
    credentials = login_grpc.CredentialServiceStub(channel)
    logins = login_grpc.LoginServiceStub(channel)
    handle, tokens, password = signs_up(channel, "carol")
    as_carol = {"metadata": bearer(tokens.access_token), "timeout": PATIENCE_SECONDS}

    # The app is told by the address, as when it reads the picture; typed in, the secret means the same.
    enrolment = credentials.EnrollTotp(login.EnrollTotpRequest(), **as_carol)
    app = pyotp.parse_uri(enrolment.uri)
    want(isinstance(app, pyotp.TOTP) and app.secret == enrolment.secret, f"another secret: {enrolment.uri}")
    want(app.name == handle and app.issuer, f"the app would not say whose it is: {enrolment.uri}")
    want((app.digits, app.interval) == (6, STEP_SECONDS), f"codes of another kind: {enrolment.uri}")
    ok("an authenticator app reads the address")

    # One moment for all codes: however slow this goes, the one of the next step is good for a minute.
    now = int(time.time())
    codes = {steps: app.at(now + steps * STEP_SECONDS) for steps in (-3, 0, 1, 4)}
    for steps in (-3, 4):
        refused(
            lambda: credentials.ConfirmTotp(login.ConfirmTotpRequest(code=codes[steps]), **as_carol),
            grpc.StatusCode.UNAUTHENTICATED,
            "CREDENTIALS_INVALID",
        )
    confirmed = credentials.ConfirmTotp(login.ConfirmTotpRequest(code=codes[0]), **as_carol)
    want(len(confirmed.recovery_codes) == 10, f"{len(confirmed.recovery_codes)} recovery codes")
    ok("a code of the app confirms it, one that it showed before or will show later does not")

    request = login.LoginRequest(handle=handle, password=password)
    refused(
        lambda: logins.Login(request, timeout=PATIENCE_SECONDS),
        grpc.StatusCode.FAILED_PRECONDITION,
        "SECOND_FACTOR_REQUIRED",
    )
    begun = half_signed_in(logins, handle, password)
    # RFC 6238 §5.2: the code of the enrolment is not taken again.
    used = login.SubmitTotpRequest(login=begun, code=codes[0])
    refused(
        lambda: logins.SubmitTotp(used, timeout=PATIENCE_SECONDS),
        grpc.StatusCode.UNAUTHENTICATED,
        "CREDENTIALS_INVALID",
    )
    answer = logins.SubmitTotp(login.SubmitTotpRequest(login=begun, code=codes[1]), timeout=PATIENCE_SECONDS)
    want(answer.signed_in.tokens.access_token, "there is no token")
    ok("the next code of the app signs in, the one of the enrolment does not")

    again = login.SubmitTotpRequest(login=half_signed_in(logins, handle, password), code=codes[1])
    refused(
        lambda: logins.SubmitTotp(again, timeout=PATIENCE_SECONDS),
        grpc.StatusCode.UNAUTHENTICATED,
        "CREDENTIALS_INVALID",
    )
    ok("a code is good once")


def half_signed_in(logins, handle, password):
    """Begins a login and takes its first step; answers what names it."""
    begun = logins.StartLogin(login.StartLoginRequest(handle=handle), timeout=PATIENCE_SECONDS).login
    step = logins.SubmitPassword(
        login.SubmitPasswordRequest(login=begun, password=password), timeout=PATIENCE_SECONDS
    )
    want(step.WhichOneof("next") == "second_factors", f"no second factor is asked for: {step.WhichOneof('next')}")
    return begun


def main():
    """Asks the server that the command line names."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--target", default="127.0.0.1:9000", help="host and port of the public gRPC port")
    try:
        with grpc.insecure_channel(arguments.parse_args().target) as channel:
            hold(channel)
    except Broken as reason:
        sys.exit(f"not ok - {reason}")
    except grpc.RpcError as error:
        sys.exit(f"not ok - a call failed: {error.code()}: {error.details()}")


if __name__ == "__main__":
    main()
