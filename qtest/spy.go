package qtest

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// full is a driver with all that a driver can have.
type full interface {
	io.Closer
	driver.Limiter
	driver.Sender
	driver.Receiver
	driver.Extender
}

// expose hides what d is not asked for. The kernel looks for capabilities by
// assertion.
func expose(d full, sends, receives, extends bool) io.Closer {
	type base interface {
		io.Closer
		driver.Limiter
	}
	switch {
	case sends && receives && extends:
		return d
	case sends && receives:
		return struct {
			base
			driver.Sender
			driver.Receiver
		}{d, d, d}
	case receives && extends:
		return struct {
			base
			driver.Receiver
			driver.Extender
		}{d, d, d}
	case receives:
		return struct {
			base
			driver.Receiver
		}{d, d}
	}
	return struct {
		base
		driver.Sender
	}{d, d}
}

// spy stands between a kernel and its driver. It notes each call, and lets a case
// make the broker slow or refuse entries. It passes on everything else, so that the
// kernel still works on the real broker.
type spy struct {
	*conn
	change func(*driver.Limits) // nil: the limits of the driver
	audit  func()               // of the ledger of the kernel, in each call

	mu       sync.Mutex
	sends    []sendNote
	settles  []settleNote
	receives []receiveNote
	extends  []extendNote
	calls    int
	closes   int
	begun    int // calls of Receive
	late     int // calls after Close
	live     map[string]int
	overlaps int // groups that had two entries in flight

	// Each of these may be nil. Set them by set.
	onSend       func(ctx context.Context, bags []driver.Bag) error
	onSettle     func(ctx context.Context, s []driver.Settlement) error
	onReceive    func(ctx context.Context) error
	refuseSend   func(driver.Bag) error
	refuseSettle func(driver.Settlement) error
	refuseExtend func(driver.Bag) error
}

// sendNote is one entry of a Send; settleNote, extendNote the same.
type sendNote struct {
	bag  driver.Bag
	call int
	at   time.Time // when the call began
	done time.Time // when it was answered
	err  error     // nil: the broker has accepted it
}

type settleNote struct {
	driver.Settlement
	bag  driver.Bag
	call int
	at   time.Time
	dead bool // the context had ended when the call began
	err  error
}

type receiveNote struct {
	bags  []driver.Bag
	at    time.Time // when the call began
	ended time.Time
}

type extendNote struct {
	bag driver.Bag
	at  time.Time
}

// set changes what the spy does, from the next call on.
func (s *spy) set(change func(*spy)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *spy) Limits() driver.Limits {
	limits := s.limits
	if s.change != nil {
		s.change(&limits)
	}
	return limits
}

func (s *spy) Close() error {
	s.mu.Lock()
	s.closes++
	s.mu.Unlock()
	return s.conn.Close()
}

// begin notes a call and answers its number.
func (s *spy) begin() int {
	if s.closes > 0 {
		s.late++
	}
	s.calls++
	return s.calls
}

func (s *spy) Send(ctx context.Context, bags []driver.Bag) error {
	s.audit()
	s.mu.Lock()
	call, hold, refuse, at := s.begin(), s.onSend, s.refuseSend, time.Now()
	for _, bag := range bags {
		if s.live[bag.Group]++; s.live[bag.Group] == 2 && bag.Group != "" {
			s.overlaps++
		}
	}
	first := len(s.sends)
	for _, bag := range bags {
		s.sends = append(s.sends, sendNote{bag: bag, call: call, at: at, err: errInFlight})
	}
	s.mu.Unlock()

	var err error
	if hold != nil {
		err = hold(ctx, bags)
	}
	if err == nil {
		err = pick(bags, refuse, func(bags []driver.Bag) error { return s.conn.Send(ctx, bags) })
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for i, cause := range causes(err, len(bags)) {
		s.sends[first+i].err = cause
		s.sends[first+i].done = time.Now()
		s.live[bags[i].Group]--
	}
	return err
}

var errInFlight = errors.New("qtest: not answered yet")

func (s *spy) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	s.audit()
	s.mu.Lock()
	s.begin()
	s.begun++
	hold, at := s.onReceive, time.Now()
	s.mu.Unlock()
	if hold != nil {
		if err := hold(ctx); err != nil {
			return nil, err
		}
	}
	bags, err := s.conn.Receive(ctx, max)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receives = append(s.receives, receiveNote{bags: slices.Clone(bags), at: at, ended: time.Now()})
	return bags, err
}

