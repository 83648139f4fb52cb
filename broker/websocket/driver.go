package websocket

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/core/driver"
)

// maxSize of a message that is sent to a client, says API Gateway.
const maxSize = 128 << 10

// api is the driver that sends: one API, one client. The group of a message is its
// connection, so that what goes to one stays in order and waits for no other.
type api struct {
	client   Management
	endpoint string
	requests int
}

var (
	_ driver.Sender  = (*api)(nil)
	_ driver.Limiter = (*api)(nil)
)

// Limits of API Gateway, which has no batches.
func (a *api) Limits() driver.Limits {
	return driver.Limits{
		Entries:   1,
		Requests:  a.requests,
		Ordered:   true,
		Addressed: true,
		Check:     check,
		Attrs:     []string{}, // a frame has none
	}
}

// check refuses what API Gateway would refuse.
func check(bag *driver.Bag) error {
	switch size := len(bag.Body); {
	case bag.Group == "":
		return driver.Permanent(ErrNoSink)
	case size == 0:
		return driver.Permanent(fmt.Errorf("websocket: message for %s is empty", bag.Group))
	case size > maxSize:
		return driver.Permanent(fmt.Errorf("websocket: message for %s has %d bytes, API Gateway takes %d", bag.Group, size, maxSize))
	}
	return nil
}

// once: the kernel's retry is the retry.
func once(o *apigatewaymanagementapi.Options) { o.Retryer = aws.NopRetryer{} }

// Send is PostToConnection.
func (a *api) Send(ctx context.Context, bags []driver.Bag) error {
	var failed []driver.Failure
	for i := range bags {
		connection := bags[i].Group
		_, err := awskit.Answered(a.client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &connection, Data: bags[i].Body}, once))
		if err = a.classify(connection, err); err != nil {
			failed = append(failed, driver.Failure{Index: i, Err: err, Permanent: driver.IsPermanent(err)})
		}
	}
	if len(failed) > 0 {
		return &driver.BatchError{Failed: failed}
	}
	return nil
}

// Close has nothing to do: the client is its maker's.
func (a *api) Close() error { return nil }
