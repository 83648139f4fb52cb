package swarm

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fogfish/swarm/core/backoff"
)

// Config is the configuration of a kernel. Build it by [NewConfig]: brokers do so
// from the options of WithKernel.
type Config struct {
	// Source is the agent of what is emitted, Realm its logical environment.
	Source, Realm string

	// AtMostOnce selects the delivery policy. Default: at least once.
	AtMostOnce bool

	// Retry of sends and settlements.
	Retry backoff.Policy

	// Redelivery says when a message may come back after delivery n has failed.
	Redelivery backoff.Func

	// PollFrequency is the pause after a receive that gave nothing. Negative: not
	// set, the kernel pauses for a second where the broker does not wait by itself.
	PollFrequency time.Duration

	// PollerPool is how many receives are in flight at once.
	PollerPool int

	// TimeToFlight limits how long a consumer may have a message. 0: not set; 1 min, or
	// the time of an invocation.
	TimeToFlight time.Duration

	// NetworkTimeout limits a call of the broker.
	NetworkTimeout time.Duration

	// DrainTimeout limits Close.
	DrainTimeout time.Duration

	// Linger limits how long a value waits for others to share its request with.
	Linger time.Duration

	// EmitWindow is how many values of one channel may be accepted and not yet
	// confirmed. 0: not set; 1, or the capacity when at most once.
	EmitWindow int

	// Capacities of the channels.
	EmitCapacity, DeadLetterCapacity, RecvCapacity, AckCapacity int

	// StdErr receives errors that belong to no message the user holds. Optional.
	StdErr chan<- error

	// Logger receives the same errors. Never nil in a built Config.
	Logger *slog.Logger

	// Unknown says what becomes of messages of a category nobody listens to.
	Unknown UnknownPolicy

	// DefaultCategory is the category of messages that have none.
	DefaultCategory string

	// Observers are told what the kernel does.
	Observers []Observer

	// Barrier of the invocations of the process.
	Barrier *Barrier

	// DeadLetterHandled says that taking a value from a dead-letter channel settles it.
	DeadLetterHandled bool

	// policy names the policy option in force, to find contradictions; size is the
	// capacity it asks for.
	policy string
	size   int
}

// process is the barrier of all kernels that are given no other.
var process = NewBarrier()

// UnknownPolicy says what becomes of a message of a category nobody listens to. A
// catch-all channel (listen.Unknown) takes all of them, whatever the policy.
type UnknownPolicy uint8

const (
	// UnknownNack returns the message, later each time, and reports it. A redrive
	// policy of the broker ends it.
	UnknownNack UnknownPolicy = iota

	// UnknownAck removes the message and reports it.
	UnknownAck
)

// Option changes one thing of a [Config], or answers an error that names itself
// and the value it refuses.
type Option func(*Config) error

// NewConfig applies options to the defaults. The error names each option that is
// invalid, or that contradicts another.
func NewConfig(opts ...Option) (Config, error) {
	c := Config{
		Retry: backoff.Policy{
			Attempts: 5,
			Delay:    backoff.Exponential(100*time.Millisecond, 20*time.Second).FullJitter(),
		},
		Redelivery:     defaultRedelivery(),
		PollFrequency:  -1,
		PollerPool:     1,
		NetworkTimeout: 5 * time.Second,
		DrainTimeout:   25 * time.Second,
		Linger:         5 * time.Millisecond,
		Logger:         slog.Default(),
		Barrier:        process,

		// Not set: what is set counts, before or after the option of the policy.
		EmitCapacity: -1, DeadLetterCapacity: -1, RecvCapacity: -1, AckCapacity: -1,
	}
	var errs []error
	for i, opt := range opts {
		if opt == nil {
			errs = append(errs, fmt.Errorf("swarm: option %d is nil", i))
			continue
		}
		if err := opt(&c); err != nil {
			errs = append(errs, fmt.Errorf("swarm: %w", err))
		}
	}
	for _, capacity := range []*int{&c.EmitCapacity, &c.DeadLetterCapacity} {
		if *capacity < 0 && c.AtMostOnce {
			*capacity = c.size
		}
		*capacity = max(0, *capacity)
	}
	for _, capacity := range []*int{&c.RecvCapacity, &c.AckCapacity} {
		if *capacity < 0 {
			*capacity = c.size
		}
	}
	c.Redelivery = tame(c.Redelivery)
	c.Retry.Delay = tame(c.Retry.Delay)
	if c.AtMostOnce && c.EmitWindow == 0 {
		c.EmitWindow = c.EmitCapacity
	}
	c.EmitWindow = max(1, c.EmitWindow)
	return c, errors.Join(errs...)
}

// tame keeps a policy of the user from ending the process: a panic counts as 1 s, and a
// negative delay as none.
func tame(f backoff.Func) backoff.Func {
	if f == nil {
		return nil
	}
	return func(n int) (d time.Duration) {
		defer func() {
			if recover() != nil {
				d = time.Second
			}
		}()
		return max(0, f(n))
	}
}

// defaultRedelivery is at once the first time, then from 1 s to 5 min. A broker
// that does not count attempts gets 1 s, since "at once" would never end.
func defaultRedelivery() backoff.Func {
	later := backoff.Exponential(time.Second, 5*time.Minute).EqualJitter()
	return func(n int) time.Duration {
		switch {
		case n == 1:
			return 0
		case n < 1:
			return time.Second
		}
		return later(n - 1)
	}
}
