package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// maxAsyncRequest is the limit of an asynchronous payload, in bytes.
const maxAsyncRequest = 1 << 20

// Async is the queue of asynchronous invocations: SNS, EventBridge, S3 and many others
// invoke a function by it. An event that fails is repeated, with the same payload and the
// same request id; its response is ignored otherwise. Events are independent of one
// another and in no order after a failure.
type Async struct {
	// MaximumRetryAttempts is how often an event is repeated that has failed, from 0 to 2.
	// Default (nil): 2.
	MaximumRetryAttempts *int
	// RetryDelay is the pause before the first repetition, twice of it before the second.
	// Default 1 min, as on AWS; tests may shorten it.
	RetryDelay time.Duration
	// MaximumEventAge ends the repetitions of an event, from 1 min to 6 h. Default 6 h.
	MaximumEventAge time.Duration
	// MaximumConcurrency limits the invocations at a time. Default: what the function
	// takes, so that it is throttled only by others; or none if it does not say.
	MaximumConcurrency int
	// OnSuccess and OnFailure are the destinations: called once for an event, when it is
	// settled. OnFailure is also what a dead-letter queue would get. They may be called at
	// the same time.
	OnSuccess, OnFailure func(Result)
	// Log gets a line about each invocation that fails. Default: discarded.
	Log io.Writer
}

// Condition says how an event or a batch was settled, by the names of AWS.
type Condition string

// Conditions.
const (
	Success          Condition = "Success"
	RetriesExhausted Condition = "RetriesExhausted"
	EventAgeExceeded Condition = "EventAgeExceeded"
	// RetryAttemptsExhausted and RecordAgeExceeded are those of streams.
	RetryAttemptsExhausted Condition = "RetryAttemptsExhausted"
	RecordAgeExceeded      Condition = "RecordAgeExceeded"
)

// Result is what has become of an event.
type Result struct {
	RequestID string
	Condition Condition
	Payload   []byte
	Response  []byte // of success
	Err       error  // of the last attempt, nil if there was none
	Attempts  int    // invocations, without throttled ones
}

// AsyncQueue is an [Async] at work. Its methods are safe for concurrent use.
type AsyncQueue struct {
	Async
	fn      Invoker
	retries int
	log     *logger
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	ready   []*asyncEvent // to be invoked as soon as there is room
	running int
	open    int // accepted and not settled
	closed  bool
	idle    chan struct{} // closed and replaced when open becomes 0
	timers  map[*asyncEvent]*time.Timer
	work    sync.WaitGroup
}

type asyncEvent struct {
	id       string
	payload  []byte
	opts     []InvokeOption
	accepted time.Time
	attempts int
	pause    *backoff // after a throttle
	err      error
}

// Start makes the queue. It lives until Close, or until ctx ends, which closes it.
func (a Async) Start(ctx context.Context, fn Invoker) (*AsyncQueue, error) {
	q := &AsyncQueue{Async: a, fn: fn, retries: 2, idle: make(chan struct{}), timers: map[*asyncEvent]*time.Timer{}}
	if a.MaximumRetryAttempts != nil {
		q.retries = *a.MaximumRetryAttempts
	}
	q.RetryDelay = orDefault(a.RetryDelay, time.Minute)
	q.MaximumEventAge = orDefault(a.MaximumEventAge, 6*time.Hour)
	q.MaximumConcurrency = orDefault(a.MaximumConcurrency, concurrencyOf(fn, 1<<31-1))
	if q.Log == nil {
		q.Log = io.Discard
	}
	q.log = &logger{w: q.Log}
	switch {
	case q.retries < 0 || q.retries > 2:
		return nil, fmt.Errorf("lambda: Async.MaximumRetryAttempts %d: must be from 0 to 2", q.retries)
	case q.MaximumEventAge < time.Minute || q.MaximumEventAge > 6*time.Hour:
		return nil, fmt.Errorf("lambda: Async.MaximumEventAge %s: must be from 1m to 6h", q.MaximumEventAge)
	case q.RetryDelay < 0 || q.MaximumConcurrency < 0:
		return nil, fmt.Errorf("lambda: Async.RetryDelay %s, MaximumConcurrency %d: must not be negative", q.RetryDelay, q.MaximumConcurrency)
	}
	q.ctx, q.cancel = context.WithCancel(ctx)
	return q, nil
}

