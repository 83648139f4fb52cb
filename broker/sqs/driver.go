package sqs

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/core/driver"
)

const (
	// maxLease is how long SQS leaves a message with one receiver, counted from the
	// receive, however often the lease is extended.
	maxLease = 12 * time.Hour

	// maxFatal is how often in a row a receive may fail for good before the kernel
	// ends: permissions and new queues need a moment to be known everywhere.
	maxFatal = 3
)

// queue is the driver: one queue, one client.
type queue struct {
	client SQS
	source *source

	name       string
	fifo       bool
	fair       bool // group ids on a standard queue
	groups     bool // batches within a group
	batch      int
	requests   int
	wait       time.Duration
	visibility time.Duration // of a receive; never zero
	explicit   bool          // visibility is sent, since it is not the queue's own
	delay      time.Duration
	maxSize    int

	fatal atomic.Int32
}

var (
	_ driver.Sender   = (*queue)(nil)
	_ driver.Receiver = (*queue)(nil)
	_ driver.Extender = (*queue)(nil)
	_ driver.Limiter  = (*queue)(nil)
)

// Limits of SQS.
func (q *queue) Limits() driver.Limits {
	return driver.Limits{
		Entries:      q.batch,
		Bytes:        maxRequest,
		Requests:     q.requests,
		Size:         size,
		Check:        q.check,
		Ordered:      q.fifo,
		GroupBatches: q.groups,
		Wait:         q.wait,
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

// indices are the ids of entries: their position.
var indices = func() (ids [10]string) {
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	return ids
}()

// position reads the id of an entry; -1 when it is none of n.
func position(id *string, n int) int {
	i, err := strconv.Atoi(aws.ToString(id))
	if err != nil || i < 0 || i >= n {
		return -1
	}
	return i
}

// Send is SendMessageBatch.
func (q *queue) Send(ctx context.Context, bags []driver.Bag) error {
	url, err := q.source.url(ctx)
	if err != nil {
		return err
	}
	entries := make([]types.SendMessageBatchRequestEntry, len(bags))
	for i := range bags {
		entries[i] = q.encode(indices[i], &bags[i])
	}
	out, err := q.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: url, Entries: entries}, once)
	if err != nil {
		return classify("send", err)
	}
	r := newResults(len(bags))
	r.failed(out.Failed)
	for _, x := range out.Successful {
		i := position(x.Id, len(bags))
		if i < 0 {
			continue
		}
		if err := verify(*entries[i].MessageBody, x.MD5OfMessageBody); err != nil {
			r.fail(driver.Failure{Index: i, Err: err})
			continue
		}
		r.succeed(i)
	}
	return r.err()
}

// verify compares the checksum of SQS, where it gives one.
func verify(body string, want *string) error {
	if want == nil {
		return nil
	}
	if sum := md5.Sum([]byte(body)); hex.EncodeToString(sum[:]) != *want {
		return errors.New("sqs: body was changed on the way, its checksum does not match")
	}
	return nil
}

// Receive is ReceiveMessage: a long poll.
func (q *queue) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	url, err := q.source.url(ctx)
	if err != nil {
		return nil, q.tolerate(err)
	}
	in := &sqs.ReceiveMessageInput{
		QueueUrl:                    url,
		MaxNumberOfMessages:         int32(min(max, q.batch)),
		WaitTimeSeconds:             int32(q.wait / time.Second),
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	}
	if q.explicit {
		in.VisibilityTimeout = seconds(q.visibility)
	}
	out, err := q.client.ReceiveMessage(ctx, in, once)
	if err != nil {
		return nil, q.tolerate(classify("receive", err))
	}
	q.fatal.Store(0)
	now := time.Now()
	bags := make([]driver.Bag, len(out.Messages))
	for i := range out.Messages {
		bags[i] = q.decode(&out.Messages[i], now)
	}
	return bags, nil
}

// tolerate takes the mark of a permanent error off, until it has come too often in a
// row.
func (q *queue) tolerate(err error) error {
	if !driver.IsPermanent(err) || q.fatal.Add(1) >= maxFatal {
		return err
	}
	return fmt.Errorf("%s (attempt %d of %d)", err, q.fatal.Load(), maxFatal)
}

