package embedded_test

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

func TestOptions(t *testing.T) {
	for _, x := range []struct {
		name string
		opt  embedded.Option
		want string
	}{
		{"visibility of nothing", embedded.WithVisibility(0), "WithVisibility(0s)"},
		{"negative delay", embedded.WithDelay(-time.Second), "WithDelay(-1s)"},
		{"negative wait", embedded.WithWait(-1), "WithWait(-1ns)"},
		{"window of nothing", embedded.WithDedup(0), "WithDedup(0s)"},
		{"no receives", embedded.WithMaxReceives(0), "WithMaxReceives(0)"},
		{"no size", embedded.WithMaxSize(0), "WithMaxSize(0)"},
		{"empty batches", embedded.WithBatchSize(0), "WithBatchSize(0)"},
		{"batches of more than SQS takes", embedded.WithBatchSize(11), "WithBatchSize(11)"},
		{"nil", nil, "option 1 is nil"},
	} {
		t.Run("an invalid option is an error that names it: "+x.name, func(t *testing.T) {
			q, err := embedded.NewQueue("orders", embedded.WithVisibility(time.Second), x.opt)
			if q != nil || err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "orders") {
				t.Errorf("got %v, %v, want an error about %s of orders", q, err, x.want)
			}
			if _, err := queue(t).Open(embedded.WithWait(0), x.opt); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want an error about %s", err, x.want)
			}
		})
	}

	for _, x := range []struct {
		name  string
		have  embedded.Option
		other embedded.Option
		want  string
	}{
		{"visibility", embedded.WithVisibility(time.Second), embedded.WithVisibility(time.Minute), "WithVisibility(1m0s): contradicts"},
		{"delay", embedded.WithDelay(time.Second), embedded.WithDelay(0), "WithDelay(0s): contradicts"},
		{"order", embedded.WithMaxSize(1), embedded.WithFIFO(), "WithFIFO(true): contradicts"},
		{"window", embedded.WithFIFO(), embedded.WithDedup(time.Hour), "WithDedup(1h0m0s): contradicts"},
		{"content", embedded.WithFIFO(), embedded.WithContentDedup(), "WithContentDedup(true): contradicts"},
		{"receives", embedded.WithMaxReceives(1), embedded.WithMaxReceives(2), "WithMaxReceives(2): contradicts"},
		{"size", embedded.WithMaxSize(1), embedded.WithMaxSize(2), "WithMaxSize(2): contradicts"},
	} {
		t.Run("an option that contradicts an existing queue is an error that names it: "+x.name, func(t *testing.T) {
			q := queue(t, x.have)
			if _, err := q.Open(x.have); err != nil {
				t.Errorf("the same option: %v", err)
			}
			if _, err := q.Open(x.other); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %s", err, x.want)
			}
		})
	}

	t.Run("options that are said in full are the defaults", func(t *testing.T) {
		q := queue(t, embedded.WithFIFO(), embedded.WithContentDedup())
		open(t, q, embedded.WithVisibility(30*time.Second), embedded.WithDelay(0), embedded.WithDedup(5*time.Minute),
			embedded.WithBatchSize(10), embedded.WithWait(20*time.Second))
	})
}

// ends closes a kernel and returns what its driver answered.
func ends(t *testing.T, k swarm.Kernel) error {
	t.Helper()
	err := k.Close()
	if err == nil {
		return nil
	}
	drain, ok := errors.AsType[*swarm.DrainError](err)
	if !ok {
		t.Fatalf("got %v, want a DrainError", err)
	}
	return drain.Err
}

func wantGone(t *testing.T, err error, messages, dead int) {
	t.Helper()
	lost, ok := errors.AsType[*embedded.LostError](err)
	if !ok || lost.Messages != messages || lost.DeadLetters != dead {
		t.Errorf("got %v, want a LostError of %d and %d", err, messages, dead)
	}
}

type order struct{ ID int }

func quiet() swarm.Option { return swarm.WithLogger(slog.New(slog.DiscardHandler)) }

