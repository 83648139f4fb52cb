package kernel_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay one random schedule")
	seedsFlag = flag.Int("seeds", 200, "how many random schedules to run")
)

// TestSchedules runs random programs against the kernel and reconciles its ledger:
// accepted = confirmed + dlq + reported; each delivery is settled exactly once; no
// goroutine is left and nothing hangs. Replay a failure by -seed.
func TestSchedules(t *testing.T) {
	first, n := uint64(time.Now().UnixNano())%1_000_000_000, *seedsFlag
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for i := range n {
		p := program(first + uint64(i))
		faults := p.run(t)
		if len(faults) == 0 {
			continue
		}
		short := p.shrink(t)
		t.Fatalf("seed %d: replay by -run TestSchedules -seed %d\n%s\nprogram:\n%s\nshrunk to:\n%s",
			p.seed, p.seed, strings.Join(faults, "\n"), p, short)
	}
}

// op is one step of a program, at a time after the start.
type op struct {
	at   time.Duration
	what string // send, enq, offer, forge
	lane int
	id   int
	n    int
}

func (o op) String() string {
	return fmt.Sprintf("%8s %-6s lane %d, id %d, n %d", o.at, o.what, o.lane, o.id, o.n)
}

// schedule is a program with its setting. What the broker and the consumers do with a
// message is a function of the seed and the message, so that it survives shrinking.
type schedule struct {
	seed                  uint64
	ops                   []op
	atMostOnce, ordered   bool
	window, capacity      int
	pollers, consumers    int
	ttf, drain, close     time.Duration
	readDLQ, readStderr   bool
	faulty, extends, runs bool
	end                   int // by Close, the end of Run's context, or Shutdown
	observed              int // not, by a witness, or by one that is a nuisance
}

func (p *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  at most once %v, ordered %v, window %d, capacity %d, pollers %d, consumers %d, ttf %s, drain %s, close at %s, dlq read %v, stderr read %v, faulty %v, extends %v, runs %v, end %d, observed %d\n",
		p.atMostOnce, p.ordered, p.window, p.capacity, p.pollers, p.consumers, p.ttf, p.drain, p.close, p.readDLQ, p.readStderr, p.faulty, p.extends, p.runs, p.end, p.observed)
	for _, o := range p.ops {
		fmt.Fprintf(&b, "  %s\n", o)
	}
	return b.String()
}

const lanes = 3

func program(seed uint64) *schedule {
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := &schedule{
		seed:       seed,
		atMostOnce: rnd.IntN(6) == 0,
		ordered:    rnd.IntN(3) == 0,
		window:     []int{1, 1, 3, 20, 100}[rnd.IntN(5)],
		capacity:   []int{0, 0, 1, 10}[rnd.IntN(4)],
		pollers:    1 + rnd.IntN(3),
		consumers:  1 + rnd.IntN(4),
		ttf:        time.Duration(1+rnd.IntN(10)) * time.Second,
		drain:      time.Duration(1+rnd.IntN(8)) * time.Second,
		close:      time.Duration(rnd.IntN(20_000)) * time.Millisecond,
		readDLQ:    rnd.IntN(4) > 0,
		readStderr: rnd.IntN(3) > 0,
		faulty:     rnd.IntN(3) > 0,
		extends:    rnd.IntN(3) > 0,
		runs:       rnd.IntN(10) > 0,
		end:        rnd.IntN(3),
	}
	for i := range 10 + rnd.IntN(60) {
		p.ops = append(p.ops, op{
			at:   time.Duration(rnd.IntN(20_000)) * time.Millisecond,
			what: []string{"send", "send", "send", "enq", "offer", "offer", "forge"}[rnd.IntN(7)],
			lane: rnd.IntN(lanes),
			id:   i + 1,
			n:    1 + rnd.IntN(30), // more than a category may have
		})
	}
	p.observed = rnd.IntN(3)
	slices.SortStableFunc(p.ops, func(a, b op) int { return int(a.at - b.at) })
	return p
}

// shrink removes steps as long as the program still fails.
func (p *schedule) shrink(t *testing.T) *schedule {
	short := *p
	for size := len(short.ops) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(short.ops); {
			try := short
			try.ops = slices.Delete(slices.Clone(short.ops), from, from+size)
			failed := false
			for range 3 { // a schedule is not the only source of chance
				failed = failed || len(try.run(t)) > 0
			}
			if failed {
				short = try
			} else {
				from += size
			}
		}
	}
	return &short
}

