package sqs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/qtest"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/broker/sqs"
)

// foreign sends bodies as another program would: without attributes.
func (s *stub) foreign(t *testing.T, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if _, code := s.do(t.Context(), "SendMessageBatch", map[string]any{"Entries": []any{map[string]any{"Id": "0", "MessageBody": body}}}, awstest.Fault{}); code != "" {
			t.Fatal(code)
		}
	}
}

func unwrapping(t *testing.T, s *stub, errs chan<- error, layers ...sqs.Envelope) *kernel.Listener {
	t.Helper()
	opts := []swarm.Option{quiet, swarm.WithRetryConstant(time.Millisecond, 12)}
	if errs != nil {
		opts = append(opts, swarm.WithStdErr(errs))
	}
	q, err := sqs.Listener().WithConfig(s.Config()).WithWaitTime(time.Second).WithUnwrap(layers...).WithKernel(opts...).Build(s.name())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func s3Notification(keys ...string) string {
	var records []string
	for _, key := range keys {
		records = append(records, fmt.Sprintf(`{"eventSource":"aws:s3","eventTime":"2026-11-24T10:00:00Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"photos"},"object":{"key":%q}}}`, key))
	}
	return `{"Records":[` + strings.Join(records, ",") + `]}`
}

// object is what these tests read of a record.
type object struct {
	S3 struct{ Object struct{ Key string } } `json:"s3"`
}

func objects(q *kernel.Listener) (<-chan swarm.Msg[object], chan<- swarm.Msg[object]) {
	return listen.Typed[object](q, listen.Category("S3EventRecord"))
}

// One message of SQS with several records goes when each of them was acknowledged.
func TestAMessageIsDeletedWhenAllItsRecordsAre(t *testing.T) {
	s := newStub(t)
	q := unwrapping(t, s, nil, sqs.S3)
	deq, ack := objects(q)
	s.foreign(t, s3Notification("a", "b", "c"), `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"photos"}`, s3Notification("d"))
	go q.Run(t.Context())
	seen := map[string]swarm.Msg[object]{}
	for range 4 {
		msg := <-deq
		if native, ok := msg.IOContext.(types.Message); !ok || !strings.Contains(*native.Body, "Records") {
			t.Errorf("IOContext is %T", msg.IOContext)
		}
		if want := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC); !msg.SentAt.Equal(want) || !strings.Contains(msg.ID, "photos") || msg.Attempt != 1 {
			t.Errorf("got %s at %s, attempt %d", msg.ID, msg.SentAt, msg.Attempt)
		}
		seen[msg.Object.S3.Object.Key] = msg
	}
	ack <- seen["a"]
	ack <- seen["d"]
	ack <- seen["c"]
	eventually(t, "the messages of d and of the test are deleted", func() bool { return s.left() == 1 })
	ack <- seen["b"]
	eventually(t, "the last one is deleted", func() bool { return s.left() == 0 })
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if n := s.Count("ChangeMessageVisibilityBatch"); n != 0 {
		t.Errorf("%d changes of visibility", n)
	}
}

// A nack of one record returns the message: once, and when all its records are settled.
func TestANackOfOneRecordReturnsTheMessage(t *testing.T) {
	s := newStub(t)
	q := unwrapping(t, s, nil, sqs.S3)
	deq, ack := objects(q)
	s.foreign(t, s3Notification("a", "b", "c"))
	go q.Run(t.Context())
	var all []swarm.Msg[object]
	for range 3 {
		all = append(all, <-deq)
	}
	ack <- all[0]
	ack <- all[1].Fail(errors.New("not today"))
	if s.left() != 1 || s.Count("ChangeMessageVisibilityBatch") != 0 {
		t.Error("SQS was told before all records were settled")
	}
	ack <- all[2]
	for range 3 {
		msg := <-deq
		if msg.Attempt != 2 {
			t.Errorf("%s: attempt %d", msg.ID, msg.Attempt)
		}
		ack <- msg
	}
	eventually(t, "the message is deleted", func() bool { return s.left() == 0 })
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if n, m := s.Count("ChangeMessageVisibilityBatch"), s.Count("DeleteMessageBatch"); n != 1 || m != 1 {
		t.Errorf("%d changes of visibility and %d deletes, want 1 and 1", n, m)
	}
}

