package otel

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"

	swarm "github.com/fogfish/swarm/core"
)

// WithTelemetry is the option of a kernel that traces and measures it.
func WithTelemetry(opts ...Option) swarm.Option {
	return swarm.WithObserver(Observer(opts...))
}

// Observer is what [WithTelemetry] gives to a kernel. One may be given to several.
func Observer(opts ...Option) swarm.Observer {
	t := newTelemetry(newConfig(opts))
	return swarm.Observer{
		Accepted: t.accepted,
		Received: t.received,
		Handed:   t.handed,
		Settled:  t.settled,
		Request:  t.request,
	}
}

// telemetry observes. A pointer to it is the key under which contexts of messages have the
// span that it has begun.
type telemetry struct {
	config
	tracer trace.Tracer
	base   []attribute.KeyValue

	mu    sync.Mutex                       // of who adds a kind
	kinds atomic.Pointer[map[string]*kind] // by category
	calls map[swarm.Operation]operation
	codes codeBook

	sent, consumed         metric.Int64Counter
	duration, process, age metric.Float64Histogram
}

// kind is what is told of each message of a category, made once. Categories are those of
// channels: there are few.
type kind struct {
	create, process, send        string // names of spans
	creates, processes           []trace.SpanStartOption
	sent, consumed, handled, age measured
}

// operation is what is told of each call of the broker.
type operation struct {
	name    string // of spans of several messages
	options []trace.SpanStartOption
	calls   measured
}

// measured are the attributes of a measurement as instruments take them, made once: options
// that are made for each call are an allocation each.
type measured struct {
	set    attribute.Set
	add    []metric.AddOption
	record []metric.RecordOption
}

func measuredBy(attrs ...attribute.KeyValue) measured {
	m := measured{set: attribute.NewSet(attrs...)}
	option := metric.WithAttributeSet(m.set)
	m.add, m.record = []metric.AddOption{option}, []metric.RecordOption{option}
	return m
}

// with is the attributes and one more.
func (m measured) with(more attribute.KeyValue) measured {
	return measuredBy(append(m.set.ToSlice(), more)...)
}

func newTelemetry(c config) *telemetry {
	t := &telemetry{config: c, base: c.attributes(), calls: map[swarm.Operation]operation{}}
	t.kinds.Store(&map[string]*kind{})
	for op, of := range types {
		attrs := t.with(semconv.MessagingOperationName(string(op)), of)
		t.calls[op] = operation{
			name:    spanName(string(op), c.destination),
			options: []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...)},
			calls:   measuredBy(attrs...),
		}
	}
	t.tracer = c.tracers.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))
	meter := c.meters.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	// The buckets that the conventions ask for.
	seconds := metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
	duration, err1 := messagingconv.NewClientOperationDuration(meter, seconds)
	sent, err2 := messagingconv.NewClientSentMessages(meter)
	consumed, err3 := messagingconv.NewClientConsumedMessages(meter)
	process, err4 := messagingconv.NewProcessDuration(meter, seconds)
	age, err5 := meter.Float64Histogram("swarm.listen.age", metric.WithUnit("s"),
		metric.WithDescription("Age of messages when they are received, since the broker took them."),
		metric.WithExplicitBucketBoundaries(0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400))
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		otel.Handle(err) // what is left works
	}
	t.sent, t.consumed = sent.Inst(), consumed.Inst()
	t.duration, t.process, t.age = duration.Inst(), process.Inst(), age
	return t
}

// with is the base and more.
func (t *telemetry) with(more ...attribute.KeyValue) []attribute.KeyValue {
	return append(t.base[:len(t.base):len(t.base)], more...)
}

