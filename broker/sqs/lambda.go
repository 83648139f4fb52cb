package sqs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// function is the driver in a function that an event source mapping invokes with messages
// of the queue. The mapping receives, deletes and leases; of the queue it still sends.
type function struct {
	*queue
	lambdakit.Function
	log   *slog.Logger
	limit time.Duration // of a look-up

	others sync.Map // queues that it is mapped to, by ARN
	denied sync.Once
}

var _ driver.Runner = (*function)(nil)

func newFunction(q *queue, cfg swarm.Config) *function {
	f := &function{queue: q, log: cfg.Logger, limit: cfg.NetworkTimeout}
	f.Function = lambdakit.Function{Open: f.receive, Answer: f.answer}
	return f
}

// Close has nothing to do.
func (f *function) Close() error { return nil }

// longestWindow is for how long a mapping gathers messages at most, and a little for their way.
// https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
const longestWindow = 5*time.Minute + 10*time.Second

// record is the token of a message that was in an event.
type record struct {
	events.SQSMessage
	since time.Time // when it was received, at the earliest: SQS counts 12 h from there
}

// receive reads an event. A message that cannot be read fails alone, as long as it has an
// id to name in the answer.
func (f *function) receive(payload []byte) ([]driver.Bag, error) {
	raw, err := wire.Records(payload, "SQS")
	if err != nil {
		return nil, fmt.Errorf("sqs: %w", err)
	}
	var bags []driver.Bag
	since := time.Now().Add(-longestWindow)
	for i := range raw {
		m := &record{since: since}
		err := json.Unmarshal(raw[i], &m.SQSMessage)
		if err != nil {
			m.SQSMessage = events.SQSMessage{}
			var id struct{ MessageID string }
			_ = json.Unmarshal(raw[i], &id)
			m.MessageId = id.MessageID
			err = fmt.Errorf("not a message of SQS: %w", err)
		}
		if m.MessageId == "" {
			return nil, errors.New("sqs: not an event of SQS: a record has no messageId")
		}
		bag := f.bag(m)
		bag.Err = errors.Join(bag.Err, err)
		bags = append(bags, f.inside(bag)...)
	}
	return bags, nil
}

func (f *function) bag(m *record) driver.Bag {
	attrs := make(map[string]string, len(m.MessageAttributes))
	for name, value := range m.MessageAttributes {
		if wire.IsText(value.DataType) && value.StringValue != nil {
			attrs[name] = *value.StringValue
		}
	}
	bag := driver.Bag{
		ID:     m.MessageId,
		Body:   []byte(m.Body),
		Handle: m,
		Native: m.SQSMessage,
	}
	received(&bag, m.Attributes, awskit.IsFIFO(m.EventSourceARN), attrs)
	return bag
}

// answer names the messages that are to be delivered again. Where the consumer has said
// when, SQS is told; else the visibility timeout of the queue decides.
func (f *function) answer(ctx context.Context, s []driver.Settlement, err error) ([]byte, error) {
	var out events.SQSEventResponse
	failed := map[*record]*driver.Settlement{}
	for i := range s {
		m := s[i].Bag.Handle.(*record)
		if s[i].Outcome == driver.Ack && err == nil {
			continue
		}
		other, again := failed[m]
		if !again {
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
		if !again || retryAfter(&s[i]) != nil && retryAfter(other) == nil {
			failed[m] = &s[i]
		}
	}
	if err != nil && len(s) == 0 {
		return nil, err
	}
	if err != nil {
		f.log.Error("swarm: sqs: all messages of an invocation failed", "err", err)
	}
	f.postpone(ctx, failed)
	return json.Marshal(out)
}

func retryAfter(s *driver.Settlement) *swarm.RetryAfterError {
	later, _ := errors.AsType[*swarm.RetryAfterError](s.Err)
	return later
}

// postpone tells SQS when messages may come back, if the consumer did say, and if the
// function may.
func (f *function) postpone(ctx context.Context, failed map[*record]*driver.Settlement) {
	byQueue := map[string][]types.ChangeMessageVisibilityBatchRequestEntry{}
	for m, s := range failed {
		if later := retryAfter(s); later != nil && m.ReceiptHandle != "" {
			d := max(0, min(later.Delay, left(m.since)))
			byQueue[m.EventSourceARN] = append(byQueue[m.EventSourceARN], types.ChangeMessageVisibilityBatchRequestEntry{
				ReceiptHandle: aws.String(m.ReceiptHandle), VisibilityTimeout: seconds(d),
			})
		}
	}
	if len(byQueue) == 0 {
		return
	}
	// It is a favour: the answer waits for it half of the time that is left, at most.
	limit := f.limit
	if at, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(at)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for queue, entries := range byQueue {
		err := f.change(ctx, queue, entries)
		switch {
		case awskit.Denied(err):
			f.denied.Do(func() {
				f.log.Warn("swarm: sqs: RetryAfter has no effect without permission for sqs:ChangeMessageVisibility and sqs:GetQueueUrl", "queue", queue, "err", err)
			})
		case err != nil:
			f.log.Warn("swarm: sqs: messages come back when the queue says, not RetryAfter", "queue", queue, "err", err)
		}
	}
}

func (f *function) change(ctx context.Context, arn string, entries []types.ChangeMessageVisibilityBatchRequestEntry) error {
	ref, _, err := parse(arn)
	if err == nil && f.client == nil {
		err = errors.New("no client: is AWS_REGION set?")
	}
	if err != nil {
		return err
	}
	other, _ := f.others.LoadOrStore(arn, newQueue(f.client, ref, "", f.limit))
	q := other.(*queue)
	url, err := q.url.Get(ctx)
	if err != nil {
		return err
	}
	for len(entries) > 0 {
		n := min(len(entries), awskit.MaxEntries)
		for i := range entries[:n] {
			entries[i].Id = awskit.Index(i)
		}
		r := q.results(n)
		q.change(ctx, url, entries[:n], r, q.classify)
		if err := r.Err(); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}