// Settle is DeleteMessageBatch for acknowledged messages, ChangeMessageVisibilityBatch
// for the others: two requests when it has both.
func (q *queue) Settle(ctx context.Context, s []driver.Settlement) error {
	var gone []types.DeleteMessageBatchRequestEntry
	var back []types.ChangeMessageVisibilityBatchRequestEntry
	r := newResults(len(s))
	for i := range s {
		l := s[i].Bag.Handle.(*lease)
		id := aws.String(indices[i])
		switch s[i].Outcome {
		case driver.Ack:
			gone = append(gone, types.DeleteMessageBatchRequestEntry{Id: id, ReceiptHandle: l.receipt})
		case driver.Nack:
			back = append(back, types.ChangeMessageVisibilityBatchRequestEntry{Id: id, ReceiptHandle: l.receipt, VisibilityTimeout: l.within(s[i].Delay)})
		default:
			back = append(back, types.ChangeMessageVisibilityBatchRequestEntry{Id: id, ReceiptHandle: l.receipt})
		}
	}
	url, err := q.source.url(ctx)
	if err != nil {
		return err
	}
	if len(gone) > 0 {
		out, err := q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: url, Entries: gone}, once)
		if err != nil {
			for _, x := range gone {
				r.whole(x.Id, classify("delete", err))
			}
		} else {
			r.failed(out.Failed)
			for _, x := range out.Successful {
				r.succeed(position(x.Id, len(s)))
			}
		}
	}
	q.change(ctx, url, back, r)
	return r.err()
}

// Extend is ChangeMessageVisibilityBatch.
func (q *queue) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	url, err := q.source.url(ctx)
	if err != nil {
		return err
	}
	r := newResults(len(bags))
	var entries []types.ChangeMessageVisibilityBatchRequestEntry
	for i, bag := range bags {
		l := bag.Handle.(*lease)
		v := l.within(d)
		if v == 0 {
			r.fail(driver.Failure{Index: i, Err: fmt.Errorf("sqs: a lease lasts %s at most", maxLease), Permanent: true})
			continue
		}
		entries = append(entries, types.ChangeMessageVisibilityBatchRequestEntry{Id: aws.String(indices[i]), ReceiptHandle: l.receipt, VisibilityTimeout: v})
	}
	q.change(ctx, url, entries, r)
	return r.err()
}

func (q *queue) change(ctx context.Context, url *string, entries []types.ChangeMessageVisibilityBatchRequestEntry, r *results) {
	if len(entries) == 0 {
		return
	}
	out, err := q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: url, Entries: entries}, once)
	if err != nil {
		for _, x := range entries {
			r.whole(x.Id, classify("change visibility", err))
		}
		return
	}
	r.failed(out.Failed)
	for _, x := range out.Successful {
		r.succeed(position(x.Id, len(r.done)))
	}
}

// within is d in seconds, so that the lease does not exceed what SQS allows.
func (l *lease) within(d time.Duration) int32 {
	left := maxLease - time.Since(l.since) - time.Second
	return seconds(max(0, min(d, left)))
}

// seconds rounds up: never earlier than was asked.
func seconds(d time.Duration) int32 {
	return int32(math.Ceil(d.Seconds()))
}

// Close has nothing to do: the client is its maker's.
func (q *queue) Close() error { return nil }

// results gathers what became of the entries of a batch. What the service does not
// mention has failed.
type results struct {
	done     []bool
	failures []driver.Failure
}

func newResults(n int) *results { return &results{done: make([]bool, n)} }

func (r *results) succeed(i int) {
	if i >= 0 {
		r.done[i] = true
	}
}

func (r *results) fail(f driver.Failure) {
	if !r.done[f.Index] {
		r.done[f.Index] = true
		r.failures = append(r.failures, f)
	}
}

func (r *results) whole(id *string, err error) {
	r.fail(driver.Failure{Index: position(id, len(r.done)), Err: err, Permanent: driver.IsPermanent(err)})
}

func (r *results) failed(entries []types.BatchResultErrorEntry) {
	for _, x := range entries {
		if i := position(x.Id, len(r.done)); i >= 0 {
			r.fail(entryFailure(i, x))
		}
	}
}

var errSilent = errors.New("sqs: the service does not mention the entry")

func (r *results) err() error {
	for i, done := range r.done {
		if !done {
			r.failures = append(r.failures, driver.Failure{Index: i, Err: errSilent})
		}
	}
	if len(r.failures) == 0 {
		return nil
	}
	return &driver.BatchError{Failed: r.failures}
}