func (s *spy) Settle(ctx context.Context, settlements []driver.Settlement) error {
	s.audit()
	s.mu.Lock()
	call, hold, refuse, at := s.begin(), s.onSettle, s.refuseSettle, time.Now()
	dead := ctx.Err() != nil
	s.mu.Unlock()
	var err error
	if hold != nil {
		err = hold(ctx, settlements)
	}
	if err == nil {
		err = pick(settlements, refuse, func(part []driver.Settlement) error { return s.conn.Settle(ctx, part) })
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, cause := range causes(err, len(settlements)) {
		s.settles = append(s.settles, settleNote{
			Settlement: settlements[i], bag: *settlements[i].Bag, call: call, at: at, dead: dead, err: cause,
		})
	}
	return err
}

func (s *spy) Extend(ctx context.Context, bags []*driver.Bag, d time.Duration) error {
	s.audit()
	s.mu.Lock()
	s.begin()
	at, refuse := time.Now(), s.refuseExtend
	for _, bag := range bags {
		s.extends = append(s.extends, extendNote{bag: *bag, at: at})
	}
	s.mu.Unlock()
	var refuseBag func(*driver.Bag) error
	if refuse != nil {
		refuseBag = func(bag *driver.Bag) error { return refuse(*bag) }
	}
	return pick(bags, refuseBag, func(part []*driver.Bag) error { return s.conn.Extend(ctx, part, d) })
}

// pick makes a call without the entries that are refused, and answers for both. An
// error that wraps driver.ErrPermanent refuses for good.
func pick[E any](entries []E, refuse func(E) error, call func([]E) error) error {
	var passed []E
	var at []int
	var failed []driver.Failure
	for i, e := range entries {
		if refuse != nil {
			if err := refuse(e); err != nil {
				failed = append(failed, driver.Failure{Index: i, Err: err, Permanent: driver.IsPermanent(err)})
				continue
			}
		}
		passed = append(passed, e)
		at = append(at, i)
	}
	if len(failed) == 0 {
		return call(entries)
	}
	if len(passed) > 0 {
		err := call(passed)
		for i, cause := range causes(err, len(passed)) {
			if cause != nil {
				failed = append(failed, driver.Failure{Index: at[i], Err: cause, Permanent: driver.IsPermanent(cause)})
			}
		}
	}
	return &driver.BatchError{Failed: failed}
}

// causes returns what became of each of n entries. The cause of a permanent failure
// wraps driver.ErrPermanent.
func causes(err error, n int) []error {
	all := make([]error, n)
	batch, ok := errors.AsType[*driver.BatchError](err)
	if !ok {
		for i := range all {
			all[i] = err
		}
		return all
	}
	for _, f := range batch.Failed {
		if f.Index >= 0 && f.Index < n {
			if all[f.Index] = f.Err; f.Permanent {
				all[f.Index] = driver.Permanent(f.Err)
			}
		}
	}
	return all
}

// sent returns the notes of all sends so far; settled and the others the same.
func (s *spy) sent() []sendNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sends)
}

func (s *spy) settled() []settleNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.settles)
}

func (s *spy) received() []receiveNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.receives)
}

func (s *spy) extended() []extendNote {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.extends)
}

// deliveries returns all that was received, in order.
func (s *spy) deliveries() (all []driver.Bag) {
	for _, note := range s.received() {
		all = append(all, note.bags...)
	}
	return all
}

// accepted returns the texts that the broker has accepted, in order.
func (s *spy) accepted() []string {
	var all []string
	for _, note := range s.sent() {
		if note.err == nil {
			all = append(all, textOf(note.bag.Body))
		}
	}
	return all
}

// settlements returns the notes about deliveries of one text.
func (s *spy) settlements(text string) []settleNote {
	var all []settleNote
	for _, note := range s.settled() {
		if textOf(note.bag.Body) == text {
			all = append(all, note)
		}
	}
	return all
}
