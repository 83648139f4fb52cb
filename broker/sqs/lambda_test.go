package sqs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sqs"
)

const queueARN = "arn:aws:sqs:eu-west-1:123456789012:queue"

// mapped is a function that a test invokes as an event source mapping does.
type mapped struct {
	*testing.T
	q       *kernel.Listener
	handler chan lambda.Handler
	errs    chan error
}

func function(t *testing.T, b *sqs.Builder[*kernel.Listener], opts ...swarm.Option) *mapped {
	t.Helper()
	f := &mapped{T: t, handler: make(chan lambda.Handler, 1), errs: make(chan error, 100)}
	var err error
	f.q, err = sqs.Function("", b.WithKernel(append([]swarm.Option{quiet, swarm.WithStdErr(f.errs), swarm.WithBarrier(swarm.NewBarrier())}, opts...)...), f.handler)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// invoke returns the ids that failed.
func (f *mapped) invoke(payload []byte) ([]string, error) {
	f.Helper()
	h := <-f.handler
	f.handler <- h
	//lint:ignore SA1029 the key of the runtime
	ctx, cancel := context.WithTimeout(context.WithValue(f.Context(), "x-amzn-trace-id", "Root=1"), 10*time.Second)
	defer cancel()
	given := bytes.Clone(payload)
	out, err := h.Invoke(ctx, given)
	clear(given) // the client of the runtime uses its buffer again
	if err != nil {
		return nil, err
	}
	var answer events.SQSEventResponse
	if err := json.Unmarshal(out, &answer); err != nil {
		f.Errorf("answer %s: %v", out, err)
	}
	var failed []string
	for _, x := range answer.BatchItemFailures {
		failed = append(failed, x.ItemIdentifier)
	}
	return failed, nil
}

func (f *mapped) close() {
	f.Helper()
	if err := f.q.Close(); err != nil {
		f.Errorf("close: %v", err)
	}
}

func event(messages ...map[string]any) []byte {
	for i, m := range messages {
		for name, value := range map[string]any{
			"messageId": fmt.Sprint("m", i), "receiptHandle": fmt.Sprint("r", i), "eventSource": "aws:sqs", "eventSourceARN": queueARN, "awsRegion": "eu-west-1",
			"attributes": map[string]string{"ApproximateReceiveCount": "2", "SentTimestamp": "1700000000000"},
		} {
			if _, own := m[name]; !own {
				m[name] = value
			}
		}
	}
	b, _ := json.Marshal(map[string]any{"Records": messages})
	return b
}

func ofCategory(category, body string) map[string]any {
	return map[string]any{"body": body, "messageAttributes": attributesOf("Category", category)}
}

func attributesOf(pairs ...string) map[string]any {
	attrs := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		attrs[pairs[i]] = map[string]any{"stringValue": pairs[i+1], "dataType": "String"}
	}
	return attrs
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: failed %v, want %v", what, got, want)
	}
}

