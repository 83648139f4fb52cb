package embedded

import (
	"errors"
	"fmt"
	"time"
)

// settings are those of a queue; entries and wait are defaults that each connection
// may override.
type settings struct {
	visibility  time.Duration
	delay       time.Duration
	window      time.Duration // of deduplication, 0: none
	byContent   bool
	fifo        bool
	maxReceives int // 0: no limit
	maxSize     int // 0: no limit

	entries int
	wait    time.Duration

	fixed bool // the queue exists, options can only confirm what it is
}

func defaults() settings {
	return settings{visibility: 30 * time.Second, entries: 10, wait: 20 * time.Second}
}

// apply returns s changed by options. The error names each option that is invalid, or
// that contradicts the existing queue.
func (s settings) apply(queue string, opts []Option) (settings, error) {
	var errs []error
	for i, opt := range opts {
		err := fmt.Errorf("option %d is nil", i)
		if opt != nil {
			err = opt(&s)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("embedded: queue %q: %w", queue, err))
		}
	}
	if s.window == 0 && (s.fifo || s.byContent) {
		s.window = 5 * time.Minute
	}
	return s, errors.Join(errs...)
}

// Option changes one thing of a queue or of a connection to it, or answers an error
// that names itself and the value it refuses. Where the queue exists already, an
// option that says something else than the queue is made of is refused too.
type Option func(*settings) error

// WithVisibility sets for how long a received message is leased. Default 30 s.
func WithVisibility(d time.Duration) Option {
	return ofQueue("WithVisibility", d, d > 0, "longer than 0", func(s *settings) *time.Duration { return &s.visibility })
}

// WithDelay sets how long a sent message waits before it can be received. Default 0.
func WithDelay(d time.Duration) Option {
	return ofQueue("WithDelay", d, d >= 0, "0 or longer", func(s *settings) *time.Duration { return &s.delay })
}

// WithFIFO keeps order within the groups of messages, and deduplicates as
// [WithDedup] does within 5 min.
func WithFIFO() Option {
	return ofQueue("WithFIFO", true, true, "", func(s *settings) *bool { return &s.fifo })
}

// WithDedup accepts a message again within window of the first time, but does not
// deliver it again. A message is known by its deduplication key, or else by its ID.
func WithDedup(window time.Duration) Option {
	return ofQueue("WithDedup", window, window > 0, "longer than 0", func(s *settings) *time.Duration { return &s.window })
}

// WithContentDedup is [WithDedup] within 5 min, where a message that has no
// deduplication key is known by its body.
func WithContentDedup() Option {
	return ofQueue("WithContentDedup", true, true, "", func(s *settings) *bool { return &s.byContent })
}

// WithMaxReceives makes a message a dead letter when it was received n times and
// would be offered once more. Default: no limit.
func WithMaxReceives(n int) Option {
	return ofQueue("WithMaxReceives", n, n > 0, "1 or more", func(s *settings) *int { return &s.maxReceives })
}

// WithMaxSize refuses messages with a body of more than n bytes. Default: no limit.
func WithMaxSize(n int) Option {
	return ofQueue("WithMaxSize", n, n > 0, "1 or more", func(s *settings) *int { return &s.maxSize })
}

// WithBatchSize limits the messages of one request, from 1 to 10. Default 10. It is
// of a connection: a queue hands it on to those that do not set it.
func WithBatchSize(n int) Option {
	return ofConn("WithBatchSize", n, n >= 1 && n <= 10, "from 1 to 10", func(s *settings) *int { return &s.entries })
}

// WithWait sets how long a receive waits for a message. Default 20 s; 0: it answers
// at once. It is of a connection: a queue hands it on to those that do not set it.
func WithWait(d time.Duration) Option {
	return ofConn("WithWait", d, d >= 0, "0 or longer", func(s *settings) *time.Duration { return &s.wait })
}

func ofQueue[T comparable](option string, value T, valid bool, rule string, field func(*settings) *T) Option {
	set := ofConn(option, value, valid, rule, field)
	return func(s *settings) error {
		if have := *field(s); valid && s.fixed && have != value {
			return fmt.Errorf("%s(%v): contradicts the queue, which was made with %v", option, value, have)
		}
		return set(s)
	}
}

func ofConn[T comparable](option string, value T, valid bool, rule string, field func(*settings) *T) Option {
	return func(s *settings) error {
		if !valid {
			return fmt.Errorf("%s(%v): must be %s", option, value, rule)
		}
		*field(s) = value
		return nil
	}
}
