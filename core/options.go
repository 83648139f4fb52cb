package swarm

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/internal/barrier"
)

// WithSource names the software component that emits: the agent of its messages.
func WithSource(agent string) Option { return named("WithSource", agent, sourceOf) }

// WithAgent is [WithSource].
func WithAgent(agent string) Option { return named("WithAgent", agent, sourceOf) }

// WithRealm names the logical environment: blue or green, a canary.
func WithRealm(realm string) Option {
	return named("WithRealm", realm, func(c *Config) *string { return &c.Realm })
}

// WithRetryConstant attempts n times in all, d apart.
func WithRetryConstant(d time.Duration, n int) Option {
	return retry("WithRetryConstant", d, n, backoff.Constant(d))
}

// WithRetryLinear attempts n times in all, first d apart, then 2d, 3d ….
func WithRetryLinear(d time.Duration, n int) Option {
	return retry("WithRetryLinear", d, n, backoff.Linear(d))
}

// WithRetryExponential attempts n times in all, with delays drawn at random below d,
// 2d, 4d …, at most 20 s.
func WithRetryExponential(d time.Duration, n int) Option {
	return retry("WithRetryExponential", d, n, backoff.Exponential(d, 20*time.Second).FullJitter())
}

// WithRetry attempts by a policy of your own. Attempts counts the first one.
func WithRetry(policy backoff.Policy) Option {
	return retry("WithRetry", 0, policy.Attempts, policy.Delay)
}

// WithNoRetry attempts once.
func WithNoRetry() Option { return retry("WithNoRetry", 0, 1, nil) }

// WithRedelivery says when the broker may offer a message again after its delivery
// n = 1, 2 … was nacked; n is 0 where the broker does not count. [RetryAfter]
// overrides it for one message. Default: at once after the first, then doubling
// from 1 s to 5 min with jitter. Nacks by the kernel itself wait 1 s at least.
func WithRedelivery(policy backoff.Func) Option {
	return func(c *Config) error {
		if policy == nil {
			return fmt.Errorf("WithRedelivery: policy is nil")
		}
		c.Redelivery = policy
		return nil
	}
}

// WithPollFrequency pauses for d after a receive that gave nothing. Default: no
// pause where the broker itself waits for messages (SQS, embedded), else 1 s.
func WithPollFrequency(d time.Duration) Option {
	return duration("WithPollFrequency", d, 0, func(c *Config) *time.Duration { return &c.PollFrequency })
}

// WithPollerPool keeps n receives in flight at once, n from 1 to 10,000. Default 1.
func WithPollerPool(n int) Option {
	return integer("WithPollerPool", n, 1, 10_000, func(c *Config) *int { return &c.PollerPool })
}

// WithTimeToFlight limits how long a consumer may have a message, counted from the
// hand-over. When it passes the message is nacked and its context ends. Default 1 min; of
// an invocation of AWS Lambda, the time that it has. There it counts from the beginning
// of the invocation, and includes what the answer takes. It is also how long messages may
// hold up other categories of which no consumer takes any: see L5 of the package.
func WithTimeToFlight(d time.Duration) Option {
	return duration("WithTimeToFlight", d, 1, func(c *Config) *time.Duration { return &c.TimeToFlight })
}

// WithNetworkTimeout limits a call of the broker; a receive may take its wait on
// top. Default 5 s.
func WithNetworkTimeout(d time.Duration) Option {
	return duration("WithNetworkTimeout", d, 1, func(c *Config) *time.Duration { return &c.NetworkTimeout })
}

// WithDrainTimeout limits Close, Await and Run once they are told to end. Default
// 25 s, below the 30 s that Kubernetes and ECS give a process.
func WithDrainTimeout(d time.Duration) Option {
	return duration("WithDrainTimeout", d, 1, func(c *Config) *time.Duration { return &c.DrainTimeout })
}

// WithLinger limits how long a value that found a request in flight waits for
// others to share its own request with. Default 5 ms; 0: it does not wait. A lone
// value never waits.
func WithLinger(d time.Duration) Option {
	return duration("WithLinger", d, 0, func(c *Config) *time.Duration { return &c.Linger })
}