// panicky is a client of the user that panics in its first delete.
type panicky struct {
	*awssqs.Client
	calls atomic.Int32
}

func (p *panicky) DeleteMessageBatch(ctx context.Context, in *awssqs.DeleteMessageBatchInput, opts ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	if p.calls.Add(1) == 1 {
		panic("once")
	}
	return p.Client.DeleteMessageBatch(ctx, in, opts...)
}

// A record that is settled by two attempts of a request counts once for its message.
func TestARecordIsConcludedOnce(t *testing.T) {
	s := newStub(t)
	q, err := sqs.Listener().WithService(&panicky{Client: awssqs.NewFromConfig(s.Config())}).WithWaitTime(time.Second).WithUnwrap(sqs.S3).
		WithKernel(quiet, swarm.WithRetryConstant(time.Millisecond, 5)).Build(s.name())
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := objects(q)
	s.foreign(t, s3Notification("a", "b", "c"), s3Notification("d"))
	go q.Run(t.Context())
	seen := map[string]swarm.Msg[object]{}
	for range 4 {
		msg := <-deq
		seen[msg.Object.S3.Object.Key] = msg
	}
	settled := func(n int64) func() bool {
		return func() bool { s := q.Stats(); return s.Listen["S3EventRecord"].Acked == n && s.Settling == 0 }
	}
	ack <- seen["a"] // in one request with d, which fails
	ack <- seen["d"]
	eventually(t, "a and d are settled", settled(2))
	ack <- seen["c"]
	eventually(t, "c is settled", settled(3))
	if s.left() != 1 {
		t.Error("the message is deleted, and its record b is not settled yet")
	}
	ack <- seen["b"].Fail(errors.New("boom"))
	q.Close()
	if s.left() != 1 {
		t.Error("record b has failed, and its message is gone")
	}
}

