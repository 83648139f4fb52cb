package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// TestBridgeSchedules makes random invocations of a function, several at once, whose
// consumers emit, fail, hang, and settle late, twice or by forged messages, while the
// emitter's broker is slow, refuses and hangs, and a shutdown comes at any time. Replay a
// failure by -seed.
func TestBridgeSchedules(t *testing.T) {
	first, n := uint64(time.Now().UnixNano())%1_000_000_000, *seedsFlag
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for i := range n {
		w := &plant{seed: first + uint64(i)}
		synctest.Test(t, w.run)
		if len(w.faults) > 0 {
			t.Fatalf("replay by -run TestBridgeSchedules -seed %d\n%s\n%s", w.seed, w.setting, strings.Join(w.faults, "\n"))
		}
	}
}

// job is what a message tells its consumer to do.
type job struct {
	Key   string        // of the message
	Emit  []string      // keys of values to be emitted before it is settled
	Lane  int           // by which of the channels
	Work  time.Duration // before that
	Do    string        // ack, nack, hang; and then: twice, forge
	Again string
}

// value is what consumers emit; its key says what the broker makes of it.
type value struct{ Key string }

// plant is one schedule of a function and its emitters, and their ledger.
type plant struct {
	seed    uint64
	setting string
	whole   bool
	handled bool

	buffered bool

	mu        sync.Mutex
	faults    []string
	first     map[string]string    // key of a message to the first settlement a consumer sent
	at        map[string]time.Time // and when
	accepted  map[string]time.Time // key of a value to when its send returned
	began     map[string]time.Time // and was begun
	confirmed map[string]time.Time
	failed    map[string]bool // on dlq, or reported by OnFailure
	calls     []*callRecord
}

type callRecord struct {
	began, ended time.Time
	deadline     time.Time
	jobs         []job
	settled      []driver.Settlement
	err          error
}

func (w *plant) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *plant) run(t *testing.T) {
	r := rand.New(rand.NewPCG(w.seed, 7))
	w.first, w.at = map[string]string{}, map[string]time.Time{}
	w.accepted, w.began, w.confirmed, w.failed = map[string]time.Time{}, map[string]time.Time{}, map[string]time.Time{}, map[string]bool{}

	w.whole, w.handled = r.IntN(3) == 0, r.IntN(4) == 0
	readDLQ := r.IntN(3) > 0
	window, capacity, consumers := 1+r.IntN(4), r.IntN(2)*r.IntN(5), 1+r.IntN(4)
	opts := quiet(swarm.WithBarrier(swarm.NewBarrier()), swarm.WithEmitWindow(window), swarm.WithEmitCapacity(capacity),
		swarm.WithRetryConstant(20*time.Millisecond, 3), swarm.WithNetworkTimeout(2*time.Second), swarm.WithDrainTimeout(10*time.Second))
	if w.handled {
		opts = append(opts, swarm.WithDeadLetterHandled())
	}
	if r.IntN(3) == 0 {
		opts = append(opts, swarm.WithTimeToFlight(time.Duration(1+r.IntN(10))*time.Second))
	}
	w.buffered = capacity > 0
	w.setting = fmt.Sprintf("whole %v, handled %v, dlq read %v, window %d, capacity %d, consumers %d", w.whole, w.handled, readDLQ, window, capacity, consumers)

	f := &function{limits: driver.Limits{Whole: w.whole}, serve: make(chan driver.Serve, 1)}
	listens := newWitness(false)
	q, err := kernel.NewListener(f, append(opts, swarm.WithObserver(listens.observer()))...)
	if err != nil {
		t.Fatal(err)
	}
	listens.watch(q.Stats)
	var emits []*witness
	// Two kernels that emit, two channels each.
	var emitters []*kernel.Emitter
	var lanes []chan<- value
	var readers sync.WaitGroup
	for range 2 {
		out := newRig()
		out.send = w.broker
		sees := newWitness(r.IntN(4) == 0)
		e, err := kernel.NewEmitter(out, append(opts, swarm.WithObserver(sees.observer()))...)
		if err != nil {
			t.Fatal(err)
		}
		sees.watch(e.Stats)
		emits = append(emits, sees)
		emitters = append(emitters, e)
		for range 2 {
			enq, dlq := emit.Typed[value](e, emit.Codec[value](fateful{}), emit.OnFailure(func(v value, _ error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.failed[v.Key] = true
			}))
			lanes = append(lanes, enq)
			if readDLQ {
				readers.Go(func() {
					for range dlq {
					}
				})
			}
		}
	}
	var work sync.WaitGroup
	deq, ack := listen.Typed[job](q)
	for range consumers {
		work.Go(func() { w.consume(deq, ack, lanes) })
	}
	go q.Run(context.Background())
	serve := <-f.serve

	var invocations sync.WaitGroup
	serial := 0
	for range 1 + r.IntN(8) {
		c := &callRecord{}
		for range r.IntN(8) {
			serial++
			c.jobs = append(c.jobs, newJob(r, serial, len(lanes)))
		}
		limit := time.Duration(1+r.IntN(20)) * time.Second
		invocations.Add(1)
		f.open.Add(1)
		w.calls = append(w.calls, c)
		go func() {
			defer invocations.Done()
			defer f.open.Done()
			w.invoke(serve, c, limit)
		}()
		if r.IntN(2) == 0 {
			invocations.Wait()
		} else {
			time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
		}
	}
	if r.IntN(3) > 0 {
		invocations.Wait()
	}
	closed := q.Close() // counts what hung
	invocations.Wait()
	time.Sleep(time.Hour) // everything that hangs comes back
	for i, e := range emitters {
		err := e.Close()
		defer func() { w.faults = append(w.faults, emits[i].reconcile(e.Stats(), err)...) }()
	}
	work.Wait()
	for _, enq := range lanes {
		close(enq)
	}
	readers.Wait()
	synctest.Wait()
	w.check()
	w.faults = append(w.faults, listens.reconcile(q.Stats(), closed)...)
}

