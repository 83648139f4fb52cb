package sqs

import (
	"io"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/core/kernel"
)

// FunctionDriver is the driver of a listener in Lambda mode, for the conformance suite: it
// hands its handler to the test.
func FunctionDriver(b *Builder[*kernel.Listener], invoke chan<- lambda.Handler) (io.Closer, error) {
	built, _, err := b.WithLambda().driver("")
	if err != nil {
		return nil, err
	}
	built.function.Start = func(h lambda.Handler) { invoke <- h }
	return built.function, nil
}
