package embedded

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// Queue is a queue of messages in memory. Kernels use it through connections, see
// [Queue.Open]; the methods that only look are for tests. All are safe for concurrent
// use, none blocks.
type Queue struct {
	name string
	settings

	// Of queues that nobody can name once their last connection is closed.
	transient bool
	home      *Broker // that forgets the queue then; nil: none knows it

	// mu guards what follows. It is never held while something waits.
	mu     sync.Mutex
	plain  group             // the only one, without FIFO
	groups map[string]*group // with FIFO; those that have messages
	listed struct{ head, tail *group }
	timed  timed
	place  uint64 // the latest that was given

	size, ready, leased int // messages: all, and of these states

	dead  []driver.Bag
	seen  map[string]struct{} // deduplication keys
	keys  []arrival           // the same, and when they came
	spare [][]byte            // buffers for kept bodies
	stats Stats

	conns   int
	waiting []*waiter // the longest first
	called  int       // waiters that were woken and did not come yet
	alarm   *time.Timer
	alarmAt time.Time // zero: not set
}

// Stats counts requests: calls of the driver's methods, also those that failed.
type Stats struct{ Sends, Receives, Settles, Extends int }

// arrival is when a deduplication key came first.
type arrival struct {
	key string
	at  time.Time
}

// NewQueue makes a queue, which stays when its connections are closed. The name is
// for messages to people. The error names each option that is invalid.
func NewQueue(name string, opts ...Option) (*Queue, error) {
	s, err := defaults().apply(name, opts)
	if err != nil {
		return nil, err
	}
	s.fixed = true
	q := &Queue{name: name, settings: s, groups: map[string]*group{}, seen: map[string]struct{}{}}
	q.plain.queue = q
	return q, nil
}

// Name is the name the queue was made with.
func (q *Queue) Name() string { return q.name }

// Len counts the messages that wait to be received, the delayed ones included.
func (q *Queue) Len() int {
	defer q.enter().leave()
	return q.size - q.leased
}

// InFlight counts the messages that are received, not settled, and still leased.
func (q *Queue) InFlight() int {
	defer q.enter().leave()
	return q.leased
}

