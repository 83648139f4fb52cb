package sqs_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fogfish/swarm/broker/internal/awstest"
)

// stub is SQS over HTTP, as far as this package calls it: one queue in memory. It is
// modelled on the API documentation; LocalStack is the check.
type stub struct {
	*awstest.Stub
	latency time.Duration
	fifo    bool
	watch   func(op string, in map[string]any) // optional

	mu       sync.Mutex
	messages []*record
	dedup    map[string]string // key to message id
	sequence int
	receives int // after so many a message is a dead letter; 0: never
	dead     []*record
	attrs    map[string]string
}

// record is a message of the stub.
type record struct {
	id, body, group string
	attributes      map[string]any
	sent            time.Time
	visible         time.Time
	received        int
	receipt         string
}

func newStub(t awstest.T) *stub {
	s := &stub{Stub: awstest.NewStub(t, awstest.JSON("1.0")), dedup: map[string]string{}, attrs: map[string]string{
		"VisibilityTimeout": "30", "MaximumMessageSize": "1048576",
	}}
	s.DoContext = func(ctx context.Context, op string, body []byte, f awstest.Fault) ([]byte, string) {
		var in map[string]any
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, "InvalidRequest"
		}
		out, code := s.do(ctx, op, in, f)
		answer, _ := json.Marshal(out)
		return answer, code
	}
	return s
}

func (s *stub) name() string {
	if s.fifo {
		return "queue.fifo"
	}
	return "queue"
}

func (s *stub) left() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

func (s *stub) do(ctx context.Context, op string, in map[string]any, f awstest.Fault) (out any, code string) {
	if s.watch != nil {
		s.watch(op, in)
	}
	if op != "ReceiveMessage" {
		time.Sleep(s.latency)
	}
	switch op {
	case "GetQueueUrl":
		if in["QueueName"] != s.name() {
			return nil, "QueueDoesNotExist"
		}
		return map[string]string{"QueueUrl": s.URL() + "/123456789012/" + s.name()}, ""
	case "GetQueueAttributes":
		for _, name := range in["AttributeNames"].([]any) {
			if name == "FifoQueue" && !s.fifo {
				return nil, "InvalidAttributeName" // as AWS, unlike LocalStack
			}
		}
		return map[string]any{"Attributes": s.attrs}, ""
	case "ReceiveMessage":
		return s.receive(ctx, in, f)
	case "SendMessageBatch", "DeleteMessageBatch", "ChangeMessageVisibilityBatch":
		return s.batch(op, in, f)
	}
	return nil, "UnsupportedOperation"
}

func (s *stub) batch(op string, in map[string]any, f awstest.Fault) (any, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	good, bad := []any{}, []any{}
	entries := in["Entries"].([]any)
	if len(entries) > 10 {
		return nil, "TooManyEntriesInBatchRequest"
	}
	total := 0
	for _, x := range entries {
		if e := x.(map[string]any); op == "SendMessageBatch" {
			total += len(e["MessageBody"].(string))
		}
	}
	if total > 1<<20 {
		return nil, "BatchRequestTooLong"
	}
	for i, x := range entries {
		e := x.(map[string]any)
		if fe, ok := f.Entries[i]; ok {
			if body, sends := e["MessageBody"].(string); sends {
				s.Refuse(body)
			}
			bad = append(bad, map[string]any{"Id": e["Id"], "Code": fe.Code, "Message": "the stub says so", "SenderFault": fe.Sender})
			continue
		}
		var result map[string]any
		switch op {
		case "SendMessageBatch":
			result = s.put(e, f)
		case "DeleteMessageBatch":
			if i := s.find(e["ReceiptHandle"]); i >= 0 {
				s.messages = append(s.messages[:i], s.messages[i+1:]...)
			}
			result = map[string]any{}
		default:
			i := s.find(e["ReceiptHandle"])
			if i < 0 {
				bad = append(bad, map[string]any{"Id": e["Id"], "Code": "ReceiptHandleIsInvalid", "Message": "stale", "SenderFault": true})
				continue
			}
			v, _ := e["VisibilityTimeout"].(float64)
			s.messages[i].visible = time.Now().Add(time.Duration(v) * time.Second)
			result = map[string]any{}
		}
		result["Id"] = e["Id"]
		good = append(good, result)
	}
	return map[string]any{"Successful": good, "Failed": bad}, ""
}

