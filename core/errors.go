package swarm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fogfish/swarm/core/internal/barrier"
)

// States a program can match by errors.Is.
var (
	// ErrClosed: the kernel was closed, the value was refused.
	ErrClosed = errors.New("swarm: closed")

	// ErrUndelivered: the kernel was closed, and its time was up before the broker
	// has confirmed the value.
	ErrUndelivered = errors.New("swarm: not delivered before shutdown")

	// ErrDropped: at most once, the value failed and its dead-letter channel was
	// full.
	ErrDropped = errors.New("swarm: dropped, dead-letter channel is full")

	// ErrUnconfirmed: an invocation of AWS Lambda has failed, because a value that was
	// emitted while it ran was not confirmed in its time.
	ErrUnconfirmed = barrier.ErrUnconfirmed

	// ErrUnread: a value had failed, and nobody took it from its dead-letter channel
	// before the invocation of AWS Lambda ended that has failed with it.
	ErrUnread = errors.New("swarm: dead letter was not read in the time of its invocation")

	// ErrFailed is the cause of msg.Fail(nil).
	ErrFailed = errors.New("swarm: failed without a cause")

	// ErrTimeToFlight: the consumer had the message for longer than TimeToFlight, or took
	// none of its category for so long, which held up others.
	ErrTimeToFlight = errors.New("swarm: time to flight has passed")

	// ErrLeaseLost: the broker may have given the message to somebody else.
	ErrLeaseLost = errors.New("swarm: lease is lost")

	// ErrSettled: a message came back on ack that was settled before. Ignored.
	ErrSettled = errors.New("swarm: already settled")

	// ErrForeign: a message came back on ack that was not handed over by this
	// channel. Ignored.
	ErrForeign = errors.New("swarm: message was not received from this channel")

	// ErrUnknownCategory: nobody listens to the category of a received message.
	ErrUnknownCategory = errors.New("swarm: unknown category")

	// ErrRunning: Run or Await was called twice.
	ErrRunning = errors.New("swarm: already running")
)

// EmitError is why a value reached the dead-letter channel. It goes to StdErr, to
// the log and to [github.com/fogfish/swarm/core/emit.OnFailure].
type EmitError struct {
	Category string // category of the value
	ID       string // id of the message, empty if there was none yet
	Attempts int    // how often it was sent; 0 if it never was
	Err      error  // cause of the last attempt
}

// Error names the category, the message and the cause.
func (e *EmitError) Error() string {
	return fmt.Sprintf("swarm: emit %s %s failed after %d attempts: %v", e.Category, e.ID, e.Attempts, e.Err)
}

// Unwrap returns the cause.
func (e *EmitError) Unwrap() error { return e.Err }

// ListenError is what went wrong with a received message: it could not be routed,
// decoded, or settled, or its time was up. That of a receive names no message.
type ListenError struct {
	Category string // category of the message
	ID       string // id of the message at the broker
	Attempt  int    // which delivery it was; 0 when the broker does not say
	Op       string // what failed: receive, decode, route, hand over, settle, extend, expire
	Err      error  // cause
}

// Error names the operation, the category, the message and the cause.
func (e *ListenError) Error() string {
	return fmt.Sprintf("swarm: %s %s %s: %v", e.Op, e.Category, e.ID, e.Err)
}

// Unwrap returns the cause.
func (e *ListenError) Unwrap() error { return e.Err }

// CountError reports values in aggregate: the ones that were refused after Close,
// dropped, or left over. Err says which.
type CountError struct {
	Category string // category of the channel
	Count    int    // how many
	Err      error  // ErrClosed, ErrUndelivered, ErrDropped, ErrUnread
}

// Error names the category, the count and the cause.
func (e *CountError) Error() string {
	return fmt.Sprintf("swarm: emit %s: %d values: %v", e.Category, e.Count, e.Err)
}

// Unwrap returns the cause.
func (e *CountError) Unwrap() error { return e.Err }

// DrainError is what Close left behind. Close returns nil when there is nothing.
type DrainError struct {
	// Undelivered counts values that were accepted and are neither confirmed by
	// the broker nor taken from the dead-letter channel.
	Undelivered int

	// Unsettled counts messages that consumers had not settled in time. They were
	// nacked.
	Unsettled int

	// Unconfirmed counts settlements that the broker has not confirmed since the
	// shutdown began. Their messages may be delivered again.
	Unconfirmed int

	// Lost counts messages that were acknowledged, at most once, and could not be
	// handed over any more.
	Lost int

	// Err is what closing the driver answered, and what ended Run.
	Err error
}

// Error lists what is not zero.
func (e *DrainError) Error() string {
	var part []string
	for _, x := range []struct {
		n    int
		what string
	}{
		{e.Undelivered, "values not delivered"},
		{e.Unsettled, "messages not settled"},
		{e.Unconfirmed, "settlements not confirmed"},
		{e.Lost, "messages acknowledged and lost"},
	} {
		if x.n > 0 {
			part = append(part, fmt.Sprintf("%d %s", x.n, x.what))
		}
	}
	if e.Err != nil {
		part = append(part, e.Err.Error())
	}
	return "swarm: shutdown: " + strings.Join(part, ", ")
}

// Unwrap returns Err.
func (e *DrainError) Unwrap() error { return e.Err }

// RetryAfter makes an error for msg.Fail that says when the broker may offer the
// message again, in place of the redelivery policy. A negative d counts as 0, a
// nil err as [ErrFailed].
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = ErrFailed
	}
	return &RetryAfterError{Delay: max(0, d), Err: err}
}

// RetryAfterError is what [RetryAfter] makes.
type RetryAfterError struct {
	Delay time.Duration
	Err   error
}

// Error names delay and cause.
func (e *RetryAfterError) Error() string { return fmt.Sprintf("retry after %s: %v", e.Delay, e.Err) }

// Unwrap returns the cause.
func (e *RetryAfterError) Unwrap() error { return e.Err }
