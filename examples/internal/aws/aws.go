// Package aws is what the examples do with the SDK of AWS beside swarm: find LocalStack,
// make queues, topics and rules, and count what is left in the end.
package aws

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// Config is the configuration of LocalStack, if the environment says where it is; else
// that of AWS.
func Config(ctx context.Context) (aws.Config, error) {
	if endpoint := cmp.Or(os.Getenv("LOCALSTACK_ENDPOINT"), os.Getenv("AWS_ENDPOINT_URL")); endpoint != "" {
		return LocalStack(endpoint, "test"), nil
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err == nil && cfg.Region == "" {
		err = errors.New("no LOCALSTACK_ENDPOINT and no region of AWS: run `make localstack`, and export what it prints")
	}
	return cfg, err
}

// LocalStack is the configuration of an account of LocalStack.
func LocalStack(endpoint, account string) aws.Config {
	return aws.Config{
		Region:       "us-east-1",
		BaseEndpoint: &endpoint,
		Credentials:  credentials.NewStaticCredentialsProvider(account, "test", ""),
	}
}

var names atomic.Int64

// Name makes a name that is not taken.
func Name(prefix string) string {
	return fmt.Sprintf("%s-%d-%d", prefix, time.Now().UnixNano(), names.Add(1))
}

// Queue of SQS.
type Queue struct {
	Name, ARN string
	url       *string
	client    *sqs.Client
}

// NewQueue makes a queue. A name that ends in .fifo makes it one that keeps order.
func NewQueue(ctx context.Context, cfg aws.Config, name string) (*Queue, error) {
	q := &Queue{Name: name, client: sqs.NewFromConfig(cfg)}
	in := &sqs.CreateQueueInput{QueueName: &name}
	if strings.HasSuffix(name, ".fifo") {
		in.Attributes = map[string]string{"FifoQueue": "true"}
	}
	out, err := q.client.CreateQueue(ctx, in)
	if err != nil {
		return nil, err
	}
	q.url = out.QueueUrl
	attrs, err := q.attributes(ctx, types.QueueAttributeNameQueueArn)
	if err != nil {
		q.Delete(ctx)
		return nil, err
	}
	q.ARN = attrs[string(types.QueueAttributeNameQueueArn)]
	return q, nil
}

// Allow lets a service of AWS send to the queue what comes from a source: a bucket, a topic,
// a rule.
func (q *Queue) Allow(ctx context.Context, service, source string) error {
	_, err := q.client.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: q.url, Attributes: map[string]string{
		"Policy": allow(service, "sqs:SendMessage", q.ARN, source),
	}})
	return err
}

func allow(service, action, resource, source string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":%q},"Action":%q,"Resource":%q,"Condition":{"ArnEquals":{"aws:SourceArn":%q}}}]}`,
		service, action, resource, source)
}

// Left counts the messages of the queue: those that wait, those under a lease, and those
// that come back later.
func (q *Queue) Left(ctx context.Context) (n int64, err error) {
	names := []types.QueueAttributeName{
		types.QueueAttributeNameApproximateNumberOfMessages,
		types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
		types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
	}
	attrs, err := q.attributes(ctx, names...)
	for _, name := range names {
		count, bad := strconv.ParseInt(attrs[string(name)], 10, 64)
		err = cmp.Or(err, bad)
		n += count
	}
	return n, err
}

func (q *Queue) attributes(ctx context.Context, names ...types.QueueAttributeName) (map[string]string, error) {
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: q.url, AttributeNames: names})
	if err != nil {
		return nil, err
	}
	return out.Attributes, nil
}

// Delete the queue.
func (q *Queue) Delete(ctx context.Context) {
	_, err := q.client.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: q.url})
	warn("queue", q.Name, err)
}

func warn(kind, name string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s %s is not deleted: %v\n", kind, name, err)
	}
}

// Topic of SNS.
type Topic struct {
	ARN    string
	client *sns.Client
}

