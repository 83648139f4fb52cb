// Sns publishes notes, an event and an image to a topic of AWS SNS. A queue subscribes to
// it, where a service consumes them and refuses one once. It prints a ledger that adds up.
// Topic and queue are made in the beginning, and deleted in the end.
//
//	make localstack                      # in another terminal; it prints the next line
//	export LOCALSTACK_ENDPOINT=http://…
//	go run ./examples/sns
//
// Without LOCALSTACK_ENDPOINT it talks to AWS itself, by your credentials. Press Ctrl-C in
// the middle: it drains, and the ledger still adds up.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/fogfish/swarm/broker/sns"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/examples/internal/aws"
)

// Note is what we send: any Go type that encodes as JSON.
type Note struct {
	Page int    `json:"page"`
	Text string `json:"text"`
}

// SignUp is an event: data, and metadata beside it.
type SignUp = swarm.Event[swarm.Meta, User]

// User is the data of the event.
type User struct {
	Name string `json:"name"`
}

// image is no text: it travels as base64, which nobody has to know.
var image = []byte("\x89PNG\r\n\x1a\n")

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sns:", err)
		os.Exit(1)
	}
}

func run() error {
	// A topic, and a queue that subscribes to it. By the client of the SDK: swarm makes
	// none of them.
	ctx := context.Background()
	cfg, err := aws.Config(ctx)
	if err != nil {
		return err
	}
	queue, err := aws.NewQueue(ctx, cfg, aws.Name("swarm-example"))
	if err != nil {
		return err
	}
	defer queue.Delete(ctx)
	topic, err := aws.NewTopic(ctx, cfg, aws.Name("swarm-example"))
	if err != nil {
		return err
	}
	defer topic.Delete(ctx)
	if err := topic.Subscribe(ctx, queue, nil); err != nil {
		return err
	}

	// A kernel that publishes to the topic, and one that finds the messages in the queue,
	// each in the envelope of SNS. In your system these are two programs.
	out, err := sns.Emitter().
		WithConfig(cfg).
		WithKernel(
			swarm.WithSource("examples/sns"), // the agent of what we send
			swarm.WithEmitWindow(10),         // up to 10 notes in a request
		).
		Build(topic.ARN)
	if err != nil {
		return err
	}
	in, err := sqs.Listener().
		WithConfig(cfg).
		WithUnwrap(sqs.SNS). // not if the subscription has raw delivery
		Build(queue.Name)
	if err != nil {
		return err
	}

	// To send: a channel for notes, calls for the rest. A note that is not delivered goes
	// to the log, and is told to us here.
	l := aws.NewLedger(queue)
	notes := swarm.LogDeadLetters(emit.Typed[Note](out, emit.OnFailure(func(Note, error) { l.Undelivered() })))
	signUps := emit.NewEvent[SignUp](out)
	images := emit.NewBytes(out, codec.Bytes("Image"))

	// To receive: a pair of channels for each category. What fails comes again.
	var work sync.WaitGroup
	noteDeq, noteAck := listen.Typed[Note](in)
	work.Go(func() {
		for msg := range noteDeq { // until the kernel is closed
			if msg.Object.Page == 3 && msg.Attempt == 1 {
				l.Failed()
				noteAck <- msg.Fail(errors.New("not today"))
				continue
			}
			fmt.Printf("note    %q, page %d, attempt %d\n", msg.Object.Text, msg.Object.Page, msg.Attempt)
			l.Processed(msg.ID)
			noteAck <- msg
		}
	})
	signUpDeq, signUpAck := listen.Event[SignUp](in)
	work.Go(func() {
		for msg := range signUpDeq {
			fmt.Printf("event   %s signed up, says %s\n", msg.Object.Data.Name, msg.Object.Meta.Agent)
			l.Processed(msg.ID)
			signUpAck <- msg
		}
	})
	imageDeq, imageAck := listen.Bytes(in, codec.Bytes("Image"))
	work.Go(func() {
		for msg := range imageDeq {
			fmt.Printf("bytes   %q\n", msg.Object)
			l.Processed(msg.ID)
			imageAck <- msg
		}
	})

	// The producer. When all it has sent is accounted for, the program ends.
	work.Go(func() {
		defer close(notes)
		for page := 1; page <= 5; page++ {
			l.Begin()
			select {
			case notes <- Note{Page: page, Text: "a note"}:
			case <-out.Done(): // Ctrl-C
				l.Undelivered()
				return
			}
		}
		l.Begin()
		l.Answer(signUps.Enq(ctx, SignUp{Data: &User{Name: "ada"}}))
		l.Begin()
		l.Answer(images.Enq(ctx, image))
		go func() {
			l.Wait()
			in.Close() // Await answers the same
		}()
	})

	// Until then, or until SIGTERM or Ctrl-C. The listener drains first.
	err = swarm.Await(in, out)
	work.Wait()
	return errors.Join(err, aws.Reconcile(ctx, l))
}
