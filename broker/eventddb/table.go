package eventddb

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
)

// Tables is the part of the SDK's client that [NewTable] calls. *dynamodb.Client has it.
type Tables interface {
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
}

// NewTable keeps leases in a table of DynamoDB, for any number of instances and streams.
// The table must exist: its partition key is stream, its sort key shard, both text. An
// instance writes each of its shards once a second while records come, and three times in
// the time of a lease while none do.
func NewTable(client Tables, table string) Store { return &tableStore{client, table} }

type tableStore struct {
	client Tables
	name   string
}

// row is a Lease as an item.
type row struct {
	Stream   string `dynamodbav:"stream"`
	Shard    string `dynamodbav:"shard"`
	Version  int64  `dynamodbav:"version"`
	Owner    string `dynamodbav:"owner,omitempty"`
	Heir     string `dynamodbav:"heir,omitempty"`
	Sequence string `dynamodbav:"sequence,omitempty"`
	At       string `dynamodbav:"at,omitempty"` // RFC 3339
	Done     bool   `dynamodbav:"done,omitempty"`
}

func (t *tableStore) Load(ctx context.Context, stream string) ([]Lease, error) {
	var list []Lease
	in := &dynamodb.QueryInput{
		TableName:                 &t.name,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    aws.String("#s = :s"),
		ExpressionAttributeNames:  map[string]string{"#s": "stream"},
		ExpressionAttributeValues: map[string]types.AttributeValue{":s": &types.AttributeValueMemberS{Value: stream}},
	}
	for {
		out, err := awskit.Answered(t.client.Query(ctx, in))
		if err != nil {
			return nil, t.wrap(err)
		}
		for _, item := range out.Items {
			var r row
			if err := attributevalue.UnmarshalMap(item, &r); err != nil {
				return nil, t.wrap(err)
			}
			l := Lease{Shard: r.Shard, Version: r.Version, Owner: r.Owner, Heir: r.Heir, Sequence: r.Sequence, Done: r.Done}
			if r.At != "" {
				if l.At, err = time.Parse(time.RFC3339Nano, r.At); err != nil {
					return nil, t.wrap(err)
				}
			}
			list = append(list, l)
		}
		if in.ExclusiveStartKey = out.LastEvaluatedKey; len(in.ExclusiveStartKey) == 0 {
			return list, nil
		}
	}
}

func (t *tableStore) Put(ctx context.Context, stream string, l Lease) error {
	r := row{Stream: stream, Shard: l.Shard, Version: l.Version + 1, Owner: l.Owner, Heir: l.Heir, Sequence: l.Sequence, Done: l.Done}
	if !l.At.IsZero() {
		r.At = l.At.UTC().Format(time.RFC3339Nano)
	}
	item, err := attributevalue.MarshalMap(r)
	if err != nil {
		return t.wrap(err)
	}
	in := &dynamodb.PutItemInput{TableName: &t.name, Item: item}
	if l.Version == 0 {
		in.ConditionExpression = aws.String("attribute_not_exists(#c)")
		in.ExpressionAttributeNames = map[string]string{"#c": "shard"} // a reserved word
	} else {
		in.ConditionExpression = aws.String("#c = :v")
		in.ExpressionAttributeNames = map[string]string{"#c": "version"}
		in.ExpressionAttributeValues = map[string]types.AttributeValue{":v": &types.AttributeValueMemberN{Value: strconv.FormatInt(l.Version, 10)}}
	}
	_, err = t.client.PutItem(ctx, in)
	if awskit.Is[*types.ConditionalCheckFailedException](err) {
		return ErrConflict
	}
	return t.wrap(err)
}

func (t *tableStore) Delete(ctx context.Context, stream, shard string) error {
	_, err := t.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &t.name, Key: map[string]types.AttributeValue{
		"stream": &types.AttributeValueMemberS{Value: stream}, "shard": &types.AttributeValueMemberS{Value: shard},
	}})
	return t.wrap(err)
}

func (t *tableStore) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("table %s: %w", t.name, err)
}
