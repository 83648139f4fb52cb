package kernel

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/driver"
)

// entry is one message of a request: a bag to send, or a delivery to settle.
type entry struct {
	bag      *driver.Bag
	verdict  driver.Settlement // of a delivery; unused by sends
	size     int               // bytes, as the broker counts
	orphan   bool              // its caller has left: not worth another attempt
	attempts int               // calls that carried the entry
	err      error             // outcome, once done
	book     *emitted          // ledger of its category; of sends

	carried bool              // its bag has attributes that are dropped before it is refused
	bare    map[string]string // the others

	// done is told the outcome, exactly once. It must not block.
	done func(*entry)
}

// requests gathers entries into requests, keeps a bounded number of them in flight,
// and repeats what failed. One serves the sends of a kernel, one its settlements.
//
// It has no goroutine of its own: whoever pushes an entry starts a worker if a
// request is due, and a worker ends when none is.
type requests struct {
	load    func(w *worker, e *entry) // adds an entry to the request of w
	call    func(w *worker) error     // makes the request of w
	live    context.Context           // ends at the cut: see Engine.drain
	limits  driver.Limits
	retry   backoff.Policy
	timeout time.Duration
	watch   func(e swarm.Envelope, err error) // is told of each retry, and does not block; nil: nobody is

	// eager sends a partial batch when no request is in flight. Otherwise it
	// waits for the linger, or for an urgent entry.
	eager  bool
	linger time.Duration

	pending tally // entries that are not done
	working tally // workers

	mu      sync.Mutex
	queue   []*entry          // due to be sent, in order; of an ordered broker one per group
	bytes   int               // sum of sizes in queue
	groups  map[string]*group // of an ordered broker: groups with an entry that is not done
	backing map[*retry]struct{}
	workers []*worker // with a request in flight, or about to cut one
	calls   int       // requests in flight
	spare   []*worker
	hurry   bool // a partial batch goes at once
	timer   *time.Timer
	armed   bool
	counts  swarm.RequestStats
	refuse  bool  // no more entries from synchronous callers
	dead    error // set by abort: the outcome of everything that is not done
}

// group is the unit of order. Only its first entry is in the queue, in flight or
// backing off; the others wait here.
type group struct {
	busy int // entries ahead of the waiting ones
	wait []*entry
}

// retry is what waits for its next attempt after one request.
type retry struct {
	entries []*entry
	timer   *time.Timer
}

// worker carries one request at a time.
type worker struct {
	batch       []*entry         // in flight; guarded by requests.mu; empty once they were aborted
	told        []*entry         // done, to be told
	carries     int              // entries of the request in flight
	seen        []swarm.Envelope // of its messages, if somebody observes
	bags        []driver.Bag
	settlements []driver.Settlement
	call        *call
	start       func() // work of this worker, made once
	cutting     bool   // started, and has not cut its batch
	expect      int    // entries worth waiting for after the last request
}

// push queues entries. It reports false, and takes none, when the caller is
// synchronous and the kernel refuses.
func (r *requests) push(urgent, sync bool, entries ...*entry) bool {
	r.mu.Lock()
	if sync && r.refuse {
		r.mu.Unlock()
		return false
	}
	r.pending.add(len(entries))
	if r.dead != nil {
		r.mu.Unlock()
		for _, e := range entries {
			e.err = r.dead
			r.done(e)
		}
		return true
	}
	for _, e := range entries {
		r.enqueue(e)
	}
	r.hurry = r.hurry || urgent
	r.dispatch()
	r.mu.Unlock()
	return true
}

func (r *requests) done(e *entry) {
	e.done(e)
	r.pending.add(-1)
}

// enqueue puts an entry in the queue, or behind the entries of its group.
func (r *requests) enqueue(e *entry) {
	if r.limits.Ordered && e.bag.Group != "" {
		g := r.groups[e.bag.Group]
		if g == nil {
			g = &group{}
			r.groups[e.bag.Group] = g
		}
		if g.busy > 0 {
			g.wait = append(g.wait, e)
			return
		}
		g.busy++
	}
	r.queue = append(r.queue, e)
	r.bytes += e.size
}

