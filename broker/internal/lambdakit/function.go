// Package lambdakit is what the brokers have in common as sources of a function of AWS
// Lambda. It imports no SDK.
//
// It is a part of the brokers and no API: it changes without notice.
package lambdakit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/core/driver"
)

// Here reports whether this process is a function: the runtime says so.
func Here() bool { return os.Getenv("AWS_LAMBDA_RUNTIME_API") != "" }

// Mode is whether a builder builds for Lambda: by itself, or because it was told.
type Mode uint8

// The modes.
const (
	Auto Mode = iota
	Lambda
	Service
)

// Lambda reports the decision.
func (m Mode) Lambda() bool { return m == Lambda || m == Auto && Here() }

// Function is the source of a kernel: a [driver.Runner].
type Function struct {
	// Open makes messages of the payload, which is gone when the invocation is. An error
	// is of the payload as a whole; a message that cannot be read has its own.
	Open func(payload []byte) ([]driver.Bag, error)

	// Answer makes the answer of the outcome of each message; err failed all of them.
	Answer func(ctx context.Context, s []driver.Settlement, err error) ([]byte, error)

	// Within is how long the source waits for the answer, if that is shorter than the
	// function may run; 0: it is not. Nil: it never is.
	Within func([]driver.Bag) time.Duration

	// Start calls the handler for each invocation, and does not return. Nil: the client of
	// the runtime. A test makes invocations itself.
	Start func(lambda.Handler)
}

// started: a process has one handler.
var started atomic.Bool

var errStarted = errors.New("swarm: a function has one source: another kernel of this process runs it")

// Run is the loop of the function. The client of the runtime knows no end: when ctx ends
// Run waits for open invocations, and what it has started ends with the process.
func (f Function) Run(ctx context.Context, serve driver.Serve) error {
	start := f.Start
	if start == nil {
		if started.Swap(true) {
			return driver.Permanent(errStarted)
		}
		start = func(h lambda.Handler) { lambda.StartWithOptions(h) }
	}
	h := &handler{Function: f, serve: serve}
	go start(h)
	<-ctx.Done()
	if h.wait() {
		// Its answer is posted after the handler has returned, which nobody can wait for.
		time.Sleep(postTime)
	}
	return nil
}

const postTime = 50 * time.Millisecond

// Close has nothing to do.
func (Function) Close() error { return nil }

// handler is what the client of the runtime calls, from as many goroutines as the process
// has invocations at once.
type handler struct {
	Function
	serve driver.Serve

	mu   sync.Mutex
	open int
	idle chan struct{} // closed when open is 0; nil: nobody waits
}

// wait reports whether there was something to wait for.
func (h *handler) wait() bool {
	h.mu.Lock()
	if h.open == 0 {
		h.mu.Unlock()
		return false
	}
	h.idle = make(chan struct{})
	idle := h.idle
	h.mu.Unlock()
	<-idle
	return true
}

// Invoke is one invocation.
func (h *handler) Invoke(ctx context.Context, payload []byte) (answer []byte, err error) {
	h.mu.Lock()
	h.open++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.open--; h.open == 0 && h.idle != nil {
			close(h.idle)
			h.idle = nil
		}
	}()
	return h.handle(ctx, payload)
}

func (h *handler) handle(ctx context.Context, payload []byte) (answer []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("swarm: the invocation panicked: %v", p)
		}
	}()
	bags, err := h.Open(payload)
	if err != nil {
		return nil, err
	}
	if h.Within != nil {
		if d := h.Within(bags); d > 0 {
			within, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			ctx = within
		}
	}
	s, err := h.serve(ctx, bags)
	return h.Answer(ctx, s, err)
}
