package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// StreamSource is a stream as a mapping reads it. [DynamoDBStream] and [MemoryStream] are
// the ones at hand.
type StreamSource interface {
	// ARN names the stream.
	ARN() string
	// Shards lists the shards that can be read, closed ones too.
	Shards(ctx context.Context) ([]Shard, error)
	// Iterator begins to read a shard.
	Iterator(ctx context.Context, shard string, at Position) (iterator string, err error)
	// Read reads up to limit records and returns the iterator for what follows, empty when
	// the shard is closed and read to its end. It returns at once, also with nothing. The
	// error is [ErrIterator] if the iterator is no longer good.
	Read(ctx context.Context, iterator string, limit int) (records []Record, next string, err error)
}

// Shard is a part of a stream that has an order. Its records come after those of Parent,
// if that is set.
type Shard struct{ ID, Parent string }

// Position is where to begin in a shard: after the record of that sequence number, or if
// it is empty at the oldest record, or behind the newest.
type Position struct {
	After  string
	Latest bool
}

// Record is a record of a stream.
type Record struct {
	SequenceNumber string
	Created        time.Time
	// Data is the record as it is in Records of the event.
	Data json.RawMessage
}

// ErrIterator says that an iterator has expired or that what it pointed at was trimmed.
var ErrIterator = errors.New("lambda: the iterator is no longer good")

// Stream is an event source mapping of a stream, such as a DynamoDB stream. Shards are
// read at the same time, each in order, one batch at a time; a shard begins when its
// parent is done. ParallelizationFactor is always 1.
//
// A batch that fails is repeated, after 1 s, then after growing pauses up to a minute,
// and holds up its shard, until it succeeds or is given up: when a limit is set, or when
// its records are older than 24 h and have expired.
//
// With ReportBatchItemFailures the lowest sequence number that the response names is the
// checkpoint: what is before is done, and all from it on is a new batch. A response that
// is invalid or names a record that is not in the batch fails the whole batch. With
// BisectBatchOnFunctionError a batch that fails is split into two, which follow one
// another; if the response has named a record in it, it was split there. To split a batch
// does not count as a retry: only the same batch sent again does.
//
// The checkpoint is in memory: a mapping that is started anew begins at StartingPosition.
type Stream struct {
	// BatchSize is the largest number of records in an event, up to 10,000. Default 100.
	// An event has at most 6 MB.
	BatchSize int
	// Window is how long to gather a batch, up to 300 s. Default 0: what one read returns.
	Window time.Duration
	// StartingPosition is where shards are begun that exist at the start. Default
	// [TrimHorizon]. Shards that come later are read whole.
	StartingPosition StartingPosition
	// ReportBatchItemFailures makes the function's response count:
	// {"batchItemFailures": [{"itemIdentifier": "<sequence number>"}]}.
	ReportBatchItemFailures bool
	// BisectBatchOnFunctionError splits batches that fail.
	BisectBatchOnFunctionError bool
	// MaximumRetryAttempts is how often a batch is repeated, from 0 to 10,000. Default
	// (nil, or -1): until its records expire.
	MaximumRetryAttempts *int
	// MaximumRecordAge is the age, from 1 min to 7 days, at which records are given up.
	// Default (0): when they expire.
	MaximumRecordAge time.Duration
	// OnFailure is the destination of batches that are given up: called in the order of
	// the shard, which waits for it.
	OnFailure func(FailedBatch)
	// Log gets lines about batches that fail and about errors of the stream. Writes are
	// one at a time. Default: discarded.
	Log io.Writer
}

// StartingPosition is where a mapping begins to read.
type StartingPosition string

// Starting positions: the oldest record, or what comes after the start.
const (
	TrimHorizon StartingPosition = "TRIM_HORIZON"
	Latest      StartingPosition = "LATEST"
)

// FailedBatch tells which records were given up. As on AWS it does not have the records.
type FailedBatch struct {
	Condition                              Condition // RetryAttemptsExhausted or RecordAgeExceeded
	StreamARN, ShardID                     string
	StartSequenceNumber, EndSequenceNumber string
	First, Last                            time.Time // creation of these two
	BatchSize                              int
	Attempts                               int   // invocations with exactly this batch
	Err                                    error // of the last one, nil if there was none
}

const (
	retention     = 24 * time.Hour         // of records
	pollInterval  = 250 * time.Millisecond // AWS polls a shard four times a second
	shardInterval = 5 * time.Second        // how often we look for new shards
)

