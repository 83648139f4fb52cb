package embedded

import (
	"container/heap"

	"github.com/fogfish/swarm/core/driver"
)

// message is what the queue keeps of a message.
type message struct {
	// bag is the message as its next delivery shows it, and as the current one
	// does: Attempt counts the deliveries, Handle is the receipt of the latest one
	// unless it was settled, Lease is when the message is due to be offered.
	bag driver.Bag

	group *group
	place uint64 // in the order of the group
	state state

	prev, next *message // neighbours in group, while ready
	index      int      // in Queue.timed, otherwise

	// first is the receipt of the first delivery. It is part of the record because
	// for nearly all messages it is the only one.
	first receipt
}

type state uint8

const (
	ready   state = iota // can be received, if its group can; in group
	delayed              // was sent, waits for bag.Lease; in Queue.timed
	nacked               // was nacked, waits for bag.Lease; in Queue.timed
	leased               // somebody has it until bag.Lease; in Queue.timed
)

// holds says that the next messages of the group have to wait.
func (s state) holds() bool { return s == nacked || s == leased }

// receipt is the handle of one delivery. Its address is its identity.
type receipt struct{ of *message }

// group is a unit of order. A queue that is not FIFO has one group, which is never
// held up.
type group struct {
	queue      *Queue
	key        string
	head, tail *message // ready ones, by place
	size       int      // messages of any state
	held       int      // messages in a state that holds

	listed bool   // is in the list of groups to receive from
	next   *group // in that list
}

// offers says that a message of the group can be received now.
func (g *group) offers() bool {
	return g.head != nil && (g.held == 0 || !g.queue.fifo)
}

// insert puts m at its place. New ones go to the tail; those that come back, to the
// front: m passes only those that came back before it.
func (g *group) insert(m *message) {
	if g.tail == nil || g.tail.place < m.place {
		m.prev, m.next = g.tail, nil
	} else {
		m.next = g.head
		for m.next.place < m.place {
			m.next = m.next.next
		}
		m.prev = m.next.prev
	}
	g.link(m.prev, m)
	g.link(m, m.next)
}

func (g *group) remove(m *message) {
	g.link(m.prev, m.next)
	m.prev, m.next = nil, nil
}

// link makes a and b neighbours. No message, nil, is the neighbour of head and tail.
func (g *group) link(a, b *message) {
	if a != nil {
		a.next = b
	} else {
		g.head = b
	}
	if b != nil {
		b.prev = a
	} else {
		g.tail = a
	}
}

// timed is a heap of messages by when they are due. Of those that are due at once the
// earlier place is first: delayed messages of a group keep their order.
type timed []*message

var _ heap.Interface = (*timed)(nil)

func (t timed) Len() int { return len(t) }

func (t timed) Less(i, j int) bool {
	if d := t[i].bag.Lease.Compare(t[j].bag.Lease); d != 0 {
		return d < 0
	}
	return t[i].place < t[j].place
}

func (t timed) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].index, t[j].index = i, j
}

func (t *timed) Push(x any) {
	m := x.(*message)
	m.index = len(*t)
	*t = append(*t, m)
}

func (t *timed) Pop() any {
	last := len(*t) - 1
	m := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return m
}
