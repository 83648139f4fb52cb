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
	return kernel.NewListener(FunctionDriver(invoke), opts...)
}

// FunctionDriver is the driver below it, for the conformance suite.
func FunctionDriver(invoke chan<- lambda.Handler) io.Closer {
	f := newFunction(nil)
	f.Start = func(h lambda.Handler) { invoke <- h }
	return f
}
