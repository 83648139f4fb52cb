package embedded_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// Memo is what the benchmarks send: some fields, 130 bytes of JSON.
type Memo struct {
	ID    string   `json:"id"`
	Title string   `json:"title"`
	Text  string   `json:"text"`
	Tags  []string `json:"tags"`
	N     int      `json:"n"`
}

var memo = Memo{"id-1234", "some title", "a text of some length that people would write in a memo", []string{"a", "b"}, 42}

// cost of one message.
type cost struct{ ns, allocs float64 }

func measure(n int, f func(n int)) cost {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	began := time.Now()
	f(n)
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return cost{float64(took.Nanoseconds()) / float64(n), float64(after.Mallocs-before.Mallocs) / float64(n)}
}

// plain sends n memos over plain channels, with the same JSON.
func plain(lanes int) func(n int) {
	return func(n int) {
		var all sync.WaitGroup
		for range lanes {
			ch := make(chan []byte)
			all.Go(func() {
				for range n / lanes {
					raw, err := json.Marshal(memo)
					if err != nil {
						panic(err)
					}
					ch <- raw
				}
				close(ch)
			})
			all.Go(func() {
				for raw := range ch {
					var m Memo
					if err := json.Unmarshal(raw, &m); err != nil {
						panic(err)
					}
				}
			})
		}
		all.Wait()
	}
}

// through makes a kernel, and returns how to send memos through its queue.
func through(lanes int, opts ...swarm.Option) (send func(n int), end func()) {
	q := swarm.Must(embedded.Endpoint().WithKernel(opts...).Build(""))
	go q.Run(context.Background())
	var enqs []chan<- Memo
	var deqs []<-chan swarm.Msg[Memo]
	var acks []chan<- swarm.Msg[Memo]
	for i := range lanes {
		category := fmt.Sprint("memo", i)
		enq, _ := emit.Typed[Memo](q, emit.Category(category))
		deq, ack := listen.Typed[Memo](q, listen.Category(category))
		enqs, deqs, acks = append(enqs, enq), append(deqs, deq), append(acks, ack)
	}
	send = func(n int) {
		var all sync.WaitGroup
		for i := range lanes {
			all.Go(func() {
				for range n / lanes {
					enqs[i] <- memo
				}
			})
			all.Go(func() {
				for range n / lanes {
					acks[i] <- <-deqs[i]
				}
			})
		}
		all.Wait()
	}
	end = func() {
		for _, enq := range enqs {
			close(enq)
		}
		if err := q.Close(); err != nil {
			panic(err)
		}
	}
	return send, end
}

// compare runs both in turn, so that what disturbs one disturbs the other, and returns
// the medians of the ratio of times, of the difference of allocations, and of our time.
func compare(base, ours func(n int)) (ratio, allocs, ns float64) {
	const messages, rounds = 40_000, 7
	base(messages / 10)
	ours(messages / 10)
	var ratios, extra, times []float64
	for range rounds {
		x, y := measure(messages, base), measure(messages, ours)
		ratios = append(ratios, y.ns/x.ns)
		extra = append(extra, y.allocs-x.allocs)
		times = append(times, y.ns)
	}
	return median(ratios), median(extra), median(times)
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func BenchmarkBudgetEndToEnd(b *testing.B) {
	for _, procs := range []int{1, 2} {
		for _, window := range []int{1, 100} {
			b.Run(fmt.Sprintf("cores=%d/window=%d", procs, window), func(b *testing.B) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				most := 2.2
				if procs == 1 {
					most = 4.5
				}
				ours, end := through(1, swarm.WithEmitWindow(window))
				defer end()
				ratio, allocs, ns := compare(plain(1), ours)
				b.ReportMetric(ratio, "ratio")
				b.ReportMetric(most, "max-ratio")
				// To a tenth: ids come 64 from one allocation, and the runtime makes some.
				b.ReportMetric(math.Round(allocs*10)/10, "allocs-beyond-JSON")
				b.ReportMetric(3, "max-allocs-beyond-JSON")
				b.ReportMetric(ns, "ns/msg")
			})
		}
	}
}

// Ten lanes and ten consumers on one kernel take no longer for a message than one lane
// and one consumer do: no lock is in the way.
func BenchmarkBudgetTenLanes(b *testing.B) {
	one, endOne := through(1, swarm.WithEmitWindow(100))
	defer endOne()
	ten, endTen := through(10, swarm.WithEmitWindow(100))
	defer endTen()
	ratio, _, ns := compare(one, ten)
	b.ReportMetric(ratio, "ratio-to-one-lane")
	b.ReportMetric(1.25, "max-ratio-to-one-lane")
	b.ReportMetric(ns, "ns/msg")
}

// A kernel that has nothing to do does nothing: 100 of them over a second.
func BenchmarkBudgetIdle(b *testing.B) {
	var end []func() error
	for range 100 {
		q := swarm.Must(embedded.Endpoint().Build(""))
		listen.Typed[Memo](q)
		go q.Run(context.Background())
		end = append(end, q.Close)
	}
	time.Sleep(200 * time.Millisecond) // they have started
	before := cpu()
	time.Sleep(time.Second)
	b.ReportMetric(float64((cpu() - before).Microseconds()), "µs-CPU/s-of-100")
	b.ReportMetric(5000, "max-µs-CPU/s-of-100")
	for _, f := range end {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What a pair of open emit channels and a pair of open listen channels take.
func BenchmarkBudgetMemory(b *testing.B) {
	const pairs = 1000
	q := swarm.Must(embedded.Endpoint().Build(""))
	var enqs []chan<- Memo
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range pairs {
		enq, _ := emit.Typed[Memo](q, emit.Category(fmt.Sprint("memo", i)))
		listen.Typed[Memo](q, listen.Category(fmt.Sprint("memo", i)))
		enqs = append(enqs, enq)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := func(m runtime.MemStats) uint64 { return m.HeapAlloc + m.StackInuse }
	b.ReportMetric(float64(used(after)-used(before))/pairs/1024, "KiB/emit-and-listen")
	b.ReportMetric(16, "max-KiB/emit-and-listen")
	for _, enq := range enqs {
		close(enq)
	}
	if err := q.Close(); err != nil {
		b.Fatal(err)
	}
}
