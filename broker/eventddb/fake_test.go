package eventddb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
)

// fake is a stream in memory that follows the documented rules: shards with parents, that
// close and are trimmed; iterators that expire. It works in virtual time.
type fake struct {
	life time.Duration // of an iterator

	mu       sync.Mutex
	shards   []*shard
	sequence int
	requests map[string]int
	fault    func(op, shard string, n int) error // optional
	page     int                                 // shards of an answer; 0: all
}

type shard struct {
	id, parent string
	records    []types.Record
	first      int // what was before is trimmed
	closed     bool
	readers    int // GetRecords in flight
}

const arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/users/stream/2026-11-24T00:00:00.000"

func newFake(shards ...string) *fake {
	f := &fake{life: 15 * time.Minute, requests: map[string]int{}}
	for _, id := range shards {
		f.add(id, "")
	}
	return f
}

func (f *fake) add(id, parent string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shards = append(f.shards, &shard{id: id, parent: parent})
}

func (f *fake) find(id string) *shard {
	for _, s := range f.shards {
		if s.id == id {
			return s
		}
	}
	return nil
}

// put writes a record with a name into a shard.
func (f *fake) put(id string, names ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.find(id)
	for _, name := range names {
		f.write(s, map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}, "name": &types.AttributeValueMemberS{Value: name}})
	}
}

// write makes a record of a new item. Callers hold mu.
func (f *fake) write(s *shard, item map[string]types.AttributeValue) {
	f.sequence++
	seq := fmt.Sprintf("%021d", f.sequence)
	s.records = append(s.records, types.Record{
		EventID: aws.String("e" + seq), EventName: types.OperationTypeInsert, AwsRegion: aws.String("eu-west-1"),
		Dynamodb: &types.StreamRecord{
			ApproximateCreationDateTime: aws.Time(time.Now().Truncate(time.Second)), SequenceNumber: &seq, NewImage: item,
		},
	})
}

func (f *fake) close(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.find(id).closed = true
	}
}

// trim removes the first n records of a shard.
func (f *fake) trim(id string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.find(id).first = n
}

func (f *fake) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[op]
}

func (f *fake) begin(ctx context.Context, op, shard string) error {
	f.mu.Lock()
	f.requests[op]++
	n, fault := f.requests[op], f.fault
	f.mu.Unlock()
	select { // requests take their time: virtual time needs it
	case <-time.After(2 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if fault != nil {
		return fault(op, shard, n)
	}
	return nil
}

func (f *fake) ListStreams(ctx context.Context, in *dynamodbstreams.ListStreamsInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.ListStreamsOutput, error) {
	if err := f.begin(ctx, "ListStreams", ""); err != nil {
		return nil, err
	}
	if *in.TableName != "users" {
		return &dynamodbstreams.ListStreamsOutput{}, nil
	}
	old := strings.Replace(arn, "2026-11-24", "2026-11-23", 1)
	return &dynamodbstreams.ListStreamsOutput{Streams: []types.Stream{
		{StreamArn: &old, StreamLabel: aws.String("2026-11-23T00:00:00.000")}, {StreamArn: aws.String(arn), StreamLabel: aws.String("2026-11-24T00:00:00.000")},
	}}, nil
}

func (f *fake) DescribeStream(ctx context.Context, in *dynamodbstreams.DescribeStreamInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.DescribeStreamOutput, error) {
	if err := f.begin(ctx, "DescribeStream", ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if aws.ToString(in.StreamArn) != arn {
		return nil, &types.ResourceNotFoundException{}
	}
	out := &types.StreamDescription{StreamArn: in.StreamArn}
	from := 0
	if in.ExclusiveStartShardId != nil {
		from = 1 + slices.IndexFunc(f.shards, func(s *shard) bool { return s.id == *in.ExclusiveStartShardId })
	}
	for i := from; i < len(f.shards); i++ {
		if f.page > 0 && i == from+f.page {
			out.LastEvaluatedShardId = &f.shards[i-1].id
			break
		}
		s := f.shards[i]
		x := types.Shard{ShardId: &s.id}
		if s.parent != "" {
			x.ParentShardId = &s.parent
		}
		out.Shards = append(out.Shards, x)
	}
	return &dynamodbstreams.DescribeStreamOutput{StreamDescription: out}, nil
}

func (f *fake) GetShardIterator(ctx context.Context, in *dynamodbstreams.GetShardIteratorInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetShardIteratorOutput, error) {
	if err := f.begin(ctx, "GetShardIterator", *in.ShardId); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.find(*in.ShardId)
	if s == nil {
		return nil, &types.ResourceNotFoundException{}
	}
	at := s.first
	if in.ShardIteratorType == types.ShardIteratorTypeAfterSequenceNumber {
		at = slices.IndexFunc(s.records, func(r types.Record) bool { return *r.Dynamodb.SequenceNumber > *in.SequenceNumber })
		if at < 0 {
			at = len(s.records)
		}
		if at < s.first {
			return nil, &types.TrimmedDataAccessException{}
		}
	}
	return &dynamodbstreams.GetShardIteratorOutput{ShardIterator: f.iterator(s, at)}, nil
}

func (f *fake) iterator(s *shard, at int) *string {
	return aws.String(fmt.Sprintf("%s|%d|%d", s.id, at, time.Now().Add(f.life).UnixNano()))
}

func (f *fake) GetRecords(ctx context.Context, in *dynamodbstreams.GetRecordsInput, _ ...func(*dynamodbstreams.Options)) (*dynamodbstreams.GetRecordsOutput, error) {
	part := strings.Split(*in.ShardIterator, "|")
	f.mu.Lock()
	s := f.find(part[0])
	s.readers++
	f.mu.Unlock()
	err := f.begin(ctx, "GetRecords", part[0])
	f.mu.Lock()
	defer f.mu.Unlock()
	s.readers--
	if err != nil {
		return nil, err
	}
	at, _ := strconv.Atoi(part[1])
	until, _ := strconv.ParseInt(part[2], 10, 64)
	switch {
	case time.Now().UnixNano() > until:
		return nil, &types.ExpiredIteratorException{}
	case at < s.first:
		return nil, &types.TrimmedDataAccessException{}
	}
	end := min(len(s.records), at+int(*in.Limit))
	out := &dynamodbstreams.GetRecordsOutput{Records: slices.Clone(s.records[at:end])}
	if !s.closed || end < len(s.records) {
		out.NextShardIterator = f.iterator(s, end)
	}
	return out, nil
}

var errBoom = errors.New("boom")
