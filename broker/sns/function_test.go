package sns_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/broker/sns"
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
			Connect: func() (io.Closer, error) { return sns.FunctionDriver(handler), nil },
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				var list []string
				for _, bag := range bags {
					body, encoding := bag.Body, ""
					if !wire.Printable(body) {
						body, encoding = []byte(base64.StdEncoding.EncodeToString(body)), `,"Encoding":{"Type":"String","Value":"base64"}`
					}
					message, err := json.Marshal(string(body))
					if err != nil {
						return nil, err
					}
					list = append(list, recordOf(string(message), `{"Category":{"Type":"String","Value":"`+bag.Category+`"}`+encoding+`}`))
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
