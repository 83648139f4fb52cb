package otel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"
)

type Order struct {
	ID string `json:"id"`
}

// backend is where telemetry goes: spans and metrics in memory.
type backend struct {
	spans  *tracetest.SpanRecorder
	tracer *sdktrace.TracerProvider
	reader *sdkmetric.ManualReader
	meter  *sdkmetric.MeterProvider
}

func newBackend(opts ...sdktrace.TracerProviderOption) *backend {
	b := &backend{spans: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	b.tracer = sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(b.spans))...)
	b.meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(b.reader))
	return b
}

func (b *backend) options(opts ...otel.Option) []otel.Option {
	return append([]otel.Option{otel.WithTracerProvider(b.tracer), otel.WithMeterProvider(b.meter)}, opts...)
}

// ended are the spans by that name.
func (b *backend) ended(name string) (out []sdktrace.ReadOnlySpan) {
	for _, s := range b.spans.Ended() {
		if s.Name() == name {
			out = append(out, s)
		}
	}
	return out
}

func (b *backend) one(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	spans := b.ended(name)
	if len(spans) != 1 {
		t.Fatalf("%d spans %q", len(spans), name)
	}
	return spans[0]
}

// metrics by name.
func (b *backend) metrics(t *testing.T) map[string]metricdata.Aggregation {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := b.reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	out := map[string]metricdata.Aggregation{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			out[m.Name] = m.Data
		}
	}
	return out
}

