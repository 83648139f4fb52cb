package events3_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/events3"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"
)

// The conformance suite for functions.
func TestFunctionConformance(t *testing.T) {
	qtest.RunFunction(t, func(qtest.T) qtest.Function {
		handler := make(chan lambda.Handler, 1)
		invoke := func(ctx context.Context, payload string) ([]int, error) {
			h := <-handler
			handler <- h
			given := []byte(payload)
			defer clear(given)
			_, err := h.Invoke(ctx, given)
			return nil, err
		}
		return qtest.Function{
			Connect: func() (io.Closer, error) { return keyed{events3.FunctionDriver(handler).(runner)}, nil },
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				var list []string
				for _, bag := range bags {
					key, err := json.Marshal(bag.Category + "|" + hex.EncodeToString(bag.Body))
					if err != nil {
						return nil, err
					}
					list = append(list, `{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":`+string(key)+`}}}`)
				}
				return invoke(ctx, `{"Records":[`+strings.Join(list, ",")+`]}`)
			},
			Raw: func(ctx context.Context, payload []byte) error {
				_, err := invoke(ctx, string(payload))
				return err
			},
		}
	}, qtest.FunctionFeatures{Whole: true})
}

type runner interface {
	io.Closer
	driver.Runner
	driver.Limiter
}

// keyed is a driver whose records stand for what is in their keys.
type keyed struct{ runner }

func (d keyed) Run(ctx context.Context, serve driver.Serve) error {
	return d.runner.Run(ctx, func(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
		for i := range bags {
			var r events3.Record
			if err := json.Unmarshal(bags[i].Body, &r); err != nil {
				return nil, err
			}
			category, body, _ := strings.Cut(r.Key, "|")
			content, err := hex.DecodeString(body)
			if err != nil {
				return nil, err
			}
			bags[i].Category, bags[i].Body = category, content
		}
		return serve(ctx, bags)
	})
}
