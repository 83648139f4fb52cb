package sqs

import (
	"context"
	"crypto/fips140"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// maxLease is how long SQS leaves a message with one receiver, counted from the
// receive, however often the lease is extended.
const maxLease = 12 * time.Hour

// queue is the driver: one queue, one client.
type queue struct {
	client SQS
	name   string
	url    *awskit.Lookup

	order      awskit.Order
	batch      int
	wait       time.Duration
	longest    time.Duration // that a receive waits, if wait leaves it to the queue
	visibility time.Duration // of a receive; never zero
	delay      time.Duration
	maxSize    int

	unwrap    bool
	envelopes []wire.Envelope // that each message has; none: as it is seen to have

	suspects suspects
}

var (
	_ driver.Sender   = (*queue)(nil)
	_ driver.Receiver = (*queue)(nil)
	_ driver.Extender = (*queue)(nil)
	_ driver.Limiter  = (*queue)(nil)
)

// String is in front of errors.
func (q *queue) String() string { return "sqs: queue " + q.name }

// Limits of SQS.
func (q *queue) Limits() driver.Limits {
	return driver.Limits{
		Entries:      q.batch,
		Bytes:        maxRequest,
		Requests:     awskit.MaxRequests,
		Size:         text.Size,
		Check:        q.check,
		Ordered:      q.order.FIFO,
		GroupBatches: q.order.Batches,
		Carry:        wire.Carry,
		Wait:         max(q.wait, q.longest),
	}
}

// once: the kernel's retry is the retry. It knows each entry, the deadline of Close,
// and what is permanent; the SDK would repeat whole requests below it.
func once(o *sqs.Options) {
	o.Retryer = aws.NopRetryer{}
	// The SDK drops a whole answer for one checksum that does not match: checked here,
	// entry by entry.
	o.DisableMessageChecksumValidation = true
}

// Send is SendMessageBatch.
func (q *queue) Send(ctx context.Context, bags []driver.Bag) error {
	url, err := q.url.Get(ctx)
	if err != nil {
		return err
	}
	entries := make([]types.SendMessageBatchRequestEntry, len(bags))
	for i := range bags {
		entries[i] = q.encode(awskit.Index(i), &bags[i])
	}
	out, err := awskit.Answered(q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries}, once))
	if err != nil {
		return q.classify("send", err)
	}
	r := q.results(len(bags))
	refuse(r, out.Failed)
	for _, x := range out.Successful {
		i := r.Position(x.Id)
		if i < 0 {
			continue
		}
		if err := verify(*entries[i].MessageBody, x.MD5OfMessageBody); err != nil {
			// It is in the queue: another attempt would add a copy, or on FIFO confirm it.
			r.Fail(i, err, true)
			continue
		}
		r.Succeed(i)
	}
	return r.Err()
}

// results is for a batch of n.
func (q *queue) results(n int) *awskit.Results {
	r := awskit.NewResults(n)
	r.Who = q.String()
	return r
}

// refuse notes the entries that the service has refused.
func refuse(r *awskit.Results, failed []types.BatchResultErrorEntry) {
	for _, x := range failed {
		r.Refuse(x.Id, x.Code, x.Message, x.SenderFault)
	}
}

// verify compares the checksum of SQS, where it gives one.
func verify(body string, want *string) error {
	if want == nil || fips140.Enforced() { // which forbids MD5
		return nil
	}
	if sum := md5.Sum([]byte(body)); hex.EncodeToString(sum[:]) != *want {
		return errors.New("sqs: body was changed on the way, its checksum does not match")
	}
	return nil
}

// Receive is ReceiveMessage: a long poll. It always says the visibility: the lease is
// then known, whatever somebody does to the queue.
func (q *queue) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	url, err := q.url.Get(ctx)
	if err != nil {
		return nil, err
	}
	max = min(max, q.batch)
	if q.suspects.any() {
		max = 1
	}
	asked := time.Now()
	out, err := awskit.Answered(q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:                    url,
		MaxNumberOfMessages:         int32(max),
		WaitTimeSeconds:             int32(q.wait / time.Second),
		VisibilityTimeout:           seconds(q.visibility),
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	}, once))
	if err != nil {
		return nil, q.classify("receive", err)
	}
	// The lease began when SQS took the messages, which an answer that is late does not
	// tell from a poll that was long: a quarter of it is left for that.
	since := time.Now()
	since = since.Add(-min(since.Sub(asked), q.visibility/4))
	bags := make([]driver.Bag, 0, len(out.Messages))
	for i := range out.Messages {
		bag := q.decode(&out.Messages[i], since)
		q.suspects.came(&bag, q.visibility)
		bags = append(bags, q.open(bag)...)
	}
	return bags, nil
}