func newJob(r *rand.Rand, n, lanes int) job {
	j := job{Key: fmt.Sprint("m", n), Lane: r.IntN(lanes), Work: time.Duration(r.IntN(300)) * time.Millisecond}
	for i := range r.IntN(3) {
		fate := []string{"ok", "ok", "ok", "ok", "slow", "flaky", "refused", "hang", "bad", "late"}[r.IntN(10)]
		j.Emit = append(j.Emit, fmt.Sprintf("%s.%d/%s", j.Key, i, fate))
	}
	j.Do = []string{"ack", "ack", "ack", "ack", "nack", "hang", "poison", "unknown"}[r.IntN(8)]
	j.Again = []string{"", "", "", "twice", "forge"}[r.IntN(5)]
	return j
}

// broker of the emitters: the key of a value says what becomes of it.
func (w *plant) broker(ctx context.Context, bags []driver.Bag) error {
	var partial driver.BatchError
	for i := range bags {
		var v value
		if err := json.Unmarshal(bags[i].Body, &v); err != nil {
			return err
		}
		_, fate, _ := strings.Cut(v.Key, "/")
		switch fate {
		case "slow":
			select {
			case <-time.After(800 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		case "flaky":
			w.mu.Lock()
			again := w.began[v.Key+"?"]
			w.began[v.Key+"?"] = time.Now()
			w.mu.Unlock()
			if again.IsZero() {
				partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("not now")})
				continue
			}
		case "refused":
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("refused"), Permanent: true})
			continue
		case "hang":
			<-ctx.Done()
			return ctx.Err()
		}
		w.mu.Lock()
		w.confirmed[v.Key] = time.Now()
		w.mu.Unlock()
	}
	if len(partial.Failed) > 0 {
		return &partial
	}
	return nil
}

// offer sends what nobody has promised to take: once each message came back, and the kernel
// is closed, the other end of ack is gone.
func offer(ack chan<- swarm.Msg[job], msg swarm.Msg[job]) {
	select {
	case ack <- msg:
	case <-time.After(time.Second):
	}
}

func (w *plant) consume(deq <-chan swarm.Msg[job], ack chan<- swarm.Msg[job], lanes []chan<- value) {
	var hung sync.WaitGroup
	for msg := range deq {
		j := msg.Object
		time.Sleep(j.Work)
		for _, key := range j.Emit {
			w.mu.Lock()
			w.began[key] = time.Now()
			w.mu.Unlock()
			lanes[j.Lane] <- value{key}
			w.mu.Lock()
			w.accepted[key] = time.Now()
			w.mu.Unlock()
		}
		if j.Do == "hang" {
			hung.Go(func() {
				time.Sleep(time.Minute)
				ack <- msg
			})
			continue
		}
		if j.Again == "forge" {
			forged := msg
			forged.Digest = swarm.NewDigest(context.Background())
			offer(ack, forged)
		}
		back := msg
		if j.Do == "nack" {
			back = msg.Fail(errors.New("nack"))
		}
		w.mu.Lock()
		w.first[j.Key], w.at[j.Key] = j.Do, time.Now()
		w.mu.Unlock()
		ack <- back
		if j.Again == "twice" {
			offer(ack, msg.Fail(errors.New("second")))
		}
	}
	hung.Wait()
}

