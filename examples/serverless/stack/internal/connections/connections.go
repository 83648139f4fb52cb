// Package connections keeps in a table of DynamoDB who is connected.
package connections

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fogfish/swarm/broker/websocket"
)

const (
	EnvTable = "CONNECTIONS" // the name of the table

	Topic      = "topic"      // its keys
	Connection = "connection" //
	since      = "since"
)

// Registry is for clients that are in one topic.
type Registry struct {
	client       *dynamodb.Client
	table, topic string
}

var _ websocket.Registry = (*Registry)(nil)

// New makes a registry of the table that the environment names.
func New(ctx context.Context, topic string) (*Registry, error) {
	table := os.Getenv(EnvTable)
	if table == "" {
		return nil, fmt.Errorf("%s is not set", EnvTable)
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, err
	}
	return &Registry{client: dynamodb.NewFromConfig(cfg), table: table, topic: topic}, nil
}

// Set implements websocket.Registry.
func (r *Registry) Set(ctx context.Context, m websocket.Member, topics ...string) error {
	key := map[string]types.AttributeValue{
		Topic:      &types.AttributeValueMemberS{Value: r.topic},
		Connection: &types.AttributeValueMemberS{Value: m.Connection},
	}
	switch {
	case len(topics) == 0:
		_, err := r.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &r.table, Key: key})
		return err
	case len(topics) > 1 || topics[0] != r.topic:
		return errors.New("there is one topic")
	}
	key[since] = &types.AttributeValueMemberS{Value: m.Since.Format(time.RFC3339)}
	_, err := r.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &r.table, Item: key})
	return err
}

// Members implements websocket.Registry.
func (r *Registry) Members(ctx context.Context, topic string) iter.Seq2[websocket.Member, error] {
	return func(yield func(websocket.Member, error) bool) {
		pages := dynamodb.NewQueryPaginator(r.client, &dynamodb.QueryInput{
			TableName:                 &r.table,
			KeyConditionExpression:    aws.String(Topic + " = :topic"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":topic": &types.AttributeValueMemberS{Value: topic}},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(websocket.Member{}, err)
				return
			}
			for _, item := range page.Items {
				id, _ := item[Connection].(*types.AttributeValueMemberS)
				at, _ := item[since].(*types.AttributeValueMemberS)
				if id == nil || at == nil {
					continue
				}
				t, _ := time.Parse(time.RFC3339, at.Value)
				if !yield(websocket.Member{Connection: id.Value, Since: t}, nil) {
					return
				}
			}
		}
	}
}
