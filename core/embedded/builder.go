package embedded

import (
	"errors"
	"fmt"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Builder collects options and builds a kernel K on a queue. Its methods change and
// return the builder itself. It is not safe for concurrent use.
type Builder[K any] struct {
	broker *Broker
	queue  *Queue
	opts   []Option
	kernel []swarm.Option
	make   func(*Conn, []swarm.Option) (K, error)
}

// Emitter builds a kernel that emits to a queue of the process.
func Emitter() *Builder[*kernel.Emitter] { return shared.Emitter() }

// Listener builds a kernel that listens to a queue of the process.
func Listener() *Builder[*kernel.Listener] { return shared.Listener() }

// Endpoint builds a kernel that emits to a queue of the process and listens to it.
func Endpoint() *Builder[*kernel.Endpoint] { return shared.Endpoint() }

// Emitter builds a kernel that emits to a queue of the broker.
func (b *Broker) Emitter() *Builder[*kernel.Emitter] {
	return &Builder[*kernel.Emitter]{broker: b, make: func(c *Conn, opts []swarm.Option) (*kernel.Emitter, error) {
		return kernel.NewEmitter(c, opts...)
	}}
}

// Listener builds a kernel that listens to a queue of the broker.
func (b *Broker) Listener() *Builder[*kernel.Listener] {
	return &Builder[*kernel.Listener]{broker: b, make: func(c *Conn, opts []swarm.Option) (*kernel.Listener, error) {
		return kernel.NewListener(c, opts...)
	}}
}

// Endpoint builds a kernel that emits to a queue of the broker and listens to it.
func (b *Broker) Endpoint() *Builder[*kernel.Endpoint] {
	return &Builder[*kernel.Endpoint]{broker: b, make: func(c *Conn, opts []swarm.Option) (*kernel.Endpoint, error) {
		return kernel.NewEndpoint(c, opts...)
	}}
}

// WithKernel adds options of the kernel.
func (b *Builder[K]) WithKernel(opts ...swarm.Option) *Builder[K] {
	b.kernel = append(b.kernel, opts...)
	return b
}

// WithQueue takes a queue that exists. Build then needs no name.
func (b *Builder[K]) WithQueue(q *Queue) *Builder[K] {
	if q == nil {
		return b.with(func(*settings) error { return errors.New("WithQueue: queue is nil") })
	}
	b.queue = q
	return b
}

// WithBatchSize is [WithBatchSize].
func (b *Builder[K]) WithBatchSize(n int) *Builder[K] { return b.with(WithBatchSize(n)) }

// WithWait is [WithWait].
func (b *Builder[K]) WithWait(d time.Duration) *Builder[K] { return b.with(WithWait(d)) }

// WithVisibility is [WithVisibility].
func (b *Builder[K]) WithVisibility(d time.Duration) *Builder[K] { return b.with(WithVisibility(d)) }

// WithDelay is [WithDelay].
func (b *Builder[K]) WithDelay(d time.Duration) *Builder[K] { return b.with(WithDelay(d)) }

// WithFIFO is [WithFIFO].
func (b *Builder[K]) WithFIFO() *Builder[K] { return b.with(WithFIFO()) }

// WithDedup is [WithDedup].
func (b *Builder[K]) WithDedup(window time.Duration) *Builder[K] { return b.with(WithDedup(window)) }

// WithContentDedup is [WithContentDedup].
func (b *Builder[K]) WithContentDedup() *Builder[K] { return b.with(WithContentDedup()) }

// WithMaxReceives is [WithMaxReceives].
func (b *Builder[K]) WithMaxReceives(n int) *Builder[K] { return b.with(WithMaxReceives(n)) }

// WithMaxSize is [WithMaxSize].
func (b *Builder[K]) WithMaxSize(n int) *Builder[K] { return b.with(WithMaxSize(n)) }

// Build connects a kernel to the queue of the name; kernels of one name meet on one
// queue. The empty name makes a queue that only this kernel knows. The error names
// each option that is invalid, or that contradicts the existing queue.
func (b *Builder[K]) Build(name string) (k K, err error) {
	conn, err := b.connect(name)
	if err != nil {
		return k, err
	}
	return b.make(conn, b.kernel) // closes conn if it fails
}

func (b *Builder[K]) with(opt Option) *Builder[K] {
	b.opts = append(b.opts, opt)
	return b
}

func (b *Builder[K]) connect(name string) (*Conn, error) {
	switch q := b.queue; {
	case q == nil && name != "":
		return b.broker.open(name, b.opts)
	case q == nil:
		q, err := NewQueue(name, b.opts...)
		if err != nil {
			return nil, err
		}
		q.transient = true
		return q.Open(b.opts...)
	case name != "" && name != q.name:
		return nil, fmt.Errorf("embedded: Build(%q): contradicts WithQueue, its name is %q", name, q.name)
	default:
		return q.Open(b.opts...)
	}
}
