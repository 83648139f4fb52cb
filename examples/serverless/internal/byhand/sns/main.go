// Sns is a function for messages of a topic without swarm: what people write by hand to
// consume them and to publish one of their own. Budgets are measured beside it. The client
// is made when it is needed first: a cold start pays for linking it only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"sync"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
)

type note struct {
	Text string `json:"text"`
}

var client = sync.OnceValues(func() (*sns.Client, error) {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		return nil, err
	}
	return sns.NewFromConfig(cfg), nil
})

func main() {
	topic := os.Getenv("TARGET_TOPIC_ARN")
	lambda.Start(func(ctx context.Context, e events.SNSEvent) error {
		var entries []types.PublishBatchRequestEntry
		for _, r := range e.Records {
			var n note
			if err := json.Unmarshal([]byte(r.SNS.Message), &n); err != nil {
				return err
			}
			if n.Text == "" {
				return errors.New("the note is empty")
			}
			log.Println(r.SNS.MessageID, n.Text)
			entries = append(entries, types.PublishBatchRequestEntry{Id: aws.String(r.SNS.MessageID), Message: &r.SNS.Message})
		}
		c, err := client()
		if err != nil {
			return err
		}
		out, err := c.PublishBatch(ctx, &sns.PublishBatchInput{TopicArn: &topic, PublishBatchRequestEntries: entries})
		if err == nil && len(out.Failed) > 0 {
			err = errors.New(aws.ToString(out.Failed[0].Message))
		}
		return err
	})
}
