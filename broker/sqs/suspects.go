package sqs

import (
	"sync"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// suspects are the groups of a FIFO queue whose first message fails again and again. What is
// received with it waits behind it and goes back unseen, but SQS counts the receive: a redrive
// policy would take all of them for poison. While such a message may come, one message is
// received at a time.
type suspects struct {
	mu     sync.Mutex
	groups map[string]window
}

// window is when the message of a suspect may come.
type window struct{ from, until time.Time }

// suspicious is the attempt that makes a message one: the first failure may be anything.
const suspicious = 2

// grace is how long a message may take to come after it may. It may have gone to somebody
// else, or to the dead letters.
const grace = 20 * time.Second

// failed notes that a message goes back for d. SQS holds its group back as long, but a poll
// that waits when it comes has begun before.
func (s *suspects) failed(bag *driver.Bag, d, poll time.Duration) { s.note(bag, d-poll, d) }

// came notes that a message was received, and is leased for d. It may fail at any time, and a
// poll is faster than what says so.
func (s *suspects) came(bag *driver.Bag, d time.Duration) { s.note(bag, 0, d) }

func (s *suspects) note(bag *driver.Bag, from, until time.Duration) {
	if bag.Group == "" || bag.Attempt < suspicious {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.groups == nil {
		s.groups = map[string]window{}
	}
	now := time.Now()
	s.groups[bag.Group] = window{now.Add(from), now.Add(until + grace)}
}

// passed notes that a message was processed.
func (s *suspects) passed(bag *driver.Bag) {
	if bag.Group == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.groups, bag.Group)
}

// any reports whether one may come.
func (s *suspects) any() (some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for group, w := range s.groups {
		if now.After(w.until) {
			delete(s.groups, group)
		} else if !now.Before(w.from) {
			some = true
		}
	}
	return some
}
