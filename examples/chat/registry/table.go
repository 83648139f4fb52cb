package registry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/fogfish/swarm/broker/websocket"
)

// Table is a [Registry] over a table of DynamoDB. It has an item for each connection in a
// topic, and one for each connection, which says what there is to remove:
//
//	key                  range      since  expires  topics                version
//	topic#room/hall      L0SM9cOF…  …      …
//	topic#name/ada       L0SM9cOF…  …      …
//	connection#L0SM9cOF… -          …      …        room/hall name/ada    1
//
// A function may do Query, GetItem, PutItem and DeleteItem, and nothing else, with it.
type Table struct {
	client *dynamodb.Client
	name   string
	page   int32 // items that a query returns at once
}

type item struct {
	Key     string   `dynamodbav:"key"`
	Range   string   `dynamodbav:"range"`
	Since   int64    `dynamodbav:"since"`   // in milliseconds
	Expires int64    `dynamodbav:"expires"` // in seconds: the time to live
	Topics  []string `dynamodbav:"topics,omitempty"`
	Version int      `dynamodbav:"version,omitempty"`
}

const (
	topicPrefix      = "topic#"
	connectionPrefix = "connection#"
	connectionRange  = "-"
)

const (
	// lifetime is when an item is no longer true, whatever has become of the connection: API
	// Gateway ends each after 2 hours.
	lifetime = 2*time.Hour + 5*time.Minute
	// attempts to set the topics of a connection, if others do it at the same time.
	attempts = 8
	// most is how many topics may change at once, by the limit of a transaction.
	most = 99
)

// NewTable takes a table that is there; [Create] makes one.
func NewTable(client *dynamodb.Client, name string) *Table {
	return &Table{client: client, name: name, page: 500}
}

// Create makes the table, unless it is there.
func Create(ctx context.Context, client *dynamodb.Client, name string) error {
	_, err := client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   &name,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: new("key"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: new("range"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: new("key"), KeyType: types.KeyTypeHash},
			{AttributeName: new("range"), KeyType: types.KeyTypeRange},
		},
	})
	if _, there := errors.AsType[*types.ResourceInUseException](err); there {
		return nil
	}
	if err != nil {
		return err
	}
	if err := dynamodb.NewTableExistsWaiter(client).Wait(ctx, &dynamodb.DescribeTableInput{TableName: &name}, time.Minute); err != nil {
		return err
	}
	_, err = client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{TableName: &name,
		TimeToLiveSpecification: &types.TimeToLiveSpecification{AttributeName: new("expires"), Enabled: new(true)}})
	return err
}

// Members implements [Registry].
func (t *Table) Members(ctx context.Context, topic string) iter.Seq2[websocket.Member, error] {
	fail := func(err error) (websocket.Member, error) {
		return websocket.Member{}, fmt.Errorf("registry: members of %q: %w", topic, err)
	}
	return func(yield func(websocket.Member, error) bool) {
		pages := dynamodb.NewQueryPaginator(t.client, &dynamodb.QueryInput{
			TableName:              &t.name,
			KeyConditionExpression: new("#key = :topic"),
			FilterExpression:       new("expires > :now"), // DynamoDB takes its time to remove
			ExpressionAttributeNames: map[string]string{
				"#key": "key",
			},
			ExpressionAttributeValues: map[string]types.AttributeValue{
				":topic": text(topicPrefix + topic),
				":now":   number(time.Now().Unix()),
			},
			ConsistentRead: new(true),
			Limit:          &t.page,
		})
		for pages.HasMorePages() {
			out, err := pages.NextPage(ctx)
			if err != nil {
				yield(fail(err))
				return
			}
			var all []item
			if err := attributevalue.UnmarshalListOfMaps(out.Items, &all); err != nil {
				yield(fail(err))
				return
			}
			for _, i := range all {
				if !yield(websocket.Member{Connection: i.Range, Since: time.UnixMilli(i.Since)}, nil) {
					return
				}
			}
		}
	}
}

