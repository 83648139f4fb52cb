package qtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// Function is how a case reaches a broker's driver for AWS Lambda, or for any other source
// that pushes: a [driver.Runner].
type Function struct {
	// Connect makes the driver. A case makes one, which the kernel closes.
	Connect func() (io.Closer, error)

	// Invoke makes one invocation with these messages, none or more, by the broker's own
	// payload, and says which of them the answer calls failed, or the error that failed the
	// invocation. It waits for the driver to run. The payload must be gone when the driver
	// has answered: overwrite it, as the runtime does.
	Invoke func(ctx context.Context, bags []driver.Bag) (failed []int, err error)

	// Raw invokes with a payload that is not the broker's.
	Raw func(ctx context.Context, payload []byte) error
}

// FunctionFeatures are what the source of a function is able to do.
type FunctionFeatures struct {
	// Whole: the source takes one answer for all messages of an invocation. Same as
	// driver.Limits.Whole.
	Whole bool

	// Ordered: messages of one Group are in order.
	Ordered bool

	// Single: an invocation has one message. Cases that need several do not apply.
	Single bool
}

// FunctionCases names the cases of [RunFunction], clause first, in the order they run in.
func FunctionCases() []string {
	names := make([]string, len(functionCases))
	for i, c := range functionCases {
		names[i] = c.name
	}
	return names
}

// RunFunction checks the Lambda mode of a broker against clauses B1 to B5 of package
// swarm, below a kernel, each case in a bubble of testing/synctest as a subtest of t: the
// driver may block on nothing but channels and timers. It reports as [Run] does.
func RunFunction(t *testing.T, open func(T) Function, features FunctionFeatures) Report {
	t.Helper()
	s := functionSuite{open: open, features: features}
	report := make(Report, len(functionCases))
	for i, c := range functionCases {
		report[i] = Result{Case: c.name, Outcome: NotSelected}
		t.Run(c.name, func(t *testing.T) {
			if c.missing(features) != "" {
				report[i].Outcome, report[i].Detail = NotApplicable, []string{c.missing(features)}
				t.Skipf("not applicable, needs %s", c.missing(features))
			}
			var log []string
			report[i], log = s.attempt(t, c)
			for _, line := range log {
				if report[i].Outcome == Failed {
					t.Log(line)
				}
			}
			for _, failure := range report[i].Detail {
				t.Error(failure)
			}
		})
	}
	return report
}

type functionCase struct {
	name  string
	needs func(FunctionFeatures) string // what is missing; nil: it always applies
	run   func(*functionRig)
}

func (c functionCase) missing(f FunctionFeatures) string {
	if c.needs == nil {
		return ""
	}
	return c.needs(f)
}

type functionSuite struct {
	open     func(T) Function
	features FunctionFeatures
	broken   func() functionSabotage // made in the bubble of a case; nil: nothing is broken
}

// functionSabotage is how tests of qtest make a function behave as a broken one would.
type functionSabotage struct {
	serve   func(driver.Serve) driver.Serve // stands between the driver and the kernel
	limits  func(*driver.Limits)
	options []swarm.Option // of the listener; come last, and so win
	raw     bool           // answers success to any payload that is not its own
}

func (s functionSuite) attempt(t *testing.T, c functionCase) (result Result, log []string) {
	rec := newRecorder(t.Name())
	inBubble(t, rec, func() {
		rec.ctx, rec.cancel = context.WithCancel(context.Background())
		defer rec.cancel()
		rec.run(func() {
			r := &functionRig{T: rec, FunctionFeatures: s.features, fn: s.open(rec), far: &farSide{}}
			if s.broken != nil {
				r.broken = s.broken()
			}
			c.run(r)
		})
		time.Sleep(time.Hour) // whatever has a time of its own ends
	})
	result = Result{Case: c.name, Outcome: Passed}
	log, result.Detail = rec.said()
	if len(result.Detail) > 0 {
		result.Outcome = Failed
	}
	return result, log
}

// functionRig is what a case works with: a kernel on the function, and one that emits to a
// far side.
type functionRig struct {
	T
	FunctionFeatures
	fn     Function
	broken functionSabotage
	far    *farSide

	q   *kernel.Listener
	out *kernel.Emitter
}

