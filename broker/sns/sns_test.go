package sns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sns"
)

type Note struct {
	ID int `json:"id"`
}

var quiet = awstest.Quiet

const trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

// emitter builds a kernel on a stub. It closes with the test.
func emitter(t testing.TB, s *stub, opts ...swarm.Option) *kernel.Emitter {
	t.Helper()
	q, err := sns.Emitter().WithConfig(s.Config()).
		WithKernel(append([]swarm.Option{quiet, swarm.WithSource("me"), swarm.WithRetryConstant(time.Millisecond, 12)}, opts...)...).Build("topic")
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

// bare is the driver without a kernel.
type bare interface {
	io.Closer
	driver.Sender
	driver.Limiter
}

func bareTopic(t testing.TB, name string, b *sns.Builder[*kernel.Emitter]) bare {
	t.Helper()
	d, err := sns.Connect(name, b.WithKernel(quiet))
	if err != nil {
		t.Fatal(err)
	}
	return d.(bare)
}

func bags(n int) []driver.Bag {
	all := make([]driver.Bag, n)
	for i := range all {
		all[i] = driver.Bag{Category: "Note", Source: "me", Body: fmt.Appendf(nil, `{"id":%d}`, i)}
	}
	return all
}

func TestWireFormat(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	if err := emit.NewBytes(q, codec.Bytes("Image")).Enq(t.Context(), []byte("\x89PNG")); err != nil {
		t.Fatal(err)
	}
	bag := q.NewBag("Note")
	bag.Body = []byte(`{"id":8}`)
	bag.Attrs = map[string]string{"AWSTraceHeader": trace, "tenant": "blå"}
	if err := q.Enqueue(t.Context(), &bag); err != nil {
		t.Fatal(err)
	}
	want := []message{
		{body: `{"id":7}`, attributes: map[string]string{"Category": "Note", "Source": "me"}},
		{body: "iVBORw==", attributes: map[string]string{"Category": "Image", "Source": "me", "Encoding": "base64"}},
		{body: `{"id":8}`, attributes: map[string]string{"Category": "Note", "Source": "me", "AWSTraceHeader": trace, "tenant": "blå"}},
	}
	for i, m := range s.messages {
		if m.topic != prefixARN+"topic" || m.body != want[i].body || !maps.Equal(m.attributes, want[i].attributes) || m.subject+m.group+m.dedup != "" {
			t.Errorf("got %+v, want %+v", m, want[i])
		}
	}
	if len(s.messages) != len(want) {
		t.Errorf("%d messages", len(s.messages))
	}
}

func TestSendFaults(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		name := map[bool]string{false: "topic", true: "topic.fifo"}[fifo]
		t.Run(name, func(t *testing.T) {
			awstest.Ledger{
				Op: "PublishBatch", Dedup: fifo, Ordered: fifo,
				Faults: map[string]awstest.Fault{
					"throttled":        {Status: 400, Code: "Throttled"},
					"throttled by KMS": {Status: 400, Code: "KMSThrottling"},
					"500":              {Status: 500, Code: "InternalError"},
					"503":              {Status: 503, Code: "ServiceUnavailable"},
					"reset":            {Reset: true},
					"hang":             {Hang: true},
					"answer lost":      {Lost: true},
					"partial":          {Entries: map[int]awstest.Entry{0: {Code: "InternalError"}, 3: {Code: "ThrottledException", Sender: true}}},
					"refused":          {Entries: map[int]awstest.Entry{1: {Code: "InvalidParameter", Sender: true}}},
				},
				Permanent: map[string]bool{"refused": true},
				Open: func(t *testing.T) (*awstest.Stub, func(...swarm.Option) *kernel.Emitter) {
					s := newStub(t)
					return s.Stub, func(opts ...swarm.Option) *kernel.Emitter {
						return swarm.Must(sns.Emitter().WithConfig(s.Config()).WithKernel(opts...).Build(name))
					}
				},
			}.Run(t)
		})
	}
}

