// Package kernel is the engine of swarm. It starts, owns and ends every goroutine,
// and moves bytes: package emit and package listen put types on top, drivers put
// brokers below. Broker authors call [NewEmitter], [NewListener] and [NewEndpoint];
// users get what these return.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// Engine is what all kernels have: the life cycle. Its methods are safe for concurrent
// use.
type Engine struct {
	cfg      swarm.Config
	closer   io.Closer
	emits    bool
	source   any // driver.Receiver or driver.Runner; nil: emits only
	receiver driver.Receiver
	runner   driver.Runner // takes precedence
	limits   driver.Limits
	share    int           // messages of a category in the hands of consumers
	most     int           // and of those that wait for them
	flight   time.Duration // TimeToFlight of an invocation; 0: until its own deadline
	pause    time.Duration // after an empty receive
	prefix   func() string
	sequence atomic.Uint64

	report    *reporter
	observers observers
	sender    *requests
	settler   *requests
	noted     func(*entry) // confirmed, made once
	keeper    keeper
	gate      gate

	// Stages of the shutdown, in order: see drain.
	polling  context.Context // ends: no more receives
	stop     context.CancelFunc
	closing  chan struct{}   // closed: nothing more is handed over
	refusing chan struct{}   // closed: nothing more is accepted
	live     context.Context // ends: broker calls are cut off
	sever    context.CancelCauseFunc
	severed  chan struct{} // closed: lanes give up what is left
	deadline deadline
	closed   chan struct{} // closed: the shutdown has ended with result
	result   error

	running  atomic.Bool
	shutting atomic.Bool
	polls    tally // pollers
	working  tally // messages handed over and not settled
	helpers  tally // goroutines that extend leases
	deferred tally // settlements that wait for them

	inletsOpen, outletsOpen tally // lanes that have not closed their channels
	callers                 tally // synchronous callers that have no answer
	flushing                tally // emit lanes that have something left
	undelivered             atomic.Int64
	unconfirmed, lost       atomic.Int64
	refusals                atomic.Int64 // settlements that the broker has not confirmed for good

	receives, extends calls
	straysMu          sync.Mutex
	strays            listened // messages nobody listens to

	mu      sync.RWMutex
	emitted map[string]*emitted
	outlets map[*Outlet]struct{} // of lanes that have not ended
	inlets  map[string]*Inlet
	unknown *Inlet
	pollers []*poller
}

// Emitter is a kernel that emits: package emit makes channels of it.
type Emitter struct{ *Engine }

// Listener is a kernel that listens: package listen makes channels of it.
type Listener struct{ *Engine }

// Endpoint is a kernel that emits and listens.
type Endpoint struct{ *Engine }

// Outlet makes the engine's end of an emit lane with a window of values, whose channel says
// how many it has buffered; for package emit.
func (e *Emitter) Outlet(category string, window int, buffered func() int) *Outlet {
	return e.outlet(category, window, buffered)
}

// Outlet is [Emitter.Outlet].
func (e *Endpoint) Outlet(category string, window int, buffered func() int) *Outlet {
	return e.outlet(category, window, buffered)
}

// NewBag makes a bag with a fresh id, for Enqueue; for package emit.
func (e *Emitter) NewBag(category string) driver.Bag { return e.newBag(category) }

// NewBag is [Emitter.NewBag].
func (e *Endpoint) NewBag(category string) driver.Bag { return e.newBag(category) }

// Enqueue sends one bag, together with others that are ready, and blocks until the
// broker has accepted it, it has failed for good, or ctx ends; for package emit.
func (e *Emitter) Enqueue(ctx context.Context, bag *driver.Bag) error { return e.enqueue(ctx, bag) }

// Enqueue is [Emitter.Enqueue].
func (e *Endpoint) Enqueue(ctx context.Context, bag *driver.Bag) error { return e.enqueue(ctx, bag) }

// Reject counts a value that cannot be encoded into its bag, and returns the error of its
// synchronous caller; for package emit.
func (e *Emitter) Reject(ctx context.Context, bag *driver.Bag, err error) error {
	return e.reject(ctx, bag, err)
}

// Reject is [Emitter.Reject].
func (e *Endpoint) Reject(ctx context.Context, bag *driver.Bag, err error) error {
	return e.reject(ctx, bag, err)
}

// Inlet makes the engine's end of a listen lane. It panics when the category is bound
// already, naming both types; for package listen.
func (e *Listener) Inlet(category, goType string) *Inlet { return e.bind(category, goType, false) }

// Inlet is [Listener.Inlet].
func (e *Endpoint) Inlet(category, goType string) *Inlet { return e.bind(category, goType, false) }

// CatchAll makes the inlet of messages nobody else listens to; for package listen.
func (e *Listener) CatchAll() *Inlet { return e.bind("", "[]byte", true) }

// CatchAll is [Listener.CatchAll].
func (e *Endpoint) CatchAll() *Inlet { return e.bind("", "[]byte", true) }