// build makes a kernel on a queue in memory, in a service that is told of.
func build(t *testing.T, b *backend, queue *embedded.Queue, opts ...otel.Option) *kernel.Endpoint {
	t.Helper()
	q, err := embedded.Endpoint().WithQueue(queue).WithKernel(
		swarm.WithLogger(slog.New(slog.DiscardHandler)),
		otel.WithTelemetry(b.options(opts...)...),
	).Build("")
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func queue(t *testing.T) *embedded.Queue {
	t.Helper()
	q, err := embedded.NewQueue("orders")
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func attributes(s sdktrace.ReadOnlySpan) map[string]string {
	out := map[string]string{}
	for _, kv := range s.Attributes() {
		out[string(kv.Key)] = kv.Value.String()
	}
	return out
}

// A trace that begins in one service goes on in another, and from there in a third message.
func TestATraceGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop, bill := newBackend(), newBackend()
		orders, bills := queue(t), queue(t)
		out := build(t, shop, orders, otel.WithSystem("memory"), otel.WithDestination("orders"))
		in := build(t, bill, orders, otel.WithDestination("orders"))
		next := build(t, bill, bills, otel.WithDestination("bills"))

		deq, ack := listen.Typed[Order](in)
		reply := emit.NewTyped[Order](next, emit.Category("Bill"))
		go in.Run(context.Background())
		ctx, request := shop.tracer.Tracer("test").Start(t.Context(), "request")
		if err := emit.NewTyped[Order](out).Enq(ctx, Order{"A"}); err != nil {
			t.Fatal(err)
		}
		request.End()
		msg := <-deq
		time.Sleep(3 * time.Second)
		if err := reply.Enq(msg.Context(), msg.Object); err != nil {
			t.Fatal(err)
		}
		ack <- msg
		synctest.Wait()

		create, send := shop.one(t, "create orders"), shop.one(t, "send orders")
		receive, process, again := bill.one(t, "receive orders"), bill.one(t, "process orders"), bill.one(t, "create bills")
		for _, s := range []sdktrace.ReadOnlySpan{create, send, process, again} {
			if s.SpanContext().TraceID() != request.SpanContext().TraceID() {
				t.Errorf("%s is of another trace", s.Name())
			}
		}
		for _, x := range []struct {
			span, parent sdktrace.ReadOnlySpan
			kind         trace.SpanKind
		}{
			{create, nil, trace.SpanKindProducer},
			{send, create, trace.SpanKindClient},
			{process, create, trace.SpanKindConsumer},
			{again, process, trace.SpanKindProducer},
		} {
			parent := request.SpanContext()
			if x.parent != nil {
				parent = x.parent.SpanContext()
			}
			if x.span.Parent().SpanID() != parent.SpanID() || x.span.SpanKind() != x.kind {
				t.Errorf("%s: parent %v, want %v; kind %v", x.span.Name(), x.span.Parent().SpanID(), parent.SpanID(), x.span.SpanKind())
			}
		}
		for _, s := range []sdktrace.ReadOnlySpan{receive, process} {
			if links := s.Links(); len(links) != 1 || links[0].SpanContext.SpanID() != create.SpanContext().SpanID() {
				t.Errorf("%s has links %v", s.Name(), links)
			}
		}
		if took := process.EndTime().Sub(process.StartTime()); took != 3*time.Second {
			t.Errorf("process took %s", took)
		}
		want := map[string]string{"messaging.system": "memory", "messaging.destination.name": "orders", "messaging.operation.name": "create",
			"messaging.operation.type": "create", "messaging.message.id": msg.ID, "messaging.message.body.size": "10", "swarm.category": "Order"}
		if got := attributes(create); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if got := attributes(process); got["swarm.outcome"] != "acked" || got["swarm.attempt"] != "1" || process.Status().Code != codes.Unset {
			t.Errorf("%v", got)
		}
		for _, q := range []swarm.Kernel{out, in, next} {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// A request with several messages is of none of their traces, and linked to all.
// gate is a broker that takes the first request when it is told to.
type gate struct{ first chan struct{} }

func (gate) Close() error { return nil }
func (g gate) Send(context.Context, []driver.Bag) error {
	<-g.first
	return nil
}
func (gate) Limits() driver.Limits { return driver.Limits{Entries: 10, Requests: 1} }

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		g := gate{make(chan struct{})}
		q, err := kernel.NewEmitter(g, swarm.WithEmitWindow(10), otel.WithTelemetry(b.options()...))
		if err != nil {
			t.Fatal(err)
		}
		enq, _ := emit.Typed[Order](q, emit.Context(func(o Order) context.Context {
			ctx, span := b.tracer.Tracer("test").Start(context.Background(), "of "+o.ID)
			span.End()
			return ctx
		}))
		for i, id := range []string{"first", "A", "B"} {
			enq <- Order{id}
			if i == 0 {
				synctest.Wait() // it goes by itself, and the others meet while it is on its way
			}
		}
		synctest.Wait()
		close(g.first)
		close(enq)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		a, create := b.one(t, "of A"), b.ended("create Order")
		at := slices.IndexFunc(create, func(s sdktrace.ReadOnlySpan) bool { return s.Parent().SpanID() == a.SpanContext().SpanID() })
		if len(create) != 3 || at < 0 {
			t.Fatalf("no value is of the span that its context has: %v", create)
		}
		send := b.one(t, "send")
		if len(send.Links()) != 2 || attributes(send)["messaging.batch.message_count"] != "2" || send.Parent().IsValid() {
			t.Errorf("links %v, attributes %v, parent %v", send.Links(), attributes(send), send.Parent())
		}
		if !slices.ContainsFunc(send.Links(), func(l sdktrace.Link) bool { return l.SpanContext.SpanID() == create[at].SpanContext().SpanID() }) {
			t.Errorf("the request is not linked to %s", create[at].SpanContext().SpanID())
		}
	})
}

