package kernel

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/driver"
)

// idlePause is the pause after an empty receive of a broker that does not wait.
const idlePause = time.Second

// outage is the pause after a receive that failed.
var outage = backoff.Exponential(100*time.Millisecond, 20*time.Second).EqualJitter()

// fatalTries is how often in a row a receive of a poller may fail for good before the
// kernel ends: permissions, and new queues, need a moment to be known everywhere.
const fatalTries = 3

// poller asks for messages, one request at a time, as long as clauses L1 and L5
// allow.
type poller struct {
	engine *Engine
	open   atomic.Int32  // batches that are not complete
	wake   chan struct{} // capacity 1: look at the gate again

	live  context.Context // of its receives; ends a little after polling has
	cut   context.CancelFunc
	began atomic.Int64 // when the last receive began, nanoseconds since the engine did
}

// answerTime is how long a receive that has just begun may take to answer when the
// kernel ends. To cut it off would be to leave what the broker has just handed out to
// nobody, until its lease ends. One that has waited for longer has nothing to bring.
const answerTime = 250 * time.Millisecond

func (e *Engine) newPoller() *poller {
	p := &poller{engine: e, wake: make(chan struct{}, 1)}
	p.live, p.cut = context.WithCancel(context.Background())
	return p
}

// end cuts off the receive of the poller, if there is one, when it has had its time.
func (p *poller) end() {
	since := time.Since(p.engine.keeper.born) - time.Duration(p.began.Load())
	if left := answerTime - since; left > 0 {
		time.AfterFunc(left, p.cut)
		return
	}
	p.cut()
}

// gate says when a poller may ask. Its lock is taken once a receive, not once a
// message.
type gate struct {
	mu       sync.Mutex
	waiting  []*poller
	waiters  atomic.Int32
	reserved atomic.Int64 // messages that receives in flight may bring
}

// alert makes the waiting pollers look again.
func (g *gate) alert() {
	if g.waiters.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.waiting {
		p.alert()
	}
}

func (p *poller) alert() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *poller) completed() {
	if p.open.Add(-1) == 0 {
		p.alert()
	}
}

// turn blocks until the poller may ask, and says for how many messages. It returns 0
// when ctx has ended.
func (p *poller) turn(ctx context.Context) int {
	e := p.engine
	e.gate.waiters.Add(1)
	e.gate.mu.Lock()
	e.gate.waiting = append(e.gate.waiting, p)
	e.gate.mu.Unlock()
	defer func() {
		e.gate.mu.Lock()
		for i, x := range e.gate.waiting {
			if x == p {
				last := len(e.gate.waiting) - 1
				e.gate.waiting[i] = e.gate.waiting[last]
				e.gate.waiting = e.gate.waiting[:last]
				break
			}
		}
		e.gate.mu.Unlock()
		e.gate.waiters.Add(-1)
	}()
	for ctx.Err() == nil {
		e.gate.mu.Lock()
		n := e.allowance(p)
		e.gate.reserved.Add(int64(n))
		e.gate.mu.Unlock()
		if n > 0 {
			return n
		}
		for _, in := range e.clogged() {
			e.keeper.expireAt(in.patience())
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
	}
	return 0
}

// allowance is for how many messages a poller may ask now. It asks when all it has
// received is settled, or while some category has nothing in flight; and never for
// more than each category can take: its share in flight and one more share parked, ten at
// least.
func (e *Engine) allowance(p *poller) int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.inlets) == 0 && e.unknown == nil {
		return 0 // nobody listens: the broker keeps its messages
	}
	room, idle := e.most, false
	for in := range e.bound {
		in.mu.Lock()
		room = min(room, e.most-in.load)
		idle = idle || in.load == 0
		in.mu.Unlock()
	}
	if p.open.Load() > 0 && !idle {
		return 0
	}
	if e.settler.pending.count() > e.limits.Requests*e.limits.Entries {
		return 0 // the broker takes messages back more slowly than it hands them out
	}
	return max(0, min(e.limits.Entries, room-int(e.gate.reserved.Load())))
}

