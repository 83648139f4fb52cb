package kernel_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// A consumer that closes ack gets no more messages, which is told once; its neighbour does, and
// Close ends.
func TestAConsumerClosesAck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		errs := make(chan error, 1000)
		q := endpoint(t, r, swarm.WithStdErr(errs), swarm.WithTimeToFlight(10*time.Second))
		deq, ack := listen.Typed[Note](q)
		users, uack := listen.Typed[User](q)
		r.offer(note(0), note(1), note(2))
		wait := start(q)
		first, second := <-deq, <-deq
		ack <- first
		close(ack)
		synctest.Wait()
		if n := r.count(driver.Nack); n != 1 {
			t.Errorf("%d have gone back, of those that wait", n)
		}
		select {
		case <-deq:
			t.Error("it gets another message")
		case <-time.After(time.Second):
		}
		r.offer(user("a"))
		msg := <-users
		uack <- msg
		<-second.Context().Done() // its time to flight
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		r.onceEach(t, 4)
		told := 0
		for len(errs) > 0 {
			if e, ok := errors.AsType[*swarm.ListenError](<-errs); ok && e.Op == "settle" && e.Category == "Note" {
				told++
			}
		}
		if n := r.count(driver.Ack); n != 2 || told != 1 {
			t.Errorf("%d acknowledged, told %d times", n, told)
		}
	})
}

// hollow is an error that panics when it is nil inside, as many do.
type hollow struct{ cause error }

func (e *hollow) Error() string { return e.cause.Error() }
func (e *hollow) Unwrap() error { return e.cause }

type hollowCodec struct{}

func (hollowCodec) Category() string              { return "Note" }
func (hollowCodec) Decode([]byte) (Note, error)   { return Note{}, (*hollow)(nil) }
func (hollowCodec) Encode(n Note) ([]byte, error) { return nil, (*hollow)(nil) }

// An error of the user that is nil inside is an error like any other.
func TestErrorsThatAreNilInside(t *testing.T) {
	for name, x := range map[string]func(t *testing.T, r *rig){
		"Fail": func(t *testing.T, r *rig) {
			r.settle = func(_ context.Context, s []driver.Settlement) error {
				for _, x := range s {
					_ = errors.Is(x.Err, errBad) // as drivers look at it
				}
				return nil
			}
			q := endpoint(t, r)
			deq, ack := listen.Typed[Note](q)
			wait := start(q)
			ack <- (<-deq).Fail((*hollow)(nil))
			ack <- <-deq
			_ = q.Close()
			wait()
			if n := r.count(driver.Nack); n != 1 {
				t.Errorf("%d came back", n)
			}
		},
		"Decode": func(t *testing.T, r *rig) {
			q := endpoint(t, r)
			listen.Typed[Note](q, listen.Codec[Note](hollowCodec{}))
			wait := start(q)
			time.Sleep(time.Second)
			_ = q.Close()
			wait()
			if n := r.count(driver.Nack); n != 2 {
				t.Errorf("%d came back", n)
			}
		},
		"Encode": func(t *testing.T, r *rig) {
			q := endpoint(t, r)
			enq, dlq := emit.Typed[Note](q, emit.Codec[Note](hollowCodec{}))
			enq <- Note{}
			<-dlq
			close(enq)
			_ = q.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig()
				r.offer(notes(2)...)
				x(t, r)
			})
		})
	}
}

// A delay that is in the past is none.
func TestARetryInThePast(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r)
		deq, ack := listen.Typed[Note](q)
		r.offer(notes(1)...)
		wait := start(q)
		msg := <-deq
		ack <- msg.Fail(&swarm.RetryAfterError{Delay: -time.Hour})
		time.Sleep(time.Second)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		if s, n := r.outcome(msg.ID); n != 1 || s.outcome != driver.Nack || s.delay != 0 {
			t.Errorf("%d times, %+v", n, s)
		}
	})
}

// At most once the context of a message ends with its time to flight, from the hand-over.
func TestTheContextAtMostOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig()
		q := endpoint(t, r, swarm.WithTimeToFlight(10*time.Second), swarm.WithPolicyAtMostOnce(5))
		deq, _ := listen.Typed[Note](q)
		r.offer(notes(1)...)
		wait := start(q)
		msg := <-deq
		handed := time.Now()
		time.Sleep(8 * time.Second)
		ctx := msg.Context()
		if at, ok := ctx.Deadline(); !ok || at.Sub(handed) != 10*time.Second {
			t.Errorf("at 8 s the deadline is %s after the hand-over", at.Sub(handed))
		}
		<-ctx.Done()
		if took := time.Since(handed); took != 10*time.Second || !errors.Is(context.Cause(ctx), swarm.ErrTimeToFlight) {
			t.Errorf("ended after %s by %v", took, context.Cause(ctx))
		}
		if at, _ := ctx.Deadline(); at.Sub(handed) != 10*time.Second {
			t.Errorf("the deadline has moved to %s", at.Sub(handed))
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
	})
}

// At most once a consumer may send back some messages and not others: the channel ends.
func TestAtMostOnceSomeMessagesComeBack(t *testing.T) {
	bubble(t, func(t *testing.T) { // which fails when a goroutine is left
		r := newRig()
		q := endpoint(t, r, swarm.WithPolicyAtMostOnce(5))
		deq, ack := listen.Typed[Note](q)
		r.offer(notes(3)...)
		wait := start(q)
		ack <- <-deq
		<-deq
		<-deq
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		wait()
		time.Sleep(time.Hour)
	})
}

// What nobody takes goes back when it holds up another category, and only then.
func TestWhatNobodyTakesGoesBackForOthersOnly(t *testing.T) {
	for name, others := range map[string]bool{"alone": false, "before another one": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig() // whose leases do not end
				q := endpoint(t, r, swarm.WithTimeToFlight(10*time.Second), swarm.WithPollerPool(2))
				listen.Typed[Note](q)
				r.offer(notes(200)...)
				var took time.Duration
				if others {
					deq, ack := listen.Typed[User](q)
					r.offer(user("x"))
					began := time.Now()
					go work(deq, ack, func(swarm.Msg[User]) { took = time.Since(began) })
				}
				wait := start(q)
				time.Sleep(5 * time.Minute)
				if n := r.count(driver.Nack); n > 0 != others {
					t.Errorf("%d went back", n)
				}
				if others && (took == 0 || took > time.Minute) {
					t.Errorf("the other one waited for %s", took)
				}
				_ = q.Close()
				wait()
			})
		})
	}
}
