// Presence is a function of AWS Lambda for clients of a WebSocket API that come and go.
package main

import (
	"context"
	"log"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"

	"github.com/fogfish/swarm/examples/serverless/stack/internal/connections"
	"github.com/fogfish/swarm/examples/serverless/stack/internal/uploads"
)

func main() {
	q := swarm.Must(websocket.Listener().Build(""))
	clients, err := connections.New(context.Background(), uploads.Topic)
	if err != nil {
		log.Fatal(err)
	}
	websocket.Track(q, clients, func(swarm.Msg[websocket.Connect]) ([]string, error) {
		return []string{uploads.Topic}, nil
	})
	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}
