package eventbridge_test

import (
	"context"
	"log"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"

	"github.com/fogfish/swarm/broker/eventbridge"
)

type User struct {
	Name string `json:"name"`
}

type UserEvent = swarm.Event[swarm.Meta, User]

// A program that emits: typed values, events and bytes, each on a channel of its own. Rules
// match them by source and detail-type: {"source":["example"],"detail-type":["User"]}.
func ExampleEmitter() {
	q, err := eventbridge.Emitter().
		WithKernel(swarm.WithSource("example"), swarm.WithEmitWindow(100)).
		Build("name-of-the-bus") // "": from CONFIG_SWARM_TARGET_EVENTBUS
	if err != nil {
		log.Fatal(err)
	}

	notes := swarm.LogDeadLetters(emit.Typed[Note](q))
	users := swarm.LogDeadLetters(emit.Event[UserEvent](q))
	images := swarm.LogDeadLetters(emit.Bytes(q, codec.Bytes("Image")))

	notes <- Note{ID: 1}
	users <- UserEvent{Meta: &swarm.Meta{Participant: "ada"}, Data: &User{Name: "ada"}}
	images <- []byte("\x89PNG") // {"p":"iVBORw=="}

	if err := q.Close(); err != nil {
		log.Fatal(err)
	}
}

// One event, and word of what became of it.
func ExampleBuilder() {
	q := swarm.Must(eventbridge.Emitter().
		WithKernel(swarm.WithSource("example")).
		WithResources("arn:aws:s3:::name-of-the-bucket").
		Build("arn:aws:events:eu-west-1:123456789012:event-bus/name-of-the-bus"))

	users := emit.NewTyped[User](q)
	if err := users.Enq(context.Background(), User{Name: "ada"}); err != nil {
		log.Print(err)
	}
	if err := q.Close(); err != nil {
		log.Print(err)
	}
}
