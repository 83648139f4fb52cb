package lambda

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
)

// DynamoDBStreamsClient is what [DynamoDBStream] needs of the client of the SDK.
type DynamoDBStreamsClient interface {
	ListStreams(context.Context, *dynamodbstreams.ListStreamsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.ListStreamsOutput, error)
	DescribeStream(context.Context, *dynamodbstreams.DescribeStreamInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error)
	GetShardIterator(context.Context, *dynamodbstreams.GetShardIteratorInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error)
	GetRecords(context.Context, *dynamodbstreams.GetRecordsInput, ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error)
}

// DynamoDBStream is the stream of a table.
func DynamoDBStream(ctx context.Context, client DynamoDBStreamsClient, table string) (StreamSource, error) {
	found, err := client.ListStreams(ctx, &dynamodbstreams.ListStreamsInput{TableName: &table})
	if err != nil {
		return nil, fmt.Errorf("lambda: streams of the table %q: %w", table, err)
	}
	// Streams that were disabled are listed for another day.
	for _, s := range found.Streams {
		about, err := client.DescribeStream(ctx, &dynamodbstreams.DescribeStreamInput{StreamArn: s.StreamArn})
		if err != nil {
			return nil, fmt.Errorf("lambda: streams of the table %q: %w", table, err)
		}
		if status := about.StreamDescription.StreamStatus; status == types.StreamStatusEnabled || status == types.StreamStatusEnabling {
			return &dynamoStream{client: client, arn: aws.ToString(s.StreamArn)}, nil
		}
	}
	return nil, fmt.Errorf("lambda: the table %q has no stream: is it there, and is StreamEnabled?", table)
}

type dynamoStream struct {
	client DynamoDBStreamsClient
	arn    string
}

func (s *dynamoStream) ARN() string { return s.arn }

func (s *dynamoStream) Shards(ctx context.Context) (shards []Shard, err error) {
	in := &dynamodbstreams.DescribeStreamInput{StreamArn: &s.arn}
	for {
		out, err := s.client.DescribeStream(ctx, in)
		if err != nil {
			return shards, err
		}
		for _, sh := range out.StreamDescription.Shards {
			shards = append(shards, Shard{ID: aws.ToString(sh.ShardId), Parent: aws.ToString(sh.ParentShardId)})
		}
		if in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId; in.ExclusiveStartShardId == nil {
			return shards, nil
		}
	}
}

func (s *dynamoStream) Iterator(ctx context.Context, shard string, at Position) (string, error) {
	in := &dynamodbstreams.GetShardIteratorInput{StreamArn: &s.arn, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	switch {
	case at.Latest:
		in.ShardIteratorType = types.ShardIteratorTypeLatest
	case at.After != "":
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &at.After
	}
	out, err := s.client.GetShardIterator(ctx, in)
	if err != nil {
		return "", iteratorError(err)
	}
	return aws.ToString(out.ShardIterator), nil
}

func (s *dynamoStream) Read(ctx context.Context, iterator string, limit int) ([]Record, string, error) {
	out, err := s.client.GetRecords(ctx, &dynamodbstreams.GetRecordsInput{ShardIterator: &iterator, Limit: aws.Int32(int32(min(limit, 1000)))})
	if err != nil {
		return nil, "", iteratorError(err)
	}
	records := make([]Record, 0, len(out.Records))
	for _, r := range out.Records {
		record, err := s.record(r)
		if err != nil {
			return nil, "", err
		}
		records = append(records, record)
	}
	return records, aws.ToString(out.NextShardIterator), nil
}

func iteratorError(err error) error {
	_, expired := errors.AsType[*types.ExpiredIteratorException](err)
	_, trimmed := errors.AsType[*types.TrimmedDataAccessException](err)
	if expired || trimmed {
		return fmt.Errorf("%w: %w", ErrIterator, err)
	}
	return err
}

// dynamoRecord is a record in an event.
type dynamoRecord struct {
	EventID        string        `json:"eventID"`
	EventName      string        `json:"eventName"`
	EventVersion   string        `json:"eventVersion"`
	EventSource    string        `json:"eventSource"`
	Region         string        `json:"awsRegion"`
	Change         dynamoChange  `json:"dynamodb"`
	UserIdentity   *userIdentity `json:"userIdentity,omitempty"`
	EventSourceARN string        `json:"eventSourceARN"`
}

type dynamoChange struct {
	Created        json.Number `json:"ApproximateCreationDateTime"`
	Keys           any         `json:",omitempty"`
	NewImage       any         `json:",omitempty"`
	OldImage       any         `json:",omitempty"`
	SequenceNumber string
	SizeBytes      int64
	StreamViewType string
}

type userIdentity struct {
	PrincipalID string `json:"principalId"`
	Type        string `json:"type"`
}

// seconds since 1970: AWS sends them whole.
func seconds(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }

func (s *dynamoStream) record(r types.Record) (Record, error) {
	if r.Dynamodb == nil {
		return Record{}, fmt.Errorf("lambda: stream %s: a record without a change", s.arn)
	}
	created := aws.ToTime(r.Dynamodb.ApproximateCreationDateTime)
	raw := dynamoRecord{
		EventID: aws.ToString(r.EventID), EventName: string(r.EventName), EventVersion: aws.ToString(r.EventVersion),
		EventSource: cmp.Or(aws.ToString(r.EventSource), "aws:dynamodb"), Region: aws.ToString(r.AwsRegion), EventSourceARN: s.arn,
		Change: dynamoChange{
			Created: seconds(created), Keys: image(r.Dynamodb.Keys), NewImage: image(r.Dynamodb.NewImage), OldImage: image(r.Dynamodb.OldImage),
			SequenceNumber: aws.ToString(r.Dynamodb.SequenceNumber), SizeBytes: aws.ToInt64(r.Dynamodb.SizeBytes), StreamViewType: string(r.Dynamodb.StreamViewType),
		},
	}
	if id := r.UserIdentity; id != nil {
		raw.UserIdentity = &userIdentity{PrincipalID: aws.ToString(id.PrincipalId), Type: aws.ToString(id.Type)}
	}
	data, err := marshal(raw)
	return Record{SequenceNumber: raw.Change.SequenceNumber, Created: created, Data: data}, err
}

// image is an item in its wire form, nil if there is none.
func image(item map[string]types.AttributeValue) any {
	if item == nil {
		return nil
	}
	wire := make(map[string]any, len(item))
	for name, v := range item {
		wire[name] = attributeValue(v)
	}
	return wire
}

func attributeValue(v types.AttributeValue) map[string]any {
	switch v := v.(type) {
	case *types.AttributeValueMemberB:
		return map[string]any{"B": v.Value}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberBS:
		return map[string]any{"BS": v.Value}
	case *types.AttributeValueMemberL:
		list := make([]any, len(v.Value))
		for i, e := range v.Value {
			list[i] = attributeValue(e)
		}
		return map[string]any{"L": list}
	case *types.AttributeValueMemberM:
		m := make(map[string]any, len(v.Value))
		for name, e := range v.Value {
			m[name] = attributeValue(e)
		}
		return map[string]any{"M": m}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberNS:
		return map[string]any{"NS": v.Value}
	case *types.AttributeValueMemberNULL:
		return map[string]any{"NULL": v.Value}
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberSS:
		return map[string]any{"SS": v.Value}
	}
	return map[string]any{} // a type that this SDK does not know: functions fail on it too
}
