package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// SQSClient is what a mapping needs of the client of the SDK. Its ReceiveMessage must
// end when its context does.
type SQSClient interface {
	GetQueueUrl(context.Context, *sqs.GetQueueUrlInput, ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error)
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
}

// SQS is an event source mapping of a queue, standard or FIFO.
//
// Messages of a batch that succeeds are deleted. Those that fail are left alone: they
// come back when the queue's visibility timeout ends, which the mapping neither extends
// nor shortens, and a dead-letter queue is the queue's own redrive policy. The whole
// batch fails when the invocation does, and with ReportBatchItemFailures also when the
// response is invalid or names a message that is not in the batch. While the function is
// throttled a batch is tried again until its visibility timeout ends.
//
// Of FIFO queues one batch of a group is worked on at a time, in order: SQS itself sees
// to that. A batch may have messages of several groups.
type SQS struct {
	// Queue is the name or the URL.
	Queue string
	// BatchSize is the largest number of messages in an event, up to 10,000, of FIFO
	// queues up to 10. Default 10. More than 10 need a Window. An event has at most 6 MB,
	// so that batches may be smaller than asked for.
	BatchSize int
	// Window is how long to gather a batch, in whole seconds up to 300 s; it may last up to
	// a second longer. Not for FIFO queues. Default 0: what one receive returns is a batch.
	Window time.Duration
	// MaximumConcurrency limits the invocations at a time, from 2 to 1,000. Default: 5,
	// which is what AWS begins with (here it stays so), or what the function takes if that
	// is less.
	MaximumConcurrency int
	// ReportBatchItemFailures makes the function's response count:
	// {"batchItemFailures": [{"itemIdentifier": "<messageId>"}]}.
	ReportBatchItemFailures bool
	// Log gets lines about messages that fail and about errors of the queue. Writes are
	// one at a time. Default: discarded.
	Log io.Writer
}

// Start checks the mapping against the queue and begins to poll. It refuses, as AWS does,
// a function whose timeout is longer than the queue's visibility timeout. The mapping
// lives until Close, or until ctx ends. Messages that a poll was receiving just then come
// back after their visibility timeout.
func (s SQS) Start(ctx context.Context, client SQSClient, fn Invoker) (*Mapping, error) {
	q := &queue{SQS: s, client: client, fn: fn}
	q.BatchSize = orDefault(q.BatchSize, 10)
	if err := q.describe(ctx); err != nil {
		return nil, err
	}
	if err := q.validate(); err != nil {
		return nil, err
	}
	pollers := orDefault(q.MaximumConcurrency, min(5, concurrencyOf(fn, 5)))
	ctx, q.Mapping = newMapping(ctx, s.Log)
	for range pollers {
		q.work.Go(func() { q.poll(ctx) })
	}
	return q.Mapping, nil
}

// queue is a mapping at work.
type queue struct {
	SQS
	*Mapping
	client     SQSClient
	fn         Invoker
	url        string
	arn        arn.ARN
	fifo       bool
	visibility time.Duration
}

func (q *queue) describe(ctx context.Context) error {
	q.url = q.Queue
	if !strings.Contains(q.Queue, "://") {
		found, err := q.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &q.Queue})
		if err != nil {
			return fmt.Errorf("lambda: queue %q: %w", q.Queue, err)
		}
		q.url = aws.ToString(found.QueueUrl)
	}
	got, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		return fmt.Errorf("lambda: queue %q: %w", q.Queue, err)
	}
	if q.arn, err = arn.Parse(got.Attributes["QueueArn"]); err != nil {
		return fmt.Errorf("lambda: queue %q: %w", q.Queue, err)
	}
	seconds, err := strconv.Atoi(got.Attributes["VisibilityTimeout"])
	if err != nil {
		return fmt.Errorf("lambda: queue %q: %w", q.Queue, err)
	}
	q.visibility = time.Duration(seconds) * time.Second
	q.fifo = strings.HasSuffix(q.arn.Resource, ".fifo")
	return nil
}

