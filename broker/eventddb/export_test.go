package eventddb

import (
	"io"

	"github.com/aws/aws-lambda-go/lambda"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

// Function builds a listener whose invocations the test makes by what invoke is given
// once it runs.
func Function(invoke chan<- lambda.Handler, opts ...swarm.Option) (*kernel.Listener, error) {
	return kernel.NewListener(FunctionDriver(invoke), opts...)
}

// FunctionDriver is the driver below it, for the conformance suite.
func FunctionDriver(invoke chan<- lambda.Handler) io.Closer {
	f := newFunction()
	f.Start = func(h lambda.Handler) { invoke <- h }
	return function{f}
}

// Receive reads an event as a function does.
var Receive = receive

// Decode is what the channel of Listen does.
func Decode[T any](b []byte) (Change[T], error) { return codec[T]{}.Decode(b) }

// StreamDriver is the driver of a service that reads a table, for the conformance suite.
func StreamDriver(b *Builder, table string) (driver.Runner, error) { return b.stream(table) }
