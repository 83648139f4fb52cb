// Sqs consumes notes, sign-ups and images of a queue of AWS SQS. It welcomes who has signed
// up, if there is a queue to send that to. One main, three ways to run it.
//
// As a service, which polls the queue until SIGTERM or Ctrl-C:
//
//	export LOCALSTACK_ENDPOINT=http://… # or credentials and region of AWS
//	export CONFIG_SWARM_SOURCE_SQS=name-of-the-queue
//	export CONFIG_SWARM_TARGET_SQS=name-of-the-queue-for-welcomes # if you like
//	go run ./examples/serverless/sqs
//
// As a function of Lambda on your machine, which starts when messages come:
//
//	go run ./qtest/local/cmd/swarm-local -queue name-of-the-queue ./examples/serverless/sqs
//
// As a function of Lambda: an event source mapping of the queue, with
// ReportBatchItemFailures, invokes
//
//	GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -ldflags "-s -w" -o bootstrap ./examples/serverless/sqs
package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/examples/serverless/internal/dev"
)

// Note is any Go type that encodes as JSON.
type Note struct {
	Text      string    `json:"text"`
	NotBefore time.Time `json:"notBefore,omitzero"`
}

// SignUp is an event: data, and metadata beside it.
type SignUp = swarm.Event[swarm.Meta, User]

// User is the data of the event.
type User struct {
	Name string `json:"name"`
}

// Welcome is what we send.
type Welcome struct {
	Name string `json:"name"`
}

func main() {
	dev.LocalStack()

	// A poller, or in Lambda a handler of invocations: Build looks where it is.
	in := swarm.Must(sqs.Listener().Build(""))
	kernels := []swarm.Kernel{in}

	welcome := func(Welcome) {}
	if os.Getenv(sqs.EnvTarget) != "" {
		out := swarm.Must(sqs.Emitter().
			WithKernel(swarm.WithSource("examples/serverless"), swarm.WithEmitWindow(10)).
			Build(""))
		enq := swarm.LogDeadLetters(emit.Typed[Welcome](out))
		welcome = func(w Welcome) { enq <- w }
		kernels = append(kernels, out)
	}

	notes, noteAck := listen.Typed[Note](in)
	go consume(notes, noteAck, func(msg swarm.Msg[Note]) error {
		if msg.Object.Text == "" {
			return errors.New("the note is empty") // it comes again, until the queue has enough of it
		}
		if early := time.Until(msg.Object.NotBefore); early > 0 {
			return swarm.RetryAfter(early, errors.New("the note is early"))
		}
		fmt.Printf("note %s %q, attempt %d\n", msg.ID, msg.Object.Text, msg.Attempt)
		return nil
	})

	// Lambda stops the process when it has nothing to do. Nobody waits for a welcome here,
	// and yet it is not lost: an invocation ends when SQS has what was sent during it.
	signUps, signUpAck := listen.Event[SignUp](in)
	go consume(signUps, signUpAck, func(msg swarm.Msg[SignUp]) error {
		if msg.Object.Data == nil {
			return errors.New("nobody has signed up")
		}
		fmt.Printf("sign-up %s of %s\n", msg.ID, msg.Object.Data.Name)
		welcome(Welcome{Name: msg.Object.Data.Name})
		return nil
	})

	images, imageAck := listen.Bytes(in, codec.Bytes("Image"))
	go consume(images, imageAck, func(msg swarm.Msg[[]byte]) error {
		fmt.Printf("image %s has %d bytes\n", msg.ID, len(msg.Object))
		return nil
	})

	// The service drains: the listener first, then what it has sent.
	if err := swarm.Await(kernels...); err != nil {
		fmt.Fprintln(os.Stderr, "sqs:", err)
		os.Exit(1)
	}
}

// consume processes messages until the kernel is closed. One that fails comes again, the
// others of its batch do not.
func consume[T any](deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T], process func(swarm.Msg[T]) error) {
	for msg := range deq {
		if err := process(msg); err != nil {
			fmt.Fprintf(os.Stderr, "%s %s failed: %v\n", msg.Category, msg.ID, err)
			ack <- msg.Fail(err)
			continue
		}
		ack <- msg
	}
}
