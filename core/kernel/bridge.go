package kernel

import (
	"context"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// serve processes a batch that was pushed: it is the [driver.Serve] of runners. The
// batch has its own state, so that what comes back late settles nothing else. At most
// once it is acknowledged by the hand-over: the answer does not wait for consumers.
func (e *Engine) serve(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
	if len(bags) == 0 {
		return nil, nil
	}
	if e.isClosing() {
		return nil, swarm.ErrClosed
	}
	b := e.newBatch(ctx, bags, e.cfg.AtMostOnce)
	b.served = make(chan struct{})
	e.take(b)
	select {
	case <-b.served:
	case <-ctx.Done():
		for i := range b.deliveries {
			b.deliveries[i].fail("expire", context.Cause(ctx))
		}
		<-b.served
	}
	out := make([]driver.Settlement, len(b.deliveries))
	for i := range b.deliveries {
		out[i] = b.deliveries[i].entry.verdict
	}
	return out, nil
}
