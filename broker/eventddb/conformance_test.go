package eventddb_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"
)

// The service mode against the contract, on a stream with a shard for each group. What is
// injected is the item of a record.
func TestConformance(t *testing.T) {
	qtest.Run(t, func(t qtest.T) qtest.Queue {
		f, store := newFake(), eventddb.NewMemory()
		return qtest.Queue{
			Connect: func() (io.Closer, error) {
				d, err := eventddb.StreamDriver(eventddb.Listener().WithService(f).WithStore(store).WithPoller().WithLease(3*time.Second).
					WithKernel(swarm.WithPollFrequency(200*time.Millisecond), swarm.WithLogger(slog.New(slog.DiscardHandler))), "users")
				return injected{d, d.(driver.Limiter), d.(io.Closer)}, err
			},
			Inject: func(_ context.Context, bags []driver.Bag) error {
				f.mu.Lock()
				defer f.mu.Unlock()
				for _, bag := range bags {
					raw, err := json.Marshal(bag)
					if err != nil {
						return err
					}
					s := f.find("shard-" + bag.Group)
					if s == nil {
						s = &shard{id: "shard-" + bag.Group}
						f.shards = append(f.shards, s)
					}
					f.write(s, map[string]types.AttributeValue{"bag": &types.AttributeValueMemberB{Value: raw}})
				}
				return nil
			},
		}
	}, qtest.Features{
		ListenOnly: true, Ordered: true, Sticky: true, Attempts: true, SentAt: true, Delay: true,
		KeepID: true, KeepSource: true, EmptyBody: true,
		Virtual: true, Messages: 200,
	})
}

// injected turns records into what was injected.
type injected struct {
	driver.Runner
	driver.Limiter
	io.Closer
}

func (d injected) Run(ctx context.Context, serve driver.Serve) error {
	return d.Runner.Run(ctx, func(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
		for i := range bags {
			record, ok := bags[i].Native.(eventddb.Record)
			if !ok {
				continue // a report
			}
			var item struct {
				Bag []byte `dynamodbav:"bag"`
			}
			image, err := attributevalue.UnmarshalMapJSON(record.NewImage)
			if err == nil {
				err = attributevalue.UnmarshalMap(image, &item)
			}
			bag := bags[i]
			if err == nil {
				err = json.Unmarshal(item.Bag, &bag)
			}
			bag.Attempt, bag.SentAt, bag.Native = bags[i].Attempt, bags[i].SentAt, record
			if bags[i] = bag; err != nil {
				bags[i].Err = err
			}
		}
		return serve(ctx, bags)
	})
}
