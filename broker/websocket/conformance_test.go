package websocket_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/fogfish/swarm/broker/websocket"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"
)

func TestConformance(t *testing.T) {
	report := qtest.Run(t, func(t qtest.T) qtest.Queue {
		s := newStub(t)
		return qtest.Queue{
			Connect: func() (io.Closer, error) {
				d, err := websocket.ConnectDriver(s.address(), websocket.Emitter().WithConfig(s.config()))
				return framed{d.(sender)}, err
			},
			Drain: func(context.Context) ([]driver.Bag, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				bags := slices.Clone(s.posted[s.taken:])
				s.taken = len(s.posted)
				for i := range bags {
					category, body, _ := bytes.Cut(bags[i].Body, []byte("\n"))
					bags[i].Category, bags[i].Body = string(category), body
				}
				return bags, nil
			},
			Fail: func(f qtest.Fault) {
				if f.Permanent {
					s.fail(fault{http.StatusForbidden, "ForbiddenException"})
				} else {
					s.fail(fault{http.StatusTooManyRequests, "LimitExceededException"})
				}
			},
		}
	}, qtest.Features{EmitOnly: true, Ordered: true, MaxSize: 128<<10 - len("note\n"), Faults: true, Parallel: true, Messages: 1000})
	t.Logf("%d cases passed", len(report.Names(qtest.Passed)))
}

type sender interface {
	io.Closer
	driver.Sender
	driver.Limiter
}

// framed is the driver as the suite needs it. Values go without a sink in many cases: here
// to a connection that has the name of their category. And clients get bodies, nothing else:
// here the category comes in front.
type framed struct{ sender }

func (d framed) Limits() driver.Limits {
	limits := d.sender.Limits()
	limits.Addressed = false
	check := limits.Check
	limits.Check = func(bag *driver.Bag) error {
		if len(bag.Body) == 0 {
			return check(bag)
		}
		whole := frame(*bag)
		return check(&whole)
	}
	return limits
}

func (d framed) Send(ctx context.Context, bags []driver.Bag) error {
	all := make([]driver.Bag, len(bags))
	for i, bag := range bags {
		all[i] = frame(bag)
	}
	return d.sender.Send(ctx, all)
}

func frame(bag driver.Bag) driver.Bag {
	bag.Body = slices.Concat([]byte(bag.Category), []byte("\n"), bag.Body)
	return bag
}