// NewEmitter builds a kernel on a driver that sends. From here on the driver belongs
// to the kernel, also when an error is returned.
func NewEmitter(d driver.Sender, opts ...swarm.Option) (*Emitter, error) {
	e, err := newEngine(d, nil, opts)
	if err != nil {
		return nil, err
	}
	return &Emitter{e}, nil
}

// NewListener builds a kernel on a driver that is a [driver.Receiver] or a
// [driver.Runner]. From here on the driver belongs to the kernel, also when an error
// is returned.
func NewListener(d io.Closer, opts ...swarm.Option) (*Listener, error) {
	e, err := newEngine(nil, d, opts)
	if err != nil {
		return nil, err
	}
	return &Listener{e}, nil
}

// NewEndpoint builds a kernel on a driver that sends, and is a [driver.Receiver] or a
// [driver.Runner]. From here on the driver belongs to the kernel, also when an error
// is returned.
func NewEndpoint(d driver.Sender, opts ...swarm.Option) (*Endpoint, error) {
	e, err := newEngine(d, d, opts)
	if err != nil {
		return nil, err
	}
	return &Endpoint{e}, nil
}

// minParked is for how many messages of a category there is room at least, beyond its share.
const minParked = 10

// maxEntries bounds a batch of a driver that knows no bound.
const maxEntries = 10_000

func newEngine(sender driver.Sender, source any, opts []swarm.Option) (e *Engine, err error) {
	drv := source
	if sender != nil {
		drv = sender
	}
	closer, ok := drv.(io.Closer)
	if !ok {
		return nil, fmt.Errorf("swarm: driver %T is not an io.Closer", drv)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closer.Close())
		}
	}()
	cfg, err := swarm.NewConfig(opts...)
	if err != nil {
		return nil, err
	}
	e = &Engine{
		cfg:      cfg,
		closer:   closer,
		prefix:   sync.OnceValue(newPrefix),
		report:   newReporter(cfg.Logger, cfg.StdErr),
		closing:  make(chan struct{}),
		refusing: make(chan struct{}),
		severed:  make(chan struct{}),
		closed:   make(chan struct{}),
		inlets:   map[string]*Inlet{},
		emitted:  map[string]*emitted{},
		outlets:  map[*Outlet]struct{}{},
	}
	e.observers = newObservers(cfg.Observers, e.report)
	if l, ok := drv.(driver.Limiter); ok {
		e.limits = l.Limits()
	}
	if l := e.limits; l.Entries < 0 || l.Requests < 0 || l.Bytes < 0 || l.Wait < 0 {
		return nil, fmt.Errorf("swarm: driver %T has negative limits", drv)
	}
	if e.limits.Entries == 0 {
		e.limits.Entries = 10
	}
	e.limits.Entries = min(e.limits.Entries, maxEntries)
	if e.limits.Requests == 0 {
		e.limits.Requests = 16
	}
	e.share = cfg.PollerPool * e.limits.Entries
	e.most = e.share + max(e.share, minParked)
	e.flight = cfg.TimeToFlight
	if cfg.TimeToFlight == 0 {
		e.cfg.TimeToFlight = time.Minute
	}
	if e.pause = cfg.PollFrequency; e.pause < 0 {
		e.pause = idlePause
		if e.limits.Wait > 0 {
			e.pause = 0
		}
	}
	e.polling, e.stop = context.WithCancel(context.Background())
	e.live, e.sever = context.WithCancelCause(context.Background())
	e.keeper.engine, e.keeper.born = e, time.Now()
	e.noted = e.confirmed

	e.sender = e.newRequests(e.limits, true, cfg.Linger)
	e.emits = sender != nil
	e.sender.load = func(w *worker, x *entry) {
		w.bags = append(w.bags, *x.bag)
		if e.observers != nil {
			w.seen = append(w.seen, sent(x.bag, x.attempts-1))
		}
	}
	e.sender.call = func(w *worker) error {
		return e.call(w.call, swarm.OpSend, w.seen, func(ctx context.Context) error { return sender.Send(ctx, w.bags) })
	}
	if e.observers != nil {
		e.sender.watch = e.observers.retried
	}

	limits := driver.Limits{Entries: e.limits.Entries, Requests: e.limits.Requests}
	e.settler = e.newRequests(limits, false, settleLinger)
	e.settler.load = func(w *worker, x *entry) {
		w.settlements = append(w.settlements, x.verdict)
		if e.observers != nil {
			w.seen = append(w.seen, e.received(x.bag))
		}
	}
	e.settler.call = func(w *worker) error {
		return e.call(w.call, swarm.OpSettle, w.seen, func(ctx context.Context) error { return e.receiver.Settle(ctx, w.settlements) })
	}
	if source == nil {
		return e, nil
	}
	e.source = source
	e.receiver, _ = source.(driver.Receiver)
	e.runner, _ = source.(driver.Runner)
	e.keeper.extender, _ = source.(driver.Extender)
	if e.runner != nil {
		e.share = maxEntries // a batch is what the source has made it
	}
	if e.receiver == nil && e.runner == nil {
		return nil, fmt.Errorf("swarm: driver %T neither receives nor runs", source)
	}
	return e, nil
}

