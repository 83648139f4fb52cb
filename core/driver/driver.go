// Package driver is the seam between swarm and a message broker: all that a
// broker author reads and implements.
//
// A driver translates. It sends a batch of bags in one request, receives a batch,
// settles a batch, and says its limits. It does not retry, keeps no queue, starts
// no goroutine (a [Runner] owns the ones it starts) and needs no lock of its own
// beyond what its client needs: all of that the kernel does once for every broker.
//
// A driver implements [io.Closer] and at least one of [Sender], [Receiver] and
// [Runner]; [Limiter] and [Extender] are optional and found by assertion once,
// when the kernel is built. Methods are called from many goroutines at once, up to
// the concurrency that [Limits] allows. The kernel calls Close exactly once, after
// its last call of any other method has returned or was abandoned at the deadline
// of a shutdown.
//
// The conformance suite in github.com/fogfish/swarm/qtest runs against any driver.
package driver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bag is a message as it travels: the body in bytes and what surrounds it.
type Bag struct {
	// Category says what the message is about. The receiver routes by it.
	Category string

	// Source is the software component that emitted the message, its agent.
	Source string

	// Body is handed over for good: a Sender may retain it, the kernel never
	// touches it again; a Receiver gives away the bytes it returns.
	Body []byte

	// Binary says that the content is of a codec other than JSON. A Sender whose
	// transport carries nothing but JSON packs such a Body (package codec: Pack). A
	// Receiver on such a transport sets it when Body is a packet: the channel unpacks
	// it, if its own codec is not of JSON either. Others need not look at it.
	Binary bool

	// Attrs are further attributes: trace context, and attributes of foreign senders.
	// Nil when there are none. A Sender does not change the map: other messages may have
	// the same. How a transport encodes the body is its driver's
	// business, and not among them.
	Attrs map[string]string

	// ID names the message. It stays the same over all attempts to send it.
	ID string

	// Group is the unit of order: a broker that keeps order keeps it within a
	// group. Empty where the broker keeps none, also if it has a tag by that name.
	Group string

	// Sink is where an event goes, by its Meta. Set for sends; see Limits.Addressed.
	Sink string

	// Dedup is the key by which a broker recognises a repeated send. Empty: ID serves.
	Dedup string

	// Attempt counts deliveries of the message, the first is 1; 0 when the broker
	// does not say. Set by the receiver.
	Attempt int

	// SentAt is when the kernel accepted the message to be sent and, of a received one,
	// when the broker took it; zero when it does not say.
	SentAt time.Time

	// Lease is when the broker would offer the message to somebody else. Zero when
	// there is nothing to extend. It is of the moment of the receive: nobody writes it
	// later.
	Lease time.Time

	// Handle is the driver's own token for settling this delivery. The kernel
	// carries it back and never looks into it.
	Handle any

	// Native is the broker's own record, shown to the user as IOContext.
	Native any

	// Err says why a received message cannot be read: its encoding is broken, its
	// envelope is not what it seems. The kernel nacks and reports it. [ErrSkip] says
	// that there is nothing to read: the kernel acknowledges it without a word.
	Err error

	// Optional says that nobody has to listen to a received message: without a listener
	// the kernel acknowledges it without a word.
	Optional bool
}

// ErrSkip is [Bag].Err of a message that is for nobody: the test message that a broker
// sends when it is configured, a notification with no records in it.
var ErrSkip = errors.New("nothing to read")

// Outcome says how a delivery ended.
type Outcome uint8

const (
	// Ack: the message was processed and is to be removed.
	Ack Outcome = iota + 1

	// Nack: processing failed; offer the message again after Settlement.Delay.
	Nack

	// Release: the message was never handed over; offer it again at once.
	// A broker that counts attempts need not count this one.
	Release
)

