package sqs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sqs"
)

// fake is a client of the stub that can be told to answer otherwise.
type fake struct {
	sqs.SQS
	attributes func(*awssqs.GetQueueAttributesInput) (*awssqs.GetQueueAttributesOutput, error)
	receive    func(context.Context, *awssqs.ReceiveMessageInput) (*awssqs.ReceiveMessageOutput, error)
	remove     func(*awssqs.DeleteMessageBatchInput) (*awssqs.DeleteMessageBatchOutput, error)
	change     func(*awssqs.ChangeMessageVisibilityBatchInput) (*awssqs.ChangeMessageVisibilityBatchOutput, error)
}

func newFake(s *stub) *fake { return &fake{SQS: awssqs.NewFromConfig(s.Config())} }

func (f *fake) GetQueueAttributes(ctx context.Context, in *awssqs.GetQueueAttributesInput, opts ...func(*awssqs.Options)) (*awssqs.GetQueueAttributesOutput, error) {
	if f.attributes != nil {
		return f.attributes(in)
	}
	return f.SQS.GetQueueAttributes(ctx, in, opts...)
}

func (f *fake) ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, opts ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	if f.receive != nil {
		return f.receive(ctx, in)
	}
	return f.SQS.ReceiveMessage(ctx, in, opts...)
}

func (f *fake) DeleteMessageBatch(ctx context.Context, in *awssqs.DeleteMessageBatchInput, opts ...func(*awssqs.Options)) (*awssqs.DeleteMessageBatchOutput, error) {
	if f.remove != nil {
		return f.remove(in)
	}
	return f.SQS.DeleteMessageBatch(ctx, in, opts...)
}

func (f *fake) ChangeMessageVisibilityBatch(ctx context.Context, in *awssqs.ChangeMessageVisibilityBatchInput, opts ...func(*awssqs.Options)) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
	if f.change != nil {
		return f.change(in)
	}
	return f.SQS.ChangeMessageVisibilityBatch(ctx, in, opts...)
}

// bare is the driver without a kernel.
type bare interface {
	io.Closer
	driver.Sender
	driver.Receiver
	driver.Extender
	driver.Limiter
}

func bareQueue(t *testing.T, s *stub, b *sqs.Builder[*kernel.Endpoint]) bare {
	t.Helper()
	q, err := sqs.Connect(s.name(), b)
	if err != nil {
		t.Fatal(err)
	}
	return q.(bare)
}

func (s *stub) with(bodies ...string) *stub {
	for i, body := range bodies {
		s.messages = append(s.messages, &record{id: fmt.Sprint("m", i), body: body, sent: time.Now()})
	}
	return s
}

// SQS answers InvalidAttributeName, "Unknown Attribute FifoQueue", when a standard queue
// is asked for it (aws/aws-sdk-ruby#1350, confirmed by AWS): Build fails there always.
func TestAttackBuildAsksAStandardQueueForNoFIFOAttribute(t *testing.T) {
	s := newStub(t)
	f := newFake(s)
	f.attributes = func(in *awssqs.GetQueueAttributesInput) (*awssqs.GetQueueAttributesOutput, error) {
		if slices.Contains(in.AttributeNames, types.QueueAttributeNameFifoQueue) {
			return nil, &types.InvalidAttributeName{Message: aws.String("Unknown Attribute FifoQueue.")}
		}
		return &awssqs.GetQueueAttributesOutput{}, nil
	}
	q, err := sqs.Endpoint().WithService(f).WithKernel(quiet).Build("queue")
	if err != nil {
		t.Fatal(err)
	}
	q.Close()
}

// WithWaitTime(0) leaves the wait to the queue; but the kernel is told that there is
// none, and cuts each receive of an idle queue off.
func TestAttackAWaitThatIsTheQueuesIsNoFailure(t *testing.T) {
	s := newStub(t)
	s.attrs["ReceiveMessageWaitTimeSeconds"] = "1"
	f := newFake(s)
	f.receive = func(ctx context.Context, in *awssqs.ReceiveMessageInput) (*awssqs.ReceiveMessageOutput, error) {
		if in.WaitTimeSeconds == 0 {
			in.WaitTimeSeconds = 1 // as the queue does
		}
		return f.SQS.ReceiveMessage(ctx, in)
	}
	stderr := make(chan error, 100)
	q, err := sqs.Listener().WithService(f).WithWaitTime(0).
		WithKernel(quiet, swarm.WithStdErr(stderr), swarm.WithNetworkTimeout(300*time.Millisecond)).Build("queue")
	if err != nil {
		t.Fatal(err)
	}
	listen.Typed[Note](q)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if err := q.Run(ctx); err != nil {
		t.Error(err)
	}
	select {
	case err := <-stderr:
		t.Errorf("an idle queue is reported as a failure: %v", err)
	default:
	}
}

