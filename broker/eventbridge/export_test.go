package eventbridge

import (
	"io"

	"github.com/aws/aws-lambda-go/lambda"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Connect is the driver below a kernel, for the conformance suite. A maximum above zero
// takes the place of the driver's own: LocalStack takes 256 KiB, as AWS did until 2026.
func Connect(name string, maxSize int, b *Builder[*kernel.Emitter]) (io.Closer, error) {
	d, err := b.driver(name)
	if err != nil {
		return nil, err
	}
	if maxSize > 0 {
		d.maxSize = maxSize
	}
	return d, nil
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