// build makes both kernels; they are closed when the case ends.
func (r *functionRig) build(opts ...swarm.Option) {
	r.Helper()
	opts = append([]swarm.Option{
		swarm.WithSource("qtest"), swarm.WithBarrier(swarm.NewBarrier()), swarm.WithRetryConstant(10*time.Millisecond, 3),
		swarm.WithLogger(slog.New(slog.NewTextHandler(logWriter{r}, nil))),
	}, opts...)
	d, err := r.fn.Connect()
	if err != nil {
		r.Fatalf("Connect: %v", err)
	}
	runner, ok := d.(driver.Runner)
	if !ok {
		r.Fatalf("%T is no driver.Runner", d)
	}
	r.q, err = kernel.NewListener(&spiedRunner{d, runner, r}, append(opts, r.broken.options...)...)
	if err != nil {
		r.Fatalf("NewListener: %v", err)
	}
	if r.out, err = kernel.NewEmitter(r.far, opts...); err != nil {
		r.Fatalf("NewEmitter: %v", err)
	}
	r.Cleanup(func() { _, _ = r.q.Close(), r.out.Close() })
}

func (r *functionRig) start() { go r.q.Run(context.Background()) }

// spiedRunner is the driver below the kernel.
type spiedRunner struct {
	io.Closer
	driver.Runner
	r *functionRig
}

func (d *spiedRunner) Run(ctx context.Context, serve driver.Serve) error {
	if d.r.broken.serve != nil {
		serve = d.r.broken.serve(serve)
	}
	return d.Runner.Run(ctx, serve)
}

func (d *spiedRunner) Limits() (limits driver.Limits) {
	if l, ok := d.Runner.(driver.Limiter); ok {
		limits = l.Limits()
	}
	if limits.Whole != d.r.Whole {
		d.r.Errorf("driver.Limits.Whole is %v, FunctionFeatures.Whole %v", limits.Whole, d.r.Whole)
	}
	if d.r.broken.limits != nil {
		d.r.broken.limits(&limits)
	}
	return limits
}

type logWriter struct{ T }

func (w logWriter) Write(p []byte) (int, error) {
	w.Logf("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

// answered is what became of an invocation.
type answered struct {
	failed map[int]bool
	err    error
	took   time.Duration
	late   bool // it took all its time
}

// ok reports that message i was acknowledged.
func (a answered) ok(i int) bool { return a.err == nil && !a.failed[i] }

// invoke makes an invocation that has so much time.
func (r *functionRig) invoke(limit time.Duration, bags ...driver.Bag) answered {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	failed, err := r.fn.Invoke(ctx, bags)
	a := answered{failed: map[int]bool{}, err: err, took: time.Since(began), late: ctx.Err() != nil}
	for _, i := range failed {
		a.failed[i] = true
	}
	return a
}

// later makes one beside the case.
func (r *functionRig) later(limit time.Duration, bags ...driver.Bag) <-chan answered {
	c := make(chan answered, 1)
	go func() { c <- r.invoke(limit, bags...) }()
	return c
}

// wait for an invocation, which must answer.
func (r *functionRig) wait(what string, c <-chan answered) answered {
	r.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(24 * time.Hour):
		r.Fatalf("%s: no answer", what)
	}
	return answered{}
}

// message is a note as a bag.
func (r *functionRig) message(n int) driver.Bag {
	return (&rig{T: r.T}).note(fmt.Sprint("n-", n))
}

func (r *functionRig) messages(n int) []driver.Bag {
	bags := make([]driver.Bag, n)
	for i := range bags {
		bags[i] = r.message(i)
		bags[i].ID = fmt.Sprint("id-", i)
	}
	return bags
}

// consume settles the notes that come: f says why one fails.
func (r *functionRig) consume(f func(swarm.Msg[note]) error, end ...func()) {
	deq, ack := listen.Typed[note](r.q)
	go func() {
		for _, f := range end {
			defer f()
		}
		for msg := range deq {
			if err := f(msg); err != nil {
				msg = msg.Fail(err)
			}
			ack <- msg
		}
	}()
}

// relay emits each note that comes, before it is acknowledged.
func (r *functionRig) relay() {
	enq, dlq := emit.Typed[note](r.out)
	go func() {
		for range dlq {
		}
	}()
	r.consume(func(msg swarm.Msg[note]) error {
		if msg.Object.Text != "n-0" {
			return nil
		}
		enq <- msg.Object
		return nil
	}, func() { close(enq) })
}

// farSide is a broker in memory that the function emits to.
type farSide struct {
	latency time.Duration
	fail    error

	mu   sync.Mutex
	sent int
}

func (f *farSide) Close() error { return nil }

func (f *farSide) Send(ctx context.Context, bags []driver.Bag) error {
	select {
	case <-time.After(f.latency):
	case <-ctx.Done():
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.sent += len(bags)
	return nil
}

func (f *farSide) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent
}
