package sns_test

import (
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
	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/qtest"
	"github.com/fogfish/swarm/qtest/localstack"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/broker/sns"
)

// cloud is the configuration of a client of LocalStack, in this package's account.
func cloud(t testing.TB) aws.Config {
	t.Helper()
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(localstack.Endpoint(t)),
		Credentials:  credentials.NewStaticCredentialsProvider(localstack.Account("broker/sns"), "test", ""),
	}
}

// tester is what the helpers need of a test, or of a case of the suite.
type tester interface {
	Helper()
	Fatalf(string, ...any)
	Cleanup(func())
}

var names atomic.Int64

func unique(prefix string, fifo bool) string {
	name := fmt.Sprintf("%s-%d-%d", prefix, time.Now().UnixNano(), names.Add(1))
	if fifo {
		name += ".fifo"
	}
	return name
}

// createTopic makes a topic that goes with the test.
func createTopic(t tester, cfg aws.Config, fifo bool) (arn string) {
	t.Helper()
	client := awssns.NewFromConfig(cfg)
	in := &awssns.CreateTopicInput{Name: aws.String(unique("topic", fifo))}
	if fifo {
		in.Attributes = map[string]string{"FifoTopic": "true"}
	}
	out, err := client.CreateTopic(context.Background(), in)
	if err != nil {
		t.Fatalf("create topic: %v", err)
	}
	t.Cleanup(func() {
		_, _ = client.DeleteTopic(context.Background(), &awssns.DeleteTopicInput{TopicArn: out.TopicArn})
	})
	return *out.TopicArn
}

// queue is the far side: a queue that subscribes to a topic, and a plain client.
type queue struct {
	*sqs.Client
	url *string
	raw bool
}

// subscribe makes a queue that has what is published to the topic, raw or in envelopes,
// as far as the filter goes; "" is none.
func subscribe(t tester, cfg aws.Config, topic string, raw bool, filter string) queue {
	t.Helper()
	ctx := context.Background()
	q := queue{Client: sqs.NewFromConfig(cfg), raw: raw}
	fifo := strings.HasSuffix(topic, ".fifo")
	in := &sqs.CreateQueueInput{QueueName: aws.String(unique("q", fifo))}
	if fifo {
		in.Attributes = map[string]string{"FifoQueue": "true"}
	}
	out, err := q.CreateQueue(ctx, in)
	if err != nil {
		t.Fatalf("create queue: %v", err)
	}
	q.url = out.QueueUrl
	attrs, err := q.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: q.url, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	if err != nil {
		t.Fatalf("queue attributes: %v", err)
	}
	options := map[string]string{"RawMessageDelivery": strconv.FormatBool(raw)}
	if filter != "" {
		options["FilterPolicy"] = filter
	}
	_, err = awssns.NewFromConfig(cfg).Subscribe(ctx, &awssns.SubscribeInput{TopicArn: &topic, Protocol: aws.String("sqs"),
		Endpoint: aws.String(attrs.Attributes["QueueArn"]), Attributes: options})
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	t.Cleanup(func() { _, _ = q.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: q.url}) })
	return q
}

// delivery is a message as the far side gets it.
type delivery struct {
	driver.Bag
	subject string
}

// take removes up to 10 messages from the queue. It waits a second for the first one, unless ctx
// ends before. A request under way is not cut off: what it had taken would be gone.
func (q queue) take(ctx context.Context) (all []delivery, err error) {
	wait := int32(1)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < time.Second {
		wait = 0
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	out, err := q.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: q.url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}})
	if err != nil || len(out.Messages) == 0 {
		return nil, err
	}
	var gone []sqstypes.DeleteMessageBatchRequestEntry
	for i, m := range out.Messages {
		d, err := q.open(m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", *m.Body, err)
		}
		all = append(all, d)
		gone = append(gone, sqstypes.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	_, err = q.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: q.url, Entries: gone})
	return all, err
}

func (q queue) open(m sqstypes.Message) (delivery, error) {
	d := delivery{Bag: driver.Bag{Group: m.Attributes["MessageGroupId"]}}
	attrs := map[string]string{}
	if q.raw {
		for name, a := range m.MessageAttributes {
			attrs[name] = *a.StringValue
		}
		d.Body = []byte(*m.Body)
	} else {
		var envelope struct {
			Type, Message, Subject string
			MessageAttributes      map[string]struct{ Type, Value string }
		}
		if err := json.Unmarshal([]byte(*m.Body), &envelope); err != nil || envelope.Type != "Notification" {
			return d, fmt.Errorf("no envelope: %w", err)
		}
		for name, a := range envelope.MessageAttributes {
			attrs[name] = a.Value
		}
		d.Body, d.subject = []byte(envelope.Message), envelope.Subject
	}
	wire.Read(&d.Bag, attrs)
	return d, d.Err
}

// drain is take for the suite.
func (q queue) drain(ctx context.Context) (bags []driver.Bag, err error) {
	all, err := q.take(ctx)
	for _, d := range all {
		bags = append(bags, d.Bag)
	}
	return bags, err
}

func features(fifo bool) qtest.Features {
	return qtest.Features{EmitOnly: true, KeepSource: true, Ordered: fifo, Dedup: fifo,
		MaxSize: 256 << 10, Attributes: 7, AttributeSize: 10_000, Parallel: true}
}

func TestConformance(t *testing.T) {
	cfg := cloud(t)
	for name, x := range map[string]struct{ fifo, raw bool }{
		"standard, raw":         {false, true},
		"standard, in envelope": {false, false},
		"fifo, raw":             {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(t qtest.T) qtest.Queue {
				topic := createTopic(t, cfg, x.fifo)
				return qtest.Queue{
					Connect: func() (io.Closer, error) { return sns.Connect(topic, sns.Emitter().WithConfig(cfg)) },
					Drain:   subscribe(t, cfg, topic, x.raw, "").drain,
				}
			}
			f := features(x.fifo)
			f.Slack, f.Messages = 1500*time.Millisecond, 300
			report := qtest.Run(t, open, f)
			t.Logf("%d cases passed, %d not applicable: %s", len(report.Names(qtest.Passed)), len(report.Names(qtest.NotApplicable)),
				strings.Join(report.Names(qtest.NotApplicable), "; "))
		})
	}
}

// On the stub there are faults too.
func TestConformanceOfFaults(t *testing.T) {
	for _, fifo := range []bool{false, true} {
		name := map[bool]string{false: "topic", true: "topic.fifo"}[fifo]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(t qtest.T) qtest.Queue {
				s, drained := newStub(t), 0
				return qtest.Queue{
					Connect: func() (io.Closer, error) {
						return sns.Connect(prefixARN+name, sns.Emitter().WithConfig(s.Config()))
					},
					Drain: func(context.Context) (bags []driver.Bag, err error) {
						s.mu.Lock()
						defer s.mu.Unlock()
						n := len(s.messages)
						for _, m := range s.messages[drained:n] {
							bag := driver.Bag{Body: []byte(m.body), Group: m.group}
							wire.Read(&bag, m.attributes)
							bags = append(bags, bag)
						}
						drained = n
						return bags, nil
					},
					Fail: func(f qtest.Fault) {
						code, status := "InternalError", 500
						if f.Permanent {
							code, status = "InvalidParameter", 400
						}
						s.Once("PublishBatch", awstest.Batch(f.Entries, status, code))
					},
				}
			}
			f := features(fifo)
			f.Faults, f.Messages = true, 2000
			qtest.Run(t, open, f)
		})
	}
}
