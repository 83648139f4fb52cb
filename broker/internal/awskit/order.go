package awskit

import (
	"cmp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/driver"
)

// Order is how a queue or a topic treats groups.
type Order struct {
	FIFO    bool // by its name
	Fair    bool // group ids where there is no order: WithFairQueue
	Batches bool // of one group: WithGroupBatching
}

// IsFIFO reports whether a name is of a FIFO queue or topic.
func IsFIFO(name string) bool { return strings.HasSuffix(name, ".fifo") }

// NamedFIFO reports whether a name of up to max characters is one of a queue or a topic, FIFO
// or not.
func NamedFIFO(name string, max int) bool {
	return Named(strings.TrimSuffix(name, ".fifo"), "_-", max) && len(name) <= max
}

// Order is the one of a resource; an error when options contradict it.
func (o *Options) Order(r Resource, fair, batches bool) (Order, error) {
	order := Order{FIFO: IsFIFO(r.Name), Fair: fair, Batches: batches}
	switch {
	case order.FIFO && fair:
		return order, o.Errorf("WithFairQueue: %s is a FIFO %s", r.Name, r.Kind)
	case !order.FIFO && batches:
		return order, o.Errorf("WithGroupBatching: %s is not a FIFO %s", r.Name, r.Kind)
	}
	return order, nil
}

// IDs are the group and the deduplication id of a message, nil where it has none. They are
// stable over retries.
func (o Order) IDs(bag *driver.Bag) (group, dedup *string) {
	switch {
	case o.FIFO:
		return aws.String(wire.Token(bag.Group)), aws.String(wire.Token(cmp.Or(bag.Dedup, bag.ID)))
	case o.Fair && bag.Group != "":
		return aws.String(wire.Token(bag.Group)), nil
	}
	return nil, nil
}
