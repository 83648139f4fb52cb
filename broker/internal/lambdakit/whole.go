package lambdakit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/fogfish/swarm/core/driver"
)

// WholeFunction is the driver in a function whose source takes one answer for all messages:
// an asynchronous invocation fails or succeeds as a whole. An endpoint also sends.
type WholeFunction struct {
	driver.Sender // nil: it only listens
	Function
}

// NewWhole makes one. Open reads the payload.
func NewWhole(sender driver.Sender, open func(payload []byte) ([]driver.Bag, error)) *WholeFunction {
	return &WholeFunction{sender, Function{Open: open, Answer: Whole}}
}

// Limits are those of the sender.
func (f *WholeFunction) Limits() (limits driver.Limits) {
	if l, ok := f.Sender.(driver.Limiter); ok {
		limits = l.Limits()
	}
	limits.Whole = true
	return limits
}

// Native decodes the native records of messages, as far as they can be read.
func Native[T any](bags []driver.Bag) {
	for i := range bags {
		var native T
		_ = json.Unmarshal(bags[i].Native.(json.RawMessage), &native)
		bags[i].Native = native
	}
}

// Whole is the answer of such a source: the error of the first message that failed.
func Whole(_ context.Context, s []driver.Settlement, err error) ([]byte, error) {
	for i := range s {
		if err == nil && s[i].Outcome == driver.Nack {
			err = s[i].Err
		}
	}
	for i := range s {
		if err == nil && s[i].Outcome != driver.Ack {
			err = fmt.Errorf("swarm: message %s was not processed", s[i].Bag.ID)
		}
	}
	return null, err
}

var null = []byte("null")