// clogged are the inlets that are full while another one has nothing in flight, which they
// hold up. What waits in them goes back when their patience is over. At most once nothing can
// go back.
func (e *Engine) clogged() (full []*Inlet) {
	if e.receiver == nil || e.runner != nil || e.cfg.AtMostOnce {
		return nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	idle := false
	for in := range e.bound {
		in.mu.Lock()
		if idle = idle || in.load == 0; in.load >= e.most {
			full = append(full, in)
		}
		in.mu.Unlock()
	}
	if !idle {
		return nil
	}
	return full
}

// poll asks until ctx ends. It returns an error when asking again is pointless.
func (p *poller) poll(ctx context.Context) error {
	e := p.engine
	c := newCall(p.live, plus(e.cfg.NetworkTimeout, e.limits.Wait))
	defer c.end()
	defer p.cut()
	failures, fatal := 0, 0
	var empty time.Time // when the last empty answer came
	for {
		n := p.turn(ctx)
		if n == 0 {
			return nil
		}
		p.began.Store(int64(time.Since(e.keeper.born)))
		e.receives.begin(0)
		bags, err := p.receive(c, n)
		e.receives.brought(len(bags), err)
		if len(bags) > 0 {
			p.accept(bags)
		}
		e.gate.reserved.Add(-int64(n))
		e.gate.alert()
		if !driver.IsPermanent(err) {
			fatal = 0
		} else if fatal++; fatal == fatalTries {
			return err
		}

		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			failures++
			pause = outage(failures)
			e.unreceived(err)
		case len(bags) == 0:
			failures, pause = 0, e.pause
			now := time.Now()
			if pause == 0 && e.cfg.PollFrequency < 0 && now.Sub(empty) < min(idlePause, e.limits.Wait)/2 {
				pause = idlePause // a broker that says it waits, and does not
			}
			empty = now
		default:
			failures = 0
		}
		if pause > 0 && !sleep(ctx, pause) {
			return nil
		}
	}
}

// unreceived reports a receive that has failed.
func (e *Engine) unreceived(err error) { e.report.report(listenError(&driver.Bag{}, "receive", err)) }

// receive asks for n messages. One that the kernel has cut off, because it ends, has not
// failed.
func (p *poller) receive(c *call, n int) (bags []driver.Bag, err error) {
	e := p.engine
	ask := func(ctx context.Context) (err error) {
		if bags, err = e.receiver.Receive(ctx, n); p.live.Err() != nil {
			return nil
		}
		return err
	}
	if e.observers == nil {
		err = c.do(ask)
		return bags, err
	}
	err = e.observers.request(c, swarm.Request{Operation: swarm.OpReceive}, func(ctx context.Context) ([]swarm.Envelope, error) {
		err := ask(ctx)
		return e.receivedAll(bags), err
	})
	return bags, err
}

// accept makes a batch of what was received, and sends it on its way.
func (p *poller) accept(bags []driver.Bag) {
	e := p.engine
	if e.cfg.AtMostOnce && !e.isClosing() {
		var acked []driver.Bag
		if acked, bags = e.acknowledge(bags); len(acked) > 0 {
			p.start(e.newBatch(e.live, acked, true))
		}
	}
	if len(bags) > 0 {
		p.start(e.newBatch(e.live, bags, false))
	}
}

func (p *poller) start(b *batch) {
	b.poller = p
	p.open.Add(1)
	p.engine.take(b)
}

// acknowledge settles messages before they are handed over: at most once. It returns
// those that may be, and those nobody would get. What the broker does not confirm is
// neither: it comes again.
func (e *Engine) acknowledge(bags []driver.Bag) (acked, rest []driver.Bag) {
	var open sync.WaitGroup
	var entries []*entry
	for i := range bags {
		bag := &bags[i]
		if bag.Err != nil || e.lookup(e.category(bag)) == nil {
			rest = append(rest, *bag)
			continue
		}
		open.Add(1)
		entries = append(entries, &entry{
			bag:     bag,
			verdict: driver.Settlement{Bag: bag, Outcome: driver.Ack},
			done:    func(*entry) { open.Done() },
		})
	}
	if len(entries) > 0 {
		e.settler.push(true, false, entries...)
		open.Wait()
	}
	for _, x := range entries {
		if x.err != nil {
			e.confirmed(x)
			e.spared(x)
			continue
		}
		acked = append(acked, *x.bag)
	}
	return acked, rest
}

// spared accounts for a message that could not be acknowledged, and so is handed to nobody.
func (e *Engine) spared(x *entry) {
	bag := *x.bag
	bag.Category = e.category(&bag)
	e.stray(&bag, swarm.OutcomeReleased)
	if e.observers != nil {
		seen := e.received(&bag)
		e.observers.received(seen)
		e.observers.settled(context.Background(), seen, swarm.Settlement{Outcome: swarm.OutcomeReleased, Err: x.err, At: time.Now()})
	}
}

// plus adds durations that may be endless.
func plus(a, b time.Duration) time.Duration {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxInt64
}

// sleep reports false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