// What check accepts comes back as it was; attributes of the user must not pass for
// those of the driver.
func TestAttackAttributesOfTheUserDoNotPassForTheDrivers(t *testing.T) {
	for _, name := range []string{"Encoding", "Category", "Source"} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t)
			q := bareQueue(t, s, sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second))
			bag := driver.Bag{ID: "1", Category: "Note", Source: "me", Body: []byte("aGVsbG8="), Attrs: map[string]string{name: "base64"}}
			if q.Limits().Check(&bag) != nil {
				return // refused: good
			}
			if err := q.Send(t.Context(), []driver.Bag{bag}); err != nil {
				t.Fatal(err)
			}
			got, err := q.Receive(t.Context(), 1)
			if err != nil || len(got) != 1 {
				t.Fatal(err)
			}
			if x := got[0]; string(x.Body) != "aGVsbG8=" || x.Category != "Note" || x.Source != "me" {
				t.Errorf("got body %q, category %q, source %q", x.Body, x.Category, x.Source)
			}
		})
	}
}

// A trace header that SQS does not carry is refused before the call, like any attribute.
func TestAttackATraceHeaderThatSQSDoesNotCarryIsRefused(t *testing.T) {
	s := newStub(t)
	q := bareQueue(t, s, sqs.Endpoint().WithConfig(s.Config()))
	for _, trace := range []string{"Root=1\x00", "\xff"} {
		if err := q.Limits().Check(&driver.Bag{Category: "C", Body: []byte("x"), Attrs: map[string]string{"AWSTraceHeader": trace}}); err == nil {
			t.Errorf("%q is accepted", trace)
		}
	}
}

// A look-up that is denied for lack of permission is a warning; keys that are wrong are
// not a lack of permission, and nothing will ever work.
func TestAttackBuildFailsWithWrongCredentials(t *testing.T) {
	for _, code := range []string{"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch"} {
		s := newStub(t)
		s.Fault = func(string, int) awstest.Fault { return awstest.Fault{Status: 403, Code: code} }
		q, err := sqs.Emitter().WithConfig(s.Config()).WithKernel(quiet).Build(s.URL() + "/123456789012/queue")
		if err == nil {
			t.Errorf("%s: built", code)
			q.Close()
		}
	}
}

// The number of tries is of a poller: one failed try of each of several pollers, at the
// same moment, is not "three in a row".
func TestAttackPollersDoNotUseUpEachOthersTries(t *testing.T) {
	const pollers = 4
	s := newStub(t)
	var all sync.WaitGroup
	all.Add(pollers)
	s.Fault = func(op string, n int) awstest.Fault {
		if op == "ReceiveMessage" && n <= pollers {
			all.Done()
			all.Wait()
			return awstest.Fault{Status: 400, Code: "AccessDeniedException"}
		}
		return awstest.Fault{}
	}
	q := endpoint(t, s, swarm.WithPollerPool(pollers))
	listen.Typed[Note](q)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := q.Run(ctx); err != nil || s.Count("ReceiveMessage") <= pollers {
		t.Errorf("ended after one try of each poller: %v, %d receives", err, s.Count("ReceiveMessage"))
	}
}

// Extend sets the lease to end after d from now. What cannot be had of 12 h must not be
// confirmed: the kernel believes in the lease while somebody else has the message.
func TestAttackExtendDoesNotConfirmMoreThanSQSGrants(t *testing.T) {
	s := newStub(t).with("x")
	f := newFake(s)
	var granted int32
	f.change = func(in *awssqs.ChangeMessageVisibilityBatchInput) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
		granted = in.Entries[0].VisibilityTimeout
		return f.SQS.ChangeMessageVisibilityBatch(t.Context(), in)
	}
	q := bareQueue(t, s, sqs.Endpoint().WithService(f).WithWaitTime(time.Second).WithVisibility(time.Hour))
	bags, err := q.Receive(t.Context(), 1)
	if err != nil || len(bags) != 1 {
		t.Fatal(err)
	}
	sqs.Age(&bags[0], 12*time.Hour-time.Minute)
	if err := q.Extend(t.Context(), []*driver.Bag{&bags[0]}, time.Hour); err == nil && granted < 3600 {
		t.Errorf("asked for 1h, confirmed it, and set %d s", granted)
	}
}

// The lease is what SQS gives, also when somebody has changed the queue since Build.
func TestAttackTheLeaseIsTheOneSQSGives(t *testing.T) {
	s := newStub(t).with("x")
	q := bareQueue(t, s, sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second))
	s.attrs["VisibilityTimeout"] = "2"
	bags, err := q.Receive(t.Context(), 1)
	if err != nil || len(bags) != 1 {
		t.Fatal(err)
	}
	if over := bags[0].Lease.Sub(s.messages[0].visible); over > time.Second {
		t.Errorf("the lease is thought to last %s longer than it does", over.Round(time.Second))
	}
}

