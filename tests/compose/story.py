"""Two people go on talking while the pods of every service are killed in turn: nothing that was answered is lost, doubled or out of
order, whoever it was that died. Told with the Python client of tests/clients against a cluster that `docker compose` runs."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time

import grpc

from flaghoist.login.v1 import login_pb2 as login
from flaghoist.login.v1 import login_pb2_grpc as login_grpc
from flaghoist.receiver.v1 import receiver_pb2 as receiver
from flaghoist.receiver.v1 import receiver_pb2_grpc as receiver_grpc
from flaghoist.send.v1 import conversation_pb2 as conversation
from flaghoist.send.v1 import conversation_pb2_grpc as conversation_grpc
from flaghoist.send.v1 import message_pb2 as message
from flaghoist.send.v1 import message_pb2_grpc as message_grpc
from steps import Broken, Stream, bearer, position, unique, want

# How many messages are sent around each death.
MESSAGES = 40
# How long anything may take until it is a fault.
PATIENCE_SECONDS = 90
# The codes after which a client tries again: the first is what the contracts say, the others are what a connection that breaks
# in the middle of a call may come to.
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}


def patiently(call, *arguments, **named):
    """Makes a call until it is answered, as a client with a request id may."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return call(*arguments, timeout=10, **named)
        except grpc.RpcError as error:
            if error.code() not in AGAIN or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def eventually(what, holds):
    """Waits until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        want(time.monotonic() < deadline, f"waited in vain until {what}")
        time.sleep(0.2)


class Person:
    """Someone with an account, and a token that is renewed by signing in again."""

    def __init__(self, channel, name):
        self._logins = login_grpc.LoginServiceStub(channel)
        self.handle, self._password = f"{name}-{unique()}", f"seven green {unique()}"
        account = login.CreateAccountRequest(handle=self.handle, password=self._password)
        self.user = login_grpc.AccountServiceStub(channel).CreateAccount(account, timeout=30).account.name
        self.signs_in()

    def signs_in(self):
        """Opens a session; a call that is tried again opens another, which does no harm."""
        request = login.LoginRequest(handle=self.handle, password=self._password)
        self.token = patiently(self._logins.Login, request).tokens.access_token


    def mistypes(self):
        """Tries the wrong password until that is not even looked at any more."""
        request = login.LoginRequest(handle=self.handle, password="not the password")
        for _ in range(30):
            try:
                self._logins.Login(request, timeout=30)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                    return
        raise Broken("wrong passwords are never throttled")


class Listener(threading.Thread):
    """A device that listens on, from where it was, however often its stream ends."""

    def __init__(self, channel, person):
        super().__init__(daemon=True)
        self._receivers = receiver_grpc.ReceiverServiceStub(channel)
        self._person = person
        self._ending = False
        self._streams = []
        self.start()

    def run(self):
        while not self._ending:
            try:
                self._listens(Stream(self._receivers, self._person.token, "phone"))
            except (grpc.RpcError, Broken):
                time.sleep(0.1)

    def _listens(self, stream):
        events = []
        self._streams.append(events)
        while not self._ending:
            event = stream.until("event")
            events.append(event)
            stream.says(ack=receiver.Ack(positions=[position(event)]))

    def ends(self):
        """Opens no stream any more."""
        self._ending = True

    @property
    def reopened(self):
        """How often a stream had to be opened again."""
        return len(self._streams) - 1

    def ordered(self):
        """Whether every stream brought its events in order."""
        places = [[event.seq for event in events] for events in self._streams]
        return all(came == sorted(set(came)) for came in places)

    def texts(self):
        """The messages by their place; one that came on two streams is one."""
        events = [event for events in self._streams for event in events]
        created = {e.seq: e.message_created.text for e in events if e.WhichOneof("change") == "message_created"}
        return [created[seq] for seq in sorted(created)]


class Pods:
    """The containers of the project."""

    def __init__(self, project):
        self._project = project

    def of(self, service):
        """The ids of a service's running containers."""
        labels = (f"com.docker.compose.project={self._project}", f"com.docker.compose.service={service}")
        return self._docker("ps", "--quiet", *(word for label in labels for word in ("--filter", f"label={label}"))).split()

    def kills(self, container):
        """Kills its process, as a crash would; Docker starts it again by its policy."""
        os.kill(int(self._docker("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)

    def restarts(self, container):
        """How often Docker has started it again."""
        return int(self._docker("inspect", "--format", "{{.RestartCount}}", container))

    @staticmethod
    def _docker(*words):
        return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def tell(channel, pods, services, announce):
    """The story."""
    alice, bob = Person(channel, "alice"), Person(channel, "bob")
    conversations = conversation_grpc.ConversationServiceStub(channel)
    messages = message_grpc.MessageServiceStub(channel)
    begin = conversation.CreateConversationRequest(
        request_id=unique(), direct=conversation.DirectConversation(user=bob.user)
    )
    parent = patiently(conversations.CreateConversation, begin, metadata=bearer(alice.token)).conversation.name
    phone = Listener(channel, bob)
    sent, repeated = [], 0
    for service in services:
        # All of them, one after the other, so that whoever has the stream or the batch is among them.
        for victim in pods.of(service):
            restarts = pods.restarts(victim)
            for number in range(MESSAGES):
                if number == MESSAGES // 4:
                    pods.kills(victim)
                text = f"{service} {victim} {number}"
                request = message.CreateMessageRequest(parent=parent, request_id=unique(), text=text)
                answer = patiently(messages.CreateMessage, request, metadata=bearer(alice.token))
                sent.append(text)
                repeated += answer.deduplicated
            # Tokens are still checked and people known, whoever died; and new sessions are made.
            alice.signs_in()
            bob.signs_in()
            eventually(f"{service} was started again", lambda: pods.restarts(victim) > restarts)
            eventually("everything arrived", lambda: phone.texts() == sent)
        announce(f"{service} was killed, every pod of it: all {len(sent)} messages so far arrived, in order")
    phone.ends()
    want(phone.ordered(), "a stream brought events out of order, or one of them twice")

    bob.mistypes()
    announce("wrong passwords are throttled, whichever pod looks at them")

    page, kept = "", []
    while True:
        ask = message.ListMessagesRequest(parent=parent, page_size=200, page_token=page, oldest_first=True)
        answer = patiently(messages.ListMessages, ask, metadata=bearer(bob.token))
        kept += answer.messages
        page = answer.next_page_token
        if not page:
            break
    want([found.text for found in kept] == sent, "what is kept is not what was sent")
    want([found.message_no for found in kept] == list(range(1, len(sent) + 1)), "the numbers of the messages have gaps")
    announce(
        f"{len(kept)} messages are kept, each once; {repeated} answers were lost and had again, "
        f"the stream was opened again {phone.reopened} times"
    )


def main():
    """Tells the story to the cluster that the command line names."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--target", required=True, help="host and port of the gateway's gRPC port")
    arguments.add_argument("--project", required=True, help="the project of `docker compose`")
    arguments.add_argument("services", nargs="+", help="of whom a pod is killed, in this order")
    given = arguments.parse_args()
    try:
        with grpc.insecure_channel(given.target) as channel:
            tell(channel, Pods(given.project), given.services, lambda step: print(f"ok - compose: {step}", flush=True))
    except Broken as reason:
        sys.exit(f"not ok - {reason}")
    except grpc.RpcError as error:
        sys.exit(f"not ok - a call failed: {error.code()}: {error.details()}")


if __name__ == "__main__":
    main()
