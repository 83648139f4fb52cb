package eventddb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/core/backoff"
	"github.com/fogfish/swarm/core/driver"
)

// stream is the driver of a service: an instance that shares the shards of a stream with
// others. It keeps the leases; each shard it has is read by a worker of its own.
type stream struct {
	client   Streams
	arn      string
	store    Store
	instance string
	log      *slog.Logger

	lease     time.Duration // nobody writes it for so long: it is anybody's
	batch     int
	pause     time.Duration // after an empty answer
	start     time.Time     // of shards that nobody has read yet; zero: the oldest record
	timeout   time.Duration // of a request
	attempts  int           // of a record; 0: no limit
	age       time.Duration // of a record; 0: no limit
	onFailure func(context.Context, Failure) error
	again     backoff.Func
	ahead     bool // checkpoints come before the hand-over: at most once

	serve  driver.Serve
	report func(error)   // of requests
	nudge  chan struct{} // capacity 1: look at the shards now

	mu      sync.Mutex
	workers map[string]*worker
	seen    map[string]sighting // leases of others
}

// sighting is when a lease was first seen as it is. Clocks of other machines do not
// matter.
type sighting struct {
	version int64
	since   time.Time
}

var (
	_ driver.Runner  = (*stream)(nil)
	_ driver.Limiter = (*stream)(nil)
)

// Limits of a stream: it is in order, shard by shard.
func (s *stream) Limits() driver.Limits { return driver.Limits{Ordered: true} }

// Close has nothing to do: the client is its maker's.
func (s *stream) Close() error { return nil }

// Run keeps the instance's share of the shards until ctx ends. It then hands over.
func (s *stream) Run(ctx context.Context, serve driver.Serve) error {
	s.serve, s.report = serve, func(err error) { driver.Report(ctx, err) }
	s.workers, s.seen, s.nudge = map[string]*worker{}, map[string]sighting{}, make(chan struct{}, 1)
	var all, renewals sync.WaitGroup
	// Leases are kept until the last consumer has ended, whatever else takes its time.
	ended := make(chan struct{})
	renewals.Go(func() {
		beat := time.NewTicker(min(s.lease/3, time.Second))
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				s.renew(context.WithoutCancel(ctx))
			case <-ended:
				return
			}
		}
	})
	defer renewals.Wait()
	failures := 0
	var fatal error
	for ctx.Err() == nil && fatal == nil {
		pause := s.lease / 3
		if err := s.look(ctx, &all); err == nil || errors.Is(err, ErrConflict) {
			failures = 0
		} else if ctx.Err() == nil {
			failures++
			pause = outage(failures)
			s.report(err)
			if driver.IsPermanent(err) && failures >= fatalTries {
				fatal = err
				break
			}
		}
		select {
		case <-time.After(pause):
		case <-s.nudge:
		case <-ctx.Done():
		}
	}
	s.stop()
	all.Wait() // consumers finish what they have
	close(ended)
	return fatal
}

// outage is the pause after a request that failed.
var outage = backoff.Exponential(200*time.Millisecond, 20*time.Second).EqualJitter()

const fatalTries = 3

// renew writes the leases of the instance that are due.
func (s *stream) renew(ctx context.Context) {
	s.mu.Lock()
	workers := slices.Collect(maps.Values(s.workers))
	s.mu.Unlock()
	for _, w := range workers {
		w.renew(ctx, false)
	}
}

// stop tells the workers to end. Each hands its lease over.
func (s *stream) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workers {
		w.stop()
	}
}

