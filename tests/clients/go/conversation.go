package main

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	auth "example.com/first-conversation/gen/flaghoist/auth/v1"
	login "example.com/first-conversation/gen/flaghoist/login/v1"
	receiver "example.com/first-conversation/gen/flaghoist/receiver/v1"
	send "example.com/first-conversation/gen/flaghoist/send/v1"
)

// The client that people sign in with when none is named.
const clientID = "flaghoist-cli"

// hold holds the conversation from registering to signing out.
func hold(ctx context.Context, connection *grpc.ClientConn) (err error) {
	defer func() {
		if reason, is := recover().(broken); is {
			err = reason
		}
	}()

	accounts := login.NewAccountServiceClient(connection)
	conversations := send.NewConversationServiceClient(connection)
	messages := send.NewMessageServiceClient(connection)
	receivers := receiver.NewReceiverServiceClient(connection)
	tokens := auth.NewTokenServiceClient(connection)

	// Two people.
	alice, bob := signsUp(ctx, connection, "alice"), signsUp(ctx, connection, "bob")
	asAlice, asBob := as(ctx, alice.AccessToken), as(ctx, bob.AccessToken)
	ok("two people registered and signed in")

	// Bob's phone listens.
	phone := stream{must(receivers.Receive(asBob))}
	phone.says(&receiver.ReceiveRequest{Request: &receiver.ReceiveRequest_Open{
		Open: &receiver.Open{Device: "users/me/devices/phone"},
	}})
	until(phone, "having caught up", func(response *receiver.ReceiveResponse) (bool, bool) {
		return true, response.GetCaughtUp() != nil
	})
	ok("a stream is open and has caught up")

	// Alice writes to him.
	found := must(accounts.LookupAccount(asAlice, &login.LookupAccountRequest{Handle: "@" + bob.handle}))
	begun := must(conversations.CreateConversation(asAlice, &send.CreateConversationRequest{
		RequestId: unique(),
		Kind: &send.CreateConversationRequest_Direct{
			Direct: &send.DirectConversation{User: found.Account.Name},
		},
	}))
	conversation := begun.Conversation.Name
	request := &send.CreateMessageRequest{Parent: conversation, RequestId: unique(), Text: "hi from Go"}
	first := must(messages.CreateMessage(asAlice, request))
	again := must(messages.CreateMessage(asAlice, request))
	want(!first.Deduplicated, "the first send was told to be a repetition")
	want(again.Deduplicated, "the second send was not recognised as a repetition")
	want(again.Message.Name == first.Message.Name, "a repetition made another message: %s", again.Message.Name)
	ok("a message is sent; sent again with its request id it is the same one")

	// It arrives, once, and bob says that he has it and has read it.
	event := phone.message()
	want(event.GetMessageCreated().Text == request.Text, "another text arrived")
	phone.acknowledges(event)
	ok("it was received live and the acknowledgement is answered")

	read := must(receivers.MarkRead(asBob, &receiver.MarkReadRequest{
		Position: &receiver.Position{Conversation: conversation, Epoch: event.Epoch, Seq: event.Seq},
	}))
	want(read.Receipt.ReadSeq == event.Seq, "the watermark is %d and not %d", read.Receipt.ReadSeq, event.Seq)
	status := must(messages.GetMessageStatus(asAlice, &send.GetMessageStatusRequest{Name: first.Message.Name}))
	want(status.Status == send.MessageStatus_MESSAGE_STATUS_READ, "the sender sees %v", status.Status)
	ok("it is read, and the sender sees that")

	// Bob gets new tokens and gives the new access token to the stream, which would end with the old one.
	renewal := &auth.IssueTokenRequest{
		Client: &auth.ClientCredentials{ClientId: clientID},
		Grant: &auth.IssueTokenRequest_RefreshToken{
			RefreshToken: &auth.RefreshTokenGrant{RefreshToken: bob.RefreshToken},
		},
	}
	renewed := must(tokens.IssueToken(ctx, renewal)).Tokens
	repeated := must(tokens.IssueToken(ctx, renewal)).Tokens
	want(renewed.RefreshToken != bob.RefreshToken, "the refresh token was not replaced")
	want(repeated.RefreshToken == renewed.RefreshToken, "a lost answer cannot be had again")
	phone.says(&receiver.ReceiveRequest{Request: &receiver.ReceiveRequest_RefreshToken{
		RefreshToken: &receiver.RefreshToken{AccessToken: renewed.AccessToken},
	}})
	must(messages.CreateMessage(asAlice, &send.CreateMessageRequest{
		Parent: conversation, RequestId: unique(), Text: "still there?",
	}))
	next := phone.message()
	want(next.PreviousSeq == event.Seq, "the stream left something out, or brought something twice")
	phone.acknowledges(next)
	ok("tokens are renewed, and the stream goes on with the new one")

	// What is wrong is told in full.
	_, err = messages.CreateMessage(asAlice, &send.CreateMessageRequest{Parent: conversation, Text: "no request id"})
	details := refused(err, codes.InvalidArgument, "FIELD_VIOLATION")
	want(violates(details, "request_id"), "the error does not name the field: %v", details)
	ok("a field that breaks its rule is named")

	other := &send.CreateMessageRequest{Parent: conversation, RequestId: request.RequestId, Text: "something else"}
	_, err = messages.CreateMessage(asAlice, other)
	refused(err, codes.FailedPrecondition, "REQUEST_ID_REUSED")
	ok("a request id with other content is refused")

	_, err = conversations.ListConversations(as(ctx, "garbage"), &send.ListConversationsRequest{})
	refused(err, codes.Unauthenticated, "TOKEN_INVALID")
	_, err = conversations.ListConversations(ctx, &send.ListConversationsRequest{})
	refused(err, codes.Unauthenticated, "TOKEN_MISSING")
	ok("a token that is none, and no token, are UNAUTHENTICATED")
	return nil
}

// person is who signed in: the handle, and the tokens as they were issued.
type person struct {
	*auth.TokenSet
	handle string
}

// signsUp registers a person under a name that is still free and signs them in.
func signsUp(ctx context.Context, connection *grpc.ClientConn, name string) person {
	handle, password := name+"-"+unique(), "seven green "+unique()
	must(login.NewAccountServiceClient(connection).CreateAccount(ctx, &login.CreateAccountRequest{
		Handle: handle, Password: password,
	}))
	answer := must(login.NewLoginServiceClient(connection).Login(ctx, &login.LoginRequest{
		Handle: handle, Password: password, Label: "first conversation",
	}))
	return person{answer.Tokens, handle}
}

// violates says whether a field is among those that an error complains of.
func violates(details []any, field string) bool {
	for _, detail := range details {
		if request, is := detail.(*errdetails.BadRequest); is {
			for _, violation := range request.FieldViolations {
				if violation.Field == field {
					return true
				}
			}
		}
	}
	return false
}