// E5: one request tells.
func TestPermanentErrorsAreNotSentAgain(t *testing.T) {
	for code, permanent := range map[string]bool{
		"NotFound": true, "InvalidParameter": true, "ParameterValueInvalid": true, "ValidationException": true, "AuthorizationError": true,
		"BatchRequestTooLong": true, "TooManyEntriesInBatchRequest": true, "BatchEntryIdsNotDistinct": true, "InvalidBatchEntryId": true,
		"EmptyBatchRequest": true, "EndpointDisabled": true, "PlatformApplicationDisabled": true, "InvalidSecurity": true,
		"KMSAccessDenied": true, "KMSDisabled": true, "KMSInvalidState": true, "KMSNotFound": true, "KMSOptInRequired": true,
		"InvalidClientTokenId": true, "KMSThrottling": false, "Throttled": false, "InternalError": false, "SomethingNew": false,
	} {
		s := newStub(t)
		s.Fault = func(op string, n int) awstest.Fault {
			if op == "PublishBatch" && n <= 3 {
				return awstest.Fault{Status: 400, Code: code}
			}
			return awstest.Fault{}
		}
		err := emit.NewTyped[Note](emitter(t, s)).Enq(t.Context(), Note{1})
		want := 4
		if permanent {
			want = 1
			if err == nil || !strings.Contains(err.Error(), "sns: topic topic: publish:") {
				t.Errorf("%s: got %v, want it to name the topic", code, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", code, err)
		}
		if n := s.Count("PublishBatch"); n != want {
			t.Errorf("%s: %d requests, want %d", code, n, want)
		}
	}
}

func failed(err error) (indices []int) {
	batch, ok := errors.AsType[*driver.BatchError](err)
	if !ok {
		return nil
	}
	for _, f := range batch.Failed {
		indices = append(indices, f.Index)
	}
	slices.Sort(indices)
	return indices
}

func TestAnswersNameTheirEntries(t *testing.T) {
	s := newStub(t)
	d := bareTopic(t, "topic", sns.Emitter().WithConfig(s.Config()))
	s.Once("PublishBatch", awstest.Fault{Entries: map[int]awstest.Entry{
		2: {Code: "InternalError"}, 5: {Code: "ThrottledException", Sender: true}, 9: {Code: "InvalidParameter", Sender: true}}})
	err := d.Send(t.Context(), bags(10))
	if got := failed(err); !slices.Equal(got, []int{2, 5, 9}) || !strings.Contains(err.Error(), "sns: topic topic: api error") {
		t.Fatalf("got %v: %v", got, err)
	}
	batch, _ := errors.AsType[*driver.BatchError](err)
	for _, f := range batch.Failed {
		if f.Permanent != (f.Index == 9) {
			t.Errorf("got %+v", f)
		}
	}
	good := func(ids ...string) (out string) {
		for _, id := range ids {
			out += "<member><Id>" + id + "</Id><MessageId>m</MessageId></member>"
		}
		return "<Successful>" + out + "</Successful>"
	}
	for answer, want := range map[string][]int{
		good():                               {0, 1, 2},
		good("2", "0"):                       {1},
		good("0", "1", "2", "3", "-1", "00"): nil,
		good("x", "1") + "<Failed><member><Id>7</Id><Code>c</Code><SenderFault>true</SenderFault></member></Failed>":      {0, 2},
		good("0", "1", "2") + "<Failed><member><Id>1</Id><Code>c</Code><SenderFault>true</SenderFault></member></Failed>": {1},
	} {
		s.answer = answer
		if err := d.Send(t.Context(), bags(3)); !slices.Equal(failed(err), want) || want == nil && err != nil {
			t.Errorf("%s: got %v", answer, err)
		}
	}
}

// nothing is a client that answers neither a result nor an error.
type nothing struct{}

var _ sns.SNS = nothing{}

func (nothing) ListTopics(context.Context, *awssns.ListTopicsInput, ...func(*awssns.Options)) (*awssns.ListTopicsOutput, error) {
	return nil, nil
}

func (nothing) GetTopicAttributes(context.Context, *awssns.GetTopicAttributesInput, ...func(*awssns.Options)) (*awssns.GetTopicAttributesOutput, error) {
	return nil, nil
}

func (nothing) PublishBatch(context.Context, *awssns.PublishBatchInput, ...func(*awssns.Options)) (*awssns.PublishBatchOutput, error) {
	return nil, nil
}

func TestAClientThatAnswersNothing(t *testing.T) {
	for _, name := range []string{"topic", prefixARN + "topic"} {
		if _, err := sns.Emitter().WithService(nothing{}).WithKernel(quiet).Build(name); err == nil {
			t.Errorf("Build(%s) has no error", name)
		}
		if err := bareTopic(t, name, sns.Emitter().WithService(nothing{}).WithLazy()).Send(t.Context(), bags(1)); err == nil {
			t.Errorf("Send to %s has no error", name)
		}
	}
}

// sized is a bag of n bytes, as SNS counts them.
func sized(n int) driver.Bag {
	overhead := len("CategoryString") + len("Note") + len("SourceString") + len("me")
	return driver.Bag{Category: "Note", Source: "me", Body: []byte(strings.Repeat("x", n-overhead))}
}

func TestWhatSNSWouldRefuseIsRefusedBeforeTheCall(t *testing.T) {
	attrs := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}
	note := func(attrs map[string]string) driver.Bag {
		bag := bags(1)[0]
		bag.Attrs = attrs
		return bag
	}
	for _, limit := range []int{0, 1024, 1 << 20} {
		s := newStub(t)
		if limit > 0 {
			s.attrs = map[string]string{"MaximumMessageSize": fmt.Sprint(limit)}
		} else {
			limit = 262144
		}
		q := emitter(t, s)
		for name, x := range map[string]struct {
			bag  driver.Bag
			want string // empty: accepted
		}{
			"largest":           {sized(limit), ""},
			"a byte too many":   {sized(limit + 1), fmt.Sprintf("%d bytes with its attributes, topic topic takes %d", limit+1, limit)},
			"empty body":        {driver.Bag{Category: "Note"}, "body is empty"},
			"10 attributes":     {note(attrs(8)), ""},
			"11 attributes":     {note(attrs(9)), "11 attributes, SNS takes 10"},
			"attribute name":    {note(map[string]string{"a b": "x"}), `"a b" is not a name`},
			"attribute of AWS":  {note(map[string]string{"AWS.x": "x"}), `"AWS.x" is not a name`},
			"empty attribute":   {note(map[string]string{"k": ""}), "attribute k is empty"},
			"hostile attribute": {note(map[string]string{"k": "\x00"}), "attribute k has characters"},
			"driver's own":      {note(map[string]string{"Encoding": "base64"}), "attribute Encoding is the driver's own"},
			"empty trace":       {note(map[string]string{"AWSTraceHeader": ""}), "AWSTraceHeader is empty"},
			"category":          {driver.Bag{Category: "\xff", Body: []byte("x")}, "attribute Category has characters"},
			"bytes of any kind": {driver.Bag{Category: "Image", Body: []byte("\xff\x00\ufffe")}, ""},
		} {
			before := s.Count("PublishBatch")
			err := q.Enqueue(t.Context(), &x.bag)
			calls := s.Count("PublishBatch") - before
			if x.want == "" {
				if err != nil || calls != 1 {
					t.Errorf("%s: %v, %d calls", name, err, calls)
				}
				continue
			}
			if e, ok := errors.AsType[*swarm.EmitError](err); !ok || e.Attempts != 0 || calls != 0 || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: got %.200v, want it to say %q; %d calls", name, err, x.want, calls)
			}
		}
	}
	d := bareTopic(t, "topic.fifo", sns.Emitter().WithLazy().WithConfig(newStub(t).Config()))
	if err := d.Limits().Check(&driver.Bag{Category: "Note", Body: []byte("x"), ID: "1"}); !driver.IsPermanent(err) {
		t.Errorf("no group on FIFO: got %v", err)
	}
}

