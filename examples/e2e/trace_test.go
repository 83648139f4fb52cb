package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	eventbridgesdk "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	sqssdk "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"

	"github.com/fogfish/swarm/examples/internal/aws"
)

// traced is a service, with its own memory of spans.
type traced struct {
	*sdktrace.TracerProvider
	spans *tracetest.SpanRecorder
}

func newTraced() traced {
	spans := tracetest.NewSpanRecorder()
	return traced{sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), spans}
}

func (s traced) option(opts ...otel.Option) swarm.Option {
	return otel.WithTelemetry(append(opts, otel.WithTracerProvider(s))...)
}

func bySQS(p place, q *aws.Queue, opts ...swarm.Option) *kernel.Emitter {
	k, err := sqs.Emitter().WithConfig(p.cfg).WithKernel(quiet, unhurried).WithKernel(opts...).Build(q.Name)
	return closed(p, k, err)
}

// bus hands events to a queue as AWS does, the trace among them, which LocalStack drops: in
// the envelope of EventBridge, with the trace header as a system attribute.
type bus struct {
	eventbridge.EventBridge
	queue  *string // its address
	client *sqssdk.Client
}

func (b bus) PutEvents(ctx context.Context, in *eventbridgesdk.PutEventsInput, _ ...func(*eventbridgesdk.Options)) (*eventbridgesdk.PutEventsOutput, error) {
	out := &eventbridgesdk.PutEventsOutput{}
	for _, e := range in.Entries {
		body, err := json.Marshal(map[string]any{
			"version": "0", "id": "e-1", "detail-type": e.DetailType, "source": e.Source, "account": "000000000000",
			"time": time.Now().UTC().Format(time.RFC3339), "region": "us-east-1", "resources": []string{}, "detail": json.RawMessage(*e.Detail),
		})
		if err != nil {
			return nil, err
		}
		message := &sqssdk.SendMessageInput{QueueUrl: b.queue, MessageBody: awssdk.String(string(body))}
		if e.TraceHeader != nil {
			message.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{
				"AWSTraceHeader": {DataType: awssdk.String("String"), StringValue: e.TraceHeader},
			}
		}
		if _, err := b.client.SendMessage(ctx, message); err != nil {
			return nil, err
		}
		out.Entries = append(out.Entries, eventtypes.PutEventsResultEntry{EventId: awssdk.String("e-1")})
	}
	return out, nil
}

func byDouble(p place, q *aws.Queue, opts ...swarm.Option) *kernel.Emitter {
	client := sqssdk.NewFromConfig(p.cfg)
	at, err := client.GetQueueUrl(p.Context(), &sqssdk.GetQueueUrlInput{QueueName: &q.Name})
	p.check(err)
	k, err := eventbridge.Emitter().WithService(bus{eventbridgesdk.NewFromConfig(p.cfg), at.QueueUrl, client}).
		WithKernel(quiet, unhurried, swarm.WithSource("me")).WithKernel(opts...).Build(p.bus(aws.Name("b")).Name)
	return closed(p, k, err)
}

// onlyXRay is what is left where the attributes of W3C do not travel.
var onlyXRay = otel.WithPropagator(otel.XRay{})

// A trace that one service begins goes on in another, whatever is between them.
func TestATraceGoesOn(t *testing.T) {
	t.Parallel()
	for _, r := range append([]route{
		{"SQS", false, nil, bySQS},
		{"SQS FIFO", true, nil, bySQS},
		{"EventBridge as on AWS", false, []sqs.Envelope{sqs.EventBridge}, byDouble},
		{"EventBridge as on AWS, detected", false, detect, byDouble},
	}, routes...) {
		for _, way := range []struct {
			name string
			opts []otel.Option
		}{{"", nil}, {", X-Ray alone", []otel.Option{onlyXRay}}, {", W3C alone", []otel.Option{otel.WithPropagator(propagation.TraceContext{})}}} {
			t.Run(r.name+way.name, func(t *testing.T) {
				t.Parallel()
				p := cloud(t)
				q := p.queue(r.fifo)
				shop, bill := newTraced(), newTraced()
				out := r.make(p, q, shop.option(way.opts...))
				b := sqs.Listener().WithKernel(bill.option(way.opts...))
				if r.unwrap != nil {
					b.WithUnwrap(r.unwrap...)
				}
				in := p.service(q, b)
				deq, ack := listen.Typed[Note](in)
				go in.Run(p.Context())

				ctx, request := shop.Tracer("test").Start(p.Context(), "request")
				p.check(emit.NewTyped[Note](out).Enq(ctx, Note{ID: 1}))
				request.End()
				msg := next(p, deq)
				process := trace.SpanFromContext(msg.Context()).(sdktrace.ReadOnlySpan)
				ack <- msg
				p.empty(q)

				var create sdktrace.ReadOnlySpan
				for _, s := range shop.spans.Ended() {
					if s.Name() == "create Note" {
						create = s
					}
				}
				same := process.SpanContext().TraceID() == request.SpanContext().TraceID()
				switch carried := travels(r, way.name); {
				case create == nil || create.Parent().SpanID() != request.SpanContext().SpanID():
					t.Errorf("the message is not of the request: %v", create)
				case same != carried:
					t.Errorf("same trace: %v, want %v", same, carried)
				case !carried:
					if process.Parent().IsValid() || len(process.Links()) != 0 {
						t.Errorf("of nobody's trace, and has a parent %v, links %v", process.Parent(), process.Links())
					}
				case process.Parent().SpanID() != create.SpanContext().SpanID() || len(process.Links()) != 1 || process.Links()[0].SpanContext.SpanID() != create.SpanContext().SpanID():
					t.Errorf("parent %v, links %v, want %v", process.Parent().SpanID(), process.Links(), create.SpanContext().SpanID())
				}
			})
		}
	}
}

// travels says whether a context gets through.
func travels(r route, way string) bool {
	switch r.name {
	case "EventBridge as on AWS", "EventBridge as on AWS, detected":
		return way != ", W3C alone"
	case "EventBridge", "EventBridge, detected", "SNS around EventBridge", "SNS around EventBridge, detected":
		return false // LocalStack drops the header
	}
	return true
}
