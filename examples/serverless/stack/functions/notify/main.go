// Notify is a function of AWS Lambda that tells clients of a WebSocket API what a table has
// got.
package main

import (
	"context"
	"log"

	"github.com/fogfish/swarm/broker/eventddb"
	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"

	"github.com/fogfish/swarm/examples/serverless/stack/internal/connections"
	"github.com/fogfish/swarm/examples/serverless/stack/internal/uploads"
)

func main() {
	in := swarm.Must(eventddb.Listener().Build(""))
	out := swarm.Must(websocket.Emitter().Build(""))
	clients, err := connections.New(context.Background(), uploads.Topic)
	if err != nil {
		log.Fatal(err)
	}
	all := websocket.NewBroadcaster[uploads.Uploaded](out, clients)

	deq, ack := eventddb.Listen[uploads.Uploaded](in)
	go func() {
		for msg := range deq {
			switch msg.Object.Kind {
			case eventddb.Remove, eventddb.Expire:
				ack <- msg
				continue
			}
			upload, err := msg.Object.New()
			if err == nil {
				_, err = all.Broadcast(msg.Context(), uploads.Topic, upload)
			}
			if err != nil {
				ack <- msg.Fail(err)
				continue
			}
			ack <- msg
		}
	}()
	if err := swarm.Await(in, out); err != nil {
		log.Fatal(err)
	}
}
