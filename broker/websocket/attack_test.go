package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
)

// Faults that a review has found, each with its test.

// A client that is refused does not get in: not at most once, where nobody waits for the
// refusal, and not by an error that looks like the kernel's own.
func TestRefusedStaysOut(t *testing.T) {
	for _, build := range []func() error{
		func() error {
			_, err := websocket.Listener().WithLambda().WithKernel(swarm.WithPolicyAtMostOnce(10)).Build("")
			return err
		},
		func() error {
			_, err := websocket.Endpoint().WithLambda().WithKernel(swarm.WithPolicyAtMostOnce(10)).Build("wss://x/y")
			return err
		},
	} {
		if err := build(); err == nil || !strings.Contains(err.Error(), "WithPolicyAtMostOnce") {
			t.Errorf("got %v", err)
		}
	}
	for _, cause := range []error{swarm.ErrUnknownCategory, fmt.Errorf("audit: %w", swarm.ErrUnknownCategory), websocket.Refuse(403, fmt.Errorf("x: %w", swarm.ErrUnknownCategory))} {
		f := newFunction(t, newStub(t), nil, func(q *kernel.Endpoint) {
			connects, in := websocket.Connects(q)
			serve(connects, in, func(swarm.Msg[websocket.Connect]) error { return cause })
		})
		if status, answer, err := f.invoke(eventOf("CONNECT", websocket.RouteConnect, "r1")); status == 200 {
			t.Errorf("%v: let in by %s, %v", cause, answer, err)
		}
	}
}

// A client writes the body of its messages: it cannot connect or disconnect another one.
func TestForgedLifecycle(t *testing.T) {
	r := websocket.NewMemory()
	f := newFunction(t, newStub(t), nil, func(q *kernel.Endpoint) {
		websocket.Track(q, r, func(msg swarm.Msg[websocket.Connect]) ([]string, error) { return msg.Object.Query["room"], nil })
	})
	_ = r.Set(t.Context(), websocket.Member{Connection: "victim="}, "hall")
	for _, payload := range []string{
		eventOf("MESSAGE", websocket.RouteDisconnect, "r1", "body", `{"connection":"victim="}`),
		eventOf("MESSAGE", websocket.RouteConnect, "r2", "body", `{"connection":"victim=","query":{"room":["den"]}}`),
	} {
		if _, _, err := f.invoke(payload); err == nil {
			t.Errorf("%s is accepted", payload)
		}
	}
	if len(members(t, r, "hall")) != 1 || len(members(t, r, "den")) != 0 {
		t.Errorf("hall has %v, den %v", members(t, r, "hall"), members(t, r, "den"))
	}
	t.Setenv(websocket.EnvCategory, websocket.RouteConnect)
	if _, err := websocket.Receive([]byte(eventOf("MESSAGE", websocket.RouteDefault, "r3"))); err == nil {
		t.Error("messages have the category $connect")
	}
}

// A key that finds nobody sends to nobody, whatever the event says.
func TestEmptyKey(t *testing.T) {
	s := newStub(t)
	err := emit.NewEvent[Event](emitter(t, s), websocket.SinkBy(func(Event) string { return "" })).
		Enq(t.Context(), Event{Meta: &swarm.Meta{Sink: "ada="}, Data: &Said{Text: "secret"}})
	if !errors.Is(err, websocket.ErrNoSink) || s.count() != 0 {
		t.Errorf("got %v after %d calls", err, s.count())
	}
}

// Broadcasts to a connection that hangs delay no other broadcast.
func TestHungBroadcast(t *testing.T) {
	s := newStub(t)
	let := s.hang(t, "slow=")
	q := emitter(t, s, swarm.WithNetworkTimeout(time.Minute))
	r := websocket.NewMemory()
	_ = r.Set(t.Context(), websocket.Member{Connection: "slow="}, "a")
	_ = r.Set(t.Context(), websocket.Member{Connection: "quick="}, "b")
	b := websocket.NewBroadcaster[Said](q, r)
	hung, cancel := context.WithCancel(t.Context())
	var all, begun sync.WaitGroup
	for range 300 {
		begun.Add(1)
		all.Go(func() {
			begun.Done()
			_, _ = b.Broadcast(hung, "a", Said{})
		})
	}
	begun.Wait()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if n, err := b.Broadcast(ctx, "b", Said{}); n != 1 || err != nil {
		t.Errorf("%d have it, %v", n, err)
	}
	cancel()
	let()
	all.Wait()
}

// announcing is a registry that tells others who leaves, by the broadcaster that uses it.
type announcing struct {
	*websocket.Memory
	b *websocket.Broadcaster[Said]
}

func (r *announcing) Set(ctx context.Context, m websocket.Member, topics ...string) error {
	_ = r.Memory.Set(ctx, m, topics...)
	_, err := r.b.Broadcast(ctx, "presence", Said{})
	return err
}