// Start begins to read the stream. With [Latest], records written after it has returned
// are read. The mapping lives until Close, or until ctx ends.
func (s Stream) Start(ctx context.Context, source StreamSource, fn Invoker) (*Mapping, error) {
	r := &stream{Stream: s, source: source, fn: fn, retries: -1, age: orDefault(s.MaximumRecordAge, retention), known: map[string]*shard{}}
	r.BatchSize = orDefault(s.BatchSize, 100)
	r.StartingPosition = orDefault(s.StartingPosition, TrimHorizon)
	if s.MaximumRetryAttempts != nil {
		r.retries = *s.MaximumRetryAttempts
	}
	switch {
	case r.BatchSize < 1 || r.BatchSize > 10_000:
		return nil, fmt.Errorf("lambda: Stream.BatchSize %d: must be from 1 to 10000", r.BatchSize)
	case r.Window < 0 || r.Window > 300*time.Second:
		return nil, fmt.Errorf("lambda: Stream.Window %s: must be up to 300s", r.Window)
	case r.StartingPosition != TrimHorizon && r.StartingPosition != Latest:
		return nil, fmt.Errorf("lambda: Stream.StartingPosition %q: must be %s or %s", r.StartingPosition, TrimHorizon, Latest)
	case r.retries < -1 || r.retries > 10_000:
		return nil, fmt.Errorf("lambda: Stream.MaximumRetryAttempts %d: must be from -1 to 10000", r.retries)
	case r.age < time.Minute || r.age > 7*24*time.Hour:
		return nil, fmt.Errorf("lambda: Stream.MaximumRecordAge %s: must be from 1m to 168h", r.age)
	}
	shards, err := source.Shards(ctx)
	if err != nil {
		return nil, fmt.Errorf("lambda: stream %s: %w", source.ARN(), err)
	}
	for _, s := range shards {
		sh := r.add(s)
		if sh.at.Latest = r.StartingPosition == Latest; sh.at.Latest {
			if sh.iterator, err = source.Iterator(ctx, s.ID, sh.at); err != nil {
				return nil, fmt.Errorf("lambda: stream %s: %w", source.ARN(), err)
			}
		}
	}
	ctx, r.Mapping = newMapping(ctx, s.Log)
	r.work.Go(func() { r.run(ctx) })
	return r.Mapping, nil
}

// stream is a mapping at work.
type stream struct {
	Stream
	*Mapping
	source  StreamSource
	fn      Invoker
	retries int
	age     time.Duration
	known   map[string]*shard
}

// shard is one of its shards.
type shard struct {
	Shard
	iterator string // empty: to be made, at
	at       Position
	started  bool
	done     chan struct{} // closed when it was read to its end
}

func (r *stream) add(s Shard) *shard {
	sh := &shard{Shard: s, done: make(chan struct{})}
	r.known[s.ID] = sh
	return sh
}

// run starts shards as their parents end and as new ones appear.
func (r *stream) run(ctx context.Context) {
	for {
		for _, sh := range r.known {
			if !sh.started && r.parentDone(sh) {
				sh.started = true
				r.work.Go(func() { r.read(ctx, sh) })
			}
		}
		if !sleep(ctx, shardInterval) {
			return
		}
		shards, err := r.source.Shards(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.printf("%s: shards: %v", r.source.ARN(), err)
		}
		for _, s := range shards {
			if r.known[s.ID] == nil {
				r.add(s)
			}
		}
	}
}

func (r *stream) parentDone(sh *shard) bool {
	parent := r.known[sh.Parent]
	if parent == nil {
		return true // there is none, or it has expired
	}
	select {
	case <-parent.done:
		return true
	default:
		return false
	}
}

// read works a shard off.
func (r *stream) read(ctx context.Context, sh *shard) {
	pause := newBackoff(time.Second, 20*time.Second)
	for ctx.Err() == nil {
		batch, closed, err := r.gather(ctx, sh)
		r.process(ctx, sh, batch)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.log.printf("%s %s: read: %v", r.source.ARN(), sh.ID, err)
			sleep(ctx, pause.next())
		case closed:
			close(sh.done)
			return
		default:
			pause.reset()
			if len(batch) == 0 {
				sleep(ctx, pollInterval)
			}
		}
	}
}

// gather reads a batch. What it has read beside an error counts.
func (r *stream) gather(ctx context.Context, sh *shard) (batch []Record, closed bool, err error) {
	var end time.Time // of the window, which the first record opens
	for len(batch) < r.BatchSize {
		if sh.iterator == "" {
			if sh.iterator, err = r.source.Iterator(ctx, sh.ID, sh.at); err != nil {
				if errors.Is(err, ErrIterator) {
					sh.at = Position{} // trimmed: go on with what there is
				}
				return batch, false, err
			}
		}
		records, next, err := r.source.Read(ctx, sh.iterator, r.BatchSize-len(batch))
		if errors.Is(err, ErrIterator) {
			sh.iterator = "" // make one behind the last record
		}
		if err != nil {
			return batch, false, err
		}
		batch, sh.iterator = append(batch, records...), next
		if len(records) > 0 {
			sh.at = Position{After: records[len(records)-1].SequenceNumber}
		}
		if next == "" {
			return batch, true, nil
		}
		if len(batch) == 0 || r.Window == 0 {
			return batch, false, nil
		}
		if end.IsZero() {
			end = time.Now().Add(r.Window)
		}
		left := time.Until(end)
		if left <= 0 {
			return batch, false, nil
		}
		if len(records) == 0 && !sleep(ctx, min(pollInterval, left)) {
			return batch, false, nil
		}
	}
	return batch, false, nil
}