func (s *stream) alert() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// look learns what shards there are and who has them, and takes its share.
func (s *stream) look(ctx context.Context, all *sync.WaitGroup) error {
	graph, err := s.shards(ctx)
	if err != nil {
		return err
	}
	list, err := s.load(ctx)
	if err != nil {
		return err
	}
	known := map[string]Lease{}
	for _, l := range list {
		known[l.Shard] = l
	}
	if err := s.tidy(ctx, graph, known); err != nil {
		return err
	}
	now := time.Now()
	share := s.divide(graph, known, now)
	for _, l := range share.take {
		l.Owner, l.Heir = s.instance, ""
		taken := time.Now()
		switch err := s.put(ctx, &l); {
		case errors.Is(err, ErrConflict):
			continue // somebody was faster
		case err != nil:
			return err
		}
		w := s.newWorker(l, taken)
		s.mu.Lock()
		s.workers[l.Shard] = w
		s.mu.Unlock()
		all.Go(func() {
			defer func() {
				s.mu.Lock()
				delete(s.workers, l.Shard)
				s.mu.Unlock()
				s.alert()
			}()
			w.run(ctx)
		})
	}
	for _, l := range share.ask {
		l.Heir = s.instance
		if err := s.put(ctx, &l); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}

// beginning is in place of a shard in the lease that says where reading begins: whoever is
// first writes it, and a later life of the service goes by it.
const beginning = "beginning"

// tidy makes leases for new shards, and forgets those of shards that are no more.
func (s *stream) tidy(ctx context.Context, graph map[string]string, known map[string]Lease) error {
	begin, ok := known[beginning]
	if !ok {
		begin = Lease{Shard: beginning, At: s.start}
		if err := s.put(ctx, &begin); err != nil {
			return err // also if somebody was faster: the next look sees what he wrote
		}
	}
	delete(known, beginning)
	for _, shard := range slices.Sorted(maps.Keys(graph)) {
		if _, ok := known[shard]; ok {
			continue
		}
		l := Lease{Shard: shard, At: begin.At}
		if err := s.put(ctx, &l); err == nil {
			known[shard] = l
		} else if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	for shard, l := range known {
		if _, ok := graph[shard]; ok {
			continue
		}
		s.mu.Lock()
		stale := s.sight(l, time.Now())
		s.mu.Unlock()
		if !l.Done && l.Owner != "" && !stale {
			continue // somebody is about to find out
		}
		if !l.Done {
			s.report(fmt.Errorf("%w: shard %s is gone, and was not read to its end", ErrTrimmed, shard))
		}
		delete(known, shard)
		if err := s.remove(ctx, shard); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.seen, func(shard string, _ sighting) bool { _, ok := known[shard]; return !ok })
	return nil
}

// share is what an instance does about leases.
type share struct{ take, ask []Lease }

// divide says which leases to take, because nobody has them or whoever had them is gone,
// and which to ask for, because another instance has more than its share. A shard is not
// read before its parent was.
func (s *stream) divide(graph map[string]string, known map[string]Lease, now time.Time) (out share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	load := map[string]int{s.instance: 0} // shards of each instance that lives
	var free, taken []Lease
	for _, l := range sorted(slices.Collect(maps.Values(known))) {
		parent, here := graph[l.Shard]
		_, alive := graph[parent]
		if p, ok := known[parent]; l.Done || !here || alive && (!ok || !p.Done) {
			continue
		}
		if w := s.workers[l.Shard]; w != nil {
			load[s.instance]++
			continue
		}
		stale := s.sight(l, now)
		switch {
		case l.Owner == "" || l.Owner == s.instance || stale: // or was handed over to this one
			free = append(free, l)
		case l.Heir != "":
			load[l.Heir]++ // as good as
		default:
			load[l.Owner]++
			taken = append(taken, l)
		}
	}
	total := len(free)
	for _, n := range load {
		total += n
	}
	most := (total + len(load) - 1) / len(load)
	mine := load[s.instance]
	for _, l := range free {
		if mine < most {
			out.take = append(out.take, l)
			mine++
		}
	}
	least := total / len(load)
	for _, l := range taken {
		if n := load[l.Owner]; mine < least && n > least || mine < most && n > most {
			out.ask = append(out.ask, l)
			load[l.Owner]--
			mine++
		}
	}
	return out
}

// sight takes note of a lease of others, and reports whether nobody has written it for its
// time. Callers hold mu.
func (s *stream) sight(l Lease, now time.Time) (stale bool) {
	seen := s.seen[l.Shard]
	if seen.version != l.Version {
		seen = sighting{l.Version, now}
		s.seen[l.Shard] = seen
	}
	return now.Sub(seen.since) >= s.lease
}

// shards of the stream, each with its parent.
func (s *stream) shards(ctx context.Context) (map[string]string, error) {
	graph := map[string]string{}
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: &s.arn}
	for {
		var out *dynamodbstreams.DescribeStreamOutput
		err := s.call(ctx, "describe stream", func(ctx context.Context) (err error) {
			out, err = awskit.Answered(s.client.DescribeStream(ctx, in, once))
			return err
		})
		if err == nil && out.StreamDescription == nil {
			err = awskit.ErrNothing
		}
		if err != nil {
			return nil, err
		}
		for _, x := range out.StreamDescription.Shards {
			if id := aws.ToString(x.ShardId); id != "" {
				graph[id] = aws.ToString(x.ParentShardId)
			}
		}
		if in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId; aws.ToString(in.ExclusiveStartShardId) == "" {
			return graph, nil
		}
	}
}

// once: the driver repeats what is worth it, at its own pace.
func once(o *dynamodbstreams.Options) { o.Retryer = aws.NopRetryer{} }

// call bounds a request, and says what it was about.
func (s *stream) call(ctx context.Context, op string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return awskit.Classify(f(ctx), gone, func(err error) error {
		return fmt.Errorf("eventddb: stream %s: %s: %w", s.arn, op, err)
	})
}

func gone(err error) bool { return awskit.Is[*types.ResourceNotFoundException](err) }

func (s *stream) load(ctx context.Context) (list []Lease, err error) {
	err = s.stored(ctx, "load leases", func(ctx context.Context) error {
		list, err = s.store.Load(ctx, s.arn)
		return err
	})
	return list, err
}

// put writes a lease, whose version it then has.
func (s *stream) put(ctx context.Context, l *Lease) error {
	err := s.stored(ctx, "write the lease of "+l.Shard, func(ctx context.Context) error { return s.store.Put(ctx, s.arn, *l) })
	if err == nil {
		l.Version++
	}
	return err
}

func (s *stream) remove(ctx context.Context, shard string) error {
	return s.stored(ctx, "delete the lease of "+shard, func(ctx context.Context) error { return s.store.Delete(ctx, s.arn, shard) })
}

func (s *stream) stored(ctx context.Context, op string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := f(ctx); err != nil {
		return fmt.Errorf("eventddb: stream %s: %s: %w", s.arn, op, err)
	}
	return nil
}
