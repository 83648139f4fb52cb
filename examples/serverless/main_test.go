package serverless_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// TestMain is the function too: see function_test.go.
func TestMain(m *testing.M) {
	if raw := os.Getenv(envFunction); raw != "" {
		function(raw)
		return
	}
	code := m.Run()
	os.RemoveAll(binaries.dir)
	os.Exit(code)
}

var soak = os.Getenv("SOAK") == "1"

// binaries are the examples, built once, for all tests that want one.
var binaries struct {
	sync.Once
	dir string
	err error
}

// binary of an example. Under the race detector it has one as well.
func binary(t testing.TB, name string) string {
	t.Helper()
	b := &binaries
	b.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "serverless-"); b.err != nil {
			return
		}
		args := []string{"build", "-tags", "lambda.norpc", "-o", b.dir + string(filepath.Separator)}
		if raced {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "./sqs", "./eventbridge", "./sns", "./events3", "./internal/traced")...).CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return filepath.Join(b.dir, name)
}

// journal is what processes print: it can be read at any time.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// find returns what the group of a regular expression matches, in order.
func (j *journal) find(pattern string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(j.String(), -1) {
		found = append(found, m[1])
	}
	return found
}

// running is a function under test.
type running struct {
	testing.TB
	*lambda.Runtime
	log *journal
}

func start(t testing.TB, fn lambda.Function) *running {
	t.Helper()
	r := &running{TB: t, log: &journal{}}
	if fn.Log == nil {
		fn.Log = r.log
	}
	if fn.Timeout == 0 {
		fn.Timeout = time.Minute
	}
	var err error
	if r.Runtime, err = lambda.Start(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		if t.Failed() {
			t.Logf("the function's log:\n%s", tail(r.log.String()))
		}
	})
	return r
}

func tail(s string) string { return s[max(0, len(s)-8000):] }

// example starts one of the mains.
func example(t testing.TB, name string, fn lambda.Function) *running {
	t.Helper()
	fn.Command = []string{binary(t, name)}
	return start(t, fn)
}

// healthy: the process has never ended, and nothing was killed.
func (r *running) healthy() {
	r.Helper()
	if s := r.Stats(); s.ColdStarts != 1 || s.Crashes != 0 || s.Timeouts != 0 {
		r.Errorf("not one healthy process: %+v", s)
	}
}

// records invokes the function with messages of a queue and returns the ids of those that
// have failed, as an event source mapping reads them.
func (r *running) records(records []record, opts ...lambda.InvokeOption) []string {
	r.Helper()
	out, err := r.Invoke(r.Context(), sqsEvent(records), opts...)
	if err != nil {
		r.Errorf("invocation: %v", err)
		return nil
	}
	var answer struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		r.Errorf("answer %s: %v", out, err)
	}
	failed := []string{}
	for _, x := range answer.BatchItemFailures {
		failed = append(failed, x.ItemIdentifier)
	}
	return failed
}

// expect invokes, and compares what has failed.
func (r *running) expect(records []record, failed ...string) {
	r.Helper()
	if got := r.records(records); strings.Join(got, " ") != strings.Join(failed, " ") {
		r.Errorf("failed %q, want %q", got, failed)
	}
}

// record is a message of a queue, as a function gets it.
type record struct{ ID, Category, Group, Body string }

func sqsEvent(records []record) []byte {
	type attribute struct {
		StringValue string `json:"stringValue,omitempty"`
		BinaryValue []byte `json:"binaryValue,omitempty"`
		DataType    string `json:"dataType"`
	}
	type message struct {
		MessageID         string               `json:"messageId"`
		ReceiptHandle     string               `json:"receiptHandle"`
		Body              string               `json:"body"`
		Attributes        map[string]string    `json:"attributes"`
		MessageAttributes map[string]attribute `json:"messageAttributes"`
		EventSource       string               `json:"eventSource"`
		EventSourceARN    string               `json:"eventSourceARN"`
		Region            string               `json:"awsRegion"`
	}
	out := struct{ Records []message }{Records: []message{}}
	for _, r := range records {
		m := message{
			MessageID: r.ID, ReceiptHandle: "receipt-" + r.ID, Body: r.Body,
			Attributes:        map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000"},
			MessageAttributes: map[string]attribute{},
			EventSource:       "aws:sqs", EventSourceARN: "arn:aws:sqs:us-east-1:000000000000:source", Region: "us-east-1",
		}
		switch r.Category {
		case "":
		case "binary": // RX7
			m.MessageAttributes["Category"] = attribute{BinaryValue: []byte{0, 1}, DataType: "Binary"}
		default:
			m.MessageAttributes["Category"] = attribute{StringValue: r.Category, DataType: "String"}
		}
		if r.Group != "" {
			m.Attributes["MessageGroupId"] = r.Group
			m.EventSourceARN += ".fifo"
		}
		out.Records = append(out.Records, m)
	}
	return encode(out)
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

// soon polls for what another process does.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
