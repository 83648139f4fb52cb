package eventddb_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay one random schedule")
	seedsFlag = flag.Int("seeds", 100, "how many random schedules to run")
)

// TestSchedules: shards split, merge and close, instances come, go, crash and are cut off
// from their store, requests fail, consumers fail and hang. In the end each record was
// handed over and acknowledged, in the order of its shard; no checkpoint was ever ahead of a
// record that was not acknowledged, no child was read before its parent. Replay by -seed.
func TestSchedules(t *testing.T) {
	first, n := uint64(time.Now().UnixNano())%1_000_000_000, *seedsFlag
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for i := range n {
		w := &drama{seed: first + uint64(i)}
		synctest.Test(t, w.run)
		if len(w.faults) > 0 {
			t.Fatalf("replay by -run TestSchedules -seed %d\n%s", w.seed, strings.Join(w.faults, "\n"))
		}
	}
}

// drama is one schedule and its ledger.
type drama struct {
	seed uint64
	fake *fake

	mu     sync.Mutex
	rand   *rand.Rand
	calm   bool // the end: nothing fails any more
	faults []string
	acked  map[string]map[string]bool // by shard and name
	first  map[string][]string        // by shard, in the order in which they were first acknowledged
	store  eventddb.Store
}

func (d *drama) chance(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.calm && d.rand.IntN(n) == 0
}

func (d *drama) n(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rand.IntN(n)
}

func (d *drama) fault(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, fmt.Sprintf(format, args...))
}

// actor is an instance that may be cut off, which is also how it crashes.
type actor struct {
	*drama
	q    *kernel.Listener
	link *partition
	done chan struct{}
}

// Put of an actor is held against the ledger.
type checked struct {
	*partition
	d *drama
}

func (c checked) Put(ctx context.Context, stream string, l eventddb.Lease) error {
	err := c.partition.Put(ctx, stream, l)
	if err == nil && l.Sequence != "" {
		c.d.checkpoint(l)
	}
	return err
}

// checkpoint fails when a record before it is not acknowledged.
func (d *drama) checkpoint(l eventddb.Lease) {
	d.fake.mu.Lock()
	var before []string
	for _, r := range d.fake.find(l.Shard).records {
		if *r.Dynamodb.SequenceNumber <= l.Sequence {
			before = append(before, r.Dynamodb.NewImage["name"].(*types.AttributeValueMemberS).Value)
		}
	}
	d.fake.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range before {
		if !d.acked[l.Shard][name] {
			d.faults = append(d.faults, fmt.Sprintf("the checkpoint of %s is ahead of %s", l.Shard, name))
		}
	}
}

func (d *drama) start(t *testing.T, name string) *actor {
	a := &actor{drama: d, link: &partition{Store: d.store}, done: make(chan struct{})}
	q, err := eventddb.Listener().WithService(d.fake).WithStore(checked{a.link, d}).WithLease(6*time.Second).WithInstance(name).WithBatchSize(1+d.n(8)).WithPoller().
		WithKernel(swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithBarrier(swarm.NewBarrier()), swarm.WithDrainTimeout(3*time.Second), swarm.WithTimeToFlight(20*time.Second)).
		Build(arn)
	if err != nil {
		t.Fatal(err)
	}
	a.q = q
	deq, ack := eventddb.Listen[User](q)
	go func() {
		defer close(a.done)
		for msg := range deq {
			a.consume(msg, ack)
		}
	}()
	go q.Run(context.Background())
	return a
}

func (d *drama) consume(msg swarm.Msg[eventddb.Change[User]], ack chan<- swarm.Msg[eventddb.Change[User]]) {
	user, err := msg.Object.New()
	if err != nil {
		d.fault("%v", err)
	}
	d.mu.Lock()
	for _, s := range d.fake.lineage(user.ID) {
		if len(d.acked[s.id]) < len(s.records) {
			d.faults = append(d.faults, fmt.Sprintf("%s of %s is handed over before its parent %s was read", user.Name, user.ID, s.id))
		}
	}
	d.mu.Unlock()
	time.Sleep(time.Duration(d.n(200)) * time.Millisecond)
	switch {
	case d.chance(15):
		ack <- msg.Fail(errBoom)
		return
	case d.chance(60):
		time.Sleep(25 * time.Second) // longer than TimeToFlight
	}
	if msg.Context().Err() == nil {
		d.mu.Lock()
		if d.acked[user.ID] == nil {
			d.acked[user.ID] = map[string]bool{}
		}
		if !d.acked[user.ID][user.Name] {
			d.acked[user.ID][user.Name] = true
			d.first[user.ID] = append(d.first[user.ID], user.Name)
		}
		d.mu.Unlock()
	}
	ack <- msg
}

