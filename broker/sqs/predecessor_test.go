// Faults of the predecessor, by their ids, without LocalStack.
package sqs_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sqs"
)

// EM10: there is one layer of retries. The client of AWS would make three requests of each
// attempt.
func TestEM10_OneLayerOfRetries(t *testing.T) {
	for name, f := range map[string]awstest.Fault{
		"500":       {Status: 500, Code: "InternalFailure"},
		"503":       {Status: 503, Code: "ServiceUnavailable"},
		"throttled": {Status: 400, Code: "RequestThrottled"},
		"reset":     {Reset: true},
	} {
		s := newStub(t)
		s.Fault = func(op string, _ int) awstest.Fault {
			if op == "GetQueueUrl" || op == "GetQueueAttributes" {
				return awstest.Fault{}
			}
			return f
		}
		q := endpoint(t, s, swarm.WithRetryConstant(time.Millisecond, 3))
		if e, ok := errors.AsType[*swarm.EmitError](emit.NewTyped[Note](q).Enq(t.Context(), Note{1})); !ok || e.Attempts != 3 {
			t.Errorf("%s: got %v", name, e)
		}
		if n := s.Count("SendMessageBatch"); n != 3 {
			t.Errorf("%s: %d requests of 3 attempts", name, n)
		}
		q.Close()
	}
	// Of receive, delete and visibility.
	for _, op := range []string{"ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"} {
		s := newStub(t).with(`{"id":1}`)
		s.Fault = func(x string, _ int) awstest.Fault {
			if x == op {
				return awstest.Fault{Status: 500, Code: "InternalFailure"}
			}
			return awstest.Fault{}
		}
		errs := make(chan error, 10)
		q := endpoint(t, s, swarm.WithRetryConstant(time.Millisecond, 2), swarm.WithDefaultCategory("Note"), swarm.WithStdErr(errs))
		deq, ack := listen.Typed[Note](q)
		go q.Run(context.Background())
		switch op {
		case "ReceiveMessage":
			<-errs // of the first receive
			if n := s.Count(op); n > 2 {
				t.Errorf("%s: %d requests when the first has failed", op, n)
			}
		case "DeleteMessageBatch":
			ack <- <-deq
			<-errs
		default:
			ack <- (<-deq).Fail(errors.New("x"))
			<-errs
		}
		if n := s.Count(op); op != "ReceiveMessage" && n != 2 {
			t.Errorf("%s: %d requests of 2 attempts", op, n)
		}
		q.Close()
	}
}

// EM13: equal values are different messages, also by a queue that drops what it has had.
func TestEM13_EqualPayloads(t *testing.T) {
	s := newStub(t)
	s.fifo = true
	groups, keys := map[string]bool{}, map[string]bool{}
	var mu sync.Mutex
	s.watch = func(op string, in map[string]any) {
		if op != "SendMessageBatch" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, x := range in["Entries"].([]any) {
			e := x.(map[string]any)
			groups[e["MessageGroupId"].(string)] = true
			keys[e["MessageDeduplicationId"].(string)] = true
		}
	}
	q := endpoint(t, s)
	plain := emit.NewTyped[Note](q)
	for range 5 {
		if err := plain.Enq(t.Context(), Note{7}); err != nil {
			t.Fatal(err)
		}
	}
	if s.left() != 5 || len(keys) != 5 || len(groups) != 1 {
		t.Errorf("%d in the queue, keys %v, groups %v", s.left(), keys, groups)
	}
	own := emit.NewTyped[Note](q, emit.OrderBy(func(n Note) string { return fmt.Sprint("g", n.ID) }), emit.DedupBy(func(n Note) string { return fmt.Sprint("k", n.ID) }))
	for _, id := range []int{1, 2, 1} {
		if err := own.Enq(t.Context(), Note{id}); err != nil {
			t.Fatal(err)
		}
	}
	if s.left() != 7 || !groups["g1"] || !groups["g2"] || !keys["k1"] || !keys["k2"] {
		t.Errorf("%d in the queue, keys %v, groups %v", s.left(), keys, groups)
	}
	q.Close()
}

