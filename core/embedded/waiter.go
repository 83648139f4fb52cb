package embedded

import (
	"context"
	"slices"
	"time"
)

// waiter is a Receive that waits. Connections use them again: a channel for each
// receive would be an allocation for each message of a slow queue.
type waiter struct {
	deadline time.Time
	wake     chan struct{} // capacity 1
	called   bool
}

// await unlocks the queue until there may be a message, deadline has passed or ctx has
// ended.
func (c *Conn) await(ctx context.Context, deadline time.Time) {
	q := c.queue
	var w *waiter
	if last := len(c.idle) - 1; last >= 0 {
		w, c.idle = c.idle[last], c.idle[:last]
	} else {
		w = &waiter{wake: make(chan struct{}, 1)}
	}
	w.deadline = deadline
	q.waiting = append(q.waiting, w)
	q.arm(deadline)
	q.leave()
	select {
	case <-w.wake:
	case <-ctx.Done():
	}
	q.mu.Lock()
	if w.called {
		w.called = false
		q.called--
		select {
		case <-w.wake: // ctx was first
		default:
		}
	} else {
		q.dismiss(w)
	}
	c.idle = append(c.idle, w)
}

// call wakes a waiter. It will look what there is, and wake the next one if there is
// more.
func (q *Queue) call(w *waiter) {
	q.dismiss(w)
	w.called = true
	q.called++
	w.wake <- struct{}{}
}

func (q *Queue) dismiss(w *waiter) {
	i := slices.Index(q.waiting, w)
	q.waiting = slices.Delete(q.waiting, i, i+1)
}

// arm sees to it that the alarm rings at t, or before. One timer serves the queue, and
// is left running when the reason for it is gone: a timer for each receive would cost
// more than all the rest.
func (q *Queue) arm(t time.Time) {
	if !q.alarmAt.IsZero() && !t.Before(q.alarmAt) {
		return
	}
	q.alarmAt = t
	if q.alarm == nil {
		q.alarm = time.AfterFunc(time.Until(t), q.ring)
	} else {
		q.alarm.Reset(time.Until(t))
	}
}

// ring does what is due for those who wait, and sets the alarm again for them.
func (q *Queue) ring() {
	defer q.enter().leave()
	q.alarmAt = time.Time{}
	now := time.Now()
	for _, w := range slices.Clone(q.waiting) {
		if w.deadline.After(now) {
			q.arm(w.deadline)
		} else {
			q.call(w)
		}
	}
}
