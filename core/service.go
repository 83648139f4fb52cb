package swarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// Kernel is the life cycle of what brokers build.
type Kernel interface {
	// Run serves until ctx ends, the kernel is closed, or the broker fails for
	// good; then it drains within DrainTimeout. It returns nil when nothing was
	// left behind.
	Run(ctx context.Context) error

	// Close stops and drains the kernel within DrainTimeout. It is idempotent.
	Close() error
}

// Must returns the value, and panics on an error. It is for main functions.
func Must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// Await runs kernels until the process gets SIGTERM or SIGINT, or until one of them
// ends. Then it drains them one after another, in the order given: put a listener
// before the emitters that its consumers send to. A second signal ends the process
// at once. It returns what went wrong, nil when nothing was lost.
func Await(kernels ...Kernel) error {
	return runAll(context.Background(), func() (context.Context, context.CancelFunc) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
		// From the first signal on, the next one gets its default action.
		context.AfterFunc(ctx, stop)
		return ctx, stop
	}, kernels)
}

// RunAll is [Await] for programs that handle signals themselves: it runs kernels
// until ctx or one of them ends, and drains them in the order given.
func RunAll(ctx context.Context, kernels ...Kernel) error {
	until := func() (context.Context, context.CancelFunc) { return ctx, func() {} }
	return runAll(context.WithoutCancel(ctx), until, kernels)
}

// runAll asks until when it runs once the kernels have started: to listen to signals takes a
// quarter of a millisecond, which a function of AWS Lambda need not wait for.
func runAll(live context.Context, until func() (context.Context, context.CancelFunc), kernels []Kernel) error {
	for i, k := range kernels {
		if k == nil {
			return fmt.Errorf("swarm: kernel %d is nil", i)
		}
	}
	type end struct {
		kernel int
		err    error
	}
	ended := make(chan end, len(kernels))
	// Their context does not end: none stops before its turn.
	for i, k := range kernels {
		go func() { ended <- end{i, k.Run(live)} }()
	}
	ctx, stop := until()
	defer stop()
	errs := make([]error, len(kernels))
	running := len(kernels)
	if running > 0 {
		select {
		case <-ctx.Done():
		case e := <-ended:
			errs[e.kernel] = e.err
			running--
		}
	}
	for _, k := range kernels {
		// Run returns the same error as Close.
		_ = k.Close()
	}
	for range running {
		e := <-ended
		errs[e.kernel] = e.err
	}
	return errors.Join(errs...)
}

// LogDeadLetters takes values off a dead-letter channel so that the lane behind it
// goes on, and returns the emit channel alone:
//
//	enq := swarm.LogDeadLetters(emit.Typed[Note](q))
//
// The log line counts values and names their type. Their cause is in the kernel's
// own log line; bodies are never logged. It ends when the kernel closes dlq.
func LogDeadLetters[T any](enq chan<- T, dlq <-chan T) chan<- T {
	go func() {
		count := 0
		for v := range dlq {
			count++
			slog.Error("swarm: dead letter", "type", fmt.Sprintf("%T", v), "count", count)
		}
	}()
	return enq
}
