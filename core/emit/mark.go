package emit

import (
	"slices"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// mark is the question of an invocation that is about to end, see [kernel.Outlet.Marks]:
// what became of the values up to a number?
type mark struct {
	*kernel.Mark
	upTo uint64
}

// awaits reports that the invocation waits for a value: not for one that an earlier
// invocation has given up.
func (m mark) awaits(s stamp) bool {
	return s.number > 0 && s.number <= m.upTo && (s.at >= m.Began() || !s.givenUp)
}

// mark takes questions. What is in the buffer was accepted.
func (l *lane[T]) mark() {
	for _, m := range l.out.Marks() {
		if m.Expired() {
			l.giveUpTo(m)
			continue
		}
		l.marks = append(l.marks, mark{m, l.accepted + uint64(len(l.enq))})
	}
	l.answerMarks()
}

// answerMarks answers the questions that can be answered.
func (l *lane[T]) answerMarks() {
	if len(l.marks) == 0 {
		return
	}
	l.marks = slices.DeleteFunc(l.marks, func(m mark) bool {
		buffered := l.accepted < m.upTo && !l.closed
		stuck := l.inflight == 0 && !l.room() // behind dead letters
		if buffered && !stuck || slices.ContainsFunc(l.slots, func(s slot[T]) bool { return m.awaits(s.stamp) }) {
			m.Pending()
			return false
		}
		if slices.ContainsFunc(l.failed, func(f deadLetter[T]) bool { return f.number <= m.upTo }) {
			m.Confirmed(l.cfg.DeadLetterHandled && slices.ContainsFunc(l.failed, func(f deadLetter[T]) bool { return m.awaits(f.stamp) }))
			return false
		}
		m.Resolved()
		return true
	})
}

// giveUpTo ends the wait of an invocation whose time is over. Values that are still on
// their way fail it, and no later one waits for them; dead letters that nobody has read are
// reported, and make room.
func (l *lane[T]) giveUpTo(expired *kernel.Mark) {
	i := slices.IndexFunc(l.marks, func(m mark) bool { return m.Mark == expired })
	if i < 0 {
		expired.Missed()
		return
	}
	upTo := l.marks[i].upTo
	for i := range l.slots {
		if s := &l.slots[i]; s.number > 0 && s.number <= upTo {
			if s.at >= expired.Began() && !l.cfg.AtMostOnce {
				expired.Spoil(swarm.ErrUnconfirmed)
			}
			s.givenUp = true
		}
	}
	if l.accepted < upTo {
		// The rest is in the buffer. Some of it may be older than the invocation: who
		// buffers does not know when a value was accepted.
		unknown := upTo > l.givenUp.number
		if (unknown || l.givenUp.at >= expired.Began()) && !l.cfg.AtMostOnce {
			expired.Spoil(swarm.ErrUnconfirmed)
		}
		if unknown {
			l.givenUp = stamp{number: upTo, at: l.out.Now(), givenUp: true}
		}
	}
	before := len(l.failed)
	l.failed = slices.DeleteFunc(l.failed, func(f deadLetter[T]) bool {
		if f.number <= upTo {
			l.out.Spoil(f.at, f.err)
		}
		return f.number <= upTo
	})
	if unread := before - len(l.failed); unread > 0 {
		l.patient()
		l.out.Dropped(unread, swarm.ErrUnread)
	}
	l.marks = slices.Delete(l.marks, i, i+1)
	expired.Resolved()
}
