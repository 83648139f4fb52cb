package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of synchronous invocations, in bytes, as AWS enforces them.
const (
	maxRequest  = 6 << 20
	maxResponse = 6<<20 + 100
)

// Function is a function to [Start]. Only Command is required.
type Function struct {
	// Command is the binary and its arguments. The binary is built for this host.
	Command []string
	// Env is added to the environment of the own process, in the form KEY=value. What
	// Lambda itself sets is taken out of it before, and set.
	Env []string
	// Dir is the working folder. Default is the own one.
	Dir string

	// Name is the function's name, default "function".
	Name string
	// Region and Account are for its ARN, default us-east-1 and 000000000000.
	Region, Account string

	// Timeout of an invocation, up to 15 minutes. Default 3 s, as on AWS. At the deadline
	// the process is killed and the invocation fails with ErrTimeout; the next one gets a
	// new process. The start of a process does not count, and may take 10 s.
	Timeout time.Duration
	// Memory in MB is told to the function, nothing else. Default 128.
	Memory int
	// Instances is how many processes may run at a time, as reserved concurrency limits
	// them. They are started as they are needed. Default 10.
	Instances int
	// Concurrency is how many invocations a process takes at a time: it is told to the
	// function as AWS_LAMBDA_MAX_CONCURRENCY. Default 1.
	Concurrency int
	// ColdAlways ends the process after each invocation.
	ColdAlways bool
	// Freeze stops the process, by SIGSTOP, while it waits for an event, as AWS does: no
	// goroutine goes on in the background. Not with Concurrency.
	Freeze bool

	// Log gets what the function prints, and what happens to it, a line in each Write,
	// one at a time:
	//
	//	START 8f3e… cold                        an invocation begins; "cold": in a new process
	//	8f3e… text                              a line of the function's stdout or stderr
	//	REPORT 8f3e… 1.02 ms cold 38.10 ms      it is over: duration, and that of the start
	//	REPORT 8f3e… 1.02 ms Kind: message      it has failed
	//
	// What is printed outside of invocations, or by a process with several at a time, has
	// the name of the log stream instead of the request id. When Invoke returns, all that
	// the function has printed is in the log. Default: discarded.
	Log io.Writer
}

// Stats counts what has happened since the start.
type Stats struct {
	Invocations int // that were given to a process
	Errors      int // of those, the ones that failed, for whatever reason
	ColdStarts  int // processes started
	Crashes     int // processes that ended by themselves
	Timeouts    int // processes killed at the deadline
	Throttles   int // invocations refused
}

// Runtime runs a function. Its methods are safe for concurrent use.
type Runtime struct {
	fn       Function
	path     string
	log      *logger
	stopAuto func() bool
	quit     chan struct{} // closed by Close

	mu        sync.Mutex
	instances []*instance
	stats     Stats
	closed    bool
	work      sync.WaitGroup // invocations and processes
}

