package kernel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

type Note struct {
	ID int `json:"id"`
}

type User struct {
	Name string `json:"name"`
}

// rig is a scripted broker: what it answers is the test's to say, and it keeps a
// ledger of all that it was asked. The zero hooks answer success at once.
type rig struct {
	limits driver.Limits

	// send decides over one call of Send. The bags are recorded as sent when it
	// returns, except the ones its error names.
	send func(ctx context.Context, bags []driver.Bag) error
	// settle decides over one call of Settle.
	settle func(ctx context.Context, s []driver.Settlement) error
	// receive decides over one call of Receive before the queue is looked at.
	receive func(ctx context.Context) error
	// latency of Settle and Send, cut short by ctx.
	latency time.Duration

	mu       sync.Mutex
	queue    []driver.Bag
	arrived  chan struct{}
	offered  int
	sent     []driver.Bag
	sends    [][]string // ids of each call
	settles  []settled
	calls    int // of Settle
	receives int
	extends  int
	closes   int
}

// settled is one entry of the ledger.
type settled struct {
	id      string
	outcome driver.Outcome
	delay   time.Duration
	err     error
	alive   bool // the context was
	at      time.Time
}

func newRig() *rig {
	return &rig{
		limits:  driver.Limits{Entries: 10, Wait: 20 * time.Second},
		arrived: make(chan struct{}, 1),
	}
}

func (r *rig) Limits() driver.Limits { return r.limits }

func (r *rig) Send(ctx context.Context, bags []driver.Bag) error {
	if err := r.sleep(ctx); err != nil {
		return err
	}
	var err error
	if r.send != nil {
		err = r.send(ctx, bags)
	}
	failed := map[int]bool{}
	if err != nil {
		if partial, ok := err.(*driver.BatchError); ok {
			for _, f := range partial.Failed {
				failed[f.Index] = true
			}
		} else {
			for i := range bags {
				failed[i] = true
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for i, b := range bags {
		ids = append(ids, string(b.Body))
		if !failed[i] {
			r.sent = append(r.sent, b)
		}
	}
	r.sends = append(r.sends, ids)
	return err
}

func (r *rig) sleep(ctx context.Context) error {
	if r.latency == 0 {
		return nil
	}
	select {
	case <-time.After(r.latency):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// offer queues messages to be received.
func (r *rig) offer(bags ...driver.Bag) {
	r.mu.Lock()
	for _, b := range bags {
		if b.ID == "" {
			r.offered++
			b.ID = fmt.Sprint("m", r.offered)
		}
		if b.Attempt == 0 {
			b.Attempt = 1
		}
		r.queue = append(r.queue, b)
	}
	r.mu.Unlock()
	select {
	case r.arrived <- struct{}{}:
	default:
	}
}

func (r *rig) take(max int) []driver.Bag {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(max, len(r.queue))
	bags := append([]driver.Bag(nil), r.queue[:n]...)
	r.queue = r.queue[n:]
	if len(r.queue) > 0 {
		select {
		case r.arrived <- struct{}{}:
		default:
		}
	}
	return bags
}

func (r *rig) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	r.mu.Lock()
	r.receives++
	r.mu.Unlock()
	if r.receive != nil {
		if err := r.receive(ctx); err != nil {
			return nil, err
		}
	}
	wait := time.NewTimer(r.limits.Wait)
	defer wait.Stop()
	for {
		if bags := r.take(max); len(bags) > 0 {
			return bags, nil
		}
		select {
		case <-r.arrived:
		case <-wait.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *rig) Settle(ctx context.Context, s []driver.Settlement) error {
	if err := r.sleep(ctx); err != nil {
		return err
	}
	var err error
	if r.settle != nil {
		err = r.settle(ctx, s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	if err != nil {
		return err
	}
	for _, x := range s {
		r.settles = append(r.settles, settled{x.Bag.ID, x.Outcome, x.Delay, x.Err, ctx.Err() == nil, time.Now()})
	}
	return nil
}

func (r *rig) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closes++
	return nil
}

// extending is a rig whose leases can be extended.
type extending struct {
	*rig
	extend func(ctx context.Context, bags []*driver.Bag, d time.Duration) error
}

func (r extending) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	r.mu.Lock()
	r.extends += len(bags)
	r.mu.Unlock()
	if r.extend != nil {
		return r.extend(ctx, bags, d)
	}
	return nil
}

// outcome of a message: what the ledger has, and how often.
func (r *rig) outcome(id string) (last settled, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.settles {
		if s.id == id {
			last = s
			n++
		}
	}
	return last, n
}

// requests counts the calls of Receive and Settle.
func (r *rig) requests() (receives, settles int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.receives, r.calls
}

// waiting is how many messages nobody has received.
func (r *rig) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// count of settlements with an outcome.
func (r *rig) count(o driver.Outcome) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.settles {
		if s.outcome == o {
			n++
		}
	}
	return n
}

// onceEach fails the test unless each of n offered messages was settled exactly once.
func (r *rig) onceEach(t *testing.T, n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]int{}
	for _, s := range r.settles {
		seen[s.id]++
		if !s.alive {
			t.Errorf("%s was settled by a dead context", s.id)
		}
	}
	for id, k := range seen {
		if k != 1 {
			t.Errorf("%s was settled %d times", id, k)
		}
	}
	if len(seen) != n {
		t.Errorf("settled %d messages, want %d", len(seen), n)
	}
}

func note(id int) driver.Bag {
	body, _ := json.Marshal(Note{id})
	return driver.Bag{Category: "Note", Body: body}
}

func user(name string) driver.Bag {
	body, _ := json.Marshal(User{name})
	return driver.Bag{Category: "User", Body: body}
}

func notes(n int) (bags []driver.Bag) {
	for i := range n {
		bags = append(bags, note(i))
	}
	return bags
}

// quiet are options for tests: logs go to the test when it fails.
func quiet(opts ...swarm.Option) []swarm.Option {
	return append([]swarm.Option{swarm.WithLogger(slog.New(slog.DiscardHandler))}, opts...)
}

func endpoint(t *testing.T, r driver.Sender, opts ...swarm.Option) *kernel.Endpoint {
	t.Helper()
	q, err := kernel.NewEndpoint(r, quiet(opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// bubble runs a test in virtual time. A goroutine that is left behind fails it.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// start runs a kernel and returns how to wait for the end of Run.
func start(q swarm.Kernel) (wait func() error) {
	end := make(chan error, 1)
	go func() { end <- q.Run(context.Background()) }()
	return func() error { return <-end }
}

// logged is a logger whose lines a test reads.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logged) option() swarm.Option {
	return swarm.WithLogger(slog.New(slog.NewTextHandler(l, nil)))
}
