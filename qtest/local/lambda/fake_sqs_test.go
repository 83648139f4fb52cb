package lambda_test

import (
	"context"
	"crypto/md5"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// fakeSQS is a queue with visibility timeout, receive count, long poll, redrive and, if
// its name ends in .fifo, order in groups. All of its time is virtual in a bubble.
type fakeSQS struct {
	name       string
	visibility time.Duration
	maxReceive int // 0: no dead-letter queue

	mu       sync.Mutex
	messages []*fakeMessage
	dead     []string
	changed  chan struct{} // closed when a message was sent
	receives int
	requests []int // MaxNumberOfMessages
	waits    []int // WaitTimeSeconds
	fail     error // of the next receive
	refuse   bool  // deletes
}

type fakeMessage struct {
	id, handle, body, group string
	attributes              map[string]types.MessageAttributeValue
	count                   int
	visible                 time.Time
}

func newFakeSQS(name string, visibility time.Duration) *fakeSQS {
	return &fakeSQS{name: name, visibility: visibility, changed: make(chan struct{})}
}

func (q *fakeSQS) fifo() bool { return strings.HasSuffix(q.name, ".fifo") }

// send puts messages of a group, whose ids are their bodies.
func (q *fakeSQS) send(group string, bodies ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, body := range bodies {
		id := body
		if len(id) > 100 {
			id = fmt.Sprintf("large-%d", len(q.messages))
		}
		q.messages = append(q.messages, &fakeMessage{id: id, body: body, group: group, visible: time.Now()})
	}
	close(q.changed)
	q.changed = make(chan struct{})
}

// left are the ids that were not deleted.
func (q *fakeSQS) left() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := []string{}
	for _, m := range q.messages {
		ids = append(ids, m.id)
	}
	return ids
}

func (q *fakeSQS) GetQueueUrl(_ context.Context, in *sqs.GetQueueUrlInput, _ ...func(*sqs.Options)) (*sqs.GetQueueUrlOutput, error) {
	if aws.ToString(in.QueueName) != q.name {
		return nil, &types.QueueDoesNotExist{}
	}
	return &sqs.GetQueueUrlOutput{QueueUrl: aws.String("http://sqs/000000000000/" + q.name)}, nil
}

func (q *fakeSQS) GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error) {
	return &sqs.GetQueueAttributesOutput{Attributes: map[string]string{
		"QueueArn": "arn:aws:sqs:eu-west-1:000000000000:" + q.name, "VisibilityTimeout": fmt.Sprint(int(q.visibility.Seconds()))}}, nil
}

func (q *fakeSQS) ReceiveMessage(ctx context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	end := time.Now().Add(time.Duration(in.WaitTimeSeconds) * time.Second)
	q.mu.Lock()
	q.receives++
	q.requests, q.waits = append(q.requests, int(in.MaxNumberOfMessages)), append(q.waits, int(in.WaitTimeSeconds))
	q.mu.Unlock()
	for {
		q.mu.Lock()
		if err := q.fail; err != nil {
			q.fail = nil
			q.mu.Unlock()
			return nil, err
		}
		now := time.Now()
		out, soonest := q.take(now, int(in.MaxNumberOfMessages)), end
		for _, m := range q.messages {
			if m.visible.After(now) && m.visible.Before(soonest) {
				soonest = m.visible
			}
		}
		changed := q.changed
		q.mu.Unlock()
		if len(out) > 0 || !now.Before(end) {
			return &sqs.ReceiveMessageOutput{Messages: out}, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-time.After(time.Until(soonest)):
		}
	}
}

func (q *fakeSQS) take(now time.Time, most int) (out []types.Message) {
	locked := map[string]bool{}
	for _, m := range q.messages {
		if m.visible.After(now) {
			locked[m.group] = true
		}
	}
	for _, m := range slices.Clone(q.messages) {
		if m.visible.After(now) || q.fifo() && locked[m.group] || len(out) == most {
			continue
		}
		if m.count++; q.maxReceive > 0 && m.count > q.maxReceive {
			q.dead = append(q.dead, m.id)
			q.messages = slices.DeleteFunc(q.messages, func(o *fakeMessage) bool { return o == m })
			continue
		}
		m.visible, m.handle = now.Add(q.visibility), fmt.Sprintf("%s#%d", m.id, m.count)
		system := map[string]string{"ApproximateReceiveCount": fmt.Sprint(m.count), "SentTimestamp": "1"}
		if m.group != "" {
			system["MessageGroupId"] = m.group
		}
		out = append(out, types.Message{MessageId: &m.id, ReceiptHandle: aws.String(m.handle), Body: &m.body, Attributes: system,
			MessageAttributes: m.attributes, MD5OfBody: aws.String(fmt.Sprintf("%x", md5.Sum([]byte(m.body))))})
	}
	return out
}

func (q *fakeSQS) DeleteMessageBatch(_ context.Context, in *sqs.DeleteMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := &sqs.DeleteMessageBatchOutput{}
	if len(in.Entries) == 0 || len(in.Entries) > 10 {
		return nil, &types.TooManyEntriesInBatchRequest{}
	}
	for _, e := range in.Entries {
		before := len(q.messages)
		q.messages = slices.DeleteFunc(q.messages, func(m *fakeMessage) bool { return m.handle == *e.ReceiptHandle && !q.refuse })
		if len(q.messages) == before {
			out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, Code: aws.String("ReceiptHandleIsInvalid")})
		}
	}
	return out, nil
}
