package sqs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sqs"
)

type Note struct {
	ID int `json:"id"`
}

var quiet = awstest.Quiet

func endpoint(t testing.TB, s *stub, opts ...swarm.Option) *kernel.Endpoint {
	t.Helper()
	q, err := sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second).
		WithKernel(append([]swarm.Option{quiet, swarm.WithRetryConstant(time.Millisecond, 12)}, opts...)...).Build(s.name())
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// eventually polls for a condition of a real service.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	s := newStub(t)
	q := endpoint(t, s, swarm.WithSource("me"))
	deq, ack := listen.Typed[Note](q)
	go q.Run(t.Context())
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	msg := <-deq
	if msg.Object.ID != 7 || msg.Attempt != 1 || msg.ID != "m-1" || time.Since(msg.SentAt) > time.Minute || msg.IOContext == nil {
		t.Errorf("got %+v", msg)
	}
	ack <- msg
	if err := q.Close(); err != nil || s.left() != 0 {
		t.Errorf("%v, left %d", err, s.left())
	}
}

// What a program on fogfish/swarm v0.24 writes, and reads.
func TestWireFormat(t *testing.T) {
	s := newStub(t)
	q := endpoint(t, s, swarm.WithSource("me"))
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	m := s.messages[0]
	if m.body != `{"id":7}` || fmt.Sprint(m.attributes["Category"]) != "map[DataType:String StringValue:Note]" || fmt.Sprint(m.attributes["Source"]) != "map[DataType:String StringValue:me]" || len(m.attributes) != 2 {
		t.Errorf("got %+v", m)
	}
	q.Close()
}