// dispatch starts workers for the requests that are due, or the timer after which
// one will be. Callers hold mu.
func (r *requests) dispatch() {
	full := len(r.queue) / r.limits.Entries
	if r.limits.Bytes > 0 {
		full = max(full, r.bytes/r.limits.Bytes)
	}
	partial := len(r.queue) > 0 && full == 0 || len(r.queue)%r.limits.Entries > 0
	due := full
	if partial && (r.hurry || r.eager && r.calls == 0) {
		due++
	}
	cutting := 0
	for _, w := range r.workers {
		if w.cutting {
			cutting++
		}
	}
	for ; cutting < due && len(r.workers) < r.limits.Requests; cutting++ {
		w := r.idleWorker()
		w.cutting = true
		r.workers = append(r.workers, w)
		r.working.add(1)
		go w.start()
	}
	if partial && cutting == 0 && !r.armed {
		r.armed = true
		if r.timer == nil {
			r.timer = time.AfterFunc(r.linger, r.lingered)
		} else {
			r.timer.Reset(r.linger)
		}
	}
}

func (r *requests) lingered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed = false
	if len(r.queue) > 0 {
		r.hurry = true
		r.dispatch()
	}
}

func (r *requests) idleWorker() *worker {
	if n := len(r.spare); n > 0 {
		w := r.spare[n-1]
		r.spare = r.spare[:n-1]
		return w
	}
	w := &worker{call: newCall(r.live, r.timeout)}
	w.start = func() { r.work(w) }
	return w
}

// work carries requests as long as one is due.
func (r *requests) work(w *worker) {
	defer r.working.add(-1)
	for r.cut(w) {
		var began time.Time // of requests whose time matters to gather
		if r.eager && len(w.bags) > 1 {
			began = time.Now()
		}
		err := r.call(w)
		slow := !began.IsZero() && time.Since(began) >= time.Millisecond
		r.settle(w, err, slow)
	}
}

// cut takes a batch off the queue. It reports false when none is due: the worker
// has ended.
func (r *requests) cut(w *worker) bool {
	r.gather(w)
	r.mu.Lock()
	defer r.mu.Unlock()
	w.cutting = false
	size, n := 0, 0
	for n < len(r.queue) && n < r.limits.Entries {
		next := size + r.queue[n].size
		if n > 0 && r.limits.Bytes > 0 && next > r.limits.Bytes {
			break
		}
		size = next
		n++
	}
	full := n == r.limits.Entries || n < len(r.queue) || r.limits.Bytes > 0 && size >= r.limits.Bytes
	if n == 0 || !full && !r.hurry && !(r.eager && r.calls == 0) {
		r.retire(w)
		r.dispatch()
		return false
	}
	w.batch = append(w.batch[:0], r.queue[:n]...)
	r.queue = slices.Delete(r.queue, 0, n)
	for _, e := range w.batch {
		r.bytes -= e.size
		e.attempts++
	}
	if r.limits.GroupBatches {
		r.extend(w)
	}
	r.retried(w.batch)
	if len(r.queue) == 0 {
		r.hurry = false
	}
	// Copied here: after an abort the owner may use the entry again, although the
	// request is still in flight.
	w.bags, w.settlements, w.seen = w.bags[:0], w.settlements[:0], w.seen[:0]
	for _, e := range w.batch {
		r.load(w, e)
	}
	w.carries = len(w.batch)
	callBegun(&r.counts, w.carries)
	r.calls++
	r.dispatch()
	return true
}

// retried notes which entries were sent before.
func (r *requests) retried(batch []*entry) {
	for _, e := range batch {
		if e.attempts < 2 || e.book == nil {
			continue
		}
		e.book.retried()
		if r.watch != nil {
			r.watch(sent(e.bag, e.attempts-1), e.err)
		}
	}
}

