package websocket

import (
	"io"

	"github.com/aws/aws-lambda-go/lambda"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

// ConnectDriver is the driver below a kernel, for the conformance suite.
func ConnectDriver(address string, b *Builder[*kernel.Emitter]) (io.Closer, error) {
	return b.api(address)
}

// Function builds an endpoint in Lambda mode, whose invocations the test makes by what
// invoke is given once it runs.
func Function(invoke chan<- lambda.Handler, sender driver.Sender, protocols []string, opts ...swarm.Option) (*kernel.Endpoint, error) {
	f := newFunction(sender, protocols)
	f.Start = func(h lambda.Handler) { invoke <- h }
	return kernel.NewEndpoint(f, opts...)
}

// FunctionDriver is the driver of a function that only listens, for the conformance suite.
func FunctionDriver(invoke chan<- lambda.Handler) io.Closer {
	f := newFunction(nil, nil)
	f.Start = func(h lambda.Handler) { invoke <- h }
	return f
}

// Receive reads an event as a function does.
var Receive = receive
