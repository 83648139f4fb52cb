package lambda_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

func TestAFunctionSeesWhatLambdaTellsIt(t *testing.T) {
	t.Setenv("_LAMBDA_SERVER_PORT", "1")
	t.Setenv("AWS_LAMBDA_MAX_CONCURRENCY", "7")
	t.Setenv("AWS_REGION", "")
	fn := start(t, "plain", lambda.Function{Name: "orders", Memory: 256, Region: "eu-west-1", Account: "123456789012", Timeout: 20 * time.Second, Env: []string{"MINE=1"}})
	r := invoke(t, fn, command{Text: "ä"}, lambda.WithRequestID("id-1"), lambda.WithTraceID("Root=1-2-3"),
		lambda.WithTenantID("blue"), lambda.WithClientContext(`{"custom":{"k":"v"}}`))
	if r.Text != "ä" || r.RequestID != "id-1" || r.Trace != "Root=1-2-3" || r.Tenant != "blue" || r.Custom != "v" || r.Name != "orders" ||
		r.ARN != "arn:aws:lambda:eu-west-1:123456789012:function:orders" {
		t.Errorf("got %+v", r)
	}
	if r.Left < 10*time.Second || r.Left > 20*time.Second {
		t.Errorf("left until the deadline: %s", r.Left)
	}
	want := map[string]string{"AWS_LAMBDA_FUNCTION_NAME": "orders", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders", "AWS_REGION": "eu-west-1", "MINE": "1"}
	if !maps.Equal(r.Env, want) {
		t.Errorf("environment %v", r.Env)
	}
	r = invoke(t, fn, command{})
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(r.RequestID) ||
		!regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0$`).MatchString(r.Trace) {
		t.Errorf("ids %q %q", r.RequestID, r.Trace)
	}
}

func TestAProcessIsUsedAgain(t *testing.T) {
	fn := start(t, "plain", lambda.Function{Instances: 1})
	var r reply
	for range 20 {
		r = invoke(t, fn, command{})
	}
	if got, want := fn.Stats(), (lambda.Stats{Invocations: 20, ColdStarts: 1}); got != want || r.Invocation != 20 {
		t.Errorf("got %+v and %+v", got, r)
	}
}

func TestColdAlways(t *testing.T) {
	fn := start(t, "plain", lambda.Function{Instances: 1, ColdAlways: true})
	a, b := invoke(t, fn, command{}), invoke(t, fn, command{})
	if got, want := fn.Stats(), (lambda.Stats{Invocations: 2, ColdStarts: 2}); got != want || a.Process == b.Process {
		t.Errorf("got %+v", got)
	}
}

// TestFailures: each failure is what it should be, and the function works afterwards.
func TestFailures(t *testing.T) {
	for name, tc := range map[string]struct {
		do      command
		want    *lambda.FunctionError // by Type
		message string
		stats   lambda.Stats // beside that invocation: one that works
	}{
		"error":         {command{Do: "fail"}, &lambda.FunctionError{Type: "customError"}, "^custom$", lambda.Stats{Invocations: 2, ColdStarts: 1, Errors: 1}},
		"panic":         {command{Do: "panic", Text: "oops"}, &lambda.FunctionError{Type: "string"}, "^oops$", lambda.Stats{Invocations: 2, ColdStarts: 2, Errors: 1, Crashes: 1}},
		"exit 0":        {command{Do: "exit"}, lambda.ErrExit, "^Runtime exited without providing a reason$", lambda.Stats{Invocations: 2, ColdStarts: 2, Errors: 1, Crashes: 1}},
		"exit 3":        {command{Do: "exit", Size: 3}, lambda.ErrExit, "exit status 3$", lambda.Stats{Invocations: 2, ColdStarts: 2, Errors: 1, Crashes: 1}},
		"hang":          {command{Do: "hang"}, lambda.ErrTimeout, `^Task timed out after 1\.00 seconds$`, lambda.Stats{Invocations: 2, ColdStarts: 2, Errors: 1, Timeouts: 1}},
		"too large":     {command{Do: "big", Size: 7 << 20}, lambda.ErrResponseTooLarge, `\(7340034 bytes\) exceeded .* \(6291556 bytes\)`, lambda.Stats{Invocations: 2, ColdStarts: 2, Errors: 1, Crashes: 1}},
		"broken stream": {command{Do: "broken"}, &lambda.FunctionError{Type: "errorString"}, "^broke off$", lambda.Stats{Invocations: 2, ColdStarts: 1, Errors: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			timeout := 30 * time.Second
			if tc.do.Do == "hang" {
				timeout = time.Second
			}
			fn := start(t, "plain", lambda.Function{Instances: 1, Timeout: timeout})
			_, err := fn.Invoke(t.Context(), payload(t, tc.do))
			failed, ok := errors.AsType[*lambda.FunctionError](err)
			if !ok || !errors.Is(err, tc.want) || !regexp.MustCompile(tc.message).MatchString(failed.Message) {
				t.Fatalf("got %v", err)
			}
			if name == "panic" && len(failed.Stack) == 0 {
				t.Error("a panic has no stack")
			}
			if r := invoke(t, fn, command{Text: "again"}); r.Text != "again" {
				t.Errorf("got %+v", r)
			}
			if got := fn.Stats(); got != tc.stats {
				t.Errorf("got %+v, want %+v", got, tc.stats)
			}
		})
	}
}

func TestResponses(t *testing.T) {
	fn := start(t, "plain", lambda.Function{})
	for name, tc := range map[string]struct {
		do   command
		want string
	}{
		"null":     {command{Do: "null"}, "null"},
		"chunked":  {command{Do: "stream"}, `"streamed"`},
		"just 6MB": {command{Do: "big", Size: 6<<20 + 98}, `"` + strings.Repeat("x", 6<<20+98) + `"`},
	} {
		if got, err := fn.Invoke(t.Context(), payload(t, tc.do)); err != nil || string(got) != tc.want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestRequestsAreChecked(t *testing.T) {
	fn := start(t, "plain", lambda.Function{})
	for payload, want := range map[string]string{
		"{":                                    "InvalidRequestContentException",
		`"` + strings.Repeat("x", 6<<20) + `"`: "RequestTooLargeException",
	} {
		if _, err := fn.Invoke(t.Context(), []byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if got := fn.Stats(); got != (lambda.Stats{}) {
		t.Errorf("got %+v", got)
	}
}

func TestAProcessThatDoesNotStartFailsItsInvocation(t *testing.T) {
	var log buffer
	fn := start(t, "exits", lambda.Function{Log: &log})
	for range 2 {
		if _, err := fn.Invoke(t.Context(), nil); !errors.Is(err, lambda.ErrExit) || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
	}
	if got, want := fn.Stats(), (lambda.Stats{ColdStarts: 2, Crashes: 2, Errors: 2}); got != want {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(log.String(), "cannot start") {
		t.Errorf("log %s", &log)
	}
}

func TestMoreThanInstancesAreThrottled(t *testing.T) {
	fn := start(t, "plain", lambda.Function{Instances: 2, Timeout: 30 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() { _, _ = fn.Invoke(ctx, payload(t, command{Do: "hang"})) })
	}
	for fn.Stats().Invocations < 2 {
		runtime.Gosched()
	}
	_, err := fn.Invoke(t.Context(), payload(t, command{}))
	if throttled, ok := errors.AsType[*lambda.ThrottleError](err); !ok || throttled.Limit != 2 {
		t.Errorf("got %v", err)
	}
	if got, want := fn.Stats(), (lambda.Stats{Invocations: 2, ColdStarts: 2, Throttles: 1}); got != want {
		t.Errorf("got %+v", got)
	}
	// The caller may go, the function does not notice.
	cancel()
	held.Wait()
	if _, err = fn.Invoke(t.Context(), payload(t, command{})); err == nil {
		t.Error("got room")
	}
	fn.Close()
	if _, err = fn.Invoke(t.Context(), payload(t, command{})); !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestConcurrentInvocationsInOneProcess(t *testing.T) {
	fn := start(t, "plain", lambda.Function{Instances: 1, Concurrency: 4})
	invoke(t, fn, command{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { invoke(t, fn, command{Delay: 300 * time.Millisecond}) })
	}
	all.Wait()
	r := invoke(t, fn, command{})
	if got, want := fn.Stats(), (lambda.Stats{Invocations: 6, ColdStarts: 1}); got != want || r.Peak != 4 || r.Env["AWS_LAMBDA_MAX_CONCURRENCY"] != "4" {
		t.Errorf("got %+v and %+v", got, r)
	}
	// A panic ends the process, when the others are done.
	all.Go(func() { invoke(t, fn, command{Delay: 300 * time.Millisecond}) })
	if _, err := fn.Invoke(t.Context(), payload(t, command{Do: "panic", Text: "oops"})); err == nil {
		t.Error("got no error")
	}
	all.Wait()
	if r := invoke(t, fn, command{}); r.Peak != 1 {
		t.Errorf("the process lives: %+v", r)
	}
}

func TestNothingGoesOnInAFrozenProcess(t *testing.T) {
	for _, which := range []string{"plain", "sigterm"} {
		var log buffer
		fn := start(t, which, lambda.Function{Freeze: true, Instances: 1, Log: &log})
		a := invoke(t, fn, command{Do: "tick"})
		before := invoke(t, fn, command{Delay: 50 * time.Millisecond}).Ticks
		for processState(t, a.Process) != "T" { // the signal takes effect in its own time
			runtime.Gosched()
		}
		after := invoke(t, fn, command{}).Ticks
		if before == 0 || after > before+20 {
			t.Errorf("%s: %d, then %d ticks", which, before, after)
		}
		fn.Close()
		if got := strings.Contains(log.String(), "got SIGTERM"); got != (which == "sigterm") {
			t.Errorf("%s: %s", which, &log)
		}
		if err := syscall.Kill(a.Process, 0); err != syscall.ESRCH {
			t.Errorf("%s: the process is there: %v", which, err)
		}
	}
}

// processState is T of a stopped process.
func processState(t *testing.T, pid int) string {
	t.Helper()
	raw, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: no /proc")
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return rest[:1]
}

func TestSIGTERMComesOnlyWithAnExtension(t *testing.T) {
	for which, want := range map[string]bool{"traps": false, "sigterm": true} {
		var log buffer
		fn := start(t, which, lambda.Function{Log: &log})
		invoke(t, fn, command{})
		fn.Close()
		if got := strings.Contains(log.String(), "got SIGTERM"); got != want {
			t.Errorf("%s: %s", which, &log)
		}
		if got := fn.Stats(); got.Crashes != 0 {
			t.Errorf("%s: %+v", which, got)
		}
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	fn := start(t, "plain", lambda.Function{})
	failed := make(chan error, 2)
	go func() {
		_, err := fn.Invoke(t.Context(), payload(t, command{Do: "hang"}))
		failed <- err
	}()
	for fn.Stats().Invocations == 0 {
		runtime.Gosched()
	}
	fn.Close()
	fn.Close()
	if err := <-failed; !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("got %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
		}
	}
}

func TestCloseWhileAProcessStarts(t *testing.T) {
	fn := start(t, "hangs", lambda.Function{})
	failed := make(chan error)
	go func() {
		_, err := fn.Invoke(t.Context(), nil)
		failed <- err
	}()
	for fn.Stats().ColdStarts == 0 {
		runtime.Gosched()
	}
	fn.Close()
	if err := <-failed; !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestTheEndOfTheContextCloses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	self, _ := os.Executable()
	fn, err := lambda.Start(ctx, lambda.Function{Command: []string{self}, Env: []string{envFunction + "=plain"}, Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	r := invoke(t, fn, command{})
	cancel()
	for syscall.Kill(r.Process, 0) == nil {
		runtime.Gosched()
	}
	if _, err := fn.Invoke(t.Context(), nil); !errors.Is(err, lambda.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestTheLog: every line has the id of its invocation and is there when Invoke returns.
func TestTheLog(t *testing.T) {
	var log buffer
	fn := start(t, "plain", lambda.Function{Instances: 1, Log: &log})
	var want strings.Builder
	for _, id := range []string{"id-1", "id-2", "id-3"} {
		cold := ""
		if id == "id-1" {
			cold = " cold"
		}
		want.WriteString("START " + id + cold + "\n")
		for i := range 200 {
			want.WriteString(id + " line " + itoa(i) + " of " + id + "\n")
		}
		want.WriteString(id + " no newline\nREPORT " + id + "\n")
		if _, err := fn.Invoke(t.Context(), payload(t, command{Do: "print", Size: 200, Text: "of " + id}), lambda.WithRequestID(id)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(log.String(), "REPORT "+id+" ") {
			t.Errorf("no report of %s yet", id)
		}
	}
	if got := regexp.MustCompile(`(REPORT \S+).*`).ReplaceAllString(log.String(), "$1"); got != want.String() {
		t.Errorf("got %s", got)
	}
	if !regexp.MustCompile(`(?m)^REPORT id-1 \d+\.\d\d ms cold \d+\.\d\d ms$`).MatchString(log.String()) ||
		!regexp.MustCompile(`(?m)^REPORT id-2 \d+\.\d\d ms$`).MatchString(log.String()) {
		t.Errorf("reports: %s", &log)
	}
	_, _ = fn.Invoke(t.Context(), payload(t, command{Do: "fail"}), lambda.WithRequestID("id-4"))
	if !regexp.MustCompile(`(?m)^REPORT id-4 \d+\.\d\d ms lambda: customError: custom$`).MatchString(log.String()) {
		t.Errorf("report of a failure: %s", &log)
	}
}

func TestFunctionsAreChecked(t *testing.T) {
	self := []string{os.Args[0]}
	for want, fn := range map[string]lambda.Function{
		"Command is empty":        {},
		"Command: exec":           {Command: []string{"no-such-binary"}},
		"Timeout 16m":             {Command: self, Timeout: 16 * time.Minute},
		"Timeout -1s":             {Command: self, Timeout: -time.Second},
		"Instances -1":            {Command: self, Instances: -1},
		"Freeze with Concurrency": {Command: self, Freeze: true, Concurrency: 2},
	} {
		if _, err := lambda.Start(t.Context(), fn); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFunc(t *testing.T) {
	busy := &lambda.ThrottleError{Limit: 1}
	cause := errors.New("no")
	for name, tc := range map[string]struct {
		fn   lambda.Func
		want error
	}{
		"ok":       {func(context.Context, []byte) ([]byte, error) { return []byte("1"), nil }, nil},
		"error":    {func(context.Context, []byte) ([]byte, error) { return nil, cause }, cause},
		"typed":    {func(context.Context, []byte) ([]byte, error) { return nil, customError{} }, &lambda.FunctionError{Type: "customError"}},
		"panic":    {func(context.Context, []byte) ([]byte, error) { panic(customError{}) }, &lambda.FunctionError{Type: "customError"}},
		"throttle": {func(context.Context, []byte) ([]byte, error) { return nil, busy }, busy},
	} {
		if got, err := tc.fn.Invoke(t.Context(), nil); !errors.Is(err, tc.want) || err == nil && string(got) != "1" {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	raw, err := json.Marshal(&lambda.FunctionError{Type: "T", Message: "M"})
	if want := `{"errorType":"T","errorMessage":"M"}`; err != nil || string(raw) != want {
		t.Errorf("got %s, %v", raw, err)
	}
}

func BenchmarkInvoke(b *testing.B) {
	b.Run("warm", func(b *testing.B) {
		fn := start(b, "plain", lambda.Function{Instances: 1})
		invoke(b, fn, command{})
		for b.Loop() {
			invoke(b, fn, command{})
		}
	})
	b.Run("cold", func(b *testing.B) {
		fn := start(b, "plain", lambda.Function{Instances: 1, ColdAlways: true})
		for b.Loop() {
			invoke(b, fn, command{})
		}
	})
}