// Settle is DeleteMessageBatch for acknowledged messages, ChangeMessageVisibilityBatch
// for the others: two requests when it has both.
func (q *queue) Settle(ctx context.Context, s []driver.Settlement) error {
	var gone []types.DeleteMessageBatchRequestEntry
	var back []types.ChangeMessageVisibilityBatchRequestEntry
	r := q.results(len(s))
	for i := range s {
		l := s[i].Bag.Handle.(*lease)
		outcome, delay, due := l.conclude(&s[i])
		switch {
		case l.receipt == nil:
			r.Fail(i, errReceipt, true)
		case !due:
			r.Succeed(i) // by the last of its message
		case outcome == driver.Ack:
			q.suspects.passed(s[i].Bag)
			gone = append(gone, types.DeleteMessageBatchRequestEntry{Id: awskit.Index(i), ReceiptHandle: l.receipt})
		case outcome == driver.Nack:
			delay = min(delay, left(l.since))
			q.suspects.failed(s[i].Bag, delay, max(q.wait, q.longest))
			back = append(back, l.visible(i, delay))
		default:
			back = append(back, l.visible(i, 0))
		}
	}
	if len(gone)+len(back) == 0 {
		return r.Err()
	}
	url, err := q.url.Get(ctx)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		out, err := awskit.Answered(q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: url, Entries: gone}, once))
		part := r.Part()
		if err == nil {
			refuse(part, out.Failed)
			for _, x := range out.Successful {
				part.Succeed(part.Position(x.Id))
			}
		}
		err = q.classify("delete", err)
		for _, x := range gone {
			r.Take(part, r.Position(x.Id), err)
		}
	}
	q.change(ctx, url, back, r, q.classify)
	return r.Err()
}

var errReceipt = errors.New("sqs: message has no receipt handle")

// Extend is ChangeMessageVisibilityBatch.
func (q *queue) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	url, err := q.url.Get(ctx)
	if err != nil {
		return err
	}
	r := q.results(len(bags))
	var entries []types.ChangeMessageVisibilityBatchRequestEntry
	asked := time.Now()
	first := map[*message]int{} // of the bags of one message
	for i, bag := range bags {
		l := bag.Handle.(*lease)
		if _, also := first[l.message]; also {
			continue
		}
		first[l.message] = i
		switch {
		case l.receipt == nil:
			r.Fail(i, errReceipt, true)
		case l.extendedSince(asked.Add(-min(d/4, time.Second))):
			r.Succeed(i) // for another bag of its message
		case d > left(l.since):
			// Not permanent: the lease it has ends in time.
			r.Fail(i, fmt.Errorf("sqs: a lease lasts %s at most", maxLease), false)
		default:
			entries = append(entries, l.visible(i, d))
		}
	}
	q.change(ctx, url, entries, r, q.named)
	for i, bag := range bags {
		l := bag.Handle.(*lease)
		if j := first[l.message]; j != i {
			r.Same(i, j)
		} else if r.Succeeded(i) {
			l.extend(asked)
			q.suspects.came(bag, d)
		}
	}
	return r.Err()
}

func (q *queue) change(ctx context.Context, url *string, entries []types.ChangeMessageVisibilityBatchRequestEntry, r *awskit.Results, failed func(op string, err error) error) {
	if len(entries) == 0 {
		return
	}
	out, err := awskit.Answered(q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: url, Entries: entries}, once))
	part := r.Part()
	if err == nil {
		refuse(part, out.Failed)
		for _, x := range out.Successful {
			part.Succeed(part.Position(x.Id))
		}
	}
	err = failed("change visibility", err)
	for _, x := range entries {
		r.Take(part, r.Position(x.Id), err)
	}
}

// seconds rounds up: never earlier than was asked.
func seconds(d time.Duration) int32 {
	return int32(math.Ceil(d.Seconds()))
}

// Close has nothing to do: the client is its maker's.
func (q *queue) Close() error { return nil }