// String returns the name of the outcome.
func (o Outcome) String() string {
	switch o {
	case Ack:
		return "ack"
	case Nack:
		return "nack"
	case Release:
		return "release"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Settlement is the end of one delivery.
type Settlement struct {
	// Bag is the bag as it was received.
	Bag *Bag

	// Outcome is what became of it.
	Outcome Outcome

	// Delay is when a nacked message may come back, counted from now. A broker
	// with an upper limit for it uses that limit.
	Delay time.Duration

	// Err is why the message was nacked, for sources that answer with it.
	Err error
}

// Sender puts messages on a broker.
type Sender interface {
	// Send puts bags on the broker by one request, or by as few as the broker
	// allows. It returns nil when the broker has accepted all of them, a
	// [*BatchError] that names the ones it has not accepted, or any other error
	// when none was accepted. It does not retry: the kernel sends the failed ones
	// again, unless the error is permanent (see [ErrPermanent]).
	//
	// Send may retain the bodies but neither the slice nor the bags.
	Send(ctx context.Context, bags []Bag) error
}

// Receiver takes messages from a broker that is asked for them.
type Receiver interface {
	// Receive asks once for up to max messages, max at least 1, and returns what there is, waiting
	// no longer than [Limits].Wait. No messages and no error is a normal answer.
	// The slice and its bags belong to the caller.
	//
	// Bags count also beside an error: a call that was cancelled may have taken
	// some, and the kernel releases them. After an error the kernel asks again, later
	// and later; the third in a row that wraps [ErrPermanent] ends it.
	Receive(ctx context.Context, max int) ([]Bag, error)

	// Settle tells the broker how deliveries ended. Answers as Send does; here a
	// permanent failure says that the lease is lost: the broker has given the
	// message to somebody else. A lease that has ended, of a message that nobody else
	// has yet, may still be settled. Settle may not retain the slice.
	Settle(ctx context.Context, s []Settlement) error
}

// Limiter is a driver with limits. All drivers should be.
type Limiter interface {
	Limits() Limits
}

// Limits are the limits of a broker. The zero value of a field means its default.
type Limits struct {
	// Entries is how many messages one call of Send, Receive or Settle takes.
	// Default 10.
	Entries int

	// Bytes limits the sum of Size over the entries of one Send. Default: no limit.
	Bytes int

	// Requests is how many calls of Send, and how many of Settle, may be in flight
	// at once. Default 16.
	Requests int

	// Size counts the bytes of a bag as the broker does. Default: length of Body.
	Size func(*Bag) int

	// Check refuses a bag that the broker would refuse, before any call. Its error
	// is permanent. Default: everything passes.
	Check func(*Bag) error

	// Ordered says that the broker keeps order within a Group. The kernel then has at
	// most one request of Send in flight with a group, and one entry of a group in it.
	// What is received is in order by its Group, whatever Ordered says: the next message
	// of a group is handed over after the one before was acknowledged.
	Ordered bool

	// GroupBatches lifts the limit of one entry of a group in a request. After a
	// partial failure the messages of the group behind the failed one may be
	// accepted before it is.
	GroupBatches bool

	// Addressed says that a message goes to its Group, such as a connection. An event
	// without an ordering key then has its Sink for a Group, and nothing is grouped by
	// category. It comes with Ordered.
	Addressed bool

	// Whole says that a Runner's source takes one answer for a whole batch. Serve then
	// returns at the first nack, and releases what is not settled.
	Whole bool

	// Carry returns attributes that a bag takes from the context of whoever sends it: a
	// trace. Called for each value that has one. Default: none.
	Carry func(context.Context) map[string]string

	// Attrs are the attributes that the transport has room for, of those that observers
	// add: a trace. Nil: any.
	Attrs []string

	// Wait is how long Receive itself waits for a message. Zero: it answers at
	// once, and the kernel pauses after an empty answer.
	Wait time.Duration
}

// Extender is a Receiver whose leases can be extended.
type Extender interface {
	// Extend sets the lease of each bag to end after d from now. Answers as Settle
	// does: a bag whose failure is permanent has lost its lease, and an error of the whole
	// request says nothing of leases. Extend may not retain the slice.
	Extend(ctx context.Context, bags []*Bag, d time.Duration) error
}

// Serve processes one batch and returns its settlements, in the order of bags, when
// each message is settled and what was emitted meanwhile is confirmed, or a little before
// the deadline of ctx: messages that are not settled by then are nacked. It is safe for
// concurrent use. The bags belong to the kernel until Serve returns. An error says that
// the batch as a whole failed, also if each of its settlements is an Ack.
type Serve func(ctx context.Context, bags []Bag) ([]Settlement, error)

// Runner is a source that pushes: it calls instead of being asked. It takes the
// place of Receiver.
type Runner interface {
	// Run calls serve for each batch until ctx ends or the source does. It returns
	// nil when it was told to end. All goroutines it started have ended when it
	// returns.
	Run(ctx context.Context, serve Serve) error
}

// Report tells the kernel an error of a Runner that is of no message: a request that has
// failed, and that it repeats. The kernel reports it as that of a receive. Ctx is that of Run,
// or derived from it; elsewhere nobody hears of it. It does not block.
func Report(ctx context.Context, err error) {
	if report, ok := ctx.Value(reporter{}).(func(error)); ok {
		report(err)
	}
}

type reporter struct{}

// WithReport makes a context for Run: errors of [Report] go to f. It is for the kernel.
func WithReport(ctx context.Context, f func(error)) context.Context {
	return context.WithValue(ctx, reporter{}, f)
}

// ErrPermanent marks an error that would repeat: the sender is at fault, the queue
// does not exist, access is denied. Wrap it by [Permanent]. It ends the retry of a
// send or a settlement and, from Receive or Run, the kernel.
var ErrPermanent = errors.New("permanent")

// Permanent marks err as permanent; see [ErrPermanent]. It reads as err.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (p permanent) Unwrap() []error { return []error{p.error, ErrPermanent} }

// IsPermanent reports whether err is marked as permanent.
func IsPermanent(err error) bool { return errors.Is(err, ErrPermanent) }

// Failure is one entry of a batch that failed.
type Failure struct {
	Index     int   // position in the slice of the call
	Err       error // why
	Permanent bool  // do not try again
}

// BatchError is the answer of a call that failed for some of its entries. Entries
// it does not name have succeeded; one that names none is a failure of all. Since it
// wraps the causes, look for a BatchError before [IsPermanent].
type BatchError struct{ Failed []Failure }

// Error counts the failures and quotes the first.
func (e *BatchError) Error() string {
	if len(e.Failed) == 0 {
		return "batch failed"
	}
	return fmt.Sprintf("%d of the batch failed, first: %v", len(e.Failed), e.Failed[0].Err)
}

// Unwrap returns the causes.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed))
	for _, f := range e.Failed {
		if f.Err != nil {
			errs = append(errs, f.Err)
		}
	}
	return errs
}
