// A first conversation with flaghoist from Go, held with what buf generates from the contracts: two people register and
// sign in, one writes, the other receives on a live stream, acknowledges and reads. Every step is checked and printed; the
// first one that goes wrong ends the program. conversation.go is the story, steps.go what it is told with.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The whole conversation takes about a second; a server that does not answer is not waited for longer than this.
const patience = 60 * time.Second

func main() {
	target := flag.String("target", "127.0.0.1:9000", "host and port of the public gRPC port")
	flag.Parse()

	// Plain text, as inside a mesh or on one's own machine. From outside: credentials.NewTLS(nil).
	connection, err := grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "the address cannot be used:", err)
		os.Exit(2)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := hold(ctx, connection); err != nil {
		fmt.Fprintln(os.Stderr, "not ok -", err)
		os.Exit(1)
	}
}
