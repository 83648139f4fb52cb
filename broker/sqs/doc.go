// Package sqs carries swarm's channels over AWS SQS, standard and FIFO queues.
//
//	q, err := sqs.Endpoint().Build("orders")
//	enq, dlq := emit.Typed[Order](q)
//	deq, ack := listen.Typed[Order](q)
//
// [Emitter] sends only, [Listener] receives only, [Endpoint] does both. Build takes the
// name, the URL or the ARN of a queue, or "" for the one the environment names.
//
// # Semantics
//
// Values that are ready together go by one SendMessageBatch, at most 10 of 1 MiB in all.
// A receive is a long poll of 20 s for up to 10 messages; acknowledgements go by
// DeleteMessageBatch, nacks by ChangeMessageVisibilityBatch. The lease (visibility
// timeout) is extended while a message waits or is worked on, for 12 h at most. Retries
// are the kernel's: the SDK's are off, except for looking up the queue.
//
// In a function of AWS Lambda a listener serves the batches of an event source mapping, which
// receives, deletes and leases. The answer names the messages that failed: enable
// ReportBatchItemFailures.
//
// A standard queue keeps no order, and delivers a message twice now and then. An answer
// that got lost makes one duplicate there.
//
// On a FIFO queue (name.fifo) the group is the ordering key of the channel,
// emit.OrderBy, or else the category. Groups go in parallel, each in order: at most one
// message of a group is in a request, and one request in flight with a group;
// [Builder.WithGroupBatching] lifts the first for fewer requests. The deduplication id is
// the key of emit.DedupBy, an event's own id and its category, or a fresh id for each value
// that stays the same over retries: a lost answer makes no duplicate. Keys that SQS does not
// take as they are (spaces, other alphabets, more than 128 characters) are hashed.
//
// What is received behind a message of its group that fails goes back unseen, and SQS counts
// that as a delivery, too. So that a redrive policy takes the poison and not what is behind
// it, a listener receives one message at a time while one is about to come that has failed
// twice: have a maxReceiveCount of 5 at least. Other instances do not know, nor pollers that
// ask already, nor event source mappings of AWS Lambda: with several of them use
// [Builder.WithBatchSize] of 1 (and mappings of that size), or count with messages among the
// dead letters that were only behind one.
//
// # On the wire
//
// The body is the encoded value. The message attributes Category and Source are its
// category and agent. Bytes that SQS does not carry (invalid UTF-8, control characters) go
// as base64, with the attribute Encoding. Programs on fogfish/swarm v0.24 read what this
// package writes, and write what it reads. Messages of other programs need
// swarm.WithDefaultCategory.
//
// # Envelopes
//
// A queue that is subscribed to a topic of SNS, the target of a rule of EventBridge, or
// notified by a bucket of S3, is a source of typed messages by [Builder.WithUnwrap]:
//
//	q, err := sqs.Listener().WithUnwrap(sqs.SNS).Build("queue-of-the-topic")
//
// Category, body, id and time are those of the message inside; IOContext is the message of
// SQS around it. Each record of S3 is a message of its own, see package events3.
//
// # Limits
//
// A message has at most 1 MiB with its attributes, or what MaximumMessageSize of the queue
// says; its body is not empty. WithWaitTime(0) leaves the wait to the queue. AWS counts
// each 64 KiB of a request as one.
//
// # What it costs
//
// With full batches a million messages take 0.1 million sends, 0.1 million receives and
// 0.1 million deletes. A message at a time takes 3 million. An idle poller takes 4,320
// requests a day.
//
// # Permissions
//
// The least that a policy has to allow on the queue:
//
//	sqs:GetQueueUrl, sqs:GetQueueAttributes        to find the queue and its limits
//	sqs:SendMessage                                to emit
//	sqs:ReceiveMessage, sqs:DeleteMessage,
//	sqs:ChangeMessageVisibility                    to listen
//
// GetQueueAttributes may be missing: Build then warns and takes the defaults of SQS.
// GetQueueUrl is not needed when Build is given a URL. In a function the event source mapping
// needs sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes; GetQueueUrl and
// ChangeMessageVisibility are for swarm.RetryAfter alone.
package sqs
