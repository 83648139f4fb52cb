package eventbridge

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// function is the driver in a function that EventBridge invokes. An endpoint also emits to the
// bus.
type function struct {
	*bus // nil: it only listens
	lambdakit.Function
}

var _ driver.Runner = (*function)(nil)

func newFunction(b *bus) *function {
	return &function{b, lambdakit.Function{Open: receive, Answer: lambdakit.Whole}}
}

// Limits of the bus. An asynchronous invocation fails or succeeds as a whole.
func (f *function) Limits() driver.Limits {
	var limits driver.Limits
	if f.bus != nil {
		limits = f.bus.Limits()
	}
	limits.Whole = true
	return limits
}

// Close has nothing to do.
func (f *function) Close() error { return nil }

// receive reads what the function is invoked with. The native record is the one of package
// events, as far as it can be read.
func receive(payload []byte) ([]driver.Bag, error) {
	bags, err := wire.Events(payload)
	if err != nil {
		return nil, fmt.Errorf("eventbridge: %w", err)
	}
	for i := range bags {
		var native events.EventBridgeEvent
		_ = json.Unmarshal(bags[i].Native.(json.RawMessage), &native)
		bags[i].Native = native
	}
	return bags, nil
}
