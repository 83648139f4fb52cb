package sns

import (
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// newFunction is the driver in a function that SNS invokes. One that only listens has
// no sender.
func newFunction(sender driver.Sender) *lambdakit.WholeFunction {
	return lambdakit.NewWhole(sender, receive)
}

// receive reads what the function is invoked with.
func receive(payload []byte) ([]driver.Bag, error) {
	bags, err := wire.Notifications(payload)
	if err != nil {
		return nil, fmt.Errorf("sns: %w", err)
	}
	lambdakit.Native[events.SNSEventRecord](bags)
	return bags, nil
}
