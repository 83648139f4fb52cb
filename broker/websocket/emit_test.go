package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
)

// Said is what clients get.
type Said struct {
	To   string `json:"-"`
	Text string `json:"text"`
}

type Event = swarm.Event[swarm.Meta, Said]

var quiet = swarm.WithLogger(slog.New(slog.DiscardHandler))

func emitter(t *testing.T, s *stub, opts ...swarm.Option) *kernel.Emitter {
	t.Helper()
	q, err := websocket.Emitter().WithConfig(s.config()).
		WithKernel(append([]swarm.Option{quiet, swarm.WithBarrier(swarm.NewBarrier()), swarm.WithRetryConstant(time.Millisecond, 4)}, opts...)...).
		Build(s.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

// An event goes to its sink, a value to the one that the channel says, bytes as they are.
func TestSinks(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	events, _ := emit.Event[Event](q)
	events <- Event{Meta: &swarm.Meta{Sink: "ada="}, Data: &Said{Text: "one"}}
	values, _ := emit.Typed[Said](q, websocket.SinkBy(func(v Said) string { return v.To }))
	values <- Said{To: "bob=", Text: "two"}
	images := emit.NewBytes(q, codec.Bytes("Image"), websocket.SinkBy(func([]byte) string { return "eve=" }))
	if err := images.Enq(t.Context(), []byte{0xff, 0}); err != nil {
		t.Fatal(err)
	}
	by := emit.NewEvent[Event](q, websocket.SinkBy(func(Event) string { return "own=" }))
	if err := by.Enq(t.Context(), Event{Meta: &swarm.Meta{Sink: "ada="}, Data: &Said{Text: "three"}}); err != nil {
		t.Fatal(err)
	}
	if err := websocket.Send(t.Context(), q, "dan=", Said{Text: "four"}); err != nil {
		t.Fatal(err)
	}
	close(events)
	close(values)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for connection, want := range map[string]string{"ada=": `"data":{"text":"one"}`, "bob=": `{"text":"two"}`, "eve=": "\xff\x00", "own=": `"three"`, "dan=": `{"text":"four"}`} {
		if got := s.to(connection); len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s got %q, want %q", connection, got, want)
		}
	}
}

// EM18: a message without a sink comes back, and there is no call.
func TestEM18NoSink(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	for name, enq := range map[string]func() error{
		"no meta": func() error { return emit.NewEvent[Event](q).Enq(t.Context(), Event{Data: &Said{Text: "x"}}) },
		"empty sink": func() error {
			return emit.NewEvent[Event](q).Enq(t.Context(), Event{Meta: &swarm.Meta{}, Data: &Said{}})
		},
		"typed":       func() error { return emit.NewTyped[Said](q).Enq(t.Context(), Said{Text: "x"}) },
		"empty id":    func() error { return websocket.Send(t.Context(), q, "", Said{}) },
		"no question": func() error { return websocket.Reply(q, swarm.NewMsg(t.Context(), "x", 7), Said{}) },
	} {
		if err := enq(); !errors.Is(err, websocket.ErrNoSink) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	enq, dlq := emit.Event[Event](q)
	enq <- Event{Data: &Said{Text: "back"}}
	if v := <-dlq; v.Data.Text != "back" {
		t.Errorf("got %+v", v)
	}
	close(enq)
	if n := s.count(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// A connection that is gone is told by name, after one call, wherever one looks.
func TestGone(t *testing.T) {
	s := newStub(t)
	s.gone["old="] = true
	errs := make(chan error, 10)
	q := emitter(t, s, swarm.WithStdErr(errs))
	err := websocket.Send(t.Context(), q, "old=", Said{Text: "secret"})
	gone, ok := errors.AsType[*websocket.GoneError](err)
	if !ok || gone.Connection != "old=" || !errors.Is(err, websocket.ErrGone) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Enq: got %v", err)
	}
	enq, dlq := emit.Typed[Said](q, websocket.SinkBy(func(v Said) string { return v.To }))
	enq <- Said{To: "old=", Text: "x"}
	if v := <-dlq; v.To != "old=" {
		t.Errorf("dlq: got %+v", v)
	}
	close(enq)
	if gone, ok := errors.AsType[*websocket.GoneError](<-errs); !ok || gone.Connection != "old=" {
		t.Errorf("StdErr: got %v", gone)
	}
	if n := s.count(); n != 2 {
		t.Errorf("%d calls, want 2: it is pointless to repeat them", n)
	}
}

// 429 and faults of the service are tried again, what the client of the API did wrong is
// not, and what is too long is not even sent.
func TestRetries(t *testing.T) {
	for _, x := range []struct {
		fault
		calls int
		good  bool
	}{
		{fault{http.StatusTooManyRequests, "LimitExceededException"}, 2, true},
		{fault{http.StatusInternalServerError, "InternalServerError"}, 2, true},
		{fault{http.StatusForbidden, "ForbiddenException"}, 1, false},
		{fault{http.StatusRequestEntityTooLarge, "PayloadTooLargeException"}, 1, false},
		{fault{http.StatusBadRequest, "BadRequestException"}, 1, false},
	} {
		s := newStub(t)
		s.fail(x.fault)
		err := websocket.Send(t.Context(), emitter(t, s), "ada=", Said{Text: "x"})
		if (err == nil) != x.good || s.count() != x.calls {
			t.Errorf("%s: %v after %d calls", x.code, err, s.count())
		}
	}
	s := newStub(t)
	q := emitter(t, s)
	err := websocket.Send(t.Context(), q, "ada=", Said{Text: strings.Repeat("x", 128<<10)})
	if err == nil || !strings.Contains(err.Error(), "131072") || s.count() != 0 {
		t.Errorf("too long: got %.200v after %d calls", err, s.count())
	}
	if err := emit.NewBytes(q, codec.Bytes("x"), websocket.SinkBy(func([]byte) string { return "ada=" })).Enq(t.Context(), nil); err == nil || s.count() != 0 {
		t.Errorf("empty: got %v", err)
	}
}

// One connection is in order although values overlap and some are tried again, and has one
// request at a time.
func TestOrderOfAConnection(t *testing.T) {
	s := newStub(t)
	for range 40 {
		s.fail(fault{http.StatusTooManyRequests, "LimitExceededException"})
	}
	q := emitter(t, s, swarm.WithEmitWindow(50), swarm.WithRetryConstant(time.Millisecond, 100))
	enq, _ := emit.Typed[Said](q, websocket.SinkBy(func(v Said) string { return v.To }))
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf(`{"text":"%d"}`, i))
		for c := range 3 {
			enq <- Said{To: fmt.Sprintf("c%d=", c), Text: fmt.Sprint(i)}
		}
	}
	close(enq)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for c := range 3 {
		if got := s.to(fmt.Sprintf("c%d=", c)); !slices.Equal(got, want) {
			t.Errorf("c%d got %v", c, got)
		}
	}
	if s.most != 1 {
		t.Errorf("a connection had %d requests at a time", s.most)
	}
}

// A client that hangs delays nobody else.
func TestHungConnectionHoldsUpNobody(t *testing.T) {
	s := newStub(t)
	let := s.hang(t, "slow=")
	q := emitter(t, s, swarm.WithEmitWindow(50), swarm.WithNetworkTimeout(time.Minute))
	enq, _ := emit.Typed[Said](q, websocket.SinkBy(func(v Said) string { return v.To }))
	for range 20 {
		enq <- Said{To: "slow=", Text: "x"}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for i := range 200 {
		if err := websocket.Send(ctx, q, fmt.Sprintf("quick%d=", i%20), Said{Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(s.to("slow=")); got != 0 {
		t.Errorf("the stub does not hang: %d", got)
	}
	let()
	close(enq)
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if got := len(s.to("slow=")); got != 20 {
		t.Errorf("%d of 20 arrived when it went on", got)
	}
}

func TestAddresses(t *testing.T) {
	s := newStub(t)
	for address, want := range map[string]string{
		"wss://abc.execute-api.eu-west-1.amazonaws.com/prod":                "",
		"https://abc.execute-api.eu-west-1.amazonaws.com/prod/":             "",
		"https://abc.execute-api.eu-west-1.amazonaws.com/prod/@connections": "",
		"wss://chat.example.com":                                            "",
		"ws://127.0.0.1:8080/dev":                                           "",
		"http://localhost:8080/dev":                                         "",
		"wss://abc.execute-api.us-east-1.amazonaws.com/prod":                "us-east-1",
		"wss://abc.execute-api.eu-west-1.amazonaws.com":                     "no stage",
		"ws://chat.example.com/prod":                                        "without TLS",
		"ftp://x/prod":                                                      "scheme",
		"abc":                                                               "not the address",
		"wss://user:pass@x/prod":                                            "not the address",
		"wss://x/prod?token=1":                                              "not the address",
		"wss://x/%zz":                                                       "not the address",
	} {
		q, err := websocket.Emitter().WithConfig(s.config()).WithKernel(quiet).Build(address)
		if err == nil {
			q.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: credentials in %v", address, err)
		}
	}
	t.Setenv(websocket.EnvTarget, s.address())
	if q, err := websocket.Emitter().WithConfig(s.config()).WithKernel(quiet).Build(""); err != nil {
		t.Error(err)
	} else if err := websocket.Send(t.Context(), q, "ada=", Said{}); err != nil {
		t.Error(err)
	} else {
		q.Close()
	}
	t.Setenv(websocket.EnvTarget, "")
	t.Setenv(websocket.EnvSource, "") // of endpoints, which are functions
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")
	if _, err := websocket.Endpoint().Build(""); err == nil || !strings.Contains(err.Error(), websocket.EnvSource) {
		t.Error(err)
	}
	if _, err := websocket.Emitter().Build(""); err == nil || !strings.Contains(err.Error(), websocket.EnvTarget) {
		t.Errorf("got %v", err)
	}
}

func TestOptions(t *testing.T) {
	for want, build := range map[string]func() error{
		"WithConcurrency(0)":    func() error { _, err := websocket.Emitter().WithConcurrency(0).Build("wss://x/y"); return err },
		"WithConcurrency(1001)": func() error { _, err := websocket.Emitter().WithConcurrency(1001).Build("wss://x/y"); return err },
		"client is nil":         func() error { _, err := websocket.Emitter().WithService(nil).Build("wss://x/y"); return err },
		`"a,b" is no name`: func() error {
			_, err := websocket.Listener().WithLambda().WithSubprotocols("a,b").Build("")
			return err
		},
		"WithTimeToFlight": func() error {
			_, err := websocket.Endpoint().WithLambda().WithKernel(swarm.WithTimeToFlight(-1)).Build("")
			return err
		},
		"swarm-local":    func() error { _, err := websocket.Listener().Build("x"); return err },
		"not a function": func() error { _, err := websocket.Endpoint().Build("x"); return err },
	} {
		if err := build(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
