package embedded_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

// bubble runs a case on virtual time.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// pass lets virtual time pass.
func pass(d time.Duration) { time.Sleep(d) }

func queue(t testing.TB, opts ...embedded.Option) *embedded.Queue {
	t.Helper()
	q, err := embedded.NewQueue("test", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func open(t testing.TB, q *embedded.Queue, opts ...embedded.Option) *embedded.Conn {
	t.Helper()
	c, err := q.Open(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// bags are named and grouped as they are written: "a:1" is body a of group 1.
func bags(names ...string) []driver.Bag {
	var out []driver.Bag
	for _, name := range names {
		_, group, _ := strings.Cut(name, ":")
		out = append(out, driver.Bag{Category: "Note", ID: name, Group: group, Body: []byte(name)})
	}
	return out
}

func send(t testing.TB, c *embedded.Conn, names ...string) {
	t.Helper()
	if err := c.Send(t.Context(), bags(names...)); err != nil {
		t.Fatalf("send %v: %v", names, err)
	}
}

// receive checks which messages come, in which order. None: it waits in vain.
func receive(t testing.TB, c *embedded.Conn, max int, want ...string) []driver.Bag {
	t.Helper()
	got, err := c.Receive(t.Context(), max)
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	if have := names(got); have != strings.Join(want, " ") {
		t.Fatalf("received %q, want %q", have, strings.Join(want, " "))
	}
	return got
}

func names(bags []driver.Bag) string {
	var out []string
	for _, bag := range bags {
		out = append(out, string(bag.Body))
	}
	return strings.Join(out, " ")
}

func settle(t testing.TB, c *embedded.Conn, outcome driver.Outcome, delay time.Duration, bags ...driver.Bag) {
	t.Helper()
	if err := trySettle(t, c, outcome, delay, bags...); err != nil {
		t.Fatalf("%v: %v", outcome, err)
	}
}

func trySettle(t testing.TB, c *embedded.Conn, outcome driver.Outcome, delay time.Duration, bags ...driver.Bag) error {
	var s []driver.Settlement
	for i := range bags {
		s = append(s, driver.Settlement{Bag: &bags[i], Outcome: outcome, Delay: delay})
	}
	return c.Settle(t.Context(), s)
}

func ack(t testing.TB, c *embedded.Conn, bags ...driver.Bag) {
	t.Helper()
	settle(t, c, driver.Ack, 0, bags...)
}

// wantLost checks that exactly the entries of index failed, for good, since their lease
// is lost.
func wantLost(t testing.TB, err error, index ...int) {
	t.Helper()
	batch, ok := errors.AsType[*driver.BatchError](err)
	if !ok || len(batch.Failed) != len(index) {
		t.Fatalf("got %v, want failed entries %v", err, index)
	}
	for i, f := range batch.Failed {
		if f.Index != index[i] || !f.Permanent || !errors.Is(f.Err, swarm.ErrLeaseLost) {
			t.Errorf("got failure %+v, want a permanent %v of entry %d", f, swarm.ErrLeaseLost, index[i])
		}
	}
}

// wantCount checks what waits and what is in flight.
func wantCount(t testing.TB, q *embedded.Queue, waiting, inFlight int) {
	t.Helper()
	if q.Len() != waiting || q.InFlight() != inFlight {
		t.Errorf("got %d waiting and %d in flight, want %d and %d", q.Len(), q.InFlight(), waiting, inFlight)
	}
}
