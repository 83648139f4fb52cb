// Quickstart sends each line of a text through a queue in memory, consumes them with
// two consumers that refuse some once, and prints a ledger that adds up. No set-up:
//
//	go run ./examples/quickstart             # the text it ships
//	go run ./examples/quickstart README.md   # a file
//	go run ./examples/quickstart < README.md # standard input
//
// Press Ctrl-C in the middle: it drains, and the ledger still adds up.
package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// Note is what we send: any Go type that encodes as JSON.
type Note struct {
	Line int    `json:"line"`
	Text string `json:"text"`
}

//go:embed text.txt
var text []byte

// ledger of the program, to be held against what the queue has in the end.
type ledger struct {
	sent, refused, acked, nacked, again atomic.Int64
	read                                atomic.Bool // the whole text
}

// complete reports that all lines were read and processed.
func (l *ledger) complete() bool { return l.read.Load() && l.acked.Load() == l.sent.Load() }

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin *os.File, out io.Writer) error {
	lines, err := input(args, stdin)
	if err != nil {
		return err
	}

	// The broker. With broker/sqs in its place the rest stays as it is.
	queue, err := embedded.NewQueue("notes")
	if err != nil {
		return err
	}
	q, err := embedded.Endpoint().
		WithQueue(queue).
		WithKernel(
			swarm.WithSource("quickstart"),
			swarm.WithEmitWindow(10),
			swarm.WithRedelivery(func(attempt int) time.Duration { return 50 * time.Millisecond }),
		).
		Build("")
	if err != nil {
		return err
	}

	// Channels. A value that came after Close is refused, and told to us here.
	var l ledger
	enq, dlq := emit.Typed[Note](q, emit.OnFailure(func(Note, error) { l.refused.Add(1) }))
	go func() {
		for note := range dlq {
			fmt.Fprintln(out, "undelivered line", note.Line)
		}
	}()
	deq, ack := listen.Typed[Note](q)

	// The end of the text ends the program, as Ctrl-C does.
	end := func() {
		if l.complete() {
			go q.Close() // Await answers the same
		}
	}

	// One producer. It stops when the kernel begins to refuse.
	var work sync.WaitGroup
	work.Go(func() {
		defer end()
		defer close(enq)
		for lines.Scan() {
			note := Note{Line: int(l.sent.Load()) + 1, Text: lines.Text()}
			select {
			case enq <- note:
				l.sent.Add(1)
			case <-q.Done():
				return
			}
		}
		l.read.Store(true)
	})

	// Two consumers. Each seventh line fails the first time.
	for name := range 2 {
		work.Go(func() {
			for msg := range deq {
				if msg.Attempt > 1 {
					l.again.Add(1)
				}
				if msg.Object.Line%7 == 0 && msg.Attempt == 1 {
					l.nacked.Add(1)
					ack <- msg.Fail(errors.New("not today"))
					continue
				}
				fmt.Fprintf(out, "consumer %d, attempt %d, line %3d: %.60s\n", name+1, msg.Attempt, msg.Object.Line, msg.Object.Text)
				l.acked.Add(1)
				ack <- msg
				end()
			}
		})
	}

	err = q.Await()
	work.Wait()
	if err == nil {
		err = lines.Err()
	}
	return errors.Join(err, l.print(out, queue))
}

func (l *ledger) print(out io.Writer, queue *embedded.Queue) error {
	left := queue.Len() + queue.InFlight()
	fmt.Fprintf(out, `
sent       %5d
refused    %5d   came after the end had begun
processed  %5d
in queue   %5d
failed     %5d   once, and redelivered %d
`, l.sent.Load(), l.refused.Load(), l.acked.Load(), left, l.nacked.Load(), l.again.Load())
	if sum := l.refused.Load() + l.acked.Load() + int64(left); sum != l.sent.Load() {
		return fmt.Errorf("the ledger does not add up: sent %d, accounted for %d", l.sent.Load(), sum)
	}
	fmt.Fprintln(out, "the ledger adds up")
	return nil
}

// input is the file of the first argument, what is piped in, or the text that ships.
func input(args []string, stdin *os.File) (*bufio.Scanner, error) {
	scan := func(r io.Reader) *bufio.Scanner {
		s := bufio.NewScanner(r)
		s.Buffer(nil, 1<<20)
		return s
	}
	if len(args) > 0 {
		raw, err := os.ReadFile(args[0])
		return scan(bytes.NewReader(raw)), err
	}
	if info, err := stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice == 0 {
		raw, err := io.ReadAll(stdin)
		if err != nil {
			return nil, err
		}
		if len(raw) > 0 {
			return scan(bytes.NewReader(raw)), nil
		}
	}
	return scan(bytes.NewReader(text)), nil
}
