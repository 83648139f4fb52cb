// Echo is a function of AWS Lambda for a WebSocket API: clients get back what they say.
package main

import (
	"log"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"
)

// Say is a message of the route Say.
type Say struct {
	Text string `json:"text"`
}

// Said is the answer.
type Said struct {
	Who  string `json:"who"`
	Text string `json:"text"`
}

func main() {
	q := swarm.Must(websocket.Endpoint().Build(""))
	deq, ack := listen.Typed[Say](q)
	go func() {
		for msg := range deq {
			if err := websocket.Reply(q, msg, Said{Who: websocket.PrincipalOf(msg), Text: msg.Object.Text}); err != nil {
				ack <- msg.Fail(err)
				continue
			}
			ack <- msg
		}
	}()
	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}
