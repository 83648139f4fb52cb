package listen_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

type Note struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

type User struct {
	Name string `json:"name"`
}

type UserEvent = swarm.Event[swarm.Meta, User]

func open(opts ...swarm.Option) *kernel.Endpoint {
	opts = append(opts, swarm.WithLogger(slog.New(slog.DiscardHandler)))
	return swarm.Must(embedded.Endpoint().WithKernel(opts...).Build(""))
}

func ExampleTyped() {
	q := open()
	deq, ack := listen.Typed[Note](q)
	go func() {
		notes := emit.NewTyped[Note](q)
		_ = notes.Enq(context.Background(), Note{ID: "A", Text: "hello"})
		_ = notes.Enq(context.Background(), Note{ID: "B", Text: "bye"})
	}()

	go q.Run(context.Background()) // q.Await() in a program
	for msg := range deq {         // ends when q is closed
		fmt.Println(msg.Object.ID, msg.Object.Text)
		ack <- msg
		if msg.Object.Text == "bye" {
			go q.Close()
		}
	}
	// Output:
	// A hello
	// B bye
}

// A message that fails comes back; the context of a message ends with its lease.
func ExampleTyped_failFast() {
	q := open()
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())
	_ = emit.NewTyped[Note](q).Enq(context.Background(), Note{ID: "A"})

	work := func(ctx context.Context, attempt int) error {
		if attempt == 1 {
			return errors.New("not yet")
		}
		return ctx.Err()
	}
	for msg := range deq {
		if err := work(msg.Context(), msg.Attempt); err != nil {
			fmt.Println("attempt", msg.Attempt, "failed:", err)
			ack <- msg.Fail(err)
			continue
		}
		fmt.Println("attempt", msg.Attempt, "succeeded")
		ack <- msg
		go q.Close()
	}
	// Output:
	// attempt 1 failed: not yet
	// attempt 2 succeeded
}

func ExampleEvent() {
	q := open(swarm.WithSource("sign-up"))
	deq, ack := listen.Event[UserEvent](q)
	go q.Run(context.Background())
	_ = emit.NewEvent[UserEvent](q).Enq(context.Background(), UserEvent{Data: &User{Name: "ada"}})

	msg := <-deq
	fmt.Println(msg.Category, msg.Object.Meta.Agent, msg.Object.Data.Name, msg.ID == msg.Object.Meta.ID)
	ack <- msg
	_ = q.Close()
	// Output: User sign-up ada true
}

func ExampleBytes() {
	q := open()
	deq, ack := listen.Bytes(q, codec.Bytes("Image"))
	go q.Run(context.Background())
	_ = emit.NewBytes(q, codec.Bytes("Image")).Enq(context.Background(), []byte("\x89PNG"))

	msg := <-deq
	fmt.Printf("%q\n", msg.Object)
	ack <- msg
	_ = q.Close()
	// Output: "\x89PNG"
}

// The catch-all takes messages of all categories that nobody else listens to.
func ExampleUnknown() {
	q := open()
	rest, ack := listen.Unknown(q)
	go q.Run(context.Background())
	_ = emit.NewTyped[Note](q).Enq(context.Background(), Note{ID: "A"})

	msg := <-rest
	fmt.Printf("%s: %s\n", msg.Category, msg.Object)
	ack <- msg
	_ = q.Close()
	// Output: Note: {"id":"A","text":""}
}

// Two types of the same name, from two packages, need a category of their own.
func ExampleCategory() {
	q := open()
	deq, ack := listen.Typed[Note](q, listen.Category("billing.Note"))
	go q.Run(context.Background())
	_ = emit.NewTyped[Note](q, emit.Category("billing.Note")).Enq(context.Background(), Note{ID: "A"})

	msg := <-deq
	fmt.Println(msg.Category)
	ack <- msg
	_ = q.Close()
	// Output: billing.Note
}

// words decodes what a foreign sender writes.
type words struct{}

func (words) Category() string { return "Words" }

func (words) Decode(b []byte) (Note, error) {
	if len(b) == 0 {
		return Note{}, errors.New("no words")
	}
	return Note{Text: string(b)}, nil
}

func ExampleCodec() {
	q := open(swarm.WithDefaultCategory("Words"))
	deq, ack := listen.Typed[Note](q, listen.Codec[Note](words{}))
	go q.Run(context.Background())
	_ = emit.NewBytes(q, codec.Bytes("Words")).Enq(context.Background(), []byte("plain text"))

	msg := <-deq
	fmt.Println(msg.Object.Text)
	ack <- msg
	_ = q.Close()
	// Output: plain text
}
