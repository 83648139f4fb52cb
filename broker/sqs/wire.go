package sqs

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// maxRequest is bytes of a message, and of all messages of a request.
const maxRequest = 1 << 20

var (
	stringType = aws.String("String")
	text       = wire.Text{Broker: "sqs", Service: "SQS", System: true}
)

// encode makes the entry of a bag.
func (q *queue) encode(id *string, bag *driver.Bag) types.SendMessageBatchRequestEntry {
	body, plain := text.Body(bag)
	e := types.SendMessageBatchRequestEntry{
		Id:                id,
		MessageBody:       &body,
		DelaySeconds:      int32(q.delay / time.Second),
		MessageAttributes: make(map[string]types.MessageAttributeValue, 3+len(bag.Attrs)),
	}
	for name, value := range text.Attributes(bag, plain) {
		e.MessageAttributes[name] = types.MessageAttributeValue{DataType: stringType, StringValue: aws.String(value)}
	}
	if trace := bag.Attrs[wire.Trace]; trace != "" {
		e.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{
			wire.Trace: {DataType: stringType, StringValue: aws.String(trace)},
		}
	}
	e.MessageGroupId, e.MessageDeduplicationId = q.order.IDs(bag)
	return e
}

// check refuses what SQS would refuse.
func (q *queue) check(bag *driver.Bag) error {
	err := text.Check(bag, q.maxSize, "queue "+q.name)
	if err == nil && q.order.FIFO {
		err = text.CheckOrdered(bag)
	}
	return driver.Permanent(err)
}

// decode makes a bag of a message, which may be anybody's: attributes that are
// missing, or of another type, are as if they were not there.
func (q *queue) decode(m *types.Message, since time.Time) driver.Bag {
	attrs := make(map[string]string, len(m.MessageAttributes))
	for name, value := range m.MessageAttributes {
		if wire.IsText(aws.ToString(value.DataType)) && value.StringValue != nil {
			attrs[name] = *value.StringValue
		}
	}
	bag := driver.Bag{
		ID:     aws.ToString(m.MessageId),
		Body:   []byte(aws.ToString(m.Body)),
		Lease:  since.Add(q.visibility),
		Handle: newLease(m.ReceiptHandle, since),
		Native: *m,
		Err:    verify(aws.ToString(m.Body), m.MD5OfBody),
	}
	received(&bag, m.Attributes, q.order.FIFO, attrs)
	return bag
}

// received fills a bag with what SQS says of a message, and with its attributes.
func received(bag *driver.Bag, system map[string]string, fifo bool, attrs map[string]string) {
	bag.Attempt = number(system, types.MessageSystemAttributeNameApproximateReceiveCount)
	if ms := number(system, types.MessageSystemAttributeNameSentTimestamp); ms > 0 {
		bag.SentAt = time.UnixMilli(int64(ms))
	}
	if fifo {
		bag.Group = system[string(types.MessageSystemAttributeNameMessageGroupId)]
	}
	bag.Dedup = system[string(types.MessageSystemAttributeNameMessageDeduplicationId)]
	if trace := system[wire.Trace]; trace != "" {
		attrs[wire.Trace] = trace
	}
	wire.Read(bag, attrs)
}

// open takes a message out of its envelopes. All that was in it has the message's lease.
func (q *queue) open(bag driver.Bag) []driver.Bag {
	bags := q.inside(bag)
	if q.unwrap {
		bag.Handle.(*lease).share(bags)
	}
	return bags
}

func (q *queue) inside(bag driver.Bag) []driver.Bag {
	switch {
	case !q.unwrap:
		return []driver.Bag{bag}
	case len(q.envelopes) > 0:
		return wire.Unwrap(bag, q.envelopes)
	}
	return wire.Detect(bag)
}

func number(attrs map[string]string, name types.MessageSystemAttributeName) int {
	n, err := strconv.Atoi(attrs[string(name)])
	if err != nil || n < 0 {
		return 0
	}
	return n
}