// Peek returns copies of up to n of the messages that [Queue.Len] counts, in their
// order, and changes nothing.
func (q *Queue) Peek(n int) []driver.Bag {
	defer q.enter().leave()
	var found []*message
	collect := func(g *group) {
		for m := g.head; m != nil; m = m.next {
			found = append(found, m)
		}
	}
	collect(&q.plain)
	for _, g := range q.groups {
		collect(g)
	}
	for _, m := range q.timed {
		if m.state != leased {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, func(a, b *message) int { return cmp.Compare(a.place, b.place) })
	bags := make([]driver.Bag, 0, max(0, min(n, len(found))))
	for _, m := range found[:cap(bags)] {
		bags = append(bags, snapshot(m.bag))
	}
	return bags
}

// DeadLetters returns copies of the messages that were received [WithMaxReceives]
// times in vain, in the order in which they were given up.
func (q *Queue) DeadLetters() []driver.Bag {
	defer q.enter().leave()
	bags := make([]driver.Bag, 0, len(q.dead))
	for _, bag := range q.dead {
		bags = append(bags, snapshot(bag))
	}
	return bags
}

// Stats counts the requests so far.
func (q *Queue) Stats() Stats {
	defer q.enter().leave()
	return q.stats
}

// snapshot copies a bag that is not leased to whoever asks.
func snapshot(bag driver.Bag) driver.Bag {
	bag.Body, bag.Attrs = bytes.Clone(bag.Body), maps.Clone(bag.Attrs)
	bag.Handle, bag.Lease = nil, time.Time{}
	return bag
}

// enter locks the queue and brings it up to the time. The broker has no clock of its
// own: what is due happens when somebody looks, and the alarm looks for those who wait.
func (q *Queue) enter() *Queue {
	q.mu.Lock()
	q.expire(time.Now())
	return q
}

// leave unlocks the queue. If there is something to receive it wakes the receiver that
// has waited longest; when that one has taken its share, it wakes the next by leaving.
func (q *Queue) leave() {
	if len(q.waiting) > 0 && q.called == 0 && q.available() != nil {
		q.call(q.waiting[0])
	}
	if len(q.waiting) > 0 && len(q.timed) > 0 {
		q.arm(q.timed[0].bag.Lease)
	}
	q.mu.Unlock()
}

// put adds a sent message, unless it is a repeated one.
func (q *Queue) put(bag *driver.Bag, now time.Time) {
	if q.window > 0 && q.repeated(bag, now) {
		return
	}
	m := &message{bag: *bag}
	q.place++
	m.place = q.place
	m.bag.Attrs = nil
	if len(bag.Attrs) > 0 {
		m.bag.Attrs = maps.Clone(bag.Attrs)
	}
	if m.bag.ID == "" {
		m.bag.ID = strconv.FormatUint(m.place, 10)
	}
	m.bag.Attempt, m.bag.SentAt, m.bag.Lease = 0, now, now.Add(q.delay)
	m.bag.Handle, m.bag.Native = nil, nil
	m.group = q.groupOf(&m.bag)
	m.group.size++
	q.size++
	if q.delay > 0 {
		q.postpone(m, delayed)
	} else {
		q.offer(m)
	}
}

func (q *Queue) groupOf(bag *driver.Bag) *group {
	if !q.fifo {
		bag.Group = "" // a tag, no order: see driver.Bag
		return &q.plain
	}
	if bag.Group == "" {
		bag.Group = bag.Category
	}
	g := q.groups[bag.Group]
	if g == nil {
		g = &group{queue: q, key: bag.Group}
		q.groups[g.key] = g
	}
	return g
}

// repeated says that the key of the message came before within the window, and notes
// it otherwise.
func (q *Queue) repeated(bag *driver.Bag, now time.Time) bool {
	for len(q.keys) > 0 && now.Sub(q.keys[0].at) >= q.window {
		delete(q.seen, q.keys[0].key)
		q.keys = q.keys[1:]
	}
	key := bag.Dedup
	switch {
	case key != "":
	case q.byContent:
		sum := sha256.Sum256(bag.Body)
		key = string(sum[:])
	case bag.ID != "":
		key = bag.ID
	default:
		return false
	}
	if _, found := q.seen[key]; found {
		return true
	}
	q.seen[key] = struct{}{}
	q.keys = append(q.keys, arrival{key, now})
	return false
}

// expire offers the messages that are due.
func (q *Queue) expire(now time.Time) {
	for len(q.timed) > 0 && !q.timed[0].bag.Lease.After(now) {
		m := q.timed[0]
		q.unlink(m)
		q.requeue(m)
	}
}

// requeue offers a message that comes back: behind the others, so that a poison
// message does not hold them up; in FIFO at its old place.
func (q *Queue) requeue(m *message) {
	if !q.fifo {
		q.place++
		m.place = q.place
	}
	q.offer(m)
}

// offer makes m ready, or a dead letter if it was received too often. The receipt of a
// lease that has ended stays valid until the next delivery.
func (q *Queue) offer(m *message) {
	if q.spent(m) {
		q.dead = append(q.dead, m.bag)
		q.forget(m)
		return
	}
	m.state = ready
	q.ready++
	m.group.insert(m)
	q.list(m.group)
}

// spent says that m was received as often as it may be.
func (q *Queue) spent(m *message) bool {
	return q.maxReceives > 0 && m.bag.Attempt >= q.maxReceives
}

// postpone lets m wait for its time.
func (q *Queue) postpone(m *message, s state) {
	m.state = s
	if s == leased {
		q.leased++
	}
	if s.holds() {
		m.group.held++
	}
	heap.Push(&q.timed, m)
}

// unlink takes m from where it waits: m is in no state until the caller puts it into
// one, or forgets it.
func (q *Queue) unlink(m *message) {
	if m.state == ready {
		q.ready--
		m.group.remove(m)
		return
	}
	heap.Remove(&q.timed, m.index)
	if m.state == leased {
		q.leased--
	}
	if m.state.holds() {
		m.group.held--
		q.list(m.group)
	}
}

// forget drops m, which is unlinked, for good.
func (q *Queue) forget(m *message) {
	q.size--
	if m.group.size--; m.group.size == 0 && q.fifo {
		delete(q.groups, m.group.key)
	}
	m.bag = driver.Bag{} // handles may live on
}

// list puts g at the end of the groups to receive from, if it has something to offer.
func (q *Queue) list(g *group) {
	if g.listed || !g.offers() {
		return
	}
	g.listed = true
	if q.listed.head == nil {
		q.listed.head = g
	} else {
		q.listed.tail.next = g
	}
	q.listed.tail = g
}

// available returns the next group to receive from, nil if there is none. Groups that
// have nothing to offer any more leave the list here.
func (q *Queue) available() *group {
	for g := q.listed.head; g != nil; g = q.listed.head {
		if g.offers() {
			return g
		}
		q.listed.head = g.next
		g.listed, g.next = false, nil
	}
	return nil
}

// take leases up to n messages.
func (q *Queue) take(n int, now time.Time) []driver.Bag {
	var bags []driver.Bag
	for g := q.available(); g != nil && len(bags) < n; g = q.available() {
		if bags == nil {
			bags = make([]driver.Bag, 0, min(n, q.ready))
		}
		for m := g.head; m != nil && len(bags) < n; m = g.head {
			body := q.lease(m, now)
			bags = append(bags, m.bag)
			bag := &bags[len(bags)-1]
			bag.Body, bag.Attrs = body, maps.Clone(bag.Attrs)
		}
	}
	return bags
}

// lease gives m to a receiver, and returns the body for it.
//
// The receiver may change the bytes, and a later delivery must not see it. So the
// first delivery gives away the bytes as they were sent, and the queue keeps a copy
// in a buffer that it uses again. Later deliveries, which are few, get a new copy.
func (q *Queue) lease(m *message, now time.Time) []byte {
	q.unlink(m)
	r, body := &m.first, m.bag.Body
	if r.of == nil {
		r.of = m
		m.bag.Body = append(q.buffer(), body...)
	} else {
		r, body = &receipt{m}, bytes.Clone(body)
	}
	m.bag.Attempt++
	m.bag.Handle = r
	m.bag.Lease = now.Add(q.visibility)
	q.postpone(m, leased)
	return body[:len(body):len(body)]
}

// Limits of what the queue keeps of buffers: 1 MB in all.
const (
	maxSpare   = 256
	maxSpareOf = 4096 // bytes
)

func (q *Queue) buffer() []byte {
	last := len(q.spare) - 1
	if last < 0 {
		return nil
	}
	b := q.spare[last]
	q.spare = q.spare[:last]
	return b
}

var errForeign = errors.New("embedded: the handle is not of a message of this queue")

// delivered returns the message of a delivery that is the latest of it and was not
// settled.
func (q *Queue) delivered(bag *driver.Bag) (*message, error) {
	if bag == nil {
		return nil, errForeign
	}
	r, ok := bag.Handle.(*receipt)
	if !ok || r == nil || r.of == nil || r.of.group.queue != q {
		return nil, errForeign
	}
	if r.of.bag.Handle != any(r) {
		return nil, swarm.ErrLeaseLost
	}
	return r.of, nil
}

// settle ends the delivery.
func (q *Queue) settle(s *driver.Settlement) error {
	m, err := q.delivered(s.Bag)
	if err != nil {
		return err
	}
	switch s.Outcome {
	case driver.Ack:
		q.unlink(m)
		if b := m.bag.Body; cap(b) <= maxSpareOf && len(q.spare) < maxSpare {
			q.spare = append(q.spare, b[:0])
		}
		q.forget(m)
	case driver.Nack:
		q.unlink(m)
		m.bag.Handle = nil
		if s.Delay > 0 && !q.spent(m) {
			m.bag.Lease = time.Now().Add(s.Delay)
			q.postpone(m, nacked)
		} else {
			q.requeue(m)
		}
	case driver.Release:
		q.unlink(m)
		m.bag.Handle = nil
		m.bag.Attempt--
		q.offer(m)
	default:
		return fmt.Errorf("embedded: no such outcome: %v", s.Outcome)
	}
	return nil
}

// extend sets the lease of the delivery.
func (q *Queue) extend(bag *driver.Bag, until time.Time) error {
	m, err := q.delivered(bag)
	if err != nil {
		return err
	}
	q.unlink(m)
	m.bag.Lease = until
	q.postpone(m, leased)
	return nil
}
