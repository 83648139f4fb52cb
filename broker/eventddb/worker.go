package eventddb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/core/driver"
)

// Failure is a record that was given up.
type Failure struct {
	Record   Record
	Shard    string
	Attempts int   // how often it was handed over
	Err      error // of the last time
}

// worker reads a shard, as long as it has the lease.
type worker struct {
	stream *stream
	shard  string

	begun   time.Time // reading begins with records of then; zero: with the oldest
	ending  chan struct{}
	ended   sync.Once
	lost    context.CancelCauseFunc // ends the work at once
	working context.Context

	gone  atomic.Bool // somebody else has the shard
	timer *time.Timer

	writing sync.Mutex // held while the lease is written
	final   bool       // it is written for the last time; guarded by writing

	mu      sync.Mutex
	lease   Lease
	written time.Time // the lease was, last
	dirty   bool      // it has news
}

var errLost = errors.New("eventddb: the lease of the shard is lost")

func (s *stream) newWorker(l Lease, taken time.Time) *worker {
	w := &worker{stream: s, shard: l.Shard, lease: l, written: taken, ending: make(chan struct{})}
	if l.Sequence == "" {
		w.begun = l.At.Truncate(time.Second) // DynamoDB rounds down when records were made
	}
	w.working, w.lost = context.WithCancelCause(context.Background())
	// Whoever sees the lease not written for its time takes it: this one ends before.
	w.timer = time.AfterFunc(time.Until(taken.Add(s.lease*9/10)), w.lose)
	return w
}

// stop ends the worker when its consumers have what is being handed over.
func (w *worker) stop() { w.ended.Do(func() { close(w.ending) }) }

// lose ends the worker at once: the contexts of its messages end, and it writes nothing.
func (w *worker) lose() {
	w.gone.Store(true)
	w.lost(errLost)
	w.stop()
}

func (w *worker) isEnding() bool {
	select {
	case <-w.ending:
		return true
	default:
		return false
	}
}

// renew writes the lease when it is due, has news, or must be. It reports whether the
// lease is as it should be.
func (w *worker) renew(ctx context.Context, must bool) bool {
	w.writing.Lock() // one at a time; the lease itself is not locked meanwhile
	defer w.writing.Unlock()
	s := w.stream
	w.mu.Lock()
	l, due := w.lease, must || w.dirty || time.Since(w.written) >= s.lease/3
	w.mu.Unlock()
	switch {
	case w.gone.Load():
		return false
	case w.final || !due:
		return true
	}
	began := time.Now()
	err := s.put(ctx, &l)
	if errors.Is(err, ErrConflict) {
		// An heir has asked for it, or somebody has taken it.
		var other Lease
		if other, err = w.reload(ctx); err == nil {
			if other.Owner != s.instance {
				w.lose()
				return false
			}
			l.Version, l.Heir = other.Version, other.Heir
			err = s.put(ctx, &l)
		}
	}
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("swarm: a lease is not renewed", "shard", w.shard, "err", err)
		}
		return false
	}
	w.mu.Lock()
	w.dirty = w.lease.Sequence != l.Sequence // moved on meanwhile
	w.lease.Version, w.lease.Heir, w.written = l.Version, l.Heir, began
	w.mu.Unlock()
	if !w.gone.Load() {
		w.timer.Reset(time.Until(began.Add(s.lease * 9 / 10)))
	}
	if l.Heir != "" && l.Heir != s.instance {
		w.stop()
	}
	return true
}

func (w *worker) reload(ctx context.Context) (Lease, error) {
	list, err := w.stream.load(ctx)
	for _, l := range list {
		if l.Shard == w.shard {
			return l, err
		}
	}
	return Lease{}, err
}

// settled moves the checkpoint: all records up to this one are.
func (w *worker) settled(r *Record) {
	if r.SequenceNumber == "" {
		return // no record of DynamoDB
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lease.Sequence, w.lease.At, w.dirty = r.SequenceNumber, r.Created, true
}

// run reads until the shard ends, or the worker has to.
func (w *worker) run(ctx context.Context) {
	done := w.read()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.stream.timeout)
	defer cancel()
	w.handOver(last, done)
	w.timer.Stop()
	w.lost(errLost)
}

// handOver writes the lease for the last time.
func (w *worker) handOver(ctx context.Context, done bool) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.final = true
	if w.gone.Load() {
		return
	}
	l := w.current()
	l.Owner, l.Heir, l.Done = l.Heir, "", done
	err := w.stream.put(ctx, &l)
	if errors.Is(err, ErrConflict) {
		if other, again := w.reload(ctx); again == nil && other.Owner == w.stream.instance {
			l.Version, l.Owner = other.Version, other.Heir
			err = w.stream.put(ctx, &l)
		}
	}
	if err != nil {
		w.stream.log.Warn("swarm: a shard is not handed over, its lease has to end", "shard", w.shard, "err", err)
	}
}