// What is not sampled has no spans, travels, and says so.
func TestSampling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		never, always := newBackend(sdktrace.WithSampler(sdktrace.NeverSample())), newBackend()
		orders := queue(t)
		out, in := build(t, never, orders), build(t, always, orders)
		deq, ack := listen.Typed[Order](in)
		go in.Run(context.Background())
		if err := emit.NewTyped[Order](out).Enq(t.Context(), Order{"A"}); err != nil {
			t.Fatal(err)
		}
		attrs := orders.Peek(1)
		msg := <-deq
		if sc := trace.SpanContextFromContext(msg.Context()); !sc.IsValid() || sc.IsSampled() {
			t.Errorf("%+v", sc)
		}
		if len(attrs) > 0 && (!strings.HasSuffix(attrs[0].Attrs["traceparent"], "-00") || !strings.HasSuffix(attrs[0].Attrs["AWSTraceHeader"], ";Sampled=0")) {
			t.Error(attrs[0].Attrs)
		}
		ack <- msg
		synctest.Wait()
		if n := len(never.spans.Ended()) + len(always.ended("process Order")); n != 0 {
			t.Errorf("%d spans", n)
		}
		out.Close()
		in.Close()
	})
}

func TestBaggageIsOptional(t *testing.T) {
	for _, with := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var opts []otel.Option
			if with {
				opts = append(opts, otel.WithPropagator(propagation.NewCompositeTextMapPropagator(otel.XRay{}, propagation.TraceContext{}, propagation.Baggage{})))
			}
			q := build(t, newBackend(), queue(t), opts...)
			deq, ack := listen.Typed[Order](q)
			go q.Run(context.Background())
			member, _ := baggage.NewMember("tenant", "42")
			bag, _ := baggage.New(member)
			if err := emit.NewTyped[Order](q).Enq(baggage.ContextWithBaggage(t.Context(), bag), Order{"A"}); err != nil {
				t.Fatal(err)
			}
			msg := <-deq
			if got := baggage.FromContext(msg.Context()).Member("tenant").Value(); (got == "42") != with {
				t.Errorf("baggage %q, asked for: %v", got, with)
			}
			ack <- msg
			q.Close()
		})
	}
}

// Many messages at once: each has its own trace, and what it causes is of it.
func TestTracesDoNotMix(t *testing.T) {
	b := newBackend()
	q := build(t, b, queue(t))
	deq, ack := listen.Typed[Order](q)
	reply := emit.NewTyped[Order](q, emit.Category("Reply"))
	replies, taken := listen.Typed[Order](q, listen.Category("Reply"))
	go q.Run(context.Background())
	const n, consumers = 200, 8
	traces := sync.Map{}
	var all sync.WaitGroup
	for range consumers {
		all.Go(func() {
			for msg := range deq {
				want, _ := traces.Load(msg.Object.ID)
				if got := trace.SpanContextFromContext(msg.Context()).TraceID(); got != want {
					t.Errorf("%s is of %v, want %v", msg.Object.ID, got, want)
				}
				if err := reply.Enq(msg.Context(), msg.Object); err != nil {
					t.Error(err)
				}
				ack <- msg
			}
		})
	}
	var answered sync.WaitGroup
	answered.Add(n)
	all.Go(func() {
		for msg := range replies {
			want, _ := traces.Load(msg.Object.ID)
			if got := trace.SpanContextFromContext(msg.Context()).TraceID(); got != want {
				t.Errorf("reply to %s is of %v, want %v", msg.Object.ID, got, want)
			}
			taken <- msg
			answered.Done()
		}
	})
	orders := emit.NewTyped[Order](q)
	var senders sync.WaitGroup
	for i := range n {
		senders.Go(func() {
			ctx, span := b.tracer.Tracer("test").Start(t.Context(), "request")
			defer span.End()
			id := fmt.Sprint(i)
			traces.Store(id, span.SpanContext().TraceID())
			if err := orders.Enq(ctx, Order{id}); err != nil {
				t.Error(err)
			}
		})
	}
	senders.Wait()
	answered.Wait()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
}

// pushes is a source that pushes, as a function of AWS Lambda is.
type pushes struct{ serve chan driver.Serve }

func (p pushes) Close() error { return nil }
func (p pushes) Run(ctx context.Context, serve driver.Serve) error {
	p.serve <- serve
	<-ctx.Done()
	return nil
}

// byXRay is the context of an invocation as the runtime client for Go makes it.
func byXRay(t *testing.T, header string) context.Context {
	//lint:ignore SA1029 the key is that of aws-lambda-go
	return context.WithValue(t.Context(), "x-amzn-trace-id", header)
}

