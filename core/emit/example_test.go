package emit_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
)

type Note struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

type User struct {
	Name string `json:"name"`
}

// Meta is swarm's, and a field of our own.
type Meta struct {
	swarm.Meta
	About string `json:"about,omitempty"`
}

type UserEvent = swarm.Event[Meta, User]

// open makes a kernel on a queue that the example looks into.
func open(opts ...swarm.Option) (*kernel.Emitter, *embedded.Queue) {
	queue := swarm.Must(embedded.NewQueue("example", embedded.WithFIFO(), embedded.WithMaxSize(300)))
	opts = append(opts, swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithSource("example"))
	return swarm.Must(embedded.Emitter().WithQueue(queue).WithKernel(opts...).Build("")), queue
}

func print(queue *embedded.Queue) {
	for _, bag := range queue.Peek(10) {
		fmt.Printf("%s: %s\n", bag.Category, bag.Body)
	}
}

func ExampleTyped() {
	q, queue := open()
	enq, dlq := emit.Typed[Note](q)
	go func() {
		for note := range dlq {
			fmt.Println("not sent:", note.ID)
		}
	}()

	enq <- Note{ID: "A", Text: "hello"}
	enq <- Note{ID: "B", Text: "world"}
	close(enq)

	fmt.Println("lost:", q.Close())
	print(queue)
	// Output:
	// lost: <nil>
	// Note: {"id":"A","text":"hello"}
	// Note: {"id":"B","text":"world"}
}

func ExampleEvent() {
	q, queue := open()
	enq, _ := emit.Event[UserEvent](q)

	enq <- UserEvent{
		Meta: &Meta{Meta: swarm.Meta{ID: "request-42"}, About: "sign up"},
		Data: &User{Name: "ada"},
	}
	close(enq)
	_ = q.Close()

	event := swarm.Must(codec.Event[Meta, User]("", "", "").Decode(queue.Peek(1)[0].Body))
	fmt.Println(event.Meta.ID, event.Meta.Type, event.Meta.Agent, event.Meta.About, event.Data.Name)
	// Output: request-42 User example sign up ada
}

func ExampleBytes() {
	q, queue := open()
	enq, _ := emit.Bytes(q, codec.Bytes("Image"))
	enq <- []byte("\x89PNG")
	close(enq)
	_ = q.Close()
	fmt.Printf("%s %q\n", queue.Peek(1)[0].Category, queue.Peek(1)[0].Body)
	// Output: Image "\x89PNG"
}

// Gob is a codec of our own.
type Gob[T any] string

func (c Gob[T]) Category() string { return string(c) }

func (Gob[T]) Encode(v T) ([]byte, error) {
	var buf bytes.Buffer
	err := gob.NewEncoder(&buf).Encode(v)
	return buf.Bytes(), err
}

func (Gob[T]) Decode(b []byte) (v T, err error) {
	err = gob.NewDecoder(bytes.NewReader(b)).Decode(&v)
	return v, err
}

func ExampleCodec() {
	q, queue := open()
	notes := emit.NewTyped[Note](q, emit.Codec(Gob[Note]("note/gob")))
	_ = notes.Enq(context.Background(), Note{ID: "A"})
	_ = q.Close()
	note, err := Gob[Note]("").Decode(queue.Peek(1)[0].Body)
	fmt.Println(queue.Peek(1)[0].Category, note.ID, err)
	// Output: note/gob A <nil>
}

// A synchronous emitter knows at once what became of a value.
func ExampleSync() {
	q, _ := open()
	notes := emit.NewTyped[Note](q)

	err := notes.Enq(context.Background(), Note{ID: "A"})
	fmt.Println("accepted by the broker:", err == nil)

	err = notes.Enq(context.Background(), Note{Text: string(make([]byte, 1000))})
	if e, ok := errors.AsType[*swarm.EmitError](err); ok {
		fmt.Println(e.Category, "refused after", e.Attempts, "attempts")
	}

	_ = q.Close()
	fmt.Println(errors.Is(notes.Enq(context.Background(), Note{}), swarm.ErrClosed))
	// Output:
	// accepted by the broker: true
	// Note refused after 0 attempts
	// true
}

func ExampleNewEvent() {
	q, queue := open()
	users := emit.NewEvent[UserEvent](q)
	fmt.Println(users.Enq(context.Background(), UserEvent{Data: &User{Name: "ada"}}))
	fmt.Println(users.Enq(context.Background(), UserEvent{}) != nil)
	_ = q.Close()
	fmt.Println(queue.Len())
	// Output:
	// <nil>
	// true
	// 1
}

func ExampleNewBytes() {
	q, queue := open()
	images := emit.NewBytes(q, codec.Bytes("Image"))
	fmt.Println(images.Enq(context.Background(), []byte{1, 2, 3}), queue.Len())
	_ = q.Close()
	// Output: <nil> 1
}

// OnFailure is told why a value has failed; the value itself comes out of dlq.
func ExampleOnFailure() {
	q, _ := open()
	enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(note Note, err error) {
		e, _ := errors.AsType[*swarm.EmitError](err)
		fmt.Println(note.ID, "failed:", e.Err)
	}))
	enq <- Note{ID: "A", Text: string(make([]byte, 50))} // six bytes each in JSON
	fmt.Println(len((<-dlq).Text))
	close(enq)
	_ = q.Close()
	// Output:
	// A failed: embedded: body of 320 bytes, queue "example" takes 300
	// 50
}

// A value of a channel brings its context along, for observers: a trace that goes on.
func ExampleContext() {
	type Job struct {
		Text string
		ctx  context.Context
	}
	type trace struct{}
	q, queue := open(swarm.WithObserver(swarm.Observer{
		Accepted: func(ctx context.Context, _ swarm.Envelope) map[string]string {
			return map[string]string{"trace": ctx.Value(trace{}).(string)}
		},
	}))
	enq, _ := emit.Typed[Job](q, emit.Context(func(job Job) context.Context { return job.ctx }))
	enq <- Job{Text: "hello", ctx: context.WithValue(context.Background(), trace{}, "42")}
	close(enq)
	_ = q.Close()
	fmt.Println(queue.Peek(1)[0].Attrs)
	// Output: map[trace:42]
}

// The category, and keys for brokers that keep order or drop repeated messages.
func ExampleOption() {
	q, queue := open()
	enq, _ := emit.Typed[Note](q,
		emit.Category("Memo"),
		emit.OrderBy(func(n Note) string { return n.ID }),
		emit.DedupBy(func(n Note) string { return n.Text }),
	)
	enq <- Note{ID: "A", Text: "hello"}
	close(enq)
	_ = q.Close()
	bag := queue.Peek(1)[0]
	fmt.Println(bag.Category, bag.Group, bag.Dedup)
	// Output: Memo A hello
}