// WithEmitWindow lets one channel accept n values that the broker has not yet
// confirmed, n from 1 to 100,000. Default 1: a send waits until the value before is
// confirmed, or taken from the dead-letter channel. More is faster, tells of a
// failure later, and loses more to a crash.
func WithEmitWindow(n int) Option {
	return integer("WithEmitWindow", n, 1, 100_000, func(c *Config) *int { return &c.EmitWindow })
}

// WithEmitCapacity buffers n values between sender and kernel. What is buffered is
// lost by a crash. Default 0.
func WithEmitCapacity(n int) Option {
	return capacity("WithEmitCapacity", n, func(c *Config) *int { return &c.EmitCapacity })
}

// WithDeadLetterCapacity buffers n failed values of a channel. Default 0.
func WithDeadLetterCapacity(n int) Option {
	return capacity("WithDeadLetterCapacity", n, func(c *Config) *int { return &c.DeadLetterCapacity })
}

// WithRecvCapacity buffers n messages between kernel and consumer. A buffered
// message counts as handed over. Default 0.
func WithRecvCapacity(n int) Option {
	return capacity("WithRecvCapacity", n, func(c *Config) *int { return &c.RecvCapacity })
}

// WithAckCapacity buffers n settlements between consumer and kernel. Default 0.
func WithAckCapacity(n int) Option {
	return capacity("WithAckCapacity", n, func(c *Config) *int { return &c.AckCapacity })
}

// WithPolicyAtMostOnce accepts that messages are lost, in exchange for speed: all
// channels are buffered with n, n at least 1; a received message is acknowledged
// before it is handed over.
func WithPolicyAtMostOnce(n int) Option {
	return func(c *Config) error {
		if err := c.setPolicy("WithPolicyAtMostOnce", n, 1); err != nil {
			return err
		}
		c.AtMostOnce = true
		return nil
	}
}

// WithPolicyAtLeastOnce is the default policy, with receive and ack channels
// buffered with n.
func WithPolicyAtLeastOnce(n int) Option {
	return func(c *Config) error {
		return c.setPolicy("WithPolicyAtLeastOnce", n, 0)
	}
}

// Barrier makes an invocation of AWS Lambda wait until what was emitted while it ran is
// confirmed, since the process is frozen afterwards: clause B4. All kernels of a process
// share one: what a listener on one broker causes to be emitted on another counts.
type Barrier = barrier.Barrier

// NewBarrier makes a barrier of its own, for [WithBarrier].
func NewBarrier() *Barrier { return barrier.New() }

// WithBarrier takes the kernel out of the barrier that all others share. For tests: each
// bubble of testing/synctest in which a function is invoked needs its own.
func WithBarrier(b *Barrier) Option {
	return func(c *Config) error {
		if b == nil {
			return fmt.Errorf("WithBarrier: barrier is nil")
		}
		c.Barrier = b
		return nil
	}
}

// WithDeadLetterHandled says that whoever takes a value from a dead-letter channel has
// dealt with it: it then does not fail the invocation in which it was emitted. Without it
// any value that failed does, also if it was taken. Such channels have no buffer, at least
// once: what is in one was taken by nobody. See clause B4.
func WithDeadLetterHandled() Option {
	return func(c *Config) error { c.DeadLetterHandled = true; return nil }
}

// WithStdErr sends errors that belong to no message the user holds to a channel, in
// addition to the log. The kernel never blocks on it and never closes it: it queues
// 1,000 errors and counts what overflows. What comes after Close is offered once; it is
// in the log in any case.
func WithStdErr(stderr chan<- error) Option {
	return func(c *Config) error {
		if stderr == nil {
			return fmt.Errorf("WithStdErr: channel is nil")
		}
		c.StdErr = stderr
		return nil
	}
}

// WithLogger logs to logger. Default: [slog.Default] at the time of Build. Message
// bodies are never logged.
func WithLogger(logger *slog.Logger) Option {
	return func(c *Config) error {
		if logger == nil {
			return fmt.Errorf("WithLogger: logger is nil, use slog.DiscardHandler to log nothing")
		}
		c.Logger = logger
		return nil
	}
}

