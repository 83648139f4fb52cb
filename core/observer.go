package swarm

import (
	"context"
	"fmt"
	"time"
)

// Observer is told what a kernel does, as it happens: for traces and metrics. Each hook
// is optional; see [WithObserver]. Counts need none: they are in [Stats].
//
// Accepted, Handed and Request are called where it happens, several at once, outside the locks
// of the kernel: who takes his time holds up the channel, the message or the request that he
// observes. Request must not use the kernel; its time is not that of the broker. The others are
// called one after the other, in order and soon, and no observer waits for another one. Nothing
// waits for them but the answer of an invocation, for two seconds at most and not beyond its time
// to flush, and Close, until its deadline, as long as none takes two seconds. When 10,000 events
// wait for an observer that is too slow, further ones are not told to it, which is reported. A
// panic is reported once and has no other effect.
type Observer struct {
	// Accepted: a value was accepted. Ctx is of the caller of Enq, or what emit.Context
	// makes of the value. The attributes it returns travel with the message, where its
	// broker has room for them; the map is not to be changed any more.
	Accepted func(ctx context.Context, e Envelope) map[string]string

	// Retried: an attempt to send has failed, and another one has begun.
	Retried func(e Envelope, err error)

	// Ended: a value has its end, as each that was accepted has once: err is nil when the
	// broker has confirmed it. Otherwise it is a dead letter, on its way to dlq, or goes back
	// to the caller of Enq.
	Ended func(e Envelope, err error)

	// Received: a message came.
	Received func(e Envelope)

	// Handed: a consumer gets a message. Ctx is of the invocation, or has no values. What it
	// returns is where the context of the message, Msg.Context, has its values from; its end
	// does not matter.
	Handed func(ctx context.Context, e Envelope) context.Context

	// Settled: a received message has its end, as each has once. Ctx has the values of what
	// Handed has returned, and none if no consumer has had the message.
	Settled func(ctx context.Context, e Envelope, s Settlement)

	// Ignored: a settlement that was late, double, forged or foreign.
	Ignored func(category string, err error)

	// Request: a call of the broker begins. The call gets the values of the context that it
	// returns, and its answer goes to the function that it returns; either may be nil.
	Request func(ctx context.Context, r Request) (context.Context, func(Answer))

	// Closed: the kernel has ended, with the error of Close: [*DrainError] has counts. It is
	// the last.
	Closed func(err error)
}

// Envelope is what an observer sees of a message: not its content.
type Envelope struct {
	// Category of the channel; empty when nobody listens, or the catch-all does.
	Category string

	// ID of the message.
	ID string

	// Size of the body, in bytes.
	Size int

	// Attempt is which delivery it is, 0 when the broker does not say; of one that is
	// sent, how often it was before.
	Attempt int

	// SentAt is when it was accepted; of a received one, when the broker took it, zero when
	// it does not say.
	SentAt time.Time

	// Attrs travel with the message. Not to be changed, nor to be shown: senders may have
	// put anything there.
	Attrs map[string]string
}

// Settlement is how a received message has ended.
type Settlement struct {
	Outcome Outcome

	// Err is why, unless it was processed or released.
	Err error

	// At is when, and Took for how long a consumer had the message; 0: none had.
	At   time.Time
	Took time.Duration
}

// Outcome is one of the ends that [ListenStats] counts.
type Outcome uint8

// The outcomes.
const (
	OutcomeAcked Outcome = iota + 1
	OutcomeFailed
	OutcomeRejected
	OutcomeExpired
	OutcomeReleased
	OutcomeLeaseLost
	OutcomeLost
)

// String is the name of the outcome.
func (o Outcome) String() string {
	if o < OutcomeAcked || o > OutcomeLost {
		return fmt.Sprintf("outcome(%d)", uint8(o))
	}
	return [...]string{"acked", "failed", "rejected", "expired", "released", "lease lost", "lost"}[o-OutcomeAcked]
}

// Request is a call of the broker.
type Request struct {
	Operation Operation

	// Messages are those that are sent, settled, or whose leases are extended. They are the
	// kernel's: not to be kept.
	Messages []Envelope
}

// Answer of the broker to a [Request].
type Answer struct {
	// Received are the messages of an answer to Receive; not to be kept.
	Received []Envelope

	// Failed are the positions of the messages of the request that have failed.
	Failed []int

	// Err is nil when none has.
	Err error
}

// WithObserver tells o what the kernel does. Given several times, each is told, in this
// order.
func WithObserver(o Observer) Option {
	return func(c *Config) error {
		if o.isZero() {
			return fmt.Errorf("WithObserver: observer has no hook")
		}
		c.Observers = append(c.Observers, o)
		return nil
	}
}

func (o *Observer) isZero() bool {
	return o.Accepted == nil && o.Retried == nil && o.Ended == nil && o.Received == nil && o.Handed == nil &&
		o.Settled == nil && o.Ignored == nil && o.Request == nil && o.Closed == nil
}