// EM11: never silently altered.
func TestBytesThatSQSDoesNotCarry(t *testing.T) {
	s := newStub(t)
	q := endpoint(t, s)
	deq, ack := listen.Bytes(q, codec.Bytes("Image"))
	go q.Run(t.Context())
	image := emit.NewBytes(q, codec.Bytes("Image"))
	for _, body := range []string{"plain", "\xff\xfe\x00\x80A", "\ufffe", "\x00", "tab\tand\r\n", "\U0001F600", "\x1b"} {
		if err := image.Enq(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
		msg := <-deq
		if string(msg.Object) != body {
			t.Errorf("got %q, want %q", msg.Object, body)
		}
		ack <- msg
	}
	q.Close()
}

// JSON stays JSON, for who reads it without this package: its strings escape what XML has not.
func TestCharactersThatSQSDoesNotCarry(t *testing.T) {
	s := newStub(t)
	bodies := make(chan string, 1)
	s.watch = func(op string, in map[string]any) {
		if op == "SendMessageBatch" {
			bodies <- in["Entries"].([]any)[0].(map[string]any)["MessageBody"].(string)
		}
	}
	q := endpoint(t, s)
	deq, ack := listen.Typed[map[string]string](q, listen.Category("Label"))
	go q.Run(t.Context())
	label := emit.NewTyped[map[string]string](q, emit.Category("Label"))
	for _, text := range []string{"plain", "a\ufffeb\uffff", "\U0001F600", "\x00\x1b"} {
		if err := label.Enq(t.Context(), map[string]string{"text": text}); err != nil {
			t.Fatal(err)
		}
		var sent map[string]string
		if body := <-bodies; json.Unmarshal([]byte(body), &sent) != nil || sent["text"] != text {
			t.Errorf("%q was sent as %q", text, body)
		}
		msg := <-deq
		if msg.Object["text"] != text {
			t.Errorf("got %q, want %q", msg.Object["text"], text)
		}
		ack <- msg
	}
	q.Close()
}

// An event is one by its id and its category: a request and its response may share the id.
func TestEventsOfOneConversation(t *testing.T) {
	type (
		request  struct{ Text string }
		response struct{ Text string }
	)
	s := newStub(t)
	s.fifo = true
	q, err := sqs.Emitter().WithConfig(s.Config()).WithKernel(quiet).Build("queue.fifo")
	if err != nil {
		t.Fatal(err)
	}
	meta := &swarm.Meta{ID: "conversation-1"}
	ask, answer := emit.NewEvent[swarm.Event[swarm.Meta, request]](q), emit.NewEvent[swarm.Event[swarm.Meta, response]](q)
	own := emit.NewEvent[swarm.Event[swarm.Meta, request]](q, emit.DedupBy(func(e swarm.Event[swarm.Meta, request]) string { return e.Data.Text }))
	// Without a key of its own it is as ask.
	empty := emit.NewEvent[swarm.Event[swarm.Meta, request]](q, emit.DedupBy(func(swarm.Event[swarm.Meta, request]) string { return "" }))
	for range 2 { // sent again after a crash, say
		for _, err := range []error{
			ask.Enq(t.Context(), swarm.Event[swarm.Meta, request]{Meta: meta, Data: &request{"?"}}),
			answer.Enq(t.Context(), swarm.Event[swarm.Meta, response]{Meta: meta, Data: &response{"!"}}),
			own.Enq(t.Context(), swarm.Event[swarm.Meta, request]{Meta: meta, Data: &request{"by its text"}}),
			empty.Enq(t.Context(), swarm.Event[swarm.Meta, request]{Meta: meta, Data: &request{"?"}}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	q.Close()
	if n := s.left(); n != 3 {
		t.Errorf("3 events, each sent twice: the queue has %d", n)
	}
}

// Ids and categories with slashes make no two keys the same.
func TestKeysOfEventsDoNotCollide(t *testing.T) {
	type event = swarm.Event[swarm.Meta, Note]
	s := newStub(t)
	s.fifo = true
	q, err := sqs.Emitter().WithConfig(s.Config()).WithKernel(quiet).Build("queue.fifo")
	if err != nil {
		t.Fatal(err)
	}
	for id, category := range map[string]string{"7/order": "created", "7": "order/created"} {
		if err := emit.NewEvent[event](q, emit.Category(category)).Enq(t.Context(), event{Meta: &swarm.Meta{ID: id}, Data: &Note{1}}); err != nil {
			t.Fatal(err)
		}
	}
	q.Close()
	if n := s.left(); n != 2 {
		t.Errorf("2 events are confirmed, the queue has %d", n)
	}
}

// What waits behind poison is not taken for poison itself: SQS counts receives, also of what
// goes back unseen.
func TestWhatIsBehindPoisonIsNoPoison(t *testing.T) {
	type Other struct{}
	for name, setup := range map[string]func(s *stub, q *kernel.Endpoint) (working func()){
		"one category": func(*stub, *kernel.Endpoint) func() { return func() {} },
		"a second one, for which the poller asks meanwhile": func(s *stub, q *kernel.Endpoint) func() {
			listen.Typed[Other](q)
			return func() {
				n := s.Count("ReceiveMessage")
				eventually(t, "the poller asks", func() bool { return s.Count("ReceiveMessage") > n || s.left() < 3 })
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStub(t)
			s.fifo, s.receives = true, 5
			q, err := sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second).WithKernel(quiet, swarm.WithRedelivery(backoff.Constant(0))).Build("queue.fifo")
			if err != nil {
				t.Fatal(err)
			}
			e := emit.NewTyped[Note](q)
			for i := range 3 {
				if err := e.Enq(t.Context(), Note{i}); err != nil {
					t.Fatal(err)
				}
			}
			deq, ack := listen.Typed[Note](q)
			working := setup(s, q)
			go func() {
				for msg := range deq {
					if msg.Object.ID == 0 {
						working()
						msg = msg.Fail(errors.New("boom"))
					}
					ack <- msg
				}
			}()
			go q.Run(t.Context())
			eventually(t, "the queue is empty", func() bool { return s.left() == 0 })
			q.Close()
			if len(s.dead) != 1 {
				t.Errorf("%d dead letters", len(s.dead))
			}
		})
	}
}

// While poison waits for its next delivery SQS holds back its group: others do not pay for it.
func TestOtherGroupsDoNotPayForPoison(t *testing.T) {
	s := newStub(t)
	s.fifo = true
	q, err := sqs.Endpoint().WithConfig(s.Config()).WithWaitTime(time.Second).WithKernel(quiet, swarm.WithRedelivery(func(n int) time.Duration {
		return time.Duration(n-1) * 5 * time.Minute
	})).Build("queue.fifo")
	if err != nil {
		t.Fatal(err)
	}
	e := emit.NewTyped[Note](q, emit.OrderBy(func(n Note) string { return fmt.Sprint("g", n.ID) }))
	if err := e.Enq(t.Context(), Note{-1}); err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[Note](q)
	go q.Run(t.Context())
	for range 2 {
		ack <- (<-deq).Fail(errors.New("boom"))
	}
	eventually(t, "it waits", func() bool { return s.Count("ChangeMessageVisibilityBatch") == 2 })
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() { _ = e.Enq(t.Context(), Note{i}) })
	}
	all.Wait()
	before := s.Count("ReceiveMessage")
	for range 200 {
		ack <- <-deq
	}
	if n := s.Count("ReceiveMessage") - before; n > 30 {
		t.Errorf("%d receives of 200 messages", n)
	}
	q.Close()
}

func TestWhatSQSWouldRefuseIsRefusedBeforeTheCall(t *testing.T) {
	s := newStub(t)
	s.attrs["MaximumMessageSize"] = "262144"
	q := endpoint(t, s)
	for want, bag := range map[string]driver.Bag{
		"body is empty":                {Category: "Note"},
		"262145 bytes":                 {Category: "C", Body: make([]byte, 262145-8-6-1)[:0]},
		"not a name for an attribute":  {Category: "C", Body: []byte("x"), Attrs: map[string]string{"a b": "x"}},
		"attribute k is empty":         {Category: "C", Body: []byte("x"), Attrs: map[string]string{"k": ""}},
		"characters that SQS does not": {Category: "C\x00", Body: []byte("x")},
		"attribute AWS":                {Category: "C", Body: []byte("x"), Attrs: map[string]string{"AWS.x": "y"}},
		"11 attributes, SQS takes 10":  {Category: "C", Body: []byte("x"), Attrs: many(10)},
	} {
		if want == "262145 bytes" {
			bag.Body = []byte(strings.Repeat("x", 262145-len("Category")-len("String")-len("C")))
		}
		if want == "attribute AWS" {
			want = `"AWS.x" is not a name`
		}
		err := q.Enqueue(t.Context(), &bag)
		if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 0 || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if n := s.Count("SendMessageBatch"); n != 0 {
		t.Errorf("%d calls", n)
	}
	q.Close()
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("k", i)] = "v"
	}
	return m
}