func TestBroadcastWithinBroadcast(t *testing.T) {
	s := newStub(t)
	r := &announcing{Memory: websocket.NewMemory()}
	r.b = websocket.NewBroadcaster[Said](emitter(t, s), r)
	_ = r.Memory.Set(t.Context(), websocket.Member{Connection: "watch="}, "presence")
	for i := range 300 {
		id := fmt.Sprintf("gone%d=", i)
		s.gone[id] = true
		_ = r.Memory.Set(t.Context(), websocket.Member{Connection: id}, "hall")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if n, err := r.b.Broadcast(ctx, "hall", Said{}); n != 0 || err != nil || len(s.to("watch=")) != 300 {
		t.Errorf("%d have it, %v, %d announced", n, err, len(s.to("watch=")))
	}
}

// panicky is what a registry can be.
type panicky struct{}

func (panicky) Set(context.Context, websocket.Member, ...string) error { panic("set") }

func (panicky) Members(context.Context, string) iter.Seq2[websocket.Member, error] {
	return func(yield func(websocket.Member, error) bool) {
		yield(websocket.Member{Connection: "a="}, nil)
		yield(websocket.Member{Connection: "gone="}, nil)
		yield(websocket.Member{}, errTorn)
		yield(websocket.Member{}, nil) // although it was told to stop
	}
}

type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("boom") }

// Panics of registries, functions and codecs are errors of what they were called for.
func TestPanics(t *testing.T) {
	s := newStub(t)
	s.gone["gone="] = true
	q := emitter(t, s)
	if n, err := websocket.NewBroadcaster[Said](q, panicky{}).Broadcast(t.Context(), "x", Said{}); n != 1 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := websocket.NewBroadcaster[bomb](q, websocket.NewMemory()).Broadcast(t.Context(), "x", bomb{}); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("got %v", err)
	}
	f := newFunction(t, s, nil, func(q *kernel.Endpoint) {
		websocket.Track(q, panicky{}, func(msg swarm.Msg[websocket.Connect]) ([]string, error) { return msg.Object.Query["room"][:1], nil })
	})
	for _, payload := range []string{eventOf("CONNECT", websocket.RouteConnect, "r1"), eventOf("DISCONNECT", websocket.RouteDisconnect, "r2")} {
		if _, _, err := f.invoke(payload); err == nil || !strings.Contains(err.Error(), "panic") {
			t.Errorf("got %v", err)
		}
	}
}

// stuck is a registry that hangs for one connection.
type stuck struct {
	*websocket.Memory
	free chan struct{}
}

func (r stuck) Set(ctx context.Context, m websocket.Member, topics ...string) error {
	if m.Connection == "ada=" && len(topics) > 0 {
		<-r.free
	}
	return r.Memory.Set(ctx, m, topics...)
}

// One client that hangs in the registry does not keep another one out, and is not registered
// when it was refused meanwhile.
func TestTrackOfASlowRegistry(t *testing.T) {
	r := stuck{websocket.NewMemory(), make(chan struct{})}
	f := newFunction(t, newStub(t), nil, func(q *kernel.Endpoint) {
		websocket.Track(q, r, func(swarm.Msg[websocket.Connect]) ([]string, error) { return []string{"hall"}, nil })
	}, swarm.WithTimeToFlight(time.Second))
	var first sync.WaitGroup
	first.Go(func() {
		if status, _, err := f.invoke(eventOf("CONNECT", websocket.RouteConnect, "r1")); status == 200 || err == nil {
			t.Errorf("ada: got %d, %v", status, err)
		}
	})
	if status, _, err := f.invoke(eventOf("CONNECT", websocket.RouteConnect, "r2", ".connectionId", "bob=")); status != 200 || err != nil {
		t.Errorf("bob: got %d, %v", status, err)
	}
	first.Wait()
	close(r.free)
	for deadline := time.Now().Add(10 * time.Second); len(members(t, r, "hall")) != 1 && time.Now().Before(deadline); {
	}
	if got := members(t, r, "hall"); len(got) != 1 || got[0] != "bob=" {
		t.Errorf("hall has %v", got)
	}
}

// Subprotocols are chosen also when nobody minds who connects, of all headers that offer some.
func TestSubprotocols(t *testing.T) {
	f := newFunction(t, newStub(t), []string{"v1"}, func(*kernel.Endpoint) {})
	for _, headers := range [][]any{
		{"headers", map[string]string{"Sec-WebSocket-Protocol": "v1"}},
		{"headers", map[string]string{"Sec-WebSocket-Protocol": "v0"}, "multiValueHeaders", map[string][]string{"Sec-WebSocket-Protocol": {"v1", "v0"}}},
	} {
		if _, answer, err := f.invoke(eventOf("CONNECT", websocket.RouteConnect, "r1", headers...)); !strings.Contains(answer, `"v1"`) {
			t.Errorf("got %s, %v", answer, err)
		}
	}
}

// Types without a name can be sent: clients see no category.
func TestTypesWithoutName(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	if err := websocket.Send(t.Context(), q, "ada=", map[string]any{"x": 1}); err != nil {
		t.Error(err)
	}
	r := websocket.NewMemory()
	_ = r.Set(t.Context(), websocket.Member{Connection: "ada="}, "hall")
	if n, err := websocket.NewBroadcaster[[]int](q, r).Broadcast(t.Context(), "hall", []int{1}); n != 1 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if got := s.to("ada="); fmt.Sprint(got) != `[{"x":1} [1]]` {
		t.Errorf("got %v", got)
	}
}

// Numbers of an authorizer keep all their digits.
func TestPrincipalOfManyDigits(t *testing.T) {
	bags, err := websocket.Receive([]byte(eventOf("MESSAGE", "Say", "r1", ".authorizer", map[string]any{"principalId": uint64(9007199254740993)})))
	if err != nil {
		t.Fatal(err)
	}
	msg := swarm.NewMsg(t.Context(), "Say", 0)
	if msg.IOContext = bags[0].Native; websocket.PrincipalOf(msg) != "9007199254740993" {
		t.Errorf("got %s", websocket.PrincipalOf(msg))
	}
}
