package eventddb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/core/driver"
)

// function is the driver in a function that an event source mapping invokes with a batch
// of one shard.
type function struct{ lambdakit.Function }

var _ driver.Runner = function{}

func newFunction() lambdakit.Function { return lambdakit.Function{Open: receive, Answer: answer} }

// Limits of a stream: a batch is in order, and nothing is handed over behind a failure.
func (function) Limits() driver.Limits { return driver.Limits{Ordered: true} }

// receive reads an event. What is wrong in a record, but its place in the shard, is found
// by the channel that decodes it: it fails alone.
func receive(payload []byte) (bags []driver.Bag, err error) {
	own := bytes.Clone(payload) // it is gone with the invocation
	found := false
	_, err = object(own, func(key, rest []byte) (int, error) {
		if string(key) != "Records" {
			return 0, nil
		}
		found = true
		return array(rest, func(rest []byte) (int, error) {
			h, n, err := headingOf(rest)
			if err == nil && h.sequence == "" {
				// The answer is a place in the shard: without one nothing can be said.
				err = errors.New("a record has no SequenceNumber")
			}
			bags = append(bags, h.bag(rest[:n:n]))
			return n, err
		})
	})
	if err == nil && !found {
		err = errors.New("it has no Records")
	}
	if err != nil {
		return nil, fmt.Errorf("eventddb: not an event of DynamoDB Streams: %w", err)
	}
	return bags, nil
}

// bag of a record.
func (h heading) bag(record []byte) driver.Bag {
	created, _ := parseTime(h.created)
	return driver.Bag{
		Category: Category,
		Source:   h.stream,
		Body:     record,
		ID:       h.id,
		Group:    "shard", // one batch is of one
		SentAt:   created,
		Handle:   h.sequence,
		Native:   json.RawMessage(record),
	}
}

// answer names the first record that failed: the mapping goes on with it.
func answer(_ context.Context, s []driver.Settlement, err error) ([]byte, error) {
	var out events.DynamoDBEventResponse
	if err != nil && len(s) == 0 {
		return nil, err
	}
	for i := range s {
		if s[i].Outcome != driver.Ack || err != nil {
			out.BatchItemFailures = []events.DynamoDBBatchItemFailure{{ItemIdentifier: s[i].Bag.Handle.(string)}}
			break
		}
	}
	return json.Marshal(out)
}
