// Package eventbridge carries swarm's channels to an event bus of AWS EventBridge (the
// classic one). It emits, and listens in a function of AWS Lambda that is the target of a
// rule. A service receives what rules send on by package sqs (WithUnwrap), from a queue that
// is a target.
//
//	q, err := eventbridge.Emitter().
//		WithKernel(swarm.WithSource("shop")).
//		Build("orders")
//	enq, dlq := emit.Typed[Order](q)
//
// Build takes the name or the ARN of a bus, or "" for the one the environment names. The
// agent, swarm.WithSource, has to be set: EventBridge refuses events without a source.
//
// # Semantics
//
// Values that are ready together go by one PutEvents, at most 10. Each is accepted or
// refused by itself; only those that failed for now are sent again. Retries are the
// kernel's: the SDK's are off, except when Build looks for the bus.
//
// EventBridge keeps no order, so emit.OrderBy has no effect, and knows no duplicates, so
// neither has emit.DedupBy: an answer that got lost makes one duplicate. Targets get an
// event once or more. Accepted is not delivered: EventBridge accepts events that no rule
// matches, and events for a bus that does not exist, and drops them. Build fails for such
// a bus; nobody can tell when it is deleted later.
//
// # On the wire
//
// The detail is the encoded value, the detail-type its category, the source its agent, the
// time that of the send on the channel. Rules match all of them:
//
//	{"source": ["shop"], "detail-type": ["Order"], "detail": {"country": ["FI"]}}
//
// The detail is a JSON object, so a value that encodes as anything else (a number, an array)
// is refused. Bytes and values of codecs other than JSON go as {"p":"…"}, in base64.
// Programs on fogfish/swarm v0.24 read what this package writes. Of attributes only the
// trace header of X-Ray, AWSTraceHeader, travels; others are refused, not dropped.
//
// # Limits
//
// An event, and all events of a request, have less than 1 MiB: the bytes of source,
// category, detail and resources, and 14 for the time. The envelope comes on top: an event
// just below the limit does not fit an SQS queue, unless the rule sends on the detail alone.
// A category has at most 128 characters, an agent 256, and not aws. in front. JSON is nested
// at most 1,000 levels deep, and its integers have 64 bits.
//
// # What it costs
//
// AWS bills each 64 KiB of an event, not requests. With full batches a million events take
// 0.1 million requests.
//
// # Permissions
//
// The least that a policy has to allow on the bus:
//
//	events:DescribeEventBus     to see that it exists
//	events:PutEvents            to emit
//
// DescribeEventBus may be missing: Build then warns.
package eventbridge
