package sqs

import (
	"io"

	"github.com/fogfish/swarm/core/kernel"
)

// Connect is the driver below a kernel, for the conformance suite.
func Connect(name string, b *Builder[*kernel.Endpoint]) (io.Closer, error) {
	q, _, err := b.driver(name)
	if err != nil {
		return nil, err
	}
	return q, nil
}
