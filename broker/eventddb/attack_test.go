package eventddb

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/driver"
)

func attacked(store Store) *stream {
	return &stream{
		arn: "a", store: store, instance: "i", timeout: 5 * time.Second, lease: 9 * time.Second, batch: 10, again: backoff.Constant(time.Second),
		log: slog.New(slog.DiscardHandler), workers: map[string]*worker{}, seen: map[string]sighting{},
	}
}

func recordOf(seq string, at time.Time) types.Record {
	return types.Record{EventID: &seq, Dynamodb: &types.StreamRecord{SequenceNumber: &seq, ApproximateCreationDateTime: &at}}
}

// faster is a store in which somebody else writes the first lease of the parent.
type faster struct{ Store }

func (f faster) Put(ctx context.Context, stream string, l Lease) error {
	if l.Shard == "parent" && l.Version == 0 {
		_ = f.Store.Put(ctx, stream, l)
		return ErrConflict
	}
	return f.Store.Put(ctx, stream, l)
}

// A child whose parent's lease was written by somebody else a moment ago is not read yet.
func TestAttackAChildOfAParentThatAnotherInstanceHasJustMet(t *testing.T) {
	s := attacked(faster{NewMemory()})
	graph, known := map[string]string{"parent": "", "child": "parent"}, map[string]Lease{beginning: {Shard: beginning, Version: 1}}
	if err := s.tidy(t.Context(), graph, known); err != nil {
		t.Fatal(err)
	}
	for _, l := range s.divide(graph, known, time.Now()).take {
		if l.Shard == "child" {
			t.Error("the child is taken before its parent was read")
		}
	}
}

// Times of records are not exact: an older one behind one that is handed over moves no
// checkpoint; nor does what is no record.
func TestAttackAnOlderRecordBehindAYoungerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attacked(NewMemory())
		now := time.Now()
		var w *worker
		handed := 0
		s.serve = func(_ context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			if seq := w.current().Sequence; seq != "0" {
				t.Errorf("the checkpoint is %q before the records are settled", seq)
			}
			handed += len(bags)
			return nil, errBoomed
		}
		w = s.newWorker(Lease{Shard: "p", At: now}, now)
		w.deliver([]types.Record{recordOf("0", now.Add(-time.Minute)), recordOf("1", now), recordOf("2", now.Add(-time.Second)), {}, recordOf("3", now)})
		if handed != 4 {
			t.Errorf("%d handed over", handed)
		}
		w.timer.Stop()
	})
}

var errBoomed = errors.New("boom")

type broken struct{ Store }

func (broken) Put(context.Context, string, Lease) error      { return errBoomed }
func (broken) Load(context.Context, string) ([]Lease, error) { return nil, errBoomed }

// At most once nothing is handed over before its checkpoint is written, and what a kernel
// that ends refuses is not passed by.
func TestAttackAtMostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attacked(broken{NewMemory()})
		s.ahead, s.batch = true, 1
		s.serve = func(_ context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			t.Errorf("%s is handed over, and its checkpoint was not written", bags[0].ID)
			return nil, nil
		}
		w := s.newWorker(Lease{Shard: "p"}, time.Now())
		if w.deliver([]types.Record{recordOf("1", time.Now())}) {
			t.Error("delivered")
		}
		s.store = NewMemory()
		refused := 0
		s.serve = func(context.Context, []driver.Bag) ([]driver.Settlement, error) { refused++; return nil, errBoomed }
		w = s.newWorker(Lease{Shard: "p"}, time.Now())
		if w.deliver([]types.Record{recordOf("1", time.Now()), recordOf("2", time.Now())}) || refused != 1 || w.current().Sequence != "" {
			t.Errorf("%d batches refused, the checkpoint is %q", refused, w.current().Sequence)
		}
		w.timer.Stop()
	})
}

type hanging struct{ Store }

func (hanging) Put(ctx context.Context, _ string, _ Lease) error { <-ctx.Done(); return ctx.Err() }

// A worker whose store hangs ends before its lease does.
func TestAttackAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attacked(hanging{NewMemory()})
		began := time.Now()
		w := s.newWorker(Lease{Shard: "p", Version: 1}, began)
		time.Sleep(5 * time.Second)
		go w.renew(context.Background(), true)
		<-w.working.Done()
		if took := time.Since(began); took >= s.lease {
			t.Errorf("it worked for %s with a lease of %s", took, s.lease)
		}
		time.Sleep(time.Minute)
	})
}

// When what was emitted fails, the record that did it is found, and its neighbours are not
// given up.
func TestAttackAnEmittedValueFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := attacked(NewMemory())
		s.attempts = 3
		var given []string
		s.onFailure = func(_ context.Context, f Failure) error {
			given = append(given, f.Record.SequenceNumber)
			return nil
		}
		s.serve = func(_ context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			var out []driver.Settlement
			var err error
			for i := range bags {
				out = append(out, driver.Settlement{Bag: &bags[i], Outcome: driver.Ack})
				if bags[i].ID == "3" {
					err = errBoomed
				}
			}
			return out, err
		}
		w := s.newWorker(Lease{Shard: "p"}, time.Now())
		var in []types.Record
		for _, seq := range []string{"1", "2", "3", "4"} {
			in = append(in, recordOf(seq, time.Now()))
		}
		if !w.deliver(in) || len(given) != 1 || given[0] != "3" || w.current().Sequence != "4" {
			t.Errorf("given up %v, the checkpoint is %s", given, w.current().Sequence)
		}
		w.timer.Stop()
	})
}
