// Package sns carries swarm's channels to AWS SNS topics, standard and FIFO. It emits, and
// listens in a function of AWS Lambda that subscribes to a topic. A service receives what a
// topic sends on by package sqs (WithUnwrap), from a queue that subscribes to it.
//
//	q, err := sns.Emitter().Build("arn:aws:sns:eu-west-1:123456789012:orders")
//	enq, dlq := emit.Typed[Order](q)
//
// Build takes the ARN or the name of a topic, or "" for the one the environment names.
//
// # Semantics
//
// Values that are ready together go by one PublishBatch, at most 10. Each is accepted or
// refused by itself; only those that failed for now are sent again. Retries are the
// kernel's: the SDK's are off, except for looking up the topic.
//
// A standard topic keeps no order, and delivers a message twice now and then. An answer
// that got lost makes one duplicate there. [Builder.WithFairQueue] passes the ordering key
// of a channel on to standard SQS queues, as the tenant of a fair queue.
//
// On a FIFO topic (name.fifo), which has SQS queues as its only subscribers, the group is
// the ordering key of the channel, emit.OrderBy, or else the category. Groups go in
// parallel, each in order: at most one message of a group is in a request, and one request
// in flight with a group; [Builder.WithGroupBatching] lifts the first for fewer requests.
// The deduplication id is the key of emit.DedupBy, an event's own id and its category, or a
// fresh id for each value that stays the same over retries: a lost answer makes no
// duplicate. Keys that SNS does not take as they are (spaces, other alphabets, more than 128
// characters) are hashed.
//
// # On the wire
//
// The message is the encoded value. The message attributes Category and Source are its
// category and agent; filter policies match them:
//
//	{"Category": ["Order"], "Source": ["shop"]}
//
// Bytes that SNS does not carry (invalid UTF-8, control characters) go as base64, with the
// attribute Encoding. A queue gets the message as it is when its subscription delivers raw,
// else in the envelope of SNS, which package sqs opens (WithUnwrap). The trace header of
// X-Ray, AWSTraceHeader, is an attribute as any other.
//
// # Limits
//
// A message, and all messages of a request, have at most 256 KiB with attributes and
// subject, or what MaximumMessageSize of the topic says; a message is not empty. It has at
// most 10 attributes, the driver's own among them: SNS takes more, but loses such a message
// on the way to a queue that gets it raw.
//
// # What it costs
//
// AWS bills each 64 KiB of a request as one, and deliveries apart. With full batches a
// million messages take 0.1 million requests.
//
// # Permissions
//
// The least that a policy has to allow, on the topic:
//
//	sns:Publish                 to emit
//	sns:GetTopicAttributes      to find its limits
//	sns:ListTopics              on all topics, to find one by its name
//
// GetTopicAttributes may be missing: Build then warns and takes the defaults of SNS.
// ListTopics is not needed when Build is given an ARN.
package sns
