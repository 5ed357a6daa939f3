"""A first conversation with flaghoist from Python, held with what protoc generates from the contracts: two people register
and sign in, one writes, the other receives on a live stream, acknowledges and reads. Every step is checked and printed; the
first one that goes wrong ends the program."""

import argparse
import sys

import grpc
from google.rpc import error_details_pb2

from flaghoist.auth.v1 import token_pb2 as auth
from flaghoist.auth.v1 import token_pb2_grpc as auth_grpc
from flaghoist.login.v1 import login_pb2 as login
from flaghoist.login.v1 import login_pb2_grpc as login_grpc
from flaghoist.receiver.v1 import receiver_pb2 as receiver
from flaghoist.receiver.v1 import receiver_pb2_grpc as receiver_grpc
from flaghoist.send.v1 import conversation_pb2 as conversation
from flaghoist.send.v1 import conversation_pb2_grpc as conversation_grpc
from flaghoist.send.v1 import message_pb2 as message
from flaghoist.send.v1 import message_pb2_grpc as message_grpc
from steps import PATIENCE_SECONDS, Broken, Stream, bearer, ok, position, refused, unique, want

# The client that people sign in with when none is named.
CLIENT_ID = "flaghoist-cli"


def hold(channel):
    """Holds the conversation from registering to the errors."""
    accounts = login_grpc.AccountServiceStub(channel)
    conversations = conversation_grpc.ConversationServiceStub(channel)
    messages = message_grpc.MessageServiceStub(channel)
    receivers = receiver_grpc.ReceiverServiceStub(channel)
    tokens = auth_grpc.TokenServiceStub(channel)

    # Two people.
    (_, alice, _), (bobs_handle, bob, _) = signs_up(channel, "alice"), signs_up(channel, "bob")
    as_alice = {"metadata": bearer(alice.access_token), "timeout": PATIENCE_SECONDS}
    as_bob = {"metadata": bearer(bob.access_token), "timeout": PATIENCE_SECONDS}
    ok("two people registered and signed in")

    # Bob's phone listens.
    phone = Stream(receivers, bob.access_token, "phone")
    phone.until("caught_up")
    ok("a stream is open and has caught up")

    # Alice writes to him.
    found = accounts.LookupAccount(login.LookupAccountRequest(handle=f"@{bobs_handle}"), **as_alice)
    begun = conversations.CreateConversation(
        conversation.CreateConversationRequest(
            request_id=unique(), direct=conversation.DirectConversation(user=found.account.name)
        ),
        **as_alice,
    )
    parent = begun.conversation.name
    request = message.CreateMessageRequest(parent=parent, request_id=unique(), text="hi from Python")
    first = messages.CreateMessage(request, **as_alice)
    again = messages.CreateMessage(request, **as_alice)
    want(not first.deduplicated, "the first send was told to be a repetition")
    want(again.deduplicated, "the second send was not recognised as a repetition")
    want(again.message.name == first.message.name, f"a repetition made another message: {again.message.name}")
    ok("a message is sent; sent again with its request id it is the same one")

    # It arrives, once, and bob says that he has it and has read it.
    event = phone.message()
    want(event.message_created.text == request.text, "another text arrived")
    phone.acknowledges(event)
    ok("it was received live and the acknowledgement is answered")

    read = receivers.MarkRead(receiver.MarkReadRequest(position=position(event)), **as_bob)
    want(read.receipt.read_seq == event.seq, f"the watermark is {read.receipt.read_seq} and not {event.seq}")
    status = messages.GetMessageStatus(message.GetMessageStatusRequest(name=first.message.name), **as_alice).status
    want(status == message.MESSAGE_STATUS_READ, f"the sender sees {message.MessageStatus.Name(status)}")
    ok("it is read, and the sender sees that")

    # Bob gets new tokens and gives the new access token to the stream, which would end with the old one.
    renewal = auth.IssueTokenRequest(
        client=auth.ClientCredentials(client_id=CLIENT_ID),
        refresh_token=auth.RefreshTokenGrant(refresh_token=bob.refresh_token),
    )
    renewed = tokens.IssueToken(renewal, timeout=PATIENCE_SECONDS).tokens
    repeated = tokens.IssueToken(renewal, timeout=PATIENCE_SECONDS).tokens
    want(renewed.refresh_token != bob.refresh_token, "the refresh token was not replaced")
    want(repeated.refresh_token == renewed.refresh_token, "a lost answer cannot be had again")
    phone.says(refresh_token=receiver.RefreshToken(access_token=renewed.access_token))
    further = message.CreateMessageRequest(parent=parent, request_id=unique(), text="still there?")
    messages.CreateMessage(further, **as_alice)
    following = phone.message()
    want(following.previous_seq == event.seq, "the stream left something out, or brought something twice")
    phone.acknowledges(following)
    phone.ends()
    ok("tokens are renewed, and the stream goes on with the new one")

    # What is wrong is told in full.
    nameless = message.CreateMessageRequest(parent=parent, text="no request id")
    details = refused(
        lambda: messages.CreateMessage(nameless, **as_alice), grpc.StatusCode.INVALID_ARGUMENT, "FIELD_VIOLATION"
    )
    violations = details[error_details_pb2.BadRequest].field_violations
    want("request_id" in [violation.field for violation in violations], f"the field is not named: {violations}")
    ok("a field that breaks its rule is named")

    other = message.CreateMessageRequest(parent=parent, request_id=request.request_id, text="something else")
    refused(
        lambda: messages.CreateMessage(other, **as_alice), grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED"
    )
    ok("a request id with other content is refused")

    for metadata, reason in ((bearer("garbage"), "TOKEN_INVALID"), ((), "TOKEN_MISSING")):
        refused(
            lambda: conversations.ListConversations(
                conversation.ListConversationsRequest(), metadata=metadata, timeout=PATIENCE_SECONDS
            ),
            grpc.StatusCode.UNAUTHENTICATED,
            reason,
        )
    ok("a token that is none, and no token, are UNAUTHENTICATED")


def signs_up(channel, name):
    """Registers a person under a name that is still free and signs them in; answers the handle, the tokens and the password."""
    handle, password = f"{name}-{unique()}", f"seven green {unique()}"
    login_grpc.AccountServiceStub(channel).CreateAccount(
        login.CreateAccountRequest(handle=handle, password=password), timeout=PATIENCE_SECONDS
    )
    answer = login_grpc.LoginServiceStub(channel).Login(
        login.LoginRequest(handle=handle, password=password, label="first conversation"), timeout=PATIENCE_SECONDS
    )
    return handle, answer.tokens, password


def main():
    """Holds the conversation with the server that the command line names."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--target", default="127.0.0.1:9000", help="host and port of the public gRPC port")
    target = arguments.parse_args().target
    try:
        # Plain text, as inside a mesh or on one's own machine. From outside: grpc.secure_channel.
        with grpc.insecure_channel(target) as channel:
            hold(channel)
    except Broken as reason:
        sys.exit(f"not ok - {reason}")
    except grpc.RpcError as error:
        sys.exit(f"not ok - a call failed: {error.code()}: {error.details()}")


if __name__ == "__main__":
    main()
