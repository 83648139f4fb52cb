package otel_test

import (
	"context"
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/otel"
)

// A consumer works in the trace of whoever has sent the message.
func ExampleWithTelemetry() {
	spans := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans)) // a service sends them elsewhere, in batches

	q := swarm.Must(embedded.Endpoint().
		WithKernel(otel.WithTelemetry(otel.WithTracerProvider(tracer), otel.WithDestination("orders"))).
		Build("orders"))
	deq, ack := listen.Typed[Order](q)
	go func() { _ = q.Run(context.Background()) }()

	ctx, span := tracer.Tracer("shop").Start(context.Background(), "checkout")
	_ = emit.NewTyped[Order](q).Enq(ctx, Order{ID: "A"})
	span.End()

	msg := <-deq
	fmt.Println("same trace:", trace.SpanContextFromContext(msg.Context()).TraceID() == span.SpanContext().TraceID())
	ack <- msg
	_ = q.Close()

	for _, s := range spans.GetSpans() {
		fmt.Println(s.SpanKind, s.Name)
	}
	// Unordered output:
	// same trace: true
	// producer create orders
	// client send orders
	// internal checkout
	// client receive orders
	// consumer process orders
}

// Metrics of the ledger, whenever they are collected.
func ExampleRegister() {
	reader := sdkmetric.NewManualReader() // a service uses an exporter
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	q := swarm.Must(embedded.Endpoint().WithKernel(otel.WithTelemetry(otel.WithMeterProvider(meter))).Build("orders"))
	ledger := swarm.Must(otel.Register(q, otel.WithMeterProvider(meter)))
	_ = emit.NewTyped[Order](q).Enq(context.Background(), Order{ID: "A"})

	var all metricdata.ResourceMetrics
	_ = reader.Collect(context.Background(), &all)
	for _, m := range all.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "swarm.emit.accepted" {
			fmt.Println(m.Name, sum.DataPoints[0].Value)
		}
	}
	_ = ledger.Unregister()
	_ = q.Close()
	// Output: swarm.emit.accepted 1
}

// One observer may watch several kernels, with further options.
func ExampleObserver() {
	watch := swarm.WithObserver(otel.Observer(otel.WithSystem("aws_sqs"), otel.WithErrorText()))
	in := swarm.Must(embedded.Listener().WithKernel(watch).Build("in"))
	out := swarm.Must(embedded.Emitter().WithKernel(watch).Build("out"))
	fmt.Println(in.Close(), out.Close())
	// Output: <nil> <nil>
}
