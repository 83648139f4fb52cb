// Catalogue is a function of AWS Lambda that writes into a table which files were uploaded.
// Its queue is the target of a rule.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"

	"github.com/fogfish/swarm/examples/serverless/stack/internal/uploads"
)

func main() {
	q := swarm.Must(sqs.Listener().WithUnwrap(sqs.EventBridge).Build(""))
	cfg, err := config.LoadDefaultConfig(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	table := dynamodb.NewFromConfig(cfg)

	deq, ack := listen.Typed[uploads.Uploaded](q)
	go func() {
		for msg := range deq {
			item, err := attributevalue.MarshalMap(msg.Object)
			if err == nil {
				_, err = table.PutItem(msg.Context(), &dynamodb.PutItemInput{
					TableName: aws.String(os.Getenv("CONFIG_SWARM_TARGET_DDB")),
					Item:      item,
				})
			}
			if err != nil {
				ack <- msg.Fail(err)
				continue
			}
			ack <- msg
		}
	}()
	if err := q.Await(); err != nil {
		log.Fatal(err)
	}
}
