package sqs_test

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

var seedFlag = flag.Uint64("seed", 0, "replay the faults of a run")

// unreliable is a network that loses requests, and answers, once it is let.
type unreliable struct {
	*awshttp.BuildableClient
	audit atomic.Pointer[func()] // nil: all is well

	mu  sync.Mutex
	rnd *rand.Rand
}

func (u *unreliable) Do(req *http.Request) (*http.Response, error) {
	audit := u.audit.Load()
	if audit == nil {
		return u.BuildableClient.Do(req)
	}
	(*audit)()
	u.mu.Lock()
	fate, delay := u.rnd.IntN(20), time.Duration(u.rnd.IntN(50))*time.Millisecond
	u.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if fate == 0 {
		return nil, errors.New("the request is lost")
	}
	resp, err := u.BuildableClient.Do(req)
	if err == nil && fate == 1 {
		_ = resp.Body.Close()
		return nil, errors.New("the answer is lost")
	}
	return resp, err
}

// The ledger adds up at each request while the network loses some, and in the end it agrees
// with what was seen outside.
func TestTheLedgerOnAnUnreliableNetwork(t *testing.T) {
	t.Parallel()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000_000
	}
	t.Logf("replay by -run %s -seed %d", t.Name(), seed)
	n := 200
	if soak {
		n *= 10
	}
	cfg := cloud(t)
	name, _ := create(t, cfg, false, map[string]string{"VisibilityTimeout": "3"})
	net := &unreliable{BuildableClient: awshttp.NewBuildableClient(), rnd: rand.New(rand.NewPCG(seed, 1))}
	cfg.HTTPClient = net
	q := connect(t, cfg, name, swarm.WithPollerPool(2), swarm.WithEmitWindow(20), swarm.WithTimeToFlight(5*time.Second), swarm.WithRetryConstant(50*time.Millisecond, 3))
	audit := func() {
		if err := q.Stats().Check(); err != nil {
			t.Error(err)
		}
	}

	var acked, failed, told atomic.Int64
	seen := sync.Map{}
	deq, ack := listen.Typed[Note](q)
	var consumers sync.WaitGroup
	for range 4 {
		consumers.Go(func() {
			for msg := range deq {
				if msg.Attempt == 1 && msg.Object.ID%5 == 0 {
					failed.Add(1)
					ack <- msg.Fail(errors.New("not at first"))
					continue
				}
				seen.Store(msg.Object.ID, true)
				acked.Add(1)
				ack <- msg
			}
		})
	}
	enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(Note, error) { told.Add(1) }))
	consumers.Go(func() {
		for range dlq {
		}
	})
	go q.Run(context.Background())
	net.audit.Store(&audit)
	for i := range n {
		enq <- Note{i}
	}
	close(enq)
	soon(t, "all have their end", func() bool { return q.Stats().Emit["Note"].InFlight == 0 })
	arrived := func() (n int64) {
		seen.Range(func(any, any) bool { n++; return true })
		return n
	}
	soon(t, "what was confirmed has arrived", func() bool { return arrived() >= q.Stats().Emit["Note"].Confirmed })
	net.audit.Store(nil)
	soon(t, "nothing is in flight", func() bool {
		c := q.Stats().Listen["Note"]
		return c.Waiting+c.Working == 0 && q.Stats().Settling == 0
	})
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	consumers.Wait()
	audit()
	s := q.Stats()
	e, l := s.Emit["Note"], s.Listen["Note"]
	t.Logf("%+v\n%+v\n%+v", e, l, s.Requests)
	if e.Accepted != int64(n) || e.Failed != told.Load() || e.Confirmed != int64(n)-told.Load() {
		t.Errorf("%d sent, %d failed; the ledger says %+v", n, told.Load(), e)
	}
	// Those that came too late to count are ignored.
	if got := l.Acked + l.Failed + l.Ignored; l.Acked > acked.Load() || l.Failed > failed.Load() || got != acked.Load()+failed.Load() {
		t.Errorf("%d acknowledged, %d failed; the ledger says %+v", acked.Load(), failed.Load(), l)
	}
	if s.Requests[swarm.OpSend].Errors+s.Requests[swarm.OpReceive].Errors+s.Requests[swarm.OpSettle].Errors == 0 {
		t.Errorf("no request has failed: %+v", s.Requests)
	}
}
