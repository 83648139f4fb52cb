package qtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
)

// note is what cases send through kernels.
type note struct {
	Text string `json:"text"`
}

// note makes a message as a kernel would emit it.
func (r *rig) note(text string) driver.Bag {
	body, err := json.Marshal(note{text})
	if err != nil {
		r.Fatalf("%v", err)
	}
	return r.bag(string(body))
}

// notes makes n messages with the texts "<name>-0", "<name>-1", ….
func (r *rig) notes(name string, n int) []driver.Bag {
	bags := make([]driver.Bag, n)
	for i, text := range names(name, n) {
		bags[i] = r.note(text)
	}
	return bags
}

// names are n texts "<name>-0", "<name>-1", ….
func names(name string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s-%d", name, i)
	}
	return all
}

// textOf reads the text of a note; a body that is none stands for itself.
func textOf(body []byte) string {
	var n note
	if err := json.Unmarshal(body, &n); err != nil || n.Text == "" {
		return string(body)
	}
	return n.Text
}

func textsOf(bags []driver.Bag) []string {
	all := make([]string, len(bags))
	for i, bag := range bags {
		all[i] = textOf(bag.Body)
	}
	return all
}

// sabotage is how tests of qtest make a kernel behave as a broken one would.
type sabotage struct {
	driver  func(full) full                 // stands between the kernel and the spy
	options []swarm.Option                  // come last, and so win
	life    func(swarm.Kernel) swarm.Kernel // of the kernel that cases run and close
	enqueue func(emit.Emitter) enqueueFunc  // in place of Enqueue
}

type enqueueFunc func(context.Context, *driver.Bag) error

// probe is what a case knows of a kernel.
type probe struct {
	r     *rig
	spy   *spy
	k     swarm.Kernel
	ended chan struct{}
	err   error // of Run, once it has ended

	mu       sync.Mutex
	reported []error
	refused  atomic.Int64 // values refused after Close, as logged
}

type emitter struct {
	*kernel.Emitter
	*probe
}

// Enqueue is what synchronous emitters call.
func (e emitter) Enqueue(ctx context.Context, bag *driver.Bag) error {
	if e.r.broken.enqueue != nil {
		return e.r.broken.enqueue(e.Emitter)(ctx, bag)
	}
	return e.Emitter.Enqueue(ctx, bag)
}

type listener struct {
	*kernel.Listener
	*probe
}

type endpoint struct {
	*kernel.Endpoint
	*probe
}

// spy opens a connection for a kernel.
func (r *rig) spy() *spy {
	r.Helper()
	return &spy{conn: r.open(), audit: func() {}, live: map[string]int{}}
}

// emitter builds a kernel that emits through a spy; it is closed when the case ends.
func (r *rig) emitter(s *spy, opts ...swarm.Option) emitter {
	r.Helper()
	p := r.probe(s)
	d := r.driver(s, true, false).(driver.Sender)
	k, err := kernel.NewEmitter(d, p.options(opts)...)
	if err != nil {
		r.Fatalf("NewEmitter: %v", err)
	}
	p.watch(k)
	return emitter{k, p}
}

// listener builds a kernel that listens through a spy; it is closed when the case
// ends. Bind its channels, then start it.
func (r *rig) listener(s *spy, opts ...swarm.Option) listener {
	r.Helper()
	p := r.probe(s)
	k, err := kernel.NewListener(r.driver(s, false, true), p.options(opts)...)
	if err != nil {
		r.Fatalf("NewListener: %v", err)
	}
	p.watch(k)
	return listener{k, p}
}

// endpoint builds a kernel that does both.
func (r *rig) endpoint(s *spy, opts ...swarm.Option) endpoint {
	r.Helper()
	p := r.probe(s)
	d := r.driver(s, true, true).(driver.Sender)
	k, err := kernel.NewEndpoint(d, p.options(opts)...)
	if err != nil {
		r.Fatalf("NewEndpoint: %v", err)
	}
	p.watch(k)
	return endpoint{k, p}
}

func (r *rig) driver(s *spy, sends, receives bool) io.Closer {
	var d full = s
	if r.broken.driver != nil {
		d = r.broken.driver(d)
	}
	return expose(d, sends, receives, receives && s.Extender != nil)
}

func (r *rig) probe(s *spy) *probe { return &probe{r: r, spy: s, ended: make(chan struct{})} }

// options are the case's own behind those of every kernel: errors are collected, and
// logged by the case.
func (p *probe) options(opts []swarm.Option) []swarm.Option {
	stderr := make(chan error)
	end := make(chan struct{})
	p.r.Cleanup(func() { close(end) })
	go func() {
		for {
			select {
			case err := <-stderr:
				p.mu.Lock()
				p.reported = append(p.reported, err)
				p.mu.Unlock()
			case <-end:
				return
			}
		}
	}()
	all := []swarm.Option{
		swarm.WithSource("qtest"),
		swarm.WithStdErr(stderr),
		swarm.WithLogger(slog.New(&logs{probe: p})),
		swarm.WithRetryConstant(10*time.Millisecond, 5),
	}
	return slices.Concat(all, opts, p.r.broken.options)
}

// ledger is a kernel whose accounts are audited: they add up whenever the broker is called,
// and after Close nothing is in flight.
type ledger interface {
	swarm.Kernel
	Stats() swarm.Stats
}

