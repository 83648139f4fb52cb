package events3

import (
	"fmt"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Builder collects options and builds a kernel of a function that S3 invokes. Its methods
// change and return the builder itself. It is not safe for concurrent use.
type Builder struct {
	mode   lambdakit.Mode
	kernel []swarm.Option
}

// Listener builds the kernel of a function of AWS Lambda that S3 invokes, or EventBridge
// with events of S3. A service has a queue in between: see package events3.
func Listener() *Builder { return &Builder{} }

// WithKernel adds options of the kernel.
func (b *Builder) WithKernel(opts ...swarm.Option) *Builder {
	b.kernel = append(b.kernel, opts...)
	return b
}

// WithLambda builds for AWS Lambda whatever the environment says. The default is to look
// for AWS_LAMBDA_RUNTIME_API.
func (b *Builder) WithLambda() *Builder { b.mode = lambdakit.Lambda; return b }

// Build makes the kernel. The name of the bucket is good for the reader: what a function
// is invoked with is configured at the bucket. Build fails outside of a function.
func (b *Builder) Build(bucket string) (*kernel.Listener, error) {
	if !b.mode.Lambda() {
		return nil, fmt.Errorf("events3: Build(%q): not a function of AWS Lambda. A service listens to a queue that the bucket notifies: sqs.Listener().WithUnwrap(sqs.S3)", bucket)
	}
	return kernel.NewListener(newFunction(), b.kernel...)
}

// newFunction is the driver.
func newFunction() *lambdakit.WholeFunction { return lambdakit.NewWhole(nil, wire.Objects) }
