package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// spy is a function that records its events and answers by script. Its zero value
// succeeds.
type spy struct {
	answer func(n int, ids []string) (string, error) // n counts from 1
	took   time.Duration

	mu      sync.Mutex
	batches [][]string      // ids
	at      []time.Duration // since the first
	began   time.Time
	now     int
	peak    int
	sizes   []int
}

func (s *spy) Invoke(_ context.Context, payload []byte, _ ...lambda.InvokeOption) ([]byte, error) {
	var e struct {
		Records []struct {
			MessageID string `json:"messageId"`
			Change    struct{ SequenceNumber string }
			Dynamodb  struct{ SequenceNumber string }
		}
	}
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	var ids []string
	for _, r := range e.Records {
		ids = append(ids, r.MessageID+r.Dynamodb.SequenceNumber)
	}
	s.mu.Lock()
	if s.began.IsZero() {
		s.began = time.Now()
	}
	s.batches, s.at, s.sizes = append(s.batches, ids), append(s.at, time.Since(s.began)), append(s.sizes, len(payload))
	n := len(s.batches)
	s.now++
	s.peak = max(s.peak, s.now)
	s.mu.Unlock()
	time.Sleep(s.took)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	if s.answer == nil {
		return nil, nil
	}
	response, err := s.answer(n, ids)
	return []byte(response), err
}

// got are the ids of all batches so far.
func (s *spy) got() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.batches)
}

func (s *spy) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for i, ids := range s.batches {
		fmt.Fprintf(&b, "%s %s\n", s.at[i].Round(time.Millisecond), strings.Join(ids, ","))
	}
	return b.String()
}

// bounded is a function that says its limits.
type bounded struct {
	*spy
	timeout     time.Duration
	concurrency int
}

func (b bounded) Timeout() time.Duration { return b.timeout }
func (b bounded) Concurrency() int       { return b.concurrency }

// pass lets time pass, and what is due at its end happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func once(response string) func(int, []string) (string, error) {
	return func(n int, _ []string) (string, error) {
		if n == 1 {
			return response, nil
		}
		return "", nil
	}
}

func startSQS(t *testing.T, m lambda.SQS, q *fakeSQS, fn lambda.Invoker) *lambda.Mapping {
	t.Helper()
	m.Queue = q.name
	mapping, err := m.Start(t.Context(), q, fn)
	if err != nil {
		t.Fatal(err)
	}
	return mapping
}

