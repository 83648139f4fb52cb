package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MemoryStream is a stream in memory, for tests. Its methods are safe for concurrent use.
type MemoryStream struct {
	mu     sync.Mutex
	shards []Shard
	parts  map[string]*memoryShard
	last   int // sequence number
}

type memoryShard struct {
	records []Record
	closed  bool
}

// NewMemoryStream makes a stream with open shards of these names.
func NewMemoryStream(shards ...string) *MemoryStream {
	s := &MemoryStream{parts: map[string]*memoryShard{}}
	for _, id := range shards {
		s.AddShard(Shard{ID: id})
	}
	return s
}

// AddShard opens a shard.
func (s *MemoryStream) AddShard(shard Shard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shards, s.parts[shard.ID] = append(s.shards, shard), &memoryShard{}
}

// CloseShard ends a shard: it gets no more records.
func (s *MemoryStream) CloseShard(shard string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[shard].closed = true
}

// Put appends a change to a shard and returns its sequence number. The record is that of
// DynamoDB Streams, with eventID, eventName INSERT and so on, and change, encoded as
// JSON, as dynamodb.NewImage: a map of attribute values in their wire form.
func (s *MemoryStream) Put(shard string, change any) (sequenceNumber string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	sequenceNumber = fmt.Sprintf("%021d", s.last)
	now := time.Now()
	data := must(dynamoRecord{
		EventID: hex(16), EventName: "INSERT", EventVersion: "1.1", EventSource: "aws:dynamodb", Region: "us-east-1", EventSourceARN: s.ARN(),
		Change: dynamoChange{Created: seconds(now), NewImage: change, SequenceNumber: sequenceNumber, StreamViewType: "NEW_AND_OLD_IMAGES"},
	})
	part := s.parts[shard]
	part.records = append(part.records, Record{SequenceNumber: sequenceNumber, Created: now, Data: json.RawMessage(data)})
	return sequenceNumber
}

// ARN implements [StreamSource].
func (s *MemoryStream) ARN() string {
	return "arn:aws:dynamodb:us-east-1:000000000000:table/memory/stream/2026-01-01T00:00:00.000"
}

// Shards implements [StreamSource].
func (s *MemoryStream) Shards(context.Context) ([]Shard, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Shard(nil), s.shards...), nil
}

// Iterator implements [StreamSource].
func (s *MemoryStream) Iterator(_ context.Context, shard string, at Position) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	part, n := s.parts[shard], 0
	if part == nil {
		return "", fmt.Errorf("lambda: no shard %q", shard)
	}
	for ; n < len(part.records) && (at.Latest || part.records[n].SequenceNumber <= at.After); n++ {
	}
	return fmt.Sprintf("%s/%d", shard, n), nil
}

// Read implements [StreamSource].
func (s *MemoryStream) Read(_ context.Context, iterator string, limit int) ([]Record, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slash := strings.LastIndexByte(iterator, '/')
	if slash < 0 {
		return nil, "", ErrIterator
	}
	shard := iterator[:slash]
	from, err := strconv.Atoi(iterator[slash+1:])
	if part := s.parts[shard]; err == nil && part != nil && from <= len(part.records) {
		to := min(from+limit, len(part.records))
		next := fmt.Sprintf("%s/%d", shard, to)
		if part.closed && to == len(part.records) {
			next = ""
		}
		return append([]Record(nil), part.records[from:to]...), next, nil
	}
	return nil, "", ErrIterator
}
