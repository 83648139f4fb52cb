package lambda_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// attempts records when an event was tried and by which request id.
type attempts struct {
	mu    sync.Mutex
	began time.Time
	at    []string
	ids   []string
}

func (a *attempts) note(ctx context.Context) int {
	lc, _ := lambdacontext.FromContext(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at, a.ids = append(a.at, time.Since(a.began).String()), append(a.ids, lc.AwsRequestID)
	return len(a.at)
}

// TestAsyncRetries: when an event is tried, and how it is settled, in virtual time.
func TestAsyncRetries(t *testing.T) {
	no := errors.New("no")
	busy := &lambda.ThrottleError{Limit: 1}
	always := func(err error) func(int) error { return func(int) error { return err } }
	for name, tc := range map[string]struct {
		async     lambda.Async
		answer    func(attempt int) error
		at        string
		condition lambda.Condition
		attempts  int
	}{
		"success":          {lambda.Async{}, always(nil), "0s", lambda.Success, 1},
		"two retries":      {lambda.Async{}, always(no), "0s 1m0s 3m0s", lambda.RetriesExhausted, 3},
		"one retry":        {lambda.Async{MaximumRetryAttempts: new(1)}, always(no), "0s 1m0s", lambda.RetriesExhausted, 2},
		"none":             {lambda.Async{MaximumRetryAttempts: new(0)}, always(no), "0s", lambda.RetriesExhausted, 1},
		"shorter":          {lambda.Async{RetryDelay: time.Second}, always(no), "0s 1s 3s", lambda.RetriesExhausted, 3},
		"succeeds late":    {lambda.Async{}, func(n int) error { return []error{no, no, nil}[n-1] }, "0s 1m0s 3m0s", lambda.Success, 3},
		"too old":          {lambda.Async{MaximumEventAge: time.Minute}, always(no), "0s 1m0s", lambda.EventAgeExceeded, 2},
		"throttled":        {lambda.Async{}, func(n int) error { return []error{busy, busy, busy, nil}[n-1] }, "0s 1s 3s 7s", lambda.Success, 1},
		"throttled, error": {lambda.Async{}, func(n int) error { return []error{busy, no, busy, nil}[n-1] }, "0s 1s 1m1s 1m3s", lambda.Success, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var results []lambda.Result
				settled := func(r lambda.Result) { results = append(results, r) }
				tc.async.OnSuccess, tc.async.OnFailure = settled, settled
				seen := attempts{began: time.Now()}
				q, err := tc.async.Start(t.Context(), lambda.Func(func(ctx context.Context, payload []byte) ([]byte, error) {
					return payload, tc.answer(seen.note(ctx))
				}))
				if err != nil {
					t.Fatal(err)
				}
				id, err := q.Send([]byte(`{"a":1}`))
				if err != nil {
					t.Fatal(err)
				}
				if err := q.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				if dropped := q.Close(); dropped != 0 {
					t.Errorf("dropped %d", dropped)
				}
				if got := strings.Join(seen.at, " "); got != tc.at {
					t.Errorf("tried at %s, want %s", got, tc.at)
				}
				for _, got := range seen.ids {
					if got != id || id == "" {
						t.Errorf("request id %s, want %s", got, id)
					}
				}
				if len(results) != 1 || results[0].Condition != tc.condition || results[0].Attempts != tc.attempts || results[0].RequestID != id ||
					string(results[0].Payload) != `{"a":1}` || (results[0].Condition == lambda.Success) != (results[0].Err == nil) ||
					results[0].Err == nil && string(results[0].Response) != `{"a":1}` {
					t.Errorf("got %+v", results)
				}
			})
		})
	}
}

func TestAsyncThrottlesBackOffToFiveMinutesUntilTheEventIsTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var result lambda.Result
		seen := attempts{began: time.Now()}
		q, err := lambda.Async{OnFailure: func(r lambda.Result) { result = r }}.Start(t.Context(), lambda.Func(func(ctx context.Context, _ []byte) ([]byte, error) {
			seen.note(ctx)
			return nil, &lambda.ThrottleError{Limit: 1}
		}))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = q.Send([]byte(`1`))
		_ = q.Wait(t.Context())
		q.Close()
		if d := time.Since(seen.began); d < 6*time.Hour || d > 6*time.Hour+5*time.Minute || result.Condition != lambda.EventAgeExceeded || result.Attempts != 0 {
			t.Errorf("after %s: %+v", d, result)
		}
		if n := len(seen.at); seen.at[8] != "4m15s" || seen.at[9] != "8m31s" || seen.at[10] != "13m31s" || n > 85 {
			t.Errorf("%d attempts: %v", n, seen.at[:12])
		}
	})
}

func TestAsyncKeepsWithinWhatTheFunctionTakesAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, concurrency := range []int{1, 3} {
			s := &spy{took: time.Second}
			q, err := lambda.Async{}.Start(t.Context(), bounded{s, time.Minute, concurrency})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for i := range 20 {
				want = append(want, fmt.Sprint(i))
				_, _ = q.Send(fmt.Appendf(nil, `{"Records":[{"messageId":"%d"}]}`, i))
			}
			if err := q.Wait(t.Context()); err != nil || s.peak != concurrency {
				t.Errorf("%v, %d at a time", err, s.peak)
			}
			var got []string
			for _, b := range s.got() {
				got = append(got, b...)
			}
			if concurrency == 1 && !slices.Equal(got, want) {
				t.Errorf("got %v", got)
			}
			q.Close()
		}
	})
}

func TestAsyncClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &spy{took: time.Second, answer: func(int, []string) (string, error) { return "", errors.New("no") }}
		q, err := lambda.Async{}.Start(t.Context(), bounded{s, time.Minute, 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_, _ = q.Send([]byte(`{}`))
		}
		pass(1500 * time.Millisecond) // one waits for its retry, one runs, one waits for room
		waited := make(chan error, 1)
		go func() { waited <- q.Wait(t.Context()) }()
		synctest.Wait()
		if dropped := q.Close(); dropped != 3 || len(s.got()) != 2 {
			t.Errorf("dropped %d:\n%s", dropped, s)
		}
		if err := <-waited; !errors.Is(err, lambda.ErrClosed) {
			t.Errorf("got %v", err)
		}
		if _, err := q.Send([]byte(`{}`)); !errors.Is(err, lambda.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAsyncIsChecked(t *testing.T) {
	for want, a := range map[string]lambda.Async{
		"MaximumRetryAttempts 3":  {MaximumRetryAttempts: new(3)},
		"MaximumRetryAttempts -1": {MaximumRetryAttempts: new(-1)},
		"MaximumEventAge 59s":     {MaximumEventAge: 59 * time.Second},
		"MaximumEventAge 7h":      {MaximumEventAge: 7 * time.Hour},
		"RetryDelay -1s":          {RetryDelay: -time.Second},
	} {
		if _, err := a.Start(t.Context(), &spy{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	q, err := lambda.Async{}.Start(t.Context(), &spy{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for payload, want := range map[string]string{"{": "InvalidRequestContentException", "": "InvalidRequestContentException", `"` + strings.Repeat("x", 1<<20) + `"`: "RequestTooLargeException"} {
		if _, err := q.Send([]byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
