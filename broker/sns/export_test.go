package sns

import (
	"io"

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
