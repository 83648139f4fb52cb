package websocket_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/qtest"
)

// Say is what clients send.
type Say struct {
	Action string `json:"action"`
	Text   string `json:"text"`
}

// eventOf is an event as API Gateway makes it. Fields that begin with a dot are of the
// request context.
func eventOf(kind, route, request string, more ...any) string {
	c := map[string]any{"eventType": kind, "routeKey": route, "requestId": request, "connectionId": "ada=", "messageDirection": "IN",
		"connectedAt": 1795500000000, "requestTimeEpoch": 1795500001234, "stage": "prod", "apiId": "abc", "domainName": "abc.execute-api.eu-west-1.amazonaws.com",
		"identity": map[string]any{"sourceIp": "127.0.0.1", "userAgent": "browser"}}
	e := map[string]any{"requestContext": c, "isBase64Encoded": false}
	for i := 0; i < len(more); i += 2 {
		if name, ok := strings.CutPrefix(more[i].(string), "."); ok {
			c[name] = more[i+1]
		} else {
			e[more[i].(string)] = more[i+1]
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// function is an endpoint that the test invokes.
type function struct {
	*kernel.Endpoint
	invoke func(payload string) (status int, answer string, err error)
}

func newFunction(t *testing.T, s *stub, protocols []string, bind func(q *kernel.Endpoint), opts ...swarm.Option) function {
	t.Helper()
	d, err := websocket.ConnectDriver(s.address(), websocket.Emitter().WithConfig(s.config()))
	if err != nil {
		t.Fatal(err)
	}
	handler := make(chan lambda.Handler, 1)
	q, err := websocket.Function(handler, d.(driver.Sender), protocols,
		append([]swarm.Option{quiet, swarm.WithBarrier(swarm.NewBarrier()), swarm.WithRetryConstant(time.Millisecond, 2)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	bind(q)
	go q.Run(context.Background())
	h := <-handler
	t.Cleanup(func() { q.Close() })
	return function{q, func(payload string) (int, string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		given := []byte(payload)
		defer clear(given)
		out, err := h.Invoke(ctx, given)
		var answer struct{ StatusCode int }
		if err == nil {
			err = json.Unmarshal(out, &answer)
		}
		return answer.StatusCode, string(out), err
	}}
}

// serve consumes messages until the kernel is closed.
func serve[T any](deq <-chan swarm.Msg[T], ack chan<- swarm.Msg[T], f func(swarm.Msg[T]) error) {
	go func() {
		for msg := range deq {
			if err := f(msg); err != nil {
				ack <- msg.Fail(err)
				continue
			}
			ack <- msg
		}
	}()
}

// Routes are categories: typed, event and bytes; a message has its record, its client, and
// what the authorizer says.
func TestMessages(t *testing.T) {
	s := newStub(t)
	var got []string
	f := newFunction(t, s, nil, func(q *kernel.Endpoint) {
		deq, ack := listen.Typed[Say](q)
		serve(deq, ack, func(msg swarm.Msg[Say]) error {
			got = append(got, msg.Object.Text)
			if msg.ID != "r1" || websocket.ConnectionOf(msg) != "ada=" || websocket.PrincipalOf(msg) != "ada" || !msg.SentAt.Equal(time.UnixMilli(1795500001234)) {
				t.Errorf("got %+v", msg)
			}
			want := map[string]string{"principalId": "ada", "scope": "read", "exp": "1795500000", "on": "true"}
			if c := websocket.ContextOf(msg); !maps.Equal(c, want) {
				t.Errorf("context %v", c)
			}
			return websocket.Reply(q, msg, Said{Text: "you said " + msg.Object.Text})
		})
		events, ackEvents := listen.Event[Event](q)
		serve(events, ackEvents, func(msg swarm.Msg[Event]) error {
			got = append(got, "event "+msg.Object.Data.Text+" of "+msg.Object.Meta.Participant)
			return nil
		})
		images, ackImages := listen.Bytes(q, codec.Bytes("Image"))
		serve(images, ackImages, func(msg swarm.Msg[[]byte]) error { got = append(got, string(msg.Object)); return nil })
		rest, ackRest := listen.Bytes(q, codec.Bytes(websocket.RouteDefault))
		serve(rest, ackRest, func(msg swarm.Msg[[]byte]) error { got = append(got, "default "+string(msg.Object)); return nil })
	})
	claims := map[string]any{"principalId": "ada", "scope": "read", "exp": 1795500000, "on": true, "none": nil}
	for _, payload := range []string{
		eventOf("MESSAGE", "Say", "r1", "body", `{"action":"Say","text":"hi"}`, ".authorizer", claims),
		eventOf("MESSAGE", "Said", "r2", "body", `{"action":"Said","meta":{"participant":"ada","created":"2026-11-24T00:00:00Z"},"data":{"text":"x"}}`),
		eventOf("MESSAGE", "Image", "r3", "body", base64.StdEncoding.EncodeToString([]byte{0xff, 0}), "isBase64Encoded", true),
		eventOf("MESSAGE", "$default", "r4", "body", "plain"),
	} {
		if status, _, err := f.invoke(payload); status != 200 || err != nil {
			t.Errorf("got %d, %v", status, err)
		}
	}
	if want := []string{"hi", "event x of ada", "\xff\x00", "default plain"}; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got %q", got)
	}
	if got := s.to("ada="); len(got) != 1 || got[0] != `{"text":"you said hi"}` {
		t.Errorf("the client got %q", got)
	}
	t.Setenv(websocket.EnvCategory, "Image")
	if bags, err := websocket.Receive([]byte(eventOf("MESSAGE", "$default", "r5", "body", "x"))); err != nil || bags[0].Category != "Image" {
		t.Errorf("got %v, %v", bags, err)
	}
}

// What is wrong fails its invocation, at once, and says why.
func TestFailures(t *testing.T) {
	s := newStub(t)
	s.gone["ada="] = true
	f := newFunction(t, s, nil, func(q *kernel.Endpoint) {
		deq, ack := listen.Typed[Say](q)
		serve(deq, ack, func(msg swarm.Msg[Say]) error {
			if msg.Object.Text == "reply" {
				return websocket.Reply(q, msg, Said{})
			}
			return websocket.Refuse(418, errors.New("unlucky"))
		})
	})
	for _, x := range []struct{ payload, err string }{
		{eventOf("MESSAGE", "Say", "r1", "body", `{"text":"x"}`), "unlucky"},
		{eventOf("MESSAGE", "Say", "r1", "body", `{"text":"reply"}`), "is gone"},
		{eventOf("MESSAGE", "Say", "r1", "body", `{"text":`), "JSON"},
		{eventOf("MESSAGE", "Say", "r1", "body", `?`, "isBase64Encoded", true), "base64"},
		{eventOf("MESSAGE", "Other", "r1", "body", `{}`), "unknown category"},
		{eventOf("PING", "Say", "r1"), "event type"},
		{eventOf("MESSAGE", "", "r1"), "no connection, route"},
		{eventOf("MESSAGE", "Say", ""), "no connection, route"},
		{eventOf("MESSAGE", "Say", "r1", ".connectionId", ""), "no connection, route"},
		{`{"Records":[]}`, "not an event"}, {`7`, "not an event"}, {``, "not an event"}, {`{}`, "not an event"},
	} {
		if _, answer, err := f.invoke(x.payload); err == nil || !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: got %s, %v, want %q", x.payload, answer, err, x.err)
		}
	}
}

// LB6: two messages of one connection are two deliveries. One that times out settles nothing
// of the other.
func TestLB6TwoMessagesOfOneConnection(t *testing.T) {
	s := newStub(t)
	held := make(chan swarm.Msg[Say], 1)
	var second sync.WaitGroup
	second.Add(1)
	f := newFunction(t, s, nil, func(q *kernel.Endpoint) {
		deq, ack := listen.Typed[Say](q)
		go func() {
			for msg := range deq {
				if msg.Object.Text == "slow" {
					held <- msg
					continue
				}
				ack <- <-held // late
				second.Wait()
				ack <- msg
			}
		}()
	}, swarm.WithTimeToFlight(200*time.Millisecond))
	if _, _, err := f.invoke(eventOf("MESSAGE", "Say", "r1", "body", `{"text":"slow"}`)); err == nil {
		t.Error("a message that nobody settles succeeds")
	}
	time.AfterFunc(20*time.Millisecond, second.Done)
	began := time.Now()
	status, _, err := f.invoke(eventOf("MESSAGE", "Say", "r2", "body", `{"text":"quick"}`))
	if status != 200 || err != nil || time.Since(began) < 20*time.Millisecond {
		t.Errorf("got %d, %v after %s", status, err, time.Since(began))
	}
}

// Clients connect and disconnect; a nack turns them away.
func TestConnects(t *testing.T) {
	s := newStub(t)
	var gone websocket.Disconnect
	f := newFunction(t, s, []string{"v2", "v1"}, func(q *kernel.Endpoint) {
		connects, in := websocket.Connects(q)
		serve(connects, in, func(msg swarm.Msg[websocket.Connect]) error {
			c := msg.Object
			if c.Connection != "ada=" || c.Address != "127.0.0.1" || c.UserAgent != "browser" || !c.At.Equal(time.UnixMilli(1795500000000)) {
				t.Errorf("got %+v", c)
			}
			switch {
			case len(c.Query["room"]) == 0:
				return errors.New("which room?")
			case c.Query["room"][0] == "full":
				return websocket.Refuse(http.StatusTooManyRequests, nil)
			case c.Query["room"][0] == "odd":
				return websocket.Refuse(7, errors.New("odd"))
			}
			return nil
		})
		disconnects, out := websocket.Disconnects(q)
		serve(disconnects, out, func(msg swarm.Msg[websocket.Disconnect]) error { gone = msg.Object; return nil })
	})
	query := func(room string) []any {
		return []any{"queryStringParameters", map[string]string{"room": room}}
	}
	many := []any{"multiValueQueryStringParameters", map[string][]string{"room": {"hall", "x"}}, "headers", map[string]string{"sec-websocket-protocol": "v0, v1 ,v2"}}
	for _, x := range []struct {
		payload string
		status  int
		answer  string
	}{
		{eventOf("CONNECT", "$connect", "r1", query("hall")...), 200, `{"statusCode":200}`},
		{eventOf("CONNECT", "$connect", "r2", many...), 200, `{"statusCode":200,"headers":{"Sec-WebSocket-Protocol":"v2"}}`},
		{eventOf("CONNECT", "$connect", "r3", query("full")...), 429, `{"statusCode":429}`},
		{eventOf("CONNECT", "$connect", "r4", query("odd")...), 403, `{"statusCode":403}`},
		{eventOf("DISCONNECT", "$disconnect", "r5", ".disconnectStatusCode", 1001, ".disconnectReason", "Going away"), 200, `{"statusCode":200}`},
	} {
		status, answer, err := f.invoke(x.payload)
		if status != x.status || answer != x.answer || err != nil {
			t.Errorf("%s: got %s, %v, want %s", x.payload, answer, err, x.answer)
		}
	}
	if want := (websocket.Disconnect{Connection: "ada=", At: time.UnixMilli(1795500001234).UTC(), Code: 1001, Reason: "Going away"}); gone != want {
		t.Errorf("got %+v", gone)
	}
	if _, _, err := f.invoke(eventOf("CONNECT", "$connect", "r6")); err == nil || !strings.Contains(err.Error(), "which room") {
		t.Errorf("got %v", err)
	}
}

// A function that does not mind who comes and goes lets everybody.
func TestUnboundLifecycle(t *testing.T) {
	reports := make(chan error, 10)
	f := newFunction(t, newStub(t), nil, func(*kernel.Endpoint) {}, swarm.WithStdErr(reports))
	for _, payload := range []string{eventOf("CONNECT", "$connect", "r1"), eventOf("DISCONNECT", "$disconnect", "r2")} {
		if status, _, err := f.invoke(payload); status != 200 || err != nil {
			t.Errorf("got %d, %v", status, err)
		}
	}
	if len(reports) > 0 {
		t.Errorf("reported: %v", <-reports)
	}
}

// API Gateway waits 29 s for who lets a client in, however long the function may run.
func TestClientsThatConnectWait29Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := make(chan lambda.Handler, 1)
		q, err := websocket.Function(handler, nil, nil, quiet, swarm.WithTimeToFlight(10*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		connects, in := websocket.Connects(q)
		says, ack := listen.Typed[Say](q)
		hang := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		serve(connects, in, func(msg swarm.Msg[websocket.Connect]) error { return hang(msg.Context()) })
		serve(says, ack, func(msg swarm.Msg[Say]) error { return hang(msg.Context()) })
		go q.Run(context.Background())
		h := <-handler
		for _, x := range []struct {
			kind, route  string
			waited, want time.Duration // until the function was there, and how long it has
		}{
			{"CONNECT", websocket.RouteConnect, 0, 29 * time.Second},
			{"CONNECT", websocket.RouteConnect, 8 * time.Second, 21 * time.Second},
			{"CONNECT", websocket.RouteConnect, time.Hour, 29 * time.Second}, // nobody waits for so long: the clocks differ
			{"CONNECT", websocket.RouteConnect, -time.Hour, 29 * time.Second},
			{"MESSAGE", "Say", 8 * time.Second, 5 * time.Minute},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			began := time.Now()
			_, err := h.Invoke(ctx, []byte(eventOf(x.kind, x.route, "r", "body", "{}", ".requestTimeEpoch", began.Add(-x.waited).UnixMilli())))
			if took := time.Since(began); !errors.Is(err, swarm.ErrTimeToFlight) || took > x.want || took < x.want-3*time.Second {
				t.Errorf("%+v after %s: %v", x, took, err)
			}
			cancel()
		}
		q.Close()
	})
}

func TestMessageOfAnotherBroker(t *testing.T) {
	msg := swarm.NewMsg(t.Context(), "x", 7)
	if websocket.ConnectionOf(msg) != "" || websocket.PrincipalOf(msg) != "" || websocket.ContextOf(msg) != nil {
		t.Error("a message by hand has a connection")
	}
}

// The conformance suite for functions.
func TestFunctionConformance(t *testing.T) {
	qtest.RunFunction(t, func(qtest.T) qtest.Function {
		handler := make(chan lambda.Handler, 1)
		invoke := func(ctx context.Context, payload string) error {
			h := <-handler
			handler <- h
			given := []byte(payload)
			defer clear(given)
			_, err := h.Invoke(ctx, given)
			return err
		}
		return qtest.Function{
			Connect: func() (io.Closer, error) { return websocket.FunctionDriver(handler), nil },
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				if len(bags) == 0 {
					return nil, invoke(ctx, "{}")
				}
				return nil, invoke(ctx, eventOf("MESSAGE", bags[0].Category, "r-"+bags[0].ID,
					"body", base64.StdEncoding.EncodeToString(bags[0].Body), "isBase64Encoded", true))
			},
			Raw: func(ctx context.Context, payload []byte) error { return invoke(ctx, string(payload)) },
		}
	}, qtest.FunctionFeatures{Whole: true, Single: true})
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(eventOf("MESSAGE", "Say", "r1", "body", `{"text":"x"}`)))
	f.Add([]byte(eventOf("CONNECT", "$connect", "r1", "headers", map[string]string{"Sec-WebSocket-Protocol": "a,b"})))
	f.Add([]byte(eventOf("DISCONNECT", "$disconnect", "r1", ".disconnectReason", nil)))
	f.Add([]byte(eventOf("MESSAGE", "Say", "r1", ".authorizer", []int{1}, "isBase64Encoded", true)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		bags, err := websocket.Receive(payload)
		if err != nil {
			return
		}
		if len(bags) != 1 || bags[0].Category == "" || bags[0].ID == "" {
			t.Fatalf("%s: got %+v", payload, bags)
		}
		msg := swarm.NewMsg(t.Context(), bags[0].Category, 0)
		msg.IOContext = bags[0].Native
		if websocket.ConnectionOf(msg) == "" {
			t.Errorf("%s: no connection", payload)
		}
		_ = websocket.ContextOf(msg)
	})
}