func TestLambdaAnswersExactlyTheFailedOnes(t *testing.T) {
	f := function(t, sqs.Listener())
	deq, ack := listen.Typed[Note](f.q)
	images, ackImages := listen.Bytes(f.q, codec.Bytes("Image"))
	go func() {
		for msg := range deq {
			if msg.Attempt != 2 || msg.SentAt.UnixMilli() != 1700000000000 || msg.Context().Value("x-amzn-trace-id") != "Root=1" {
				t.Errorf("got %+v", msg)
			}
			if native, ok := msg.IOContext.(events.SQSMessage); !ok || native.MessageId != msg.ID {
				t.Errorf("IOContext is %T", msg.IOContext)
			}
			if msg.Object.ID == 1 {
				ack <- msg.Fail(errors.New("boom"))
				continue
			}
			ack <- msg
		}
	}()
	var seen []string
	go func() {
		for msg := range images {
			seen = append(seen, string(msg.Object))
			ackImages <- msg
		}
	}()
	go f.q.Run(context.Background())

	encoded := ofCategory("Image", "/wA=")
	encoded["messageAttributes"] = attributesOf("Category", "Image", "Encoding", "base64")
	torn := ofCategory("Image", "?")
	torn["messageAttributes"] = attributesOf("Category", "Image", "Encoding", "base64")
	binary := ofCategory("", `{"id":7}`)
	binary["messageAttributes"] = map[string]any{"Category": map[string]any{"binaryValue": "AAA=", "dataType": "Binary"}}
	garbled := map[string]any{"body": "x", "messageAttributes": map[string]any{"Category": map[string]any{"binaryValue": "?", "dataType": "Binary"}}}
	failed, err := f.invoke(event(
		ofCategory("Note", `{"id":0}`), ofCategory("Note", `{"id":1}`), encoded, torn, // 0 to 3
		binary, garbled, ofCategory("Unknown", "x"), ofCategory("Note", "{"), ofCategory("Note", `{"id":8}`), // 4 to 8; RX7, LB8, LB9
	))
	if err != nil {
		t.Error(err)
	}
	same(t, "mixed", failed, "m1", "m3", "m4", "m5", "m6", "m7")
	failed, err = f.invoke([]byte(`{"Records":[]}`))
	if err != nil || len(failed) != 0 {
		t.Errorf("empty batch: %v, %v", failed, err)
	}
	for _, bad := range []string{"", "null", "7", "{}", `{"Records":7}`, `{"Records":[{}]}`, `{"Records":["x"]}`, `{"version":"0","detail-type":"x","detail":{}}`} {
		if failed, err := f.invoke([]byte(bad)); err == nil || !strings.Contains(err.Error(), "SQS") {
			t.Errorf("%s: %v, %v", bad, failed, err)
		}
	}
	f.close()
	if len(seen) != 1 || seen[0] != "\xff\x00" {
		t.Errorf("images %q", seen)
	}
	if _, err := f.invoke(event(ofCategory("Note", `{"id":0}`))); !errors.Is(err, swarm.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What comes has the order of its groups, whatever the queue that an endpoint sends to.
func TestLambdaFIFO(t *testing.T) {
	s := newStub(t)
	handler := make(chan lambda.Handler, 1)
	opts := []swarm.Option{quiet, swarm.WithBarrier(swarm.NewBarrier())}
	listener, err := sqs.Function("", sqs.Listener().WithKernel(opts...), handler)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := sqs.Function("replies", sqs.Endpoint().WithConfig(s.Config()).WithKernel(opts...), handler)
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]interface {
		listen.Listener
		Run(context.Context) error
		Close() error
	}{"listener": listener, "endpoint of a standard queue": endpoint} {
		t.Run(name, func(t *testing.T) {
			deq, ack := listen.Typed[Note](q)
			var order []int
			go func() {
				for msg := range deq {
					order = append(order, msg.Object.ID)
					if msg.Object.ID == 2 {
						ack <- msg.Fail(errors.New("boom"))
						continue
					}
					ack <- msg
				}
			}()
			go q.Run(context.Background())
			var all []map[string]any
			for i := range 8 {
				m := ofCategory("Note", fmt.Sprintf(`{"id":%d}`, i))
				m["eventSourceARN"] = queueARN + ".fifo"
				m["attributes"] = map[string]string{"MessageGroupId": []string{"a", "b"}[i%2], "ApproximateReceiveCount": "1"}
				all = append(all, m)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			answer, err := (<-handler).Invoke(ctx, event(all...))
			if want := `{"batchItemFailures":[{"itemIdentifier":"m2"},{"itemIdentifier":"m4"},{"itemIdentifier":"m6"}]}`; err != nil || string(answer) != want {
				t.Errorf("group a from 2 on fails: got %s, %v", answer, err)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			var b []int
			for _, id := range order {
				if id%2 == 1 {
					b = append(b, id)
				} else if id > 2 {
					t.Errorf("%d was handed over, behind one of its group that failed", id)
				}
			}
			if !slices.Equal(b, []int{1, 3, 5, 7}) {
				t.Errorf("order of b: %v", b)
			}
		})
	}
}

func TestLambdaEnvelopes(t *testing.T) {
	f := function(t, sqs.Listener().WithUnwrap(sqs.S3))
	deq, ack := objects(f.q)
	go func() {
		for msg := range deq {
			if msg.Object.S3.Object.Key == "bad" {
				ack <- msg.Fail(errors.New("boom"))
				continue
			}
			ack <- msg
		}
	}()
	go f.q.Run(context.Background())
	failed, err := f.invoke(event(
		map[string]any{"body": s3Notification("a", "bad", "c")},
		map[string]any{"body": s3Notification("a", "b")},
		map[string]any{"body": `{"Service":"Amazon S3","Event":"s3:TestEvent"}`},
		map[string]any{"body": "hello"},
	))
	if err != nil {
		t.Error(err)
	}
	same(t, "envelopes", failed, "m0", "m3")
	f.close()
}

// RetryAfter tells SQS when the message may come back; without permission the queue
// decides.
func TestLambdaRetryAfter(t *testing.T) {
	for _, denied := range []bool{false, true} {
		t.Run(fmt.Sprint("denied ", denied), func(t *testing.T) {
			s := newStub(t)
			var mu sync.Mutex
			asked := map[string]float64{}
			s.Fault = func(op string, _ int) awstest.Fault {
				if denied && op == "ChangeMessageVisibilityBatch" {
					return awstest.Fault{Status: 403, Code: "AccessDeniedException"}
				}
				return awstest.Fault{}
			}
			s.watch = func(op string, in map[string]any) {
				if op != "ChangeMessageVisibilityBatch" {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				for _, x := range in["Entries"].([]any) {
					e := x.(map[string]any)
					asked[e["ReceiptHandle"].(string)], _ = e["VisibilityTimeout"].(float64)
				}
			}
			f := function(t, sqs.Listener().WithConfig(s.Config()))
			deq, ack := listen.Typed[Note](f.q)
			go func() {
				for msg := range deq {
					switch msg.Object.ID {
					case 0:
						ack <- msg.Fail(errors.New("boom"))
					case 1:
						ack <- msg.Fail(swarm.RetryAfter(90*time.Second, errors.New("boom")))
					case 3:
						ack <- msg.Fail(swarm.RetryAfter(12*time.Hour, errors.New("boom")))
					default:
						ack <- msg
					}
				}
			}()
			go f.q.Run(context.Background())
			failed, err := f.invoke(event(ofCategory("Note", `{"id":0}`), ofCategory("Note", `{"id":1}`), ofCategory("Note", `{"id":2}`), ofCategory("Note", `{"id":3}`)))
			if err != nil {
				t.Error(err)
			}
			same(t, "failed", failed, "m0", "m1", "m3")
			f.close()
			if !denied && (len(asked) != 2 || asked["r1"] != 90) {
				t.Errorf("changed the visibility of %v", asked)
			}
			// SQS takes 12 h since it was received, up to 5 min before: by the window of the mapping.
			if longest := (12*time.Hour - 5*time.Minute).Seconds(); !denied && (asked["r3"] > longest || asked["r3"] < longest-60) {
				t.Errorf("RetryAfter of 12 h is %v s", asked["r3"])
			}
		})
	}
}

// In a function the builder asks nothing, and a listener needs no name.
func TestBuildInLambda(t *testing.T) {
	s := newStub(t)
	if _, err := sqs.Listener().WithConfig(s.Config()).Build(""); err == nil {
		t.Error("a service builds without a name")
	}
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
	if _, err := sqs.Listener().WithConfig(s.Config()).Build(""); err != nil {
		t.Error(err)
	}
	if _, err := sqs.Endpoint().WithConfig(s.Config()).Build(""); err == nil {
		t.Error("an endpoint builds without a name")
	}
	for _, build := range []func() error{
		func() error { _, err := sqs.Endpoint().WithConfig(s.Config()).Build("queue"); return err },
		func() error { _, err := sqs.Emitter().WithConfig(s.Config()).Build("queue"); return err },
	} {
		if err := build(); err != nil {
			t.Error(err)
		}
	}
	if n := s.Count("GetQueueUrl", "GetQueueAttributes"); n != 0 {
		t.Errorf("%d requests", n)
	}
	q, err := sqs.Listener().WithConfig(s.Config()).WithPoller().Build("queue")
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[Note](q)
	s.foreignNote(t, 7)
	go q.Run(t.Context())
	msg := <-deq
	ack <- msg
	eventually(t, "the poller has deleted it", func() bool { return s.left() == 0 })
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func (s *stub) foreignNote(t *testing.T, id int) {
	t.Helper()
	_, code := s.do(t.Context(), "SendMessageBatch", map[string]any{"Entries": []any{map[string]any{"Id": "0", "MessageBody": fmt.Sprintf(`{"id":%d}`, id),
		"MessageAttributes": map[string]any{"Category": map[string]any{"DataType": "String", "StringValue": "Note"}}}}}, awstest.Fault{})
	if code != "" {
		t.Fatal(code)
	}
}

func FuzzLambdaEvent(f *testing.F) {
	f.Add(event(ofCategory("Note", `{"id":0}`)))
	f.Add([]byte(`{"Records":[{"messageId":"x","messageAttributes":{"Category":{"dataType":"Binary","binaryValue":"?"}}}]}`))
	f.Add([]byte(`{"Records":[{"messageId":7}]}`))
	var all []func([]byte) ([]driver.Bag, error)
	for _, b := range []*sqs.Builder[*kernel.Listener]{sqs.Listener(), sqs.Listener().WithUnwrap(), sqs.Listener().WithUnwrap(sqs.SNS, sqs.S3)} {
		all = append(all, sqs.Open(b))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, open := range all {
			bags, err := open(payload)
			if err == nil && len(bags) == 0 && !bytes.Contains(payload, []byte("Records")) {
				t.Fatalf("%q is taken for an empty event", payload)
			}
			for _, bag := range bags {
				if bag.Handle == nil {
					t.Fatalf("%q: a message without a token", payload)
				}
			}
		}
	})
}
