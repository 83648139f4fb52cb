package awstest

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
)

// Quiet is a kernel that logs nothing.
var Quiet = swarm.WithLogger(slog.New(slog.DiscardHandler))

type note struct {
	ID int `json:"id"`
}

// Ledger sends values while each fourth request of an operation meets a fault, one after
// another, and adds up: each value that was accepted is stored or came back, once.
type Ledger struct {
	Op     string           // that sends
	Faults map[string]Fault // by what they are

	// Permanent names the faults that no retry gets over.
	Permanent map[string]bool

	// Dedup says that an answer that got lost makes no duplicates, Ordered that each of
	// seven groups stays in order.
	Dedup, Ordered bool

	// Open starts a stub and builds a kernel on it.
	Open func(t *testing.T) (s *Stub, build func(opts ...swarm.Option) *kernel.Emitter)
}

// Run is the test.
func (l Ledger) Run(t *testing.T) {
	for name, f := range l.Faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l.run(t, f, l.Permanent[name])
		})
	}
}

func (l Ledger) run(t *testing.T, f Fault, permanent bool) {
	const total, groups = 300, 7
	s, build := l.Open(t)
	s.Fault = func(op string, n int) Fault {
		if op == l.Op && n%4 == 2 {
			return f
		}
		return Fault{}
	}
	opts := []swarm.Option{Quiet, swarm.WithEmitWindow(40), swarm.WithRetryConstant(time.Millisecond, 12)}
	if f.Hang {
		// Long enough that no request but a hung one meets it, which would make duplicates.
		opts = append(opts, swarm.WithNetworkTimeout(time.Second))
	}
	q := build(opts...)
	var told, dead atomic.Int64
	enq, dlq := emit.Typed[note](q,
		emit.OnFailure(func(note, error) { told.Add(1) }),
		emit.OrderBy(func(n note) string { return fmt.Sprint(n.ID % groups) }))
	var reader sync.WaitGroup
	reader.Go(func() {
		for range dlq {
			dead.Add(1)
		}
	})
	for i := range total {
		enq <- note{i}
	}
	close(enq)
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	reader.Wait()

	seen, last, all := map[string]int{}, map[int]int{}, s.Accepted()
	for _, body := range all {
		seen[body]++
		var id int
		if _, err := fmt.Sscanf(body, `{"id":%d}`, &id); err != nil {
			t.Fatalf("stored %s: %v", body, err)
		}
		if l.Ordered && id < last[id%groups] {
			t.Errorf("group %d: %d after %d", id%groups, id, last[id%groups])
		}
		last[id%groups] = id
	}
	if len(seen)+int(told.Load()) != total || told.Load() != dead.Load() {
		t.Errorf("stored %d, reported %d, dlq %d, want %d in all", len(seen), told.Load(), dead.Load(), total)
	}
	if permanent != (told.Load() > 0) {
		t.Errorf("%d failed for good, permanent: %v", told.Load(), permanent)
	}
	if extra := len(all) - len(seen); extra > 0 && (!f.Lost || l.Dedup) {
		t.Errorf("%d duplicates", extra)
	}
	if permanent {
		for body, n := range s.Refused() {
			if n > 1 || seen[body] > 0 {
				t.Errorf("%s was sent again after it was refused for good", body)
			}
		}
	}
}
