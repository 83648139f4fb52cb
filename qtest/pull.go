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

// pulled makes a source that is asked of one that pushes, so that both are checked by the
// same cases: a batch that is pushed waits until each of its messages is settled, and is
// answered then. The source begins to push when it is asked for the first time. Of an
// ordered one, nothing of a group is given out while something before it is in flight, and
// after a failure the rest of the group goes back.
type pulled struct {
	io.Closer
	runner driver.Runner

	run   context.Context
	stop  context.CancelFunc
	ended chan struct{}
	err   error // of Run, once it has ended

	mu     sync.Mutex
	runs   bool
	ready  []driver.Bag
	flying map[string]int // messages of a group; nil: no order
	news   chan struct{}  // closed when there is something new
}

// push is a batch that waits for its answer.
type push struct {
	out  []driver.Settlement
	left int
	done chan struct{}
}

// ticket is the handle of one message of it.
type ticket struct {
	push *push
	at   int
}

func newPulled(c io.Closer, r driver.Runner) *pulled {
	p := &pulled{Closer: c, runner: r, news: make(chan struct{}), ended: make(chan struct{})}
	if l, ok := r.(driver.Limiter); ok && l.Limits().Ordered {
		p.flying = map[string]int{}
	}
	p.run, p.stop = context.WithCancel(context.Background())
	return p
}

// pullWait is how long a Receive waits that has nothing.
const pullWait = 100 * time.Millisecond

// Receive takes what was pushed.
func (p *pulled) Receive(ctx context.Context, max int) ([]driver.Bag, error) {
	wait := time.NewTimer(pullWait)
	defer wait.Stop()
	for {
		p.mu.Lock()
		if !p.runs {
			p.runs = true
			go func() {
				defer close(p.ended)
				p.err = p.runner.Run(p.run, p.serve)
			}()
		}
		bags := p.take(max)
		news := p.news
		p.mu.Unlock()
		if len(bags) > 0 {
			return bags, nil
		}
		select {
		case <-news:
		case <-p.ended:
			return nil, driver.Permanent(errors.Join(errors.New("qtest: the source pushes no more"), p.err))
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-wait.C:
			return nil, nil
		}
	}
}

// take takes up to max messages that may be given out. Callers hold mu.
func (p *pulled) take(max int) (bags []driver.Bag) {
	held := map[string]bool{}
	for group, n := range p.flying {
		held[group] = n > 0
	}
	p.ready = slices.DeleteFunc(p.ready, func(bag driver.Bag) bool {
		if len(bags) == max || held[bag.Group] {
			return false
		}
		bags = append(bags, bag)
		return true
	})
	if p.flying != nil {
		for _, bag := range bags {
			p.flying[bag.Group]++
		}
	}
	return bags
}

// serve is what the source calls.
func (p *pulled) serve(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
	batch := &push{out: make([]driver.Settlement, len(bags)), left: len(bags), done: make(chan struct{})}
	if len(bags) == 0 {
		return nil, nil
	}
	p.mu.Lock()
	for i := range bags {
		batch.out[i] = driver.Settlement{Bag: &bags[i], Outcome: driver.Release}
		bag := bags[i]
		bag.Handle = &ticket{batch, i}
		p.ready = append(p.ready, bag)
	}
	close(p.news)
	p.news = make(chan struct{})
	p.mu.Unlock()
	select {
	case <-batch.done:
	case <-ctx.Done():
	case <-p.run.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	batch.left = 0 // what comes now is late
	p.drop(batch, func(driver.Bag) bool { return true })
	if p.flying != nil {
		for i := range bags {
			delete(p.flying, bags[i].Group) // a group is in one batch at a time
		}
	}
	return batch.out, nil
}

// drop takes messages of a batch back that were not given out. Callers hold mu.
func (p *pulled) drop(batch *push, which func(driver.Bag) bool) (n int) {
	before := len(p.ready)
	p.ready = slices.DeleteFunc(p.ready, func(bag driver.Bag) bool { return bag.Handle.(*ticket).push == batch && which(bag) })
	return before - len(p.ready)
}

// Settle notes outcomes. The last of a batch lets the source go on.
func (p *pulled) Settle(_ context.Context, settlements []driver.Settlement) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed []driver.Failure
	for i, s := range settlements {
		t := s.Bag.Handle.(*ticket)
		if t.push.left == 0 {
			failed = append(failed, driver.Failure{Index: i, Err: errors.New("qtest: the batch has its answer"), Permanent: true})
			continue
		}
		out := &t.push.out[t.at]
		out.Outcome, out.Delay, out.Err = s.Outcome, s.Delay, s.Err
		t.push.left--
		if p.flying != nil {
			p.flying[s.Bag.Group]--
			if s.Outcome != driver.Ack {
				t.push.left -= p.drop(t.push, func(bag driver.Bag) bool { return bag.Group == s.Bag.Group })
			}
			close(p.news)
			p.news = make(chan struct{})
		}
		if t.push.left == 0 {
			close(t.push.done)
		}
	}
	if len(failed) > 0 {
		return &driver.BatchError{Failed: failed}
	}
	return nil
}

// Close gives back what nobody has settled.
func (p *pulled) Close() error {
	p.mu.Lock()
	runs := p.runs
	p.runs = true // it does not begin now
	p.mu.Unlock()
	p.stop()
	if runs {
		<-p.ended
	}
	return errors.Join(p.Closer.Close(), p.err)
}
