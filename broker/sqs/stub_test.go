package sqs_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// stub is SQS over HTTP, as far as this package calls it: one queue in memory, and
// faults on demand. It is modelled on the API documentation; LocalStack is the check.
type stub struct {
	server  *httptest.Server
	latency time.Duration
	fifo    bool

	// fault decides over the n-th request of an operation, n = 1, 2 ….
	fault func(op string, n int) fault
	watch func(op string, in map[string]any) // optional

	mu       sync.Mutex
	requests map[string]int
	messages []*record
	dedup    map[string]string // key to message id
	sequence int
	attrs    map[string]string
	deleted  int
}

// fault is how a request goes wrong.
type fault struct {
	status  int           // answer this status instead
	code    string        // with this error type
	hang    bool          // never answer
	reset   bool          // close the connection
	lost    bool          // do it, and close the connection
	entries map[int]entry // entries of a batch that fail
	garble  bool          // answer a checksum that does not match
	delay   time.Duration // on top of the latency
}

type entry struct {
	code   string
	sender bool
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

func newStub(t testing.TB) *stub {
	s := &stub{requests: map[string]int{}, dedup: map[string]string{}, attrs: map[string]string{
		"VisibilityTimeout": "30", "MaximumMessageSize": "1048576",
	}}
	s.server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

// config of a client of the stub.
func (s *stub) config() aws.Config {
	return aws.Config{
		Region:       "eu-west-1",
		BaseEndpoint: aws.String(s.server.URL),
		Credentials:  credentials.NewStaticCredentialsProvider("test", "test", ""),
	}
}

func (s *stub) name() string {
	if s.fifo {
		return "queue.fifo"
	}
	return "queue"
}

func (s *stub) count(ops ...string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		n += s.requests[op]
	}
	return n
}

func (s *stub) left() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

func (s *stub) bodies() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.messages {
		out = append(out, m.body)
	}
	return out
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, op, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	var in map[string]any
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.requests[op]++
	n := s.requests[op]
	s.mu.Unlock()
	if s.watch != nil {
		s.watch(op, in)
	}
	var f fault
	if s.fault != nil {
		f = s.fault(op, n)
	}
	if d := s.latency + f.delay; d > 0 && op != "ReceiveMessage" {
		time.Sleep(d)
	}
	switch {
	case f.hang:
		<-r.Context().Done()
		return
	case f.reset:
		closeConn(w)
		return
	case f.status != 0:
		fail(w, f.status, f.code)
		return
	}
	out, code := s.do(r.Context(), op, in, f)
	if code != "" {
		fail(w, http.StatusBadRequest, code)
		return
	}
	if f.lost {
		closeConn(w)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	_ = json.NewEncoder(w).Encode(out)
}

func closeConn(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // a reset, not an end
	}
	_ = conn.Close()
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": "com.amazonaws.sqs#" + code, "message": "the stub says so"})
}

func (s *stub) do(ctx context.Context, op string, in map[string]any, f fault) (out any, code string) {
	switch op {
	case "GetQueueUrl":
		if in["QueueName"] != s.name() {
			return nil, "QueueDoesNotExist"
		}
		return map[string]string{"QueueUrl": s.server.URL + "/123456789012/" + s.name()}, ""
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

func (s *stub) batch(op string, in map[string]any, f fault) (any, string) {
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
		if fe, ok := f.entries[i]; ok {
			bad = append(bad, map[string]any{"Id": e["Id"], "Code": fe.code, "Message": "the stub says so", "SenderFault": fe.sender})
			continue
		}
		var result map[string]any
		switch op {
		case "SendMessageBatch":
			result = s.put(e, f)
		case "DeleteMessageBatch":
			if i := s.find(e["ReceiptHandle"]); i >= 0 {
				s.messages = append(s.messages[:i], s.messages[i+1:]...)
				s.deleted++
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

func (s *stub) put(e map[string]any, f fault) map[string]any {
	body := e["MessageBody"].(string)
	s.sequence++
	m := &record{id: fmt.Sprint("m-", s.sequence), body: body, sent: time.Now()}
	m.attributes, _ = e["MessageAttributes"].(map[string]any)
	m.group, _ = e["MessageGroupId"].(string)
	sum := checksum(body)
	if f.garble {
		sum = checksum(body + "?")
	}
	if key, _ := e["MessageDeduplicationId"].(string); s.fifo && key != "" {
		if id, seen := s.dedup[key]; seen {
			return map[string]any{"MessageId": id, "MD5OfMessageBody": sum}
		}
		s.dedup[key] = m.id
	}
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

func (s *stub) receive(ctx context.Context, in map[string]any, f fault) (any, string) {
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
			time.Sleep(s.latency + f.delay)
			return map[string]any{"Messages": got}, ""
		}
		select {
		case <-ctx.Done():
			return nil, "RequestCanceled"
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *stub) take(limit int, visibility time.Duration, f fault) (got []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	busy := map[string]bool{}
	for _, m := range s.messages {
		if s.fifo && now.Before(m.visible) {
			busy[m.group] = true
		}
	}
	for _, m := range s.messages {
		if len(got) == limit {
			break
		}
		if now.Before(m.visible) || s.fifo && busy[m.group] {
			continue
		}
		m.received++
		m.visible = now.Add(visibility)
		m.receipt = fmt.Sprint(m.id, "#", m.received)
		sum := checksum(m.body)
		if f.garble && len(got) == 0 {
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