func (t *telemetry) kind(name string) *kind {
	if k := (*t.kinds.Load())[name]; k != nil {
		return k
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := *t.kinds.Load()
	if k := before[name]; k != nil {
		return k
	}
	at := t.destination
	if at == "" {
		at = name
	}
	of := category(name)
	options := func(kind trace.SpanKind, name string, operation attribute.KeyValue) []trace.SpanStartOption {
		return []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(t.with(of, semconv.MessagingOperationName(name), operation)...)}
	}
	k := &kind{
		create:    spanName("create", at),
		process:   spanName("process", at),
		send:      spanName("send", at),
		creates:   options(trace.SpanKindProducer, "create", semconv.MessagingOperationTypeCreate),
		processes: options(trace.SpanKindConsumer, "process", semconv.MessagingOperationTypeProcess),
		sent:      measuredBy(t.with(of, semconv.MessagingOperationName("send"))...),
		consumed:  measuredBy(t.with(of, semconv.MessagingOperationName("receive"))...),
		handled:   measuredBy(t.with(of, semconv.MessagingOperationName("process"))...),
		age:       measuredBy(t.with(of)...),
	}
	after := maps.Clone(before)
	after[name] = k
	t.kinds.Store(&after)
	return k
}

func spanName(operation, at string) string {
	if at == "" {
		return operation
	}
	return operation + " " + at
}

// accepted: the span of a message, whose context travels.
func (t *telemetry) accepted(ctx context.Context, e swarm.Envelope) map[string]string {
	k := t.kind(e.Category)
	ctx, span := t.tracer.Start(ctx, k.create, k.creates...)
	if span.IsRecording() {
		span.SetAttributes(semconv.MessagingMessageID(e.ID), semconv.MessagingMessageBodySize(e.Size))
	}
	attrs := propagation.MapCarrier{}
	t.propagator.Inject(ctx, attrs)
	span.End()
	return attrs
}

// origin is the span of a message, as its attributes have it, on top of ctx.
func (t *telemetry) origin(ctx context.Context, e swarm.Envelope) context.Context {
	if len(e.Attrs) == 0 {
		return ctx
	}
	return t.propagator.Extract(ctx, propagation.MapCarrier(e.Attrs))
}

// link links a span to those of its messages.
func (t *telemetry) link(span trace.Span, messages []swarm.Envelope) {
	for _, e := range messages {
		if sc := trace.SpanContextFromContext(t.origin(context.Background(), e)); sc.IsValid() {
			span.AddLink(trace.Link{SpanContext: sc})
		}
	}
}

func (t *telemetry) received(e swarm.Envelope) {
	k := t.kind(e.Category)
	t.consumed.Add(context.Background(), 1, k.consumed.add...)
	if !e.SentAt.IsZero() {
		t.age.Record(context.Background(), max(0, time.Since(e.SentAt).Seconds()), k.age.record...)
	}
}

// handed begins the span of a consumer.
func (t *telemetry) handed(ctx context.Context, e swarm.Envelope) context.Context {
	k := t.kind(e.Category)
	of := t.origin(ctx, e) // baggage comes with it
	origin := trace.SpanContextFromContext(of)
	if ambient := trace.SpanFromContext(ctx); ambient.SpanContext().IsValid() {
		// What has no context leaves the ambient one.
		if origin.Equal(ambient.SpanContext()) {
			origin = trace.SpanContext{}
		} else {
			of = trace.ContextWithSpan(of, ambient)
		}
	} else if !origin.IsValid() {
		of = invocation(of)
	}
	of, span := t.tracer.Start(of, k.process, k.processes...)
	if span.IsRecording() {
		span.SetAttributes(semconv.MessagingMessageID(e.ID), semconv.MessagingMessageBodySize(e.Size), attribute.Int("swarm.attempt", e.Attempt))
		if origin.IsValid() {
			span.AddLink(trace.Link{SpanContext: origin})
		}
	}
	return context.WithValue(of, t, span)
}

// invocation is the trace that AWS Lambda gives to one, under the key of its runtime client.
// One that is not sampled says nothing: functions without active tracing have such a trace each
// time, and all that follows it would be lost.
func invocation(ctx context.Context) context.Context {
	text, _ := ctx.Value("x-amzn-trace-id").(string)
	if sc := parseXRay(text); sc.IsValid() && sc.IsSampled() {
		return trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	return ctx
}

func (t *telemetry) settled(ctx context.Context, e swarm.Envelope, s swarm.Settlement) {
	span, ok := ctx.Value(t).(trace.Span)
	if !ok {
		return // no consumer had it
	}
	handled := t.kind(e.Category).handled
	if s.Outcome != swarm.OutcomeAcked {
		why := kindOf(s.Err)
		t.fail(span, s.Err, why)
		handled = handled.with(why)
	}
	t.process.Record(ctx, s.Took.Seconds(), handled.record...)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("swarm.outcome", s.Outcome.String()))
		span.End(trace.WithTimestamp(s.At))
	}
}