// chance is a number below n that depends on the seed and the words alone.
func (p *schedule) chance(n int, words ...any) int {
	h := fnv.New64a()
	fmt.Fprint(h, p.seed, words)
	return int(h.Sum64() % uint64(n))
}

// run executes the program in a bubble and returns what is wrong.
func (p *schedule) run(t *testing.T) (faults []string) {
	defer func() {
		if x := recover(); x != nil {
			faults = append(faults, fmt.Sprint("panic: ", x))
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w := &world{p: p, first: map[string][]int{}, messages: map[string]*message{}, arrived: make(chan struct{}, 1), accepted: map[int]bool{}, witness: newWitness(p.observed == 2)}
		w.play(t)
		faults = w.faults
	})
	return faults
}

type item struct {
	Seq int `json:"seq"`
}

// world is the broker and the ledger of one run.
type world struct {
	p       *schedule
	witness *witness

	mu       sync.Mutex
	faults   []string
	accepted map[int]bool     // by the broker
	first    map[string][]int // order of first acceptance by lane
	messages map[string]*message
	ready    []string
	arrived  chan struct{}
	lapses   int // leases that ended before a settlement
	closes   int
}

// message is on the broker; a delivery of it is current until it is settled or its
// lease has ended.
type message struct {
	bag      driver.Bag
	attempts int
	taken    int      // handed out
	current  *leaseOf // nil: not in flight
	gone     bool
}

type leaseOf struct {
	m       *message
	attempt int
	ends    time.Time
	settled int
	failed  bool // the broker refused its settlement for good
	lapsed  bool
}

const visibility = 3 * time.Second

func (w *world) fault(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *world) Limits() driver.Limits {
	return driver.Limits{Entries: 5, Requests: 4, Ordered: w.p.ordered, Wait: 2 * time.Second, Bytes: []int{0, 12, 24, 30}[w.p.seed/2%4]}
}

// trouble makes a call slow, and tells whether it fails.
func (w *world) trouble(ctx context.Context, key ...any) error {
	if d := time.Duration(w.p.chance(30, append(key, "latency")...)) * time.Millisecond; d > 0 && !sleepy(ctx, d) {
		return ctx.Err()
	}
	if !w.p.faulty {
		return nil
	}
	switch w.p.chance(25, append(key, "fault")...) {
	case 0:
		<-ctx.Done() // hangs
		return ctx.Err()
	case 1, 2, 3:
		return errors.New("outage")
	}
	return nil
}

func sleepy(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *world) Send(ctx context.Context, bags []driver.Bag) error {
	w.witness.look()
	seqs := make([]int, len(bags))
	for i, b := range bags {
		var x item
		if err := json.Unmarshal(b.Body, &x); err != nil {
			return driver.Permanent(err)
		}
		seqs[i] = x.Seq
	}
	now := time.Now().UnixNano()
	if err := w.trouble(ctx, "send", seqs[0], now); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	partial := &driver.BatchError{}
	for i, seq := range seqs {
		fate := 99
		if w.p.faulty {
			fate = w.p.chance(20, "entry", seq, now)
		}
		permanent := w.p.faulty && w.p.chance(12, "permanent", seq) == 0
		switch {
		case permanent:
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("bad"), Permanent: true})
			continue
		case fate == 0:
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("busy")})
			continue
		case fate == 1: // the answer is lost
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("reset")})
		}
		if !w.accepted[seq] {
			w.accepted[seq] = true
			w.first[bags[i].Category] = append(w.first[bags[i].Category], seq)
		}
	}
	if len(partial.Failed) > 0 {
		return partial
	}
	return nil
}

// offer puts a message on the broker.
func (w *world) offer(bag driver.Bag) {
	w.mu.Lock()
	w.messages[bag.ID] = &message{bag: bag}
	w.ready = append(w.ready, bag.ID)
	w.mu.Unlock()
	w.wake()
}

func (w *world) wake() {
	select {
	case w.arrived <- struct{}{}:
	default:
	}
}

