package swarm

import (
	"context"
	"fmt"
	"time"
)

// Msg is a received message: the decoded object and what is known about its
// delivery. Send it back on the ack channel it belongs to, once, either as it is
// (the message was processed) or by [Msg.Fail] (it was not).
type Msg[T any] struct {
	// Category of the message, by which it was routed.
	Category string

	// Digest is the token of this delivery. It makes the message that goes back
	// on ack the one that was received.
	Digest Digest

	// Error is nil, or why the message failed. Set by Fail.
	Error error

	// IOContext is the broker's native record.
	IOContext any

	// ID of the message at the broker. The same for each delivery of it.
	ID string

	// Attempt counts the deliveries of the message, the first is 1; 0 when the
	// broker does not say.
	Attempt int

	// SentAt is when the broker took the message, or the event happened that it tells of;
	// zero when the broker does not say.
	SentAt time.Time

	// Object is the decoded content.
	Object T
}

// NewMsg makes a message by hand: for tests of a consumer, or to send a message back
// under a context derived from its own. One whose ctx is no delivery settles nothing.
func NewMsg[T any](ctx context.Context, category string, object T) Msg[T] {
	return Msg[T]{Category: category, Digest: NewDigest(ctx), Object: object}
}

// Fail returns the message as failed by err: a negative acknowledgement. A nil err
// counts as [ErrFailed]. [RetryAfter] says when the message may come back.
func (msg Msg[T]) Fail(err error) Msg[T] {
	if err == nil {
		err = ErrFailed
	}
	msg.Error = err
	return msg
}

// Context of the delivery. It ends when the message is settled, when TimeToFlight
// has passed or when the lease is lost, whichever is first: work on the message is
// pointless from then on. At most once it ends with TimeToFlight. It is never nil.
func (msg Msg[T]) Context() context.Context {
	if msg.Digest.ctx == nil {
		return context.Background()
	}
	return msg.Digest.ctx
}

// Digest is the token of one delivery. Digests are comparable. The zero Digest is
// of no delivery.
type Digest struct{ ctx context.Context }

// NewDigest makes the token of a delivery from its context. For kernels; programs
// use [NewMsg].
func NewDigest(ctx context.Context) Digest { return Digest{ctx: ctx} }

// String tells digests apart in a log.
func (d Digest) String() string {
	if d.ctx == nil {
		return "none"
	}
	return fmt.Sprintf("%p", d.ctx)
}
