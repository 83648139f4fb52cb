// Package e2e tests what takes two brokers: values that are emitted to a topic or a bus, and
// changes of a bucket, as a service receives them from a queue.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/sns"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/qtest/localstack"

	"github.com/fogfish/swarm/examples/internal/aws"
)

type Note struct {
	ID   int    `json:"id"`
	Text string `json:"text,omitempty"`
}

type User struct {
	Name string `json:"name"`
}

type Meta struct {
	swarm.Meta
	About string `json:"about"`
}

type UserEvent = swarm.Event[Meta, User]

var (
	quiet  = swarm.WithLogger(slog.New(slog.DiscardHandler))
	atOnce = swarm.WithRedelivery(func(int) time.Duration { return 0 })
	soak   = os.Getenv("SOAK") == "1"

	// A request that LocalStack is slow to answer is not sent again: that would make
	// duplicates, which AWS does and these tests do not expect.
	unhurried = swarm.WithNetworkTimeout(30 * time.Second)
)

// patience bounds what tests wait for. Nothing takes that long: a soak keeps LocalStack busy
// with tens of thousands of messages, and the topics of all tests share its threads.
var patience = map[bool]time.Duration{false: time.Minute, true: 15 * time.Minute}[soak]

// place makes things in an account of LocalStack. They go with the test.
type place struct {
	*testing.T
	cfg awssdk.Config
}

func cloud(t *testing.T) place {
	t.Helper()
	return place{t, aws.LocalStack(localstack.Endpoint(t), localstack.Account("examples/e2e"))}
}

// made is a thing, deleted when the test ends.
func made[X interface{ Delete(context.Context) }](p place, x X, err error) X {
	p.Helper()
	p.check(err)
	p.Cleanup(func() { x.Delete(context.Background()) })
	return x
}

func (p place) check(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// suffix of names.
func suffix(fifo bool) string {
	if fifo {
		return ".fifo"
	}
	return ""
}

func (p place) queue(fifo bool) *aws.Queue {
	p.Helper()
	q, err := aws.NewQueue(p.Context(), p.cfg, aws.Name("q")+suffix(fifo))
	return made(p, q, err)
}

func (p place) topic(fifo bool) *aws.Topic {
	p.Helper()
	t, err := aws.NewTopic(p.Context(), p.cfg, aws.Name("t")+suffix(fifo))
	return made(p, t, err)
}

func (p place) bus(name string) *aws.Bus {
	p.Helper()
	b, err := aws.NewBus(p.Context(), p.cfg, name)
	return made(p, b, err)
}

// closed is a kernel, closed when the test ends.
func closed[K swarm.Kernel](p place, k K, err error) K {
	p.Helper()
	p.check(err)
	p.Cleanup(func() {
		if err := k.Close(); err != nil {
			p.Errorf("close: %v", err)
		}
	})
	return k
}

// service listens to a queue until the test ends. Wire its channels before it runs.
func (p place) service(q *aws.Queue, b *sqs.Builder[*kernel.Listener]) *kernel.Listener {
	p.Helper()
	k, err := b.WithConfig(p.cfg).WithWaitTime(time.Second).WithKernel(quiet, unhurried, atOnce).Build(q.Name)
	return closed(p, k, err)
}

func (p place) publisher(t *aws.Topic, opts ...swarm.Option) *kernel.Emitter {
	p.Helper()
	k, err := sns.Emitter().WithConfig(p.cfg).WithKernel(quiet, unhurried, swarm.WithSource("me"), swarm.WithRealm("blue")).WithKernel(opts...).Build(t.ARN)
	return closed(p, k, err)
}

func (p place) putter(b *aws.Bus, opts ...swarm.Option) *kernel.Emitter {
	p.Helper()
	k, err := eventbridge.Emitter().WithConfig(p.cfg).WithKernel(quiet, unhurried, swarm.WithSource("me"), swarm.WithRealm("blue")).WithKernel(opts...).Build(b.Name)
	return closed(p, k, err)
}

// everything is a pattern.
const everything = `{"source":[{"prefix":""}]}`

var raw = map[string]string{"RawMessageDelivery": "true"}

// route is a way from an emitter to a service.
type route struct {
	name   string
	fifo   bool
	unwrap []sqs.Envelope // nil: the service opens no envelope
	make   func(p place, q *aws.Queue, opts ...swarm.Option) *kernel.Emitter
}

func byTopic(fifo bool, attributes map[string]string) func(place, *aws.Queue, ...swarm.Option) *kernel.Emitter {
	return func(p place, q *aws.Queue, opts ...swarm.Option) *kernel.Emitter {
		t := p.topic(fifo)
		p.check(t.Subscribe(p.Context(), q, attributes))
		return p.publisher(t, opts...)
	}
}

func byBus(p place, q *aws.Queue, opts ...swarm.Option) *kernel.Emitter {
	b := p.bus(aws.Name("b"))
	p.check(b.Rule(p.Context(), everything, q))
	return p.putter(b, opts...)
}

// byBusAndTopic nests: the envelope of SNS is around the one of EventBridge.
func byBusAndTopic(p place, q *aws.Queue, opts ...swarm.Option) *kernel.Emitter {
	b, t := p.bus(aws.Name("b")), p.topic(false)
	p.check(b.Rule(p.Context(), everything, t))
	p.check(t.Subscribe(p.Context(), q, nil))
	return p.putter(b, opts...)
}

var detect = []sqs.Envelope{} // as each message is seen to have

var routes = []route{
	{"EventBridge", false, []sqs.Envelope{sqs.EventBridge}, byBus},
	{"EventBridge, detected", false, detect, byBus},
	{"SNS", false, []sqs.Envelope{sqs.SNS}, byTopic(false, nil)},
	{"SNS, detected", false, detect, byTopic(false, nil)},
	{"SNS, raw", false, nil, byTopic(false, raw)},
	{"SNS, raw, detected", false, detect, byTopic(false, raw)},
	{"SNS FIFO", true, []sqs.Envelope{sqs.SNS}, byTopic(true, nil)},
	{"SNS FIFO, raw", true, nil, byTopic(true, raw)},
	{"SNS around EventBridge", false, []sqs.Envelope{sqs.SNS, sqs.EventBridge}, byBusAndTopic},
	{"SNS around EventBridge, detected", false, detect, byBusAndTopic},
}

// each runs a test on all routes.
func each(t *testing.T, opts []swarm.Option, test func(p place, r route, out *kernel.Emitter, in *kernel.Listener, q *aws.Queue)) {
	t.Parallel()
	for _, r := range routes {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			p := cloud(t)
			q := p.queue(r.fifo)
			out := r.make(p, q, opts...)
			b := sqs.Listener()
			if r.unwrap != nil {
				b.WithUnwrap(r.unwrap...)
			}
			test(p, r, out, p.service(q, b), q)
		})
	}
}