// A subject counts; the kernel fills a request up to what the topic takes, and not
// further: the stub refuses what is larger.
func TestLargeMessagesShareRequests(t *testing.T) {
	s := newStub(t)
	q := swarm.Must(sns.Emitter().WithConfig(s.Config()).WithSubject("Hello").WithKernel(quiet, swarm.WithEmitWindow(100)).Build("topic"))
	type Text struct{ S string }
	enq, dlq := emit.Typed[Text](q)
	go func() {
		for range dlq {
			t.Error("a message failed")
		}
	}()
	for i := range 100 {
		enq <- Text{strings.Repeat("x", 30_000+1_000*(i%10))}
	}
	close(enq)
	if err := q.Close(); err != nil || len(s.messages) != 100 || s.messages[0].subject != "Hello" {
		t.Errorf("%d messages: %v", len(s.messages), err)
	}
	t.Logf("100 messages of 35 KB took %d requests", s.Count("PublishBatch"))
}

func TestGroupAndDeduplicationIDs(t *testing.T) {
	s := newStub(t)
	publish := func(name string, change func(*sns.Builder[*kernel.Emitter]), opts ...emit.Option) message {
		t.Helper()
		b := sns.Emitter().WithConfig(s.Config()).WithKernel(quiet)
		change(b)
		q := swarm.Must(b.Build(name))
		defer q.Close()
		if err := emit.NewTyped[Note](q, opts...).Enq(t.Context(), Note{7}); err != nil {
			t.Fatal(err)
		}
		return s.messages[len(s.messages)-1]
	}
	none := func(*sns.Builder[*kernel.Emitter]) {}
	tenant := emit.OrderBy(func(n Note) string { return fmt.Sprint("tenant ", n.ID) }) // a space is hashed
	plain := emit.OrderBy(func(n Note) string { return fmt.Sprint("tenant-", n.ID) })
	dedup := emit.DedupBy(func(n Note) string { return fmt.Sprint("key-", n.ID) })

	if m := publish("topic", none, plain, dedup); m.group+m.dedup != "" {
		t.Errorf("standard: got %+v", m)
	}
	if m := publish("topic", func(b *sns.Builder[*kernel.Emitter]) { b.WithFairQueue() }, plain, dedup); m.group != "tenant-7" || m.dedup != "" {
		t.Errorf("fair queue: got %+v", m)
	}
	if m := publish("topic", func(b *sns.Builder[*kernel.Emitter]) { b.WithFairQueue() }); m.group != "" {
		t.Errorf("fair queue without a key: got %+v", m)
	}
	if m := publish("topic.fifo", none); m.group != "Note" || m.dedup == "" {
		t.Errorf("FIFO without keys: got %+v", m)
	}
	if m := publish("topic.fifo", none, tenant, dedup); !strings.HasPrefix(m.group, "sha256-") || m.dedup != "key-7" {
		t.Errorf("FIFO: got %+v", m)
	}
}

