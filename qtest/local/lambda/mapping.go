package lambda

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Mapping is an event source mapping at work.
type Mapping struct {
	log    *logger
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu    sync.Mutex
	stats MappingStats
}

// MappingStats counts what a mapping has done.
type MappingStats struct {
	Batches       int // invocations, throttled ones not counted
	FailedBatches int // of those, the ones of which every record failed
	Records       int // in the batches; a repeated one counts again
	FailedRecords int // of those, the ones that are to be repeated
	Discarded     int // records given up, of streams
	Throttles     int // invocations refused by the function
}

func newMapping(ctx context.Context, log io.Writer) (context.Context, *Mapping) {
	if log == nil {
		log = io.Discard
	}
	m := &Mapping{log: &logger{w: log}}
	ctx, m.cancel = context.WithCancel(ctx)
	return ctx, m
}

// Stats returns the counts.
func (m *Mapping) Stats() MappingStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

func (m *Mapping) count(add func(*MappingStats)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add(&m.stats)
}

// Close stops reading the source, lets the batches that the function works on end, and
// returns when all is settled. The end of the context given to Start does the same, and
// does not wait.
func (m *Mapping) Close() {
	m.cancel()
	m.work.Wait()
}

// invoke invokes the function, again and with growing pauses as long as it is throttled.
// It gives up, with a ThrottleError, when ctx ends or the next attempt would be after
// until; a zero until is none. Once the function runs nothing interrupts it.
func (m *Mapping) invoke(ctx context.Context, fn Invoker, event []byte, until time.Time) ([]byte, error) {
	pause := newBackoff(100*time.Millisecond, 10*time.Second)
	for {
		response, err := fn.Invoke(context.WithoutCancel(ctx), event)
		if _, throttled := errors.AsType[*ThrottleError](err); !throttled {
			return response, err
		}
		m.count(func(s *MappingStats) { s.Throttles++ })
		if d := pause.next(); !until.IsZero() && time.Now().Add(d).After(until) || !sleep(ctx, d) {
			return nil, err
		}
	}
}

// backoff is a pause that doubles.
type backoff struct{ first, most, now time.Duration }

func newBackoff(first, most time.Duration) *backoff { return &backoff{first: first, most: most} }

func (b *backoff) next() time.Duration {
	b.now = min(max(b.first, 2*b.now), b.most)
	return b.now
}

func (b *backoff) reset() { b.now = 0 }

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// event is {"Records": […]} of as many of the records as a payload may have bytes, of
// the first one in any case, and their number.
func event(records []json.RawMessage) ([]byte, int) {
	var b bytes.Buffer
	b.WriteString(`{"Records":[`)
	n := 0
	for ; n < len(records) && (n == 0 || b.Len()+len(records[n])+len(`,]}`) <= maxRequest); n++ {
		if n > 0 {
			b.WriteByte(',')
		}
		b.Write(records[n])
	}
	b.WriteString(`]}`)
	return b.Bytes(), n
}

// marshal encodes v as AWS does, without escapes for HTML.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// failures reads the response of a function with ReportBatchItemFailures. No error and
// no ids is success. An error means that the whole batch has failed: the response is no
// JSON object or null, or an itemIdentifier is missing, null or empty. Names are matched
// exactly.
func failures(response []byte) ([]string, error) {
	if len(bytes.TrimSpace(response)) == 0 {
		return nil, nil
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(response, &top); err != nil {
		return nil, fmt.Errorf("invalid response: %w", err)
	}
	var items []map[string]json.RawMessage
	if raw := top["batchItemFailures"]; raw != nil {
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, fmt.Errorf("invalid batchItemFailures: %w", err)
		}
	}
	ids := make([]string, 0, len(items))
	for _, item := range items {
		var id string
		if err := json.Unmarshal(item["itemIdentifier"], &id); err != nil || id == "" {
			return nil, errors.New("invalid batchItemFailures: an itemIdentifier is missing, null, empty or no string")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// timeoutOf is the timeout of a function that says it.
func timeoutOf(fn Invoker) (time.Duration, bool) {
	f, ok := fn.(interface{ Timeout() time.Duration })
	if !ok {
		return 0, false
	}
	return f.Timeout(), true
}

// concurrencyOf is how many invocations the function takes, or otherwise if it does not
// say.
func concurrencyOf(fn Invoker, otherwise int) int {
	if f, ok := fn.(interface{ Concurrency() int }); ok {
		return f.Concurrency()
	}
	return otherwise
}
