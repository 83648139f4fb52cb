package kernel_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
)

// witness observes a kernel, holds what it is told against the rules of the hooks, and its
// ledger against the sums: whenever something happens.
type witness struct {
	stats    func() swarm.Stats // nil until there is a kernel
	nuisance bool               // takes its time, and panics

	mu                sync.Mutex
	faults            []string
	calls             int
	accepted, ended   map[string]int // by id
	failed            int            // of ended
	received, settled int
	handed            int
	concluded         int // settled of those that were handed over
	open, requests    int
	retried, ignored  int64
	closed            []error
}

type tokenKey struct{}

// token is of one hand-over.
type token struct{ settled bool }

func newWitness(nuisance bool) *witness {
	return &witness{nuisance: nuisance, accepted: map[string]int{}, ended: map[string]int{}}
}

func (w *witness) fault(format string, args ...any) {
	w.faults = append(w.faults, "observer: "+fmt.Sprintf(format, args...))
}

// note runs f, checks the sums, and is a nuisance.
func (w *witness) note(f func()) {
	w.mu.Lock()
	if len(w.closed) > 0 {
		w.fault("something is told after Closed")
	}
	f()
	w.calls++
	n := w.calls
	w.mu.Unlock()
	w.look()
	if !w.nuisance {
		return
	}
	if n%7 == 0 {
		time.Sleep(time.Millisecond)
	}
	if n%5 == 0 {
		panic("observer")
	}
}

// look checks the sums.
func (w *witness) look() {
	w.mu.Lock()
	stats := w.stats
	w.mu.Unlock()
	if stats != nil {
		w.check(stats())
	}
}

func (w *witness) check(s swarm.Stats) {
	if err := s.Check(); err != nil {
		w.mu.Lock()
		w.fault("%v", err)
		w.mu.Unlock()
	}
}

// watch begins to look at the ledger.
func (w *witness) watch(stats func() swarm.Stats) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats = stats
}

func (w *witness) observer() swarm.Observer {
	return swarm.Observer{
		Accepted: func(_ context.Context, e swarm.Envelope) map[string]string {
			w.note(func() { w.accepted[e.ID]++ })
			return map[string]string{"trace": e.ID}
		},
		Retried: func(swarm.Envelope, error) { w.note(func() { w.retried++ }) },
		Ended: func(e swarm.Envelope, err error) {
			w.note(func() {
				if w.ended[e.ID]++; w.ended[e.ID] > w.accepted[e.ID] {
					w.fault("%q ended before it was accepted, or twice", e.ID)
				}
				if err != nil {
					w.failed++
				}
				if e.ID != "" && e.Attrs["trace"] != e.ID && !w.nuisance {
					w.fault("%q has attributes %v", e.ID, e.Attrs)
				}
			})
		},
		Received: func(swarm.Envelope) { w.note(func() { w.received++ }) },
		Handed: func(ctx context.Context, e swarm.Envelope) context.Context {
			defer w.note(func() { w.handed++ })
			return context.WithValue(ctx, tokenKey{}, &token{})
		},
		Settled: func(ctx context.Context, e swarm.Envelope, s swarm.Settlement) {
			w.note(func() {
				w.settled++
				if s.Outcome < swarm.OutcomeAcked || s.Outcome > swarm.OutcomeLost || s.Took < 0 {
					w.fault("%q: %v after %s", e.ID, s.Outcome, s.Took)
				}
				t, _ := ctx.Value(tokenKey{}).(*token)
				if t == nil {
					return
				}
				if t.settled {
					w.fault("%q is settled twice", e.ID)
				}
				t.settled = true
				w.concluded++
			})
		},
		Ignored: func(string, error) { w.note(func() { w.ignored++ }) },
		Request: func(ctx context.Context, r swarm.Request) (context.Context, func(swarm.Answer)) {
			n := len(r.Messages)
			end := func(a swarm.Answer) {
				w.note(func() {
					w.open--
					if len(a.Failed) > n || len(a.Failed) > 0 && a.Err == nil {
						w.fault("%s of %d: %+v", r.Operation, n, a)
					}
				})
			}
			w.note(func() { w.open++; w.requests++ })
			return nil, end
		},
		Closed: func(err error) { w.note(func() { w.closed = append(w.closed, err) }) },
	}
}

// reconcile is for the end, when nothing is in flight. It returns what is wrong.
func (w *witness) reconcile(s swarm.Stats, closed error) []string {
	w.check(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	var emit swarm.EmitStats
	var listen swarm.ListenStats
	var requests swarm.RequestStats
	for _, c := range s.Emit {
		emit.Accepted += c.Accepted
		emit.InFlight += c.InFlight + c.DeadLetters
		emit.Confirmed += c.Confirmed
		emit.Retried += c.Retried
		if c.Oldest != 0 {
			w.fault("oldest value in flight is of %s", c.Oldest)
		}
	}
	for _, c := range s.Listen {
		listen.Received += c.Received
		listen.Waiting += c.Waiting + c.Working
		listen.Ignored += c.Ignored
		if c.Oldest != 0 || c.Longest != 0 {
			w.fault("oldest message in flight is of %s, longest %s", c.Oldest, c.Longest)
		}
	}
	for _, c := range s.Requests {
		requests.Calls += c.Calls
		requests.Open += c.Open
	}
	if emit.InFlight != 0 || listen.Waiting != 0 || s.Settling != 0 || requests.Open != 0 {
		w.fault("at the end something is in flight: %+v", s)
	}
	if w.calls == 0 || w.nuisance {
		return w.faults // nobody observed; or it panicked before it was told all
	}
	accepted, ended := 0, 0
	for _, n := range w.accepted {
		accepted += n
	}
	for _, n := range w.ended {
		ended += n
	}
	if accepted != ended || int64(accepted) != emit.Accepted || int64(ended-w.failed) != emit.Confirmed {
		w.fault("%d values accepted, %d ended, %d of them failed: %+v", accepted, ended, w.failed, s.Emit)
	}
	if w.received != w.settled || int64(w.received) != listen.Received || w.handed != w.concluded {
		w.fault("%d messages received, %d settled; %d handed over, %d of them settled: %+v", w.received, w.settled, w.handed, w.concluded, s.Listen)
	}
	// What comes back after the end is ignored without a word.
	if w.retried != emit.Retried || w.ignored > listen.Ignored || w.open != 0 || int64(w.requests) != requests.Calls {
		w.fault("%d retried, %d ignored, %d of %d requests open: %+v", w.retried, w.ignored, w.open, w.requests, s)
	}
	if len(w.closed) != 1 || w.closed[0] != closed {
		w.fault("closed with %v, told %v", closed, w.closed)
	}
	return w.faults
}
