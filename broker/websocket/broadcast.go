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
	// Set says which topics a connection is in from now on. None: it is gone. It returns
	// when ctx ends.
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
// topics of a client; an error of it, or of the registry, turns the client away, see
// [Refuse]. It is called for several clients at once, where the function of Lambda is.
func Track(q listen.Listener, r Registry, topics func(swarm.Msg[Connect]) ([]string, error)) {
	if r == nil || topics == nil {
		panic("websocket: Track needs a registry and a function")
	}
	track(Connects(q))(func(msg swarm.Msg[Connect]) error {
		all, err := topics(msg)
		if err != nil {
			return err
		}
		m := Member{Connection: ConnectionOf(msg), Since: time.Now()}
		err = r.Set(msg.Context(), m, all...)
		if late := context.Cause(msg.Context()); err == nil && late != nil {
			// It was refused meanwhile, and no Disconnect will follow.
			err = errors.Join(late, r.Set(context.WithoutCancel(msg.Context()), m))
		}
		return err
	})
	track(Disconnects(q))(func(msg swarm.Msg[Disconnect]) error {
		return r.Set(msg.Context(), Member{Connection: ConnectionOf(msg)})
	})
}

// track processes each message by a goroutine of its own, as many as there are invocations:
// one that is slow holds up no other. A panic fails its message.
func track[T any](deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T]) func(func(swarm.Msg[T]) error) {
	return func(process func(swarm.Msg[T]) error) {
		go func() {
			for msg := range deq {
				go func() {
					if err := safely(func() error { return process(msg) }); err != nil {
						msg = msg.Fail(err)
					}
					ack <- msg
				}()
			}
		}()
	}
}

func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("websocket: panic: %v", p)
		}
	}()
	return f()
}

// Broadcaster sends values of T, as JSON, to all connections in a topic. It is safe for
// concurrent use.
type Broadcaster[T any] struct {
	registry Registry
	codec    codec.Encoder[T]
	post     *emit.Sync[packet]
}

// NewBroadcaster makes one on a kernel that emits.
func NewBroadcaster[T any](q emit.Emitter, r Registry) *Broadcaster[T] {
	if r == nil {
		panic("websocket: NewBroadcaster needs a registry")
	}
	c := codec.JSON[T](category[T]())
	return &Broadcaster[T]{
		registry: r,
		codec:    c,
		post:     emit.NewTyped[packet](q, emit.Codec[packet](packetCodec(c.Category())), SinkBy(func(p packet) string { return p.to })),
	}
}

// parallel is how many values of a broadcast are on their way at once.
const parallel = 256

// settling is how long a connection may answer that it is gone when it is not there yet:
// while $connect is processed, 29 seconds at most, by the clock of another instance.
const settling = time.Minute

// Broadcast sends v to each connection in a topic, and blocks until all of them have
// answered. It returns how many have v. Connections that are gone are no error: they leave
// the registry. Each of the others is tried by the rules of Enq; one that fails keeps v from
// nobody else.
func (b *Broadcaster[T]) Broadcast(ctx context.Context, topic string, v T) (sent int, err error) {
	wrap := func(err error) error { return fmt.Errorf("websocket: broadcast to %q: %w", topic, err) }
	var body []byte
	if err := codec.Safely(func() (err error) { body, err = b.codec.Encode(v); return err }); err != nil {
		return 0, wrap(err)
	}
	var (
		all    sync.WaitGroup
		slots  = make(chan struct{}, parallel)
		mu     sync.Mutex
		gone   []Member
		failed int
		first  error
	)
	answered := func(m Member, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			sent++
		case errors.Is(err, ErrGone):
			gone = append(gone, m)
		default:
			if failed++; first == nil {
				first = err
			}
		}
	}
	err = safely(func() error { // the registry is the user's
		for m, err := range b.registry.Members(ctx, topic) {
			if err != nil {
				return err
			}
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			all.Go(func() {
				defer func() { <-slots }()
				answered(m, b.post.Enq(ctx, packet{m.Connection, body}))
			})
		}
		return nil
	})
	all.Wait()
	if err != nil {
		answered(Member{}, err)
	}
	for _, m := range gone {
		if time.Since(m.Since) < settling {
			continue
		}
		if err := safely(func() error { return b.registry.Set(ctx, Member{Connection: m.Connection}) }); err != nil {
			answered(m, fmt.Errorf("forget %s: %w", m.Connection, err))
		}
	}
	if failed > 0 {
		return sent, wrap(fmt.Errorf("%d have it, %d failed at least, the first by: %w", sent, failed, first))
	}
	return sent, nil
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