func (w *world) take(max int) (bags []driver.Bag) {
	w.mu.Lock()
	defer w.mu.Unlock()
	busy := map[string]bool{}
	if w.p.ordered {
		for _, m := range w.messages {
			if m.current != nil {
				busy[m.bag.Group] = true
			}
		}
	}
	var rest []string
	for _, id := range w.ready {
		m := w.messages[id]
		if len(bags) == max || busy[m.bag.Group] && m.bag.Group != "" {
			rest = append(rest, id)
			continue
		}
		m.attempts++
		m.taken++
		l := &leaseOf{m: m, attempt: m.attempts, ends: time.Now().Add(visibility)}
		m.current = l
		bag := m.bag
		bag.Attempt, bag.Lease, bag.Handle = l.attempt, l.ends, l
		bags = append(bags, bag)
		w.watch(l)
	}
	w.ready = rest
	return bags
}

// watch ends a lease when its time has come.
func (w *world) watch(l *leaseOf) {
	time.AfterFunc(time.Until(l.ends), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if l.m.current != l {
			return
		}
		if time.Now().Before(l.ends) {
			w.watch(l)
			return
		}
		l.lapsed = true
		w.lapses++
		w.back(l.m, 0)
	})
}

// back makes a message available again.
func (w *world) back(m *message, delay time.Duration) {
	m.current = nil
	if m.gone {
		return
	}
	if delay > 0 {
		time.AfterFunc(delay, func() {
			w.mu.Lock()
			w.ready = append(w.ready, m.bag.ID)
			w.mu.Unlock()
			w.wake()
		})
		return
	}
	w.ready = append([]string{m.bag.ID}, w.ready...)
	w.wake()
}

func (w *world) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	wait := time.NewTimer(2 * time.Second)
	defer wait.Stop()
	for {
		if bags := w.take(max); len(bags) > 0 {
			if w.p.faulty && w.p.chance(10, "beside", bags[0].ID, bags[0].Attempt) == 0 {
				return bags, errors.New("beside")
			}
			return bags, nil
		}
		select {
		case <-w.arrived:
		case <-wait.C:
			return nil, nil
		case <-ctx.Done():
			return w.take(max), ctx.Err() // a cancelled poll may have taken some
		}
	}
}

func (w *world) Settle(ctx context.Context, s []driver.Settlement) error {
	if ctx.Err() != nil {
		return ctx.Err() // as a client would: a kernel that settles by a dead context settles nothing
	}
	w.witness.look()
	now := time.Now().UnixNano()
	if err := w.trouble(ctx, "settle", s[0].Bag.ID, s[0].Bag.Attempt, now); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	partial := &driver.BatchError{}
	for i, x := range s {
		l := x.Bag.Handle.(*leaseOf)
		if w.p.faulty && w.p.chance(15, "entry", x.Bag.ID, l.attempt, now) == 0 {
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("busy")})
			continue
		}
		if l.settled > 0 {
			w.fault("%s attempt %d was settled twice", x.Bag.ID, l.attempt)
		}
		if l.m.current != l {
			l.failed = true
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("stale"), Permanent: true})
			continue
		}
		l.settled++
		switch x.Outcome {
		case driver.Ack:
			l.m.gone = true
			w.back(l.m, 0)
		case driver.Nack:
			w.back(l.m, x.Delay)
		case driver.Release:
			l.m.attempts--
			w.back(l.m, 0)
		default:
			w.fault("%s: outcome %v", x.Bag.ID, x.Outcome)
		}
	}
	if len(partial.Failed) > 0 {
		return partial
	}
	return nil
}

func (w *world) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closes++
	return nil
}

// extender is the world with leases that can be extended.
type extender struct{ *world }

func (x extender) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	if err := x.trouble(ctx, "extend", bags[0].ID, bags[0].Attempt, time.Now().UnixNano()); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	partial := &driver.BatchError{}
	for i, b := range bags {
		l := b.Handle.(*leaseOf)
		if l.settled > 0 {
			x.fault("%s was extended after its settlement", b.ID)
		}
		if l.m.current != l {
			partial.Failed = append(partial.Failed, driver.Failure{Index: i, Err: errors.New("stale"), Permanent: true})
			continue
		}
		l.ends = time.Now().Add(d)
	}
	if len(partial.Failed) > 0 {
		return partial
	}
	return nil
}

