package sqs

import (
	"io"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

// Connect is the driver below a kernel, for the conformance suite.
func Connect(name string, b *Builder[*kernel.Endpoint]) (io.Closer, error) {
	q, _, err := b.driver(name)
	if err != nil {
		return nil, err
	}
	return q.queue, nil
}

// Function builds a listener or an endpoint in Lambda mode, whose invocations the test makes
// by what invoke is given once it runs.
func Function[K any](name string, b *Builder[K], invoke chan<- lambda.Handler) (k K, err error) {
	built, opts, err := b.WithLambda().driver(name)
	if err != nil {
		return k, err
	}
	built.function.Start = func(h lambda.Handler) { invoke <- h }
	return b.make(built, opts)
}

// Open makes what reads an event in a function.
func Open(b *Builder[*kernel.Listener]) func(payload []byte) ([]driver.Bag, error) {
	built, _, err := b.WithLambda().driver("")
	if err != nil {
		panic(err)
	}
	return built.function.receive
}