func TestGroupBatchingTakesFewerRequests(t *testing.T) {
	const total = 100
	for _, batching := range []bool{false, true} {
		s := newStub(t)
		b := sns.Emitter().WithConfig(s.Config()).WithKernel(quiet, swarm.WithEmitWindow(50))
		if batching {
			b.WithGroupBatching()
		}
		q := swarm.Must(b.Build("topic.fifo"))
		enq, _ := emit.Typed[Note](q) // one group: the category
		for i := range total {
			enq <- Note{i}
		}
		close(enq)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		for i, m := range s.messages {
			if m.body != fmt.Sprintf(`{"id":%d}`, i) {
				t.Errorf("batching %v: %s at %d", batching, m.body, i)
			}
		}
		if n := s.Count("PublishBatch"); batching && n > total/5 || !batching && n != total {
			t.Errorf("batching %v: %d requests for %d messages of one group", batching, n, total)
		}
	}
}

// What is set is what counts, or is refused.
func TestBuild(t *testing.T) {
	s := newStub(t)
	for i := range 5 {
		s.topics = append(s.topics, fmt.Sprint("topic-", i))
	}
	type builder = sns.Builder[*kernel.Emitter]
	build := func(name string, change func(*builder)) error {
		b := sns.Emitter().WithConfig(s.Config()).WithKernel(quiet)
		if change != nil {
			change(b)
		}
		q, err := b.Build(name)
		if err == nil {
			err = q.Close()
		}
		return err
	}
	if err := errors.Join(build("topic", nil), build(prefixARN+"topic.fifo", nil)); err != nil {
		t.Error(err)
	}
	if n := s.Count("ListTopics"); n != 1 {
		t.Errorf("%d look-ups for one name and one ARN", n)
	}
	if err := build("topic-4", nil); err != nil || s.Count("ListTopics") != 1+4 {
		t.Errorf("%v, %d look-ups: it is on the fourth page", err, s.Count("ListTopics")-1)
	}
	for _, x := range []struct {
		name, want string
		change     func(*builder)
	}{
		{"", "CONFIG_SWARM_TARGET_SNS is not set", nil},
		{"opic", "sns: topic opic: list topics: no topic of this account and region has the name", nil},
		{"other", "needs its ARN (region eu-west-1)", nil},
		{prefixARN + "other", "sns: topic other: describe:", nil},
		{"no good", `"no good" is not the name or ARN of a topic`, nil},
		{".fifo", "is not the name", nil},
		{"a.b", "is not the name", nil},
		{strings.Repeat("x", 252) + ".fifo", "is not the name", nil},
		{"arn:aws:sqs:eu-west-1:123456789012:topic", "is not the ARN of a topic", nil},
		{"arn:aws:sns:eu-west-1:123456789012:topic:1a2b", "is not the name or ARN", nil}, // of a subscription
		{"arn:aws:sns:us-east-1:123456789012:topic", "topic topic is in region us-east-1, the client in eu-west-1", nil},
		{"arn:aws:sns:us-east-1:123456789012:topic", "the client in eu-west-1", func(b *builder) {
			b.WithService(awssns.NewFromConfig(s.Config()))
		}},
		{"topic", "WithBatchSize(0)", func(b *builder) { b.WithBatchSize(0) }},
		{"topic", "WithBatchSize(11)", func(b *builder) { b.WithBatchSize(11) }},
		{"topic", `WithSubject("")`, func(b *builder) { b.WithSubject("") }},
		{"topic", `WithSubject(" x")`, func(b *builder) { b.WithSubject(" x") }},
		{"topic", `WithSubject("a\nb")`, func(b *builder) { b.WithSubject("a\nb") }},
		{"topic", `WithSubject("é")`, func(b *builder) { b.WithSubject("é") }},
		{"topic", "WithSubject", func(b *builder) { b.WithSubject(strings.Repeat("x", 101)) }},
		{"topic.fifo", "WithFairQueue: topic.fifo is a FIFO topic", func(b *builder) { b.WithFairQueue() }},
		{"topic", "WithGroupBatching: topic is not a FIFO topic", func(b *builder) { b.WithGroupBatching() }},
		{"topic", "WithService", func(b *builder) { b.WithService(nil) }},
		{"topic", "WithService", func(b *builder) { b.WithService((*awssns.Client)(nil)) }},
		{"topic", "WithEmitWindow(-1)", func(b *builder) { b.WithKernel(swarm.WithEmitWindow(-1)) }},
		{"topic", "no region", func(b *builder) { b.WithConfig(aws.Config{}) }},
	} {
		if err := build(x.name, x.change); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("Build(%.80q): got %v, want it to say %q", x.name, err, x.want)
		}
	}
	if err := build("topic", func(b *builder) { b.WithSubject("#" + strings.Repeat("~ ", 49) + "!") }); err != nil {
		t.Errorf("a subject of 100 characters: %v", err)
	}

	t.Run("from the environment", func(t *testing.T) {
		t.Setenv(sns.EnvTarget, "topic")
		if err := build("", nil); err != nil {
			t.Error(err)
		}
	})
	denied := func(which string) *stub {
		s := newStub(t)
		s.Fault = func(op string, _ int) awstest.Fault {
			if op == which {
				return awstest.Fault{Status: 403, Code: "AuthorizationError"}
			}
			return awstest.Fault{}
		}
		return s
	}
	t.Run("attributes that may not be read are a warning", func(t *testing.T) {
		var log strings.Builder
		q, err := sns.Emitter().WithConfig(denied("GetTopicAttributes").Config()).
			WithKernel(swarm.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))).Build("topic")
		if err != nil || !strings.Contains(log.String(), "may not be read") {
			t.Fatalf("got %v, log %s", err, log.String())
		}
		q.Close()
	})
	t.Run("a list that may not be read asks for the ARN", func(t *testing.T) {
		s := denied("ListTopics")
		_, err := sns.Emitter().WithConfig(s.Config()).WithKernel(quiet).Build("topic")
		if err == nil || !strings.Contains(err.Error(), "the ARN in place of the name needs no look-up") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("lazy looks up once, when it sends", func(t *testing.T) {
		s := newStub(t)
		q, err := sns.Emitter().WithConfig(s.Config()).WithLazy().WithKernel(quiet).Build("topic")
		if err != nil || s.Count("ListTopics", "GetTopicAttributes") != 0 {
			t.Fatal(err)
		}
		for i := range 3 {
			if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{i}); err != nil {
				t.Error(err)
			}
		}
		if err := q.Close(); err != nil || s.Count("ListTopics") != 1 || s.Count("GetTopicAttributes") != 0 {
			t.Errorf("%v, %d look-ups", err, s.Count("ListTopics"))
		}
	})
	t.Run("lazy finds a topic that is made later", func(t *testing.T) {
		s := newStub(t)
		s.Fault = func(op string, n int) awstest.Fault {
			if op == "ListTopics" && n == 3 {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.topics = append([]string{"late"}, s.topics...)
			}
			return awstest.Fault{}
		}
		q := swarm.Must(sns.Emitter().WithConfig(s.Config()).WithLazy().WithKernel(quiet, swarm.WithRetryConstant(time.Millisecond, 5)).Build("late"))
		if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{1}); err != nil || s.Count("ListTopics") != 3 {
			t.Errorf("%v after %d look-ups", err, s.Count("ListTopics"))
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a hung look-up ends by the network timeout", func(t *testing.T) {
		s := newStub(t)
		s.Fault = func(string, int) awstest.Fault { return awstest.Fault{Hang: true} }
		began := time.Now()
		_, err := sns.Emitter().WithConfig(s.Config()).WithKernel(quiet, swarm.WithNetworkTimeout(100*time.Millisecond)).Build("topic")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
	t.Run("the batch size reaches the requests", func(t *testing.T) {
		s := newStub(t)
		q := swarm.Must(sns.Emitter().WithConfig(s.Config()).WithBatchSize(3).
			WithKernel(quiet, swarm.WithEmitWindow(9), swarm.WithLinger(time.Hour)).Build("topic"))
		enq, _ := emit.Typed[Note](q)
		for i := range 9 {
			enq <- Note{i}
		}
		close(enq)
		if err := q.Close(); err != nil || s.Count("PublishBatch") < 3 || len(s.messages) != 9 {
			t.Errorf("%v, %d requests, %d messages", err, s.Count("PublishBatch"), len(s.messages))
		}
	})
}
