// Package snippets has the lines that the documentation quotes and that stand in no
// example: they are compiled with the tests.
package snippets

import (
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"
)

// Note is what they send.
type Note struct {
	Text string `json:"text"`
}

func first(enq chan<- Note, deq <-chan swarm.Msg[Note], ack chan<- swarm.Msg[Note]) {
	enq <- Note{Text: "hello"}
	for msg := range deq {
		println(msg.Object.Text)
		ack <- msg
	}
}

func anotherBroker() error {
	q, err := sqs.Endpoint().Build("name-of-the-queue")
	if err != nil {
		return err
	}
	return q.Close()
}

func envelopes() (<-chan swarm.Msg[Note], chan<- swarm.Msg[Note], error) {
	q, err := sqs.Listener().WithUnwrap(sqs.EventBridge).Build("queue-of-a-rule")
	if err != nil {
		return nil, nil, err
	}
	deq, ack := listen.Typed[Note](q)
	return deq, ack, nil
}

func serverless(consume func(<-chan swarm.Msg[Note], chan<- swarm.Msg[Note])) error {
	q := swarm.Must(sqs.Listener().Build(""))
	deq, ack := listen.Typed[Note](q)
	go consume(deq, ack)
	err := q.Await()
	return err
}

// used keeps the linter from looking for callers.
var _ = []any{first, anotherBroker, envelopes, serverless}