func TestBuild(t *testing.T) {
	emitTo := func(t *testing.T, q emit.Emitter, n int) {
		t.Helper()
		orders := emit.NewTyped[order](q)
		for i := range n {
			if err := orders.Enq(t.Context(), order{ID: i}); err != nil {
				t.Fatal(err)
			}
		}
	}

	bubble(t, "CL19 closing the last kernel of a queue counts what is lost", func(t *testing.T) {
		emitter := swarm.Must(embedded.Emitter().WithKernel(quiet()).WithMaxReceives(1).Build("CL19"))
		listener := swarm.Must(embedded.Listener().WithKernel(quiet()).Build("CL19"))
		emitTo(t, emitter, 92)
		if err := ends(t, emitter); err != nil {
			t.Errorf("first of two: %v", err)
		}
		wantGone(t, ends(t, listener), 92, 0)

		again := swarm.Must(embedded.Listener().Build("CL19")) // may be of other options
		if err := ends(t, again); err != nil {
			t.Errorf("got %v of a new queue of the same name", err)
		}
	})

	bubble(t, "a kernel without a name has a queue of its own", func(t *testing.T) {
		one := swarm.Must(embedded.Emitter().WithKernel(quiet()).Build(""))
		two := swarm.Must(embedded.Emitter().WithKernel(quiet()).Build(""))
		emitTo(t, one, 1)
		if err := ends(t, two); err != nil {
			t.Error(err)
		}
		wantGone(t, ends(t, one), 1, 0)
	})

	bubble(t, "a queue that somebody holds loses nothing", func(t *testing.T) {
		q := queue(t)
		for range 2 {
			e := swarm.Must(embedded.Emitter().WithQueue(q).Build(""))
			emitTo(t, e, 3)
			if err := ends(t, e); err != nil {
				t.Error(err)
			}
		}
		wantCount(t, q, 6, 0)
	})

	bubble(t, "a broker that somebody holds loses nothing, and has names of its own", func(t *testing.T) {
		b, other := embedded.NewBroker(), embedded.NewBroker()
		e := swarm.Must(b.Emitter().Build("orders"))
		emitTo(t, e, 3)
		if err := ends(t, e); err != nil {
			t.Error(err)
		}
		if err := ends(t, swarm.Must(b.Endpoint().Build("orders"))); err != nil {
			t.Error(err)
		}
		wantCount(t, swarm.Must(b.Queue("orders")), 3, 0)
		wantCount(t, swarm.Must(other.Queue("orders")), 0, 0)
		if _, err := b.Queue("orders", embedded.WithFIFO()); err == nil {
			t.Error("got no error, want a contradiction")
		}
		if _, err := b.Queue(""); err == nil {
			t.Error("got no error of a queue without a name")
		}
	})

	bubble(t, "dead letters are lost with their queue too", func(t *testing.T) {
		q := swarm.Must(embedded.Endpoint().WithKernel(quiet()).WithMaxReceives(2).Build(""))
		deq, ack := listen.Typed[order](q)
		var running sync.WaitGroup
		running.Go(func() { _ = q.Run(t.Context()) })
		emitTo(t, q, 1)
		for attempt := 1; attempt <= 2; attempt++ {
			msg := <-deq
			if msg.Attempt != attempt {
				t.Errorf("got attempt %d, want %d", msg.Attempt, attempt)
			}
			ack <- msg.Fail(nil)
		}
		pass(time.Hour)
		wantGone(t, ends(t, q), 0, 1)
		running.Wait()
	})

	for _, x := range []struct {
		name  string
		build func() error
		want  string
	}{
		{"option", func() error { _, err := embedded.Endpoint().WithDelay(-1).WithBatchSize(11).Build("bad"); return err }, "WithDelay(-1ns)"},
		{"second option", func() error { _, err := embedded.Endpoint().WithDelay(-1).WithBatchSize(11).Build(""); return err }, "WithBatchSize(11)"},
		{"nil queue", func() error { _, err := embedded.Endpoint().WithQueue(nil).Build(""); return err }, "WithQueue"},
		{"two names", func() error { _, err := embedded.Listener().WithQueue(queue(t)).Build("other"); return err }, `Build("other")`},
		{"kernel option", func() error {
			_, err := embedded.Emitter().WithKernel(swarm.WithPollerPool(0)).Build("bad")
			return err
		}, "WithPollerPool(0)"},
		{"contradiction", func() error {
			b := embedded.NewBroker()
			if _, err := b.Emitter().WithMaxReceives(2).Build("q"); err != nil {
				return err
			}
			_, err := b.Listener().WithMaxReceives(3).Build("q")
			return err
		}, "WithMaxReceives(3)"},
	} {
		t.Run("a refused build says why: "+x.name, func(t *testing.T) {
			if err := x.build(); err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want an error about %s", err, x.want)
			}
		})
	}

	t.Run("a refused build leaves nothing behind", func(t *testing.T) {
		if _, err := embedded.Emitter().WithFIFO().WithKernel(swarm.WithPollerPool(0)).Build("left"); err == nil {
			t.Fatal("got no error")
		}
		e, err := embedded.Emitter().WithDedup(time.Hour).Build("left")
		if err != nil {
			t.Fatal(err)
		}
		_ = ends(t, e)
	})

	bubble(t, "every option reaches the queue", func(t *testing.T) {
		q := queue(t, embedded.WithVisibility(1), embedded.WithDelay(2), embedded.WithFIFO(), embedded.WithDedup(3),
			embedded.WithContentDedup(), embedded.WithMaxReceives(4), embedded.WithMaxSize(5))
		k, err := embedded.Endpoint().WithQueue(q).WithVisibility(1).WithDelay(2).WithFIFO().WithDedup(3).
			WithContentDedup().WithMaxReceives(4).WithMaxSize(5).WithBatchSize(6).WithWait(7).Build("test")
		if err != nil {
			t.Fatal(err)
		}
		_ = ends(t, k)
	})

	t.Run("names come and go from many goroutines", func(t *testing.T) {
		var builds sync.WaitGroup
		for range 4 {
			builds.Go(func() {
				for i := range 200 {
					e, err := embedded.Emitter().WithKernel(quiet()).Build(fmt.Sprint("race-", i%3))
					if err != nil {
						t.Error(err)
						return
					}
					_ = e.Close()
				}
			})
		}
		builds.Wait()
	})

	t.Run("no goroutine is left behind", func(t *testing.T) {
		before := runtime.NumGoroutine()
		for range 50 {
			c := open(t, queue(t, embedded.WithWait(time.Nanosecond)))
			send(t, c, "a")
			settle(t, c, driver.Nack, time.Hour, receive(t, c, 1, "a")...)
			receive(t, c, 1)
			_ = c.Close()
		}
		if after := runtime.NumGoroutine(); after > before+1 {
			t.Errorf("%d goroutines before, %d after", before, after)
		}
	})
}