// lineage is the parents of a shard that were closed before it was made.
func (f *fake) lineage(id string) (parents []shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := f.find(id); s != nil && s.parent != ""; {
		if s = f.find(s.parent); s != nil {
			parents = append(parents, *s)
		}
	}
	return parents
}

func (d *drama) run(t *testing.T) {
	d.rand = rand.New(rand.NewPCG(d.seed, 11))
	d.acked, d.first, d.store = map[string]map[string]bool{}, map[string][]string{}, eventddb.NewMemory()
	d.fake = newFake("s0", "s1")
	d.fake.life = 30 * time.Second
	d.fake.fault = func(op, _ string, _ int) error {
		switch {
		case d.chance(20):
			return &types.LimitExceededException{}
		case d.chance(40):
			return &types.InternalServerError{}
		case op == "GetRecords" && d.chance(60):
			return &types.ExpiredIteratorException{}
		}
		return nil
	}
	open := []string{"s0", "s1"}
	records := map[string]int{}
	actors := []*actor{d.start(t, "a0")}
	shards, instances := 2, 1
	var ended []*actor
	for range 20 + d.n(40) {
		switch d.n(10) {
		case 0: // a shard splits, or is followed by one
			i := d.n(len(open))
			parent := open[i]
			d.fake.close(parent)
			open = append(open[:i], open[i+1:]...)
			for range 1 + d.n(2) {
				child := fmt.Sprint("s", shards)
				shards++
				d.fake.add(child, parent)
				open = append(open, child)
			}
		case 1:
			if len(actors) < 5 {
				actors = append(actors, d.start(t, fmt.Sprint("a", instances)))
				instances++
			}
		case 2: // one ends
			if len(actors) > 1 {
				i := d.n(len(actors))
				_ = actors[i].q.Close()
				ended = append(ended, actors[i])
				actors = append(actors[:i], actors[i+1:]...)
			}
		case 3: // one is cut off for some time
			a := actors[d.n(len(actors))]
			a.link.set(true)
			time.Sleep(time.Duration(d.n(15)) * time.Second)
			if d.n(2) == 0 {
				a.link.set(false)
			}
		default:
			shard := open[d.n(len(open))]
			for range 1 + d.n(10) {
				d.fake.put(shard, fmt.Sprintf("%05d", records[shard]))
				records[shard]++
			}
		}
		time.Sleep(time.Duration(d.n(3000)) * time.Millisecond)
	}
	// The end: a new instance, with a good connection, reads what is left.
	d.mu.Lock()
	d.calm = true
	d.mu.Unlock()
	for _, a := range actors {
		if d.n(2) == 0 {
			a.link.set(false)
		}
	}
	actors = append(actors, d.start(t, "last"))
	deadline := time.Now().Add(2 * time.Hour)
	for !d.complete(records) && time.Now().Before(deadline) {
		time.Sleep(time.Minute)
	}
	for shard, n := range records {
		if got := d.first[shard]; len(got) != n {
			d.fault("%s: %d of %d records were acknowledged", shard, len(got), n)
		} else if !sort.StringsAreSorted(got) {
			d.fault("%s is out of order: %v", shard, got)
		}
	}
	for _, a := range append(ended, actors...) {
		a.link.set(false)
		var left *swarm.DrainError
		if err := a.q.Close(); err != nil && !errors.As(err, &left) {
			d.fault("close: %v", err)
		}
		<-a.done
	}
	time.Sleep(time.Hour)
	synctest.Wait()
}

func (d *drama) complete(records map[string]int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for shard, n := range records {
		if len(d.first[shard]) < n {
			return false
		}
	}
	return true
}
