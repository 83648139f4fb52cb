package qtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// Open makes a queue for one case: fresh, empty, and shared with no other case. It
// ends what it made by t.Cleanup, and gives up by t.Fatalf. With
// [Features].Virtual it is called inside the bubble of the case.
type Open func(t T) Queue

// Queue is how a case reaches one queue (topic, bus, …) of a broker.
type Queue struct {
	// Connect makes one more driver on the queue. A case makes several: a queue has
	// more than one sender and more than one receiver. The suite, or the kernel that
	// it builds, closes each driver exactly once. One that pushes (a driver.Runner) begins
	// when it is asked first; what it pushes waits until the suite has settled it.
	//
	// A driver whose messages are made by the broker itself (a record of a changed
	// row) is connected through a wrapper that turns what it receives into what was
	// injected.
	Connect func() (io.Closer, error)

	// Drain is the far side of an EmitOnly broker. It takes what has arrived since
	// it was called last, and waits no longer than ctx. Nothing is a normal answer.
	//
	// What a receive had taken when ctx cuts it off may be lost, and the case then
	// misses it: let a request to a service run to its end, and have it wait no longer
	// than ctx has left.
	Drain func(ctx context.Context) ([]driver.Bag, error)

	// Inject is the far side of a ListenOnly broker. It puts bags on the queue in
	// their order, all or none.
	Inject func(ctx context.Context, bags []driver.Bag) error

	// Fail makes the broker, not the driver, answer the next call with a failure:
	// what the driver makes of it is what is tested. Required by Features.Faults.
	Fail func(Fault)
}

// Fault is a failure that the broker is told to answer once.
type Fault struct {
	// Op is the call of the driver that meets the fault, on any of its connections.
	Op Op

	// Entries are the positions in the batch of the call that fail; the others
	// succeed. Nil: the call fails as a whole.
	Entries []int

	// Permanent says that the broker puts the blame on the caller (a malformed
	// message, access denied), so that repeating is pointless.
	Permanent bool
}

// Op is a call of a driver.
type Op string

// The calls that a [Fault] can hit.
const (
	Send    Op = "send"
	Receive Op = "receive"
	Settle  Op = "settle"
)

// Features are the capabilities of a broker: they decide which cases apply, and how
// long the cases wait. The zero value of a field says that the broker lacks the
// feature. Case D0 fails when the driver shows a feature that is not declared here, so
// that cases are not lost by oversight.
type Features struct {
	// EmitOnly: the driver is a driver.Sender only; Queue.Drain is its far side.
	EmitOnly bool

	// ListenOnly: the driver is a driver.Receiver, or a driver.Runner, only; Queue.Inject is
	// its far side.
	ListenOnly bool

	// Ordered: messages of one Group are delivered in order, and none of a group
	// while an earlier one of it is in flight. Same as driver.Limits.Ordered.
	Ordered bool

	// Sticky: a group stays with the connection that it was delivered to, as long as
	// that lives: the broker divides its partitions among its receivers.
	Sticky bool

	// Visibility is how long a delivery stays with its receiver unless it is settled
	// or extended. Make it short on a real service, though longer than Slack. Zero:
	// the broker never takes a delivery back by itself.
	Visibility time.Duration

	// Extend: the driver is a driver.Extender.
	Extend bool

	// Delay: Settlement.Delay is honoured.
	Delay bool

	// MaxDelay is the longest Settlement.Delay of the broker; a longer one counts as
	// this. Zero: no limit that a test could reach.
	MaxDelay time.Duration

	// Attempts: Bag.Attempt counts deliveries.
	Attempts bool

	// StaleHandle: settling a delivery whose lease has passed on fails permanently.
	// Without it the broker may accept it, as SQS does, and do nothing.
	StaleHandle bool

	// Dedup: of two messages with the same Dedup key sent shortly after one another,
	// one is delivered.
	Dedup bool

	// KeepID: a message is received with the ID it was sent with. Without it the
	// broker gives it another one, the same for all its deliveries.
	KeepID bool

	// KeepSource: a message is received with the Source it was sent with.
	KeepSource bool

	// Foreign: messages may come without Category and Source, from programs that do
	// not use swarm.
	Foreign bool

	// SentAt: Bag.SentAt is set by the broker.
	SentAt bool

	// EmptyBody: an empty body travels. Without it, it is refused for good.
	EmptyBody bool

	// MaxSize is what the largest message has, counted by driver.Limits.Size, or just
	// below where a byte counts as several. A byte more in its body is refused for
	// good. Zero: no limit that a test could reach.
	MaxSize int

	// Attributes is how many attributes of its own a message may have beside what
	// the driver needs for itself. Zero: attributes do not travel.
	Attributes int

	// AttributeSize is the longest attribute value that travels.
	AttributeSize int

	// EmptyAttribute: an attribute may have an empty value.
	EmptyAttribute bool

	// Faults: Queue.Fail is there.
	Faults bool

	// Virtual: the broker lives in the process and blocks on nothing but channels
	// and timers. Each case then runs in a testing/synctest bubble, where waiting
	// costs no time. Without it cases poll for conditions, with generous bounds.
	Virtual bool

	// Parallel runs the cases in parallel, as many at once as go test -parallel
	// allows. For services, where cases mostly wait.
	Parallel bool

	// Slack is how late timers of the broker (visibility, delays) may fire.
	Slack time.Duration

	// Patience bounds each wait for something that must happen. Default: 30 s, and
	// ten minutes of virtual time.
	Patience time.Duration

	// Messages is the size of the accounting cases. Default 10,000.
	Messages int
}

