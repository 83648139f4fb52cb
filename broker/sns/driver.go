package sns

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

const (
	usualSize  = 256 << 10 // bytes of a message, and of a request, where the topic says nothing
	maxSubject = 100       // characters
)

var (
	stringType = aws.String("String")
	text       = wire.Text{Broker: "sns", Service: "SNS"}
)

// topic is the driver: one topic, one client.
type topic struct {
	client  SNS
	name    string
	arn     *awskit.Lookup
	order   awskit.Order
	subject string
	batch   int
	maxSize int
}

var (
	_ driver.Sender  = (*topic)(nil)
	_ driver.Limiter = (*topic)(nil)
)

// String is in front of errors.
func (t *topic) String() string { return "sns: topic " + t.name }

// Limits of SNS.
func (t *topic) Limits() driver.Limits {
	return driver.Limits{
		Entries:      t.batch,
		Bytes:        t.maxSize,
		Requests:     awskit.MaxRequests,
		Size:         t.size,
		Check:        t.check,
		Ordered:      t.order.FIFO,
		GroupBatches: t.order.Batches,
		Carry:        wire.Carry,
	}
}

// once: the kernel's retry is the retry. It knows each entry, the deadline of Close, and
// what is permanent; the SDK would repeat whole requests below it.
func once(o *sns.Options) { o.Retryer = aws.NopRetryer{} }

// Send is PublishBatch.
func (t *topic) Send(ctx context.Context, bags []driver.Bag) error {
	arn, err := t.arn.Get(ctx)
	if err != nil {
		return err
	}
	entries := make([]types.PublishBatchRequestEntry, len(bags))
	for i := range bags {
		entries[i] = t.encode(awskit.Index(i), &bags[i])
	}
	out, err := awskit.Answered(t.client.PublishBatch(ctx, &sns.PublishBatchInput{TopicArn: arn, PublishBatchRequestEntries: entries}, once))
	if err != nil {
		return t.classify("publish", err)
	}
	r := awskit.NewResults(len(bags))
	r.Who = t.String()
	for _, x := range out.Failed {
		r.Refuse(x.Id, x.Code, x.Message, x.SenderFault)
	}
	for _, x := range out.Successful {
		r.Succeed(r.Position(x.Id))
	}
	return r.Err()
}

// encode makes the entry of a bag.
func (t *topic) encode(id *string, bag *driver.Bag) types.PublishBatchRequestEntry {
	body, plain := text.Body(bag)
	e := types.PublishBatchRequestEntry{
		Id:                id,
		Message:           &body,
		MessageAttributes: make(map[string]types.MessageAttributeValue, 3+len(bag.Attrs)),
	}
	for name, value := range text.Attributes(bag, plain) {
		e.MessageAttributes[name] = types.MessageAttributeValue{DataType: stringType, StringValue: aws.String(value)}
	}
	if t.subject != "" {
		e.Subject = &t.subject
	}
	e.MessageGroupId, e.MessageDeduplicationId = t.order.IDs(bag)
	return e
}

// size counts the subject too: nobody says whether SNS does, and a request that is too
// long fails all its messages.
func (t *topic) size(bag *driver.Bag) int { return text.Size(bag) + len(t.subject) }

// check refuses what SNS would refuse, by which one bad entry fails the others of its
// request.
func (t *topic) check(bag *driver.Bag) error {
	err := text.Check(bag, t.maxSize-len(t.subject), "topic "+t.name)
	if err == nil && t.order.FIFO {
		err = text.CheckOrdered(bag)
	}
	return driver.Permanent(err)
}

// Close has nothing to do: the client is its maker's.
func (t *topic) Close() error { return nil }
