package sns_test

import (
	"context"
	"log"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"

	"github.com/fogfish/swarm/broker/sns"
)

type User struct {
	Name string `json:"name"`
}

type UserEvent = swarm.Event[swarm.Meta, User]

// A program that emits: typed values, events and bytes, each on a channel of its own.
// Subscriptions choose by filter policies such as {"Category":["User"]}.
func ExampleEmitter() {
	q, err := sns.Emitter().
		WithKernel(swarm.WithSource("example"), swarm.WithEmitWindow(100)).
		Build("arn:aws:sns:eu-west-1:123456789012:name-of-the-topic") // "": from CONFIG_SWARM_TARGET_SNS
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

// On a FIFO topic each user is a group: in order, and independent of the others.
func ExampleBuilder() {
	q := swarm.Must(sns.Emitter().WithGroupBatching().
		Build("arn:aws:sns:eu-west-1:123456789012:name-of-the-topic.fifo"))

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
