package aws

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Bucket of S3.
type Bucket struct {
	Name   string
	client *s3.Client
}

// NewBucket makes a bucket.
func NewBucket(ctx context.Context, cfg aws.Config, name string) (*Bucket, error) {
	b := &Bucket{Name: name, client: s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = cfg.BaseEndpoint != nil // LocalStack has no host for each bucket
	})}
	in := &s3.CreateBucketInput{Bucket: &name}
	if cfg.Region != "us-east-1" {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(cfg.Region)}
	}
	_, err := b.client.CreateBucket(ctx, in)
	return b, err
}

func (b *Bucket) arn() string { return "arn:aws:s3:::" + b.Name }

// changes are the events that S3 tells of.
var changes = []types.Event{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"}

func below(prefix string) *types.NotificationConfigurationFilter {
	return &types.NotificationConfigurationFilter{Key: &types.S3KeyFilter{FilterRules: []types.FilterRule{{Name: types.FilterRuleNamePrefix, Value: &prefix}}}}
}

// NotifyQueue tells a queue of objects below a prefix.
func (b *Bucket) NotifyQueue(ctx context.Context, q *Queue, prefix string) error {
	if err := q.Allow(ctx, "s3.amazonaws.com", b.arn()); err != nil {
		return err
	}
	return b.notify(ctx, &types.NotificationConfiguration{QueueConfigurations: []types.QueueConfiguration{
		{QueueArn: &q.ARN, Events: changes, Filter: below(prefix)}}})
}

// NotifyTopic tells a topic.
func (b *Bucket) NotifyTopic(ctx context.Context, t *Topic, prefix string) error {
	if err := t.Allow(ctx, "s3.amazonaws.com", b.arn()); err != nil {
		return err
	}
	return b.notify(ctx, &types.NotificationConfiguration{TopicConfigurations: []types.TopicConfiguration{
		{TopicArn: &t.ARN, Events: changes, Filter: below(prefix)}}})
}

// NotifyEventBridge tells the default bus. Its rules say of what.
func (b *Bucket) NotifyEventBridge(ctx context.Context) error {
	return b.notify(ctx, &types.NotificationConfiguration{EventBridgeConfiguration: &types.EventBridgeConfiguration{}})
}

func (b *Bucket) notify(ctx context.Context, n *types.NotificationConfiguration) error {
	_, err := b.client.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: &b.Name, NotificationConfiguration: n})
	return err
}

// Put makes an object, or replaces it.
func (b *Bucket) Put(ctx context.Context, key, content string) error {
	_, err := b.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.Name, Key: &key, Body: strings.NewReader(content)})
	return err
}

// Remove an object.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.Name, Key: &key})
	return err
}

// Delete the bucket and what is in it, up to 1,000 objects.
func (b *Bucket) Delete(ctx context.Context) {
	list, err := b.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &b.Name})
	if err == nil {
		for _, o := range list.Contents {
			warn("object", *o.Key, b.Remove(ctx, *o.Key))
		}
		_, err = b.client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: &b.Name})
	}
	warn("bucket", b.Name, err)
}
