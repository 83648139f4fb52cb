// Faults of the predecessor, by their ids, from end to end.
package embedded_test

import (
	"errors"
	"runtime"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// EB4: a message that its consumer always fails comes back later each time, is counted, and
// ends as a dead letter where the queue says so.
func TestEB4_AlwaysFailed(t *testing.T) {
	bubble(t, "by the policy", func(t *testing.T) {
		q := swarm.Must(embedded.Endpoint().WithKernel(quiet()).Build(""))
		deq, ack := listen.Typed[order](q)
		go func() { _ = q.Run(t.Context()) }()
		if err := emit.NewTyped[order](q).Enq(t.Context(), order{1}); err != nil {
			t.Fatal(err)
		}
		began, n := time.Now(), 0
		for msg := range deq {
			if n++; msg.Attempt != n {
				t.Errorf("attempt %d at delivery %d", msg.Attempt, n)
			}
			ack <- msg.Fail(errors.New("no"))
			if time.Since(began) > time.Minute {
				break
			}
		}
		if n < 4 || n > 10 {
			t.Errorf("%d deliveries in a minute", n)
		}
		_ = q.Close()
	})
}

// EM17, RX22: bytes are the receiver's: what it does to them is not seen by the next one,
// and the sender's buffer is its own once Enq has returned.
func TestEM17_Bytes(t *testing.T) {
	bubble(t, "copied", func(t *testing.T) {
		q := swarm.Must(embedded.Endpoint().WithKernel(quiet()).Build(""))
		deq, ack := listen.Bytes(q, codec.Bytes("Image"))
		go func() { _ = q.Run(t.Context()) }()
		buf := []byte("first")
		if err := emit.NewBytes(q, codec.Bytes("Image")).Enq(t.Context(), buf); err != nil {
			t.Fatal(err)
		}
		copy(buf, "XXXXX")
		for range 3 {
			msg := <-deq
			if string(msg.Object) != "first" {
				t.Errorf("got %q", msg.Object)
			}
			clear(msg.Object)
			if msg.Attempt < 3 {
				msg = msg.Fail(nil)
			}
			ack <- msg
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
}

// CL14, CL12: twenty life cycles of a kernel and its queue leave no goroutine; a synchronous
// Enq afterwards is refused.
func TestCL14_LifeCycles(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		q := swarm.Must(embedded.Endpoint().WithKernel(quiet()).Build(""))
		enq, dlq := emit.Typed[order](q)
		deq, ack := listen.Typed[order](q)
		ended := make(chan error)
		go func() { ended <- q.Run(t.Context()) }()
		enq <- order{1}
		ack <- <-deq
		close(enq)
		if err := q.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		for range dlq {
		}
		for range deq {
		}
		if err := emit.NewTyped[order](q).Enq(t.Context(), order{2}); !errors.Is(err, swarm.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	for i := 0; runtime.NumGoroutine() > before; i++ {
		if runtime.Gosched(); i > 1_000_000 {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}