// request: spans of sends, and of receives that bring something; measured are all.
func (t *telemetry) request(ctx context.Context, r swarm.Request) (context.Context, func(swarm.Answer)) {
	began := time.Now()
	var span trace.Span
	if r.Operation == swarm.OpSend {
		ctx, span = t.sends(ctx, r)
	}
	return ctx, func(a swarm.Answer) {
		switch {
		case span != nil:
			t.finish(span, a.Err)
		case r.Operation == swarm.OpReceive && len(a.Received) > 0:
			of := t.calls[r.Operation]
			_, span := t.tracer.Start(ctx, of.name, append(of.options[:len(of.options):len(of.options)], trace.WithTimestamp(began))...)
			t.batch(span, a.Received)
			t.finish(span, a.Err)
		}
		t.measure(ctx, r, time.Since(began), a)
	}
}

// sends begins the span of a request.
func (t *telemetry) sends(ctx context.Context, r swarm.Request) (context.Context, trace.Span) {
	of := t.calls[r.Operation]
	if len(r.Messages) != 1 {
		ctx, span := t.tracer.Start(ctx, of.name, of.options...)
		t.batch(span, r.Messages)
		return ctx, span
	}
	e := r.Messages[0]
	ctx, span := t.tracer.Start(t.origin(ctx, e), t.kind(e.Category).send, of.options...)
	if span.IsRecording() {
		span.SetAttributes(semconv.MessagingMessageID(e.ID), category(e.Category))
	}
	return ctx, span
}

// batch tells of the messages of a request; of several their number is an attribute.
func (t *telemetry) batch(span trace.Span, messages []swarm.Envelope) {
	if !span.IsRecording() {
		return
	}
	if len(messages) > 1 {
		span.SetAttributes(semconv.MessagingBatchMessageCount(len(messages)))
	}
	t.link(span, messages)
}

func (t *telemetry) finish(span trace.Span, err error) {
	defer span.End()
	if err != nil {
		t.fail(span, err, t.codes.of(err))
	}
}

// fail says that what a span is of has failed, and why.
func (t *telemetry) fail(span trace.Span, err error, why attribute.KeyValue) {
	span.SetAttributes(why)
	text := ""
	if t.errorText && err != nil {
		text = err.Error()
	}
	span.SetStatus(codes.Error, text)
}

var types = map[swarm.Operation]attribute.KeyValue{
	swarm.OpSend:    semconv.MessagingOperationTypeSend,
	swarm.OpReceive: semconv.MessagingOperationTypeReceive,
	swarm.OpSettle:  semconv.MessagingOperationTypeSettle,
	swarm.OpExtend:  attribute.String(string(semconv.MessagingOperationTypeKey), "extend"),
}

func (t *telemetry) measure(ctx context.Context, r swarm.Request, took time.Duration, a swarm.Answer) {
	calls := t.calls[r.Operation].calls
	var why attribute.KeyValue
	if a.Err != nil {
		why = t.codes.of(a.Err)
		calls = calls.with(why)
	}
	t.duration.Record(ctx, took.Seconds(), calls.record...)
	if r.Operation != swarm.OpSend {
		return
	}
	failed := a.Failed // in order
	for from, to := 0, 0; from < len(r.Messages); from = to {
		category, bad := r.Messages[from].Category, int64(0)
		for to = from; to < len(r.Messages) && r.Messages[to].Category == category; to++ {
			if len(failed) > 0 && failed[0] == to {
				failed, bad = failed[1:], bad+1
			}
		}
		sent := t.kind(category).sent
		if good := int64(to-from) - bad; good > 0 {
			t.sent.Add(ctx, good, sent.add...)
		}
		if bad > 0 {
			t.sent.Add(ctx, bad, sent.with(why).add...)
		}
	}
}
