package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

func members(t *testing.T, r websocket.Registry, topic string) (all []string) {
	t.Helper()
	for m, err := range r.Members(t.Context(), topic) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Connection)
	}
	slices.Sort(all)
	return all
}

func TestMemory(t *testing.T) {
	r := websocket.NewMemory()
	set := func(connection string, topics ...string) {
		if err := r.Set(t.Context(), websocket.Member{Connection: connection}, topics...); err != nil {
			t.Fatal(err)
		}
	}
	set("a", "x", "y")
	set("b", "x", "x")
	set("c", "y")
	set("a", "z")
	set("c")
	set("c")
	for topic, want := range map[string]string{"x": "[b]", "y": "[]", "z": "[a]", "none": "[]"} {
		if got := members(t, r, topic); fmt.Sprint(got) != want {
			t.Errorf("%s has %v, want %s", topic, got, want)
		}
	}
	for range r.Members(t.Context(), "x") {
		set("b") // while it is read
		break
	}
	if got := members(t, r, "x"); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// Each connection in the topic has the value, whatever becomes of the others. Those that are
// gone leave the registry, unless they may be on their way in.
func TestBroadcast(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	r := websocket.NewMemory()
	old := time.Now().Add(-time.Hour)
	for i := range 300 {
		_ = r.Set(t.Context(), websocket.Member{Connection: fmt.Sprintf("c%d=", i), Since: old}, "hall")
	}
	_ = r.Set(t.Context(), websocket.Member{Connection: "gone=", Since: old}, "hall")
	_ = r.Set(t.Context(), websocket.Member{Connection: "new=", Since: time.Now()}, "hall")
	_ = r.Set(t.Context(), websocket.Member{Connection: "other=", Since: old}, "den")
	s.gone["gone="], s.gone["new="] = true, true
	s.fail(fault{http.StatusTooManyRequests, "LimitExceededException"})

	b := websocket.NewBroadcaster[Said](q, r)
	sent, err := b.Broadcast(t.Context(), "hall", Said{Text: "hello"})
	if sent != 300 || err != nil {
		t.Errorf("%d have it, %v", sent, err)
	}
	for i := range 300 {
		if got := s.to(fmt.Sprintf("c%d=", i)); len(got) != 1 || got[0] != `{"text":"hello"}` {
			t.Errorf("c%d got %q", i, got)
		}
	}
	if got := s.to("other="); len(got) != 0 {
		t.Errorf("another topic got %q", got)
	}
	if got := members(t, r, "hall"); len(got) != 301 || !slices.Contains(got, "new=") || slices.Contains(got, "gone=") {
		t.Errorf("%d are left", len(got))
	}
	if sent, err := b.Broadcast(t.Context(), "nowhere", Said{}); sent != 0 || err != nil {
		t.Errorf("got %d, %v", sent, err)
	}

	s.fail(fault{http.StatusForbidden, "ForbiddenException"})
	if sent, err := b.Broadcast(t.Context(), "hall", Said{}); sent != 299 && sent != 300 || err == nil && sent != 300 || err != nil && !strings.Contains(err.Error(), "1 failed") {
		t.Errorf("got %d, %v", sent, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sent, err := b.Broadcast(ctx, "hall", Said{}); sent != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("got %d, %v", sent, err)
	}
	if _, err := b.Broadcast(t.Context(), "hall", Said{Text: strings.Repeat("x", 1<<18)}); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("got %v", err)
	}
	if _, err := websocket.NewBroadcaster[unfit](q, r).Broadcast(t.Context(), "hall", unfit{}); err == nil {
		t.Error("what cannot be encoded is sent")
	}
}

// unfit cannot be encoded.
type unfit struct{ C chan int }

// torn is a registry that fails.
type torn struct{ *websocket.Memory }

var errTorn = errors.New("torn")

func (r torn) Set(context.Context, websocket.Member, ...string) error { return errTorn }

func (r torn) Members(context.Context, string) iter.Seq2[websocket.Member, error] {
	return func(yield func(websocket.Member, error) bool) {
		_ = yield(websocket.Member{Connection: "a=", Since: time.Now()}, nil) && yield(websocket.Member{Connection: "gone="}, nil) && yield(websocket.Member{}, errTorn)
	}
}

func TestBroadcastWithATornRegistry(t *testing.T) {
	s := newStub(t)
	s.gone["gone="] = true
	sent, err := websocket.NewBroadcaster[Said](emitter(t, s), torn{}).Broadcast(t.Context(), "hall", Said{Text: "x"})
	if sent != 1 || !errors.Is(err, errTorn) || !strings.Contains(err.Error(), "2 failed") {
		t.Errorf("got %d, %v", sent, err)
	}
}

// The registry follows the clients that come and go.
func TestTrack(t *testing.T) {
	s := newStub(t)
	r := websocket.NewMemory()
	f := newFunction(t, s, nil, func(q *kernel.Endpoint) {
		websocket.Track(q, r, func(msg swarm.Msg[websocket.Connect]) ([]string, error) {
			rooms := msg.Object.Query["room"]
			if len(rooms) == 0 {
				return nil, websocket.Refuse(http.StatusBadRequest, errors.New("no room"))
			}
			return rooms, nil
		})
	})
	rooms := []any{"multiValueQueryStringParameters", map[string][]string{"room": {"hall", "den"}}}
	if status, _, err := f.invoke(eventOf("CONNECT", "$connect", "r1", rooms...)); status != 200 || err != nil {
		t.Fatalf("got %d, %v", status, err)
	}
	for m, err := range r.Members(t.Context(), "den") {
		if m.Connection != "ada=" || time.Since(m.Since) > time.Minute || err != nil {
			t.Errorf("got %+v, %v", m, err)
		}
	}
	if got := members(t, r, "hall"); len(got) != 1 {
		t.Errorf("hall has %v", got)
	}
	if status, _, err := f.invoke(eventOf("CONNECT", "$connect", "r2")); status != 400 || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	if status, _, err := f.invoke(eventOf("DISCONNECT", "$disconnect", "r3")); status != 200 || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	if got := members(t, r, "hall"); len(got) != 0 {
		t.Errorf("hall has %v", got)
	}

	f = newFunction(t, s, nil, func(q *kernel.Endpoint) {
		websocket.Track(q, torn{}, func(swarm.Msg[websocket.Connect]) ([]string, error) { return nil, nil })
	})
	for _, payload := range []string{eventOf("CONNECT", "$connect", "r1"), eventOf("DISCONNECT", "$disconnect", "r2")} {
		if _, _, err := f.invoke(payload); !errors.Is(err, errTorn) {
			t.Errorf("got %v", err)
		}
	}
}
