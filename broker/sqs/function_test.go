package sqs_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"strconv"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"

	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/broker/sqs"
)

// The conformance suite for functions: an event source mapping as a test makes it.
func TestFunctionConformance(t *testing.T) {
	qtest.RunFunction(t, func(qtest.T) qtest.Function {
		handler := make(chan lambda.Handler, 1)
		invoke := func(ctx context.Context, payload []byte) ([]byte, error) {
			h := <-handler
			handler <- h
			defer clear(payload)
			return h.Invoke(ctx, payload)
		}
		return qtest.Function{
			Connect: func() (io.Closer, error) {
				return sqs.FunctionDriver(sqs.Listener().WithConfig(aws.Config{Region: "eu-west-1"}), handler)
			},
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				event := map[string]any{"Records": []any{}}
				for i, bag := range bags {
					body, attrs := string(bag.Body), attributesOf("Category", bag.Category)
					if !wire.Printable(body) {
						body = base64.StdEncoding.EncodeToString(bag.Body)
						attrs = attributesOf("Category", bag.Category, "Encoding", "base64")
					}
					system := map[string]string{"ApproximateReceiveCount": "1"}
					if bag.Group != "" {
						system["MessageGroupId"] = bag.Group
					}
					event["Records"] = append(event["Records"].([]any), map[string]any{
						"messageId": strconv.Itoa(i), "receiptHandle": "r", "body": body, "messageAttributes": attrs, "attributes": system,
						"eventSource": "aws:sqs", "eventSourceARN": queueARN + ".fifo", "awsRegion": "eu-west-1",
					})
				}
				payload, err := json.Marshal(event)
				if err != nil {
					return nil, err
				}
				out, err := invoke(ctx, payload)
				if err != nil {
					return nil, err
				}
				var answer events.SQSEventResponse
				if err := json.Unmarshal(out, &answer); err != nil {
					return nil, err
				}
				var failed []int
				for _, x := range answer.BatchItemFailures {
					i, err := strconv.Atoi(x.ItemIdentifier)
					if err != nil {
						return nil, err
					}
					failed = append(failed, i)
				}
				return failed, nil
			},
			Raw: func(ctx context.Context, payload []byte) error {
				_, err := invoke(ctx, payload)
				return err
			},
		}
	}, qtest.FunctionFeatures{Ordered: true})
}
