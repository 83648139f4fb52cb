package top_test

import (
	"context"
	"fmt"
	"os"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/ledger/top"
)

// snapshot of a kernel that has accepted n orders, at second n.
func snapshot(n int64) ledger.Snapshot {
	stats := swarm.Stats{
		Emit:     map[string]swarm.EmitStats{"Order": {Accepted: 10 * n, InFlight: 4, Confirmed: 10*n - 4, Oldest: 80 * time.Millisecond}},
		Requests: map[swarm.Operation]swarm.RequestStats{swarm.OpSend: {Calls: 2 * n, Open: 1, Entries: 10 * n, InFlight: 4, Succeeded: 10*n - 4}},
	}
	return ledger.Snapshot{At: time.Date(2026, 7, 1, 12, 0, int(n), 0, time.Local), Kernels: map[string]ledger.Kernel{"orders": {Stats: stats}}}
}

// Frames have the rates since the one before.
func ExampleView() {
	v := top.View{Title: "shop", Width: 76}
	_ = v.Frame(snapshot(5))
	fmt.Print(v.Frame(snapshot(6)))
	// Output:
	// shop                                                                12:00:06
	//
	// orders  running  ✓ adds up
	//  EMIT         in/s  out/s  last 14 s      in flight      dead        oldest
	//  Order          10     10               █         4         0         80 ms
	//    ██████████████▒ 60 = 56 confirmed + 4 in flight
	//  REQUESTS    calls/s   a message   open   errors
	//  send            2.0        0.20      1        0
}

// A program shows its own ledger: next answers ledger.Take of its kernels.
func ExampleLive() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // of this example: one frame
	next := func(context.Context) (ledger.Snapshot, error) { return snapshot(6), nil }
	if err := top.Live(ctx, os.Stdout, "shop", next); err != nil {
		fmt.Println(err)
	}
	// Output:
	// shop                                                                    12:00:06
	//
	// orders  running  ✓ adds up
	//  EMIT         in/s  out/s  last 18 s          in flight      dead        oldest
	//  Order           –      –                             4         0         80 ms
	//    ███████████████▒ 60 = 56 confirmed + 4 in flight
	//  REQUESTS    calls/s   a message   open   errors
	//  send              –        0.20      1        0
}

// All counts, for awk.
func ExampleTable() {
	fmt.Print(top.Table(snapshot(6)))
	// Output:
	// KERNEL  EMIT   ACCEPTED  IN FLIGHT  DEAD LETTERS  CONFIRMED  FAILED  DROPPED  UNDELIVERED  RETRIED  REFUSED  OLDEST
	// orders  Order  60        4          0             56         0       0        0            0        0        80ms
	//
	// KERNEL  REQUEST  CALLS  OPEN  ERRORS  MESSAGES  IN FLIGHT  SUCCEEDED  FAILED  A MESSAGE
	// orders  send     12     1     0       60        4          56         0       0.20
	//
	// KERNEL  STATE    SETTLING  UNCONFIRMED  LEDGER
	// orders  running  0         0            adds up
}
