package maildir_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
	"github.com/fogfish/swarm/examples/maildir"
	"github.com/fogfish/swarm/qtest"
)

// The conformance suite. A directory answers at once: cases run in virtual time, which
// modification times follow.
func TestConformance(t *testing.T) {
	report := qtest.Run(t, func(qtest.T) qtest.Queue {
		dir := t.TempDir()
		return qtest.Queue{Connect: func() (io.Closer, error) { return maildir.Open(dir) }}
	}, qtest.Features{
		Visibility: maildir.Visibility, Extend: true, Delay: true, Attempts: true, StaleHandle: true,
		KeepID: true, KeepSource: true, SentAt: true, Foreign: true,
		EmptyBody: true, Attributes: 100, AttributeSize: 10_000, EmptyAttribute: true,
		Virtual: true, Messages: 1000,
	})
	t.Logf("%d cases passed, not applicable: %q", len(report.Names(qtest.Passed)), report.Names(qtest.NotApplicable))
}

// envVictim makes this binary a consumer that is to be killed: its directory.
const envVictim = "SWARM_TEST_MAILDIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envVictim); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Order is what the tests send.
type Order struct {
	ID int `json:"id"`
}

// victim prints the orders it has worked on, and acknowledges them then.
func victim(dir string) error {
	d, err := maildir.Open(dir)
	if err != nil {
		return err
	}
	d.Visibility = 200 * time.Millisecond
	q, err := kernel.NewListener(d, swarm.WithPollFrequency(10*time.Millisecond))
	if err != nil {
		return err
	}
	deq, ack := listen.Typed[Order](q)
	go func() {
		for msg := range deq {
			fmt.Println(msg.Object.ID)
			ack <- msg
		}
	}()
	return q.Await()
}

// Consumers are killed by SIGKILL in the middle of their work, one after another: each order
// is worked on, and what was acknowledged is gone.
func TestKilledConsumersLoseNothing(t *testing.T) {
	const orders, life = 500, 60
	dir := t.TempDir()
	q, err := maildir.Emitter(dir, swarm.WithEmitWindow(100))
	if err != nil {
		t.Fatal(err)
	}
	enq := swarm.LogDeadLetters(emit.Typed[Order](q))
	for i := range orders {
		enq <- Order{i}
	}
	close(enq)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	seen, repeats, lives := map[int]bool{}, 0, 0
	for ; len(seen) < orders && lives < 10*orders/life; lives++ {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), envVictim+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		guard := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		lines := bufio.NewScanner(out)
		for n := 1; lines.Scan(); n++ {
			var id int
			if _, err := fmt.Sscan(lines.Text(), &id); err != nil {
				t.Errorf("a consumer says %q", lines.Text())
			}
			if seen[id] {
				repeats++
			}
			seen[id] = true
			if n == life || len(seen) == orders {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		guard.Stop()
	}
	if len(seen) != orders {
		t.Errorf("%d of %d orders were worked on", len(seen), orders)
	}
	// What is left was worked on and not acknowledged: it comes again, and then is gone.
	d, err := maildir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for left := -1; left != 0; {
		bags, err := d.Receive(t.Context(), 10)
		if err == nil {
			err = d.Settle(t.Context(), settlements(bags))
		}
		files, again := os.ReadDir(dir)
		if left = len(files); err != nil || again != nil {
			t.Fatal(err, again)
		}
	}
	t.Logf("%d orders in %d lives, %d repeats", len(seen), lives, repeats)
}

func settlements(bags []driver.Bag) (all []driver.Settlement) {
	for i := range bags {
		all = append(all, driver.Settlement{Bag: &bags[i], Outcome: driver.Ack})
	}
	return all
}

// What cannot be read is reported, and what is no message stays where it is.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"README": "not a message", "x,y": "nor this", "1,0": "no header", "dir,0": ""} {
		path := filepath.Join(dir, name)
		var err error
		if content == "" {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := maildir.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	bags, err := d.Receive(t.Context(), 10)
	if err != nil || len(bags) != 1 || bags[0].Err == nil {
		t.Errorf("got %+v, %v", bags, err)
	}
	if _, err := maildir.Open(filepath.Join(dir, "README")); err == nil {
		t.Error("a file is a directory")
	}
}

// A listener and an emitter in one process, as the guide has it.
func Example() {
	dir, err := os.MkdirTemp("", "maildir-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	in := swarm.Must(maildir.Listener(dir))
	out := swarm.Must(maildir.Emitter(dir))

	orders := emit.NewTyped[Order](out)
	if err := orders.Enq(context.Background(), Order{7}); err != nil {
		panic(err)
	}
	deq, ack := listen.Typed[Order](in)
	go in.Run(context.Background())
	msg := <-deq
	fmt.Println("order", msg.Object.ID, "attempt", msg.Attempt)
	ack <- msg
	fmt.Println(in.Close(), out.Close())
	// Output:
	// order 7 attempt 1
	// <nil> <nil>
}