// Concurrent invocations: what a consumer does is of its own, and linked to the message.
func TestInvocations(t *testing.T) {
	b := newBackend()
	p := pushes{make(chan driver.Serve, 1)}
	q, err := kernel.NewListener(p, swarm.WithLogger(slog.New(slog.DiscardHandler)), otel.WithTelemetry(b.options()...), swarm.WithBarrier(swarm.NewBarrier()))
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[Order](q)
	go q.Run(context.Background())
	serve := <-p.serve
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for msg := range deq {
				if got := trace.SpanContextFromContext(msg.Context()).TraceID().String(); got != msg.Object.ID {
					t.Errorf("message of invocation %s sees %s", msg.Object.ID, got)
				}
				ack <- msg
			}
		})
	}
	var invocations sync.WaitGroup
	invoke := func(ctx context.Context, id string, attrs map[string]string) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		bags := make([]driver.Bag, 5)
		for i := range bags {
			bags[i] = driver.Bag{Category: "Order", Body: fmt.Appendf(nil, `{"id":%q}`, id), Attrs: attrs}
		}
		if _, err := serve(ctx, bags); err != nil {
			t.Error(err)
		}
	}
	const remote = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for i := range 20 {
		invocations.Go(func() { // the function is traced: messages are linked
			ctx, span := b.tracer.Tracer("test").Start(t.Context(), "invocation")
			defer span.End()
			invoke(ctx, span.SpanContext().TraceID().String(), map[string]string{"traceparent": remote})
		})
		invocations.Go(func() { // it is not: X-Ray says of which trace it is
			id := fmt.Sprintf("%032x", i+1)
			invoke(byXRay(t, "Root=1-"+id[:8]+"-"+id[8:]+";Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a:b"), id, nil)
		})
		invocations.Go(func() { // the message knows better than X-Ray
			invoke(byXRay(t, "Root=1-00000000-000000000000000000000009;Parent=53995c3f42cd8ad8"), remote[3:35], map[string]string{"traceparent": remote})
		})
	}
	invocations.Wait()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	linked := 0
	for _, s := range b.ended("process Order") {
		if len(s.Links()) == 1 && s.Links()[0].SpanContext.TraceID().String() == remote[3:35] {
			linked++
		}
	}
	if linked != 20*5*2 {
		t.Errorf("%d spans are linked to their message", linked)
	}
}

