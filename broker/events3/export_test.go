package events3

import (
	"github.com/aws/aws-lambda-go/lambda"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Function builds a listener whose invocations the test makes by what invoke is given
// once it runs.
func Function(invoke chan<- lambda.Handler, opts ...swarm.Option) (*kernel.Listener, error) {
	f := newFunction()
	f.Start = func(h lambda.Handler) { invoke <- h }
	return kernel.NewListener(function{f}, opts...)
}