// tallyOf is the user's side of the ledger.
type tallyOf struct {
	mu       sync.Mutex
	sent     map[string][]int // accepted by the channel, in order
	failed   map[int]error    // told by OnFailure
	dead     map[int]bool     // came out of dlq
	twice    []int
	hung     []func()
	reported []error
	acked    map[string]int // message id and attempt: how often
}

func (w *world) play(t *testing.T) {
	p := w.p
	stderr := make(chan error)
	opts := quiet(
		swarm.WithStdErr(stderr),
		swarm.WithRetry(backoff.Policy{Attempts: 4, Delay: backoff.Constant(50 * time.Millisecond)}),
		swarm.WithRedelivery(backoff.Exponential(500*time.Millisecond, 4*time.Second)),
		swarm.WithTimeToFlight(p.ttf), swarm.WithDrainTimeout(p.drain),
		swarm.WithNetworkTimeout(time.Second), swarm.WithPollerPool(p.pollers),
	)
	if p.atMostOnce {
		opts = append(opts, swarm.WithPolicyAtMostOnce(p.capacity+1))
	} else {
		opts = append(opts, swarm.WithEmitCapacity(p.capacity), swarm.WithRecvCapacity(p.capacity),
			swarm.WithAckCapacity(p.capacity), swarm.WithDeadLetterCapacity(p.capacity/2), swarm.WithEmitWindow(p.window))
	}
	var d driver.Sender = w
	if p.extends {
		d = extender{w}
	}
	if p.observed > 0 {
		opts = append(opts, swarm.WithObserver(w.witness.observer()))
	}
	q, err := kernel.NewEndpoint(d, opts...)
	if err != nil {
		t.Fatal(err)
	}
	w.witness.watch(q.Stats)
	u := &tallyOf{sent: map[string][]int{}, failed: map[int]error{}, dead: map[int]bool{}, acked: map[string]int{}}
	var others sync.WaitGroup
	others.Go(func() {
		if !p.readStderr {
			return
		}
		for {
			select {
			case err := <-stderr:
				u.mu.Lock()
				u.reported = append(u.reported, err)
				u.mu.Unlock()
			case <-time.After(time.Hour):
				return
			}
		}
	})

	// Emit lanes, each with one producer.
	var producers sync.WaitGroup
	start := time.Now()
	at := func(o op) { time.Sleep(time.Until(start.Add(o.at))) }
	var enqs [lanes]chan<- item
	for i := range lanes {
		category := fmt.Sprint("lane", i)
		enq, dlq := emit.Typed[item](q, emit.Category(category), emit.OnFailure(func(v item, err error) {
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.failed[v.Seq] != nil {
				u.twice = append(u.twice, v.Seq)
			}
			u.failed[v.Seq] = err
		}))
		enqs[i] = enq
		dead := func() {
			for v := range dlq {
				u.mu.Lock()
				if u.dead[v.Seq] {
					u.twice = append(u.twice, v.Seq)
				}
				u.dead[v.Seq] = true
				u.mu.Unlock()
			}
		}
		others.Go(func() {
			if !p.readDLQ {
				<-q.Done()
				time.Sleep(time.Hour)
			}
			dead()
		})
		producers.Go(func() {
			for _, o := range p.ops {
				if o.what != "send" || o.lane != i {
					continue
				}
				at(o)
				for k := range o.n {
					seq := o.id*100 + k
					enq <- item{seq}
					u.mu.Lock()
					u.sent[category] = append(u.sent[category], seq)
					u.mu.Unlock()
				}
			}
		})
	}
	var answers sync.Map
	one := emit.NewTyped[item](q, emit.Category("sync"))
	for _, o := range p.ops {
		if o.what == "enq" {
			producers.Go(func() {
				at(o)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(o.n)*500*time.Millisecond)
				defer cancel()
				answers.Store(o.id*100, fmt.Sprint(one.Enq(ctx, item{o.id * 100})))
			})
		}
	}

	// A category that is always idle: the others hold it up when they are full.
	idle, _ := listen.Typed[item](q, listen.Category("idle"))
	others.Go(func() {
		for range idle {
		}
	})
	// Listen lanes. What a consumer does with a message depends on the message; some come late.
	for i := range 2 {
		deq, ack := listen.Typed[item](q, listen.Category(fmt.Sprint("in", i)))
		for range p.consumers {
			others.Go(func() {
				if p.seed%3 > 0 {
					time.Sleep(time.Duration(p.chance(18000, "late", i)) * time.Millisecond)
				}
				w.consume(u, deq, ack)
			})
		}
		for _, o := range p.ops {
			// At most once a lane may leave when the rest has room in ack, which a forged one takes.
			if o.what == "forge" && o.lane == i && !p.atMostOnce {
				others.Go(func() {
					at(o)
					select {
					case ack <- swarm.Msg[item]{Digest: swarm.NewDigest(t.Context())}:
					case <-time.After(time.Second):
					}
				})
			}
		}
	}
	for _, o := range p.ops {
		if o.what == "offer" {
			others.Go(func() {
				at(o)
				for k := range o.n {
					bag := driver.Bag{ID: fmt.Sprintf("m%d-%d", o.id, k), Category: fmt.Sprint("in", o.lane), Body: fmt.Appendf(nil, `{"seq":%d}`, k)}
					if p.ordered {
						bag.Group = fmt.Sprint("g", o.id%3)
					}
					if w.p.chance(10, "poison", bag.ID) == 0 {
						bag.Body = []byte("poison")
					}
					w.offer(bag)
				}
			})
		}
	}

	ran := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if p.runs {
		go func() { ran <- q.Run(ctx) }()
	}
	time.Sleep(time.Until(start.Add(p.close)))
	began := time.Now()
	switch {
	case p.end == 1 && p.runs:
		cancel()
		err = <-ran
		ran <- err
	case p.end == 2:
		within, cancel := context.WithTimeout(t.Context(), p.drain)
		defer cancel()
		err = q.Shutdown(within)
	default:
		err = q.Close()
	}
	if took := time.Since(began); took > p.drain+200*time.Millisecond {
		w.fault("the end took %s of %s", took, p.drain)
	}
	if p.runs {
		if again := <-ran; again != err {
			w.fault("Run answered %v, before %v", again, err)
		}
	}
	if again := q.Close(); again != err {
		w.fault("Close answered %v, before %v", again, err)
	}
	producers.Wait() // a send after Close does not hang
	for _, enq := range enqs {
		close(enq)
	}
	time.Sleep(2 * time.Hour)
	synctest.Wait()
	for _, f := range u.hung {
		f() // late: the ack side is still open
	}
	others.Wait()
	time.Sleep(time.Second) // an observer may be a nuisance
	synctest.Wait()
	w.reconcile(u, &answers, err)
	w.balance(u, q.Stats(), err)
}

