package e2e

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/coder/websocket"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/qtest"
	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

// The conformance suite for what emits, with the gateway and its clients as the far side.
func TestWebSocketConformance(t *testing.T) {
	report := qtest.Run(t, func(t qtest.T) qtest.Queue {
		f := newFarSide(t)
		return qtest.Queue{Connect: f.connect, Drain: f.drain, Fail: f.fail}
	}, qtest.Features{EmitOnly: true, Ordered: true, Faults: true, MaxSize: 128<<10 - len("note\n") - room, Parallel: true, Messages: 500})
	t.Logf("%d cases passed", len(report.Names(qtest.Passed)))
}

// farSide is a gateway with a few clients. A group of the suite is one of them.
type farSide struct {
	*gateway.Gateway
	ids []string // connections

	mu     sync.Mutex
	got    []driver.Bag
	faults []int // of the next posts
}

func newFarSide(t qtest.T) *farSide {
	f := &farSide{}
	connected := make(chan string, 1)
	g, err := gateway.Start(context.Background(), gateway.API{
		Limits: gateway.Limits{Buffer: 10_000},
		Routes: map[string]lambda.Invoker{gateway.RouteConnect: lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
			_, id, _ := bytes.Cut(payload, []byte(`"connectionId":"`))
			id, _, _ = bytes.Cut(id, []byte(`"`))
			connected <- string(id)
			return []byte(`{"statusCode":200}`), nil
		})},
		Fault: func(context.Context, string, string) (status int) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.faults) > 0 {
				status, f.faults = f.faults[0], f.faults[1:]
			}
			return status
		},
	})
	if err != nil {
		t.Fatalf("gateway: %v", err)
	}
	f.Gateway = g
	t.Cleanup(g.Close)
	for range 8 {
		c, _, err := client.Dial(context.Background(), g.URL(), nil)
		if err != nil {
			t.Fatalf("connect: %v", err)
		}
		c.SetReadLimit(1 << 20)
		t.Cleanup(func() { _ = c.CloseNow() })
		f.ids = append(f.ids, <-connected)
		go func() {
			for {
				_, b, err := c.Read(context.Background())
				if err != nil {
					return
				}
				group, rest, _ := bytes.Cut(b, []byte("\n"))
				category, body, _ := bytes.Cut(rest, []byte("\n"))
				f.mu.Lock()
				f.got = append(f.got, driver.Bag{Group: string(group), Category: string(category), Body: body})
				f.mu.Unlock()
			}
		}()
	}
	return f
}

func (f *farSide) drain(context.Context) ([]driver.Bag, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := f.got
	f.got = nil
	return got, nil
}

func (f *farSide) fail(x qtest.Fault) {
	status := http.StatusTooManyRequests
	if x.Permanent {
		status = http.StatusForbidden
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, status)
}

func (f *farSide) connect() (io.Closer, error) {
	q, err := websocket.Emitter().
		WithConfig(awssdk.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}).
		WithKernel(swarm.WithNoRetry(), swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithBarrier(swarm.NewBarrier())).
		Build(f.URL())
	return &posts{q, f}, err
}

// posts is the broker as the suite wants it: a driver, below which is a kernel that does not
// retry. Clients get bodies and nothing else, so that group and category come in front.
type posts struct {
	*kernel.Emitter
	far *farSide
}

const room = 40 // bytes, for the group in front

func (p *posts) Limits() driver.Limits {
	return driver.Limits{Entries: 1, Requests: 64, Ordered: true, Check: func(bag *driver.Bag) error {
		if n := room + len(bag.Category) + 1 + len(bag.Body); len(bag.Body) == 0 || n > 128<<10 {
			return driver.Permanent(errors.New("empty, or too long"))
		}
		return nil
	}}
}

func (p *posts) Send(ctx context.Context, bags []driver.Bag) error {
	var failed []driver.Failure
	for i, bag := range bags {
		h := fnv.New32a()
		_, _ = h.Write([]byte(bag.Group))
		out := p.NewBag(bag.Category)
		out.Group = p.far.ids[h.Sum32()%uint32(len(p.far.ids))]
		out.Body = slices.Concat([]byte(bag.Group), []byte("\n"), []byte(bag.Category), []byte("\n"), bag.Body)
		if err := p.Enqueue(ctx, &out); err != nil {
			failed = append(failed, driver.Failure{Index: i, Err: err, Permanent: driver.IsPermanent(err)})
		}
	}
	if len(failed) > 0 {
		return &driver.BatchError{Failed: failed}
	}
	return nil
}
