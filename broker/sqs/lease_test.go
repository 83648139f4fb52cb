package sqs

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// A message of several records is settled with the last of them: one nack returns it, else one
// release does, after the longest delay that any asks for. A settlement that is made again, as
// its request had failed, counts once.
func TestTheLastRecordSettlesItsMessage(t *testing.T) {
	ack, release := driver.Settlement{Outcome: driver.Ack}, driver.Settlement{Outcome: driver.Release}
	nack := func(d time.Duration) driver.Settlement {
		return driver.Settlement{Outcome: driver.Nack, Delay: d, Err: errors.New("no")}
	}
	for name, x := range map[string]struct {
		settled []driver.Settlement
		outcome driver.Outcome
		delay   time.Duration
	}{
		"acknowledged":         {settled: []driver.Settlement{ack, ack, ack}, outcome: driver.Ack},
		"one released":         {settled: []driver.Settlement{ack, release, ack}, outcome: driver.Release},
		"one failed":           {settled: []driver.Settlement{nack(time.Second), ack, ack}, outcome: driver.Nack, delay: time.Second},
		"failed, and released": {settled: []driver.Settlement{nack(time.Second), release, ack}, outcome: driver.Nack, delay: time.Second},
		"released, and failed": {settled: []driver.Settlement{release, nack(time.Second), ack}, outcome: driver.Nack, delay: time.Second},
		"the longest delay":    {settled: []driver.Settlement{nack(time.Second), nack(time.Minute), nack(time.Second)}, outcome: driver.Nack, delay: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			bags := make([]driver.Bag, len(x.settled))
			newLease(nil, time.Now()).share(bags)
			for i, s := range x.settled {
				for again := range 2 {
					outcome, delay, due := bags[i].Handle.(*lease).conclude(&s)
					if last := i == len(bags)-1; due != last || last && (outcome != x.outcome || delay != x.delay) {
						t.Errorf("record %d, time %d: %v after %s, due %v", i, again, outcome, delay, due)
					}
				}
			}
		})
	}
}

// A lease ends 12 hours after its message was received, whatever is asked for.
func TestWhatIsLeftOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		since := time.Now()
		if d := left(since); d != 12*time.Hour-time.Second {
			t.Errorf("%s are left", d)
		}
		time.Sleep(11 * time.Hour)
		if d := left(since); d != time.Hour-time.Second {
			t.Errorf("%s are left", d)
		}
		time.Sleep(2 * time.Hour)
		if d := left(since); d != 0 {
			t.Errorf("%s are left", d)
		}
	})
}

// A group is suspected while its message may come that has failed before: from when a poll that
// brings it may begin, to a while after.
func TestSuspects(t *testing.T) {
	const poll = 20 * time.Second
	bag := func(group string, attempt int) *driver.Bag { return &driver.Bag{Group: group, Attempt: attempt} }
	at := func(t *testing.T, s *suspects, when string, want bool) {
		t.Helper()
		if s.any() != want {
			t.Errorf("%s: suspected %v, want %v", when, !want, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var s suspects
		s.came(bag("", 9), time.Minute)
		s.came(bag("a", 1), time.Minute)
		s.failed(bag("a", 1), time.Minute, poll)
		at(t, &s, "of no group, or for the first time", false)
		s.came(bag("a", 2), time.Minute)
		at(t, &s, "a second attempt", true)
		s.failed(bag("a", 2), time.Minute, poll)
		at(t, &s, "it has failed, and waits", false)
		time.Sleep(39 * time.Second)
		at(t, &s, "no poll that begins now lasts as long", false)
		time.Sleep(time.Second)
		at(t, &s, "a poll that begins now may bring it", true)
		time.Sleep(20*time.Second + grace)
		at(t, &s, "it comes late", true)
		time.Sleep(time.Second)
		at(t, &s, "it does not come", false)

		s.came(bag("a", 3), time.Minute)
		s.came(bag("b", 3), time.Minute)
		s.passed(bag("a", 3))
		at(t, &s, "one of two has passed", true)
		s.passed(bag("b", 3))
		at(t, &s, "both have passed", false)
	})
}
