// Testfn is a function that the test of swarm-local builds: it prints what it gets and
// answers with it. A record or an event with "fail" in its body fails.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(_ context.Context, raw json.RawMessage) (any, error) {
		var e events.SQSEvent
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		if len(e.Records) == 0 {
			fmt.Println("event", string(raw))
			if strings.Contains(string(raw), "fail") {
				return nil, errors.New("as told")
			}
			return raw, nil
		}
		var response events.SQSEventResponse
		for _, r := range e.Records {
			fmt.Println("message", r.Body)
			if r.Body == "fail" {
				response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
			}
		}
		return response, nil
	})
}