func (p *probe) watch(k ledger) {
	p.k = k
	p.spy.audit = func() {
		if err := k.Stats().Check(); err != nil {
			p.r.Errorf("%v", err)
		}
	}
	if p.r.broken.life != nil {
		p.k = p.r.broken.life(k)
	}
	p.r.Cleanup(func() {
		_ = k.Close()
		p.spy.audit()
		for category, c := range k.Stats().Listen {
			if c.Waiting+c.Working > 0 {
				p.r.Errorf("after Close %q has %d messages in flight", category, c.Waiting+c.Working)
			}
		}
	})
}

// start runs the kernel.
func (p *probe) start() {
	go func() {
		defer close(p.ended)
		p.err = p.k.Run(context.Background())
	}()
}

// close ends the kernel.
func (p *probe) close() error { return p.k.Close() }

// errors returns what the kernel has reported so far.
func (p *probe) errors() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.reported)
}

// reports waits for n errors that match.
func reports[E error](p *probe, n int, what string, match func(E) bool) []E {
	p.r.Helper()
	var found []E
	p.r.eventually(fmt.Sprintf("%d reports of %s, there are %v", n, what, p.errors()), func() bool {
		found = found[:0]
		for _, err := range p.errors() {
			if e, ok := errors.AsType[E](err); ok && match(e) {
				found = append(found, e)
			}
		}
		return len(found) >= n
	})
	if len(found) > n {
		p.r.Errorf("%d reports of %s, want %d: %v", len(found), what, n, found)
	}
	return found
}

// logs passes the log of a kernel on to the case.
type logs struct{ *probe }

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) WithGroup(string) slog.Handler            { return l }

func (l *logs) Handle(_ context.Context, record slog.Record) error {
	line := record.Message
	var count int64
	var cause error
	record.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		switch a.Key {
		case "count":
			count = a.Value.Int64()
		case "err":
			cause, _ = a.Value.Any().(error)
		}
		return true
	})
	if errors.Is(cause, swarm.ErrClosed) {
		l.refused.Add(count)
	}
	l.r.Logf("%s", line)
	return nil
}

// lane makes an emit lane for notes, which is closed when the case ends. On an
// ordered broker each note is of a group of its own.
func (r *rig) lane(q emit.Emitter, opts ...emit.Option) (chan<- note, <-chan note) {
	if r.Ordered {
		opts = append([]emit.Option{emit.OrderBy(func(n note) string { return n.Text })}, opts...)
	}
	enq, dlq := emit.Typed[note](q, opts...)
	closeAtEnd(r, enq)
	return enq, dlq
}

// closeAtEnd closes an emit channel when the case ends, after its producers.
func closeAtEnd[T any](r *rig, enq chan<- T) {
	r.Cleanup(func() {
		r.producers.Wait()
		close(enq)
	})
}

// send hands v over, and fails when that takes long.
func send[T any](r *rig, enq chan<- T, v T) {
	r.Helper()
	if !offer(r, enq, v, r.Patience) {
		r.Fatalf("send of %v blocks for %s", v, r.Patience)
	}
}

// offer tries for d to hand v over.
func offer[T any](r *rig, ch chan<- T, v T, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case ch <- v:
		return true
	case <-timer.C:
	case <-r.Context().Done():
	}
	return false
}

// take receives what must come.
func take[T any](r *rig, what string, ch <-chan T) T {
	r.Helper()
	timer := time.NewTimer(r.Patience)
	defer timer.Stop()
	select {
	case v, ok := <-ch:
		if !ok {
			r.Fatalf("%s: the channel is closed", what)
		}
		return v
	case <-timer.C:
		r.Fatalf("%s: nothing within %s", what, r.Patience)
	case <-r.Context().Done():
		r.Fatalf("%s: the case has ended", what)
	}
	panic("not reached")
}

// nothing fails when something comes within d, also the end of the channel.
func nothing[T any](r *rig, ch <-chan T, d time.Duration, why string) {
	r.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case v, ok := <-ch:
		r.Fatalf("%s: got %v, channel open: %v", why, v, ok)
	case <-timer.C:
	}
}

// ends fails unless the channel is closed, and answers what came before.
func ends[T any](r *rig, what string, ch <-chan T) []T {
	r.Helper()
	timer := time.NewTimer(r.Patience)
	defer timer.Stop()
	var rest []T
	for {
		select {
		case v, ok := <-ch:
			if !ok {
				return rest
			}
			rest = append(rest, v)
		case <-timer.C:
			r.Fatalf("%s is not closed within %s", what, r.Patience)
		}
	}
}

// produce runs f, which sends on an emit channel, in a goroutine.
func (r *rig) produce(f func()) { r.producers.Go(f) }

// consume works on messages in a goroutine, one at a time: acknowledges those for
// which work returns nil, and fails the others. It ends with deq, or with the case.
func consume[T any](r *rig, deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T], work func(swarm.Msg[T]) error) {
	go func() {
		for {
			select {
			case msg, ok := <-deq:
				if !ok {
					return
				}
				if err := work(msg); err != nil {
					msg = msg.Fail(err)
				}
				// Not even the end of the case is a reason to keep a message.
				ack <- msg
			case <-r.Context().Done():
				return
			}
		}
	}()
}

// journal notes texts from many goroutines.
type journal struct {
	mu    sync.Mutex
	texts []string
}

func (j *journal) add(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.texts = append(j.texts, text)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.texts)
}

func (j *journal) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.texts)
}