// A request that fails is made again: no record is forgotten.
func TestSettlingRecordsSurvivesFaults(t *testing.T) {
	s := newStub(t)
	s.Fault = func(op string, n int) awstest.Fault {
		if (op == "DeleteMessageBatch" || op == "ChangeMessageVisibilityBatch") && n <= 2 {
			return awstest.Fault{Status: 500, Code: "InternalError"}
		}
		return awstest.Fault{}
	}
	q := unwrapping(t, s, nil, sqs.S3)
	deq, ack := objects(q)
	s.foreign(t, s3Notification("a", "b"), s3Notification("c", "d"))
	go q.Run(t.Context())
	failed := false
	for range 6 { // a and b once, c and d twice
		msg := <-deq
		if !failed && msg.Object.S3.Object.Key == "c" {
			failed = true
			ack <- msg.Fail(errors.New("not today"))
			continue
		}
		ack <- msg
	}
	eventually(t, "all is deleted", func() bool { return s.left() == 0 })
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// Many more records than a batch has are one message, under one lease that is extended by
// one request.
func TestManyRecordsHaveOneLease(t *testing.T) {
	s := newStub(t)
	keys := make([]string, 500)
	for i := range keys {
		keys[i] = strconv.Itoa(i)
	}
	s.foreign(t, s3Notification(keys...))
	q, err := sqs.Connect(s.name(), sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second).WithUnwrap())
	if err != nil {
		t.Fatal(err)
	}
	bags, err := q.(driver.Receiver).Receive(t.Context(), 10)
	if err != nil || len(bags) != 500 {
		t.Fatalf("got %d, %v", len(bags), err)
	}
	for i := 0; i < len(bags); i += 10 {
		var some []*driver.Bag
		for j := range bags[i : i+10] {
			some = append(some, &bags[i+j])
		}
		if err := q.(driver.Extender).Extend(t.Context(), some, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.Count("ChangeMessageVisibilityBatch"); n != 1 {
		t.Errorf("%d requests to extend one lease", n)
	}
	var settle []driver.Settlement
	for i := range bags {
		settle = append(settle, driver.Settlement{Bag: &bags[i], Outcome: driver.Ack})
		if len(settle) == 10 {
			if err := q.(driver.Receiver).Settle(t.Context(), settle); err != nil {
				t.Fatal(err)
			}
			settle = settle[:0]
		}
	}
	if n := s.Count("DeleteMessageBatch"); n != 1 || s.left() != 0 {
		t.Errorf("%d requests to delete, %d left", n, s.left())
	}
}

// An extension that SQS refuses is refused for each record of the message.
func TestALostLeaseIsLostForAllRecords(t *testing.T) {
	s := newStub(t)
	s.foreign(t, s3Notification("a", "b"))
	q, err := sqs.Connect(s.name(), sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second).WithUnwrap(sqs.S3))
	if err != nil {
		t.Fatal(err)
	}
	bags, err := q.(driver.Receiver).Receive(t.Context(), 10)
	if err != nil || len(bags) != 2 {
		t.Fatalf("got %d, %v", len(bags), err)
	}
	s.mu.Lock()
	s.messages[0].receipt = "somebody else's"
	s.mu.Unlock()
	err = q.(driver.Extender).Extend(t.Context(), []*driver.Bag{&bags[0], &bags[1]}, time.Minute)
	if partial, ok := errors.AsType[*driver.BatchError](err); !ok || len(partial.Failed) != 2 || !partial.Failed[0].Permanent || !partial.Failed[1].Permanent {
		t.Errorf("got %v", err)
	}
}

// What is not in the envelope that all messages should have is refused, and named; in
// automatic mode it is what it is.
func TestUnwrapOfSomethingElse(t *testing.T) {
	s := newStub(t)
	errs := make(chan error, 10)
	q := unwrapping(t, s, errs, sqs.SNS, sqs.S3)
	deq, ack := objects(q)
	s.foreign(t, `{"Type":"Notification","Message":"hello"}`, `{"Type":"Notification","Message":`+strconv.Quote(s3Notification("a"))+`}`)
	go q.Run(t.Context())
	ack <- <-deq
	if err := <-errs; !strings.Contains(err.Error(), "envelope of S3") {
		t.Errorf("got %v", err)
	}
	_ = q.Close()

	s = newStub(t)
	auto, err := sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second).WithUnwrap().WithKernel(quiet, swarm.WithDefaultCategory("Plain")).Build(s.name())
	if err != nil {
		t.Fatal(err)
	}
	plainDeq, plainAck := listen.Bytes(auto, codec.Bytes("Plain"))
	noteDeq, noteAck := listen.Typed[Note](auto)
	s.foreign(t, `hello`,
		`{"version":"0","id":"e","detail-type":"Note","source":"me","account":"1","time":"2026-11-24T10:00:00Z","region":"x","resources":[],"detail":{"id":7}}`)
	go auto.Run(t.Context())
	if msg := <-plainDeq; string(msg.Object) != "hello" {
		t.Errorf("got %q", msg.Object)
	} else {
		plainAck <- msg
	}
	if msg := <-noteDeq; msg.Object.ID != 7 || msg.ID != "e" {
		t.Errorf("got %+v", msg)
	} else {
		noteAck <- msg
	}
	if err := auto.Close(); err != nil {
		t.Error(err)
	}
}

func TestEnvelopesThatNobodyNests(t *testing.T) {
	for _, bad := range [][]sqs.Envelope{{sqs.S3, sqs.SNS}, {sqs.SNS, sqs.SNS}, {0}, {sqs.EventBridge, sqs.SNS}} {
		_, err := sqs.Listener().WithUnwrap(bad...).WithLazy().Build("queue")
		if err == nil || !strings.Contains(err.Error(), "WithUnwrap") || !strings.Contains(err.Error(), bad[0].String()) {
			t.Errorf("%v: got %v", bad, err)
		}
	}
}

// listenOnly is a driver with its Send hidden. What it receives as a packet it unpacks, as
// a channel does.
type listenOnly struct {
	io.Closer
	driver.Receiver
	driver.Extender
	driver.Limiter
}

func (d listenOnly) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	bags, err := d.Receiver.Receive(ctx, max)
	for i := range bags {
		if bags[i].Binary {
			bags[i].Body = codec.Unpack(bags[i].Body)
		}
	}
	return bags, err
}

