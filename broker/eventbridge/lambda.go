package eventbridge

import (
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// newFunction is the driver in a function that EventBridge invokes. One that only listens has
// no sender.
func newFunction(sender driver.Sender) *lambdakit.WholeFunction {
	return lambdakit.NewWhole(sender, receive)
}

// receive reads what the function is invoked with.
func receive(payload []byte) ([]driver.Bag, error) {
	bags, err := wire.Events(payload)
	if err != nil {
		return nil, fmt.Errorf("eventbridge: %w", err)
	}
	lambdakit.Native[events.EventBridgeEvent](bags)
	return bags, nil
}
