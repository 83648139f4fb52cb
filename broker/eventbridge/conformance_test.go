package eventbridge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awseventbridge "github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"
	"github.com/fogfish/swarm/qtest/localstack"

	"github.com/fogfish/swarm/broker/eventbridge"
	"github.com/fogfish/swarm/broker/internal/awstest"
)

// cloud is the configuration of a client of LocalStack, in this package's account.
func cloud(t testing.TB) aws.Config {
	t.Helper()
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(localstack.Endpoint(t)),
		Credentials:  credentials.NewStaticCredentialsProvider(localstack.Account("broker/eventbridge"), "test", ""),
	}
}

// tester is what the helpers need of a test, or of a case of the suite.
type tester interface {
	Helper()
	Fatalf(string, ...any)
	Cleanup(func())
}

var names atomic.Int64

func unique(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, time.Now().UnixNano(), names.Add(1))
}

// createBus makes a bus that goes with the test.
func createBus(t tester, cfg aws.Config) (name string) {
	t.Helper()
	client := awseventbridge.NewFromConfig(cfg)
	name = unique("bus")
	if _, err := client.CreateEventBus(context.Background(), &awseventbridge.CreateEventBusInput{Name: &name}); err != nil {
		t.Fatalf("create bus: %v", err)
	}
	t.Cleanup(func() {
		_, _ = client.DeleteEventBus(context.Background(), &awseventbridge.DeleteEventBusInput{Name: &name})
	})
	return name
}

// everything is a pattern.
const everything = `{"source":[{"prefix":""}]}`

// queue is the far side: a queue that a rule sends events to, and a plain client.
type queue struct {
	*sqs.Client
	url *string
}

// createQueue makes a queue that has the events of the bus that match the pattern.
func createQueue(t tester, cfg aws.Config, bus, pattern string) queue {
	t.Helper()
	ctx := context.Background()
	q := queue{Client: sqs.NewFromConfig(cfg)}
	out, err := q.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(unique("q"))})
	if err != nil {
		t.Fatalf("create queue: %v", err)
	}
	q.url = out.QueueUrl
	attrs, err := q.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: q.url, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatalf("queue attributes: %v", err)
	}
	client, rule := awseventbridge.NewFromConfig(cfg), unique("rule")
	if _, err := client.PutRule(ctx, &awseventbridge.PutRuleInput{Name: &rule, EventBusName: &bus, EventPattern: &pattern}); err != nil {
		t.Fatalf("put rule: %v", err)
	}
	put, err := client.PutTargets(ctx, &awseventbridge.PutTargetsInput{Rule: &rule, EventBusName: &bus,
		Targets: []types.Target{{Id: aws.String("q"), Arn: aws.String(attrs.Attributes["QueueArn"])}}})
	if err != nil || put.FailedEntryCount > 0 {
		t.Fatalf("put targets: %v, %v", err, put)
	}
	t.Cleanup(func() {
		_, _ = client.RemoveTargets(ctx, &awseventbridge.RemoveTargetsInput{Rule: &rule, EventBusName: &bus, Ids: []string{"q"}})
		_, _ = client.DeleteRule(ctx, &awseventbridge.DeleteRuleInput{Name: &rule, EventBusName: &bus})
		_, _ = q.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: q.url})
	})
	return q
}

// envelope is what EventBridge puts around an event.
type envelope struct {
	DetailType string `json:"detail-type"`
	Source     string
	Time       time.Time
	Resources  []string
	Detail     json.RawMessage
}

// take removes up to 10 events from the queue. It waits a second for the first one, unless ctx
// ends before. A request under way is not cut off: what it had taken would be gone.
func (q queue) take(ctx context.Context) (events []envelope, err error) {
	wait := int32(1)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
		wait = 0
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	out, err := q.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait})
	if err != nil || len(out.Messages) == 0 {
		return nil, err
	}
	var gone []sqstypes.DeleteMessageBatchRequestEntry
	for i, m := range out.Messages {
		var e envelope
		if err := json.Unmarshal([]byte(*m.Body), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", *m.Body, err)
		}
		events = append(events, e)
		gone = append(gone, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	_, err = q.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: q.url, Entries: gone})
	return events, err
}

// drain is take for the suite.
func (q queue) drain(ctx context.Context) (bags []driver.Bag, err error) {
	events, err := q.take(ctx)
	for _, e := range events {
		var body bytes.Buffer
		if err := json.Compact(&body, e.Detail); err != nil { // LocalStack writes spaces
			return bags, err
		}
		bags = append(bags, driver.Bag{Category: e.DetailType, Source: e.Source, Body: codec.Unpack(body.Bytes())})
	}
	return bags, err
}

var features = qtest.Features{EmitOnly: true, KeepSource: true, EmptyBody: true, Parallel: true}

// LocalStack takes less than 256 KiB, as AWS did until January 2026.
const localMax = 1<<18 - 1

func TestConformance(t *testing.T) {
	cfg := cloud(t)
	open := func(t qtest.T) qtest.Queue {
		bus := createBus(t, cfg)
		return qtest.Queue{
			Connect: func() (io.Closer, error) {
				return eventbridge.Connect(bus, localMax, eventbridge.Emitter().WithConfig(cfg).WithKernel(swarm.WithSource("qtest")))
			},
			Drain: createQueue(t, cfg, bus, everything).drain,
		}
	}
	f := features
	f.MaxSize, f.Slack, f.Messages = localMax, 1500*time.Millisecond, 300
	report := qtest.Run(t, open, f)
	t.Logf("%d cases passed, %d not applicable: %s", len(report.Names(qtest.Passed)), len(report.Names(qtest.NotApplicable)),
		strings.Join(report.Names(qtest.NotApplicable), "; "))
}

// On the stub there are faults too, and the limit is the one of AWS.
func TestConformanceOfFaults(t *testing.T) {
	open := func(t qtest.T) qtest.Queue {
		s, drained := newStub(t), 0
		return qtest.Queue{
			Connect: func() (io.Closer, error) {
				return eventbridge.Connect("bus", 0, eventbridge.Emitter().WithConfig(s.Config()).WithKernel(swarm.WithSource("qtest")))
			},
			Drain: func(context.Context) (bags []driver.Bag, err error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				n := len(s.entries)
				for _, e := range s.entries[drained:n] {
					bags = append(bags, driver.Bag{Category: e.DetailType, Source: e.Source, Body: codec.Unpack([]byte(e.Detail))})
				}
				drained = n
				return bags, nil
			},
			Fail: func(f qtest.Fault) {
				code, status := "InternalFailure", 500
				if f.Permanent {
					code, status = "NotAuthorizedForSourceException", 400
				}
				s.Once("PutEvents", awstest.Batch(f.Entries, status, code))
			},
		}
	}
	f := features
	f.Faults, f.MaxSize, f.Messages = true, 1<<20-1, 2000
	qtest.Run(t, open, f)
}