func TestConformanceOfEnvelopes(t *testing.T) {
	t.Parallel()
	const visibility = 5 * time.Second
	cfg := cloud(t)
	attribute := func(value string) map[string]string { return map[string]string{"Type": "String", "Value": value} }
	for _, x := range []struct {
		layer sqs.Envelope
		wrap  func(*driver.Bag) any
	}{
		{sqs.SNS, func(bag *driver.Bag) any {
			attrs := map[string]any{}
			for name, value := range bag.Attrs {
				attrs[name] = attribute(value)
			}
			if bag.Category != "" {
				attrs["Category"] = attribute(bag.Category)
			}
			if bag.Source != "" {
				attrs["Source"] = attribute(bag.Source)
			}
			body := string(bag.Body)
			if !wire.Printable(body) {
				body = base64.StdEncoding.EncodeToString(bag.Body)
				attrs["Encoding"] = attribute("base64")
			}
			return map[string]any{"Type": "Notification", "MessageId": bag.ID, "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": body,
				"Timestamp": time.Now().UTC(), "MessageAttributes": attrs}
		}},
		{sqs.EventBridge, func(bag *driver.Bag) any {
			detail := json.RawMessage(bag.Body)
			if bag.Binary {
				detail = codec.Pack(bag.Body)
			}
			return map[string]any{"version": "0", "id": bag.ID, "detail-type": bag.Category, "source": bag.Source, "account": "1",
				"time": time.Now().UTC().Truncate(time.Second), "region": "us-east-1", "resources": []string{}, "detail": detail}
		}},
	} {
		t.Run(x.layer.String(), func(t *testing.T) {
			t.Parallel()
			open := func(t qtest.T) qtest.Queue {
				name, url := create(t, cfg, false, map[string]string{"VisibilityTimeout": strconv.Itoa(int(visibility.Seconds()))})
				client := awssqs.NewFromConfig(cfg)
				return qtest.Queue{
					Connect: func() (io.Closer, error) {
						d, err := sqs.Connect(name, sqs.Endpoint().WithConfig(cfg).WithWaitTime(2*time.Second).WithUnwrap(x.layer))
						if err != nil {
							return nil, err
						}
						return listenOnly{d, d.(driver.Receiver), d.(driver.Extender), d.(driver.Limiter)}, nil
					},
					Inject: func(ctx context.Context, bags []driver.Bag) error {
						for i := range bags {
							body, err := json.Marshal(x.wrap(&bags[i]))
							if err == nil {
								_, err = client.SendMessage(ctx, &awssqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(string(body))})
							}
							if err != nil {
								return err
							}
						}
						return nil
					},
				}
			}
			features := qtest.Features{
				ListenOnly: true,
				Visibility: visibility, Extend: true, Delay: true, Attempts: true,
				KeepSource: true, KeepID: true, SentAt: true, Foreign: x.layer == sqs.SNS, MaxSize: 500_000,
				Slack: 1500 * time.Millisecond, Parallel: true, Messages: 100,
			}
			if x.layer == sqs.SNS {
				features.Attributes, features.AttributeSize = 7, 1000
			}
			report := qtest.Run(t, open, features)
			t.Logf("%d cases passed", len(report.Names(qtest.Passed)))
		})
	}
}

// Several services read one queue: each record of a notification is settled once, by
// whoever has the message.
func TestRecordsAmongSeveralConsumers(t *testing.T) {
	s := newStub(t)
	const messages, each = 40, 5
	for i := range messages {
		var keys []string
		for j := range each {
			keys = append(keys, fmt.Sprint(i, "-", j))
		}
		s.foreign(t, s3Notification(keys...))
	}
	var mu sync.Mutex
	acked := map[string]int{}
	var all sync.WaitGroup
	var kernels []*kernel.Listener
	for range 2 {
		q := unwrapping(t, s, nil, sqs.S3)
		kernels = append(kernels, q)
		deq, ack := objects(q)
		for range 4 {
			all.Go(func() {
				for msg := range deq {
					mu.Lock()
					key := msg.Object.S3.Object.Key
					acked[key]++
					again := acked[key] == 1 && strings.HasSuffix(key, "-3") && len(key)%2 == 0
					mu.Unlock()
					if again {
						ack <- msg.Fail(errors.New("once"))
						continue
					}
					ack <- msg
				}
			})
		}
		go q.Run(t.Context())
	}
	eventually(t, "all are deleted", func() bool { return s.left() == 0 })
	for _, q := range kernels {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	if len(acked) != messages*each {
		t.Errorf("%d records seen, want %d", len(acked), messages*each)
	}
}
