package sqs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
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
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/broker/sqs"
)

// What only SQS has, on LocalStack. The suite in conformance_test.go has the rest.

var soak = os.Getenv("SOAK") == "1"

// patience bounds what tests wait for. Nothing takes that long.
var patience = map[bool]time.Duration{false: time.Minute, true: 10 * time.Minute}[soak]

// soon polls for a condition that takes requests to look at.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// next is the next message, which has to come.
func next[T any](t testing.TB, deq <-chan swarm.Msg[T]) swarm.Msg[T] {
	t.Helper()
	select {
	case msg, ok := <-deq:
		if !ok {
			t.Fatal("deq is closed")
		}
		return msg
	case <-time.After(patience):
		t.Fatalf("no message within %s", patience)
	}
	panic("not reached")
}

var atOnce = swarm.WithRedelivery(func(int) time.Duration { return 0 })

// connect builds a kernel on a queue of LocalStack. It closes with the test.
func connect(t testing.TB, cfg aws.Config, name string, opts ...swarm.Option) *kernel.Endpoint {
	t.Helper()
	q, err := sqs.Endpoint().WithConfig(cfg).WithWaitTime(time.Second).
		WithKernel(append([]swarm.Option{quiet, atOnce}, opts...)...).Build(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return q
}

// plain is a program that knows nothing of swarm: the SDK's client, and a queue.
type plain struct {
	*awssqs.Client
	t   testing.TB
	url *string
}

func plainly(t testing.TB, cfg aws.Config, url string) plain {
	return plain{awssqs.NewFromConfig(cfg), t, &url}
}

// send puts a message on the queue.
func (p plain) send(body string, attrs map[string]types.MessageAttributeValue) {
	p.t.Helper()
	_, err := p.SendMessage(context.Background(), &awssqs.SendMessageInput{QueueUrl: p.url, MessageBody: &body, MessageAttributes: attrs})
	if err != nil {
		p.t.Fatal(err)
	}
}

// take removes up to 10 messages from the queue. It waits a second for the first one.
func (p plain) take() []types.Message {
	p.t.Helper()
	out, err := p.ReceiveMessage(context.Background(), &awssqs.ReceiveMessageInput{
		QueueUrl: p.url, MaxNumberOfMessages: 10, WaitTimeSeconds: 1, MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	var gone []types.DeleteMessageBatchRequestEntry
	for i, m := range out.Messages {
		gone = append(gone, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	if len(gone) > 0 {
		if out, err := p.DeleteMessageBatch(context.Background(), &awssqs.DeleteMessageBatchInput{QueueUrl: p.url, Entries: gone}); err != nil || len(out.Failed) > 0 {
			p.t.Fatalf("delete: %v, %v", out, err)
		}
	}
	return out.Messages
}

// one takes the one message there is.
func (p plain) one() types.Message {
	p.t.Helper()
	var got []types.Message
	soon(p.t, "a message comes", func() bool {
		got = append(got, p.take()...)
		return len(got) > 0
	})
	if len(got) != 1 {
		p.t.Fatalf("got %d messages, want 1", len(got))
	}
	return got[0]
}

// attribute of the queue that is a number, or a text.
func (p plain) attribute(name types.QueueAttributeName) string {
	p.t.Helper()
	out, err := p.GetQueueAttributes(context.Background(), &awssqs.GetQueueAttributesInput{
		QueueUrl: p.url, AttributeNames: []types.QueueAttributeName{name},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return out.Attributes[string(name)]
}

// depth counts the messages of the queue that are visible, and all there are.
func (p plain) depth() (visible, all int) {
	p.t.Helper()
	out, err := p.GetQueueAttributes(context.Background(), &awssqs.GetQueueAttributesInput{
		QueueUrl: p.url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	count := func(name types.QueueAttributeName) int {
		n, err := strconv.Atoi(out.Attributes[string(name)])
		if err != nil {
			p.t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	visible = count(types.QueueAttributeNameApproximateNumberOfMessages)
	return visible, visible + count(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible) +
		count(types.QueueAttributeNameApproximateNumberOfMessagesDelayed)
}

func (p plain) empty() bool {
	p.t.Helper()
	_, all := p.depth()
	return all == 0
}

func text(value string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
}

// createWithDeadLetters makes a queue whose messages end in another one after so many
// receives.
func createWithDeadLetters(t testing.TB, cfg aws.Config, receives int, attrs map[string]string) (name string, queue, dead plain) {
	t.Helper()
	_, url := create(t, cfg, false, nil)
	dead = plainly(t, cfg, url)
	attrs["RedrivePolicy"] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, dead.attribute(types.QueueAttributeNameQueueArn), receives)
	name, url = create(t, cfg, false, attrs)
	return name, plainly(t, cfg, url), dead
}

// counter counts the requests of a client.
type counter struct {
	*awssqs.Client
	sends, receives atomic.Int64
}

func (c *counter) SendMessageBatch(ctx context.Context, in *awssqs.SendMessageBatchInput, opts ...func(*awssqs.Options)) (*awssqs.SendMessageBatchOutput, error) {
	c.sends.Add(1)
	return c.Client.SendMessageBatch(ctx, in, opts...)
}

func (c *counter) ReceiveMessage(ctx context.Context, in *awssqs.ReceiveMessageInput, opts ...func(*awssqs.Options)) (*awssqs.ReceiveMessageOutput, error) {
	c.receives.Add(1)
	return c.Client.ReceiveMessage(ctx, in, opts...)
}

// L5, L6: what nobody can read ends in the dead-letter queue, after as many deliveries
// as the redrive policy says. Its neighbours are delivered.
func TestARedrivePolicyEndsPoisonMessages(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	name, queue, dead := createWithDeadLetters(t, cfg, 3, map[string]string{})
	stderr := make(chan error, 100)
	q := connect(t, cfg, name, swarm.WithStdErr(stderr))
	deq, ack := listen.Typed[Note](q)

	note := map[string]types.MessageAttributeValue{"Category": text("Note")}
	queue.send(`{"id":1}`, note)
	queue.send(`no JSON`, note)
	queue.send(`{"id":2}`, note)
	queue.send(`nobody listens`, map[string]types.MessageAttributeValue{"Category": text("Nobody")})
	queue.send(`{"id":3}`, note)
	go q.Run(context.Background())

	for range 3 {
		msg := next(t, deq)
		if msg.Attempt != 1 {
			t.Errorf("neighbour %d came %d times", msg.Object.ID, msg.Attempt)
		}
		ack <- msg
	}
	var bodies []string
	soon(t, "both messages are in the dead-letter queue", func() bool {
		for _, m := range dead.take() {
			bodies = append(bodies, *m.Body)
		}
		return len(bodies) >= 2
	})
	if slices.Sort(bodies); !slices.Equal(bodies, []string{"no JSON", "nobody listens"}) || !queue.empty() {
		t.Errorf("dead letters %q, queue is empty: %v", bodies, queue.empty())
	}
	attempts := map[string][]int{}
	for range len(stderr) {
		err := <-stderr
		e, ok := errors.AsType[*swarm.ListenError](err)
		if !ok {
			t.Errorf("got %v", err)
			continue
		}
		attempts[e.Op] = append(attempts[e.Op], e.Attempt)
	}
	want := map[string][]int{"decode": {1, 2, 3}, "route": {1, 2, 3}}
	if !maps.EqualFunc(attempts, want, slices.Equal) {
		t.Errorf("reported attempts %v, want %v", attempts, want)
	}
}

func TestAttemptSentAtAndIOContext(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	name, url := create(t, cfg, false, nil)
	q := connect(t, cfg, name)
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())

	began := time.Now()
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	id := ""
	for attempt := 1; attempt <= 3; attempt++ {
		msg := next(t, deq)
		native, ok := msg.IOContext.(types.Message)
		switch {
		case !ok:
			t.Fatalf("IOContext is %T", msg.IOContext)
		case msg.ID == "" || id != "" && msg.ID != id || msg.ID != *native.MessageId:
			t.Errorf("attempt %d: ID %q, native %q, before %q", attempt, msg.ID, *native.MessageId, id)
		case msg.Attempt != attempt || native.Attributes["ApproximateReceiveCount"] != strconv.Itoa(attempt):
			t.Errorf("attempt %d: Attempt %d, native %v", attempt, msg.Attempt, native.Attributes)
		case msg.SentAt.Before(began.Add(-time.Second)) || msg.SentAt.After(sent.Add(time.Second)):
			t.Errorf("attempt %d: SentAt %s, sent from %s to %s", attempt, msg.SentAt, began, sent)
		case msg.Object != Note{7} || msg.Category != "Note" || *native.Body != `{"id":7}` || native.ReceiptHandle == nil:
			t.Errorf("attempt %d: got %+v", attempt, msg)
		}
		id = msg.ID
		if attempt < 3 {
			msg = msg.Fail(nil)
		}
		ack <- msg
	}
	soon(t, "the message is deleted", plainly(t, cfg, url).empty)
}

// Programs that know nothing of categories.
func TestForeignProducers(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	name, url := create(t, cfg, false, nil)
	q := connect(t, cfg, name, swarm.WithDefaultCategory("Note"))
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())

	foreign := plainly(t, cfg, url)
	foreign.send(`{"id":1}`, nil)
	foreign.send(`{"id":2}`, map[string]types.MessageAttributeValue{
		"Category": {DataType: aws.String("Binary"), BinaryValue: []byte("Other")},
		"Source":   {DataType: aws.String("Binary"), BinaryValue: []byte{0, 1, 2}},
	})
	foreign.send(`{"id":3}`, map[string]types.MessageAttributeValue{
		"n": {DataType: aws.String("Number.int"), StringValue: aws.String("17")},
	})
	got := map[int]types.Message{}
	for range 3 {
		msg := next(t, deq)
		if msg.Category != "Note" {
			t.Errorf("got %+v", msg)
		}
		got[msg.Object.ID] = msg.IOContext.(types.Message)
		ack <- msg
	}
	if string(got[2].MessageAttributes["Category"].BinaryValue) != "Other" || aws.ToString(got[3].MessageAttributes["n"].StringValue) != "17" || len(got) != 3 {
		t.Errorf("got %+v", got)
	}
	soon(t, "all messages are deleted", foreign.empty)
}

func TestAQueueThatIsDeletedEndsRun(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	name, url := create(t, cfg, false, nil)
	client := &counter{Client: awssqs.NewFromConfig(cfg)}
	q, err := sqs.Endpoint().WithService(client).WithWaitTime(time.Second).WithKernel(quiet).Build(name)
	if err != nil {
		t.Fatal(err)
	}
	listen.Typed[Note](q)
	ended := make(chan error, 1)
	go func() { ended <- q.Run(context.Background()) }()
	soon(t, "the kernel polls", func() bool { return client.receives.Load() > 0 })

	foreign := plainly(t, cfg, url)
	if _, err := foreign.DeleteQueue(t.Context(), &awssqs.DeleteQueueInput{QueueUrl: &url}); err != nil {
		t.Fatal(err)
	}
	before := client.receives.Load()
	err = emit.NewTyped[Note](q).Enq(t.Context(), Note{1})
	if e, ok := errors.AsType[*swarm.EmitError](err); !errors.Is(err, swarm.ErrClosed) && (!ok || e.Attempts != 1 || !notExist(err)) {
		t.Errorf("emit to a queue that is gone: %v", err)
	}
	select {
	case err = <-ended:
	case <-time.After(patience):
		t.Fatal("Run does not end")
	}
	if !notExist(err) || !strings.Contains(err.Error(), "receive") {
		t.Errorf("got %v, want it to say that the queue does not exist", err)
	}
	// One may have been in flight, and one about to go, when the queue was deleted.
	if n := client.receives.Load() - before; n > 3+2 {
		t.Errorf("%d receives after the queue was deleted", n)
	}
	t.Logf("Run: %v", err)
}

func notExist(err error) bool {
	_, ok := errors.AsType[*types.QueueDoesNotExist](err)
	return ok
}

// Queues from before August 2025, and pinned ones, take 256 KiB.
func TestMaximumMessageSizeOfTheQueue(t *testing.T) {
	t.Parallel()
	const limit = 262144
	cfg := cloud(t)
	name, url := create(t, cfg, false, map[string]string{"MaximumMessageSize": strconv.Itoa(limit)})
	client := &counter{Client: awssqs.NewFromConfig(cfg)}
	q, err := sqs.Endpoint().WithService(client).WithWaitTime(time.Second).WithKernel(quiet, swarm.WithSource("me")).Build(name)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	type Text struct{ S string }
	texts := emit.NewTyped[Text](q)
	// of is a text that makes a message of so many bytes.
	overhead := len(`{"S":""}`) + len("CategoryStringText") + len("SourceStringme")
	of := func(n int) Text { return Text{strings.Repeat("x", n-overhead)} }

	for _, n := range []int{300_000, limit + 1} {
		err := texts.Enq(t.Context(), of(n))
		if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 0 {
			t.Errorf("%d bytes: %v", n, err)
			continue
		}
		for _, want := range []string{strconv.Itoa(n), strconv.Itoa(limit), name} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not name %s", err, want)
			}
		}
	}
	if n := client.sends.Load(); n != 0 {
		t.Errorf("%d calls for what is too large", n)
	}
	for _, n := range []int{250_000, limit} { // the service counts as we do
		if err := texts.Enq(t.Context(), of(n)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	foreign := plainly(t, cfg, url)
	if _, all := foreign.depth(); all != 2 {
		t.Errorf("%d messages in the queue", all)
	}
	body, _ := json.Marshal(of(limit + 1))
	_, err = foreign.SendMessage(t.Context(), &awssqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String(string(body)),
		MessageAttributes: map[string]types.MessageAttributeValue{"Category": text("Text"), "Source": text("me")}})
	if err == nil {
		t.Error("the service takes what we refuse")
	}
}

// Person, and metadata of events, as programs on fogfish/swarm v0.24 have them.
type (
	Person struct {
		Name string `json:"name"`
	}
	PersonMeta struct {
		swarm.Meta
		About string `json:"about,omitempty"`
	}
	PersonEvent = swarm.Event[PersonMeta, Person]
)

func TestReadsWhatV024Writes(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	name, url := create(t, cfg, false, nil)
	q := connect(t, cfg, name)
	notes, ackNote := listen.Typed[Note](q)
	users, ackUser := listen.Event[PersonEvent](q)
	go q.Run(context.Background())

	old := plainly(t, cfg, url)
	old.send(`{"id":7}`, map[string]types.MessageAttributeValue{"Source": text("swarm:old"), "Category": text("Note")})
	old.send(`{"meta":{"id":"e-1","type":"[swarm:Person]","realm":"swarm:blue","agent":"swarm:old","created":"2025-07-30T12:34:56.789Z","target":"swarm:new","participant":"ada","about":"sign up"},"data":{"name":"ada"}}`,
		map[string]types.MessageAttributeValue{"Source": text("swarm:old"), "Category": text("Person")})

	note := next(t, notes)
	if note.Object != (Note{7}) || note.Category != "Note" {
		t.Errorf("got %+v", note)
	}
	ackNote <- note
	user := next(t, users)
	meta := PersonMeta{About: "sign up", Meta: swarm.Meta{
		ID: "e-1", Type: "[swarm:Person]", Realm: "swarm:blue", Agent: "swarm:old", Target: "swarm:new", Participant: "ada",
		Created: time.Date(2025, time.July, 30, 12, 34, 56, 789e6, time.UTC),
	}}
	if user.Object.Meta == nil || user.Object.Data == nil || *user.Object.Meta != meta || user.Object.Data.Name != "ada" || user.Category != "Person" {
		t.Errorf("got %+v, %+v", user.Object.Meta, user.Object.Data)
	}
	ackUser <- user
	soon(t, "both messages are deleted", old.empty)
}

func TestV024ReadsWhatThisWrites(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	for _, fifo := range []bool{false, true} {
		name, url := create(t, cfg, fifo, map[string]string{})
		q := connect(t, cfg, name, swarm.WithSource("me"), swarm.WithRealm("blue"))
		old := plainly(t, cfg, url)
		read := func(category string) string {
			t.Helper()
			m := old.one()
			if got := m.MessageAttributes; len(got) != 2 ||
				aws.ToString(got["Category"].DataType) != "String" || aws.ToString(got["Category"].StringValue) != category ||
				aws.ToString(got["Source"].DataType) != "String" || aws.ToString(got["Source"].StringValue) != "me" {
				t.Errorf("attributes of %s: %+v", category, got)
			}
			if group := m.Attributes["MessageGroupId"]; fifo && group != category {
				t.Errorf("group of %s: %s", category, group)
			}
			return *m.Body
		}

		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
			t.Fatal(err)
		}
		if body := read("Note"); body != `{"id":7}` {
			t.Errorf("got %s", body)
		}
		event := PersonEvent{Meta: &PersonMeta{About: "sign up", Meta: swarm.Meta{ID: "e-1", Participant: "ada"}}, Data: &Person{Name: "ada"}}
		if err := emit.NewEvent[PersonEvent](q).Enq(t.Context(), event); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Meta, Data map[string]any
		}
		if err := json.Unmarshal([]byte(read("Person")), &got); err != nil {
			t.Fatal(err)
		}
		created, _ := got.Meta["created"].(string)
		if at, err := time.Parse(time.RFC3339, created); err != nil || time.Since(at) > time.Minute {
			t.Errorf("created %q: %v", created, err)
		}
		delete(got.Meta, "created")
		want := map[string]any{"id": "e-1", "type": "Person", "realm": "blue", "agent": "me", "participant": "ada", "about": "sign up"}
		if !maps.Equal(got.Meta, want) || !maps.Equal(got.Data, map[string]any{"name": "ada"}) {
			t.Errorf("got %v, %v", got.Meta, got.Data)
		}
	}
}

func TestFIFODeduplication(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	name, url := create(t, cfg, true, map[string]string{"ContentBasedDeduplication": "true"})
	q := connect(t, cfg, name)
	deq, ack := listen.Typed[Note](q)

	equal := emit.NewTyped[Note](q)
	keyed := emit.NewTyped[Note](q, emit.DedupBy(func(n Note) string { return "key of " + strconv.Itoa(n.ID) }))
	for _, x := range []struct {
		emit *emit.Sync[Note]
		note Note
	}{{equal, Note{1}}, {equal, Note{1}}, {equal, Note{1}}, {equal, Note{1}}, {equal, Note{1}}, {keyed, Note{2}}, {keyed, Note{2}}, {keyed, Note{3}}} {
		if err := x.emit.Enq(t.Context(), x.note); err != nil {
			t.Fatal(err)
		}
	}
	queue := plainly(t, cfg, url)
	if _, all := queue.depth(); all != 7 {
		t.Errorf("%d messages in the queue, want 5 equal ones and 2 with keys", all)
	}
	go q.Run(context.Background())
	var got []int
	for range 7 {
		msg := next(t, deq)
		got = append(got, msg.Object.ID)
		ack <- msg
	}
	if !slices.Equal(got, []int{1, 1, 1, 1, 1, 2, 3}) {
		t.Errorf("got %v", got)
	}
	soon(t, "all messages are deleted", queue.empty)
}

// L9, with consumers that fail in the middle.
func TestFIFOOrderOfAGroup(t *testing.T) {
	t.Parallel()
	const groups, each, bad = 3, 6, 3
	cfg := cloud(t)
	name, url := create(t, cfg, true, map[string]string{})
	q := connect(t, cfg, name, swarm.WithEmitWindow(groups*each), swarm.WithPollerPool(2))
	enq, dlq := emit.Typed[Note](q, emit.OrderBy(func(n Note) string { return fmt.Sprint("group ", n.ID%groups) }))
	go func() {
		for n := range dlq {
			t.Errorf("not sent: %v", n)
		}
	}()
	for i := range groups * each {
		enq <- Note{i}
	}
	close(enq)
	queue := plainly(t, cfg, url)
	soon(t, "all messages are in the queue", func() bool { visible, _ := queue.depth(); return visible == groups*each })
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background()) // now a receive brings several of a group

	var mu sync.Mutex
	busy, failed, done := map[int]int{}, map[int]bool{}, map[int][]int{}
	for range 3 {
		go func() {
			for msg := range deq {
				group, n := msg.Object.ID%groups, msg.Object.ID/groups
				mu.Lock()
				if busy[group]++; busy[group] > 1 {
					t.Errorf("group %d: %d messages in hand", group, busy[group])
				}
				fail := n == bad && !failed[group]
				failed[group] = failed[group] || fail
				mu.Unlock()
				time.Sleep(10 * time.Millisecond) // work, so that others could overtake
				mu.Lock()
				busy[group]--
				if !fail {
					done[group] = append(done[group], n)
				}
				mu.Unlock()
				if fail {
					msg = msg.Fail(nil)
				}
				ack <- msg
			}
		}()
	}
	soon(t, "all messages are processed and deleted", func() bool {
		mu.Lock()
		n := 0
		for _, d := range done {
			n += len(d)
		}
		mu.Unlock()
		return n >= groups*each && queue.empty()
	})
	mu.Lock()
	defer mu.Unlock()
	for group := range groups {
		if want := []int{0, 1, 2, 3, 4, 5}; !slices.Equal(done[group], want) || !failed[group] {
			t.Errorf("group %d: got %v, want %v; failed once: %v", group, done[group], want, failed[group])
		}
	}
}

// L5, L7: messages of a category that hangs, with consumers or parked, outlive their
// lease several times. Nobody gets them twice, and nobody waits for them.
func TestASlowCategoryHoldsUpNobody(t *testing.T) {
	t.Parallel()
	const (
		slows, fasts = 25, 50
		share        = 2 * 10 // pollers × batch: what consumers have at a time
		visibility   = 3 * time.Second
	)
	type Slow struct{ N int }
	type Fast struct{ N int }
	cfg := cloud(t)
	name, queue, dead := createWithDeadLetters(t, cfg, 3, map[string]string{"VisibilityTimeout": strconv.Itoa(int(visibility.Seconds()))})
	stderr := make(chan error, 100)
	q := connect(t, cfg, name, swarm.WithPollerPool(2), swarm.WithEmitWindow(50), swarm.WithStdErr(stderr))
	slow, ackSlow := listen.Typed[Slow](q)
	fast, ackFast := listen.Typed[Fast](q)

	var mu sync.Mutex
	attempts := map[int][]int{}
	inHand := func() int { mu.Lock(); defer mu.Unlock(); return len(attempts) }
	goOn := make(chan struct{})
	for range slows {
		go func() {
			for msg := range slow {
				mu.Lock()
				attempts[msg.Object.N] = append(attempts[msg.Object.N], msg.Attempt)
				mu.Unlock()
				<-goOn
				ackSlow <- msg
			}
		}()
	}
	hanging := sync.OnceFunc(func() { close(goOn) })
	defer hanging()
	go q.Run(context.Background())

	began := time.Now()
	enqSlow, _ := emit.Typed[Slow](q)
	for i := range slows {
		enqSlow <- Slow{i}
	}
	close(enqSlow)
	soon(t, "all slow messages were received", func() bool {
		visible, all := queue.depth()
		return all == slows && visible == 0 && inHand() == share
	})
	enqFast, _ := emit.Typed[Fast](q)
	go func() {
		for i := range fasts {
			enqFast <- Fast{i}
		}
		close(enqFast)
	}()
	got := map[int]bool{}
	for range fasts {
		msg := next(t, fast)
		got[msg.Object.N] = true
		ackFast <- msg
	}
	if len(got) != fasts {
		t.Errorf("%d of %d fast messages, some twice", len(got), fasts)
	}
	soon(t, "the leases have ended twice, were they not extended", func() bool { return time.Since(began) > 2*visibility+time.Second })
	if n := inHand(); n != share {
		t.Errorf("%d slow messages with consumers, want %d", n, share)
	}

	hanging()
	soon(t, "all messages are processed and deleted", func() bool { return queue.empty() })
	mu.Lock()
	defer mu.Unlock()
	for i := range slows {
		if !slices.Equal(attempts[i], []int{1}) {
			t.Errorf("slow message %d: attempts %v", i, attempts[i])
		}
	}
	if _, n := dead.depth(); n != 0 {
		t.Errorf("%d messages in the dead-letter queue", n)
	}
	for range len(stderr) {
		t.Errorf("reported: %v", <-stderr)
	}
}

func TestTraceHeader(t *testing.T) {
	t.Parallel()
	const trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
	cfg := cloud(t)
	name, _ := create(t, cfg, false, nil)
	q := connect(t, cfg, name)
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())

	bag := q.NewBag("Note")
	bag.Body = []byte(`{"id":7}`)
	bag.Attrs = map[string]string{"AWSTraceHeader": trace, "tenant": "blue"}
	if err := q.Enqueue(t.Context(), &bag); err != nil {
		t.Fatal(err)
	}
	msg := next(t, deq)
	native := msg.IOContext.(types.Message)
	if native.Attributes["AWSTraceHeader"] != trace {
		t.Errorf("got %v", native.Attributes)
	}
	if _, ok := native.MessageAttributes["AWSTraceHeader"]; ok || aws.ToString(native.MessageAttributes["tenant"].StringValue) != "blue" {
		t.Errorf("got %v", native.MessageAttributes)
	}
	ack <- msg
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Second
	cfg := cloud(t)
	name, _ := create(t, cfg, false, nil)
	q := connect(t, cfg, name)
	deq, ack := listen.Typed[Note](q)
	go q.Run(context.Background())
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	msg := next(t, deq)
	failed := time.Now()
	ack <- msg.Fail(swarm.RetryAfter(delay, errors.New("not yet")))
	msg = next(t, deq)
	if after := time.Since(failed); after < delay || msg.Attempt != 2 {
		t.Errorf("attempt %d after %s, want %s", msg.Attempt, after, delay)
	}
	ack <- msg
}