// One message without a receipt must not keep the others of its request from being
// settled.
func TestAttackAMessageWithoutReceiptSpoilsNoOther(t *testing.T) {
	s := newStub(t).with("x", "y")
	f := newFake(s)
	f.receive = func(ctx context.Context, in *awssqs.ReceiveMessageInput) (*awssqs.ReceiveMessageOutput, error) {
		out, err := f.SQS.ReceiveMessage(ctx, in)
		if err == nil && len(out.Messages) > 0 {
			out.Messages[0].ReceiptHandle = nil
		}
		return out, err
	}
	q := bareQueue(t, s, sqs.Endpoint().WithService(f).WithWaitTime(time.Second))
	bags, err := q.Receive(t.Context(), 10)
	if err != nil || len(bags) != 2 {
		t.Fatal(err)
	}
	err = q.Settle(t.Context(), []driver.Settlement{{Bag: &bags[0], Outcome: driver.Ack}, {Bag: &bags[1], Outcome: driver.Ack}})
	if s.left() != 1 {
		t.Errorf("%d messages left, want the one without receipt: %v", s.left(), err)
	}
}

// An answer counts for the entries of its own request only.
func TestAttackAnAnswerNamesAnEntryOfTheOtherRequest(t *testing.T) {
	s := newStub(t).with("x", "y")
	f := newFake(s)
	f.remove = func(in *awssqs.DeleteMessageBatchInput) (*awssqs.DeleteMessageBatchOutput, error) {
		return &awssqs.DeleteMessageBatchOutput{Successful: []types.DeleteMessageBatchResultEntry{{Id: aws.String("0")}, {Id: aws.String("1")}}}, nil
	}
	f.change = func(*awssqs.ChangeMessageVisibilityBatchInput) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
		return nil, errors.New("outage")
	}
	q := bareQueue(t, s, sqs.Endpoint().WithService(f).WithWaitTime(time.Second))
	bags, err := q.Receive(t.Context(), 10)
	if err != nil || len(bags) != 2 {
		t.Fatal(err)
	}
	if err := q.Settle(t.Context(), []driver.Settlement{{Bag: &bags[0], Outcome: driver.Ack}, {Bag: &bags[1], Outcome: driver.Nack}}); err == nil {
		t.Error("a nack that failed is confirmed")
	}
}

// A client that answers nothing fails Build, and does not end the process.
func TestAttackBuildSurvivesAClientThatAnswersNothing(t *testing.T) {
	s := newStub(t)
	f := newFake(s)
	f.attributes = func(*awssqs.GetQueueAttributesInput) (*awssqs.GetQueueAttributesOutput, error) { return nil, nil }
	for name, client := range map[string]sqs.SQS{"no answer": f, "nil pointer": (*awssqs.Client)(nil)} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("Build panics: %v", p)
				}
			}()
			if q, err := sqs.Emitter().WithService(client).WithKernel(quiet).Build("queue"); err == nil {
				q.Close()
			}
		})
	}
}

// A look-up that hangs for a poller, who has NetworkTimeout and the long poll, must not
// keep senders from theirs.
func TestAttackALazyLookUpThatHangsOnceFailsNoSend(t *testing.T) {
	s := newStub(t)
	hung := make(chan struct{})
	s.Fault = func(op string, n int) awstest.Fault {
		if op == "GetQueueUrl" && n == 1 {
			close(hung)
			return awstest.Fault{Hang: true}
		}
		return awstest.Fault{}
	}
	q, err := sqs.Endpoint().WithConfig(s.Config()).WithLazy().
		WithKernel(quiet, swarm.WithNetworkTimeout(200*time.Millisecond), swarm.WithRetryConstant(time.Millisecond, 12)).Build("queue")
	if err != nil {
		t.Fatal(err)
	}
	listen.Typed[Note](q)
	go q.Run(t.Context())
	<-hung
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil {
		t.Errorf("%v; look-ups: %d", err, s.Count("GetQueueUrl"))
	}
	q.Close()
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r) }

