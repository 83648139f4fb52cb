package embedded_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

func TestWait(t *testing.T) {
	bubble(t, "a receive waits 20 s, or as long as it is told to", func(t *testing.T) {
		q := queue(t)
		for _, x := range []struct {
			want time.Duration
			opts []embedded.Option
		}{
			{want: 20 * time.Second},
			{want: 3 * time.Second, opts: []embedded.Option{embedded.WithWait(3 * time.Second)}},
			{want: 0, opts: []embedded.Option{embedded.WithWait(0)}},
			{want: time.Hour, opts: []embedded.Option{embedded.WithWait(time.Hour)}},
		} {
			c := open(t, q, x.opts...)
			for range 2 {
				began := time.Now()
				receive(t, c, 1)
				if got := time.Since(began); got != x.want {
					t.Errorf("waited %v, want %v", got, x.want)
				}
			}
		}
	})

	bubble(t, "each of many receives waits for its own time", func(t *testing.T) {
		q := queue(t)
		var receives sync.WaitGroup
		defer receives.Wait()
		for i := range 10 {
			c := open(t, q, embedded.WithWait(time.Duration(10-i)*time.Second))
			receives.Go(func() {
				began := time.Now()
				if got, err := c.Receive(t.Context(), 1); len(got) > 0 || err != nil {
					t.Errorf("got %v, %v", got, err)
				}
				if want := time.Duration(10-i) * time.Second; time.Since(began) != want {
					t.Errorf("waited %v, want %v", time.Since(began), want)
				}
			})
		}
	})

	bubble(t, "a receive that waits gets a message at once", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		go func() {
			pass(7 * time.Second)
			send(t, open(t, q), "a")
		}()
		began := time.Now()
		receive(t, c, 1, "a")
		if time.Since(began) != 7*time.Second {
			t.Errorf("got it after %v, want 7s", time.Since(began))
		}
	})

	bubble(t, "a receive that waits sees what becomes due earlier than anything before", func(t *testing.T) {
		for name, at := range map[string]struct {
			due time.Duration
			do  func(*embedded.Conn, []driver.Bag)
		}{
			"lease": {30 * time.Second, func(*embedded.Conn, []driver.Bag) {}},
			"nack":  {5 * time.Second, func(c *embedded.Conn, got []driver.Bag) { settle(t, c, driver.Nack, 5*time.Second, got...) }},
			"extend": {4 * time.Second, func(c *embedded.Conn, got []driver.Bag) {
				_ = c.Extend(t.Context(), []*driver.Bag{&got[0]}, 4*time.Second)
			}},
		} {
			c := open(t, queue(t), embedded.WithWait(time.Hour))
			send(t, c, "a")
			got := receive(t, c, 1, "a")
			began := time.Now()
			go func() {
				pass(time.Second) // let the receive wait
				at.do(c, got)
			}()
			receive(t, c, 1, "a")
			want := at.due
			if want < 30*time.Second {
				want += time.Second
			}
			if time.Since(began) != want {
				t.Errorf("%s: got it after %v, want %v", name, time.Since(began), want)
			}
		}
	})

	bubble(t, "a delayed send wakes a receive when it is due", func(t *testing.T) {
		c := open(t, queue(t, embedded.WithDelay(3*time.Second)))
		began := time.Now()
		go func() {
			pass(time.Second)
			send(t, c, "a")
		}()
		receive(t, c, 1, "a")
		if time.Since(began) != 4*time.Second {
			t.Errorf("got it after %v, want 4s", time.Since(began))
		}
	})

	bubble(t, "messages wake as many receives as they need", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		var got atomic.Int32
		for range 5 {
			go func() {
				bags, _ := c.Receive(t.Context(), 2)
				got.Add(int32(len(bags)))
			}()
		}
		synctest.Wait()
		send(t, c, "a", "b", "c", "d", "e", "f", "g")
		synctest.Wait()
		if got.Load() != 7 {
			t.Errorf("received %d of 7 before time passed", got.Load())
		}
		pass(20 * time.Second)
		wantCount(t, q, 0, 7)
	})

	bubble(t, "the end of the context ends the wait, with its cause, and takes nothing", func(t *testing.T) {
		q := queue(t)
		c := open(t, q)
		why := errors.New("why")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			pass(time.Second)
			cancel(why)
		}()
		began := time.Now()
		if got, err := c.Receive(ctx, 1); err != why || got != nil {
			t.Errorf("got %v, %v, want %v", got, err, why)
		}
		if time.Since(began) != time.Second {
			t.Errorf("ended after %v, want 1s", time.Since(began))
		}
		go func() {
			pass(time.Second)
			send(t, c, "a")
		}()
		receive(t, open(t, q), 1, "a")
		if time.Since(began) != 2*time.Second {
			t.Errorf("the next one got it after %v, want 2s", time.Since(began))
		}
	})

	bubble(t, "a receive that is cancelled while it is woken leaves the message to the next", func(t *testing.T) {
		for range 200 {
			q := queue(t)
			c := open(t, q)
			ctx, cancel := context.WithCancel(t.Context())
			var got atomic.Int32
			wait := func(ctx context.Context) {
				bags, err := c.Receive(ctx, 1)
				got.Add(int32(len(bags)))
				if len(bags) > 0 && err != nil {
					t.Errorf("got %d beside %v", len(bags), err)
				}
			}
			go wait(ctx)
			synctest.Wait()
			go wait(t.Context())
			synctest.Wait()
			go cancel()
			send(t, c, "a")
			synctest.Wait()
			if got.Load() != 1 {
				t.Fatalf("received %d times before time passed, want once", got.Load())
			}
			_ = c.Close()
		}
	})

	bubble(t, "closing a connection ends its receives, not those of others", func(t *testing.T) {
		q := queue(t)
		a, b := open(t, q), open(t, q)
		errs := make(chan error, 2)
		began := time.Now()
		for range 2 {
			go func() {
				_, err := a.Receive(t.Context(), 1)
				errs <- err
			}()
		}
		go func() {
			pass(time.Second)
			for range 2 { // the second time does nothing
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			}
			for range 2 {
				if err := <-errs; !errors.Is(err, swarm.ErrClosed) {
					t.Errorf("got %v, want %v", err, swarm.ErrClosed)
				}
			}
			if time.Since(began) != time.Second {
				t.Errorf("ended after %v, want 1s", time.Since(began))
			}
		}()
		receive(t, b, 1)
		if time.Since(began) != 20*time.Second {
			t.Errorf("the other waited for %v, want 20s", time.Since(began))
		}
	})

	t.Run("a queue serves one bubble after another, and none", func(t *testing.T) {
		q := queue(t, embedded.WithDelay(10*time.Millisecond))
		use := func(t *testing.T) {
			c := open(t, q)
			send(t, c, "a")
			ack(t, c, receive(t, c, 1, "a")...)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
		bubble(t, "first", use)
		bubble(t, "second", use)
		use(t)
	})
}
