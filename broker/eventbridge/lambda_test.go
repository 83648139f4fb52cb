package eventbridge_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/internal/awstest"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/listen"
)

// Greeting is what these functions consume.
type Greeting struct {
	ID int `json:"id"`
}

func eventOf(kind, detail string) string {
	return `{"version":"0","id":"e-1","detail-type":"` + kind + `","source":"shop","account":"123456789012","time":"2026-11-24T10:00:00Z","region":"eu-west-1","resources":[],"detail":` + detail + `}`
}

func TestLambda(t *testing.T) {
	handler := make(chan lambda.Handler, 1)
	q, err := eventbridge.Function(handler, swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithBarrier(swarm.NewBarrier()))
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[Greeting](q)
	images, ackImages := listen.Bytes(q, codec.Bytes("Image"))
	var seen []string
	go func() {
		for msg := range deq {
			native, ok := msg.IOContext.(events.EventBridgeEvent)
			if want := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC); !ok || native.Source != "shop" || msg.ID != "e-1" || !msg.SentAt.Equal(want) {
				t.Errorf("got %+v", msg)
			}
			if msg.Object.ID == 13 {
				ack <- msg.Fail(errors.New("unlucky"))
				continue
			}
			seen = append(seen, "greeting")
			ack <- msg
		}
	}()
	go func() {
		for msg := range images {
			seen = append(seen, string(msg.Object))
			ackImages <- msg
		}
	}()
	go q.Run(context.Background())
	invoke := awstest.Invoker(t, <-handler)
	good, bad, image := eventOf("Greeting", `{"id":1}`), eventOf("Greeting", `{"id":13}`), eventOf("Image", `{"p":"/wA="}`)
	for _, x := range []struct{ payload, err string }{
		{good, ""},
		{image, ""},
		{"[" + good + "," + good + "]", ""}, // as the bus of 2026 invokes
		{"[]", ""},
		{bad, "unlucky"},
		{"[" + good + "," + bad + "]", "unlucky"},
		{eventOf("Unknown", `{}`), "unknown category"},
		{eventOf("Greeting", `7`), "JSON number does not fit"},
		{`{"Records":[]}`, "not an event of EventBridge"}, {`{}`, "not an event"}, {`7`, "neither an event"}, {``, "neither an event"}, {`null`, "neither an event"},
	} {
		if err := invoke(x.payload); (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: got %v, want %q", x.payload, err, x.err)
		}
	}
	closed(t, q)
	if len(seen) < 4 || seen[1] != "\xff\x00" {
		t.Errorf("consumed %q", seen)
	}
}

// A service is told the way, in a function nothing is asked, and an endpoint has a bus to
// emit to.
func TestBuildInLambda(t *testing.T) {
	source := swarm.WithSource("shop")
	if _, err := eventbridge.Listener().Build("orders"); err == nil || !strings.Contains(err.Error(), "WithUnwrap(sqs.EventBridge)") {
		t.Errorf("got %v", err)
	}
	if _, err := eventbridge.Endpoint().WithKernel(source).Build("orders"); err == nil {
		t.Error("a service builds an endpoint")
	}
	if _, err := eventbridge.Listener().WithLambda().WithKernel(swarm.WithTimeToFlight(-1)).Build(""); err == nil {
		t.Error("a bad option passes")
	}
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
	t.Setenv("AWS_REGION", "eu-west-1")
	l, err := eventbridge.Listener().Build("")
	if err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	t.Setenv(eventbridge.EnvSource, "orders")
	t.Setenv(eventbridge.EnvTarget, "orders")
	e, err := eventbridge.Endpoint().WithKernel(source).Build("")
	if err != nil {
		t.Fatal(err)
	}
	closed(t, e)
}

func closed(t *testing.T, q interface{ Close() error }) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
