// Events3 tells what happens to the objects of a bucket of AWS S3. One main, three ways to
// run it.
//
// As a service, which polls a queue that the bucket notifies:
//
//	export LOCALSTACK_ENDPOINT=http://… # or credentials and region of AWS
//	export CONFIG_SWARM_SOURCE_SQS=name-of-the-queue
//	go run ./examples/serverless/events3
//
// As a function of Lambda on your machine, with events of a file:
//
//	go run ./qtest/local/cmd/swarm-local -event event.json ./examples/serverless/events3
//
// As a function of Lambda that the bucket notifies itself:
//
//	GOOS=linux GOARCH=arm64 go build -tags lambda.norpc -ldflags "-s -w" -o bootstrap ./examples/serverless/events3
package main

import (
	"fmt"
	"os"

	"github.com/fogfish/swarm/broker/events3"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"

	"github.com/fogfish/swarm/examples/serverless/internal/dev"
)

// source is the bucket itself in Lambda, and a queue of its notifications elsewhere.
func source() (*kernel.Listener, error) {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" {
		return events3.Listener().Build("")
	}
	return sqs.Listener().WithUnwrap(sqs.S3).Build("")
}

func main() {
	dev.LocalStack()
	q := swarm.Must(source())

	deq, ack := events3.Listen(q)
	go func() {
		for msg := range deq {
			r := msg.Object
			if r.Size > 1<<30 {
				ack <- msg.Fail(fmt.Errorf("%s is too large for us", r.Key))
				continue
			}
			fmt.Printf("%s %q of %s, %d bytes\n", r.Event, r.Key, r.Bucket, r.Size)
			ack <- msg
		}
	}()

	if err := q.Await(); err != nil {
		fmt.Fprintln(os.Stderr, "events3:", err)
		os.Exit(1)
	}
}