// withDefaults fills in the bounds that are not set.
func (f Features) withDefaults() Features {
	if f.Patience == 0 {
		f.Patience = 30 * time.Second
		if f.Virtual {
			f.Patience = 10 * time.Minute
		}
	}
	if f.Messages == 0 {
		f.Messages = 10_000
	}
	return f
}

// validate refuses features that contradict one another.
func (f Features) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("qtest: Features: "+format, args...))
		}
	}
	refuse(f.EmitOnly && f.ListenOnly, "EmitOnly contradicts ListenOnly")
	refuse(f.EmitOnly && (f.Visibility > 0 || f.Extend || f.Delay || f.Attempts || f.StaleHandle),
		"EmitOnly contradicts Visibility, Extend, Delay, Attempts and StaleHandle")
	refuse(f.ListenOnly && f.Dedup, "ListenOnly contradicts Dedup")
	refuse(f.Sticky && !f.Ordered, "Sticky needs Ordered")
	refuse(f.Extend && f.Visibility == 0, "Extend needs Visibility")
	refuse(f.StaleHandle && f.Visibility == 0, "StaleHandle needs Visibility")
	refuse(f.Visibility > 0 && f.Visibility <= f.Slack, "Visibility(%s) must be longer than Slack(%s)", f.Visibility, f.Slack)
	refuse(f.MaxDelay > 0 && !f.Delay, "MaxDelay needs Delay")
	refuse(f.Attributes > 0 && f.AttributeSize < 1, "Attributes needs AttributeSize")
	refuse(f.Messages < 0 || f.MaxSize < 0 || f.Attributes < 0, "counts and sizes must not be negative")
	refuse(f.Virtual && f.Parallel, "Virtual contradicts Parallel: a bubble has no use for it")
	return errors.Join(errs...)
}

// need is a feature that a case cannot do without.
type need struct {
	name string // as the reason why a case is not applicable
	met  func(Features) bool
}

var (
	emits      = need{"a driver.Sender", func(f Features) bool { return !f.ListenOnly }}
	listens    = need{"a driver.Receiver", func(f Features) bool { return !f.EmitOnly }}
	ordered    = need{"Ordered", func(f Features) bool { return f.Ordered }}
	visibility = need{"Visibility", func(f Features) bool { return f.Visibility > 0 }}
	extends    = need{"Extend", func(f Features) bool { return f.Extend }}
	delays     = need{"Delay", func(f Features) bool { return f.Delay }}
	maxDelay   = need{"MaxDelay", func(f Features) bool { return f.MaxDelay > 0 }}
	attempts   = need{"Attempts", func(f Features) bool { return f.Attempts }}
	stale      = need{"StaleHandle", func(f Features) bool { return f.StaleHandle }}
	dedup      = need{"Dedup", func(f Features) bool { return f.Dedup }}
	keepID     = need{"KeepID", func(f Features) bool { return f.KeepID }}
	keepSource = need{"KeepSource", func(f Features) bool { return f.KeepSource }}
	foreign    = need{"Foreign", func(f Features) bool { return f.Foreign }}
	sentAt     = need{"SentAt", func(f Features) bool { return f.SentAt }}
	maxSize    = need{"MaxSize", func(f Features) bool { return f.MaxSize > 0 }}
	attributes = need{"Attributes", func(f Features) bool { return f.Attributes > 0 }}
	faults     = need{"Faults", func(f Features) bool { return f.Faults }}
)