func (q *queue) validate() error {
	timeout, known := timeoutOf(q.fn)
	switch {
	case q.BatchSize < 1 || q.BatchSize > 10_000:
		return fmt.Errorf("lambda: SQS.BatchSize %d: must be from 1 to 10000", q.BatchSize)
	case q.Window < 0 || q.Window > 300*time.Second || q.Window%time.Second != 0:
		return fmt.Errorf("lambda: SQS.Window %s: must be whole seconds up to 300", q.Window)
	case q.fifo && q.BatchSize > 10:
		return fmt.Errorf("lambda: SQS.BatchSize %d: at most 10 of a FIFO queue", q.BatchSize)
	case q.fifo && q.Window > 0:
		return fmt.Errorf("lambda: SQS.Window %s: not of a FIFO queue", q.Window)
	case q.BatchSize > 10 && q.Window < time.Second:
		return fmt.Errorf("lambda: SQS.BatchSize %d: more than 10 need a Window of at least 1s", q.BatchSize)
	case q.MaximumConcurrency != 0 && (q.MaximumConcurrency < 2 || q.MaximumConcurrency > 1000):
		return fmt.Errorf("lambda: SQS.MaximumConcurrency %d: must be from 2 to 1000", q.MaximumConcurrency)
	case known && timeout > q.visibility:
		return fmt.Errorf("lambda: Queue visibility timeout: %s is less than Function timeout: %s", q.visibility, timeout)
	}
	return nil
}

// received is a message with the end of its visibility timeout and its form in an event.
type received struct {
	types.Message
	until  time.Time
	record json.RawMessage
}

// group is the unit of order of a FIFO queue.
func (r received) group() string { return r.Attributes["MessageGroupId"] }

func (q *queue) poll(ctx context.Context) {
	pause := newBackoff(time.Second, 20*time.Second)
	for ctx.Err() == nil {
		batch, err := q.gather(ctx)
		q.process(ctx, batch)
		switch {
		case err == nil:
			pause.reset()
		case ctx.Err() == nil:
			q.log.printf("%s: receive: %v", q.arn.Resource, err)
			sleep(ctx, pause.next())
		}
	}
}

// gather receives a batch. What it has received beside an error counts.
func (q *queue) gather(ctx context.Context) (batch []received, err error) {
	const longest = 20 * time.Second // of a long poll
	wait, full := longest, q.BatchSize
	var end time.Time // of the window, which the first message opens
	for len(batch) < full && wait > 0 && ctx.Err() == nil {
		out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: &q.url, MaxNumberOfMessages: int32(min(10, full-len(batch))), WaitTimeSeconds: int32(wait / time.Second),
			MessageAttributeNames:       []string{"All"},
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if err != nil {
			return batch, err
		}
		now := time.Now()
		for _, m := range out.Messages {
			r := received{Message: m, until: now.Add(q.visibility)}
			if r.record, err = q.record(m); err != nil {
				return batch, err
			}
			batch = append(batch, r)
		}
		if len(batch) == 0 || q.Window == 0 {
			return batch, nil
		}
		if end.IsZero() {
			end = now.Add(q.Window)
		}
		// In whole seconds, rounded up: 0 would be the queue's own default.
		wait = min(longest, (end.Sub(now) + time.Second - 1).Truncate(time.Second))
	}
	return batch, nil
}

// process gives the batch to the function, in parts if it is too large for one event.
func (q *queue) process(ctx context.Context, batch []received) {
	for {
		// What had to wait too long for the parts before it comes back by itself.
		now := time.Now()
		batch = slices.DeleteFunc(batch, func(r received) bool { return !now.Before(r.until) })
		if len(batch) == 0 {
			return
		}
		records := make([]json.RawMessage, len(batch))
		for i := range batch {
			records[i] = batch[i].record
		}
		payload, n := event(records)
		part, rest := batch[:n], batch[n:]
		failed := q.invoke(ctx, part, payload)
		if q.fifo {
			// The rest of a group that failed must not overtake it.
			rest = slices.DeleteFunc(rest, func(r received) bool {
				return slices.ContainsFunc(failed, func(f received) bool { return f.group() == r.group() })
			})
		}
		batch = rest
	}
}

