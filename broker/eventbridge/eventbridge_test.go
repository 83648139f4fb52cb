package eventbridge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awseventbridge "github.com/aws/aws-sdk-go-v2/service/eventbridge"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/internal/awstest"
)

type Note struct {
	ID int `json:"id"`
}

var quiet = awstest.Quiet

const trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"

// emitter builds a kernel on a stub. It closes with the test.
func emitter(t testing.TB, s *stub, opts ...swarm.Option) *kernel.Emitter {
	t.Helper()
	q, err := eventbridge.Emitter().WithConfig(s.Config()).
		WithKernel(append([]swarm.Option{quiet, swarm.WithSource("me"), swarm.WithRetryConstant(time.Millisecond, 12)}, opts...)...).Build("bus")
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

func bareBus(t testing.TB, b *eventbridge.Builder[*kernel.Emitter]) bare {
	t.Helper()
	d, err := eventbridge.Connect("bus", 0, b.WithKernel(quiet, swarm.WithSource("me")))
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

// What a program on fogfish/swarm v0.24 reads.
func TestWireFormat(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	began := time.Now().Add(-time.Second)
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	if err := emit.NewBytes(q, codec.Bytes("Image")).Enq(t.Context(), []byte("\x89PNG")); err != nil {
		t.Fatal(err)
	}
	bag := q.NewBag("Note")
	bag.Body = []byte(`{"id":8}`)
	bag.Attrs = map[string]string{"AWSTraceHeader": trace}
	if err := q.Enqueue(t.Context(), &bag); err != nil {
		t.Fatal(err)
	}
	want := []entry{
		{EventBusName: "bus", Source: "me", DetailType: "Note", Detail: `{"id":7}`},
		{EventBusName: "bus", Source: "me", DetailType: "Image", Detail: `{"p":"iVBORw=="}`},
		{EventBusName: "bus", Source: "me", DetailType: "Note", Detail: `{"id":8}`, TraceHeader: trace},
	}
	for i, e := range s.entries {
		if at := time.UnixMilli(int64(e.Time * 1000)); at.Before(began) || at.After(time.Now()) {
			t.Errorf("time %s", at)
		}
		if e.Time = 0; fmt.Sprint(e) != fmt.Sprint(want[i]) {
			t.Errorf("got %+v, want %+v", e, want[i])
		}
	}
	if len(s.entries) != len(want) {
		t.Errorf("%d entries", len(s.entries))
	}
}

func TestSendFaults(t *testing.T) {
	awstest.Ledger{
		Op: "PutEvents",
		Faults: map[string]awstest.Fault{
			"throttled":   {Status: 400, Code: "ThrottlingException"},
			"500":         {Status: 500, Code: "InternalException"},
			"503":         {Status: 503, Code: "ServiceUnavailable"},
			"reset":       {Reset: true},
			"hang":        {Hang: true},
			"answer lost": {Lost: true},
			"partial":     {Entries: map[int]awstest.Entry{0: {Code: "InternalFailure"}, 3: {Code: "ThrottlingException"}}},
			"refused":     {Entries: map[int]awstest.Entry{1: {Code: "MalformedDetail"}}},
		},
		Permanent: map[string]bool{"refused": true},
		Open: func(t *testing.T) (*awstest.Stub, func(...swarm.Option) *kernel.Emitter) {
			s := newStub(t)
			return s.Stub, func(opts ...swarm.Option) *kernel.Emitter {
				return swarm.Must(eventbridge.Emitter().WithConfig(s.Config()).WithKernel(swarm.WithSource("me")).WithKernel(opts...).Build("bus"))
			}
		},
	}.Run(t)
}

// E5: one request tells, with and without Exception at the end.
func TestPermanentErrorsAreNotSentAgain(t *testing.T) {
	for code, permanent := range map[string]bool{
		"AccessDenied": true, "AccessDeniedException": true, "InvalidAccountIdException": true, "InvalidArgument": true,
		"InvalidArgumentException": true, "MalformedDetail": true, "RedactionFailure": true, "NotAuthorizedForSourceException": true,
		"NotAuthorizedForSource": true, "NotAuthorizedForDetailTypeException": true, "ResourceNotFoundException": true,
		"ThrottlingException": false, "InternalFailure": false, "InternalException": false, "SomethingNew": false,
	} {
		for _, whole := range []bool{false, true} {
			if whole && code == "SomethingNew" {
				continue
			}
			s := newStub(t)
			s.Fault = func(op string, n int) awstest.Fault {
				switch {
				case op != "PutEvents" || n > 3:
					return awstest.Fault{}
				case whole:
					return awstest.Fault{Status: 400, Code: code}
				}
				return awstest.Fault{Entries: map[int]awstest.Entry{0: {Code: code}}}
			}
			err := emit.NewTyped[Note](emitter(t, s)).Enq(t.Context(), Note{1})
			want := 4
			if permanent {
				want = 1
				if err == nil || !strings.Contains(err.Error(), code) || !strings.Contains(err.Error(), "eventbridge: bus bus") {
					t.Errorf("%s: got %v, want it to name code and bus", code, err)
				}
			} else if err != nil {
				t.Errorf("%s: %v", code, err)
			}
			if n := s.Count("PutEvents"); n != want {
				t.Errorf("%s, whole request %v: %d requests, want %d", code, whole, n, want)
			}
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

func TestAnswersAreAlignedByIndex(t *testing.T) {
	s := newStub(t)
	d := bareBus(t, eventbridge.Emitter().WithConfig(s.Config()))
	s.Fault = func(string, int) awstest.Fault {
		return awstest.Fault{Entries: map[int]awstest.Entry{2: {Code: "InternalFailure"}, 9: {Code: "MalformedDetail"}}}
	}
	err := d.Send(t.Context(), bags(10))
	if got := failed(err); !slices.Equal(got, []int{2, 9}) {
		t.Fatalf("got %v: %v", got, err)
	}
	batch, _ := errors.AsType[*driver.BatchError](err)
	for _, f := range batch.Failed {
		if f.Permanent != (f.Index == 9) {
			t.Errorf("got %+v", f)
		}
	}
	s.Fault = nil
	for what, x := range map[string]struct {
		answer func([]any) []any
		want   []int
	}{
		"too few":      {func(r []any) []any { return r[:2] }, []int{2, 3}},
		"none":         {func([]any) []any { return nil }, []int{0, 1, 2, 3}},
		"too many":     {func(r []any) []any { return append(r, r...) }, nil},
		"says nothing": {func(r []any) []any { r[1] = map[string]string{}; return r }, []int{1}},
		"id and an error": {func(r []any) []any {
			r[3] = map[string]string{"EventId": "e", "ErrorCode": "InternalFailure"}
			return r
		}, []int{3}},
	} {
		s.answer = x.answer
		if err := d.Send(t.Context(), bags(4)); !slices.Equal(failed(err), x.want) || x.want == nil && err != nil {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// nothing is a client that answers neither a result nor an error.
type nothing struct{ eventbridge.EventBridge }

func (nothing) PutEvents(context.Context, *awseventbridge.PutEventsInput, ...func(*awseventbridge.Options)) (*awseventbridge.PutEventsOutput, error) {
	return nil, nil
}

func (nothing) DescribeEventBus(context.Context, *awseventbridge.DescribeEventBusInput, ...func(*awseventbridge.Options)) (*awseventbridge.DescribeEventBusOutput, error) {
	return nil, nil
}

func TestAClientThatAnswersNothing(t *testing.T) {
	if _, err := eventbridge.Emitter().WithService(nothing{}).WithKernel(quiet, swarm.WithSource("me")).Build("bus"); err == nil {
		t.Error("Build has no error")
	}
	if err := bareBus(t, eventbridge.Emitter().WithService(nothing{}).WithLazy()).Send(t.Context(), bags(1)); err == nil {
		t.Error("Send has no error")
	}
}

// sized is a bag of n bytes, as AWS counts them.
func sized(n int) driver.Bag {
	bag := driver.Bag{Category: "Note", Source: "me"}
	bag.Body = []byte(`{"x":"` + strings.Repeat("x", n-14-len("Note")-len("me")-len(`{"x":""}`)) + `"}`)
	return bag
}

func nested(n int) []byte {
	return []byte(`{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + "}")
}

func TestWhatEventBridgeWouldRefuseIsRefusedBeforeTheCall(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s)
	note := func(change func(*driver.Bag)) driver.Bag {
		bag := bags(1)[0]
		change(&bag)
		return bag
	}
	body := func(b string) driver.Bag { return note(func(bag *driver.Bag) { bag.Body = []byte(b) }) }
	attr := func(name, value string) driver.Bag {
		return note(func(bag *driver.Bag) { bag.Attrs = map[string]string{name: value} })
	}
	for name, x := range map[string]struct {
		bag  driver.Bag
		want string // empty: accepted
	}{
		"no category":              {note(func(b *driver.Bag) { b.Category = "" }), "category"},
		"category of 128":          {note(func(b *driver.Bag) { b.Category = strings.Repeat("é", 128) }), ""},
		"category of 129":          {note(func(b *driver.Bag) { b.Category = strings.Repeat("x", 129) }), "category"},
		"category, bad UTF-8":      {note(func(b *driver.Bag) { b.Category = "\xff" }), "category"},
		"no source":                {note(func(b *driver.Bag) { b.Source = "" }), "source is empty"},
		"source of AWS":            {note(func(b *driver.Bag) { b.Source = "aws.s3" }), "aws."},
		"source of 256":            {note(func(b *driver.Bag) { b.Source = strings.Repeat("x", 256) }), ""},
		"source of 257":            {note(func(b *driver.Bag) { b.Source = strings.Repeat("x", 257) }), "256"},
		"empty body":               {body(""), "not a JSON object"},
		"array":                    {body(`[{}]`), "not a JSON object"},
		"string":                   {body(`"{}"`), "not a JSON object"},
		"null":                     {body(`null`), "not a JSON object"},
		"two objects":              {body(`{}{}`), "not a JSON object"},
		"torn":                     {body(`{"a":"`), "not a JSON object"},
		"spaces around":            {body(" \r\n\t{ }\n"), ""},
		"byte order mark":          {body("\ufeff{}"), "not a JSON object"},
		"vertical tab":             {body("\v{}"), "not a JSON object"},
		"bad UTF-8":                {body("{\"a\":\"\xff\"}"), "not UTF-8"},
		"brackets in a string":     {body(`{"a":"` + strings.Repeat(`[{\"`, 2000) + `"}`), ""},
		"1000 levels":              {body(string(nested(1000))), ""},
		"1001 levels":              {body(string(nested(1001))), "1000 levels"},
		"very deep":                {body(string(nested(20_000))), "1000 levels"},
		"largest integer":          {body(`{"a":[9223372036854775807,-9223372036854775808]}`), ""},
		"integer too large":        {body(`{"a":9223372036854775808}`), "9223372036854775808"},
		"integer too small":        {body(`{"a":-9223372036854775809}`), "-9223372036854775809"},
		"large number":             {body(`{"a":9223372036854775808.5e10,"18446744073709551615":"18446744073709551615"}`), ""},
		"trace":                    {attr("AWSTraceHeader", trace), ""},
		"empty trace":              {attr("AWSTraceHeader", ""), "AWSTraceHeader"},
		"long trace":               {attr("AWSTraceHeader", strings.Repeat("x", 501)), "AWSTraceHeader"},
		"other attribute":          {attr("tenant", "blue"), `"tenant"`},
		"largest":                  {sized(1<<20 - 1), ""},
		"a byte more than largest": {sized(1 << 20), "1048576 bytes"},
		"largest packet":           {note(func(b *driver.Bag) { b.Binary, b.Body = true, make([]byte, 786_408) }), ""},
		"a byte more, packed":      {note(func(b *driver.Bag) { b.Binary, b.Body = true, make([]byte, 786_409) }), "1048576 bytes"},
		"bytes of any kind":        {note(func(b *driver.Bag) { b.Binary, b.Body = true, []byte("\xff[[[") }), ""},
	} {
		before := s.Count("PutEvents")
		err := q.Enqueue(t.Context(), &x.bag)
		calls := s.Count("PutEvents") - before
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

// The kernel fills a request up to what EventBridge takes, and not further: the stub
// refuses what is larger.
func TestLargeEventsShareRequests(t *testing.T) {
	s := newStub(t)
	q := emitter(t, s, swarm.WithEmitWindow(100))
	type Text struct{ S string }
	enq, dlq := emit.Typed[Text](q)
	go func() {
		for range dlq {
			t.Error("an event failed")
		}
	}()
	for i := range 100 {
		enq <- Text{strings.Repeat("x", 90_000+3_000*(i%10))}
	}
	close(enq)
	if err := q.Close(); err != nil || len(s.Accepted()) != 100 {
		t.Errorf("%d events: %v", len(s.Accepted()), err)
	}
	t.Logf("100 events of 100 KB took %d requests", s.Count("PutEvents"))
}

// What is set is what counts, or is refused.
func TestBuild(t *testing.T) {
	s := newStub(t)
	type builder = eventbridge.Builder[*kernel.Emitter]
	build := func(name string, change func(*builder)) error {
		b := eventbridge.Emitter().WithConfig(s.Config()).WithKernel(quiet, swarm.WithSource("me"))
		if change != nil {
			change(b)
		}
		q, err := b.Build(name)
		if err == nil {
			err = q.Close()
		}
		return err
	}
	if err := errors.Join(build("bus", nil), build(busARN, nil)); err != nil {
		t.Error(err)
	}
	source := func(s string) func(*builder) { return func(b *builder) { b.WithKernel(swarm.WithSource(s)) } }
	for _, x := range []struct {
		name, want string
		change     func(*builder)
	}{
		{"", "CONFIG_SWARM_TARGET_EVENTBUS is not set", nil},
		{"other", "eventbridge: bus other: describe:", nil},
		{"other", "(region eu-west-1)", nil},
		{"no good", `"no good" is not the name or ARN of a bus`, nil},
		{strings.Repeat("x", 257), "is not the name", nil},
		{"arn:aws:sqs:eu-west-1:123456789012:bus", "is not the ARN of a bus", nil},
		{"arn:aws:events:eu-west-1:123456789012:rule/bus", "is not the ARN of a bus", nil},
		{"arn:aws:events:eu-west-1:123456789012:event-bus/", "is not the name", nil},
		{"arn:aws:events::123456789012:event-bus/bus", "is not the ARN of a bus", nil},
		{"arn:aws:events:us-east-1:123456789012:event-bus/bus", "bus bus is in region us-east-1, the client in eu-west-1", nil},
		{"arn:aws:events:us-east-1:123456789012:event-bus/bus", "the client in eu-west-1", func(b *builder) {
			b.WithService(awseventbridge.NewFromConfig(s.Config()))
		}},
		{"bus", "begins with aws. as only sources of AWS do", source("aws.mine")},
		{"bus", "more than 256 characters", source(strings.Repeat("x", 257))},
		{"bus", "WithBatchSize(0)", func(b *builder) { b.WithBatchSize(0) }},
		{"bus", "WithBatchSize(11)", func(b *builder) { b.WithBatchSize(11) }},
		{"bus", `WithResources: "mine" is not an ARN`, func(b *builder) { b.WithResources("arn:aws:s3:::bucket", "mine") }},
		{"bus", "WithService", func(b *builder) { b.WithService(nil) }},
		{"bus", "WithService", func(b *builder) { b.WithService((*awseventbridge.Client)(nil)) }},
		{"bus", "WithEmitWindow(-1)", func(b *builder) { b.WithKernel(swarm.WithEmitWindow(-1)) }},
		{"bus", "no region", func(b *builder) { b.WithConfig(aws.Config{}) }},
	} {
		if err := build(x.name, x.change); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("Build(%.80q): got %v, want it to say %q", x.name, err, x.want)
		}
	}

	_, err := eventbridge.Emitter().WithConfig(s.Config()).WithKernel(quiet).Build("bus")
	if want := "the source is empty, which EventBridge refuses; swarm.WithSource sets it"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without WithSource: got %v, want it to say %q", err, want)
	}
	t.Run("from the environment", func(t *testing.T) {
		t.Setenv(eventbridge.EnvTarget, "bus")
		if err := build("", nil); err != nil {
			t.Error(err)
		}
	})
	t.Run("a look-up that is denied is a warning", func(t *testing.T) {
		s := newStub(t)
		s.Fault = func(string, int) awstest.Fault { return awstest.Fault{Status: 400, Code: "AccessDeniedException"} }
		var log strings.Builder
		q, err := eventbridge.Emitter().WithConfig(s.Config()).
			WithKernel(swarm.WithSource("me"), swarm.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))).Build("bus")
		if err != nil || !strings.Contains(log.String(), "may not be asked") {
			t.Fatalf("got %v, log %s", err, log.String())
		}
		q.Close()
	})
	t.Run("lazy asks nothing", func(t *testing.T) {
		if err := build("other", func(b *builder) { b.WithLazy() }); err != nil {
			t.Error(err)
		}
	})
	t.Run("a hung look-up ends by the network timeout", func(t *testing.T) {
		s := newStub(t)
		s.Fault = func(string, int) awstest.Fault { return awstest.Fault{Hang: true} }
		began := time.Now()
		_, err := eventbridge.Emitter().WithConfig(s.Config()).
			WithKernel(quiet, swarm.WithSource("me"), swarm.WithNetworkTimeout(100*time.Millisecond)).Build("bus")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
	})
	t.Run("options reach the requests", func(t *testing.T) {
		s := newStub(t)
		q := swarm.Must(eventbridge.Emitter().WithConfig(s.Config()).WithBatchSize(3).WithResources("arn:aws:s3:::a", "arn:aws:s3:::b").
			WithKernel(quiet, swarm.WithSource("me"), swarm.WithEmitWindow(9), swarm.WithLinger(time.Hour)).Build(busARN))
		enq, _ := emit.Typed[Note](q)
		for i := range 9 {
			enq <- Note{i}
		}
		close(enq)
		if err := q.Close(); err != nil || s.Count("PutEvents") < 3 || len(s.entries) != 9 {
			t.Errorf("%v, %d requests, %d events", err, s.Count("PutEvents"), len(s.entries))
		}
		for _, e := range s.entries {
			if !slices.Equal(e.Resources, []string{"arn:aws:s3:::a", "arn:aws:s3:::b"}) || e.EventBusName != busARN {
				t.Errorf("got %+v", e)
			}
		}
	})
}