// The span of a consumer is a child of the invocation's, else of the message's, and linked to
// that: by the header of X-Ray alone, too.
func TestParentAndLinkOfAProcessSpan(t *testing.T) {
	const id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	xray := map[string]string{"AWSTraceHeader": "Root=1-" + id[:8] + "-" + id[8:] + ";Parent=" + parent + ";Sampled=1"}
	w3c := map[string]string{"traceparent": "00-" + id + "-" + parent + "-01"}
	type span struct {
		traced bool
		attrs  map[string]string
		parent string
		links  int
	}
	unsampled := "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0;Lineage=a:b"
	for name, x := range map[string]span{
		"a service, X-Ray":                      {false, xray, parent, 1},
		"a service, W3C":                        {false, w3c, parent, 1},
		"a service, nothing":                    {false, nil, "0000000000000000", 0},
		"a service, not readable":               {false, map[string]string{"traceparent": "00-x", "AWSTraceHeader": "Root=2-x"}, "0000000000000000", 0},
		"a service, X-Ray is what can be read":  {false, map[string]string{"traceparent": "00-x", "AWSTraceHeader": xray["AWSTraceHeader"]}, parent, 1},
		"an invocation that is traced, X-Ray":   {true, xray, "", 1},
		"an invocation that is traced, W3C":     {true, w3c, "", 1},
		"an invocation that is traced, nothing": {true, nil, "", 0},
		"a function without tracing, W3C":       {false, w3c, parent, 1},
		"a function without tracing, nothing":   {false, nil, "0000000000000000", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend()
			p := pushes{make(chan driver.Serve, 1)}
			q, err := kernel.NewListener(p, swarm.WithLogger(slog.New(slog.DiscardHandler)), otel.WithTelemetry(b.options()...), swarm.WithBarrier(swarm.NewBarrier()))
			if err != nil {
				t.Fatal(err)
			}
			deq, ack := listen.Typed[Order](q)
			go q.Run(context.Background())
			go func() {
				for msg := range deq {
					ack <- msg
				}
			}()
			ctx, want := t.Context(), x.parent
			if strings.HasPrefix(name, "a function without tracing") {
				ctx = byXRay(t, unsampled)
			}
			if x.traced {
				invocation, span := b.tracer.Tracer("test").Start(ctx, "invocation")
				ctx, want = invocation, span.SpanContext().SpanID().String()
				defer span.End()
			}
			if _, err := (<-p.serve)(ctx, []driver.Bag{{Category: "Order", Body: []byte(`{}`), Attrs: x.attrs}}); err != nil {
				t.Error(err)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			s := b.one(t, "process Order")
			if got := s.Parent().SpanID().String(); got != want || len(s.Links()) != x.links {
				t.Errorf("parent %s, want %s; %d links", got, want, len(s.Links()))
			}
			if x.links > 0 && s.Links()[0].SpanContext.SpanID().String() != parent {
				t.Errorf("linked to %s", s.Links()[0].SpanContext.SpanID())
			}
		})
	}
}

// A span ends when its message was settled, however late that is told.
func TestTheEndOfAProcessSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		q, err := embedded.Endpoint().WithQueue(queue(t)).WithKernel(
			swarm.WithLogger(slog.New(slog.DiscardHandler)),
			swarm.WithObserver(swarm.Observer{Settled: func(context.Context, swarm.Envelope, swarm.Settlement) { time.Sleep(3 * time.Second) }}),
			otel.WithTelemetry(b.options()...),
		).Build("")
		if err != nil {
			t.Fatal(err)
		}
		deq, ack := listen.Typed[Order](q)
		go q.Run(context.Background())
		if err := emit.NewTyped[Order](q).Enq(t.Context(), Order{"A"}); err != nil {
			t.Fatal(err)
		}
		msg := <-deq
		synctest.Wait()
		time.Sleep(2 * time.Second)
		ack <- msg
		time.Sleep(10 * time.Second)
		if s := b.one(t, "process Order"); s.EndTime().Sub(s.StartTime()) != 2*time.Second {
			t.Errorf("it took %s", s.EndTime().Sub(s.StartTime()))
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What is foreign or secret is in no span and no metric, unless it was asked for.
func TestNothingIsGivenAway(t *testing.T) {
	for _, text := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBackend()
			orders, err := embedded.NewQueue("orders", embedded.WithFIFO())
			if err != nil {
				t.Fatal(err)
			}
			var opts []otel.Option
			if text {
				opts = append(opts, otel.WithErrorText())
			}
			var log bytes.Buffer
			logger := swarm.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
			q, err := embedded.Endpoint().WithQueue(orders).WithKernel(logger, otel.WithTelemetry(b.options(opts...)...)).Build("")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := otel.Register(q, b.options()...); err != nil {
				t.Fatal(err)
			}
			deq, ack := listen.Typed[Order](q)
			go q.Run(context.Background())
			secret := emit.NewTyped[Order](q, emit.OrderBy(func(o Order) string { return o.ID }), emit.DedupBy(func(o Order) string { return o.ID }))
			if err := secret.Enq(t.Context(), Order{"hush-1"}); err != nil {
				t.Fatal(err)
			}
			ack <- (<-deq).Fail(errors.New("cannot read hush-1"))
			ack <- <-deq
			stranger := swarm.Must(embedded.Emitter().WithQueue(orders).Build(""))
			bag := stranger.NewBag("hush")
			bag.Attrs = map[string]string{"password": "hush-2", "traceparent": "hush-2", "AWSTraceHeader": "hush-2"}
			bag.Body = []byte(`{"id":"hush-3"}`)
			if err := stranger.Enqueue(t.Context(), &bag); err != nil {
				t.Fatal(err)
			}
			stranger.Close()
			time.Sleep(time.Second)
			q.Close()

			var told strings.Builder
			for _, s := range b.spans.Ended() {
				fmt.Fprintln(&told, s.Name(), s.Attributes(), s.Links(), s.Events(), s.Status())
			}
			for name, m := range b.metrics(t) {
				fmt.Fprintln(&told, name, m)
			}
			if strings.Contains(told.String(), "hush") != text {
				t.Errorf("text asked for: %v; told:\n%s", text, told.String())
			}
			if !strings.Contains(log.String(), "category=hush") || strings.Contains(log.String(), "hush-") {
				t.Errorf("the log tells of a category that nobody listens to, and of nothing else:\n%s", log.String())
			}
			failed := 0
			for _, s := range b.ended("process Order") {
				if s.Status().Code == codes.Error {
					failed++
					if got := attributes(s); got["swarm.outcome"] != "failed" || got["error.type"] != "*errors.errorString" {
						t.Error(got)
					}
				}
			}
			if failed != 1 {
				t.Errorf("%d spans of consumers have failed", failed)
			}
		})
	}
}