// balance holds the kernel's own ledger against what the user and the broker have seen.
func (w *world) balance(u *tallyOf, s swarm.Stats, closed error) {
	w.faults = append(w.faults, w.witness.reconcile(s, closed)...)
	left := &swarm.DrainError{}
	if closed != nil {
		left, _ = errors.AsType[*swarm.DrainError](closed)
	}
	for category, seqs := range u.sent {
		var confirmed, dead, refused int64
		for _, seq := range seqs {
			switch err := u.failed[seq]; {
			case err == nil:
				confirmed++
			case errors.Is(err, swarm.ErrClosed):
				refused++
			case u.dead[seq]:
				dead++
			}
		}
		c := s.Emit[category]
		if c.Confirmed != confirmed || c.Failed != dead || c.Refused != refused || c.Accepted+c.Refused != int64(len(seqs)) {
			w.fault("%s: %d sent, %d confirmed, %d dead letters, %d refused; the ledger says %+v", category, len(seqs), confirmed, dead, refused, c)
		}
	}
	var undelivered, lost int64
	for _, c := range s.Emit {
		undelivered += c.Undelivered
	}
	for _, c := range s.Listen {
		lost += c.Lost
	}
	if undelivered != int64(left.Undelivered) || lost != int64(left.Lost) {
		w.fault("Close counted %+v, the ledger %d undelivered, %d lost", left, undelivered, lost)
	}
	received, handed := int64(0), 0
	for _, m := range w.messages {
		received += int64(m.taken)
	}
	for _, n := range u.acked {
		handed += n
	}
	var total, worked int64
	for _, c := range s.Listen {
		total += c.Received
		worked += c.Acked + c.Failed + c.Expired
	}
	if total > received || !w.p.atMostOnce && total != received {
		w.fault("the broker handed out %d messages, the ledger has %d", received, total)
	}
	if w.p.capacity == 0 && !w.p.atMostOnce && worked > int64(handed) { // a buffer may have had it
		w.fault("consumers had %d messages, the ledger has %d", handed, worked)
	}
}

