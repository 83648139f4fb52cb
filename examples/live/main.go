// Live is a shop in memory to look at: orders, payments, mail and scans go through two
// kernels, some consumers are slow now and then, some fail, and a dead-letter channel is not
// read for a while. It serves the ledger as a page on this machine, and draws it in the
// terminal:
//
//	go run ./examples/live
//	go run ./examples/live -for 10s # ends by itself
//
// Ctrl-C drains, and prints that the ledger adds up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/ledger/top"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "live:", err)
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out *os.File) error {
	flags := flag.NewFlagSet("live", flag.ContinueOnError)
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to serve; one without a host is on 127.0.0.1")
	length := flags.Duration("for", 0, "`time` to run; 0: until Ctrl-C")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *length)
		defer cancel()
	}

	s, err := newShop()
	if err != nil {
		return err
	}
	server, url, err := serve(*addr, ledger.Handler(s.kernels()))
	if err != nil {
		return errors.Join(err, s.close())
	}
	defer server.Close()

	// The view ends after the kernels, so that one sees them drain.
	var view sync.WaitGroup
	viewing, stop := context.WithCancel(context.Background())
	if isTerminal(out) {
		view.Go(func() {
			_ = top.Live(viewing, out, url, func(context.Context) (ledger.Snapshot, error) { return ledger.Take(s.kernels()), nil })
		})
	} else {
		fmt.Fprintln(out, url)
	}
	err = s.run(ctx)
	stop()
	view.Wait()
	return errors.Join(err, s.print(out))
}

// serve a handler on an address. Without authentication it is for this machine alone.
func serve(addr string, h http.Handler) (*http.Server, string, error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, "", fmt.Errorf("%w (-addr says where else)", err)
	}
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
		l.Close()
		return nil, "", fmt.Errorf("-addr %s is not of this machine alone: want 127.0.0.1", addr)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(l) }()
	return server, "http://" + l.Addr().String(), nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// print the end of the ledger, and hold it against what the queues have.
func (s *shop) print(out *os.File) error {
	snapshot := ledger.Take(s.kernels())
	var confirmed, acked int64
	for _, k := range snapshot.Kernels {
		for _, c := range k.Emit {
			confirmed += c.Confirmed
		}
		for _, c := range k.Listen {
			acked += c.Acked
		}
	}
	left := 0
	for _, q := range s.queues {
		left += q.Len() + q.InFlight() + len(q.DeadLetters())
	}
	fmt.Fprintf(out, "confirmed %d = acknowledged %d + in queues %d\n", confirmed, acked, left)
	if err := snapshot.Check(); err != nil {
		return err
	}
	if confirmed != acked+int64(left) {
		return errors.New("the ledger and the queues do not agree")
	}
	fmt.Fprintln(out, "the ledger adds up")
	return nil
}
