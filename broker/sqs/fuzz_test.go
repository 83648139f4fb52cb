package sqs

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// Age makes the delivery of a bag older, for tests of the limit of 12 h.
func Age(bag *driver.Bag, d time.Duration) {
	l := bag.Handle.(*lease)
	l.message.since = l.message.since.Add(-d)
}

// FuzzDecode: whatever a message has, decode does not panic; and what check accepts
// comes back as it was.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("body"), "Note", "me", "k", "v", "String", "1", "1700000000000", "Root=1-5759e988-bd862e3fe1be46a994272793", uint8(0), false)
	f.Add([]byte("\xff\x00"), "Note", "", "Encoding", "base64", "Binary", "-1", "x", "", uint8(255), true)
	f.Add([]byte("aGVsbG8="), "A", "", "Encoding", "base64", "String.base64", "99999999999999999999", "9223372036854775807", "", uint8(6), true)
	f.Add([]byte("x"), "A", "b", "Category", "B", "Number.int", "", "", "t", uint8(1), false)
	f.Add([]byte("x"), "A", "b", "Source", "B", ".", "1", "1", "\x00", uint8(2), true)
	f.Fuzz(func(t *testing.T, body []byte, category, source, name, value, kind, attempt, sent, trace string, mask uint8, fifo bool) {
		q := &queue{name: "q", order: awskit.Order{FIFO: fifo}, maxSize: maxRequest, visibility: 30 * time.Second}
		now := time.Now()

		// A message of anybody: each field may be missing.
		m := types.Message{
			Attributes: map[string]string{"ApproximateReceiveCount": attempt, "SentTimestamp": sent, "MessageGroupId": source, "MessageDeduplicationId": value, wire.Trace: trace},
			MessageAttributes: map[string]types.MessageAttributeValue{
				wire.Category: {DataType: &kind, StringValue: &category, BinaryValue: body},
				wire.Source:   {StringValue: &source},
				wire.Encoding: {DataType: &kind, StringValue: &value},
				name:          {DataType: &kind, BinaryValue: body, StringListValues: []string{value}},
			},
		}
		if mask&1 == 0 {
			m.Body = aws.String(string(body))
		}
		if mask&2 == 0 {
			m.MD5OfBody = &value
		}
		if mask&4 == 0 {
			m.MessageId, m.ReceiptHandle = &name, &source
		}
		if mask&8 == 0 {
			m.Attributes = nil
		}
		if mask&16 == 0 {
			m.MessageAttributes = nil
		}
		if got := q.decode(&m, now); got.Attempt < 0 || got.Handle == nil || !got.Lease.Equal(now.Add(q.visibility)) {
			t.Errorf("got %+v", got)
		}

		// A message of ours.
		bag := driver.Bag{ID: "id", Category: category, Source: source, Body: slices.Clone(body), Group: "g"}
		if name != "" {
			bag.Attrs = map[string]string{name: value}
		}
		if mask&32 == 0 && trace != "" {
			if bag.Attrs == nil {
				bag.Attrs = map[string]string{}
			}
			bag.Attrs[wire.Trace] = trace
		}
		if q.check(&bag) != nil {
			return
		}
		e := q.encode(aws.String("0"), &bag)
		n := len(*e.MessageBody)
		for name, a := range e.MessageAttributes {
			n += len(name) + len(*a.DataType) + len(*a.StringValue)
			if *a.StringValue == "" || !wire.Printable(*a.StringValue) {
				t.Errorf("attribute %q goes out as %q", name, *a.StringValue)
			}
		}
		if n != text.Size(&bag) {
			t.Errorf("size %d, want %d", text.Size(&bag), n)
		}
		if *e.MessageBody == "" || !wire.Printable(*e.MessageBody) || len(e.MessageAttributes) > wire.MaxAttributes {
			t.Errorf("goes out as %+v", e)
		}
		for name, a := range e.MessageSystemAttributes {
			if !wire.Printable(*a.StringValue) {
				t.Errorf("system attribute %s goes out as %q", name, *a.StringValue)
			}
		}
		in := types.Message{Body: e.MessageBody, MessageAttributes: e.MessageAttributes, Attributes: map[string]string{}}
		for name, a := range e.MessageSystemAttributes {
			in.Attributes[name] = *a.StringValue
		}
		got := q.decode(&in, now)
		if got.Err != nil || !slices.Equal(got.Body, body) || got.Category != category || got.Source != source || !maps.Equal(got.Attrs, bag.Attrs) {
			t.Errorf("sent %q %q %q %q, got %q %q %q %q, %v", body, category, source, bag.Attrs, got.Body, got.Category, got.Source, got.Attrs, got.Err)
		}
		for _, id := range []string{wire.Token(category), wire.Token(value), wire.Token(strings.Repeat(name, 3))} {
			if len(id) > wire.MaxID {
				t.Errorf("token %q is too long", id)
			}
		}
	})
}