// NewTopic makes a topic. A name that ends in .fifo makes it one that keeps order.
func NewTopic(ctx context.Context, cfg aws.Config, name string) (*Topic, error) {
	t := &Topic{client: sns.NewFromConfig(cfg)}
	in := &sns.CreateTopicInput{Name: &name}
	if strings.HasSuffix(name, ".fifo") {
		in.Attributes = map[string]string{"FifoTopic": "true"}
	}
	out, err := t.client.CreateTopic(ctx, in)
	if err != nil {
		return nil, err
	}
	t.ARN = *out.TopicArn
	return t, nil
}

// Allow lets a service of AWS publish to the topic what comes from a source.
func (t *Topic) Allow(ctx context.Context, service, source string) error {
	_, err := t.client.SetTopicAttributes(ctx, &sns.SetTopicAttributesInput{TopicArn: &t.ARN,
		AttributeName: new("Policy"), AttributeValue: new(allow(service, "sns:Publish", t.ARN, source))})
	return err
}

// Subscribe has the topic send to a queue. Attributes of the subscription are
// RawMessageDelivery, FilterPolicy and others.
func (t *Topic) Subscribe(ctx context.Context, q *Queue, attributes map[string]string) error {
	if err := q.Allow(ctx, "sns.amazonaws.com", t.ARN); err != nil {
		return err
	}
	_, err := t.client.Subscribe(ctx, &sns.SubscribeInput{TopicArn: &t.ARN, Protocol: new("sqs"), Endpoint: &q.ARN, Attributes: attributes})
	return err
}

// Delete the topic and its subscriptions.
func (t *Topic) Delete(ctx context.Context) {
	_, err := t.client.DeleteTopic(ctx, &sns.DeleteTopicInput{TopicArn: &t.ARN})
	warn("topic", t.ARN, err)
}

// Bus of EventBridge.
type Bus struct {
	Name   string
	client *eventbridge.Client
	rules  []string
}

// DefaultBus has the events of AWS itself.
const DefaultBus = "default"

// NewBus makes a bus, unless it is the default one, which each account has.
func NewBus(ctx context.Context, cfg aws.Config, name string) (*Bus, error) {
	b := &Bus{Name: name, client: eventbridge.NewFromConfig(cfg)}
	if name == DefaultBus {
		return b, nil
	}
	_, err := b.client.CreateEventBus(ctx, &eventbridge.CreateEventBusInput{Name: &name})
	return b, err
}

// target is what a rule needs to know of a queue or a topic.
type target interface {
	Allow(ctx context.Context, service, source string) error
	arn() string
}

func (q *Queue) arn() string { return q.ARN }
func (t *Topic) arn() string { return t.ARN }

// Rule makes a rule by which the bus sends events that match a pattern to a queue or topic.
func (b *Bus) Rule(ctx context.Context, pattern string, to target) error {
	name := Name("swarm-example")
	rule, err := b.client.PutRule(ctx, &eventbridge.PutRuleInput{Name: &name, EventBusName: &b.Name, EventPattern: &pattern})
	if err != nil {
		return err
	}
	b.rules = append(b.rules, name)
	if err := to.Allow(ctx, "events.amazonaws.com", *rule.RuleArn); err != nil {
		return err
	}
	out, err := b.client.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: &name, EventBusName: &b.Name,
		Targets: []ebtypes.Target{{Id: &name, Arn: new(to.arn())}}})
	if err == nil && out.FailedEntryCount > 0 {
		err = errors.New(aws.ToString(out.FailedEntries[0].ErrorMessage))
	}
	return err
}

// Delete the rules, and the bus unless it is the default one.
func (b *Bus) Delete(ctx context.Context) {
	for _, name := range b.rules {
		_, err := b.client.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: &name, EventBusName: &b.Name, Ids: []string{name}})
		if err == nil {
			_, err = b.client.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: &name, EventBusName: &b.Name})
		}
		warn("rule", name, err)
	}
	if b.Name != DefaultBus {
		_, err := b.client.DeleteEventBus(ctx, &eventbridge.DeleteEventBusInput{Name: &b.Name})
		warn("bus", b.Name, err)
	}
}