// RX7: foreign input is hostile.
func TestForeignMessages(t *testing.T) {
	s := newStub(t)
	stderr := make(chan error, 10)
	q := endpoint(t, s, swarm.WithStdErr(stderr), swarm.WithDefaultCategory("Note"))
	deq, ack := listen.Typed[Note](q)
	attr := func(kind, key, value string) map[string]any {
		return map[string]any{"DataType": kind, key: value}
	}
	s.messages = []*record{
		{id: "none", body: `{"id":1}`},
		{id: "binary", body: `{"id":2}`, attributes: map[string]any{"Category": attr("Binary", "BinaryValue", "AAEC")}},
		{id: "number", body: `{"id":3}`, attributes: map[string]any{"Category": attr("Number", "StringValue", "17")}},
		{id: "custom", body: `{"id":4}`, attributes: map[string]any{"Category": attr("String.mine", "StringValue", "Note"), "k": attr("String", "StringValue", "v")}},
		{id: "encoding", body: `{"id":5}`, attributes: map[string]any{"Encoding": attr("String", "StringValue", "rot13")}},
		{id: "base64", body: `no base64!`, attributes: map[string]any{"Encoding": attr("String", "StringValue", "base64")}},
	}
	go q.Run(t.Context())
	got := map[string]bool{}
	for range 3 {
		msg := <-deq
		got[msg.ID] = true
		ack <- msg
	}
	if !got["none"] || !got["binary"] || !got["custom"] {
		t.Errorf("got %v", got)
	}
	for range 3 {
		if e, ok := errors.AsType[*swarm.ListenError](<-stderr); !ok || e.ID != "number" && e.ID != "encoding" && e.ID != "base64" {
			t.Errorf("got %v", e)
		}
	}
	q.Close()
}

