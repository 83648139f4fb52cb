// Eventbridge is a function for events of a bus without swarm: what people write by hand
// to consume events and to put one of their own on the bus. Budgets are measured beside
// it. The client is made when it is needed first: a cold start pays for linking it only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
)

type note struct {
	Text string `json:"text"`
}

var client = sync.OnceValues(func() (*eventbridge.Client, error) {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return nil, err
	}
	return eventbridge.NewFromConfig(cfg), nil
})

func main() {
	lambda.Start(func(ctx context.Context, e events.EventBridgeEvent) error {
		var n note
		if err := json.Unmarshal(e.Detail, &n); err != nil {
			return err
		}
		if n.Text == "" {
			return errors.New("the note is empty")
		}
		log.Println(e.DetailType, n.Text)
		c, err := client()
		if err != nil {
			return err
		}
		out, err := c.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
			Source: aws.String("byhand"), DetailType: aws.String("Noted"), Detail: aws.String(string(e.Detail)),
		}}})
		if err == nil && out.FailedEntryCount > 0 {
			err = errors.New(aws.ToString(out.Entries[0].ErrorMessage))
		}
		return err
	})
}
