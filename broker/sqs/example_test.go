package sqs_test

import (
	"context"
	"log"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/sqs"
)

type User struct {
	Name string `json:"name"`
}

type UserEvent = swarm.Event[swarm.Meta, User]

// A program that sends: typed values, events and bytes, each on a channel of its own.
func ExampleEmitter() {
	q, err := sqs.Emitter().
		WithKernel(swarm.WithSource("example"), swarm.WithEmitWindow(100)).
		Build("name-of-the-queue") // "": from CONFIG_SWARM_TARGET_SQS
	if err != nil {
		log.Fatal(err)
	}

	notes := swarm.LogDeadLetters(emit.Typed[Note](q))
	users := swarm.LogDeadLetters(emit.Event[UserEvent](q))
	images := swarm.LogDeadLetters(emit.Bytes(q, codec.Bytes("Image")))

	notes <- Note{ID: 1}
	users <- UserEvent{Meta: &swarm.Meta{Participant: "ada"}, Data: &User{Name: "ada"}}
	images <- []byte("\x89PNG")

	if err := q.Close(); err != nil {
		log.Fatal(err)
	}
}

// A program that receives, until SIGTERM.
func ExampleListener() {
	q := swarm.Must(sqs.Listener().
		WithWaitTime(20 * time.Second).
		WithVisibility(30 * time.Second).
		Build("arn:aws:sqs:eu-west-1:123456789012:name-of-the-queue"))

	notes, ackNote := listen.Typed[Note](q)
	go func() {
		for msg := range notes {
			log.Println(msg.Object.ID, "at attempt", msg.Attempt)
			ackNote <- msg
		}
	}()

	users, ackUser := listen.Event[UserEvent](q)
	go func() {
		for msg := range users {
			log.Println(msg.Object.Data.Name, "from", msg.Object.Meta.Agent)
			ackUser <- msg
		}
	}()

	images, ackImage := listen.Bytes(q, codec.Bytes("Image"))
	go func() {
		for msg := range images {
			log.Println(len(msg.Object), "bytes")
			ackImage <- msg
		}
	}()

	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}

// On a FIFO queue each user is a group: in order, and independent of the others.
func ExampleEndpoint() {
	q := swarm.Must(sqs.Endpoint().WithGroupBatching().Build("name-of-the-queue.fifo"))

	users := emit.NewTyped[User](q,
		emit.OrderBy(func(u User) string { return u.Name }),
		emit.DedupBy(func(u User) string { return u.Name }),
	)
	if err := users.Enq(context.Background(), User{Name: "ada"}); err != nil {
		log.Print(err)
	}
	if err := q.Close(); err != nil {
		log.Print(err)
	}
}
