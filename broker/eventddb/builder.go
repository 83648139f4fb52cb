package eventddb

import (
	"fmt"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Builder collects options and builds a kernel on the stream of a table. Its methods
// change and return the builder itself. It is not safe for concurrent use.
type Builder struct {
	mode   lambdakit.Mode
	kernel []swarm.Option
}

// Listener builds a kernel that listens to the stream of a table: in a function of AWS
// Lambda to what an event source mapping invokes it with.
func Listener() *Builder { return &Builder{} }

// WithKernel adds options of the kernel.
func (b *Builder) WithKernel(opts ...swarm.Option) *Builder {
	b.kernel = append(b.kernel, opts...)
	return b
}

// WithLambda builds for AWS Lambda whatever the environment says. The default is to look
// for AWS_LAMBDA_RUNTIME_API.
func (b *Builder) WithLambda() *Builder { b.mode = lambdakit.Lambda; return b }

// Build makes the kernel. In a function the name of the table is good for the reader: the
// event source mapping says what comes.
func (b *Builder) Build(table string) (*kernel.Listener, error) {
	if !b.mode.Lambda() {
		return nil, fmt.Errorf("eventddb: Build(%q): not a function of AWS Lambda", table)
	}
	return kernel.NewListener(function{newFunction()}, b.kernel...)
}
