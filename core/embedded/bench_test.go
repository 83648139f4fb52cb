package embedded_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/embedded"
)

// One goroutine: what the broker itself costs, without the scheduler.
func BenchmarkSendReceiveSettle(b *testing.B) {
	for _, batch := range []int{1, 10} {
		for _, size := range []int{64, 2048} {
			b.Run(fmt.Sprintf("batch=%d/body=%d", batch, size), func(b *testing.B) {
				conn := open(b, queue(b))
				ctx := context.Background()
				send := make([]driver.Bag, batch)
				for i := range send {
					send[i] = driver.Bag{Category: "Note", ID: "id", Body: make([]byte, size)}
				}
				done := make([]driver.Settlement, batch)
				b.ReportAllocs()
				for b.Loop() {
					if err := conn.Send(ctx, send); err != nil {
						b.Fatal(err)
					}
					got, err := conn.Receive(ctx, batch)
					if err != nil || len(got) != batch {
						b.Fatal(len(got), err)
					}
					for i := range got {
						done[i] = driver.Settlement{Bag: &got[i], Outcome: driver.Ack}
					}
					if err := conn.Settle(ctx, done); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/msg")
			})
		}
	}
}

// Two goroutines: each message finds a Receive that waits for it.
func BenchmarkWaitingReceive(b *testing.B) {
	conn := open(b, queue(b))
	ctx := context.Background()
	next := make(chan struct{})
	go func() {
		defer close(next)
		var done [1]driver.Settlement
		for {
			got, err := conn.Receive(ctx, 10)
			if err != nil {
				return
			}
			for i := range got {
				done[0] = driver.Settlement{Bag: &got[i], Outcome: driver.Ack}
				if err := conn.Settle(ctx, done[:]); err != nil {
					return
				}
				next <- struct{}{}
			}
		}
	}()
	send := []driver.Bag{{Category: "Note", ID: "id", Body: make([]byte, 64)}}
	b.ReportAllocs()
	for b.Loop() {
		if err := conn.Send(ctx, send); err != nil {
			b.Fatal(err)
		}
		<-next
	}
	_ = conn.Close()
	<-next
}

// The same by a plain channel, to compare with.
func BenchmarkPlainChannel(b *testing.B) {
	ch, next := make(chan []byte), make(chan struct{})
	go func() {
		for range ch {
			next <- struct{}{}
		}
	}()
	for b.Loop() {
		ch <- nil
		<-next
	}
	close(ch)
}

// A backlog: the cost does not grow with what waits, is delayed or in flight.
func BenchmarkBacklog(b *testing.B) {
	for _, backlog := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprintf("leased=waiting=%d", backlog), func(b *testing.B) {
			conn := open(b, queue(b, embedded.WithVisibility(time.Hour)))
			ctx := context.Background()
			send := []driver.Bag{{Category: "Note", ID: "id", Body: make([]byte, 64)}}
			for range 2 * backlog {
				_ = conn.Send(ctx, send)
			}
			for range backlog {
				_, _ = conn.Receive(ctx, 1)
			}
			done := make([]driver.Settlement, 1)
			for b.Loop() {
				_ = conn.Send(ctx, send)
				got, _ := conn.Receive(ctx, 1)
				done[0] = driver.Settlement{Bag: &got[0], Outcome: driver.Ack}
				if err := conn.Settle(ctx, done); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