// Topics implements [Registry].
func (t *Table) Topics(ctx context.Context, connection string) ([]string, error) {
	i, err := t.get(ctx, connection)
	if err != nil {
		return nil, fmt.Errorf("registry: topics of connection %s: %w", connection, err)
	}
	if i.Expires <= time.Now().Unix() {
		return nil, nil
	}
	return i.Topics, nil
}

// Set implements [Registry]. All items of a connection change together or not at all, and
// only if nobody else has changed them meanwhile: a client may go while it changes the room.
func (t *Table) Set(ctx context.Context, m websocket.Member, topics ...string) error {
	topics = unique(topics)
	for n := 1; ; n++ {
		was, err := t.get(ctx, m.Connection)
		if err == nil {
			err = t.replace(ctx, m, was, topics)
		}
		switch {
		case err == nil:
			return nil
		case n == attempts || !contended(err):
			return fmt.Errorf("registry: set topics of connection %s: %w", m.Connection, err)
		}
		select {
		case <-time.After(rand.N(time.Duration(n) * 20 * time.Millisecond)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// replace changes the items of a connection, if they still are what they were.
func (t *Table) replace(ctx context.Context, m websocket.Member, was item, topics []string) error {
	own := key(connectionPrefix+m.Connection, connectionRange)
	since, expires := m.Since.UnixMilli(), m.Since.Add(lifetime).Unix()

	var changes []types.TransactWriteItem
	for _, topic := range was.Topics {
		if !slices.Contains(topics, topic) {
			changes = append(changes, types.TransactWriteItem{Delete: &types.Delete{TableName: &t.name, Key: key(topicPrefix+topic, m.Connection)}})
		}
	}
	for _, topic := range topics {
		put, err := attributevalue.MarshalMap(item{Key: topicPrefix + topic, Range: m.Connection, Since: since, Expires: expires})
		if err != nil {
			return err
		}
		changes = append(changes, types.TransactWriteItem{Put: &types.Put{TableName: &t.name, Item: put}})
	}
	if len(changes) > most {
		return fmt.Errorf("%d topics change, at most %d can", len(changes), most)
	}

	unchanged, values := new("attribute_not_exists(version)"), map[string]types.AttributeValue(nil)
	if was.Version > 0 {
		unchanged, values = new("version = :was"), map[string]types.AttributeValue{":was": number(int64(was.Version))}
	}
	version := was.Version + 1
	if was.Version == 0 {
		version = 1 + rand.N(1<<40) // not that of an item that was there before
	}
	switch {
	case len(topics) > 0:
		put, err := attributevalue.MarshalMap(item{Key: connectionPrefix + m.Connection, Range: connectionRange,
			Since: since, Expires: expires, Topics: topics, Version: version})
		if err != nil {
			return err
		}
		changes = append(changes, types.TransactWriteItem{Put: &types.Put{TableName: &t.name, Item: put,
			ConditionExpression: unchanged, ExpressionAttributeValues: values}})
	case was.Version > 0:
		changes = append(changes, types.TransactWriteItem{Delete: &types.Delete{TableName: &t.name, Key: own,
			ConditionExpression: unchanged, ExpressionAttributeValues: values}})
	default:
		return nil // it was not there
	}
	_, err := t.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: changes})
	return err
}

// get the item of a connection; one without a version is not there.
func (t *Table) get(ctx context.Context, connection string) (i item, err error) {
	out, err := t.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.name,
		Key: key(connectionPrefix+connection, connectionRange), ConsistentRead: new(true)})
	if err != nil {
		return i, err
	}
	return i, attributevalue.UnmarshalMap(out.Item, &i)
}

// contended says that someone else has changed, or is changing, the same items.
func contended(err error) bool {
	cancelled, ok := errors.AsType[*types.TransactionCanceledException](err)
	return ok && slices.ContainsFunc(cancelled.CancellationReasons, func(r types.CancellationReason) bool {
		return r.Code != nil && (*r.Code == "ConditionalCheckFailed" || *r.Code == "TransactionConflict")
	})
}

func key(hash, sort string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"key": text(hash), "range": text(sort)}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}