// call makes a call of the broker, and tells observers of it.
func (e *Engine) call(c *call, op swarm.Operation, messages []swarm.Envelope, f func(context.Context) error) error {
	if e.observers == nil {
		return c.do(f)
	}
	return e.observers.request(c, swarm.Request{Operation: op, Messages: messages}, func(ctx context.Context) ([]swarm.Envelope, error) {
		return nil, f(ctx)
	})
}

// settleLinger is how long an acknowledgement waits for the rest of its micro-batch.
const settleLinger = 20 * time.Millisecond

func (e *Engine) newRequests(limits driver.Limits, eager bool, linger time.Duration) *requests {
	return &requests{
		live:    e.live,
		limits:  limits,
		retry:   e.cfg.Retry,
		timeout: e.cfg.NetworkTimeout,
		eager:   eager,
		linger:  linger,
		groups:  map[string]*group{},
		backing: map[*retry]struct{}{},
	}
}

// confirmed takes note of the broker's answer to a settlement. What fails before a
// shutdown is reported; what fails during one is also counted.
func (e *Engine) confirmed(x *entry) {
	e.gate.alert() // a poller may wait for settlements to be confirmed
	if x.err == nil {
		return
	}
	e.refusals.Add(1)
	if e.shutting.Load() {
		e.unconfirmed.Add(1)
	}
	e.report.report(listenError(x.bag, "settle", x.err))
}

// Config of the kernel.
func (e *Engine) Config() swarm.Config { return e.cfg }

// Done is closed when values begin to be refused: producers may stop.
func (e *Engine) Done() <-chan struct{} { return e.refusing }

func (e *Engine) isClosing() bool { return isClosed(e.closing) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Await is Run until SIGTERM or SIGINT. A second signal ends the process at once.
func (e *Engine) Await() error { return swarm.Await(e) }

// Run serves until ctx ends, the kernel is closed, or the broker fails for good; then
// it drains within DrainTimeout. A kernel that only emits waits. Run returns nil when
// nothing was left behind, else a [*swarm.DrainError], which wraps what made the
// broker fail. It may be called once; the second time returns [swarm.ErrRunning].
func (e *Engine) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return swarm.ErrRunning
	}
	failed := make(chan error, 1)
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	e.mu.Lock()
	if e.polling.Err() == nil {
		e.start(fail)
	}
	e.mu.Unlock()

	var cause error
	select {
	case <-ctx.Done():
	case cause = <-failed:
	case <-e.polling.Done():
		<-e.closed // somebody else has begun, with a deadline of his own
		return e.result
	}
	return e.shutdown(cause)
}

// start starts what receives. fail is told when it has ended by itself.
func (e *Engine) start(fail func(error)) {
	if e.runner != nil {
		e.polls.add(1)
		go func() {
			defer e.polls.add(-1)
			ctx := driver.WithReport(e.polling, e.unreceived)
			err := safely(func() error { return e.runner.Run(ctx, e.serve) })
			if e.polling.Err() == nil {
				fail(err)
			}
		}()
		return
	}
	if e.receiver == nil {
		return
	}
	for range e.cfg.PollerPool {
		p := e.newPoller()
		e.pollers = append(e.pollers, p)
		e.polls.add(1)
		go func() {
			defer e.polls.add(-1)
			if err := p.poll(e.polling); err != nil {
				fail(err)
			}
		}()
	}
}

// Close is [Engine.Shutdown] with DrainTimeout as the deadline.
func (e *Engine) Close() error { return e.shutdown(nil) }

func (e *Engine) shutdown(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.DrainTimeout)
	defer cancel()
	return e.end(ctx, cause)
}

// Shutdown ends the kernel gracefully: nothing more is received, what was not handed
// over is released, consumers finish what they have, what was accepted is sent. At the
// deadline of ctx it cuts off what is left, and returns a [*swarm.DrainError] with
// exact counts. Without a deadline it waits for consumers as long as they take.
//
// Shutdown is idempotent and safe from any goroutine: further calls wait for the
// first and return the same. The earliest deadline of all calls counts.
func (e *Engine) Shutdown(ctx context.Context) error { return e.end(ctx, nil) }

func (e *Engine) end(ctx context.Context, cause error) error {
	if at, ok := ctx.Deadline(); ok {
		e.deadline.bring(at)
	}
	defer context.AfterFunc(ctx, func() { e.deadline.bring(time.Now()) })()
	if e.shutting.CompareAndSwap(false, true) {
		e.result = e.drain(cause)
		close(e.closed)
	}
	<-e.closed
	return e.result
}
