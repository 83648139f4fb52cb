// Package emit makes channels of a kernel that take values to a broker.
//
//	enq, dlq := emit.Typed[Note](q)
//	enq <- Note{…}
//
// A send hands the value over; package swarm states by clause (E1 … E8) what the
// kernel promises from then on. What could not be delivered comes out of dlq. Close enq
// to end a lane before its kernel, after its producers have ended. The kernel never
// closes enq; it closes dlq, always.
package emit

import (
	"cmp"
	"context"
	"fmt"
	"reflect"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

// Emitter is a kernel that emits: *kernel.Emitter and *kernel.Endpoint, as brokers
// build them.
type Emitter interface {
	Config() swarm.Config
	Outlet(category string, window int, buffered func() int) *kernel.Outlet
	NewBag(category string) driver.Bag
	Enqueue(ctx context.Context, bag *driver.Bag) error
	Reject(ctx context.Context, bag *driver.Bag, err error) error
}

// Option is an option of one channel. The functions of this package panic when an
// option does not fit the type of the channel: it is a mistake in the program.
type Option func(*options)

type options struct {
	category                      string
	codec                         any
	order, dedup, failed, context any
}

// Category overrides the category of the type, or of the codec.
func Category(category string) Option {
	if category == "" {
		panic("swarm: emit.Category is empty")
	}
	return func(o *options) { o.category = category }
}

// Codec encodes the values of the channel in place of JSON.
func Codec[T any](c codec.Encoder[T]) Option {
	if c == nil {
		panic("swarm: emit.Codec is nil")
	}
	return func(o *options) { o.codec = c }
}

// OrderBy gives each value its ordering key. A broker that keeps order keeps it among
// values with the same key. Default: the category.
func OrderBy[T any](key func(T) string) Option {
	if key == nil {
		panic("swarm: emit.OrderBy is nil")
	}
	return func(o *options) { o.order = key }
}

// DedupBy gives each value the key by which the broker recognises a repeated one, where it
// does: FIFO queues and topics. Default, also for an empty key: the id of the message, which
// stays the same over retries; of an event whose sender has set Meta.ID, that id and the
// category.
func DedupBy[T any](key func(T) string) Option {
	if key == nil {
		panic("swarm: emit.DedupBy is nil")
	}
	return func(o *options) { o.dedup = key }
}

// Context gives each value the context it belongs to: a trace that began elsewhere goes on
// in the message (see [swarm.Observer]). Its end does not matter. Default: none. It is for
// channels, Enq has one.
func Context[T any](of func(T) context.Context) Option {
	if of == nil {
		panic("swarm: emit.Context is nil")
	}
	return func(o *options) { o.context = of }
}

// OnFailure is told each value that was not delivered, and why: an [*swarm.EmitError]
// when it goes to dlq or is dropped, [swarm.ErrUndelivered] when it was left over at the
// end of the kernel, [swarm.ErrClosed] when it came after. It is called by the
// goroutine of the channel, which waits for it.
func OnFailure[T any](f func(T, error)) Option {
	if f == nil {
		panic("swarm: emit.OnFailure is nil")
	}
	return func(o *options) { o.failed = f }
}

// Typed makes channels for values of T, encoded as JSON. The category is the name of
// T.
func Typed[T any](q Emitter, opts ...Option) (enq chan<- T, dlq <-chan T) {
	return start(q, typedFormat[T](opts))
}

// Event makes channels for events: E is an instance of [swarm.Event]. The category is
// the name of the type of its data.
func Event[E event[M, T], M, T any, PM swarm.Metadata[M]](q Emitter, opts ...Option) (enq chan<- E, dlq <-chan E) {
	return start(q, eventFormat[E, M, T, PM](q, opts))
}

// Bytes makes channels for bytes that the codec passes on, [codec.Bytes] as they are.
func Bytes(q Emitter, c codec.Encoder[[]byte], opts ...Option) (enq chan<- []byte, dlq <-chan []byte) {
	return start(q, bytesFormat(c, opts))
}

// Sync sends one value at a time and knows what became of it. It is safe for
// concurrent use; values of concurrent callers travel together.
type Sync[T any] struct {
	q Emitter
	format[T]
}

// Enq blocks until the broker has accepted the value: nil means that it has. The
// retry policy applies. After the kernel was closed it returns [swarm.ErrClosed].
//
// When ctx ends first, Enq returns its cause. The value is withdrawn if no request
// carries it yet; otherwise it may still be delivered.
func (s *Sync[T]) Enq(ctx context.Context, v T) error {
	bag := s.q.NewBag(s.category)
	if err := s.encode(v, &bag); err != nil {
		return s.q.Reject(ctx, &bag, err)
	}
	return s.q.Enqueue(ctx, &bag)
}

// NewTyped is [Typed] for synchronous callers.
func NewTyped[T any](q Emitter, opts ...Option) *Sync[T] {
	return newSync(q, typedFormat[T](opts))
}

// NewEvent is [Event] for synchronous callers.
func NewEvent[E event[M, T], M, T any, PM swarm.Metadata[M]](q Emitter, opts ...Option) *Sync[E] {
	return newSync(q, eventFormat[E, M, T, PM](q, opts))
}

// NewBytes is [Bytes] for synchronous callers.
func NewBytes(q Emitter, c codec.Encoder[[]byte], opts ...Option) *Sync[[]byte] {
	return newSync(q, bytesFormat(c, opts))
}

func newSync[T any](q Emitter, f format[T]) *Sync[T] {
	mustKernel(q)
	if f.onFailure != nil {
		panic("swarm: emit.OnFailure is for channels, Enq returns its error")
	}
	if f.context != nil {
		panic("swarm: emit.Context is for channels, Enq has one")
	}
	return &Sync[T]{q: q, format: f}
}

// event is satisfied by instances of swarm.Event, and lets their type arguments be
// inferred.
type event[M, T any] interface {
	~struct {
		Meta *M `json:"meta,omitempty"`
		Data *T `json:"data,omitempty"`
	}
}

// format is how values of a channel become bags.
type format[T any] struct {
	category     string
	binary       bool
	body         func(T, *driver.Bag) error
	order, dedup func(T) string
	sink         func(T) string // of events
	onFailure    func(T, error)
	context      func(T) context.Context
}

// encode fills the bag, whose id is set.
func (f *format[T]) encode(v T, bag *driver.Bag) error {
	bag.Binary = f.binary
	return codec.Safely(func() (err error) {
		if err = f.body(v, bag); err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		if f.order != nil {
			bag.Group = f.order(v)
		}
		if f.sink != nil && f.order == nil { // a key that is empty means nobody
			bag.Sink = f.sink(v)
		}
		if f.dedup != nil {
			bag.Dedup = cmp.Or(f.dedup(v), bag.Dedup)
		}
		return nil
	})
}

// contextOf is the context that a value of a channel belongs to.
func (f *format[T]) contextOf(v T) context.Context {
	ctx := context.Background()
	if f.context != nil {
		_ = codec.Safely(func() error {
			if own := f.context(v); own != nil {
				ctx = own
			}
			return nil
		})
	}
	return ctx
}

func typedFormat[T any](opts []Option) format[T] {
	o := gather(opts)
	if o.codec == nil {
		o.codec = codec.JSON[T](o.category)
	}
	return newFormat[T](o)
}

func bytesFormat(c codec.Encoder[[]byte], opts []Option) format[[]byte] {
	o := gather(opts)
	if o.codec == nil {
		o.codec = c
	}
	return newFormat[[]byte](o)
}

// eventFormat encodes E as the swarm.Event it is.
func eventFormat[E event[M, T], M, T any, PM swarm.Metadata[M]](q Emitter, opts []Option) format[E] {
	o := gather(opts)
	if o.codec == nil {
		mustKernel(q)
		cfg := q.Config()
		o.codec = eventEncoder[E, M, T]{codec.Event[M, T, PM](cfg.Realm, cfg.Source, o.category)}
	}
	f := newFormat[E](o)
	f.sink = func(v E) string {
		meta := swarm.Event[M, T](v).Meta
		if meta == nil {
			return ""
		}
		if m := PM(meta).SwarmMeta(); m != nil { // a codec of the user's may have it embedded by a pointer
			return m.Sink
		}
		return ""
	}
	return f
}

type eventEncoder[E event[M, T], M, T any] struct {
	codec.Codec[swarm.Event[M, T]]
}

func (c eventEncoder[E, M, T]) MediaType() string {
	return c.Codec.(codec.MediaTyped).MediaType()
}

func (c eventEncoder[E, M, T]) Encode(v E) ([]byte, error) {
	return c.Codec.Encode(swarm.Event[M, T](v))
}

func (c eventEncoder[E, M, T]) EncodeID(v E, id string) ([]byte, string, error) {
	return c.Codec.(codec.Identified[swarm.Event[M, T]]).EncodeID(swarm.Event[M, T](v), id)
}

func newFormat[T any](o options) format[T] {
	enc := option[codec.Encoder[T], T]("Codec", o.codec)
	if enc == nil {
		panic("swarm: codec is nil")
	}
	f := format[T]{
		category:  o.category,
		binary:    !codec.IsJSON(enc),
		order:     option[func(T) string, T]("OrderBy", o.order),
		dedup:     option[func(T) string, T]("DedupBy", o.dedup),
		onFailure: option[func(T, error), T]("OnFailure", o.failed),
		context:   option[func(T) context.Context, T]("Context", o.context),
	}
	if f.category == "" {
		f.category = enc.Category()
	}
	if f.category == "" {
		panic(fmt.Sprintf("swarm: category of %s is empty", reflect.TypeFor[T]()))
	}
	if id, ok := enc.(codec.Identified[T]); ok {
		f.body = func(v T, bag *driver.Bag) (err error) {
			fresh := bag.ID
			if bag.Body, bag.ID, err = id.EncodeID(v, fresh); bag.ID != fresh && bag.ID != "" {
				// The sender's own, and he may answer by an event of the same id.
				bag.Dedup = fmt.Sprintf("%d/%s/%s", len(bag.ID), bag.ID, f.category)
			}
			return err
		}
	} else {
		f.body = func(v T, bag *driver.Bag) (err error) {
			bag.Body, err = enc.Encode(v)
			return err
		}
	}
	return f
}

// option asserts the type of an option, which cannot be checked earlier.
func option[F, T any](name string, value any) (f F) {
	if value == nil {
		return f
	}
	f, ok := value.(F)
	if !ok {
		panic(fmt.Sprintf("swarm: emit.%s is a %T, which does not fit a channel of %s", name, value, reflect.TypeFor[T]()))
	}
	return f
}

func gather(opts []Option) (o options) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

func mustKernel(q Emitter) {
	if v := reflect.ValueOf(q); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		panic("swarm: emit on a nil kernel; was the error of Build ignored?")
	}
}
