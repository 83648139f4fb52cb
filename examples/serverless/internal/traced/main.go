// Traced is a function for a queue that tells, in a message of its own, of which trace its
// work was. It is for tests.
package main

import (
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"

	"github.com/fogfish/swarm/examples/serverless/internal/dev"
)

// Note is what it consumes.
type Note struct {
	Text string `json:"text"`
}

// Seen is what it tells: the span of the consumer, its parent, and what it is linked to.
type Seen struct {
	Text   string `json:"text"`
	Trace  string `json:"trace"`
	Span   string `json:"span"`
	Parent string `json:"parent"`
	Link   string `json:"link"`
}

func main() {
	dev.LocalStack()
	// Exported at once: after the answer of an invocation the process is frozen.
	watch := otel.WithTelemetry(otel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter()))))
	in := swarm.Must(sqs.Listener().WithKernel(watch).Build(""))
	out := swarm.Must(sqs.Emitter().WithKernel(watch).Build(""))
	deq, ack := listen.Typed[Note](in)
	seen := emit.NewTyped[Seen](out)
	for range 4 {
		go func() {
			for msg := range deq {
				time.Sleep(10 * time.Millisecond) // so that invocations overlap
				if err := seen.Enq(msg.Context(), look(msg)); err != nil {
					ack <- msg.Fail(err)
					continue
				}
				ack <- msg
			}
		}()
	}
	if err := swarm.Await(in, out); err != nil {
		panic(err)
	}
}

func look(msg swarm.Msg[Note]) Seen {
	span := trace.SpanFromContext(msg.Context()).(sdktrace.ReadOnlySpan)
	seen := Seen{
		Text:   msg.Object.Text,
		Trace:  span.SpanContext().TraceID().String(),
		Span:   span.SpanContext().SpanID().String(),
		Parent: span.Parent().SpanID().String(),
	}
	if links := span.Links(); len(links) > 0 {
		seen.Link = links[0].SpanContext.SpanID().String()
	}
	return seen
}