// read reports whether the shard was read to its end.
func (w *worker) read() bool {
	s := w.stream
	var iterator *string
	last := w.lease.Sequence // of what was read
	failures := 0
	for !w.isEnding() {
		if iterator == nil {
			var err error
			iterator, err = w.iterator(last)
			if err != nil {
				if gone(err) {
					w.gap()
					return true // it was trimmed away, and everything in it
				}
				failures++
				if trimmed(err) && last != "" {
					w.gap() // what is missing is told, and reading goes on with what is left
					last, w.begun = "", time.Time{}
					continue
				}
				w.complain(err, failures)
				continue
			}
		}
		asked := time.Now()
		out, err := w.records(iterator)
		switch {
		case awskit.Is[*types.ExpiredIteratorException](err):
			iterator = nil
			if failures++; failures > 1 { // the first is no failure: consumers took their time
				w.complain(err, failures)
			}
			continue
		case trimmed(err) && last != "":
			w.gap()
			last, iterator, w.begun = "", nil, time.Time{}
			continue
		case gone(err):
			w.gap()
			return true
		case err != nil:
			failures++
			iterator = nil
			w.complain(err, failures)
			continue
		}
		failures = 0
		iterator = out.NextShardIterator
		if !w.deliver(out.Records) {
			return false
		}
		for i := range out.Records {
			if c := out.Records[i].Dynamodb; c != nil && c.SequenceNumber != nil {
				last = *c.SequenceNumber
			}
		}
		if iterator == nil {
			return !w.isEnding()
		}
		if len(out.Records) == 0 {
			w.sleep(s.pause)
		} else {
			w.sleep(min(s.pause, pace) - time.Since(asked))
		}
	}
	return false
}

// iterator begins behind the last record, or where reading begins.
func (w *worker) iterator(last string) (*string, error) {
	in := &dynamodbstreams.GetShardIteratorInput{StreamArn: &w.stream.arn, ShardId: &w.shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if last != "" {
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &last
	}
	var out *dynamodbstreams.GetShardIteratorOutput
	err := w.stream.call(w.working, "get iterator of "+w.shard, func(ctx context.Context) (err error) {
		out, err = awskit.Answered(w.stream.client.GetShardIterator(ctx, in, once))
		return err
	})
	if err != nil {
		return nil, err
	}
	return out.ShardIterator, nil
}

func (w *worker) records(iterator *string) (out *dynamodbstreams.GetRecordsOutput, err error) {
	err = w.stream.call(w.working, "get records of "+w.shard, func(ctx context.Context) (err error) {
		out, err = awskit.Answered(w.stream.client.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{ShardIterator: iterator, Limit: aws.Int32(maxRecords)}, once))
		return err
	})
	return out, err
}

const maxRecords = 1000 // of an answer, says DynamoDB

// pace of requests: DynamoDB takes five a second for a shard, of all its readers.
const pace = 200 * time.Millisecond

func trimmed(err error) bool { return awskit.Is[*types.TrimmedDataAccessException](err) }

// gap tells that records are gone: they were older than a day.
func (w *worker) gap() {
	l := w.current()
	missing := "some"
	if l.Sequence != "" {
		missing = fmt.Sprintf("those behind %s, which was made %s ago", l.Sequence, time.Since(l.At).Round(time.Second))
	}
	w.stream.report(fmt.Errorf("%w: shard %s: %s", ErrTrimmed, w.shard, missing))
}

// ErrTrimmed is reported when DynamoDB has removed records before they were read, a day
// after they were written.
var ErrTrimmed = errors.New("eventddb: records were removed before they were read")

// complain reports a failure, and waits: longer each time.
func (w *worker) complain(err error, failures int) {
	if w.working.Err() != nil {
		return
	}
	w.stream.report(err)
	w.sleep(outage(failures))
}

func (w *worker) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ending:
	}
}

// item is a record on its way.
type item struct {
	record   Record
	body     []byte
	err      error // it cannot be read
	attempts int
}

