package sqs

import (
	"sync"
	"time"
)

// suspects are the groups of a FIFO queue whose first message fails again and again. What is
// received with it waits behind it and goes back unseen, but SQS counts the receive: a redrive
// policy would take all of them for poison. While there are suspects one message is received
// at a time.
type suspects struct {
	mu    sync.Mutex
	until map[string]time.Time // by group: when the message is expected to have come again
}

// suspicious is the attempt that makes a message one: the first failure may be anything.
const suspicious = 2

// grace is how long a message may take to come after it may. It may have gone to somebody
// else, or to the dead letters.
const grace = 20 * time.Second

// failed notes that the message of a group goes back, for at least d.
func (s *suspects) failed(group string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	s.until[group] = time.Now().Add(d + grace)
}

// came notes that a message of the group was received: how it ends decides.
func (s *suspects) came(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.until, group)
}

// any reports whether there are some.
func (s *suspects) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for group, until := range s.until {
		if time.Now().After(until) {
			delete(s.until, group)
		}
	}
	return len(s.until) > 0
}
