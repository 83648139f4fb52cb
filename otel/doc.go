// Package otel traces and measures kernels of swarm by OpenTelemetry.
//
//	q, err := sqs.Endpoint().
//		WithKernel(otel.WithTelemetry(otel.WithSystem("aws_sqs"), otel.WithDestination("orders"))).
//		Build("orders")
//	…
//	ledger, err := otel.Register(q, otel.WithSystem("aws_sqs"), otel.WithDestination("orders"))
//	…
//	defer ledger.Unregister()
//
// It follows the semantic conventions for messaging, version 1.43.0.
//
// # Traces
//
// A value that is accepted is a span "create" of kind producer: a child of the context of
// Enq, or of what emit.Context makes of a value; of a channel without that, the root of a
// trace of its own. Its context travels with the message. A call of the broker is a span
// "send" of kind client: a child of the message's when there is one, else linked to each. An
// answer with messages is a span "receive", linked to each. A consumer's work is a span
// "process" of kind consumer, from the hand-over to the settlement: a child of the span of
// the invocation in AWS Lambda, if there is one, else of the message's, and linked to that.
// Msg.Context carries it, and so on to what is emitted by Enq(msg.Context(), …).
//
// Samplers decide as they do elsewhere; a trace that is not sampled travels, too, and says
// so. Settlements and extensions of leases have no spans, but are measured.
//
// # Where a context travels
//
// As an attribute traceparent (W3C) and, for AWS, AWSTraceHeader (X-Ray):
//
//   - SQS, SNS and the broker in memory carry both. Through SNS to a queue they arrive raw
//     and in the envelope, if package sqs opens it (WithUnwrap).
//   - EventBridge carries the header of X-Ray alone, as TraceHeader. AWS hands it to a
//     target queue as AWSTraceHeader, and to a function as the trace of its invocation.
//     LocalStack drops it.
//   - S3 and DynamoDB make their messages themselves, and WebSocket frames have no
//     attributes: the trace ends there. In AWS Lambda that of the invocation takes its place,
//     if X-Ray samples it: a function without active tracing begins traces of its own.
//
// An attribute never makes a message too large: one that does not fit is left out.
//
// # Metrics
//
// messaging.client.operation.duration, messaging.client.sent.messages,
// messaging.client.consumed.messages and messaging.process.duration are those of the
// conventions, swarm.listen.age is how old messages are when they come. [Register] adds the
// ledger of the kernel, see there.
//
// # What is not in it
//
// No bodies, no attributes of messages, no ordering keys. The text of errors may quote any
// of these, so spans and metrics have a name for it only: a code that the broker has answered
// with, or a type of Go. [WithErrorText] adds the text to spans. Ids of messages are in spans;
// those of S3 have the key of the object in them.
package otel
