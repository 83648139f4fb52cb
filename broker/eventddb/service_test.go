package eventddb_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// instance is one of the processes of a service.
type instance struct {
	q    *kernel.Listener
	errs chan error
	done chan struct{}
}

// service is what all its instances have seen.
type service struct {
	*testing.T
	fake  *fake
	store eventddb.Store

	mu   sync.Mutex
	seen map[string][]string // names by shard, in the order they were handed over
	fail func(shard, name string, attempt int) error
	work time.Duration
}

func newService(t *testing.T, f *fake) *service {
	return &service{T: t, fake: f, store: eventddb.NewMemory(), seen: map[string][]string{}}
}

func (s *service) start(name string, edit ...func(*eventddb.Builder)) *instance {
	s.Helper()
	i := &instance{errs: make(chan error, 10_000), done: make(chan struct{})}
	b := eventddb.Listener().WithService(s.fake).WithStore(s.store).WithLease(9*time.Second).WithInstance(name).WithPoller().
		WithKernel(swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithStdErr(i.errs), swarm.WithBarrier(swarm.NewBarrier()), swarm.WithDrainTimeout(5*time.Second))
	for _, f := range edit {
		f(b)
	}
	var err error
	if i.q, err = b.Build("users"); err != nil {
		s.Fatal(err)
	}
	deq, ack := eventddb.Listen[User](i.q)
	go func() {
		defer close(i.done)
		for msg := range deq {
			user, err := msg.Object.New()
			if err != nil {
				ack <- msg.Fail(err)
				continue
			}
			time.Sleep(s.work)
			s.mu.Lock()
			s.seen[user.ID] = append(s.seen[user.ID], user.Name)
			if s.fail != nil {
				err = s.fail(user.ID, user.Name, msg.Attempt)
			}
			s.mu.Unlock()
			if err != nil {
				ack <- msg.Fail(err)
				continue
			}
			ack <- msg
		}
	}()
	go i.q.Run(context.Background())
	return i
}

func (s *service) stop(all ...*instance) {
	s.Helper()
	for _, i := range all {
		if err := i.q.Close(); err != nil {
			s.Errorf("close: %v", err)
		}
		<-i.done
	}
}

func (s *service) got(shard string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.seen[shard], " ")
}

func (s *service) leases() map[string]eventddb.Lease {
	list, err := s.store.Load(context.Background(), arn)
	if err != nil {
		s.Error(err)
	}
	all := map[string]eventddb.Lease{}
	for _, l := range list {
		all[l.Shard] = l
	}
	return all
}

func names(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

func TestServiceReadsShardsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1", "s2")
		f.page = 1
		f.put("s1", names("a", 30)...)
		f.put("s2", names("b", 3)...)
		s := newService(t, f)
		one := s.start("one")
		time.Sleep(5 * time.Second)
		f.put("s1", "later")
		time.Sleep(5 * time.Second)
		if got, want := s.got("s1"), strings.Join(append(names("a", 30), "later"), " "); got != want {
			t.Errorf("got %s", got)
		}
		if got := s.got("s2"); got != "b0 b1 b2" {
			t.Errorf("got %s", got)
		}
		before := f.count("GetRecords")
		time.Sleep(10 * time.Second)
		if n := f.count("GetRecords") - before; n > 22 {
			t.Errorf("%d requests in 10 s for two idle shards", n)
		}
		s.stop(one)
		for shard, l := range s.leases() {
			if shard != "beginning" && (l.Owner != "" || l.Sequence == "") {
				t.Errorf("after Close: %+v", l)
			}
		}
		// It goes on where it stopped.
		f.put("s1", "again")
		two := s.start("two")
		time.Sleep(5 * time.Second)
		if got := s.got("s1"); !strings.HasSuffix(got, "later again") {
			t.Errorf("got %s", got)
		}
		s.stop(two)
	})
}

func TestParentsAreFinishedBeforeChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("p")
		f.put("p", "1", "2")
		s := newService(t, f)
		one := s.start("one")
		time.Sleep(5 * time.Second)
		// A split, and a merge of what came of it, while the parent is not read to its end.
		var order []string
		s.mu.Lock()
		s.fail = func(shard, name string, _ int) error { order = append(order, shard); return nil }
		s.mu.Unlock()
		f.put("p", "3")
		f.add("c1", "p")
		f.add("c2", "p")
		f.add("g", "c1")
		f.put("g", "6")
		f.put("c1", "4")
		f.put("c2", "5")
		f.close("p", "c1")
		time.Sleep(30 * time.Second)
		s.mu.Lock()
		got := strings.Join(order, " ")
		s.mu.Unlock()
		if got != "p c1 c2 g" && got != "p c2 c1 g" && got != "p c1 g c2" {
			t.Errorf("order %s", got)
		}
		if l := s.leases()["p"]; !l.Done {
			t.Errorf("got %+v", l)
		}
		// A shard that is no more has no lease.
		f.mu.Lock()
		f.shards = f.shards[1:]
		f.mu.Unlock()
		time.Sleep(30 * time.Second)
		if _, ok := s.leases()["p"]; ok {
			t.Error("the lease of a shard that is gone stays")
		}
		s.stop(one)
	})
}

func TestANackHoldsItsShardUpAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1", "s2")
		f.put("s1", "a", "bad", "c")
		f.put("s2", names("b", 5)...)
		s := newService(t, f)
		healed := false
		s.fail = func(_, name string, attempt int) error {
			if name == "bad" && !healed {
				return errBoom
			}
			return nil
		}
		one := s.start("one")
		time.Sleep(time.Minute)
		if got := s.got("s1"); !strings.HasPrefix(got, "a bad bad bad") || strings.Contains(got, "c") || strings.Count(got, "bad") > 12 {
			t.Errorf("got %s", got)
		}
		if got := s.got("s2"); got != "b0 b1 b2 b3 b4" {
			t.Errorf("the other shard: %s", got)
		}
		seq := s.leases()["s1"].Sequence
		if !strings.HasSuffix(seq, "1") {
			t.Errorf("checkpoint %s", seq)
		}
		s.mu.Lock()
		healed = true
		s.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if got := s.got("s1"); !strings.HasSuffix(got, "bad c") {
			t.Errorf("got %s", got)
		}
		s.stop(one)
	})
}

func TestARecordIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.put("s1", "a", "bad", "c")
		s := newService(t, f)
		s.fail = func(_, name string, _ int) error {
			if name == "bad" {
				return errBoom
			}
			return nil
		}
		var failures []eventddb.Failure
		refuse := 2
		one := s.start("one", func(b *eventddb.Builder) {
			b.WithMaxAttempts(3).WithOnFailure(func(_ context.Context, x eventddb.Failure) error {
				if refuse--; refuse == 1 {
					panic("the queue for them is nil")
				} else if refuse == 0 {
					return errors.New("the queue for them is down")
				}
				failures = append(failures, x)
				return nil
			})
		})
		time.Sleep(10 * time.Minute)
		if got := s.got("s1"); got != "a bad bad bad bad bad c" {
			t.Errorf("got %s", got)
		}
		if len(failures) != 1 || failures[0].Attempts != 5 || !errors.Is(failures[0].Err, errBoom) || failures[0].Shard != "s1" {
			t.Errorf("got %+v", failures)
		}
		s.stop(one)

		f.put("s1", "bad", "d")
		two := s.start("two", func(b *eventddb.Builder) { b.WithMaxAge(30 * time.Second) })
		time.Sleep(10 * time.Minute)
		if got := s.got("s1"); !strings.HasSuffix(got, "d") {
			t.Errorf("got %s", got)
		}
		s.stop(two)
	})
}

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.put("s1", "old")
		time.Sleep(time.Hour)
		f.put("s1", "young")
		time.Sleep(time.Minute)
		s := newService(t, f)
		at := s.start("one", func(b *eventddb.Builder) { b.WithStartAt(time.Now().Add(-10 * time.Minute)) })
		time.Sleep(5 * time.Second)
		if got := s.got("s1"); got != "young" {
			t.Errorf("from a time on: got %s", got)
		}
		s.stop(at)

		s = newService(t, f)
		latest := s.start("one", func(b *eventddb.Builder) { b.WithStartAtLatest() })
		time.Sleep(5 * time.Second)
		s.stop(latest)
		f.put("s1", "while nobody reads")
		time.Sleep(time.Minute)
		again := s.start("two", func(b *eventddb.Builder) { b.WithStartAtLatest() })
		time.Sleep(5 * time.Second)
		if got := s.got("s1"); got != "while nobody reads" {
			t.Errorf("latest: got %s", got)
		}
		s.stop(again)
	})
}

func TestIteratorsExpireAndDataIsTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.put("s1", names("a", 3)...)
		s := newService(t, f)
		f.life = time.Second // shorter than what consumers take
		s.work = 2 * time.Second
		one := s.start("one")
		time.Sleep(20 * time.Second)
		f.put("s1", "x")
		time.Sleep(20 * time.Second)
		if got := s.got("s1"); got != "a0 a1 a2 x" {
			t.Errorf("got %s", got)
		}
		s.stop(one)
		f.life = time.Hour
		f.put("s1", names("lost", 5)...)
		f.put("s1", "kept")
		f.trim("s1", 9)
		two := s.start("two")
		time.Sleep(20 * time.Second)
		if got := s.got("s1"); got != "a0 a1 a2 x kept" {
			t.Errorf("got %s", got)
		}
		found := false
		for len(two.errs) > 0 {
			err := <-two.errs
			found = found || errors.Is(err, eventddb.ErrTrimmed) && strings.Contains(err.Error(), "ago")
		}
		if !found {
			t.Error("the gap is not reported")
		}
		s.stop(two)
	})
}

func TestOutagesCostNoHotLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.put("s1", names("a", 10)...)
		s := newService(t, f)
		var up atomic.Bool
		f.fault = func(op, _ string, n int) error {
			if !up.Load() && op != "ListStreams" {
				return &types.LimitExceededException{}
			}
			if n%3 == 0 && op == "GetRecords" {
				return &types.InternalServerError{}
			}
			return nil
		}
		one := s.start("one")
		time.Sleep(2 * time.Minute)
		if n := f.count("DescribeStream"); n > 25 {
			t.Errorf("%d requests in two minutes of an outage", n)
		}
		up.Store(true)
		time.Sleep(2 * time.Minute)
		if got := s.got("s1"); got != strings.Join(names("a", 10), " ") {
			t.Errorf("got %s", got)
		}
		s.stop(one)
	})
}

// A request that fails is no message: not in the ledger, and not in the error.
func TestARequestThatFailsIsNoMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.fault = func(op, _ string, n int) error {
			if op == "GetRecords" && n <= 3 {
				return errBoom
			}
			return nil
		}
		s := newService(t, f)
		one := s.start("one")
		time.Sleep(20 * time.Second)
		if l := one.q.Stats().Listen[eventddb.Category]; l != (swarm.ListenStats{}) {
			t.Errorf("nothing was written: %+v", l)
		}
		for range 3 {
			if e, ok := errors.AsType[*swarm.ListenError](<-one.errs); !ok || e.Op != "receive" || e.ID != "" || !errors.Is(e, errBoom) {
				t.Errorf("reported: %v", e)
			}
		}
		s.stop(one)
	})
}

// An iterator that has expired is made again. If all have, something else is wrong.
func TestIteratorsThatExpireAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.put("s1", "a")
		f.fault = func(op, _ string, n int) error {
			if op == "GetRecords" && n <= 3 {
				return &types.ExpiredIteratorException{}
			}
			return nil
		}
		s := newService(t, f)
		one := s.start("one")
		time.Sleep(100 * time.Millisecond)
		if n := f.count("GetRecords"); n > 2 {
			t.Errorf("%d requests at once", n)
		}
		time.Sleep(time.Minute)
		if got := s.got("s1"); got != "a" || len(one.errs) == 0 {
			t.Errorf("got %s, %d reports", got, len(one.errs))
		}
		s.stop(one)
	})
}

// DynamoDB takes five requests a second for a shard.
func TestABusyShardIsAskedFiveTimesASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		s := newService(t, f)
		one := s.start("one")
		time.Sleep(5 * time.Second)
		before := f.count("GetRecords")
		for i := range 10_000 {
			f.put("s1", fmt.Sprint("x", i))
			time.Sleep(time.Millisecond)
		}
		if n := f.count("GetRecords") - before; n > 5*10+1 {
			t.Errorf("%d requests in 10 s", n)
		}
		s.stop(one)
	})
}

func TestInstancesShareShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []string
		for i := range 200 {
			ids = append(ids, fmt.Sprintf("s%03d", i))
		}
		f := newFake(ids...)
		s := newService(t, f)
		total := 0
		put := func(round int) {
			for _, id := range ids {
				f.put(id, fmt.Sprint(round))
				total++
			}
		}
		var all []*instance
		owners := func() map[string]int {
			n := map[string]int{}
			for shard, l := range s.leases() {
				if shard != "beginning" {
					n[l.Owner]++
				}
			}
			return n
		}
		for round := range 5 {
			all = append(all, s.start(fmt.Sprint("instance", round)))
			put(round)
			time.Sleep(2 * time.Minute)
			n := owners()
			for i := range all {
				if got := n[fmt.Sprint("instance", i)]; got < 200/len(all) || got > 200/len(all)+1 {
					t.Errorf("%d instances: %v", len(all), n)
					break
				}
			}
		}
		s.stop(all[0], all[3])
		put(5)
		time.Sleep(2 * time.Minute)
		if n := owners(); len(n) != 3 {
			t.Errorf("3 instances: %v", n)
		}
		s.stop(all[1], all[2], all[4])
		for _, id := range ids {
			// Handed over gracefully, nothing comes twice.
			if got := s.got(id); got != "0 1 2 3 4 5" {
				t.Errorf("%s: %s", id, got)
			}
		}
	})
}

