package kernel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/core/listen"
)

// Memo is 1 KiB of JSON.
type Memo struct {
	Text string `json:"text"`
}

// An invocation with 10 records of 1 KiB costs little beside the work of its consumer:
// decoding included, as a hand-written handler does it as well.
func BenchmarkBudgetBridge(b *testing.B) {
	const records = 10
	body, _ := json.Marshal(Memo{strings.Repeat("x", 1024-11)})
	f := &function{serve: make(chan driver.Serve, 1)}
	q, err := kernel.NewListener(f, quiet(swarm.WithBarrier(swarm.NewBarrier()))...)
	if err != nil {
		b.Fatal(err)
	}
	deq, ack := listen.Typed[Memo](q)
	go work(deq, ack, nil)
	go q.Run(context.Background())
	serve := <-f.serve
	batch := func() []driver.Bag {
		bags := make([]driver.Bag, records)
		for i := range bags {
			bags[i] = driver.Bag{Category: "Memo", Body: body, ID: fmt.Sprint(i)}
		}
		return bags
	}
	measure := func(f func([]driver.Bag)) (perRecord time.Duration, allocs float64) {
		const invocations = 2000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		for range invocations {
			f(batch())
		}
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		return took / invocations / records, float64(after.Mallocs-before.Mallocs) / invocations / records
	}
	invoke := func(bags []driver.Bag) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := serve(ctx, bags); err != nil {
			b.Fatal(err)
		}
	}
	measure(invoke)
	_, made := measure(func([]driver.Bag) {})
	took, allocs := measure(invoke)
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(took.Nanoseconds())/1000, "µs/record")
	b.ReportMetric(50, "max-µs/record")
	b.ReportMetric(allocs-made, "allocs/record")
	b.ReportMetric(8, "max-allocs/record")
}
