// Events3 is a function of AWS Lambda for a bucket of S3, and nothing else: it links no
// client of AWS.
package main

import (
	"log"

	"github.com/fogfish/swarm/broker/events3"
	swarm "github.com/fogfish/swarm/core"
)

func main() {
	q := swarm.Must(events3.Listener().Build(""))
	deq, ack := events3.Listen(q)
	go func() {
		for msg := range deq {
			log.Println(msg.Object.Event, msg.Object.Key)
			ack <- msg
		}
	}()
	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}