// next is the next message, which has to come.
func next[T any](p place, deq <-chan swarm.Msg[T]) swarm.Msg[T] {
	p.Helper()
	select {
	case msg, ok := <-deq:
		if !ok {
			p.Fatal("deq is closed")
		}
		return msg
	case <-time.After(patience):
		p.Fatalf("no message within %s", patience)
	}
	panic("not reached")
}

// soon polls for a condition that takes requests to look at.
func (p place) soon(what string, ok func() bool) {
	p.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (p place) left(q *aws.Queue) int64 {
	p.Helper()
	n, err := q.Left(p.Context())
	p.check(err)
	return n
}

func (p place) empty(q *aws.Queue) {
	p.Helper()
	p.soon("the queue is empty", func() bool { return p.left(q) == 0 })
}

// envelope checks what is known about a message beside its object.
func envelope[T any](p place, msg swarm.Msg[T], category string, attempt int) {
	p.Helper()
	if _, native := msg.IOContext.(types.Message); !native || msg.Category != category || msg.Attempt != attempt || msg.ID == "" {
		p.Errorf("got category %q, attempt %d, id %q, %T; want %q, attempt %d", msg.Category, msg.Attempt, msg.ID, msg.IOContext, category, attempt)
	}
	if age := time.Since(msg.SentAt); age < -time.Second || age > patience {
		p.Errorf("sent %s ago", age)
	}
}

// hostile is bytes that no transport takes as text.
func hostile() [][]byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return [][]byte{all, []byte("\x89PNG\r\n\x1a\n"), []byte("\xff"), []byte("\x00"), []byte("\ufffe\uffff"), []byte("plain"),
		[]byte(`{"p":"aGVsbG8="}`), []byte(`{"Type":"Notification","Message":"no"}`), []byte(" {} "), bytes.Repeat([]byte("\x00\xff"), 50_000)}
}