// EM13 on FIFO: each value has an id of its own, which stays the same over retries.
func TestSendFaults(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		t.Run(fmt.Sprint("fifo ", fifo), func(t *testing.T) {
			awstest.Ledger{
				Op: "SendMessageBatch", Dedup: fifo, Ordered: fifo,
				Faults: map[string]awstest.Fault{
					"throttled":        {Status: 400, Code: "RequestThrottled"},
					"throttled by KMS": {Status: 400, Code: "KmsThrottled"},
					"over limit":       {Status: 403, Code: "OverLimit"},
					"500":              {Status: 500, Code: "InternalFailure"},
					"503":              {Status: 503, Code: "ServiceUnavailable"},
					"reset":            {Reset: true},
					"hang":             {Hang: true},
					"answer lost":      {Lost: true},
					"partial":          {Entries: map[int]awstest.Entry{0: {Code: "InternalError"}, 3: {Code: "ThrottlingException", Sender: true}}},
					"refused":          {Entries: map[int]awstest.Entry{1: {Code: "InvalidMessageContents", Sender: true}}},
				},
				Permanent: map[string]bool{"refused": true},
				Open: func(t *testing.T) (*awstest.Stub, func(...swarm.Option) *kernel.Emitter) {
					s := newStub(t)
					s.fifo = fifo
					return s.Stub, func(opts ...swarm.Option) *kernel.Emitter {
						return swarm.Must(sqs.Emitter().WithConfig(s.Config()).WithKernel(opts...).Build(s.name()))
					}
				},
			}.Run(t)
		})
	}
}

// What was changed on the way is stored, and reported: neither sent again nor lost.
func TestAChecksumThatDoesNotMatchIsReported(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		s := newStub(t)
		s.fifo = fifo
		s.Once("SendMessageBatch", awstest.Fault{Garble: true})
		q := endpoint(t, s)
		err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1})
		if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 1 || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("fifo %v: got %v", fifo, err)
		}
		if err := q.Close(); err != nil || s.left() != 1 || s.Count("SendMessageBatch") != 1 {
			t.Errorf("fifo %v: %v, %d stored, %d requests", fifo, err, s.left(), s.Count("SendMessageBatch"))
		}
	}
}

func TestReceiveAndSettleFaults(t *testing.T) {
	const total = 100
	for name, f := range map[string]awstest.Fault{
		"throttled":   {Status: 400, Code: "RequestThrottled"},
		"500":         {Status: 500, Code: "InternalFailure"},
		"reset":       {Reset: true},
		"hang":        {Hang: true},
		"partial":     {Entries: map[int]awstest.Entry{0: {Code: "InternalError"}}},
		"answer lost": {Lost: true},
		"checksum":    {Garble: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStub(t)
			s.attrs["VisibilityTimeout"] = "2"
			s.Fault = func(op string, n int) awstest.Fault {
				if op != "SendMessageBatch" && op != "GetQueueUrl" && op != "GetQueueAttributes" && n%5 == 2 {
					return f
				}
				return awstest.Fault{}
			}
			q := endpoint(t, s, swarm.WithNetworkTimeout(300*time.Millisecond), swarm.WithRedelivery(func(int) time.Duration { return 0 }))
			deq, ack := listen.Typed[Note](q)
			for i := range total {
				s.messages = append(s.messages, &record{id: fmt.Sprint(i), body: fmt.Sprintf(`{"id":%d}`, i), sent: time.Now(),
					attributes: map[string]any{"Category": map[string]any{"DataType": "String", "StringValue": "Note"}}})
			}
			go q.Run(context.Background())
			var mu sync.Mutex
			seen := map[int]bool{}
			for range 5 {
				go func() {
					for msg := range deq {
						mu.Lock()
						seen[msg.Object.ID] = true
						mu.Unlock()
						ack <- msg
					}
				}()
			}
			eventually(t, "all messages are processed and deleted", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(seen) == total && s.left() == 0
			})
			q.Close()
		})
	}
}