// Send accepts an event, JSON of at most 1 MB, and returns the request id of all its
// invocations. It does not wait for them. After Close the error is [ErrClosed].
func (q *AsyncQueue) Send(payload []byte, opts ...InvokeOption) (requestID string, err error) {
	switch {
	case len(payload) > maxAsyncRequest:
		return "", fmt.Errorf("lambda: RequestTooLargeException: Request must be smaller than %d bytes, has %d", maxAsyncRequest, len(payload))
	case !json.Valid(payload):
		return "", errors.New("lambda: InvalidRequestContentException: Could not parse request body into json")
	}
	id := newRequest(opts).id
	e := &asyncEvent{id: id, payload: bytes.Clone(payload), opts: append(slices.Clone(opts), WithRequestID(id)),
		accepted: time.Now(), pause: newBackoff(time.Second, 5*time.Minute)}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.ctx.Err() != nil {
		return "", ErrClosed
	}
	q.open++
	q.ready = append(q.ready, e)
	q.pump()
	return e.id, nil
}

// pump starts what there is room for. The caller holds mu.
func (q *AsyncQueue) pump() {
	for len(q.ready) > 0 && q.running < q.MaximumConcurrency && q.ctx.Err() == nil {
		e := q.ready[0]
		q.ready = q.ready[1:]
		q.running++
		q.work.Go(func() { q.attempt(e) })
	}
}

func (q *AsyncQueue) attempt(e *asyncEvent) {
	var response []byte
	again := time.Duration(-1) // never
	result := Result{RequestID: e.id, Payload: e.payload}
	if time.Since(e.accepted) > q.MaximumEventAge {
		result.Condition = EventAgeExceeded
	} else {
		response, e.err = q.fn.Invoke(context.WithoutCancel(q.ctx), e.payload, e.opts...)
		_, throttled := errors.AsType[*ThrottleError](e.err)
		if !throttled {
			e.attempts++
		}
		switch {
		case e.err == nil:
			result.Condition, result.Response = Success, response
		case throttled:
			again = e.pause.next()
		case e.attempts > q.retries:
			result.Condition = RetriesExhausted
		default:
			again = time.Duration(e.attempts) * q.RetryDelay
		}
		switch {
		case again >= 0:
			q.log.printf("async: %s: attempt %d, again in %s: %v", e.id, e.attempts, again, e.err)
		case e.err != nil:
			q.log.printf("async: %s: attempt %d: %v", e.id, e.attempts, e.err)
		}
	}
	result.Err, result.Attempts = e.err, e.attempts
	if result.Condition == Success && q.OnSuccess != nil {
		q.OnSuccess(result)
	}
	if again < 0 && result.Condition != Success && q.OnFailure != nil {
		q.OnFailure(result)
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	if again < 0 {
		q.settled(1)
	} else if !q.closed {
		q.timers[e] = time.AfterFunc(again, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			delete(q.timers, e)
			q.ready = append(q.ready, e)
			q.pump()
		})
	}
	q.pump()
}

// settled notes that n events are out of the queue. The caller holds mu.
func (q *AsyncQueue) settled(n int) {
	if q.open -= n; q.open == 0 {
		close(q.idle)
		q.idle = make(chan struct{})
	}
}

// Wait returns when all events accepted so far, and those that came meanwhile, are
// settled, or with an error when ctx ends or the queue is closed.
func (q *AsyncQueue) Wait(ctx context.Context) error {
	q.mu.Lock()
	open, idle := q.open, q.idle
	q.mu.Unlock()
	if open == 0 {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-q.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close lets the invocations that run end, drops events that wait, for their first
// attempt or for a repetition, and returns their number. AWS would keep them.
func (q *AsyncQueue) Close() (dropped int) {
	q.cancel()
	q.mu.Lock()
	q.closed = true
	for e, t := range q.timers {
		t.Stop()
		delete(q.timers, e)
	}
	q.mu.Unlock()
	q.work.Wait()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open
}