func (s *stub) put(e map[string]any, f awstest.Fault) map[string]any {
	body := e["MessageBody"].(string)
	s.sequence++
	m := &record{id: fmt.Sprint("m-", s.sequence), body: body, sent: time.Now()}
	m.attributes, _ = e["MessageAttributes"].(map[string]any)
	m.group, _ = e["MessageGroupId"].(string)
	sum := checksum(body)
	if f.Garble {
		sum = checksum(body + "?")
	}
	if key, _ := e["MessageDeduplicationId"].(string); s.fifo && key != "" {
		if id, seen := s.dedup[key]; seen {
			return map[string]any{"MessageId": id, "MD5OfMessageBody": sum}
		}
		s.dedup[key] = m.id
	}
	s.Accept(body)
	s.messages = append(s.messages, m)
	return map[string]any{"MessageId": m.id, "MD5OfMessageBody": sum}
}

func checksum(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

func (s *stub) find(receipt any) int {
	for i, m := range s.messages {
		if m.receipt != "" && m.receipt == receipt {
			return i
		}
	}
	return -1
}

func (s *stub) receive(ctx context.Context, in map[string]any, f awstest.Fault) (any, string) {
	limit, wait := 1, time.Duration(0)
	if n, ok := in["MaxNumberOfMessages"].(float64); ok {
		limit = int(n)
	}
	if n, ok := in["WaitTimeSeconds"].(float64); ok {
		wait = time.Duration(n) * time.Second
	}
	visibility, _ := strconv.Atoi(s.attrs["VisibilityTimeout"])
	if n, ok := in["VisibilityTimeout"].(float64); ok {
		visibility = int(n)
	}
	began := time.Now()
	for {
		if got := s.take(limit, time.Duration(visibility)*time.Second, f); len(got) > 0 || time.Since(began) >= wait {
			time.Sleep(s.latency)
			return map[string]any{"Messages": got}, ""
		}
		select {
		case <-ctx.Done():
			return nil, "RequestCanceled"
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *stub) take(limit int, visibility time.Duration, f awstest.Fault) (got []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	busy := map[string]bool{}
	for _, m := range s.messages {
		if s.fifo && now.Before(m.visible) {
			busy[m.group] = true
		}
	}
	for _, m := range slices.Clone(s.messages) {
		if len(got) == limit {
			break
		}
		if now.Before(m.visible) || s.fifo && busy[m.group] {
			continue
		}
		if s.receives > 0 && m.received == s.receives {
			s.dead = append(s.dead, m)
			s.messages = slices.DeleteFunc(s.messages, func(x *record) bool { return x == m })
			continue
		}
		m.received++
		m.visible = now.Add(visibility)
		m.receipt = fmt.Sprint(m.id, "#", m.received)
		sum := checksum(m.body)
		if f.Garble && len(got) == 0 {
			sum = checksum(m.body + "?")
		}
		system := map[string]string{
			"ApproximateReceiveCount": strconv.Itoa(m.received),
			"SentTimestamp":           strconv.FormatInt(m.sent.UnixMilli(), 10),
		}
		if m.group != "" {
			system["MessageGroupId"] = m.group
		}
		got = append(got, map[string]any{
			"MessageId": m.id, "ReceiptHandle": m.receipt, "Body": m.body, "MD5OfBody": sum,
			"Attributes": system, "MessageAttributes": m.attributes,
		})
	}
	return got
}
