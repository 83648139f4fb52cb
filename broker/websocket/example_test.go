package websocket_test

import (
	"context"
	"errors"
	"log"
	"net/http"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// A function that answers: API Gateway selects the route Say by {"action":"Say"}.
func ExampleEndpoint() {
	q, err := websocket.Endpoint().Build("") // the address from CONFIG_SWARM_TARGET_WS_URL
	if err != nil {
		log.Print(err) // this is no function of AWS Lambda
		return
	}
	deq, ack := listen.Typed[Say](q)
	go func() {
		for msg := range deq {
			answer := Said{Text: websocket.PrincipalOf(msg) + " says " + msg.Object.Text}
			if err := websocket.Reply(q, msg, answer); err != nil && !errors.Is(err, websocket.ErrGone) {
				ack <- msg.Fail(err)
				continue
			}
			ack <- msg
		}
	}()
	if err := q.Await(); err != nil {
		log.Print(err)
	}
}

// A service that sends: events go to their sink.
func ExampleEmitter() {
	q := swarm.Must(websocket.Emitter().
		WithKernel(swarm.WithEmitWindow(100)). // a slow client does not delay the others
		Build("wss://abc.execute-api.eu-west-1.amazonaws.com/prod"))

	said := swarm.LogDeadLetters(emit.Event[Event](q))
	said <- Event{Meta: &swarm.Meta{Sink: "L0SM9cOFvHcCIhw="}, Data: &Said{Text: "hello"}}
	if err := q.Close(); err != nil {
		log.Print(err)
	}
}

// Rooms: the registry knows who is where.
func ExampleBroadcaster() {
	q, err := websocket.Endpoint().WithSubprotocols("chat.v1").Build("")
	if err != nil {
		log.Print(err)
		return
	}
	rooms := websocket.NewMemory()
	websocket.Track(q, rooms, func(msg swarm.Msg[websocket.Connect]) ([]string, error) {
		if websocket.ContextOf(msg)["scope"] != "chat" {
			return nil, websocket.Refuse(http.StatusForbidden, errors.New("not for "+websocket.PrincipalOf(msg)))
		}
		return msg.Object.Query["room"], nil
	})
	sent, err := websocket.NewBroadcaster[Said](q, rooms).Broadcast(context.Background(), "hall", Said{Text: "hello"})
	log.Print(sent, err)
}