// consume takes messages and ends them in one of many ways.
func (w *world) consume(u *tallyOf, deq <-chan swarm.Msg[item], ack chan<- swarm.Msg[item]) {
	for msg := range deq {
		key := fmt.Sprint(msg.ID, " ", msg.Attempt)
		w.witness.look()
		time.Sleep(time.Duration(w.p.chance(300, "work", key)) * time.Millisecond)
		fate := w.p.chance(14, "fate", key)
		u.mu.Lock()
		u.acked[key]++
		u.mu.Unlock()
		switch {
		case fate == 0:
			ack <- msg.Fail(errors.New("no"))
		case fate == 1:
			ack <- msg.Fail(swarm.RetryAfter(2*time.Second, errors.New("no")))
		case fate == 2 && !w.p.atMostOnce: // hangs until long after Close
			u.mu.Lock()
			u.hung = append(u.hung, func() { ack <- msg })
			u.mu.Unlock()
		case fate == 3 && !w.p.atMostOnce:
			ack <- msg
			select { // a second settlement, while somebody takes it
			case ack <- msg.Fail(errors.New("again")):
			case <-time.After(100 * time.Millisecond):
			}
		case fate == 4 && !w.p.atMostOnce: // there it may come when nobody takes it any more
			time.Sleep(w.p.ttf + time.Second) // late
			ack <- msg
		default:
			ack <- msg
		}
	}
}

func (w *world) reconcile(u *tallyOf, answers *sync.Map, closed error) {
	p := w.p
	left := &swarm.DrainError{}
	if closed != nil {
		left, _ = errors.AsType[*swarm.DrainError](closed)
	}
	if len(u.twice) > 0 {
		w.fault("values reported twice: %v", u.twice)
	}
	if w.closes != 1 {
		w.fault("driver was closed %d times", w.closes)
	}

	// Emit: accepted = confirmed + reported, and what is reported is on dlq, left
	// over, refused, or dropped.
	undelivered, refused := 0, 0
	for category, seqs := range u.sent {
		for _, seq := range seqs {
			err := u.failed[seq]
			switch {
			case err == nil && !w.accepted[seq]:
				w.fault("%s: %d is lost", category, seq)
			case err == nil && u.dead[seq]:
				w.fault("%s: %d is on dlq without a report", category, seq)
			case err == nil:
			case errors.Is(err, swarm.ErrClosed):
				if refused++; u.dead[seq] || w.accepted[seq] {
					w.fault("%s: %d was refused and sent", category, seq)
				}
			case !u.dead[seq]:
				undelivered++
			}
		}
		var order []int
		for _, seq := range w.first[category] {
			if u.failed[seq] == nil {
				order = append(order, seq)
			}
		}
		var want []int
		for _, seq := range seqs {
			if u.failed[seq] == nil {
				want = append(want, seq)
			}
		}
		if (p.window == 1 && !p.atMostOnce || p.ordered) && !slices.Equal(order, want) {
			w.fault("%s: order %v, want %v", category, order, want)
		}
	}
	if !p.atMostOnce && undelivered != left.Undelivered {
		w.fault("%d values are neither confirmed nor on dlq, Close counted %d", undelivered, left.Undelivered)
	}
	answers.Range(func(seq, answer any) bool {
		if answer == "<nil>" && !w.accepted[seq.(int)] {
			w.fault("Enq of %d answered nil", seq)
		}
		return true
	})

	// Listen: whatever was received is settled once, lapsed, or reported.
	for id, m := range w.messages {
		if l := m.current; l != nil && l.settled == 0 {
			w.fault("%s attempt %d is still in flight", id, l.attempt)
		}
	}
	for key, n := range u.acked {
		if n > 1 && w.lapses == 0 && !p.faulty && !p.atMostOnce {
			w.fault("%s was handed over %d times", key, n)
		}
	}
	if p.extends && !p.faulty && w.lapses > 0 {
		w.fault("%d leases lapsed although they could be extended", w.lapses)
	}
	if p.extends && !p.faulty && left.Unconfirmed > 0 {
		w.fault("%d settlements unconfirmed", left.Unconfirmed)
	}
}
