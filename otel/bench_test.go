package otel_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"
)

// nowhere is an exporter that throws spans away.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                             { return nil }

// What telemetry adds to a message, in turn with the same way without it: all spans
// sampled and exported to nowhere, none sampled, and no OpenTelemetry configured at all. Most
// of the first is the SDK: by hand is what it takes for the same spans in a plain loop, and
// two spans what is the least of it, that of who creates a message and that of who consumes
// it, with the attributes that the conventions require and nothing else.
func BenchmarkBudgetTelemetry(b *testing.B) {
	tracer := sdktrace.NewTracerProvider(sdktrace.WithBatcher(nowhere{}))
	defer tracer.Shutdown(context.Background())
	never := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	kernel := func(tracer trace.TracerProvider, meter metric.MeterProvider) swarm.Option {
		return otel.WithTelemetry(otel.WithTracerProvider(tracer), otel.WithMeterProvider(meter), otel.WithDestination("orders"))
	}
	ways := map[string]func() time.Duration{
		"without":     func() time.Duration { return way(b) },
		"sampled":     func() time.Duration { return way(b, kernel(tracer, meter)) },
		"not-sampled": func() time.Duration { return way(b, kernel(never, meter)) },
		"no-otel": func() time.Duration {
			return way(b, kernel(tracenoop.NewTracerProvider(), metricnoop.NewMeterProvider()))
		},
		"by-hand":   func() time.Duration { return byHand(tracer, meter) },
		"two-spans": func() time.Duration { return twoSpans(tracer) },
	}
	took, allocs := map[string]float64{}, map[string]float64{}
	for range 7 {
		for name, f := range ways {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			us := float64(f().Nanoseconds()) / 1000
			runtime.ReadMemStats(&after)
			if least, ok := took[name]; !ok || us < least {
				took[name], allocs[name] = us, float64(after.Mallocs-before.Mallocs)/messages
			}
		}
	}
	b.ReportMetric(took["without"], "µs/msg-without")
	b.ReportMetric(took["no-otel"]-took["without"], "µs/msg-no-otel")
	b.ReportMetric(3, "max-µs/msg-no-otel")
	b.ReportMetric(took["not-sampled"]-took["without"], "µs/msg-not-sampled")
	b.ReportMetric(took["sampled"]-took["without"], "µs/msg-sampled")
	b.ReportMetric(took["by-hand"], "µs/msg-by-hand")
	b.ReportMetric(took["two-spans"], "µs/msg-two-spans")
	b.ReportMetric(took["sampled"]-took["without"]-took["by-hand"], "µs/msg-beyond-hand")
	b.ReportMetric(3, "max-µs/msg-beyond-hand")
	b.ReportMetric(allocs["by-hand"], "allocs/msg-by-hand")
	b.ReportMetric(allocs["sampled"]-allocs["without"]-allocs["by-hand"], "allocs/msg-beyond-hand")
	b.ReportMetric(1, "max-allocs/msg-beyond-hand")
}

// messages of a measurement.
const messages = 20_000

func twoSpans(tracers trace.TracerProvider) time.Duration {
	tracer := tracers.Tracer("two spans")
	attrs := trace.WithAttributes(attribute.String("system", "swarm"), attribute.String("destination", "orders"),
		attribute.String("operation", "send"), attribute.String("type", "send"))
	began := time.Now()
	for range messages {
		ctx, create := tracer.Start(context.Background(), "create", trace.WithSpanKind(trace.SpanKindProducer), attrs)
		create.End()
		_, process := tracer.Start(ctx, "process", trace.WithSpanKind(trace.SpanKindConsumer), attrs)
		process.End()
	}
	return time.Since(began) / messages
}

// byHand makes the spans and measurements of a message by the API, ten messages in a
// request, and nothing else.
func byHand(tracers trace.TracerProvider, meters metric.MeterProvider) time.Duration {
	const batch = 10
	tracer, meter := tracers.Tracer("by hand"), meters.Meter("by hand")
	counter, _ := meter.Int64Counter("by.hand.messages")
	seconds, _ := meter.Float64Histogram("by.hand.duration")
	measured := metric.WithAttributeSet(attribute.NewSet(attribute.String("system", "swarm"), attribute.String("operation", "send")))
	attrs := trace.WithAttributes(attribute.String("system", "swarm"), attribute.String("destination", "orders"),
		attribute.String("category", "Order"), attribute.String("operation", "send"), attribute.String("type", "send"))
	both := func(ctx context.Context) propagation.MapCarrier {
		c := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, c)
		otel.XRay{}.Inject(ctx, c)
		return c
	}
	request := func(kind trace.SpanKind, sent []propagation.MapCarrier) {
		_, span := tracer.Start(context.Background(), "request", trace.WithSpanKind(kind), attrs)
		span.SetAttributes(attribute.Int("count", len(sent)))
		for _, c := range sent {
			span.AddLink(trace.LinkFromContext(propagation.TraceContext{}.Extract(context.Background(), c)))
		}
		span.End()
		seconds.Record(context.Background(), 0.001, measured)
	}
	began := time.Now()
	for i := 0; i < messages; i += batch {
		sent := make([]propagation.MapCarrier, batch)
		for i := range sent {
			ctx, span := tracer.Start(context.Background(), "create", trace.WithSpanKind(trace.SpanKindProducer), attrs)
			span.SetAttributes(attribute.String("id", "0123456789"), attribute.Int("size", 10))
			sent[i] = both(ctx)
			span.End()
			counter.Add(context.Background(), 1, measured)
		}
		request(trace.SpanKindClient, sent)
		request(trace.SpanKindClient, sent)
		for _, c := range sent {
			ctx := propagation.TraceContext{}.Extract(context.Background(), c)
			of := trace.SpanContextFromContext(ctx)
			ctx, span := tracer.Start(ctx, "process", trace.WithSpanKind(trace.SpanKindConsumer), attrs)
			span.SetAttributes(attribute.String("id", "0123456789"), attribute.Int("size", 10), attribute.Int("attempt", 1))
			span.AddLink(trace.Link{SpanContext: of})
			span.SetAttributes(attribute.String("outcome", "acked"))
			span.End()
			counter.Add(ctx, 1, measured)
			seconds.Record(ctx, 0.001, measured)
			seconds.Record(ctx, 0.001, measured)
		}
		seconds.Record(context.Background(), 0.001, measured) // a settlement has no span
	}
	return time.Since(began) / messages
}

// way is the time of a message from a channel to a channel.
func way(b *testing.B, opts ...swarm.Option) time.Duration {
	q, err := embedded.Endpoint().WithKernel(append(opts, swarm.WithEmitWindow(100), swarm.WithLogger(slog.New(slog.DiscardHandler)))...).Build("orders")
	if err != nil {
		b.Fatal(err)
	}
	enq, _ := emit.Typed[Order](q)
	deq, ack := listen.Typed[Order](q)
	go q.Run(context.Background())
	began := time.Now()
	go func() {
		for range messages {
			enq <- Order{"A"}
		}
	}()
	for range messages {
		ack <- <-deq
	}
	took := time.Since(began) / messages
	close(enq)
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}