// WithUnknownCategory says what becomes of messages of a category nobody listens
// to. Default [UnknownNack].
func WithUnknownCategory(policy UnknownPolicy) Option {
	return func(c *Config) error {
		if policy > UnknownAck {
			return fmt.Errorf("WithUnknownCategory(%d): no such policy", policy)
		}
		c.Unknown = policy
		return nil
	}
}

// WithDefaultCategory is the category of messages that come without one, from
// foreign senders.
func WithDefaultCategory(category string) Option {
	return named("WithDefaultCategory", category, func(c *Config) *string { return &c.DefaultCategory })
}

// WithConfigFromEnv reads CONFIG_SWARM_REALM, CONFIG_SWARM_AGENT,
// CONFIG_SWARM_POLL_FREQUENCY, CONFIG_SWARM_TIME_TO_FLIGHT and
// CONFIG_SWARM_NETWORK_TIMEOUT when the option is applied. Durations are in Go
// syntax, or a bare number of seconds. Variables that are unset or empty change
// nothing.
func WithConfigFromEnv() Option {
	return func(c *Config) error {
		for _, env := range []struct {
			name string
			set  func(string) (Option, error)
		}{
			{"CONFIG_SWARM_REALM", text(WithRealm)},
			{"CONFIG_SWARM_AGENT", text(WithAgent)},
			{"CONFIG_SWARM_POLL_FREQUENCY", seconds(WithPollFrequency)},
			{"CONFIG_SWARM_TIME_TO_FLIGHT", seconds(WithTimeToFlight)},
			{"CONFIG_SWARM_NETWORK_TIMEOUT", seconds(WithNetworkTimeout)},
		} {
			value := os.Getenv(env.name)
			if value == "" {
				continue
			}
			opt, err := env.set(value)
			if err == nil {
				err = opt(c)
			}
			if err != nil {
				return fmt.Errorf("WithConfigFromEnv: %s=%q: %w", env.name, value, err)
			}
		}
		return nil
	}
}

func text(opt func(string) Option) func(string) (Option, error) {
	return func(value string) (Option, error) { return opt(value), nil }
}

func seconds(opt func(time.Duration) Option) func(string) (Option, error) {
	return func(value string) (Option, error) {
		if _, err := strconv.ParseInt(value, 10, 64); err == nil {
			value += "s"
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, err
		}
		return opt(d), nil
	}
}

func sourceOf(c *Config) *string { return &c.Source }

func named(option, value string, field func(*Config) *string) Option {
	return func(c *Config) error {
		if value == "" {
			return fmt.Errorf("%s(%q): must not be empty", option, value)
		}
		*field(c) = value
		return nil
	}
}

func duration(option string, d, least time.Duration, field func(*Config) *time.Duration) Option {
	return func(c *Config) error {
		if d < least {
			return fmt.Errorf("%s(%s): must not be %s", option, d, tooSmall(least > 0))
		}
		*field(c) = d
		return nil
	}
}

func tooSmall(zeroToo bool) string {
	if zeroToo {
		return "zero or negative"
	}
	return "negative"
}

// maxCapacity keeps a mistyped capacity from taking all memory at once.
const maxCapacity = 1_000_000

func capacity(option string, n int, field func(*Config) *int) Option {
	return integer(option, n, 0, maxCapacity, field)
}

func integer(option string, n, least, most int, field func(*Config) *int) Option {
	return func(c *Config) error {
		if n < least || n > most {
			return fmt.Errorf("%s(%d): must be from %d to %d", option, n, least, most)
		}
		*field(c) = n
		return nil
	}
}

func retry(option string, d time.Duration, n int, delay backoff.Func) Option {
	return func(c *Config) error {
		if d < 0 || n < 1 {
			return fmt.Errorf("%s(%s, %d): delay must not be negative, attempts must be 1 or more", option, d, n)
		}
		c.Retry = backoff.Policy{Attempts: n, Delay: delay}
		return nil
	}
}

func (c *Config) setPolicy(option string, n, least int) error {
	if n < least || n > maxCapacity {
		return fmt.Errorf("%s(%d): must be from %d to %d", option, n, least, maxCapacity)
	}
	if c.policy != "" && c.policy != option {
		return fmt.Errorf("%s(%d): contradicts %s", option, n, c.policy)
	}
	c.policy, c.size = option, n
	return nil
}