// extend fills a batch with waiting entries of the groups it has.
func (r *requests) extend(w *worker) {
	size := 0
	for _, e := range w.batch {
		size += e.size
	}
	for i := 0; i < len(w.batch); i++ {
		g := r.groups[w.batch[i].bag.Group]
		for g != nil && len(g.wait) > 0 && len(w.batch) < r.limits.Entries {
			e := g.wait[0]
			if size += e.size; r.limits.Bytes > 0 && size > r.limits.Bytes {
				return
			}
			g.wait = g.wait[1:]
			g.busy++
			e.attempts++
			w.batch = append(w.batch, e)
		}
	}
}

// gather lets producers run before a partial batch is cut, as long as they add to
// it: they were woken a moment ago by the answers of the request before, and would
// else fill requests of 1 and of 9 in turn. After a request that took its time, over a
// network, it is more patient: until as many values are there as that one has answered,
// for some 100 microseconds at most. It yields and does not sleep, since the shortest
// sleep of an idle process is a millisecond.
func (r *requests) gather(w *worker) {
	if !r.eager {
		return // what goes out is urgent, or has waited for the linger
	}
	const patience = 1000
	n := 0
	for before, yields := -1, 0; ; before, yields = n, yields+1 {
		n = r.queued()
		if n >= r.limits.Entries || n == before && (n >= w.expect || yields >= patience) {
			break
		}
		runtime.Gosched()
	}
	w.expect = 0
}

func (r *requests) queued() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

// settle tells the entries of a batch their outcome, and queues again what is worth
// another attempt.
func (r *requests) settle(w *worker, err error, slow bool) {
	clear(w.bags)
	clear(w.settlements)
	clear(w.seen)
	var again []*entry
	var delay time.Duration
	outcomes := outcomesOf(w.carries, err)
	r.mu.Lock()
	callEnded(&r.counts, w.carries, outcomes.failures(w.carries), err)
	for i, e := range w.batch {
		f := outcomes.of(i)
		e.err = f.Err
		if f.Err != nil && !f.Permanent && !e.orphan {
			if next, more := r.retry.Next(e.attempts); more {
				if len(again) == 0 {
					delay = next // one for all, or their jitter would add up
				}
				again = append(again, e)
				continue
			}
		}
		r.leave(e)
		w.told = append(w.told, e)
	}
	r.again(again, delay)
	if slow {
		w.expect = min(r.limits.Entries, len(r.queue)+len(w.told))
	}
	clear(w.batch)
	w.batch = w.batch[:0]
	r.mu.Unlock()

	// Told before the request counts as ended, so that what it sets free is there
	// when the next batch is cut. From then on the entry is its owner's again.
	for _, e := range w.told {
		r.done(e)
	}
	clear(w.told)
	w.told = w.told[:0]

	r.mu.Lock()
	r.calls--
	w.cutting = true
	r.mu.Unlock()
}

// again queues entries of one request for their next attempt, after a delay. Of each
// group the first one leads again, and the others line up behind it in their order.
func (r *requests) again(entries []*entry, delay time.Duration) {
	lead := entries[:0:0]
	for _, e := range slices.Backward(entries) {
		g := r.group(e)
		if g != nil && slices.ContainsFunc(entries[:slices.Index(entries, e)], func(x *entry) bool { return x.bag.Group == e.bag.Group }) {
			g.busy--
			g.wait = slices.Insert(g.wait, 0, e)
			continue
		}
		lead = append(lead, e)
	}
	slices.Reverse(lead)
	switch {
	case len(lead) == 0:
	case delay <= 0:
		r.requeue(lead)
	default:
		x := &retry{entries: lead}
		r.backing[x] = struct{}{}
		x.timer = time.AfterFunc(delay, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if _, ok := r.backing[x]; ok {
				delete(r.backing, x)
				r.requeue(x.entries)
				r.dispatch()
			}
		})
	}
}

func (r *requests) requeue(entries []*entry) {
	for _, e := range entries {
		r.queue = append(r.queue, e)
		r.bytes += e.size
	}
}

// group of an entry; nil when the broker keeps no order.
func (r *requests) group(e *entry) *group {
	if !r.limits.Ordered || e.bag.Group == "" {
		return nil
	}
	return r.groups[e.bag.Group]
}

