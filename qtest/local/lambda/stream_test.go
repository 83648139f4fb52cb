package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// short sequence numbers: 1 instead of 21 digits.
func short(ids []string) []string {
	out := slices.Clone(ids)
	for i, id := range out {
		out[i] = strings.TrimLeft(id, "0")
	}
	return out
}

func (s *spy) short() string {
	var b strings.Builder
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ids := range s.batches {
		fmt.Fprintf(&b, "%s %s\n", s.at[i].Round(time.Millisecond), strings.Join(short(ids), ","))
	}
	return b.String()
}

// poison fails a batch that has one of the records, in full or by report.
func poison(report bool, bad ...string) func(int, []string) (string, error) {
	return func(_ int, ids []string) (string, error) {
		var items []string
		for _, id := range ids {
			if slices.Contains(bad, strings.TrimLeft(id, "0")) {
				items = append(items, fmt.Sprintf(`{"itemIdentifier":%q}`, id))
			}
		}
		if len(items) > 1 {
			items[0], items[1] = items[1], items[0] // in no order: the lowest counts
		}
		if len(items) > 0 && !report {
			return "", errors.New("poison")
		}
		return `{"batchItemFailures":[` + strings.Join(items, ",") + `]}`, nil
	}
}

func failTimes(n int) func(int, []string) (string, error) {
	return func(attempt int, _ []string) (string, error) {
		if attempt <= n {
			return "", errors.New("no")
		}
		return "", nil
	}
}

// A stream in memory is read as one of DynamoDB: from an iterator on, which comes with the
// records.
func TestMemoryStreamIsReadByIterators(t *testing.T) {
	source := lambda.NewMemoryStream("a")
	source.Put("a", 1)
	source.Put("a", 2)
	first, err := source.Iterator(t.Context(), "a", lambda.Position{})
	if err != nil {
		t.Fatal(err)
	}
	one, next, err := source.Read(t.Context(), first, 1)
	if err != nil || len(one) != 1 {
		t.Fatal(one, err)
	}
	after, err := source.Iterator(t.Context(), "a", lambda.Position{After: one[0].SequenceNumber})
	if err != nil || after != next {
		t.Errorf("%q after the first record, %q with it, %v", after, next, err)
	}
	latest, err := source.Iterator(t.Context(), "a", lambda.Position{Latest: true})
	if err != nil {
		t.Fatal(err)
	}
	if rest, _, err := source.Read(t.Context(), latest, 10); err != nil || len(rest) != 0 {
		t.Errorf("%d records after the latest, %v", len(rest), err)
	}
	if _, err := source.Iterator(t.Context(), "b", lambda.Position{}); err == nil {
		t.Error("there is no shard b")
	}
}

// conditions are those of streams, as tables name them.
var conditions = map[lambda.Condition]string{lambda.RetryAttemptsExhausted: "retries", lambda.RecordAgeExceeded: "age"}

