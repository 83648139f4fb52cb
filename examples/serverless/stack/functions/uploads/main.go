// Uploads is a function of AWS Lambda that makes events of files uploaded to a bucket.
package main

import (
	"log"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/events3"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"

	"github.com/fogfish/swarm/examples/serverless/stack/internal/uploads"
)

func main() {
	in := swarm.Must(events3.Listener().Build(""))
	out := swarm.Must(eventbridge.Emitter().
		WithKernel(swarm.WithConfigFromEnv()). // who it is when it emits
		Build(""))
	enq := swarm.LogDeadLetters(emit.Typed[uploads.Uploaded](out))
	deq, ack := events3.Listen(in)
	go func() {
		for msg := range deq {
			enq <- uploads.Uploaded{Bucket: msg.Object.Bucket, Key: msg.Object.Key, Size: msg.Object.Size}
			ack <- msg
		}
	}()
	if err := swarm.Await(in, out); err != nil {
		log.Fatal(err)
	}
}