// Typed values, events and bytes arrive as they were sent, whatever is in them.
func TestValuesEventsAndBytes(t *testing.T) {
	each(t, nil, func(p place, r route, out *kernel.Emitter, in *kernel.Listener, q *aws.Queue) {
		notes, noteAck := listen.Typed[Note](in)
		users, userAck := listen.Event[UserEvent](in)
		images, imageAck := listen.Bytes(in, codec.Bytes("Image"))
		go in.Run(p.Context())

		note := emit.NewTyped[Note](out)
		for i, text := range []string{"", "äöü ∞ 日本語 🐝", "a\tb\nc\r\n", `"\&<>'`, "\u2028\u2029\ufffe\x00\x1b\x7f", strings.Repeat("long ", 30_000)} {
			p.check(note.Enq(p.Context(), Note{i, text}))
			msg := next(p, notes)
			envelope(p, msg, "Note", 1)
			if msg.Object != (Note{i, text}) {
				p.Errorf("got %.80q, want %.80q", msg.Object.Text, text)
			}
			noteAck <- msg
		}

		sent := UserEvent{Meta: &Meta{Meta: swarm.Meta{ID: "e-1", Participant: "ada"}, About: "sign up"}, Data: &User{Name: "Ada <ada@example.com>"}}
		p.check(emit.NewEvent[UserEvent](out).Enq(p.Context(), sent))
		user := next(p, users)
		envelope(p, user, "User", 1)
		if meta := user.Object.Meta; meta.ID != "e-1" || meta.Participant != "ada" || meta.About != "sign up" ||
			meta.Agent != "me" || meta.Realm != "blue" || meta.Type != "User" || time.Since(meta.Created) > patience || *user.Object.Data != *sent.Data {
			p.Errorf("got %+v, %+v", meta, user.Object.Data)
		}
		userAck <- user

		image := emit.NewBytes(out, codec.Bytes("Image"))
		for _, body := range hostile() {
			p.check(image.Enq(p.Context(), body))
			msg := next(p, images)
			envelope(p, msg, "Image", 1)
			if !bytes.Equal(msg.Object, body) {
				p.Errorf("got %.80q, want %.80q", msg.Object, body)
			}
			imageAck <- msg
		}
		p.empty(q)
	})
}

// What a service refuses comes again, the same message.
func TestNack(t *testing.T) {
	each(t, nil, func(p place, r route, out *kernel.Emitter, in *kernel.Listener, q *aws.Queue) {
		notes, ack := listen.Typed[Note](in)
		go in.Run(p.Context())
		p.check(emit.NewTyped[Note](out).Enq(p.Context(), Note{ID: 7}))
		first := next(p, notes)
		ack <- first.Fail(errors.New("not today"))
		second := next(p, notes)
		envelope(p, second, "Note", 2)
		if second.Object != first.Object || second.ID != first.ID || !second.SentAt.Equal(first.SentAt) {
			p.Errorf("got %+v after %+v", second, first)
		}
		ack <- second
		p.empty(q)
	})
}

// Many values of several channels, some of them refused once: each is processed, in the
// order of its group where there is one.
func TestMany(t *testing.T) {
	const lanes, groups = 3, 7
	total := 300
	if soak {
		total = 3000
	}
	each(t, []swarm.Option{swarm.WithEmitWindow(30)}, func(p place, r route, out *kernel.Emitter, in *kernel.Listener, q *aws.Queue) {
		group := func(n Note) string { return fmt.Sprint("group ", n.ID%groups) }
		var work sync.WaitGroup
		for lane := range lanes {
			enq, dlq := emit.Typed[Note](out, emit.OrderBy(func(n Note) string { return fmt.Sprint(lane, " ", group(n)) }))
			work.Go(func() {
				for n := range dlq {
					p.Errorf("not sent: %v", n)
				}
			})
			work.Go(func() {
				defer close(enq)
				for i := lane; i < total; i += lanes {
					enq <- Note{ID: i}
				}
			})
		}
		notes, ack := listen.Typed[Note](in)
		go in.Run(p.Context())
		seen, last := map[int]bool{}, map[string]int{}
		for len(seen) < total {
			msg := next(p, notes)
			n := msg.Object
			switch key := fmt.Sprint(n.ID%lanes, " ", group(n)); {
			case msg.Attempt == 1 && n.ID%10 == 0:
				ack <- msg.Fail(errors.New("once"))
				continue
			case seen[n.ID]:
				p.Errorf("%d is there twice, attempt %d", n.ID, msg.Attempt)
			case r.fifo && n.ID < last[key]:
				p.Errorf("%s: %d after %d", key, n.ID, last[key])
			default:
				last[key] = n.ID
			}
			seen[n.ID] = true
			ack <- msg
		}
		p.empty(q)
		p.check(out.Close())
		work.Wait()
	})
}