// TestStreamBatches: records 1 to 6 of one shard, and what the function gets when.
func TestStreamBatches(t *testing.T) {
	for name, tc := range map[string]struct {
		stream    lambda.Stream
		answer    func(int, []string) (string, error)
		want      string
		discarded string
	}{
		"success":       {lambda.Stream{}, nil, "0s 1,2,3,4,5,6\n", ""},
		"batch size":    {lambda.Stream{BatchSize: 4}, nil, "0s 1,2,3,4\n0s 5,6\n", ""},
		"error":         {lambda.Stream{BatchSize: 4}, failTimes(3), "0s 1,2,3,4\n1s 1,2,3,4\n3s 1,2,3,4\n7s 1,2,3,4\n7s 5,6\n", ""},
		"not reporting": {lambda.Stream{}, poison(true, "3"), "0s 1,2,3,4,5,6\n", ""},
		"checkpoint": {lambda.Stream{ReportBatchItemFailures: true, MaximumRetryAttempts: new(1)}, poison(true, "3", "5", "6"),
			"0s 1,2,3,4,5,6\n0s 3,4,5,6\n1s 3,4,5,6\n", "3-6 retries 2"},
		"no retries": {lambda.Stream{BatchSize: 3, MaximumRetryAttempts: new(0)}, poison(false, "2"),
			"0s 1,2,3\n0s 4,5,6\n", "1-3 retries 1"},
		"retries": {lambda.Stream{BatchSize: 3, MaximumRetryAttempts: new(2)}, poison(false, "2"),
			"0s 1,2,3\n1s 1,2,3\n3s 1,2,3\n3s 4,5,6\n", "1-3 retries 3"},
		"bisect": {lambda.Stream{BisectBatchOnFunctionError: true, MaximumRetryAttempts: new(1)}, poison(false, "2"),
			"0s 1,2,3,4,5,6\n0s 1,2,3\n0s 1,2\n0s 1\n0s 2\n1s 2\n1s 3\n1s 4,5,6\n", "2-2 retries 2"},
		"bisect at the report": {lambda.Stream{BisectBatchOnFunctionError: true, ReportBatchItemFailures: true, MaximumRetryAttempts: new(0)}, poison(true, "3"),
			"0s 1,2,3,4,5,6\n0s 3,4,5,6\n0s 3,4\n0s 3\n0s 4\n0s 5,6\n", "3-3 retries 1"},
		"invalid report": {lambda.Stream{ReportBatchItemFailures: true, MaximumRetryAttempts: new(0)}, once(`{"batchItemFailures":[{"itemIdentifier":""}]}`),
			"0s 1,2,3,4,5,6\n", "1-6 retries 1"},
		"unknown in report": {lambda.Stream{ReportBatchItemFailures: true, MaximumRetryAttempts: new(0)}, once(`{"batchItemFailures":[{"itemIdentifier":"x"}]}`),
			"0s 1,2,3,4,5,6\n", "1-6 retries 1"},
		"maximum age": {lambda.Stream{BatchSize: 3, MaximumRecordAge: time.Minute}, poison(false, "2"),
			"0s 1,2,3\n1s 1,2,3\n3s 1,2,3\n7s 1,2,3\n15s 1,2,3\n31s 1,2,3\n", "1-3 age 6;4-6 age 0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var discarded []string
				source, fn := lambda.NewMemoryStream("s"), &spy{answer: tc.answer}
				for i := range 6 {
					source.Put("s", i)
				}
				tc.stream.OnFailure = func(f lambda.FailedBatch) {
					if f.ShardID != "s" || f.StreamARN != source.ARN() || f.First.IsZero() || f.Last.IsZero() || (f.Err == nil) != (f.Attempts == 0) {
						t.Errorf("got %+v", f)
					}
					discarded = append(discarded, fmt.Sprintf("%s %s %d", strings.Join(short([]string{f.StartSequenceNumber, f.EndSequenceNumber}), "-"), conditions[f.Condition], f.Attempts))
				}
				m, err := tc.stream.Start(t.Context(), source, fn)
				if err != nil {
					t.Fatal(err)
				}
				pass(5 * time.Minute)
				m.Close()
				if got := fn.short(); got != tc.want {
					t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
				}
				if got := strings.Join(discarded, ";"); got != tc.discarded {
					t.Errorf("discarded %q, want %q", got, tc.discarded)
				}
			})
		})
	}
}

func TestStreamAPoisonRecordBlocksItsShardUntilItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("a", "b"), &spy{answer: poison(false, "1")}
		source.Put("a", 1)
		source.Put("b", 2)
		m, err := lambda.Stream{StartingPosition: lambda.TrimHorizon}.Start(t.Context(), source, fn) // the default
		if err != nil {
			t.Fatal(err)
		}
		pass(23 * time.Hour)
		source.Put("a", 3)
		source.Put("b", 4)
		pass(30 * time.Minute)
		if got := fn.short(); strings.Contains(got, " 3\n") || !strings.Contains(got, " 2\n") || !strings.Contains(got, " 4\n") {
			t.Errorf("got:\n%s", got)
		}
		pass(time.Hour)
		m.Close()
		if got := fn.short(); !strings.HasSuffix(got, " 3\n") || m.Stats().Discarded != 1 {
			t.Errorf("%+v, got:\n%s", m.Stats(), got)
		}
	})
}

func TestStreamKeepsTheOrderOfAShardAndWorksOnShardsAtTheSameTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("a", "b", "c"), &spy{took: time.Second, answer: failTimes(4)}
		for i := range 60 {
			source.Put([]string{"a", "b", "c"}[i%3], i)
		}
		m, err := lambda.Stream{BatchSize: 3}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		m.Close()
		last := map[int]int{}
		for _, ids := range fn.got() {
			for _, id := range short(ids) {
				var n int
				_, _ = fmt.Sscan(id, &n)
				if n > last[n%3]+3 {
					t.Errorf("%d after %d", n, last[n%3])
				}
				last[n%3] = n
			}
		}
		if fn.peak != 3 || last[0] != 60 || last[1] != 58 || last[2] != 59 {
			t.Errorf("%d at a time, last %v", fn.peak, last)
		}
	})
}

func TestStreamStartingPositionAndNewShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("a"), &spy{took: time.Second}
		source.Put("a", 1)
		m, err := lambda.Stream{StartingPosition: lambda.Latest}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		source.Put("a", 2)
		pass(time.Minute)
		// The shard splits: its children come after it, and are read whole.
		source.AddShard(lambda.Shard{ID: "b", Parent: "a"})
		source.AddShard(lambda.Shard{ID: "c", Parent: "expired"})
		source.Put("b", 3)
		source.Put("c", 4)
		pass(time.Minute)
		if got := fn.short(); !strings.HasPrefix(got, "0s 2\n") || !strings.HasSuffix(got, " 4\n") || strings.Count(got, "\n") != 2 {
			t.Errorf("got:\n%s", got)
		}
		source.Put("a", 5)
		source.CloseShard("a")
		pass(time.Minute)
		m.Close()
		if got := fn.short(); !strings.HasSuffix(got, " 3\n") || strings.Index(got, " 5\n") > strings.Index(got, " 3\n") {
			t.Errorf("got:\n%s", got)
		}
	})
}

func TestStreamWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("s"), &spy{}
		m, err := lambda.Stream{BatchSize: 10, Window: 5 * time.Second}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			source.Put("s", i)
			pass(2 * time.Second)
		}
		pass(time.Minute)
		for i := range 12 {
			source.Put("s", i)
		}
		pass(time.Minute)
		m.Close()
		var sizes []int
		for _, b := range fn.got() {
			sizes = append(sizes, len(b))
		}
		if want := []int{3, 1, 10, 2}; !slices.Equal(sizes, want) {
			t.Errorf("sizes %v, want %v:\n%s", sizes, want, fn.short())
		}
	})
}

func TestStreamPayloadLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("s"), &spy{}
		for range 20 {
			source.Put("s", map[string]any{"a": map[string]any{"S": strings.Repeat("x", 700_000)}})
		}
		m, err := lambda.Stream{}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		m.Close()
		if len(fn.got()) != 3 || len(fn.got()[0]) != 8 || slices.Max(fn.sizes) > 6<<20 {
			t.Errorf("%d bytes at most:\n%s", slices.Max(fn.sizes), fn.short())
		}
	})
}

// flaky is a stream whose iterators do not live long and whose reads fail now and then.
type flaky struct {
	*lambda.MemoryStream
	reads int
}

func (f *flaky) Read(ctx context.Context, iterator string, limit int) ([]lambda.Record, string, error) {
	switch f.reads++; f.reads % 4 {
	case 1:
		return nil, "", fmt.Errorf("%w: expired", lambda.ErrIterator)
	case 3:
		return nil, "", errors.New("broken")
	}
	return f.MemoryStream.Read(ctx, iterator, 1)
}

func TestStreamReadsAgainWhenAnIteratorExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := &flaky{MemoryStream: lambda.NewMemoryStream("s")}, &spy{}
		for i := range 10 {
			source.Put("s", i)
		}
		m, err := lambda.Stream{}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		m.Close()
		var got []string
		for _, b := range fn.got() {
			got = append(got, short(b)...)
		}
		if want := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}; !slices.Equal(short(got), want) {
			t.Errorf("got %v", got)
		}
	})
}

func TestStreamThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("s"), &spy{answer: func(n int, _ []string) (string, error) {
			if n < 50 {
				return "", &lambda.ThrottleError{Limit: 1}
			}
			return "", nil
		}}
		source.Put("s", 1)
		m, err := lambda.Stream{MaximumRetryAttempts: new(0)}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		if got := m.Stats(); got.Throttles != 49 || got.Batches != 1 || got.FailedBatches != 0 {
			t.Errorf("got %+v", got)
		}
		m.Close()
	})
}

// TestStreamCloseInterruptsRetries: the invocation that runs ends, nothing is repeated.
func TestStreamCloseInterruptsRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, fn := lambda.NewMemoryStream("s"), &spy{took: time.Minute, answer: failTimes(10)}
		source.Put("s", 1)
		m, err := lambda.Stream{}.Start(t.Context(), source, fn)
		if err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		began := time.Now()
		m.Close()
		if d := time.Since(began); d != 59*time.Second || len(fn.got()) != 1 {
			t.Errorf("after %s:\n%s", d, fn.short())
		}
	})
}

func TestStreamEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := lambda.NewMemoryStream("s")
		source.Put("s", map[string]any{"id": map[string]any{"S": "1"}})
		var e events.DynamoDBEvent
		m, err := lambda.Stream{}.Start(t.Context(), source, lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
			return nil, json.Unmarshal(payload, &e)
		}))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		m.Close()
		if len(e.Records) != 1 || e.Records[0].EventName != "INSERT" || e.Records[0].EventSourceArn != source.ARN() || e.Records[0].Change.NewImage["id"].String() != "1" ||
			!e.Records[0].Change.ApproximateCreationDateTime.Equal(time.Now().Truncate(time.Second)) {
			t.Errorf("got %+v", e)
		}
	})
}

func TestStreamIsChecked(t *testing.T) {
	for want, s := range map[string]lambda.Stream{
		"BatchSize 10001":         {BatchSize: 10_001},
		"Window 5m1s":             {Window: 301 * time.Second},
		"StartingPosition \"X\"":  {StartingPosition: "X"},
		"MaximumRetryAttempts -2": {MaximumRetryAttempts: new(-2)},
		"MaximumRecordAge 59s":    {MaximumRecordAge: 59 * time.Second},
	} {
		if _, err := s.Start(t.Context(), lambda.NewMemoryStream("s"), &spy{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
