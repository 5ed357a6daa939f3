package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"google.golang.org/grpc/codes"

	receiver "example.com/first-conversation/gen/flaghoist/receiver/v1"
	send "example.com/first-conversation/gen/flaghoist/send/v1"
)

// broken is how a step fails: it ends the story, and hold makes an error of it.
type broken struct{ error }

// ok prints that a step was as it should be.
func ok(format string, values ...any) { fmt.Printf("ok - go: "+format+"\n", values...) }

// want ends the story unless what it says is so.
func want(so bool, format string, values ...any) {
	if !so {
		panic(broken{fmt.Errorf(format, values...)})
	}
}

// must answers what a call answered, or ends the story with its error.
func must[T any](answer T, err error) T {
	want(err == nil, "a call failed: %v", err)
	return answer
}

// as makes a call the call of whoever holds the token.
func as(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

// unique is an id that nobody has used: for requests, and for the handles of a server that is shared.
func unique() string {
	bytes := make([]byte, 8)
	rand.Read(bytes) // never fails, says its documentation
	return hex.EncodeToString(bytes)
}

// refused checks the code and the reason of an error, and answers its details.
func refused(err error, code codes.Code, reason string) []any {
	told := status.Convert(err)
	want(told.Code() == code, "%v was to be expected, and it was %v: %s", code, told.Code(), told.Message())
	for _, detail := range told.Details() {
		if info, is := detail.(*errdetails.ErrorInfo); is {
			want(info.Reason == reason, "the reason %s was to be expected, and it was %s", reason, info.Reason)
			return told.Details()
		}
	}
	panic(broken{fmt.Errorf("the error has no ErrorInfo: %v", told)})
}

// stream is the live stream of a device.
type stream struct {
	receiver.ReceiverService_ReceiveClient
}

// says sends one request.
func (s stream) says(request *receiver.ReceiveRequest) {
	want(s.Send(request) == nil, "the stream has ended")
}

// until reads on until `wanted` finds what it looks for. Signs of life and receipts may come at any time.
func until[T any](s stream, what string, wanted func(*receiver.ReceiveResponse) (T, bool)) T {
	for {
		response, err := s.Recv()
		want(err == nil, "the stream ended before %s: %v", what, err)
		if found, is := wanted(response); is {
			return found
		}
	}
}

// message reads on until the event that brings a new message.
func (s stream) message() *send.Event {
	return until(s, "the message", func(response *receiver.ReceiveResponse) (*send.Event, bool) {
		return response.GetEvent(), response.GetEvent().GetMessageCreated() != nil
	})
}

// acknowledges says that everything up to the event is kept here, and reads on until that is answered.
func (s stream) acknowledges(event *send.Event) {
	position := &receiver.Position{Conversation: event.Conversation, Epoch: event.Epoch, Seq: event.Seq}
	s.says(&receiver.ReceiveRequest{Request: &receiver.ReceiveRequest_Ack{
		Ack: &receiver.Ack{Positions: []*receiver.Position{position}},
	}})
	until(s, "the answer to the acknowledgement", func(response *receiver.ReceiveResponse) (bool, bool) {
		for _, kept := range response.GetAcknowledged().GetPositions() {
			if kept.Conversation == event.Conversation && kept.Seq >= event.Seq {
				return true, true
			}
		}
		return false, false
	})
}
