package lambda_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	awslambda "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// The test binary is the function too, on aws-lambda-go as any function: the variable
// says which.
const envFunction = "SWARM_TEST_FUNCTION"

func TestMain(m *testing.M) {
	switch os.Getenv(envFunction) {
	case "":
		os.Exit(m.Run())
	case "plain":
		awslambda.Start(handle)
	case "sigterm":
		awslambda.StartWithOptions(handle, awslambda.WithEnableSIGTERM(func() { fmt.Println("got SIGTERM") }))
	case "traps": // SIGTERM, without asking Lambda for it
		got := make(chan os.Signal, 1)
		signal.Notify(got, syscall.SIGTERM)
		go func() {
			<-got
			fmt.Println("got SIGTERM")
		}()
		awslambda.Start(handle)
	case "exits":
		fmt.Println("cannot start")
		os.Exit(3)
	case "hangs":
		select {}
	}
}

// command is what a test asks the function for.
type command struct {
	Do    string
	Text  string        `json:",omitempty"`
	Size  int           `json:",omitempty"`
	Delay time.Duration `json:",omitempty"`
}

// reply tells what the function has seen.
type reply struct {
	Text, RequestID, ARN, Trace, Tenant, Name, Custom string
	Env                                               map[string]string
	Process, Invocation                               int
	Left                                              time.Duration
	Ticks                                             int64
	Peak                                              int64
}

var (
	invocations, inFlight, peak, ticks atomic.Int64
	tick                               sync.Once
)

type customError struct{}

func (customError) Error() string { return "custom" }

// brokenReader fails in the middle.
type brokenReader struct{ r io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		err = errors.New("broke off")
	}
	return n, err
}

func handle(ctx context.Context, raw json.RawMessage) (any, error) {
	n := invocations.Add(1)
	now := inFlight.Add(1)
	defer inFlight.Add(-1)
	for p := peak.Load(); now > p && !peak.CompareAndSwap(p, now); p = peak.Load() {
	}
	var c command
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.Delay > 0 {
		time.Sleep(c.Delay)
	}
	switch c.Do {
	case "fail":
		return nil, customError{}
	case "panic":
		panic(c.Text)
	case "exit":
		os.Exit(c.Size)
	case "hang":
		fmt.Println("hanging")
		select {}
	case "big":
		return strings.Repeat("x", c.Size), nil
	case "stream":
		// Without a Content-Length, hence chunked.
		return io.MultiReader(strings.NewReader(`"strea`), strings.NewReader(`med"`)), nil
	case "broken":
		return brokenReader{strings.NewReader(`"strea`)}, nil
	case "null":
		return nil, nil
	case "print":
		for i := range c.Size {
			fmt.Println("line", i, c.Text)
		}
		fmt.Fprint(os.Stderr, "no newline")
		return nil, nil
	case "tick":
		tick.Do(func() {
			go func() {
				for range time.Tick(time.Millisecond) {
					ticks.Add(1)
				}
			}()
		})
	}
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	env := map[string]string{}
	for _, name := range []string{"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_LOG_GROUP_NAME",
		"AWS_LAMBDA_MAX_CONCURRENCY", "_LAMBDA_SERVER_PORT", "AWS_REGION", "MINE"} {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	trace, _ := ctx.Value("x-amzn-trace-id").(string)
	return reply{Text: c.Text, RequestID: lc.AwsRequestID, ARN: lc.InvokedFunctionArn, Tenant: lc.TenantID, Custom: lc.ClientContext.Custom["k"],
		Trace: trace, Name: lambdacontext.FunctionName, Env: env, Process: os.Getpid(), Invocation: int(n),
		Left: time.Until(deadline), Ticks: ticks.Load(), Peak: peak.Load()}, nil
}

// buffer is a log that tests can read at any time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !bytes.HasSuffix(p, []byte("\n")) || bytes.Count(p, []byte("\n")) != 1 {
		return 0, fmt.Errorf("not a line: %q", p)
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start starts the test binary as the function.
func start(t testing.TB, which string, fn lambda.Function) *lambda.Runtime {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fn.Command = []string{self}
	fn.Env = append(fn.Env, envFunction+"="+which)
	if fn.Timeout == 0 {
		fn.Timeout = 30 * time.Second
	}
	rt, err := lambda.Start(t.Context(), fn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.Close)
	return rt
}

func payload(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// invoke expects the function to succeed.
func invoke(t testing.TB, fn lambda.Invoker, c command, opts ...lambda.InvokeOption) reply {
	t.Helper()
	raw, err := fn.Invoke(t.Context(), payload(t, c), opts...)
	if err != nil {
		t.Fatal(err)
	}
	var r reply
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return r
}

func itoa(n int) string { return fmt.Sprint(n) }
