package kernel_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

const childEnv = "SWARM_TEST_SIGNAL_CHILD"

// CL15 C5: a signal while producers and consumers are busy drains the program. The
// program is this test binary, run again.
func TestSignalDrains(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		signalChild(t)
		return
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignalDrains$", "-test.v")
			cmd.Env = append(os.Environ(), childEnv+"=1")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var lines []string
			for scan := bufio.NewScanner(out); scan.Scan(); {
				lines = append(lines, scan.Text())
				if scan.Text() == "busy" {
					if err := cmd.Process.Signal(sig); err != nil {
						t.Error(err)
					}
				}
			}
			all := strings.Join(lines, "\n")
			if err := cmd.Wait(); err != nil || !strings.Contains(all, "ledger adds up") {
				t.Errorf("child: %v\n%s", err, all)
			}
		})
	}
}

func signalChild(t *testing.T) {
	r := newRig()
	r.latency = time.Millisecond
	r.offer(notes(100_000)...)
	q := endpoint(t, r)
	var accepted, told, acked atomic.Int64
	enq, _ := emit.Typed[Note](q, emit.OnFailure(func(Note, error) { told.Add(1) }))
	deq, ack := listen.Typed[Note](q)
	produced := make(chan struct{})
	go func() {
		defer close(produced)
		defer close(enq)
		for i := 0; ; i++ {
			select {
			case enq <- Note{i}:
				if accepted.Add(1) == 50 {
					fmt.Println("\nbusy")
				}
			case <-q.Done():
				return
			}
		}
	}()
	consumed := make(chan struct{})
	go func() {
		defer close(consumed)
		for msg := range deq {
			acked.Add(1)
			ack <- msg
		}
	}()
	if err := q.Await(); err != nil {
		t.Fatal(err)
	}
	<-produced
	<-consumed
	r.mu.Lock()
	defer r.mu.Unlock()
	settled := 0
	for _, s := range r.settles {
		if s.outcome == driver.Ack {
			settled++
		}
	}
	if int64(len(r.sent))+told.Load() != accepted.Load() || int64(settled) != acked.Load() {
		t.Fatalf("accepted %d, confirmed %d, told %d; acked %d, settled %d", accepted.Load(), len(r.sent), told.Load(), acked.Load(), settled)
	}
	fmt.Println("\nledger adds up")
}