// partition is a store that an instance is cut off from.
type partition struct {
	eventddb.Store
	mu  sync.Mutex
	cut bool
}

func (p *partition) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
}

func (p *partition) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		return errors.New("no connection")
	}
	return nil
}

func (p *partition) Load(ctx context.Context, stream string) ([]eventddb.Lease, error) {
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.Store.Load(ctx, stream)
}

func (p *partition) Put(ctx context.Context, stream string, l eventddb.Lease) error {
	if err := p.err(); err != nil {
		return err
	}
	return p.Store.Put(ctx, stream, l)
}

// An instance that is cut off stops before another one takes its shard: nothing that it
// acknowledges later moves a checkpoint.
func TestALeaseThatEndsIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake("s1")
		f.put("s1", names("a", 100)...)
		s := newService(t, f)
		s.work = time.Second
		shared := s.store
		p := &partition{Store: shared}
		s.store = p
		one := s.start("one")
		time.Sleep(10500 * time.Millisecond)
		s.store = shared
		two := s.start("two")
		time.Sleep(5 * time.Second)
		p.set(true)
		time.Sleep(30 * time.Second)
		if l := s.leases()["s1"]; l.Owner != "two" {
			t.Errorf("the lease is %+v", l)
		}
		time.Sleep(3 * time.Minute)
		got := strings.Fields(s.got("s1"))
		// Once it is the other's, no record of the first comes in between.
		last, repeats := -1, 0
		for _, name := range got {
			n := slices.Index(names("a", 100), name)
			if n <= last {
				repeats++
				if n < last-15 {
					t.Errorf("%s comes after a%d: the checkpoint was far behind", name, last)
				}
			}
			last = n
		}
		if last != 99 || repeats > 1 {
			t.Errorf("%d repeats, the last is %d: %v", repeats, last, got)
		}
		p.set(false)
		_ = one.q.Close()
		s.stop(two)
	})
}

func TestStores(t *testing.T) {
	for name, store := range map[string]eventddb.Store{
		"memory": eventddb.NewMemory(), "file": eventddb.NewFile(filepath.Join(t.TempDir(), "leases.json")),
	} {
		t.Run(name, func(t *testing.T) { checkStore(t, store) })
	}
}

// checkStore is the contract of a store.
func checkStore(t *testing.T, store eventddb.Store) {
	ctx := t.Context()
	if list, err := store.Load(ctx, "x"); err != nil || len(list) != 0 {
		t.Errorf("new: %v, %v", list, err)
	}
	l := eventddb.Lease{Shard: "s1", Owner: "me", Heir: "you", Sequence: "7", At: time.Unix(1700000000, 5).UTC(), Done: true}
	if err := store.Put(ctx, "x", l); err != nil {
		t.Fatal(err)
	}
	if err := store.Put(ctx, "x", l); !errors.Is(err, eventddb.ErrConflict) {
		t.Errorf("written twice as new: %v", err)
	}
	l.Version = 1
	if list, err := store.Load(ctx, "x"); err != nil || len(list) != 1 || list[0] != l {
		t.Errorf("got %+v, %v; want %+v", list, err, l)
	}
	if list, err := store.Load(ctx, "y"); err != nil || len(list) != 0 {
		t.Errorf("another stream has %v, %v", list, err)
	}
	next := eventddb.Lease{Shard: "s1", Version: 1}
	if err := store.Put(ctx, "x", next); err != nil {
		t.Error(err)
	}
	if err := store.Put(ctx, "x", l); !errors.Is(err, eventddb.ErrConflict) {
		t.Errorf("an old version: %v", err)
	}
	var wins sync.WaitGroup
	var mu sync.Mutex
	n := 0
	for range 10 {
		wins.Go(func() {
			err := store.Put(ctx, "x", eventddb.Lease{Shard: "s1", Version: 2, Owner: "one of them"})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				n++
			} else if !errors.Is(err, eventddb.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wins.Wait()
	if n != 1 {
		t.Errorf("%d of 10 were first", n)
	}
	if err := errors.Join(store.Delete(ctx, "x", "s1"), store.Delete(ctx, "x", "s1"), store.Delete(ctx, "z", "s")); err != nil {
		t.Error(err)
	}
	if list, err := store.Load(ctx, "x"); err != nil || len(list) != 0 {
		t.Errorf("deleted: %v, %v", list, err)
	}
}