func TestAFatalErrorEndsRunAfterABoundedNumberOfTries(t *testing.T) {
	for _, code := range []string{"QueueDoesNotExist", "AccessDeniedException"} {
		s := newStub(t)
		s.Fault = func(op string, n int) awstest.Fault {
			if op == "ReceiveMessage" {
				return awstest.Fault{Status: http.StatusBadRequest, Code: code}
			}
			return awstest.Fault{}
		}
		q := endpoint(t, s)
		listen.Typed[Note](q)
		if err := q.Run(t.Context()); err == nil || !strings.Contains(err.Error(), code) {
			t.Errorf("got %v, want %s", err, code)
		}
		if n := s.Count("ReceiveMessage"); n != 3 {
			t.Errorf("%d tries", n)
		}
	}
}

func TestFairQueueSendsTheOrderingKeyAsGroup(t *testing.T) {
	for _, fair := range []bool{false, true} {
		s := newStub(t)
		b := sqs.Emitter().WithConfig(s.Config()).WithKernel(quiet)
		if fair {
			b.WithFairQueue()
		}
		q := swarm.Must(b.Build("queue"))
		one := emit.NewTyped[Note](q, emit.OrderBy(func(n Note) string { return fmt.Sprint("tenant ", n.ID) }))
		if err := one.Enq(t.Context(), Note{7}); err != nil {
			t.Fatal(err)
		}
		if group := s.messages[0].group; (group != "") != fair || strings.Contains(group, " ") {
			t.Errorf("fair %v: group %q", fair, group)
		}
		q.Close()
	}
}

func TestGroupBatchingTakesFewerRequests(t *testing.T) {
	const total = 100
	for _, batching := range []bool{false, true} {
		s := newStub(t)
		s.fifo = true
		b := sqs.Emitter().WithConfig(s.Config()).WithKernel(quiet, swarm.WithEmitWindow(50))
		if batching {
			b.WithGroupBatching()
		}
		q := swarm.Must(b.Build(s.name()))
		enq, _ := emit.Typed[Note](q) // one group: the category
		for i := range total {
			enq <- Note{i}
		}
		close(enq)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		for i, body := range s.Accepted() {
			if body != fmt.Sprintf(`{"id":%d}`, i) {
				t.Errorf("batching %v: %s at %d", batching, body, i)
			}
		}
		if n := s.Count("SendMessageBatch"); batching && n > total/5 || !batching && n != total {
			t.Errorf("batching %v: %d requests for %d messages of one group", batching, n, total)
		}
	}
}

