package eventbridge

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
)

// EventBridge is the part of the SDK's client that this package calls.
// *eventbridge.Client has it.
type EventBridge interface {
	DescribeEventBus(context.Context, *eventbridge.DescribeEventBusInput, ...func(*eventbridge.Options)) (*eventbridge.DescribeEventBusOutput, error)
	PutEvents(context.Context, *eventbridge.PutEventsInput, ...func(*eventbridge.Options)) (*eventbridge.PutEventsOutput, error)
}
