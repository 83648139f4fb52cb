package sqs

import (
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/core/driver"
)

// lease is the driver's token of a delivery: of a message of SQS, or of one of several
// that were in it.
type lease struct {
	*message
	concluded bool
	last      bool // of its message: it was settled when all others were
}

// message of SQS as it was received.
type message struct {
	receipt *string
	since   time.Time // when its lease began; SQS ends it 12 h later at the latest

	mu       sync.Mutex
	open     int // deliveries that are not settled
	outcome  driver.Outcome
	delay    time.Duration
	extended time.Time // when its lease was, last
}

func newLease(receipt *string, since time.Time) *lease {
	return &lease{message: &message{receipt: receipt, since: since, open: 1}}
}

// share gives each of the bags a token of its own.
func (l *lease) share(bags []driver.Bag) {
	l.open = len(bags)
	for i := range bags {
		bags[i].Handle = &lease{message: l.message}
	}
}

// conclude notes the outcome of a delivery, once: a request that fails is made again. With the
// last one of its message it is due to tell SQS: one nack returns the message, else one release
// does.
func (l *lease) conclude(s *driver.Settlement) (outcome driver.Outcome, delay time.Duration, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.concluded {
		l.concluded = true
		l.open--
		l.last = l.open == 0
		if l.outcome != driver.Nack && s.Outcome != driver.Ack {
			l.outcome = s.Outcome
		}
		l.delay = max(l.delay, s.Delay)
	}
	if l.outcome == 0 {
		return driver.Ack, 0, l.last
	}
	return l.outcome, l.delay, l.last
}

// extendedSince reports that the lease was extended after that time.
func (l *lease) extendedSince(t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.extended.After(t)
}

func (l *lease) extend(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.extended = at
}

// visible makes the entry that lets a message be received again after d.
func (l *lease) visible(i int, d time.Duration) types.ChangeMessageVisibilityBatchRequestEntry {
	return types.ChangeMessageVisibilityBatchRequestEntry{Id: awskit.Index(i), ReceiptHandle: l.receipt, VisibilityTimeout: seconds(d)}
}

// left is how far the lease of a message can still be extended that was received then.
func left(since time.Time) time.Duration {
	return max(0, maxLease-time.Since(since)-time.Second)
}