// Start makes a function ready to be invoked. It starts no process: the first invocation
// does. The runtime lives until Close, or until ctx ends, which closes it.
func Start(ctx context.Context, fn Function) (*Runtime, error) {
	fn.Name = orDefault(fn.Name, "function")
	fn.Region = orDefault(fn.Region, "us-east-1")
	fn.Account = orDefault(fn.Account, "000000000000")
	fn.Timeout = orDefault(fn.Timeout, 3*time.Second)
	fn.Memory = orDefault(fn.Memory, 128)
	fn.Instances = orDefault(fn.Instances, 10)
	fn.Concurrency = orDefault(fn.Concurrency, 1)
	if fn.Log == nil {
		fn.Log = io.Discard
	}
	switch {
	case len(fn.Command) == 0:
		return nil, errors.New("lambda: Function.Command is empty")
	case fn.Timeout < time.Millisecond || fn.Timeout > 15*time.Minute:
		return nil, fmt.Errorf("lambda: Function.Timeout %s: must be from 1ms to 15m", fn.Timeout)
	case fn.Instances < 1 || fn.Concurrency < 1 || fn.Memory < 1:
		return nil, fmt.Errorf("lambda: Function.Instances %d, Concurrency %d, Memory %d: must not be negative", fn.Instances, fn.Concurrency, fn.Memory)
	case fn.Freeze && fn.Concurrency > 1:
		return nil, errors.New("lambda: Function.Freeze with Concurrency: AWS never freezes a process that takes several invocations at a time")
	}
	path, err := exec.LookPath(fn.Command[0])
	if err != nil {
		return nil, fmt.Errorf("lambda: Function.Command: %w", err)
	}
	r := &Runtime{fn: fn, path: path, log: &logger{w: fn.Log}, quit: make(chan struct{})}
	r.stopAuto = context.AfterFunc(ctx, r.Close)
	return r, nil
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Timeout is the timeout of an invocation.
func (r *Runtime) Timeout() time.Duration { return r.fn.Timeout }

// Concurrency is how many invocations may run at a time, in all processes.
func (r *Runtime) Concurrency() int { return r.fn.Instances * r.fn.Concurrency }

// Stats returns the counts.
func (r *Runtime) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Invoke runs the function on the payload, which is JSON or empty and has at most 6 MB,
// and waits until the invocation is over: with Concurrency 1 that is when the function
// asks for its next event or its process has ended, else when it has answered. A process
// that is idle takes it, else a new one, else it is throttled.
//
// When ctx ends Invoke returns its error, and the function goes on until it is done or
// its timeout has passed, as on AWS.
func (r *Runtime) Invoke(ctx context.Context, payload []byte, opts ...InvokeOption) ([]byte, error) {
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(payload) > maxRequest:
		return nil, fmt.Errorf("lambda: RequestTooLargeException: Request must be smaller than %d bytes, has %d", maxRequest, len(payload))
	case len(payload) > 0 && !json.Valid(payload):
		return nil, errors.New("lambda: InvalidRequestContentException: Could not parse request body into json")
	}
	inv := newInvocation(newRequest(opts), slices.Clone(payload))
	in, err := r.acquire()
	if err != nil {
		return nil, err
	}
	r.work.Go(func() { r.run(in, inv) })
	select {
	case <-inv.done:
		return inv.response, inv.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run sees the invocation to its end, whoever waits for it.
func (r *Runtime) run(in *instance, inv *invocation) {
	defer close(inv.done)
	// A process may end just before it is given the event. That is not this one's fault.
	for !in.serve(inv) {
		r.release(in)
		var err error
		if in, err = r.acquire(); err != nil {
			inv.settle(nil, err)
			return
		}
	}
	if inv.err != nil {
		r.count(func(s *Stats) { s.Errors++ })
	}
	if r.fn.ColdAlways {
		in.shutdown()
	}
	r.release(in)
}

// acquire reserves a place in a process.
func (r *Runtime) acquire() (*instance, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	r.instances = slices.DeleteFunc(r.instances, func(in *instance) bool { return in.busy == 0 && in.ended() })
	for _, in := range r.instances {
		if in.busy < r.fn.Concurrency && !in.ended() {
			in.busy++
			return in, nil
		}
	}
	if len(r.instances) == r.fn.Instances {
		r.stats.Throttles++
		return nil, &ThrottleError{Limit: r.Concurrency()}
	}
	r.stats.ColdStarts++
	in := newInstance(r)
	in.busy = 1
	r.instances = append(r.instances, in)
	r.work.Go(in.run)
	return in, nil
}

func (r *Runtime) release(in *instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in.busy--
}

func (r *Runtime) count(add func(*Stats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.stats)
}

func (r *Runtime) isClosed() bool {
	select {
	case <-r.quit:
		return true
	default:
		return false
	}
}

// Close ends the function at once: new invocations are refused and those that run fail,
// both with [ErrClosed]. Processes end as on AWS: one that has registered an extension,
// as lambda.WithEnableSIGTERM does, gets SIGTERM and 500 ms, all others SIGKILL. Close
// returns when all of them have ended. Close mappings first: they wait for what they have
// in flight.
func (r *Runtime) Close() {
	r.stopAuto()
	r.mu.Lock()
	if !r.closed {
		r.closed = true
		close(r.quit)
	}
	instances := slices.Clone(r.instances)
	r.mu.Unlock()
	var all sync.WaitGroup
	for _, in := range instances {
		all.Go(in.shutdown)
	}
	all.Wait()
	r.work.Wait()
}

// environ is the environment of a process that finds the Runtime API at address.
func (r *Runtime) environ(address, stream string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		for _, own := range []string{"AWS_LAMBDA_", "_LAMBDA_", "LAMBDA_", "_X_AMZN_TRACE_ID=", "_HANDLER="} {
			if strings.HasPrefix(kv, own) {
				return true
			}
		}
		return false
	})
	if os.Getenv("AWS_REGION") == "" {
		env = append(env, "AWS_REGION="+r.fn.Region, "AWS_DEFAULT_REGION="+r.fn.Region)
	}
	env = append(append(env, "TZ=:UTC"), r.fn.Env...)
	env = append(env,
		"AWS_LAMBDA_RUNTIME_API="+address,
		"AWS_LAMBDA_FUNCTION_NAME="+r.fn.Name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		fmt.Sprintf("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%d", r.fn.Memory),
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/"+r.fn.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME="+stream,
		"AWS_LAMBDA_INITIALIZATION_TYPE=on-demand",
		"_HANDLER=bootstrap",
	)
	if r.fn.Concurrency > 1 {
		env = append(env, fmt.Sprintf("AWS_LAMBDA_MAX_CONCURRENCY=%d", r.fn.Concurrency))
	}
	return env
}
