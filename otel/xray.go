package otel

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// header is the attribute of messages that has the header of X-Ray.
const header = "AWSTraceHeader"

// XRay propagates contexts in the attribute AWSTraceHeader, as the services of AWS do.
type XRay struct{}

var _ propagation.TextMapPropagator = XRay{}

// Fields is the attribute.
func (XRay) Fields() []string { return []string{header} }

// Inject sets the attribute.
func (XRay) Inject(ctx context.Context, carrier propagation.TextMapCarrier) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return
	}
	id := sc.TraceID().String()
	sampled := "0"
	if sc.IsSampled() {
		sampled = "1"
	}
	carrier.Set(header, "Root=1-"+id[:8]+"-"+id[8:]+";Parent="+sc.SpanID().String()+";Sampled="+sampled)
}

// Extract reads the attribute. One that is broken, or has no parent, is none.
func (XRay) Extract(ctx context.Context, carrier propagation.TextMapCarrier) context.Context {
	if sc := parseXRay(carrier.Get(header)); sc.IsValid() {
		return trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	return ctx
}

// parseXRay reads a header of X-Ray: fields in any order, of which other ones may be there.
func parseXRay(text string) trace.SpanContext {
	var c trace.SpanContextConfig
	c.Remote = true
	for field := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Root":
			version, rest, _ := strings.Cut(value, "-")
			at, unique, _ := strings.Cut(rest, "-")
			if version != "1" || len(at) != 8 || len(unique) != 24 {
				return trace.SpanContext{}
			}
			c.TraceID, _ = trace.TraceIDFromHex(at + unique)
		case "Parent":
			c.SpanID, _ = trace.SpanIDFromHex(value)
		case "Sampled":
			c.TraceFlags = c.TraceFlags.WithSampled(value == "1")
		}
	}
	return trace.NewSpanContext(c)
}
