// Package listen makes channels of a kernel that bring messages from a broker.
//
//	deq, ack := listen.Typed[Note](q)
//	for msg := range deq {
//		if err := work(msg.Object); err != nil {
//			ack <- msg.Fail(err)
//			continue
//		}
//		ack <- msg
//	}
//
// The loop ends when the kernel is closed. Send each message back on ack once, from any
// goroutine: the kernel takes it also after it was closed. Package swarm states by
// clause (L1 … L9) what the kernel promises. Messages flow once the kernel runs.
package listen

import (
	"fmt"
	"reflect"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/kernel"
)

// Listener is a kernel that listens: *kernel.Listener and *kernel.Endpoint, as brokers
// build them.
type Listener interface {
	Config() swarm.Config
	Inlet(category, goType string) *kernel.Inlet
	CatchAll() *kernel.Inlet
}

// Option is an option of one channel. The functions of this package panic when an
// option does not fit the type of the channel: it is a mistake in the program.
type Option func(*options)

type options struct {
	category string
	codec    any
}

// Category overrides the category of the type, or of the codec.
func Category(category string) Option {
	if category == "" {
		panic("swarm: listen.Category is empty")
	}
	return func(o *options) { o.category = category }
}

// Codec decodes the messages of the channel in place of JSON.
func Codec[T any](c codec.Decoder[T]) Option {
	if c == nil {
		panic("swarm: listen.Codec is nil")
	}
	return func(o *options) { o.codec = c }
}

// Typed makes channels for messages of T, decoded from JSON. The category is the name
// of T. It panics when the category is bound already: each has one consumer, which may
// have many goroutines. Deq is closed by the end of the kernel. Ack is not to be closed: a
// consumer that closes it gets no more messages, which is reported, unless at most once.
func Typed[T any](q Listener, opts ...Option) (deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T]) {
	o := gather(opts)
	if o.codec == nil {
		o.codec = codec.JSON[T](o.category)
	}
	return start[T](q, o)
}

// Event makes channels for events: E is an instance of [swarm.Event]. The category is
// the name of the type of its data. An event of a foreign sender may have no Meta, or no
// Data: it is nil then. Its Meta.Type is the sender's word, and not compared with the category.
func Event[E event[M, T], M, T any, PM swarm.Metadata[M]](q Listener, opts ...Option) (deq <-chan swarm.Msg[E], ack chan<- swarm.Msg[E]) {
	o := gather(opts)
	if o.codec == nil {
		o.codec = eventDecoder[E, M, T]{codec.Event[M, T, PM]("", "", o.category)}
	}
	return start[E](q, o)
}

// Bytes makes channels for bytes that the codec passes on, [codec.Bytes] as they are.
func Bytes(q Listener, c codec.Decoder[[]byte], opts ...Option) (deq <-chan swarm.Msg[[]byte], ack chan<- swarm.Msg[[]byte]) {
	o := gather(opts)
	if o.codec == nil {
		o.codec = c
	}
	return start[[]byte](q, o)
}

// Unknown makes the catch-all: channels for messages of all categories that nobody
// else listens to, in place of the policy for them.
func Unknown(q Listener) (deq <-chan swarm.Msg[[]byte], ack chan<- swarm.Msg[[]byte]) {
	mustKernel(q)
	return run(q, q.CatchAll(), codec.Bytes("*"))
}

// event is satisfied by instances of swarm.Event, and lets their type arguments be
// inferred.
type event[M, T any] interface {
	~struct {
		Meta *M `json:"meta,omitempty"`
		Data *T `json:"data,omitempty"`
	}
}

type eventDecoder[E event[M, T], M, T any] struct {
	codec.Decoder[swarm.Event[M, T]]
}

func (c eventDecoder[E, M, T]) MediaType() string {
	return c.Decoder.(codec.MediaTyped).MediaType()
}

func (c eventDecoder[E, M, T]) Decode(b []byte) (E, error) {
	v, err := c.Decoder.Decode(b)
	return E(v), err
}

func start[T any](q Listener, o options) (<-chan swarm.Msg[T], chan<- swarm.Msg[T]) {
	mustKernel(q)
	dec, ok := o.codec.(codec.Decoder[T])
	if !ok {
		panic(fmt.Sprintf("swarm: listen.Codec is a %T, which does not fit a channel of %s", o.codec, reflect.TypeFor[T]()))
	}
	category := o.category
	if category == "" {
		category = dec.Category()
	}
	return run(q, q.Inlet(category, reflect.TypeFor[T]().String()), dec)
}

func gather(opts []Option) (o options) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

func mustKernel(q Listener) {
	if v := reflect.ValueOf(q); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("swarm: listen on a nil kernel; was the error of Build ignored?")
	}
}
