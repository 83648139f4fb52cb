package eventbridge_test

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/core/codec"
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
			Connect: func() (io.Closer, error) { return eventbridge.FunctionDriver(handler), nil },
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				var list []string
				for _, bag := range bags {
					detail := string(bag.Body)
					if !json.Valid(bag.Body) || detail[0] != '{' {
						detail = string(codec.Pack(bag.Body))
					}
					list = append(list, eventOf(bag.Category, detail))
				}
				return invoke(ctx, "["+strings.Join(list, ",")+"]")
			},
			Raw: func(ctx context.Context, payload []byte) error {
				_, err := invoke(ctx, string(payload))
				return err
			},
		}
	}, qtest.FunctionFeatures{Whole: true})
}
