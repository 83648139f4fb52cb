package websocket

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// Registry keeps which connections are in which topics: functions have no memory of their
// own, and API Gateway does not list connections. It is used by many goroutines at once.
type Registry interface {
	// Set says which topics a connection is in from now on. None: it is gone.
	Set(ctx context.Context, m Member, topics ...string) error

	// Members are the connections in a topic, in any order. An error is the last of them.
	// Members may be set while one ranges over them.
	Members(ctx context.Context, topic string) iter.Seq2[Member, error]
}

// Member is a connection in a [Registry].
type Member struct {
	Connection string
	Since      time.Time
}

// Memory is a [Registry] of one process: a server, a function with one instance, a test.
type Memory struct {
	mu      sync.Mutex
	topics  map[string]map[string]Member // by topic and connection
	members map[string][]string          // topics of a connection
}

// NewMemory makes an empty registry.
func NewMemory() *Memory {
	return &Memory{topics: map[string]map[string]Member{}, members: map[string][]string{}}
}

// Set implements [Registry].
func (r *Memory) Set(_ context.Context, m Member, topics ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, topic := range r.members[m.Connection] {
		delete(r.topics[topic], m.Connection)
		if len(r.topics[topic]) == 0 {
			delete(r.topics, topic)
		}
	}
	delete(r.members, m.Connection)
	for _, topic := range topics {
		if r.topics[topic] == nil {
			r.topics[topic] = map[string]Member{}
		}
		r.topics[topic][m.Connection] = m
		r.members[m.Connection] = slices.Clone(topics)
	}
	return nil
}

// Members implements [Registry].
func (r *Memory) Members(_ context.Context, topic string) iter.Seq2[Member, error] {
	return func(yield func(Member, error) bool) {
		r.mu.Lock()
		all := slices.Collect(maps.Values(r.topics[topic]))
		r.mu.Unlock()
		for _, m := range all {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Track keeps a registry up to date with the clients that connect and disconnect, until q is
// closed. It takes the channels of [Connects] and [Disconnects]. The function says the
// topics of a client; an error of it turns the client away, see [Refuse]. It is called by one
// goroutine, one client after the other.
func Track(q listen.Listener, r Registry, topics func(swarm.Msg[Connect]) ([]string, error)) {
	if r == nil || topics == nil {
		panic("websocket: Track needs a registry and a function")
	}
	connects, in := Connects(q)
	disconnects, out := Disconnects(q)
	go func() {
		for msg := range connects {
			all, err := topics(msg)
			if err == nil {
				err = r.Set(msg.Context(), Member{Connection: msg.Object.Connection, Since: time.Now()}, all...)
			}
			if err != nil {
				in <- msg.Fail(err)
				continue
			}
			in <- msg
		}
	}()
	go func() {
		for msg := range disconnects {
			if err := r.Set(msg.Context(), Member{Connection: msg.Object.Connection}); err != nil {
				out <- msg.Fail(err)
				continue
			}
			out <- msg
		}
	}()
}

// Broadcaster sends values of T, as JSON, to all connections in a topic. It is safe for
// concurrent use.
type Broadcaster[T any] struct {
	registry Registry
	codec    codec.Encoder[T]
	post     *emit.Sync[packet]
	requests chan struct{}
}

// NewBroadcaster makes one on a kernel that emits.
func NewBroadcaster[T any](q emit.Emitter, r Registry) *Broadcaster[T] {
	if r == nil {
		panic("websocket: NewBroadcaster needs a registry")
	}
	c := codec.JSON[T]("")
	return &Broadcaster[T]{
		registry: r,
		codec:    c,
		post:     emit.NewTyped[packet](q, emit.Codec[packet](packetCodec(c.Category())), SinkBy(func(p packet) string { return p.to })),
		requests: make(chan struct{}, parallel),
	}
}

// parallel is how many values of a broadcaster are on their way at once.
const parallel = 256

// settling is how long a connection may answer that it is gone when it is not there yet:
// while $connect is processed, 29 seconds at most.
const settling = 30 * time.Second

// Broadcast sends v to each connection in a topic, and blocks until all of them have
// answered. It returns how many have v. Connections that are gone are no error: they leave
// the registry. Each of the others is tried by the rules of Enq; one that fails keeps v from
// nobody else.
func (b *Broadcaster[T]) Broadcast(ctx context.Context, topic string, v T) (sent int, err error) {
	body, err := b.codec.Encode(v)
	if err != nil {
		return 0, fmt.Errorf("websocket: broadcast to %q: %w", topic, err)
	}
	var (
		all    sync.WaitGroup
		mu     sync.Mutex
		failed int
		first  error
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if failed++; first == nil {
			first = err
		}
	}
	for m, err := range b.registry.Members(ctx, topic) {
		if err != nil {
			fail(err)
			break
		}
		if !b.begin(ctx) {
			fail(context.Cause(ctx))
			break
		}
		all.Go(func() {
			defer func() { <-b.requests }()
			switch err := b.send(ctx, m, body); {
			case err == nil:
				mu.Lock()
				sent++
				mu.Unlock()
			case !errors.Is(err, ErrGone):
				fail(err)
			}
		})
	}
	all.Wait()
	if failed > 0 {
		return sent, fmt.Errorf("websocket: broadcast to %q: %d have it, %d failed, the first by: %w", topic, sent, failed, first)
	}
	return sent, nil
}

// begin waits until another value may be on its way; false: ctx has ended.
func (b *Broadcaster[T]) begin(ctx context.Context) bool {
	select {
	case b.requests <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (b *Broadcaster[T]) send(ctx context.Context, m Member, body []byte) error {
	err := b.post.Enq(ctx, packet{m.Connection, body})
	if errors.Is(err, ErrGone) && time.Since(m.Since) >= settling {
		if e := b.registry.Set(ctx, Member{Connection: m.Connection}); e != nil {
			return fmt.Errorf("forget %s: %w", m.Connection, e)
		}
	}
	return err
}

// packet is an encoded value on its way to one connection.
type packet struct {
	to   string
	body []byte
}

// packetCodec is the category of packets. They share their bytes, which nobody changes.
type packetCodec string

func (c packetCodec) Category() string              { return string(c) }
func (packetCodec) MediaType() string               { return "application/json" }
func (packetCodec) Encode(p packet) ([]byte, error) { return p.body, nil }
