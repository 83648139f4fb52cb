// Plain is a function without swarm and without a client of AWS: what people write by
// hand for events that are pushed. Budgets are measured beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

type note struct {
	Text string `json:"text"`
}

func main() {
	lambda.Start(func(_ context.Context, e events.EventBridgeEvent) error {
		var n note
		if err := json.Unmarshal(e.Detail, &n); err != nil {
			return err
		}
		if n.Text == "" {
			return errors.New("the note is empty")
		}
		log.Println(e.DetailType, n.Text)
		return nil
	})
}