// RX9: a nack is a request, the message does not wait for its visibility timeout.
func TestRX9_NackIsARequest(t *testing.T) {
	s := newStub(t).with(`{"id":1}`)
	s.attrs["VisibilityTimeout"] = "3600"
	q := endpoint(t, s, swarm.WithDefaultCategory("Note"))
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())
	ack <- (<-deq).Fail(errors.New("no"))
	select {
	case msg := <-deq:
		if msg.Attempt != 2 {
			t.Errorf("attempt %d", msg.Attempt)
		}
		ack <- msg.Fail(swarm.RetryAfter(time.Hour, errors.New("no")))
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for its visibility timeout")
	}
	eventually(t, "both nacks are known to SQS", func() bool { return s.Count("ChangeMessageVisibilityBatch") == 2 })
	s.mu.Lock()
	if d := time.Until(s.messages[0].visible); d < 50*time.Minute || d > 61*time.Minute {
		t.Errorf("comes back in %s", d)
	}
	s.mu.Unlock()
	q.Close()
}

// RX10, RX11, RX12: what is worked on for longer than its visibility timeout, or waits
// behind such a message, is delivered once.
func TestRX10_VisibilityIsExtended(t *testing.T) {
	s := newStub(t)
	for i := range 10 {
		s.with(fmt.Sprintf(`{"id":%d}`, i))
		s.messages[i].id = fmt.Sprint("m", i)
	}
	s.attrs["VisibilityTimeout"] = "1"
	q := endpoint(t, s, swarm.WithDefaultCategory("Note"), swarm.WithPollerPool(2))
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())
	began := time.Now()
	msg := <-deq
	eventually(t, "all leases have ended twice, were they not extended", func() bool { return time.Since(began) > 2500*time.Millisecond })
	for range 9 {
		ack <- msg
		msg = <-deq
	}
	ack <- msg
	eventually(t, "the queue is empty", func() bool { return s.left() == 0 })
	if n := s.Count("ChangeMessageVisibilityBatch"); n < 3 {
		t.Errorf("%d extensions", n)
	}
	if msg.Attempt != 1 {
		t.Errorf("attempt %d", msg.Attempt)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// RX15: a wait of 0 works, and asks an empty queue no more than once a second.
func TestRX15_NoWait(t *testing.T) {
	s := newStub(t)
	errs := make(chan error, 100)
	q := swarm.Must(sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(0).
		WithKernel(quiet, swarm.WithStdErr(errs), swarm.WithDefaultCategory("Note")).Build("queue"))
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())
	began := time.Now()
	eventually(t, "an empty queue was asked twice", func() bool { return s.Count("ReceiveMessage") >= 2 })
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("two receives of an empty queue in %s", took)
	}
	s.foreignNote(t, 7)
	msg := <-deq
	ack <- msg
	eventually(t, "the queue is empty", func() bool { return s.left() == 0 })
	q.Close()
	if len(errs) > 0 {
		t.Errorf("reported: %v", <-errs)
	}
}

// RX6: a queue of foreign messages, and a listener that knows no category of theirs: no loop.
func TestRX6_ForeignMessagesAreNoLoop(t *testing.T) {
	s := newStub(t).with(`a`, `b`, `c`)
	errs := make(chan error, 100)
	q := endpoint(t, s, swarm.WithStdErr(errs))
	listen.Typed[Note](q)
	go q.Run(context.Background())
	for range 3 {
		if err := <-errs; !errors.Is(err, swarm.ErrUnknownCategory) {
			t.Errorf("got %v", err)
		}
	}
	eventually(t, "they were nacked", func() bool { return s.Count("ChangeMessageVisibilityBatch") > 0 })
	s.mu.Lock()
	for _, m := range s.messages {
		if d := time.Until(m.visible); m.received != 1 || d < 500*time.Millisecond {
			t.Errorf("%s was received %d times, comes back in %s", m.id, m.received, d)
		}
	}
	s.mu.Unlock()
	q.Close()
}