// invoke invokes the function on a batch and deletes what succeeded. It returns what did
// not.
func (q *queue) invoke(ctx context.Context, batch []received, payload []byte) (failed []received) {
	until := slices.MinFunc(batch, func(a, b received) int { return a.until.Compare(b.until) }).until
	response, err := q.Mapping.invoke(ctx, q.fn, payload, until)
	if _, throttled := errors.AsType[*ThrottleError](err); throttled {
		q.log.printf("%s: %d messages not processed: %v", q.arn.Resource, len(batch), err)
		return batch
	}
	var ids []string
	if err == nil && q.ReportBatchItemFailures {
		ids, err = failures(response)
	}
	left := make(map[string]bool, len(ids))
	for _, id := range ids {
		if !slices.ContainsFunc(batch, func(r received) bool { return aws.ToString(r.MessageId) == id }) {
			err = fmt.Errorf("invalid batchItemFailures: %q is not in the batch", id)
		}
		left[id] = true
	}
	done := slices.DeleteFunc(slices.Clone(batch), func(r received) bool { return err != nil || left[aws.ToString(r.MessageId)] })
	failed = slices.DeleteFunc(slices.Clone(batch), func(r received) bool { return err == nil && !left[aws.ToString(r.MessageId)] })
	q.count(func(s *MappingStats) {
		s.Batches++
		s.Records += len(batch)
		s.FailedRecords += len(failed)
		if len(done) == 0 {
			s.FailedBatches++
		}
	})
	switch {
	case err != nil:
		q.log.printf("%s: batch of %d messages failed: %v", q.arn.Resource, len(batch), err)
	case len(failed) > 0:
		q.log.printf("%s: %d of %d messages failed: %s", q.arn.Resource, len(failed), len(batch), strings.Join(slices.Sorted(maps.Keys(left)), " "))
	}
	q.delete(ctx, done)
	return failed
}

func (q *queue) delete(ctx context.Context, done []received) {
	// What the function has done is deleted even if we are asked to end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for chunk := range slices.Chunk(done, 10) {
		in := &sqs.DeleteMessageBatchInput{QueueUrl: &q.url}
		for i, r := range chunk {
			in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: r.ReceiptHandle})
		}
		out, err := q.client.DeleteMessageBatch(ctx, in)
		if err != nil {
			q.log.printf("%s: delete of %d messages: %v", q.arn.Resource, len(chunk), err)
			continue
		}
		for _, f := range out.Failed {
			q.log.printf("%s: delete: %s: %s", q.arn.Resource, aws.ToString(f.Code), aws.ToString(f.Message))
		}
	}
}

// record is the message as it is in Records of the event.
func (q *queue) record(m types.Message) (json.RawMessage, error) {
	type attribute struct {
		StringValue      *string  `json:"stringValue,omitempty"`
		BinaryValue      []byte   `json:"binaryValue,omitempty"`
		StringListValues []string `json:"stringListValues"` // SQS has none yet
		BinaryListValues [][]byte `json:"binaryListValues"`
		DataType         *string  `json:"dataType"`
	}
	attributes := make(map[string]attribute, len(m.MessageAttributes))
	for name, v := range m.MessageAttributes {
		attributes[name] = attribute{v.StringValue, v.BinaryValue, []string{}, [][]byte{}, v.DataType}
	}
	return marshal(struct {
		MessageID         *string              `json:"messageId"`
		ReceiptHandle     *string              `json:"receiptHandle"`
		Body              *string              `json:"body"`
		Attributes        map[string]string    `json:"attributes"`
		MessageAttributes map[string]attribute `json:"messageAttributes"`
		MD5OfAttributes   *string              `json:"md5OfMessageAttributes,omitempty"`
		MD5OfBody         *string              `json:"md5OfBody"`
		EventSource       string               `json:"eventSource"`
		EventSourceARN    string               `json:"eventSourceARN"`
		Region            string               `json:"awsRegion"`
	}{m.MessageId, m.ReceiptHandle, m.Body, m.Attributes, attributes, m.MD5OfMessageAttributes, m.MD5OfBody,
		"aws:sqs", q.arn.String(), q.arn.Region})
}