// TestSQSOutcomes: what stays in the queue after one batch of a, b, c, with the visibility
// timeout not over yet, and what the function has got when it is.
func TestSQSOutcomes(t *testing.T) {
	fail := func(int, []string) (string, error) { return "", errors.New("no") }
	all, none := []string{"a", "b", "c"}, []string{}
	for name, tc := range map[string]struct {
		report bool
		answer func(int, []string) (string, error)
		left   []string
	}{
		"success":                        {false, once(`"whatever"`), none},
		"response ignored unless on":     {false, once(`{"batchItemFailures":[{"itemIdentifier":"a"}]}`), none},
		"error":                          {false, fail, all},
		"error with reporting":           {true, fail, all},
		"empty response":                 {true, once(``), none},
		"null response":                  {true, once(`null`), none},
		"empty object":                   {true, once(`{}`), none},
		"empty list":                     {true, once(`{"batchItemFailures":[]}`), none},
		"null list":                      {true, once(`{"batchItemFailures":null}`), none},
		"misnamed list":                  {true, once(`{"BatchItemFailures":[{"itemIdentifier":"a"}]}`), none},
		"one":                            {true, once(`{"batchItemFailures":[{"itemIdentifier":"b"}]}`), []string{"b"}},
		"one twice":                      {true, once(`{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"b"}]}`), []string{"b"}},
		"all":                            {true, once(`{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"b"},{"itemIdentifier":"c"}]}`), all},
		"invalid JSON":                   {true, once(`{`), all},
		"no object":                      {true, once(`"ok"`), all},
		"list is no list":                {true, once(`{"batchItemFailures":"a"}`), all},
		"empty id":                       {true, once(`{"batchItemFailures":[{"itemIdentifier":""}]}`), all},
		"null id":                        {true, once(`{"batchItemFailures":[{"itemIdentifier":null}]}`), all},
		"number id":                      {true, once(`{"batchItemFailures":[{"itemIdentifier":1}]}`), all},
		"misnamed id":                    {true, once(`{"batchItemFailures":[{"ItemIdentifier":"a"}]}`), all},
		"unknown id":                     {true, once(`{"batchItemFailures":[{"itemIdentifier":"x"}]}`), all},
		"unknown id beside a known one":  {true, once(`{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"x"}]}`), all},
		"an empty id beside a known one": {true, once(`{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":""}]}`), all},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, fn := newFakeSQS("q", 30*time.Second), &spy{answer: tc.answer}
				q.send("", all...)
				m := startSQS(t, lambda.SQS{ReportBatchItemFailures: tc.report}, q, fn)
				pass(30*time.Second - 1)
				if got := q.left(); !slices.Equal(got, tc.left) {
					t.Errorf("left %v, want %v", got, tc.left)
				}
				if len(fn.got()) != 1 {
					t.Errorf("before the visibility timeout:\n%s", fn)
				}
				failedBatches := 0
				if len(tc.left) == 3 {
					failedBatches = 1
				}
				if got, want := m.Stats(), (lambda.MappingStats{Batches: 1, FailedBatches: failedBatches, Records: 3, FailedRecords: len(tc.left)}); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
				pass(time.Second)
				if want := len(tc.left) > 0; want != (len(fn.got()) > 1) || want && !slices.Equal(fn.got()[1], tc.left) {
					t.Errorf("after the visibility timeout:\n%s", fn)
				}
				m.Close()
			})
		})
	}
}

func TestSQSRedriveEndsAPoisonMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, fn := newFakeSQS("q", 30*time.Second), &spy{answer: func(int, []string) (string, error) { return `{"batchItemFailures":[{"itemIdentifier":"a"}]}`, nil }}
		q.maxReceive = 3
		q.send("", "a")
		m := startSQS(t, lambda.SQS{ReportBatchItemFailures: true}, q, fn)
		pass(10 * time.Minute)
		m.Close()
		if want := "0s a\n30s a\n1m0s a\n"; fn.String() != want || !slices.Equal(q.dead, []string{"a"}) {
			t.Errorf("dead %v, got:\n%s", q.dead, fn)
		}
	})
}

func bodies(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("m%03d", i))
	}
	return ids
}

func TestSQSBatches(t *testing.T) {
	for name, tc := range map[string]struct {
		mapping lambda.SQS
		n       int
		sizes   []int
	}{
		"default":         {lambda.SQS{}, 25, []int{10, 10, 5}},
		"one":             {lambda.SQS{BatchSize: 1}, 3, []int{1, 1, 1}},
		"window":          {lambda.SQS{BatchSize: 25, Window: time.Second}, 60, []int{25, 25, 10}},
		"window, large":   {lambda.SQS{BatchSize: 10_000, Window: 5 * time.Second}, 60, []int{60}},
		"window, batch 3": {lambda.SQS{BatchSize: 3, Window: time.Second}, 7, []int{3, 3, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, fn := newFakeSQS("q", time.Hour), bounded{&spy{}, time.Second, 1} // one poller
				q.send("", bodies(tc.n)...)
				m := startSQS(t, tc.mapping, q, fn)
				pass(time.Minute)
				m.Close()
				var sizes []int
				for _, b := range fn.got() {
					sizes = append(sizes, len(b))
				}
				if !slices.Equal(sizes, tc.sizes) || len(q.left()) != 0 || fn.peak != 1 {
					t.Errorf("sizes %v, left %v, at a time %d", sizes, q.left(), fn.peak)
				}
			})
		})
	}
}

func TestSQSWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, fn := newFakeSQS("q", time.Hour), bounded{&spy{}, time.Second, 1}
		m := startSQS(t, lambda.SQS{BatchSize: 100, Window: 3 * time.Second}, q, fn)
		pass(time.Minute)
		sent := time.Now()
		for i := range 5 {
			q.send("", fmt.Sprint(i))
			time.Sleep(1500 * time.Millisecond)
		}
		pass(time.Minute)
		m.Close()
		if d := fn.began.Sub(sent); d < 3*time.Second || d > 4*time.Second || len(fn.got()) != 2 || len(fn.got()[0])+len(fn.got()[1]) != 5 {
			t.Errorf("first batch after %s:\n%s", d, fn)
		}
		if slices.Contains(q.waits, 0) || slices.Max(q.waits) != 20 {
			t.Errorf("waits %v: 0 is the default of the queue", q.waits)
		}
	})
}

func TestSQSPayloadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, fn := newFakeSQS("q", time.Hour), bounded{&spy{}, time.Second, 1}
		for i := range 12 {
			q.send("", fmt.Sprintf("%d<>&", i)+strings.Repeat("x", 1<<20-10))
		}
		m := startSQS(t, lambda.SQS{}, q, fn)
		pass(time.Minute)
		m.Close()
		var sizes []int
		for i, b := range fn.got() {
			sizes = append(sizes, len(b))
			if fn.sizes[i] > 6<<20 {
				t.Errorf("an event of %d bytes", fn.sizes[i])
			}
		}
		if want := []int{5, 5, 2}; !slices.Equal(sizes, want) || len(q.left()) != 0 {
			t.Errorf("sizes %v, left %d", sizes, len(q.left()))
		}
	})
}

// TestSQSPartsThatWaitTooLongComeBack: the second part of a batch is not given to the
// function when its visibility timeout has ended meanwhile.
func TestSQSPartsThatWaitTooLongComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, received := newFakeSQS("q", 30*time.Second), 0
		fn := bounded{&spy{took: 31 * time.Second}, time.Second, 1}
		fn.answer = func(_ int, ids []string) (string, error) {
			if slices.Contains(ids, "large-6") {
				received = q.receiveCount("large-6")
			}
			return "", nil
		}
		for range 7 {
			q.send("", strings.Repeat("x", 1<<20-10))
		}
		m := startSQS(t, lambda.SQS{}, q, fn)
		pass(5 * time.Minute)
		m.Close()
		if received != 2 {
			t.Errorf("received %d times, got:\n%s", received, fn)
		}
	})
}

func TestSQSConcurrency(t *testing.T) {
	for name, tc := range map[string]struct {
		mapping lambda.SQS
		fn      func(*spy) lambda.Invoker
		peak    int
	}{
		"default":               {lambda.SQS{}, func(s *spy) lambda.Invoker { return s }, 5},
		"what the function has": {lambda.SQS{}, func(s *spy) lambda.Invoker { return bounded{s, time.Second, 3} }, 3},
		"a large function":      {lambda.SQS{}, func(s *spy) lambda.Invoker { return bounded{s, time.Second, 1000} }, 5},
		"maximum":               {lambda.SQS{MaximumConcurrency: 8}, func(s *spy) lambda.Invoker { return s }, 8},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, s := newFakeSQS("q", time.Hour), &spy{took: time.Minute}
				q.send("", bodies(200)...)
				m := startSQS(t, tc.mapping, q, tc.fn(s))
				pass(time.Hour / 2)
				m.Close()
				if s.peak != tc.peak || len(q.left()) != 0 {
					t.Errorf("%d at a time, left %d", s.peak, len(q.left()))
				}
			})
		})
	}
}

func TestSQSFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeSQS("q.fifo", 30*time.Second)
		// a1 fails twice, b never: the function stops that group, and a2 and a3 wait for a1.
		fn := &spy{took: time.Second, answer: func(_ int, ids []string) (string, error) {
			var items []string
			for _, id := range ids {
				if slices.Contains(ids, "a1") && q.receiveCount("a1") < 3 && id[0] == 'a' {
					items = append(items, fmt.Sprintf(`{"itemIdentifier":%q}`, id))
				}
			}
			return `{"batchItemFailures":[` + strings.Join(items, ",") + `]}`, nil
		}}
		q.send("a", "a1", "a2")
		q.send("b", "b1", "b2")
		m := startSQS(t, lambda.SQS{ReportBatchItemFailures: true}, q, fn)
		pass(5 * time.Second)
		q.send("a", "a3")
		q.send("b", "b3")
		pass(5 * time.Minute)
		m.Close()
		if want := "0s a1,a2,b1,b2\n5s b3\n30s a1,a2,a3\n1m0s a1,a2,a3\n"; fn.String() != want || len(q.left()) != 0 {
			t.Errorf("left %v, got:\n%s", q.left(), fn)
		}
	})
}

func (q *fakeSQS) receiveCount(id string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range q.messages {
		if m.id == id {
			return m.count
		}
	}
	return 0
}

// TestSQSFIFOPartsKeepOrder: a batch that is too large for one event is given in parts.
// When the first fails, the rest of its group waits, other groups go on.
func TestSQSFIFOPartsKeepOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, fn := newFakeSQS("q.fifo", time.Hour), &spy{answer: func(n int, _ []string) (string, error) {
			if n == 1 {
				return "", errors.New("no")
			}
			return "", nil
		}}
		for range 7 {
			q.send("a", strings.Repeat("x", 1<<20-10))
		}
		q.send("b", "b1")
		m := startSQS(t, lambda.SQS{}, q, fn)
		pass(time.Minute)
		if want := "0s large-0,large-1,large-2,large-3,large-4\n0s b1\n"; fn.String() != want {
			t.Errorf("got:\n%s", fn)
		}
		pass(time.Hour)
		m.Close()
		if len(q.left()) != 0 || len(fn.got()) != 4 || fn.got()[2][0] != "large-0" || fn.got()[3][0] != "large-5" {
			t.Errorf("left %v, got:\n%s", q.left(), fn)
		}
	})
}

func TestSQSThrottle(t *testing.T) {
	busy := &lambda.ThrottleError{Limit: 1}
	for name, tc := range map[string]struct {
		until int // invocations that are throttled
		left  int
	}{
		"for a while":                  {5, 0},
		"until the visibility timeout": {1 << 30, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newFakeSQS("q", 30*time.Second)
				fn := bounded{&spy{answer: func(n int, _ []string) (string, error) {
					if n <= tc.until {
						return "", busy
					}
					return "", nil
				}}, time.Second, 1}
				q.send("", "a")
				m := startSQS(t, lambda.SQS{}, q, fn)
				pass(29 * time.Second)
				synctest.Wait()
				s := m.Stats()
				if s.Batches != 1-tc.left || s.Throttles < min(5, tc.until) || s.Throttles > 20 || len(q.left()) != tc.left || q.receiveCount("a") > 1 {
					t.Errorf("%+v, left %v", s, q.left())
				}
				pass(2 * time.Second)
				if got := q.receiveCount("a"); got != 2*tc.left {
					t.Errorf("received %d times", got)
				}
				m.Close()
			})
		})
	}
}

func TestSQSEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newFakeSQS("q.fifo", 30*time.Second)
		q.send("g", "<ä>")
		q.messages[0].id = "id-1"
		q.messages[0].attributes = map[string]types.MessageAttributeValue{
			"Category": {DataType: aws.String("String"), StringValue: aws.String("Note")},
			"Raw":      {DataType: aws.String("Binary"), BinaryValue: []byte{0, 1}},
		}
		var raw string
		m := startSQS(t, lambda.SQS{}, q, lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
			raw = string(payload)
			return nil, nil
		}))
		synctest.Wait()
		m.Close()
		want := `{"Records":[{"messageId":"id-1","receiptHandle":"id-1#1","body":"<ä>","attributes":{"ApproximateReceiveCount":"1","MessageGroupId":"g","SentTimestamp":"1"},` +
			`"messageAttributes":{"Category":{"stringValue":"Note","stringListValues":[],"binaryListValues":[],"dataType":"String"},` +
			`"Raw":{"binaryValue":"AAE=","stringListValues":[],"binaryListValues":[],"dataType":"Binary"}},` +
			`"md5OfBody":"f09ff9d14fb1d3f03aba0d6e2e4c18de","eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:eu-west-1:000000000000:q.fifo","awsRegion":"eu-west-1"}]}`
		var e events.SQSEvent
		if err := json.Unmarshal([]byte(raw), &e); err != nil || len(e.Records) != 1 || *e.Records[0].MessageAttributes["Category"].StringValue != "Note" {
			t.Errorf("%v: %+v", err, e)
		}
		want = strings.Replace(want, "f09ff9d14fb1d3f03aba0d6e2e4c18de", e.Records[0].Md5OfBody, 1)
		if raw != want {
			t.Errorf("got  %s\nwant %s", raw, want)
		}
	})
}

func TestSQSErrorsOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log buffer
		q, fn := newFakeSQS("q", 30*time.Second), bounded{&spy{}, time.Second, 1}
		q.fail, q.refuse = errors.New("broken"), true
		q.send("", "a")
		m := startSQS(t, lambda.SQS{Log: &log}, q, fn)
		pass(2 * time.Second)
		if len(fn.got()) != 1 || !strings.Contains(log.String(), "q: receive: broken\n") || !strings.Contains(log.String(), "q: delete: ReceiptHandleIsInvalid") {
			t.Errorf("log %s, got:\n%s", &log, fn)
		}
		m.Close()
	})
}

// TestSQSCloseFinishesWhatIsInFlight: the batch that the function works on is settled.
func TestSQSCloseFinishesWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, fn := newFakeSQS("q", time.Hour), bounded{&spy{took: time.Minute}, time.Hour, 1}
		q.send("", bodies(20)...)
		m := startSQS(t, lambda.SQS{}, q, fn)
		synctest.Wait()
		began := time.Now()
		m.Close()
		if d := time.Since(began); d != time.Minute || len(q.left()) != 10 || len(fn.got()) != 1 {
			t.Errorf("after %s, left %d", d, len(q.left()))
		}
		m.Close()
	})
}

func TestSQSIsChecked(t *testing.T) {
	for _, tc := range []struct {
		queue   string
		mapping lambda.SQS
		timeout time.Duration
		want    string
	}{
		{"q", lambda.SQS{BatchSize: -1}, 0, "BatchSize -1"},
		{"q", lambda.SQS{BatchSize: 10_001, Window: time.Second}, 0, "BatchSize 10001"},
		{"q", lambda.SQS{BatchSize: 11}, 0, "need a Window"},
		{"q", lambda.SQS{BatchSize: 11, Window: time.Second}, 0, ""},
		{"q", lambda.SQS{Window: 1500 * time.Millisecond}, 0, "whole seconds"},
		{"q", lambda.SQS{Window: 301 * time.Second}, 0, "up to 300"},
		{"q", lambda.SQS{MaximumConcurrency: 1}, 0, "from 2 to 1000"},
		{"q", lambda.SQS{MaximumConcurrency: 1001}, 0, "from 2 to 1000"},
		{"q.fifo", lambda.SQS{BatchSize: 11, Window: time.Second}, 0, "at most 10"},
		{"q.fifo", lambda.SQS{Window: time.Second}, 0, "not of a FIFO queue"},
		{"q", lambda.SQS{}, 31 * time.Second, "Queue visibility timeout: 30s is less than Function timeout: 31s"},
		{"q", lambda.SQS{}, 30 * time.Second, ""},
		{"q", lambda.SQS{Queue: "other"}, 0, `queue "other": QueueDoesNotExist`},
	} {
		q := newFakeSQS(tc.queue, 30*time.Second)
		if tc.mapping.Queue == "" {
			tc.mapping.Queue = q.name
		}
		m, err := tc.mapping.Start(t.Context(), q, bounded{&spy{}, tc.timeout, 1})
		if err == nil {
			m.Close()
		}
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %+v: got %v, want %s", tc.queue, tc.mapping, err, tc.want)
		}
	}
}
