package sqs_test

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/fogfish/swarm/qtest"
	"github.com/fogfish/swarm/qtest/localstack"

	"github.com/fogfish/swarm/broker/sqs"
)

// cloud is the configuration of a client of LocalStack, in this package's account.
func cloud(t testing.TB) aws.Config {
	t.Helper()
	return account(localstack.Endpoint(t))
}

var queues atomic.Int64

// create makes a queue that goes with the test.
func create(t interface {
	Helper()
	Fatalf(string, ...any)
	Cleanup(func())
}, cfg aws.Config, fifo bool, attrs map[string]string) (name, url string) {
	t.Helper()
	client := awssqs.NewFromConfig(cfg)
	name = fmt.Sprintf("q-%d-%d", time.Now().UnixNano(), queues.Add(1))
	if fifo {
		name += ".fifo"
		attrs["FifoQueue"] = "true"
	}
	out, err := client.CreateQueue(context.Background(), &awssqs.CreateQueueInput{QueueName: &name, Attributes: attrs})
	if err != nil {
		t.Fatalf("create queue: %v", err)
	}
	t.Cleanup(func() {
		_, _ = client.DeleteQueue(context.Background(), &awssqs.DeleteQueueInput{QueueUrl: out.QueueUrl})
	})
	return name, *out.QueueUrl
}

func TestConformance(t *testing.T) {
	t.Parallel()
	const visibility = 5 * time.Second
	cfg := cloud(t)
	for _, fifo := range []bool{false, true} {
		name := "standard"
		if fifo {
			name = "fifo"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			open := func(t qtest.T) qtest.Queue {
				name, _ := create(t, cfg, fifo, map[string]string{
					"VisibilityTimeout": strconv.Itoa(int(visibility.Seconds())),
				})
				return qtest.Queue{Connect: func() (io.Closer, error) {
					return sqs.Connect(name, sqs.Endpoint().WithConfig(cfg).WithWaitTime(2*time.Second))
				}}
			}
			report := qtest.Run(t, open, qtest.Features{
				Ordered: fifo, Dedup: fifo,
				Visibility: visibility, Extend: true, Delay: true, Attempts: true,
				KeepSource: true, Foreign: true, SentAt: true,
				MaxSize: 1 << 20, Attributes: 7, AttributeSize: 10_000,
				Slack: 1500 * time.Millisecond, Parallel: true,
				Messages: 300,
			})
			t.Logf("%d cases passed, %d not applicable: %s", len(report.Names(qtest.Passed)), len(report.Names(qtest.NotApplicable)),
				strings.Join(report.Names(qtest.NotApplicable), "; "))
		})
	}
}
