// Sqs is a function for a queue without swarm: what people write by hand to consume,
// send and postpone messages. Budgets are measured beside it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

type note struct {
	Text      string    `json:"text"`
	NotBefore time.Time `json:"notBefore,omitzero"`
}

type user struct {
	Name string `json:"name"`
}

type signUp struct {
	Data *user `json:"data,omitempty"`
}

func main() {
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	h := handler{client: sqs.NewFromConfig(cfg), target: os.Getenv("TARGET_QUEUE_URL")}
	lambda.Start(h.handle)
}

type handler struct {
	client *sqs.Client
	target string
}

func (h handler) handle(ctx context.Context, e events.SQSEvent) (out events.SQSEventResponse, _ error) {
	var welcomes []types.SendMessageBatchRequestEntry
	for _, m := range e.Records {
		if err := h.process(ctx, m, &welcomes); err != nil {
			log.Println(m.MessageId, err)
			out.BatchItemFailures = append(out.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: m.MessageId})
		}
	}
	if len(welcomes) > 0 && h.target != "" {
		if _, err := h.client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &h.target, Entries: welcomes}); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (h handler) process(ctx context.Context, m events.SQSMessage, welcomes *[]types.SendMessageBatchRequestEntry) error {
	switch category := m.MessageAttributes["Category"]; aws.ToString(category.StringValue) {
	case "Note":
		var n note
		if err := json.Unmarshal([]byte(m.Body), &n); err != nil {
			return err
		}
		if n.Text == "" {
			return errors.New("the note is empty")
		}
		if early := time.Until(n.NotBefore); early > 0 {
			name := m.EventSourceARN[strings.LastIndexByte(m.EventSourceARN, ':')+1:]
			url, err := h.client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
			if err != nil {
				return err
			}
			_, err = h.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: url.QueueUrl, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{
				{Id: aws.String("0"), ReceiptHandle: &m.ReceiptHandle, VisibilityTimeout: int32(early.Seconds())},
			}})
			return errors.Join(errors.New("the note is early"), err)
		}
		log.Println("note", n.Text)
	case "User":
		var s signUp
		if err := json.Unmarshal([]byte(m.Body), &s); err != nil {
			return err
		}
		body, err := json.Marshal(s.Data)
		if err != nil {
			return err
		}
		*welcomes = append(*welcomes, types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(len(*welcomes))), MessageBody: aws.String(string(body))})
	default:
		log.Println("image", len(m.Body))
	}
	return nil
}