type throttled struct{}

func (throttled) Error() string     { return "slow down" }
func (throttled) ErrorCode() string { return "ThrottlingException" }

// refusing is a broker that accepts nothing.
type refusing struct{ err error }

func (r refusing) Send(context.Context, []driver.Bag) error { return r.err }
func (refusing) Close() error                               { return nil }

// Errors have a type that is one of few: the code of a service, a name, or a type of Go.
func TestTypesOfErrors(t *testing.T) {
	for want, err := range map[string]error{
		"ThrottlingException": &driver.BatchError{Failed: []driver.Failure{{Err: throttled{}, Permanent: true}}},
		"timeout":             driver.Permanent(context.DeadlineExceeded),
		"closed":              driver.Permanent(fmt.Errorf("x: %w", swarm.ErrClosed)),
		"*errors.errorString": driver.Permanent(errors.New("hush")),
	} {
		b := newBackend()
		q, e := kernel.NewEmitter(refusing{err}, swarm.WithNoRetry(), swarm.WithLogger(slog.New(slog.DiscardHandler)), otel.WithTelemetry(b.options()...))
		if e != nil {
			t.Fatal(e)
		}
		_ = emit.NewTyped[Order](q).Enq(t.Context(), Order{"A"})
		q.Close()
		got := attributes(b.one(t, "send Order"))["error.type"]
		if got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}

// The metrics of the conventions, and the ledger.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend()
		q := build(t, b, queue(t), otel.WithDestination("orders"))
		registration, err := otel.Register(q, b.options(otel.WithDestination("orders"))...)
		if err != nil {
			t.Fatal(err)
		}
		deq, ack := listen.Typed[Order](q)
		for i := range 3 {
			if err := emit.NewTyped[Order](q).Enq(t.Context(), Order{fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Second)
		go q.Run(context.Background())
		msg := <-deq
		time.Sleep(5 * time.Second)
		synctest.Wait()

		m := b.metrics(t)
		for name, want := range map[string]float64{
			"swarm.emit.accepted": 3, "swarm.emit.ended": 3, "swarm.emit.in_flight": 0, "swarm.listen.received": 3, "swarm.listen.settled": 0,
			"swarm.listen.waiting": 2, "swarm.listen.working": 1, "swarm.listen.oldest": 7, "swarm.listen.longest": 5, "swarm.requests.errors": 0,
			"messaging.client.sent.messages": 3, "messaging.client.consumed.messages": 3,
		} {
			if got := total(m[name]); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		ack <- msg
		ack <- (<-deq).Fail(errors.New("no"))
		ack <- <-deq
		ack <- <-deq
		synctest.Wait()
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		m = b.metrics(t)
		if n := counts(m["messaging.process.duration"]); n != 4 {
			t.Errorf("%d messages were processed", n)
		}
		byError := map[string]float64{}
		for _, p := range m["messaging.process.duration"].(metricdata.Histogram[float64]).DataPoints {
			why, _ := p.Attributes.Value("error.type")
			byError[why.AsString()] += p.Sum
		}
		if len(byError) != 2 || byError[""] != 5 || byError["*errors.errorString"] != 0 {
			t.Errorf("seconds of processing: %v", byError)
		}
		if n, s := counts(m["swarm.listen.age"]), seconds(m["swarm.listen.age"]); n != 4 || s < 6 { // three of them were 2 s old
			t.Errorf("%d messages were received, %v s old together", n, s)
		}
		if s := seconds(m["messaging.client.operation.duration"]); s < 0.2 { // the last receive waits
			t.Errorf("requests have taken %v s", s)
		}
		if n, s := counts(m["messaging.client.operation.duration"]), q.Stats(); n < int(s.Requests[swarm.OpSend].Calls+s.Requests[swarm.OpSettle].Calls) {
			t.Errorf("%d requests, the ledger says %+v", n, s.Requests)
		}
		var settled metricdata.Sum[int64]
		settled, _ = m["swarm.listen.settled"].(metricdata.Sum[int64])
		byOutcome := map[string]int64{}
		for _, p := range settled.DataPoints {
			outcome, _ := p.Attributes.Value("swarm.outcome")
			byOutcome[outcome.AsString()] = p.Value
		}
		if byOutcome["acked"] != 3 || byOutcome["failed"] != 1 || !settled.IsMonotonic {
			t.Errorf("%v", byOutcome)
		}
		if err := registration.Unregister(); err != nil {
			t.Error(err)
		}
		if m := b.metrics(t); total(m["swarm.emit.accepted"]) != 0 {
			t.Error("the ledger is measured after the end of its registration")
		}
	})
}

func total(a metricdata.Aggregation) (sum float64) {
	switch a := a.(type) {
	case metricdata.Sum[int64]:
		for _, p := range a.DataPoints {
			sum += float64(p.Value)
		}
	case metricdata.Gauge[int64]:
		for _, p := range a.DataPoints {
			sum += float64(p.Value)
		}
	case metricdata.Gauge[float64]:
		for _, p := range a.DataPoints {
			sum += p.Value
		}
	}
	return sum
}

func seconds(a metricdata.Aggregation) (sum float64) {
	if h, ok := a.(metricdata.Histogram[float64]); ok {
		for _, p := range h.DataPoints {
			sum += p.Sum
		}
	}
	return sum
}

// books are the ledger of no kernel.
type books swarm.Stats

func (b books) Stats() swarm.Stats { return swarm.Stats(b) }

// Each number of the ledger is a metric, and no other one.
func TestTheLedgerIsMeasured(t *testing.T) {
	b := newBackend()
	if _, err := otel.Register(books{
		Emit: map[string]swarm.EmitStats{"Order": {Accepted: 1, InFlight: 2, DeadLetters: 3, Confirmed: 4, Failed: 5, Dropped: 6, Undelivered: 7,
			Retried: 8, Refused: 9, Oldest: 10 * time.Second}},
		Listen: map[string]swarm.ListenStats{"Order": {Received: 11, Waiting: 12, Working: 13, Acked: 14, Failed: 15, Rejected: 16, Expired: 17,
			Released: 18, LeaseLost: 19, Lost: 20, Redelivered: 21, Ignored: 22, Oldest: 23 * time.Second, Longest: 24 * time.Second}},
		Requests: map[swarm.Operation]swarm.RequestStats{swarm.OpSend: {Calls: 25, Open: 26, Errors: 27, Entries: 28, InFlight: 29, Succeeded: 30, Failed: 31}},
		Settling: 32, Unconfirmed: 33,
	}, b.options()...); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	note := func(name string, of attribute.Set, v float64) {
		if outcome, ok := of.Value("swarm.outcome"); ok {
			name += " " + outcome.AsString()
		}
		got[name] += v
	}
	for name, a := range b.metrics(t) {
		switch a := a.(type) {
		case metricdata.Sum[int64]:
			for _, p := range a.DataPoints {
				note(name, p.Attributes, float64(p.Value))
			}
		case metricdata.Gauge[int64]:
			for _, p := range a.DataPoints {
				note(name, p.Attributes, float64(p.Value))
			}
		case metricdata.Gauge[float64]:
			for _, p := range a.DataPoints {
				note(name, p.Attributes, p.Value)
			}
		}
	}
	want := map[string]float64{
		"swarm.emit.accepted": 1, "swarm.emit.in_flight": 2, "swarm.emit.dead_letters": 3, "swarm.emit.ended confirmed": 4, "swarm.emit.ended failed": 5,
		"swarm.emit.ended dropped": 6, "swarm.emit.ended undelivered": 7, "swarm.emit.retried": 8, "swarm.emit.refused": 9, "swarm.emit.oldest": 10,
		"swarm.listen.received": 11, "swarm.listen.waiting": 12, "swarm.listen.working": 13, "swarm.listen.settled acked": 14,
		"swarm.listen.settled failed": 15, "swarm.listen.settled rejected": 16, "swarm.listen.settled expired": 17, "swarm.listen.settled released": 18,
		"swarm.listen.settled lease lost": 19, "swarm.listen.settled lost": 20, "swarm.listen.redelivered": 21, "swarm.listen.ignored": 22,
		"swarm.listen.oldest": 23, "swarm.listen.longest": 24,
		"swarm.requests": 25, "swarm.requests.open": 26, "swarm.requests.errors": 27, "swarm.requests.entries": 28,
		"swarm.settling": 32, "swarm.unconfirmed": 33,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func counts(a metricdata.Aggregation) (n int) {
	if h, ok := a.(metricdata.Histogram[float64]); ok {
		for _, p := range h.DataPoints {
			n += int(p.Count)
		}
	}
	return n
}

func TestXRay(t *testing.T) {
	const id, span = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
	for text, want := range map[string]string{
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1":                 id + "/" + span + "/01",
		" Sampled=0 ; Parent=53995c3f42cd8ad8; Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=a:0": id + "/" + span + "/00",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8":                           id + "/" + span + "/00",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1":                                         "",
		"Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8":                           "",
		"Root=1-5759e988bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8":                            "",
		"Root=1-5759e988-bd862e3fe1be46a99427279X;Parent=53995c3f42cd8ad8":                           "",
		"Root=1-00000000-000000000000000000000000;Parent=53995c3f42cd8ad8":                           "",
		"": "", ";;;": "", "Root": "",
	} {
		sc := trace.SpanContextFromContext(otel.XRay{}.Extract(t.Context(), propagation.MapCarrier{"AWSTraceHeader": text}))
		got := ""
		if sc.IsValid() {
			got = fmt.Sprintf("%s/%s/%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags())
		}
		if got != want || sc.IsValid() && !sc.IsRemote() {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	if fields := (otel.XRay{}).Fields(); !slices.Equal(fields, []string{"AWSTraceHeader"}) {
		t.Error(fields)
	}
}

func FuzzXRay(f *testing.F) {
	f.Add("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
	f.Fuzz(func(t *testing.T, text string) {
		in := otel.XRay{}.Extract(context.Background(), propagation.MapCarrier{"AWSTraceHeader": text})
		want := trace.SpanContextFromContext(in)
		carrier := propagation.MapCarrier{}
		otel.XRay{}.Inject(in, carrier)
		got := trace.SpanContextFromContext(otel.XRay{}.Extract(context.Background(), carrier))
		if !got.Equal(want) {
			t.Errorf("%q: %v, then %v", text, want, got)
		}
	})
}
