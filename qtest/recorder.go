package qtest

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// T is the part of *testing.T that cases and [Open] see. It is small so that the
// suite can itself be tested by what it records.
type T interface {
	Name() string
	Helper()

	// Context ends when the case does, before its cleanups.
	Context() context.Context

	// Cleanup calls f when the case has ended; the last one registered goes first.
	Cleanup(f func())

	Logf(format string, args ...any)
	Errorf(format string, args ...any)

	// Fatalf is Errorf, and ends the goroutine that calls it.
	Fatalf(format string, args ...any)
}

// recorder is the T of one case. It keeps what the case says; all of it may be
// called from any goroutine. Fatalf in a goroutine that the case has started ends
// that goroutine, not the case.
type recorder struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc

	mu       sync.Mutex
	log      []string
	failures []string
	cleanups []func()
}

func newRecorder(name string) *recorder { return &recorder{name: name} }

func (r *recorder) Name() string             { return r.name }
func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }

func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recorder) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *recorder) Errorf(format string, args ...any) {
	r.fail(caller() + fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fail(caller() + fmt.Sprintf(format, args...))
	runtime.Goexit()
}

func (r *recorder) fail(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, text)
}

// said returns the log and the failures so far.
func (r *recorder) said() (log, failures []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(log, r.log...), append(failures, r.failures...)
}

// run calls body and then the cleanups, each of them to its end, its Fatalf or its
// panic. A panic is a failure of the case: a driver that panics fails by name.
func (r *recorder) run(body func()) {
	defer r.cleanup()
	defer r.cancel()
	r.protect(body)
}

func (r *recorder) cleanup() {
	for {
		r.mu.Lock()
		last := len(r.cleanups) - 1
		if last < 0 {
			r.mu.Unlock()
			return
		}
		f := r.cleanups[last]
		r.cleanups = r.cleanups[:last]
		r.mu.Unlock()
		r.protect(f)
	}
}

// protect calls f in a goroutine of its own, since Goexit cannot be stopped.
func (r *recorder) protect(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.fail(fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		f()
	}()
	<-done
}

// caller names the line of the case that a failure belongs to: the outermost frame
// in one of the files of cases, so that no helper needs to be skipped.
func caller() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	var at string
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.File, "_cases.go") {
			at = fmt.Sprintf("%s:%d: ", filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return at
		}
	}
}