// deliver hands records over, in order, until each is settled. It reports false when the
// worker has to end before.
func (w *worker) deliver(in []types.Record) bool {
	s := w.stream
	items := make([]*item, 0, len(in))
	for i := range in {
		x := newItem(&in[i], s.arn)
		if len(items) == 0 && x.err == nil && x.record.Created.Before(w.begun) {
			w.settled(&x.record) // older than what the service asked for
			continue
		}
		w.begun = time.Time{} // times are not exact: nothing is skipped behind the first
		items = append(items, x)
	}
	size := s.batch
	for len(items) > 0 {
		if w.isEnding() {
			return false
		}
		n := min(len(items), size)
		before := w.current()
		if s.ahead && !w.writeAhead(&items[n-1].record) {
			return false
		}
		bags := make([]driver.Bag, n)
		for i, x := range items[:n] {
			bags[i] = x.bag(w.shard)
		}
		settled, err := s.serve(w.working, bags)
		if w.working.Err() != nil {
			return false // what was settled meanwhile is for whoever has the shard now
		}
		if len(settled) == 0 { // the kernel ends, and nobody got them
			w.restore(before)
			return false
		}
		if s.ahead {
			items = items[n:] // what came of them does not matter
			continue
		}
		good := 0
		for err == nil && good < n && settled[good].Outcome == driver.Ack {
			good++
		}
		if good > 0 {
			w.settled(&items[good-1].record)
			size = s.batch
		}
		items = items[good:]
		if good == n {
			continue
		}
		if err == nil && settled[good].Outcome == driver.Release {
			return false // the kernel ends
		}
		if err != nil && n > 1 {
			size = 1 // something that was emitted has failed: find out by which record
			continue
		}
		cause, pause := err, time.Duration(0)
		if err == nil {
			cause, pause = settled[good].Err, settled[good].Delay
		}
		failed := items[0]
		failed.attempts++
		if err != nil {
			pause = s.again(failed.attempts)
		}
		if w.giveUp(failed, cause) {
			w.settled(&failed.record)
			items = items[1:]
			continue
		}
		if pause > 0 {
			w.sleep(pause)
		}
	}
	return true
}

// writeAhead moves the checkpoint before the hand-over, at most once, and repeats that
// until it is written. It reports false when the worker has to end before.
func (w *worker) writeAhead(r *Record) bool {
	w.settled(r)
	for failures := 1; !w.renew(w.working, true); failures++ {
		if w.isEnding() || w.working.Err() != nil {
			return false
		}
		w.sleep(outage(failures))
	}
	return w.working.Err() == nil
}

func (w *worker) current() Lease {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lease
}

// restore takes the checkpoint back to where it was.
func (w *worker) restore(before Lease) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lease.Sequence, w.lease.At, w.dirty = before.Sequence, before.At, true
}

// giveUp reports whether a record that has failed is to be skipped: it has failed too
// often, or is too old, and whoever is to take care of it has it.
func (w *worker) giveUp(x *item, cause error) bool {
	s := w.stream
	often := s.attempts > 0 && x.attempts >= s.attempts
	old := s.age > 0 && time.Since(x.record.Created) > s.age
	if !often && !old {
		return false
	}
	if s.onFailure == nil {
		s.log.Error("swarm: a record is given up", "shard", w.shard, "sequence", x.record.SequenceNumber, "attempts", x.attempts, "cause", fmt.Sprintf("%T", cause)) // its text is the consumer's, and may quote the record
		return true
	}
	if err := s.failed(w.working, Failure{Record: x.record, Shard: w.shard, Attempts: x.attempts, Err: cause}); err != nil {
		w.complain(fmt.Errorf("eventddb: shard %s: record %s is to be given up, and nobody takes it: %w", w.shard, x.record.SequenceNumber, err), x.attempts)
		return false
	}
	return true
}

// failed gives a failure to whoever is to take care of it; a panic is an error of his.
func (s *stream) failed(ctx context.Context, f Failure) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return s.onFailure(ctx, f)
}

func (x *item) bag(shard string) driver.Bag {
	return driver.Bag{
		Category: Category,
		Source:   x.record.StreamARN,
		Body:     x.body,
		ID:       x.record.EventID,
		Group:    shard,
		Attempt:  x.attempts + 1,
		SentAt:   x.record.Created,
		Native:   x.record,
		Err:      x.err,
	}
}

// newItem makes of a record what a function gets.
func newItem(in *types.Record, arn string) *item {
	r := Record{EventID: aws.ToString(in.EventID), EventName: string(in.EventName), Region: aws.ToString(in.AwsRegion), StreamARN: arn}
	if in.UserIdentity != nil {
		r.Identity = &Identity{Type: aws.ToString(in.UserIdentity.Type), PrincipalID: aws.ToString(in.UserIdentity.PrincipalId)}
	}
	x := &item{}
	if c := in.Dynamodb; c != nil {
		r.SequenceNumber, r.SizeBytes, r.ViewType = aws.ToString(c.SequenceNumber), aws.ToInt64(c.SizeBytes), string(c.StreamViewType)
		r.Created = aws.ToTime(c.ApproximateCreationDateTime)
		for _, image := range []struct {
			from map[string]types.AttributeValue
			to   *json.RawMessage
		}{{c.Keys, &r.Keys}, {c.NewImage, &r.NewImage}, {c.OldImage, &r.OldImage}} {
			if image.from == nil {
				continue
			}
			m, err := attributevalue.FromDynamoDBStreamsMap(image.from)
			if err == nil {
				*image.to, err = attributevalue.MarshalMapJSON(m)
			}
			if err != nil && x.err == nil {
				x.err = fmt.Errorf("eventddb: record %s: %w", r.SequenceNumber, err)
			}
		}
	}
	x.record = r
	body, err := json.Marshal(r)
	if err != nil && x.err == nil {
		x.err = err
	}
	x.body = body
	return x
}