// The SDK learns the skew of the clock from an answer, and the next attempt succeeds: a
// signature that does not match is worth one.
func TestAttackAClockThatIsOffIsNotPermanent(t *testing.T) {
	for _, code := range []string{"SignatureDoesNotMatch", "AccessDeniedException"} {
		s := newStub(t)
		cfg := s.Config()
		skewed := 0
		cfg.HTTPClient = transport(func(r *http.Request) (*http.Response, error) {
			server := time.Now().Add(time.Hour).UTC()
			header := http.Header{"Date": {server.Format(http.TimeFormat)}, "Content-Type": {"application/x-amz-json-1.0"}}
			at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
			if err != nil || server.Sub(at) > 15*time.Minute {
				skewed++
				return &http.Response{StatusCode: 403, Header: header, Request: r,
					Body: io.NopCloser(strings.NewReader(`{"__type":"com.amazon.coral.service#` + code + `"}`))}, nil
			}
			out, err := http.DefaultClient.Do(r)
			if err == nil {
				out.Header.Set("Date", header.Get("Date"))
			}
			return out, err
		})
		q, err := sqs.Emitter().WithConfig(cfg).WithLazy().WithKernel(quiet).Build(s.URL() + "/123456789012/queue")
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		one := emit.NewBytes(q, codec.Bytes("X"))
		first := one.Enq(t.Context(), []byte("x"))
		second := one.Enq(t.Context(), []byte("y"))
		if first != nil {
			t.Errorf("%v; the next: %v; %d requests were skewed", first, second, skewed)
		}
	}
}

// Who waited in vain reads that it was a timeout.
func TestAttackATimeoutReadsAsOne(t *testing.T) {
	s := newStub(t)
	s.Fault = func(op string, n int) awstest.Fault { return awstest.Fault{Hang: op == "SendMessageBatch"} }
	q := endpoint(t, s, swarm.WithNetworkTimeout(100*time.Millisecond), swarm.WithRetryConstant(time.Millisecond, 2))
	defer q.Close()
	err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// An ARN names the region: it counts where the configuration has none.
func TestAttackTheRegionOfAnARNCounts(t *testing.T) {
	s := newStub(t)
	cfg := s.Config()
	cfg.Region, cfg.BaseEndpoint = "", nil
	var host string
	cfg.HTTPClient = transport(func(r *http.Request) (*http.Response, error) {
		host = r.URL.Host
		return nil, errors.New("no network")
	})
	_, err := sqs.Emitter().WithConfig(cfg).WithKernel(quiet, swarm.WithNetworkTimeout(time.Second)).Build("arn:aws:sqs:eu-west-1:123456789012:queue")
	if !strings.Contains(host, "eu-west-1") {
		t.Errorf("asked %q, %v", host, err)
	}
}

// Who may not extend leases keeps them as long as they last: what is acknowledged in time is
// gone, and it is told what was refused.
func TestAttackExtendIsDenied(t *testing.T) {
	s := newStub(t).with(`{"id":1}`)
	f := newFake(s)
	denied := make(chan struct{}, 100)
	f.change = func(*awssqs.ChangeMessageVisibilityBatchInput) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
		denied <- struct{}{}
		return nil, &types.KmsAccessDenied{Message: aws.String("not allowed")}
	}
	errs := make(chan error, 100)
	q := swarm.Must(sqs.Listener().WithService(f).WithVisibility(4*time.Second).WithWaitTime(time.Second).
		WithKernel(quiet, swarm.WithDefaultCategory("Note"), swarm.WithStdErr(errs)).Build("queue"))
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())
	msg := <-deq
	<-denied
	err := <-errs
	if msg.Context().Err() != nil || !strings.Contains(err.Error(), "AccessDenied") {
		t.Errorf("%v, %v", context.Cause(msg.Context()), err)
	}
	ack <- msg
	eventually(t, "the message is gone", func() bool { return s.left() == 0 })
	q.Close()
}

// A nack may ask for more than SQS has: 12 hours since the message was received.
func TestAttackANackForLongerThanALease(t *testing.T) {
	s := newStub(t).with("x")
	f := newFake(s)
	asked := int32(0)
	f.change = func(in *awssqs.ChangeMessageVisibilityBatchInput) (*awssqs.ChangeMessageVisibilityBatchOutput, error) {
		asked = in.Entries[0].VisibilityTimeout
		return &awssqs.ChangeMessageVisibilityBatchOutput{Successful: []types.ChangeMessageVisibilityBatchResultEntry{{Id: in.Entries[0].Id}}}, nil
	}
	q := bareQueue(t, s, sqs.Endpoint().WithService(f).WithWaitTime(time.Second))
	bags, err := q.Receive(t.Context(), 10)
	if err != nil || len(bags) != 1 {
		t.Fatal(err)
	}
	if err := q.Settle(t.Context(), []driver.Settlement{{Bag: &bags[0], Outcome: driver.Nack, Delay: 24 * time.Hour}}); err != nil {
		t.Error(err)
	}
	if asked < 11*3600 || asked > 12*3600-1 {
		t.Errorf("SQS is asked for %d s", asked)
	}
}
