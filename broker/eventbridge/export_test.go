package eventbridge

import (
	"io"

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
