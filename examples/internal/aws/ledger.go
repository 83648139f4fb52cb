package aws

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Ledger is what a program knows of the values that it has sent to one queue, to be held
// against what the queue has in the end.
type Ledger struct {
	queue *Queue

	sent, undelivered, processed, failed, twice atomic.Int64

	open sync.WaitGroup // values that are neither processed nor undelivered
	seen sync.Map       // ids of messages that were processed
}

// NewLedger is for values that are to arrive at the queue.
func NewLedger(q *Queue) *Ledger { return &Ledger{queue: q} }

// Begin notes that a value is about to be sent.
func (l *Ledger) Begin() { l.sent.Add(1); l.open.Add(1) }

// Undelivered notes that a value was not sent.
func (l *Ledger) Undelivered() { l.end(&l.undelivered) }

// Answer is of a synchronous send: nil when AWS has the message.
func (l *Ledger) Answer(err error) {
	if err != nil {
		fmt.Println("undelivered:", err)
		l.Undelivered()
	}
}

func (l *Ledger) end(as *atomic.Int64) { as.Add(1); l.open.Done() }

// Wait until each value is either processed or undelivered.
func (l *Ledger) Wait() { l.open.Wait() }

// Processed notes that the message by that id is done. A queue that is not FIFO may deliver
// one twice.
func (l *Ledger) Processed(id string) {
	if _, again := l.seen.LoadOrStore(id, true); again {
		l.twice.Add(1)
		return
	}
	l.end(&l.processed)
}

// Failed notes that a message will come again: at once the first time, then later and later.
func (l *Ledger) Failed() { l.failed.Add(1) }

// Reconcile prints ledgers, and fails unless each of them adds up.
func Reconcile(ctx context.Context, ledgers ...*Ledger) error {
	var errs []error
	for _, l := range ledgers {
		errs = append(errs, l.reconcile(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Println("the ledger adds up")
	return nil
}

func (l *Ledger) reconcile(ctx context.Context) error {
	var left, sum int64
	// What a topic or a bus has accepted takes a moment to the queue.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		var err error
		if left, err = l.queue.Left(ctx); err != nil {
			return err
		}
		if sum = l.processed.Load() + left + l.undelivered.Load(); sum >= l.sent.Load() || time.Now().After(deadline) {
			break
		}
	}
	fmt.Printf(`
%s
sent        %5d
processed   %5d
in queue    %5d
undelivered %5d
failed      %5d   and came again
twice       %5d
`, l.queue.Name, l.sent.Load(), l.processed.Load(), left, l.undelivered.Load(), l.failed.Load(), l.twice.Load())
	if sum != l.sent.Load() {
		return fmt.Errorf("the ledger of %s does not add up: sent %d, accounted for %d", l.queue.Name, l.sent.Load(), sum)
	}
	return nil
}