func (w *plant) invoke(serve driver.Serve, c *callRecord, limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	bags := make([]driver.Bag, len(c.jobs))
	for i, j := range c.jobs {
		bags[i] = driver.Bag{Category: "job", ID: "same", Attempt: 1}
		bags[i].Body, _ = json.Marshal(j)
		switch j.Do {
		case "poison":
			bags[i].Body = []byte("{")
		case "unknown":
			bags[i].Category = "unknown"
		}
	}
	c.began = time.Now()
	c.deadline, _ = ctx.Deadline()
	settled, err := serve(ctx, bags)
	w.mu.Lock()
	defer w.mu.Unlock()
	c.ended, c.settled, c.err = time.Now(), slices.Clone(settled), err
}

// check holds the ledger against the contract.
func (w *plant) check() {
	for n, c := range w.calls {
		if errors.Is(c.err, swarm.ErrClosed) && c.settled == nil {
			continue // refused as a whole: nothing was handed over
		}
		if !c.ended.Before(c.deadline) {
			w.fault("B2: invocation %d answers at its deadline", n)
		}
		if len(c.settled) != len(c.jobs) {
			w.fault("B1: invocation %d has %d settlements of %d messages", n, len(c.settled), len(c.jobs))
			continue
		}
		for i, j := range c.jobs {
			s := c.settled[i]
			did, at := w.first[j.Key], w.at[j.Key]
			inTime := did != "" && at.Before(c.ended)
			switch {
			case s.Outcome == driver.Ack && (did != "ack" || at.After(c.ended)):
				w.fault("B1: invocation %d: message %s is acknowledged, its consumer said %q", n, j.Key, did)
			case s.Outcome != driver.Ack && did == "ack" && inTime && !w.whole && s.Outcome != driver.Release && !errors.Is(s.Err, swarm.ErrTimeToFlight) && !errors.Is(s.Err, swarm.ErrClosed):
				w.fault("B1: invocation %d: message %s was acknowledged and is settled by %s, %v", n, j.Key, s.Outcome, s.Err)
			case s.Outcome == driver.Ack && slices.Contains([]string{"poison", "unknown", "hang", "nack"}, j.Do):
				w.fault("B3: invocation %d: message %s (%s) is acknowledged", n, j.Key, j.Do)
			}
		}
		// B4: an invocation that succeeds has all confirmed that its acknowledged messages
		// emitted.
		own := false // one of the values that were accepted while it was open has failed
		for key, at := range w.accepted {
			confirmed, ok := w.confirmed[key]
			open := !w.began[key].After(c.ended) && !at.Before(c.began)
			if w.buffered && !confirmed.IsZero() && confirmed.After(c.ended) && !at.After(c.ended) || w.buffered && !ok && !at.After(c.ended) {
				own = true // a buffer does not tell when
			}
			if open && (!ok || !confirmed.Before(c.ended) || w.failed[key]) { // or just then
				own = true
			}
		}
		for i, j := range c.jobs {
			if c.settled[i].Outcome != driver.Ack || c.err != nil {
				continue
			}
			for _, key := range j.Emit {
				confirmed, ok := w.confirmed[key]
				if (!ok || confirmed.After(c.ended)) && !(w.handled && w.failed[key]) {
					w.fault("B4: invocation %d succeeds, %s of message %s was not confirmed", n, key, j.Key)
				}
			}
		}
		for key, began := range w.began { // sends that never returned in time also count
			if !strings.HasSuffix(key, "?") && !began.After(c.ended) && w.accepted[key].IsZero() {
				own = true
			}
		}
		// A channel that hangs in its codec may have what an earlier invocation emitted.
		if c.err != nil && !own && !errors.Is(c.err, swarm.ErrClosed) && !errors.Is(c.err, swarm.ErrUnconfirmed) {
			w.fault("B4: invocation %d fails with %v, and nothing it emitted did", n, c.err)
		}
	}
	// E4: what was accepted is confirmed, or its failure was told.
	for key := range w.accepted {
		if _, ok := w.confirmed[key]; !ok && !w.failed[key] {
			w.fault("E4: %s was accepted, and is neither confirmed nor reported", key)
		}
	}
}

// fateful is the codec of values, by their fate.
type fateful struct{}

func (fateful) Category() string { return "value" }
func (fateful) Encode(v value) ([]byte, error) {
	switch _, fate, _ := strings.Cut(v.Key, "/"); fate {
	case "bad":
		return nil, errors.New("bad")
	case "late":
		time.Sleep(2500 * time.Millisecond)
	}
	return json.Marshal(v)
}
