package sns

import (
	"io"

	"github.com/aws/aws-lambda-go/lambda"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Connect is the driver below a kernel, for the conformance suite.
func Connect(name string, b *Builder[*kernel.Emitter]) (io.Closer, error) {
	t, err := b.driver(name)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Function builds a listener in Lambda mode, whose invocations the test makes by what
// invoke is given once it runs.
func Function(invoke chan<- lambda.Handler, opts ...swarm.Option) (*kernel.Listener, error) {
	f := newFunction(nil)
	f.Start = func(h lambda.Handler) { invoke <- h }
	return kernel.NewListener(f, opts...)
}