// unit is what is sent to the function as one event.
type unit struct {
	records  []Record
	attempts int
	err      error // of the last attempt
	pause    *backoff
}

func newUnit(records []Record) *unit {
	return &unit{records: records, pause: newBackoff(time.Second, time.Minute)}
}

// process returns when all of the batch is done or given up, or when ctx has ended.
func (r *stream) process(ctx context.Context, sh *shard, batch []Record) {
	work := []*unit{}
	for len(batch) > 0 {
		_, n := event(data(batch))
		work = append(work, newUnit(batch[:n:n]))
		batch = batch[n:]
	}
	for len(work) > 0 && ctx.Err() == nil {
		u := work[0]
		r.expire(sh, u)
		if len(u.records) == 0 {
			work = work[1:]
			continue
		}
		done, err := r.invoke(ctx, u.records)
		if _, throttled := errors.AsType[*ThrottleError](err); throttled {
			return // ctx has ended
		}
		u.attempts, u.err = u.attempts+1, err
		n := len(u.records)
		r.count(func(s *MappingStats) {
			s.Batches++
			s.Records += n
			s.FailedRecords += n - done
			if done == 0 {
				s.FailedBatches++
			}
		})
		if done < n {
			r.log.printf("%s %s: %d of %d records failed, from %s on: %v", r.source.ARN(), sh.ID, n-done, n, u.records[done].SequenceNumber, err)
		}
		switch {
		case done == n:
			work = work[1:]
		case done > 0:
			work[0] = newUnit(u.records[done:])
		case r.BisectBatchOnFunctionError && n > 1:
			work = slices.Insert(work[1:], 0, newUnit(u.records[:(n+1)/2]), newUnit(u.records[(n+1)/2:]))
		case r.retries >= 0 && u.attempts > r.retries:
			r.discard(sh, u, n, RetryAttemptsExhausted)
			work = work[1:]
		default:
			sleep(ctx, u.pause.next())
		}
	}
}

// expire gives up the records that are too old.
func (r *stream) expire(sh *shard, u *unit) {
	oldest := time.Now().Add(-r.age)
	n := 0
	for n < len(u.records) && u.records[n].Created.Before(oldest) {
		n++
	}
	if n > 0 {
		r.discard(sh, u, n, RecordAgeExceeded)
	}
}

// discard gives up the first n records.
func (r *stream) discard(sh *shard, u *unit, n int, why Condition) {
	first, last := u.records[0], u.records[n-1]
	u.records = u.records[n:]
	r.count(func(s *MappingStats) { s.Discarded += n })
	r.log.printf("%s %s: %d records given up, %s to %s: %s", r.source.ARN(), sh.ID, n, first.SequenceNumber, last.SequenceNumber, why)
	if r.OnFailure != nil {
		r.OnFailure(FailedBatch{Condition: why, StreamARN: r.source.ARN(), ShardID: sh.ID, StartSequenceNumber: first.SequenceNumber,
			EndSequenceNumber: last.SequenceNumber, First: first.Created, Last: last.Created, BatchSize: n, Attempts: u.attempts, Err: u.err})
	}
}

// invoke returns how many of the records are done, and if that is not all, why.
func (r *stream) invoke(ctx context.Context, records []Record) (done int, err error) {
	payload, _ := event(data(records))
	response, err := r.Mapping.invoke(ctx, r.fn, payload, time.Time{})
	if err != nil {
		return 0, err
	}
	if !r.ReportBatchItemFailures {
		return len(records), nil
	}
	ids, err := failures(response)
	if err != nil {
		return 0, err
	}
	done = len(records)
	for _, id := range ids {
		// Records are in the order of their sequence numbers.
		at := slices.IndexFunc(records, func(r Record) bool { return r.SequenceNumber == id })
		if at < 0 {
			return 0, fmt.Errorf("invalid batchItemFailures: %q is not in the batch", id)
		}
		done = min(done, at)
	}
	if done < len(records) {
		err = errors.New("reported by the function")
	}
	return done, err
}

func data(records []Record) []json.RawMessage {
	raw := make([]json.RawMessage, len(records))
	for i, r := range records {
		raw[i] = r.Data
	}
	return raw
}