// A FIFO topic drops what it has had under the same deduplication key.
func TestDeduplication(t *testing.T) {
	t.Parallel()
	p := cloud(t)
	q := p.queue(true)
	note := emit.NewTyped[Note](byTopic(true, nil)(p, q), emit.DedupBy(func(n Note) string { return fmt.Sprint("key of ", n.ID) }))
	for _, n := range []Note{{1, "one"}, {2, "two"}, {1, "again"}, {3, "three"}} {
		p.check(note.Enq(p.Context(), n))
	}
	in := p.service(q, sqs.Listener().WithUnwrap(sqs.SNS))
	notes, ack := listen.Typed[Note](in)
	go in.Run(p.Context())
	for i, want := range []string{"one", "two", "three"} {
		msg := next(p, notes)
		if msg.Object != (Note{i + 1, want}) {
			p.Errorf("got %+v, want %s", msg.Object, want)
		}
		ack <- msg
	}
	p.empty(q)
}

// Filter policies of subscriptions choose by category, source and what is in the value.
func TestFilterPolicies(t *testing.T) {
	t.Parallel()
	p := cloud(t)
	topic := p.topic(false)
	subscribe := func(filter map[string]string) *aws.Queue {
		q := p.queue(false)
		p.check(topic.Subscribe(p.Context(), q, filter))
		return q
	}
	byCategory := subscribe(map[string]string{"FilterPolicy": `{"Category":["User"]}`})
	bySource := subscribe(map[string]string{"FilterPolicy": `{"Source":[{"prefix":"m"}],"Category":[{"anything-but":["User"]}]}`, "RawMessageDelivery": "true"})
	byBody := subscribe(map[string]string{"FilterPolicy": `{"text":["yes"]}`, "FilterPolicyScope": "MessageBody"})
	other := subscribe(map[string]string{"FilterPolicy": `{"Source":["you"]}`})
	p.arrive(p.publisher(topic), []*aws.Queue{byCategory, bySource, byBody, other})
}

// Rules of a bus do the same.
func TestRules(t *testing.T) {
	t.Parallel()
	p := cloud(t)
	bus := p.bus(aws.Name("b"))
	rule := func(pattern string) *aws.Queue {
		q := p.queue(false)
		p.check(bus.Rule(p.Context(), pattern, q))
		return q
	}
	byCategory := rule(`{"detail-type":["User"]}`)
	bySource := rule(`{"source":["me"],"detail-type":[{"anything-but":["User"]}]}`)
	byBody := rule(`{"detail":{"text":["yes"]}}`)
	other := rule(`{"source":["you"]}`)
	p.arrive(p.putter(bus), []*aws.Queue{byCategory, bySource, byBody, other})
}

// arrive emits two notes and an event, of which queues have the event, the notes, the note
// that says yes, and nothing.
func (p place) arrive(out *kernel.Emitter, queues []*aws.Queue) {
	p.Helper()
	note := emit.NewTyped[Note](out)
	p.check(note.Enq(p.Context(), Note{1, "no"}))
	p.check(emit.NewEvent[UserEvent](out).Enq(p.Context(), UserEvent{Data: &User{Name: "ada"}}))
	p.check(note.Enq(p.Context(), Note{2, "yes"}))
	want := []map[string]bool{{"ada": true}, {"no": true, "yes": true}, {"yes": true}, {}}
	for i, q := range queues {
		p.soon("they have arrived", func() bool { return p.left(q) >= int64(len(want[i])) })
	}
	for i, q := range queues {
		if n := p.left(q); n != int64(len(want[i])) {
			p.Errorf("queue %d has %d messages, want %v", i, n, want[i])
		}
		in := p.service(q, sqs.Listener().WithUnwrap())
		notes, noteAck := listen.Typed[Note](in)
		users, userAck := listen.Event[UserEvent](in)
		go in.Run(p.Context())
		for range want[i] {
			var got string
			select {
			case msg := <-notes:
				got = msg.Object.Text
				noteAck <- msg
			case msg := <-users:
				got = msg.Object.Data.Name
				userAck <- msg
			case <-time.After(patience):
				p.Fatalf("nothing in queue %d", i)
			}
			if !want[i][got] {
				p.Errorf("queue %d has %q, want %v", i, got, want[i])
			}
		}
		p.empty(q)
	}
}
