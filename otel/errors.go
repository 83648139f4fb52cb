package otel

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// known are errors that have a name of their own.
var known = []struct {
	err  error
	name string
}{
	{swarm.ErrTimeToFlight, "time_to_flight"},
	{swarm.ErrLeaseLost, "lease_lost"},
	{swarm.ErrUnknownCategory, "unknown_category"},
	{swarm.ErrUndelivered, "undelivered"},
	{swarm.ErrClosed, "closed"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
}

// kindOf is a name for an error that is one of few: its own, if we know it, else the type in
// Go of its cause. What an error says of itself may be anything.
func kindOf(err error) (kind attribute.KeyValue) {
	defer func() {
		if recover() != nil { // of an error that cannot be asked, such as a nil of its type
			kind = semconv.ErrorTypeOther
		}
	}()
	if err == nil {
		return semconv.ErrorTypeOther
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return semconv.ErrorTypeKey.String(k.name)
		}
	}
	return semconv.ErrorTypeKey.String(fmt.Sprintf("%T", cause(err)))
}

// cause is what others have wrapped: their types say nothing.
func cause(err error) error {
	for {
		var inner error
		switch x := err.(type) {
		case interface{ Unwrap() error }:
			inner = x.Unwrap()
		case interface{ Unwrap() []error }:
			if all := x.Unwrap(); len(all) > 0 {
				inner = all[0]
			}
		}
		if inner == nil {
			return err
		}
		err = inner
	}
}

// codeBook has the codes that a broker has answered with: what looks like one, and so many.
type codeBook struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

const maxCodes = 100

var code = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._]{0,63}$`)

// of is the code of an error of a broker, as those of AWS have one, or else its kind.
func (b *codeBook) of(err error) (kind attribute.KeyValue) {
	defer func() {
		if recover() != nil {
			kind = semconv.ErrorTypeOther
		}
	}()
	if batch, ok := errors.AsType[*driver.BatchError](err); ok && len(batch.Failed) > 0 && batch.Failed[0].Err != nil {
		err = batch.Failed[0].Err
	}
	var coded interface{ ErrorCode() string }
	if !errors.As(err, &coded) || !code.MatchString(coded.ErrorCode()) {
		return kindOf(err)
	}
	text := coded.ErrorCode()
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.seen[text]; !ok {
		if len(b.seen) >= maxCodes {
			return semconv.ErrorTypeOther
		}
		if b.seen == nil {
			b.seen = map[string]struct{}{}
		}
		b.seen[text] = struct{}{}
	}
	return semconv.ErrorTypeKey.String(text)
}
