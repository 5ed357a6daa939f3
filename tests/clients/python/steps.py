"""What the story in conversation.py is told with: steps that are checked and printed, calls in somebody's name, errors with
their details, and the live stream of a device."""

import queue
import secrets

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from flaghoist.receiver.v1 import receiver_pb2 as receiver

# How long a single call or the next response of a stream is waited for.
PATIENCE_SECONDS = 30


class Broken(Exception):
    """A step did not go as it should."""


def ok(step):
    """Prints that a step was as it should be."""
    print(f"ok - python: {step}", flush=True)


def want(so, otherwise):
    """Ends the story with `otherwise` unless what is claimed is so."""
    if not so:
        raise Broken(otherwise)


def bearer(token):
    """The metadata that makes a call the call of whoever holds the token."""
    return (("authorization", f"Bearer {token}"),)


def unique():
    """An id that nobody has used: for requests, and for the handles of a server that is shared."""
    return secrets.token_hex(8)


def refused(call, code, reason):
    """Checks that a call is refused with that code and reason, and answers the details of the error by their type."""
    try:
        call()
    except grpc.RpcError as error:
        want(error.code() == code, f"{code} was to be expected, and it was {error.code()}: {error.details()}")
        details = {}
        for packed in rpc_status.from_call(error).details:
            for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                if packed.Is(kind.DESCRIPTOR):
                    details[kind] = kind.FromString(packed.value)
        told = details[error_details_pb2.ErrorInfo].reason
        want(told == reason, f"the reason {reason} was to be expected, and it was {told}")
        return details
    raise Broken(f"{code} was to be expected, and the call was answered")


class Stream:
    """The live stream of a device: what it says goes into a queue that gRPC reads from."""

    def __init__(self, receivers, token, device):
        self._said = queue.SimpleQueue()
        self.says(open=receiver.Open(device=f"users/me/devices/{device}"))
        self._heard = receivers.Receive(iter(self._said.get, None), metadata=bearer(token), timeout=PATIENCE_SECONDS)

    def says(self, **request):
        """Says one thing: `open`, `ack`, `typing`, `heartbeat` or `refresh_token`."""
        self._said.put(receiver.ReceiveRequest(**request))

    def until(self, kind, wanted=lambda content: True):
        """Reads on until a response of that kind for which `wanted` holds. Signs of life and receipts may come at any
        time."""
        for response in self._heard:
            if response.WhichOneof("response") == kind:
                content = getattr(response, kind)
                if wanted(content):
                    return content
        raise Broken(f"the stream ended before {kind}")

    def message(self):
        """Reads on until the event that brings a new message."""
        return self.until("event", lambda event: event.WhichOneof("change") == "message_created")

    def acknowledges(self, event):
        """Says that everything up to the event is kept here, and reads on until that is answered."""
        self.says(ack=receiver.Ack(positions=[position(event)]))
        self.until("acknowledged", lambda answer: position(event) in answer.positions)

    def ends(self):
        """Ends the stream from this side."""
        self._said.put(None)
        self._heard.cancel()


def position(event):
    """The place of an event."""
    return receiver.Position(conversation=event.conversation, epoch=event.epoch, seq=event.seq)
