// Package events3 reads the events of AWS S3 buckets as typed records.
//
//	q, err := sqs.Listener().WithUnwrap(sqs.S3).Build("queue-of-the-bucket")
//	deq, ack := events3.Listen(q)
//	for msg := range deq {
//		fetch(msg.Object.Bucket, msg.Object.Key)
//		ack <- msg
//	}
//
// A service gets them through a queue: of the bucket's notifications (sqs.S3), of a topic
// that the bucket notifies (sqs.SNS, sqs.S3), or as the target of a rule (sqs.EventBridge,
// sqs.S3). One record is one message, and all three ways give it the same shape. The
// message that S3 sends when notifications are configured is acknowledged unseen.
//
// [Listener] is for a function of AWS Lambda that S3 invokes, or EventBridge with events of
// S3. The invocation fails as a whole.
//
// # Semantics
//
// S3 delivers at least once, in seconds and sometimes in more than a minute, and in no
// order. What happened to one key, and in which order, [CompareSequencers] tells. Two
// writes at the same time to a key without versions may be one event.
//
// S3 gives records no id. Msg.ID is made of event, bucket, key, version (or eTag) and
// sequencer: equal ids are the same event. Msg.SentAt is when it happened. A nack of one
// record of a notification brings all of it back.
//
// # On the wire
//
// The category is [Category], the body the record's JSON, as fogfish/swarm v0.24 has them.
// The version of the format is not looked at: S3 adds members within it.
//
// # Permissions
//
// Those of broker/sqs to listen, on the queue. The queue's policy has to allow
// sqs:SendMessage to the service principal s3.amazonaws.com (sns.amazonaws.com,
// events.amazonaws.com) for the ARN of the bucket (topic, rule).
package events3