// leave lets the next entry of a group go.
func (r *requests) leave(e *entry) {
	g := r.group(e)
	if g == nil {
		return
	}
	if g.busy--; g.busy > 0 {
		return
	}
	if len(g.wait) == 0 {
		delete(r.groups, e.bag.Group)
		return
	}
	g.busy++
	r.requeue(g.wait[:1])
	g.wait = g.wait[1:]
}

func (r *requests) retire(w *worker) {
	i := slices.Index(r.workers, w)
	r.workers = slices.Delete(r.workers, i, i+1)
	if r.dead == nil {
		r.spare = append(r.spare, w)
	} else {
		w.call.end()
	}
}

// withdraw takes back an entry that is not in flight. It reports false when it is, or
// is done; one in flight is not repeated.
func (r *requests) withdraw(e *entry) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.queue, e); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
		r.bytes -= e.size
	} else if x := r.retryOf(e); x != nil {
		x.entries = slices.DeleteFunc(x.entries, func(y *entry) bool { return y == e })
	} else if g := r.group(e); g != nil && slices.Contains(g.wait, e) {
		g.wait = slices.DeleteFunc(g.wait, func(x *entry) bool { return x == e })
		g.busy++ // leave takes it back
	} else {
		e.orphan = true
		return false
	}
	r.leave(e)
	r.dispatch()
	r.pending.add(-1)
	return true
}

func (r *requests) retryOf(e *entry) *retry {
	for x := range r.backing {
		if slices.Contains(x.entries, e) {
			return x
		}
	}
	return nil
}

// refuseSync lets synchronous callers in no more.
func (r *requests) refuseSync() {
	r.mu.Lock()
	r.refuse = true
	r.mu.Unlock()
}

// abort ends everything that is not done, with err as its outcome, also what is in
// flight in a driver that does not honour its context.
func (r *requests) abort(err error) {
	r.mu.Lock()
	r.dead = err
	rest := slices.Clone(r.queue)
	for x := range r.backing {
		x.timer.Stop()
		rest = append(rest, x.entries...)
	}
	for _, g := range r.groups {
		rest = append(rest, g.wait...)
	}
	for _, w := range r.workers {
		rest = append(rest, w.batch...)
		w.batch = w.batch[:0]
	}
	for _, e := range rest {
		if e.err == nil {
			e.err = err
		} else {
			e.err = errors.Join(err, e.err)
		}
	}
	r.queue, r.bytes = nil, 0
	clear(r.backing)
	clear(r.groups)
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, w := range r.spare {
		w.call.end()
	}
	r.spare = nil
	r.mu.Unlock()
	for _, e := range rest {
		r.done(e)
	}
}

// outcomes are the failures of a batch by position.
type outcomes struct {
	whole *driver.Failure
	each  []driver.Failure // nil: all succeeded
}

func (o outcomes) of(i int) driver.Failure {
	switch {
	case o.whole != nil:
		return *o.whole
	case o.each != nil:
		return o.each[i]
	}
	return driver.Failure{}
}

// failures counts them in a batch of n.
func (o outcomes) failures(n int) (failed int) {
	if o.whole != nil {
		return n
	}
	for _, f := range o.each {
		if f.Err != nil {
			failed++
		}
	}
	return failed
}

var errNoCause = errors.New("driver names no cause")

// outcomesOf reads the answer of a driver. One that makes no sense, because it names
// no entry or one that is not there, fails the whole batch: better twice than never.
func outcomesOf(n int, err error) outcomes {
	if err == nil {
		return outcomes{}
	}
	partial, ok := errors.AsType[*driver.BatchError](err)
	if !ok {
		return outcomes{whole: &driver.Failure{Err: err, Permanent: driver.IsPermanent(err)}}
	}
	each := make([]driver.Failure, n)
	for _, f := range partial.Failed {
		if f.Index < 0 || f.Index >= n {
			return outcomes{whole: &driver.Failure{Err: err}}
		}
		if f.Err == nil {
			f.Err = errNoCause
		}
		f.Permanent = f.Permanent || driver.IsPermanent(f.Err)
		each[f.Index] = f
	}
	if len(partial.Failed) == 0 {
		return outcomes{whole: &driver.Failure{Err: err}}
	}
	return outcomes{each: each}
}
