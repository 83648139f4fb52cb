package sns

import (
	"encoding/json"
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// function is the driver in a function that SNS invokes. An endpoint also emits to the
// topic.
type function struct {
	*topic // nil: it only listens
	lambdakit.Function
}

var _ driver.Runner = (*function)(nil)

func newFunction(t *topic) *function {
	return &function{t, lambdakit.Function{Open: receive, Answer: lambdakit.Whole}}
}

// Limits of the topic. An asynchronous invocation fails or succeeds as a whole.
func (f *function) Limits() driver.Limits {
	var limits driver.Limits
	if f.topic != nil {
		limits = f.topic.Limits()
	}
	limits.Whole = true
	return limits
}

// Close has nothing to do.
func (f *function) Close() error { return nil }

// receive reads what the function is invoked with. The native record is the one of package
// events, as far as it can be read.
func receive(payload []byte) ([]driver.Bag, error) {
	bags, err := wire.Notifications(payload)
	if err != nil {
		return nil, fmt.Errorf("sns: %w", err)
	}
	for i := range bags {
		var native events.SNSEventRecord
		_ = json.Unmarshal(bags[i].Native.(json.RawMessage), &native)
		bags[i].Native = native
	}
	return bags, nil
}
