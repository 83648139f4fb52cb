// Sns consumes notes, sign-ups and images of a topic of AWS SNS. One main, three ways to
// run it.
//
// As a service, which polls a queue that is subscribed to the topic, not raw:
//
//	export LOCALSTACK_ENDPOINT=http://… # or credentials and region of AWS
//	export CONFIG_SWARM_SOURCE_SQS=name-of-the-queue
//	go run ./examples/serverless/sns
//
// As a function of Lambda on your machine, with events of a file:
//
//	go run ./qtest/local/cmd/swarm-local -event event.json ./examples/serverless/sns
//
// As a function of Lambda that is subscribed to the topic itself:
//
//	GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -ldflags "-s -w" -o bootstrap ./examples/serverless/sns
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/fogfish/swarm/broker/sns"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/examples/serverless/internal/dev"
)

// Note is any Go type that encodes as JSON: the message.
type Note struct {
	Text string `json:"text"`
}

// SignUp is an event of swarm: data, and metadata beside it.
type SignUp = swarm.Event[swarm.Meta, User]

// User is the data of the event.
type User struct {
	Name string `json:"name"`
}

// source is the topic itself in Lambda, and a queue of its messages elsewhere.
func source() (*kernel.Listener, error) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		return sns.Listener().Build("")
	}
	return sqs.Listener().WithUnwrap(sqs.SNS).Build("")
}

func main() {
	dev.LocalStack()
	q := swarm.Must(source())

	// In Lambda a message is an invocation: one that fails is repeated twice.
	notes, noteAck := listen.Typed[Note](q)
	go consume(notes, noteAck, func(msg swarm.Msg[Note]) error {
		if msg.Object.Text == "" {
			return errors.New("the note is empty")
		}
		fmt.Printf("note %s %q\n", msg.ID, msg.Object.Text)
		return nil
	})

	signUps, signUpAck := listen.Event[SignUp](q)
	go consume(signUps, signUpAck, func(msg swarm.Msg[SignUp]) error {
		if msg.Object.Data == nil {
			return errors.New("nobody has signed up")
		}
		fmt.Printf("sign-up %s of %s\n", msg.ID, msg.Object.Data.Name)
		return nil
	})

	images, imageAck := listen.Bytes(q, codec.Bytes("Image"))
	go consume(images, imageAck, func(msg swarm.Msg[[]byte]) error {
		fmt.Printf("image %s has %d bytes\n", msg.ID, len(msg.Object))
		return nil
	})

	if err := q.Await(); err != nil {
		fmt.Fprintln(os.Stderr, "sns:", err)
		os.Exit(1)
	}
}

// consume processes messages until the kernel is closed.
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
