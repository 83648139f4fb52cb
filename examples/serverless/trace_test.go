package serverless_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	broker "github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// text is what the function consumes.
type text struct {
	Text string `json:"text"`
}

// seen is what it tells of the trace that it worked in.
type seen struct{ Text, Trace, Span, Parent, Link string }

// A trace goes through three processes: from here by a queue to a function, which is several
// at once, and from there by another queue back here. Nothing is mixed up.
func TestATraceGoesThroughAFunction(t *testing.T) {
	t.Parallel()
	c := connect(t)
	source, target := c.queue("", map[string]string{"VisibilityTimeout": "30"}), c.queue("-seen", nil)
	fn := source.mappedAs("traced", lambda.Function{Env: []string{"CONFIG_SWARM_TARGET_SQS=" + target.name}, Instances: 2, Concurrency: 4})

	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	watch := []swarm.Option{otel.WithTelemetry(otel.WithTracerProvider(tracer)), swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithNetworkTimeout(30 * time.Second)}
	out, err := broker.Emitter().WithService(c.client).WithKernel(watch...).Build(source.name)
	if err != nil {
		t.Fatal(err)
	}
	in, err := broker.Listener().WithService(c.client).WithWaitTime(time.Second).WithKernel(watch...).Build(target.name)
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[seen](in, listen.Category("Seen"))
	go in.Run(context.Background())

	const n = 20
	traces := map[string]trace.SpanContext{}
	for i := range n {
		ctx, span := tracer.Tracer("test").Start(t.Context(), "request")
		v := text{fmt.Sprint(i)}
		traces[v.Text] = span.SpanContext()
		if err := emit.NewTyped[text](out, emit.Category("Note")).Enq(ctx, v); err != nil {
			t.Fatal(err)
		}
		span.End()
	}
	type hop struct {
		seen
		at sdktrace.ReadOnlySpan
	}
	var hops []hop
	for deadline := time.After(time.Minute); len(hops) < n; {
		select {
		case msg := <-deq:
			hops = append(hops, hop{msg.Object, trace.SpanFromContext(msg.Context()).(sdktrace.ReadOnlySpan)})
			ack <- msg
		case <-deadline:
			t.Fatalf("%d of %d messages came back", len(hops), n)
		}
	}
	for _, k := range []swarm.Kernel{out, in} {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}

	created := map[trace.SpanID]trace.SpanID{} // to its parent
	for _, s := range spans.Ended() {
		if s.Name() == "create Note" {
			created[s.SpanContext().SpanID()] = s.Parent().SpanID()
		}
	}
	for _, h := range hops {
		request := traces[h.Text]
		parent, _ := trace.SpanIDFromHex(h.Parent)
		if h.Trace != request.TraceID().String() || created[parent] != request.SpanID() || h.Link != h.Parent {
			t.Errorf("message %s: the function works in %+v, sent by %v", h.Text, h.seen, request.SpanID())
		}
		if h.at.SpanContext().TraceID() != request.TraceID() || len(h.at.Links()) != 1 || h.at.Links()[0].SpanContext.SpanID() != h.at.Parent().SpanID() {
			t.Errorf("message %s comes back in %v, linked to %v", h.Text, h.at.SpanContext(), h.at.Links())
		}
	}
	if s := fn.Stats(); s.Crashes != 0 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

// What X-Ray knows of an invocation goes on where the message knows nothing.
func TestATraceOfXRayGoesThroughAFunction(t *testing.T) {
	t.Parallel()
	c := connect(t)
	target := c.queue("-seen", nil)
	fn := example(t, "traced", lambda.Function{Env: append(c.env, "CONFIG_SWARM_TARGET_SQS="+target.name, "CONFIG_SWARM_SOURCE_SQS=source"), Timeout: 10 * time.Second})
	const id = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	if failed := fn.records([]record{{ID: "1", Category: "Note", Body: `{"text":"x"}`}}, lambda.WithTraceID(id)); len(failed) > 0 {
		t.Fatal(failed)
	}
	got, err := c.client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: target.url, WaitTimeSeconds: 10})
	if err != nil || len(got.Messages) != 1 {
		t.Fatal(err, got)
	}
	var s seen
	if err := json.Unmarshal([]byte(*got.Messages[0].Body), &s); err != nil {
		t.Fatal(err)
	}
	if s.Trace != "5759e988bd862e3fe1be46a994272793" || s.Parent != "53995c3f42cd8ad8" || s.Link != "" {
		t.Errorf("%+v", s)
	}
}