func TestRequestsPerMessage(t *testing.T) {
	for _, x := range []struct {
		name   string
		window int
		sync   int
	}{{"window 100", 100, 0}, {"100 synchronous callers", 1, 100}} {
		t.Run(x.name, func(t *testing.T) {
			const total = 2000
			s := newStub(t)
			s.latency = 5 * time.Millisecond
			q := endpoint(t, s, swarm.WithEmitWindow(x.window))
			deq, ack := listen.Typed[Note](q)
			var work sync.WaitGroup
			one := emit.NewTyped[Note](q)
			for c := range x.sync {
				work.Go(func() {
					for i := range total / x.sync {
						if err := one.Enq(context.Background(), Note{c*total + i}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			if x.sync == 0 {
				enq, _ := emit.Typed[Note](q)
				work.Go(func() {
					for i := range total {
						enq <- Note{i}
					}
					close(enq)
				})
			}
			work.Wait()
			for range 10 {
				go func() {
					for msg := range deq {
						ack <- msg
					}
				}()
			}
			go q.Run(context.Background())
			eventually(t, "the queue is empty", func() bool { return s.left() == 0 })
			q.Close()
			send := float64(s.Count("SendMessageBatch")) / total
			rest := float64(s.Count("ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch")) / total
			t.Logf("requests a message: send %.3f, receive and delete %.3f", send, rest)
			if send > 0.11 || rest > 0.24 {
				t.Errorf("requests a message: send %.3f, receive and delete %.3f", send, rest)
			}
		})
	}
}

// RX14, RX15: what is set is what counts, or is refused.
func TestBuild(t *testing.T) {
	s := newStub(t)
	build := func(name string, change func(*sqs.Builder[*kernel.Endpoint])) error {
		b := sqs.Endpoint().WithConfig(s.Config()).WithKernel(quiet)
		if change != nil {
			change(b)
		}
		q, err := b.Build(name)
		if err == nil {
			err = q.Close()
		}
		return err
	}
	for _, name := range []string{"queue", "arn:aws:sqs:eu-west-1:123456789012:queue", s.URL() + "/123456789012/queue"} {
		if err := build(name, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, x := range []struct {
		name, want string
		change     func(*sqs.Builder[*kernel.Endpoint])
	}{
		{"", "CONFIG_SWARM_SOURCE_SQS or CONFIG_SWARM_TARGET_SQS is not set", nil},
		{"other", "sqs: queue other: look up:", nil},
		{"other", "(region eu-west-1)", nil},
		{"no good", `"no good" is not the name or ARN of a queue`, nil},
		{".fifo", `is not the name`, nil},
		{"arn:aws:s3:::bucket", "is not the ARN of a queue", nil},
		{"arn:aws:sqs:us-east-1:123456789012:queue", "queue queue is in region us-east-1, the client in eu-west-1", nil},
		{"queue", "WithBatchSize(0)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithBatchSize(0) }},
		{"queue", "WithBatchSize(11)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithBatchSize(11) }},
		{"queue", "WithWaitTime(30s)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithWaitTime(30 * time.Second) }},
		{"queue", "WithWaitTime(-1s)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithWaitTime(-time.Second) }},
		{"queue", "WithWaitTime(500ms)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithWaitTime(500 * time.Millisecond) }},
		{"queue", "WithVisibility(0s)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithVisibility(0) }},
		{"queue", "WithVisibility(13h0m0s)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithVisibility(13 * time.Hour) }},
		{"queue", "WithDelay(16m0s)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithDelay(16 * time.Minute) }},
		{"queue", "WithService", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithService(nil) }},
		{"queue", "WithPollerPool(-1)", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithKernel(swarm.WithPollerPool(-1)) }},
		{"queue", "WithGroupBatching", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithGroupBatching() }},
		{"queue.fifo", "WithFairQueue", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithFairQueue() }},
		{"queue.fifo", "WithDelay", func(b *sqs.Builder[*kernel.Endpoint]) { b.WithDelay(time.Second) }},
	} {
		if err := build(x.name, x.change); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("Build(%q): got %v, want it to say %q", x.name, err, x.want)
		}
	}

	t.Run("from the environment", func(t *testing.T) {
		t.Setenv(sqs.EnvSource, "queue")
		if err := build("", nil); err != nil {
			t.Error(err)
		}
		t.Setenv(sqs.EnvTarget, "other")
		if err := build("", nil); err == nil || !strings.Contains(err.Error(), "two queues") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a look-up of attributes that is denied is a warning", func(t *testing.T) {
		s := newStub(t)
		s.Fault = func(op string, _ int) awstest.Fault {
			if op == "GetQueueAttributes" {
				return awstest.Fault{Status: 400, Code: "AccessDeniedException"}
			}
			return awstest.Fault{}
		}
		var log strings.Builder
		q, err := sqs.Emitter().WithConfig(s.Config()).WithKernel(swarm.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))).Build("queue")
		if err != nil || !strings.Contains(log.String(), "may not be read") {
			t.Fatalf("got %v, log %s", err, log.String())
		}
		q.Close()
	})
	t.Run("lazy asks nothing", func(t *testing.T) {
		s := newStub(t)
		q, err := sqs.Endpoint().WithConfig(s.Config()).WithLazy().WithKernel(quiet).Build("queue")
		if err != nil || s.Count("GetQueueUrl", "GetQueueAttributes") != 0 {
			t.Fatal(err)
		}
		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil || s.Count("GetQueueUrl") != 1 {
			t.Error(err)
		}
		q.Close()
	})
	t.Run("a hung look-up ends by the network timeout", func(t *testing.T) {
		s := newStub(t)
		s.Fault = func(string, int) awstest.Fault { return awstest.Fault{Hang: true} }
		began := time.Now()
		_, err := sqs.Emitter().WithConfig(s.Config()).WithKernel(quiet, swarm.WithNetworkTimeout(100*time.Millisecond)).Build("queue")
		if err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
}
