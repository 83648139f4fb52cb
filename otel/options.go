package otel

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// scope is the name of the library that instruments.
const scope = "github.com/fogfish/swarm/otel"

// Option of [WithTelemetry] and [Register].
type Option func(*config)

type config struct {
	tracers             trace.TracerProvider
	meters              metric.MeterProvider
	propagator          propagation.TextMapPropagator
	system, destination string
	errorText           bool
}

// WithTracerProvider has spans made by p. Default: the global one.
func WithTracerProvider(p trace.TracerProvider) Option { return func(c *config) { c.tracers = p } }

// WithMeterProvider has metrics recorded by p. Default: the global one.
func WithMeterProvider(p metric.MeterProvider) Option { return func(c *config) { c.meters = p } }

// WithPropagator has contexts travel by p. Default: [propagation.TraceContext] and [XRay].
// To have baggage travel, too, which is for whoever reads the messages to see:
//
//	otel.WithPropagator(propagation.NewCompositeTextMapPropagator(otel.XRay{}, propagation.TraceContext{}, propagation.Baggage{}))
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(c *config) { c.propagator = p }
}

// WithSystem is the attribute messaging.system: aws_sqs, aws.sns …. Default: swarm.
func WithSystem(name string) Option { return func(c *config) { c.system = name } }

// WithDestination is the attribute messaging.destination.name: the name of the queue, topic
// or bus. Spans are named after it. Default: none, spans are named after the category.
func WithDestination(name string) Option { return func(c *config) { c.destination = name } }

// WithErrorText adds the text of errors to spans. It may quote what is in messages.
func WithErrorText() Option { return func(c *config) { c.errorText = true } }

func newConfig(opts []Option) config {
	c := config{
		tracers:    otel.GetTracerProvider(),
		meters:     otel.GetMeterProvider(),
		propagator: either{},
		system:     "swarm",
	}
	for _, opt := range opts {
		opt(&c)
	}
	return c
}

// attributes of all that is told.
func (c *config) attributes() []attribute.KeyValue {
	out := []attribute.KeyValue{semconv.MessagingSystemKey.String(c.system)}
	if c.destination != "" {
		out = append(out, semconv.MessagingDestinationName(c.destination))
	}
	return out
}

// category of a message: the type of its content.
func category(name string) attribute.KeyValue { return attribute.String("swarm.category", name) }

// either propagates by W3C and by X-Ray. To read, the first will do.
type either struct{ propagation.TraceContext }

func (p either) Fields() []string { return append(p.TraceContext.Fields(), XRay{}.Fields()...) }

func (p either) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	p.TraceContext.Inject(ctx, carrier)
	XRay{}.Inject(ctx, carrier)
}

func (p either) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	next := p.TraceContext.Extract(ctx, carrier)
	if trace.SpanContextFromContext(next).Equal(trace.SpanContextFromContext(ctx)) {
		return XRay{}.Extract(ctx, carrier) // there was none, or it says nothing new
	}
	return next
}
