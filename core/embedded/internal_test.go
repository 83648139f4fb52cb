package embedded

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

func TestQueueKeepsNothingOfWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := NewQueue("test", WithFIFO())
		if err != nil {
			t.Fatal(err)
		}
		c, err := q.Open()
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			body := make([]byte, 100*(1+i%100))
			if err := c.Send(t.Context(), []driver.Bag{{ID: fmt.Sprint(i), Group: fmt.Sprint(i), Body: body}}); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.Receive(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if err := c.Settle(t.Context(), []driver.Settlement{{Bag: &got[i], Outcome: driver.Ack}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		_ = c.Send(t.Context(), []driver.Bag{{ID: "last"}}) // looks at the window
		if len(q.groups) != 1 || len(q.seen) != 1 || len(q.keys) != 1 || len(q.timed) != 0 || q.plain.head != nil {
			t.Errorf("left: %d groups, %d keys, %d timed", len(q.groups), len(q.seen), len(q.timed))
		}
		kept := 0
		for _, b := range q.spare {
			kept += cap(b)
		}
		if kept > maxSpare*maxSpareOf {
			t.Errorf("%d bytes of buffers kept, want %d at most", kept, maxSpare*maxSpareOf)
		}
	})
}

func TestCloseCountsAConnectionOnce(t *testing.T) {
	q, _ := NewQueue("test")
	q.transient = true
	a, _ := q.Open()
	b, _ := q.Open()
	_ = a.Send(t.Context(), make([]driver.Bag, 3))
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	want := `embedded: queue "test": lost 3 messages and 0 dead letters`
	if err := b.Close(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAllocations(t *testing.T) {
	for _, batch := range []int{1, 10} {
		t.Run(fmt.Sprintf("a message costs one, a receive one: batch of %d", batch), func(t *testing.T) {
			q, _ := NewQueue("test")
			c, _ := q.Open()
			bags, done := make([]driver.Bag, batch), make([]driver.Settlement, batch)
			for i := range bags {
				bags[i] = driver.Bag{ID: "id", Body: make([]byte, 500)}
			}
			got := testing.AllocsPerRun(1000, func() {
				_ = c.Send(t.Context(), bags)
				got, _ := c.Receive(t.Context(), batch)
				for i := range got {
					done[i] = driver.Settlement{Bag: &got[i], Outcome: driver.Ack}
				}
				_ = c.Settle(t.Context(), done)
			})
			if want := float64(batch + 1); got != want {
				t.Errorf("got %v allocations, want %v", got, want)
			}
		})
	}
}
