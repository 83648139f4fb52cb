package listen

import (
	"fmt"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/kernel"
)

// lane is the goroutine behind one pair of listen channels. It alone decodes, hands
// over and takes back.
type lane[T any] struct {
	in     *kernel.Inlet
	codec  codec.Decoder[T]
	binary bool // the codec is not of JSON
	deq    chan swarm.Msg[T]
	ack    chan swarm.Msg[T] // nil when the user has closed it

	atMostOnce bool

	head *kernel.Delivery // offered on deq
	msg  swarm.Msg[T]
}

func run[T any](q Listener, in *kernel.Inlet, dec codec.Decoder[T]) (<-chan swarm.Msg[T], chan<- swarm.Msg[T]) {
	cfg := q.Config()
	l := &lane[T]{
		in:     in,
		codec:  dec,
		binary: !codec.IsJSON(dec),
		deq:    make(chan swarm.Msg[T], cfg.RecvCapacity),
		ack:    make(chan swarm.Msg[T], cfg.AckCapacity),

		atMostOnce: cfg.AtMostOnce,
	}
	go l.run()
	return l.deq, l.ack
}

// run is the life of the lane: serve until nothing more is to be handed over, release
// what it holds, and take back what was handed over.
func (l *lane[T]) run() {
	l.serve()
	l.release()
	close(l.deq)
	l.in.Closed()
	l.await()
}

// await takes back what is still with consumers. At most once they need not send it
// back, but may: a lane that left too early would block them.
func (l *lane[T]) await() {
	var enough <-chan time.Time
	for {
		out, answered := l.in.Out()
		if l.ack == nil || out <= 0 || l.atMostOnce && !answered && out <= cap(l.ack)-len(l.ack) {
			return
		}
		if enough == nil && l.atMostOnce {
			enough = time.After(l.in.Config().TimeToFlight)
		}
		select {
		case msg, ok := <-l.ack:
			l.returned(msg, ok)
			enough = nil
		case <-enough:
			return
		}
	}
}

func (l *lane[T]) serve() {
	for {
		if l.head != nil && l.in.Gone(l.head) {
			l.forget() // its lease was lost while it waited, or was decoded
		}
		if l.ack == nil && !l.atMostOnce {
			l.refuse()
		}
		var deq chan<- swarm.Msg[T]
		if l.head != nil || l.next() {
			deq = l.deq
		}
		select {
		case deq <- l.msg:
			l.in.Handed(l.head)
			l.forget()
		case msg, ok := <-l.ack:
			l.returned(msg, ok)
		case <-l.in.Wake():
		case <-l.in.Closing():
			return
		}
	}
}

// refuse gives back what waits: nobody could settle it.
func (l *lane[T]) refuse() {
	if l.head != nil {
		l.in.Refuse(l.head)
		l.forget()
	}
	for d := l.in.Next(); d != nil; d = l.in.Next() {
		l.in.Refuse(d)
	}
}

// next decodes the message that is next. What cannot be decoded is rejected: it does
// not stop the messages behind it.
func (l *lane[T]) next() bool {
	for d := l.in.Next(); d != nil; d = l.in.Next() {
		bag := d.Bag()
		body := bag.Body
		if bag.Binary && l.binary {
			body = codec.Unpack(body)
		}
		err := codec.Safely(func() (err error) {
			l.msg.Object, err = l.codec.Decode(body)
			return err
		})
		if err != nil {
			l.in.Reject(d, fmt.Errorf("decode %T: %w", l.msg.Object, err))
			continue
		}
		if l.in.Gone(d) {
			continue
		}
		l.head = d
		l.msg.Category = bag.Category
		l.msg.Digest = swarm.NewDigest(d)
		l.msg.IOContext = bag.Native
		l.msg.ID = bag.ID
		l.msg.Attempt = bag.Attempt
		l.msg.SentAt = bag.SentAt
		return true
	}
	return false
}

func (l *lane[T]) forget() {
	l.head, l.msg = nil, swarm.Msg[T]{}
}

// returned settles a message. A channel whose user has closed ack gets no more: it could not
// settle them.
func (l *lane[T]) returned(msg swarm.Msg[T], open bool) {
	if !open {
		l.ack = nil
		l.in.Deserted()
		return
	}
	l.in.Return(msg.Digest, msg.Error)
}

// release gives back what was not handed over, also what no consumer has taken out of
// the buffer. At most once the buffer is the consumer's: it is filled up first.
func (l *lane[T]) release() {
	if l.atMostOnce {
		for (l.head != nil || l.next()) && len(l.deq) < cap(l.deq) {
			l.deq <- l.msg // does not block: nobody else sends
			l.in.Handed(l.head)
			l.forget()
		}
	} else {
		for len(l.deq) > 0 {
			select {
			case msg := <-l.deq:
				l.in.Reclaim(msg.Digest)
			default: // a consumer was faster
			}
		}
	}
	if l.head != nil {
		l.in.Release(l.head)
		l.forget()
	}
	for _, d := range l.in.Rest() {
		l.in.Release(d)
	}
}
