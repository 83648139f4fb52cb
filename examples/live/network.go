package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

// network is between a kernel and its queue: it takes time, and breaks at times.
type network struct{ *embedded.Conn }

func (n network) Send(ctx context.Context, bags []driver.Bag) error {
	if err := n.cross(ctx); err != nil {
		return err
	}
	return n.Conn.Send(ctx, bags)
}

func (n network) Settle(ctx context.Context, s []driver.Settlement) error {
	if err := n.cross(ctx); err != nil {
		return err
	}
	return n.Conn.Settle(ctx, s)
}

var errBroken = errors.New("the network is broken")

// cross before the queue has anything: what fails here was not done.
func (n network) cross(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(5+rand.N(40)) * time.Millisecond):
	}
	if rand.N(40) == 0 {
		return errBroken
	}
	return nil
}
