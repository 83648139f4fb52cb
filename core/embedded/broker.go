package embedded

import (
	"fmt"
	"sync"
)

// Broker is a set of queues by name, for programs and tests that want to keep theirs
// apart from those of the process. Its queues stay when their kernels are closed. It
// is safe for concurrent use, and its zero value has no queues yet.
type Broker struct {
	// process marks the one set that nobody holds: its queues go with their kernels.
	process bool

	mu     sync.Mutex
	queues map[string]*Queue
}

// shared has the queues that are found by name in the whole process. It is a global
// variable because a name is all that two kernels of a process share; it is empty
// while no kernel is open.
var shared = &Broker{process: true}

// NewBroker makes a broker without queues.
func NewBroker() *Broker { return &Broker{} }

// Queue returns the queue of the name, and makes it if it is not there yet. The error
// names each option that is invalid, or that contradicts the existing queue.
func (b *Broker) Queue(name string, opts ...Option) (*Queue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue(name, opts)
}

func (b *Broker) queue(name string, opts []Option) (*Queue, error) {
	if name == "" {
		return nil, fmt.Errorf("embedded: a queue of a broker needs a name")
	}
	if q := b.queues[name]; q != nil {
		if _, err := q.apply(name, opts); err != nil {
			return nil, err
		}
		return q, nil
	}
	q, err := NewQueue(name, opts...)
	if err != nil {
		return nil, err
	}
	if b.process {
		q.transient, q.home = true, b
	}
	if b.queues == nil {
		b.queues = map[string]*Queue{}
	}
	b.queues[name] = q
	return q, nil
}

// open connects to the queue of the name. That no Close of the last connection gets in
// between is why it holds the lock.
func (b *Broker) open(name string, opts []Option) (*Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, err := b.queue(name, opts)
	if err != nil {
		return nil, err
	}
	return q.Open(opts...)
}
