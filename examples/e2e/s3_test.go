package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	awssns "github.com/aws/aws-sdk-go-v2/service/sns"
	awssqs "github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/fogfish/swarm/broker/events3"
	"github.com/fogfish/swarm/broker/sqs"
	swarm "github.com/fogfish/swarm/core"

	"github.com/fogfish/swarm/examples/internal/aws"
)

// keys of which S3 encodes all that is to be encoded.
var keys = []string{"in/plain.txt", "in/a b+c/ä.txt", "in/100%/%20.txt", "in/?a=b&c#d;e:f@g,h!~*'()", "in/日本語 🐝.txt"}

func (p place) bucket() *aws.Bucket {
	p.Helper()
	b, err := aws.NewBucket(p.Context(), p.cfg, aws.Name("bucket"))
	return made(p, b, err)
}

var ways = []struct {
	name   string
	unwrap []sqs.Envelope
	tests  int64 // messages s3:TestEvent
	make   func(p place, b *aws.Bucket, q *aws.Queue)
	key    func(string) string // of an event: undoes what LocalStack does to it
}{
	{"queue", []sqs.Envelope{sqs.S3}, 1, func(p place, b *aws.Bucket, q *aws.Queue) {
		p.check(b.NotifyQueue(p.Context(), q, "in/"))
	}, nil},
	{"topic", []sqs.Envelope{sqs.SNS, sqs.S3}, 1, func(p place, b *aws.Bucket, q *aws.Queue) {
		t := p.topic(false)
		p.check(t.Subscribe(p.Context(), q, nil))
		p.check(b.NotifyTopic(p.Context(), t, "in/"))
	}, nil},
	{"topic, raw", []sqs.Envelope{sqs.S3}, 1, func(p place, b *aws.Bucket, q *aws.Queue) {
		t := p.topic(false)
		p.check(t.Subscribe(p.Context(), q, raw))
		p.check(b.NotifyTopic(p.Context(), t, "in/"))
	}, nil},
	{"bus", []sqs.Envelope{sqs.EventBridge, sqs.S3}, 0, func(p place, b *aws.Bucket, q *aws.Queue) {
		p.check(p.bus(aws.DefaultBus).Rule(p.Context(), pattern(b), q))
		p.check(b.NotifyEventBridge(p.Context()))
	}, unescape},
	{"bus and topic", []sqs.Envelope{sqs.SNS, sqs.EventBridge, sqs.S3}, 0, func(p place, b *aws.Bucket, q *aws.Queue) {
		t := p.topic(false)
		p.check(p.bus(aws.DefaultBus).Rule(p.Context(), pattern(b), t))
		p.check(t.Subscribe(p.Context(), q, nil))
		p.check(b.NotifyEventBridge(p.Context()))
	}, unescape},
}

func pattern(b *aws.Bucket) string {
	return fmt.Sprintf(`{"source":["aws.s3"],"detail":{"bucket":{"name":[%q]},"object":{"key":[{"prefix":"in/"}]}}}`, b.Name)
}

// unescape: LocalStack encodes the keys of events, as of notifications. S3 does not.
func unescape(key string) string {
	s, err := url.PathUnescape(key)
	if err != nil {
		return err.Error()
	}
	return s
}

// A service has the same records whichever way they come: of objects that are made and
// removed, not of others, with their keys as they are. The message that S3 sends first is
// acknowledged unseen.
func TestRecordsOfS3(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		for _, auto := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detected %v", way.name, auto), func(t *testing.T) {
				t.Parallel()
				p := cloud(t)
				q, b := p.queue(false), p.bucket()
				way.make(p, b, q)
				p.soon("the test events are there", func() bool { return p.left(q) == way.tests })
				listener := sqs.Listener().WithUnwrap(way.unwrap...)
				if auto {
					listener.WithUnwrap()
				}
				in := p.service(q, listener)
				deq, ack := events3.Listen(in)
				go in.Run(p.Context())
				p.empty(q)

				record := func(event, key string) (r events3.Record) {
					p.Helper()
					msg := next(p, deq)
					if r = msg.Object; way.key != nil {
						r.Key = way.key(r.Key)
					}
					envelope(p, msg, events3.Category, 1)
					if r.Event != event || r.Key != key || r.Bucket != b.Name || r.BucketARN != "arn:aws:s3:::"+b.Name && r.BucketARN != "" || r.Region != "us-east-1" ||
						!strings.Contains(msg.ID, b.Name) || time.Since(r.Time) > patience {
						p.Errorf("got %+v, want %s of %s", r, event, key)
					}
					ack <- msg
					return r
				}
				for _, key := range keys {
					p.check(b.Put(p.Context(), "out/"+key, "nobody is told"))
					p.check(b.Put(p.Context(), key, key))
					if r := record("ObjectCreated:Put", key); r.Size != int64(len(key)) || len(r.ETag) != 32 {
						p.Errorf("got %d bytes, tag %q", r.Size, r.ETag)
					}
				}
				for _, key := range keys {
					p.check(b.Remove(p.Context(), "out/"+key))
					p.check(b.Remove(p.Context(), key))
					record("ObjectRemoved:Delete", key)
				}
				p.empty(q)
			})
		}
	}
}

// A nack of one record brings back all that are in its message. LocalStack writes one, so
// that the test writes them itself.
func TestSeveralRecordsInOneMessage(t *testing.T) {
	t.Parallel()
	var records []string
	for _, key := range []string{"a", "a+b%2Bc%2F%C3%A4.txt", "c"} {
		records = append(records, fmt.Sprintf(`{"eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-11-24T10:00:00Z","eventName":"ObjectCreated:Put",
			"s3":{"bucket":{"name":"photos"},"object":{"key":%q,"eTag":"x","sequencer":"1"}}}`, key))
	}
	notification := `{"Records":[` + strings.Join(records, ",") + `]}`
	want := []string{"a", "a b+c/ä.txt", "c"}

	for _, topic := range []bool{false, true} {
		t.Run(fmt.Sprint("topic ", topic), func(t *testing.T) {
			t.Parallel()
			p := cloud(t)
			q := p.queue(false)
			listener := sqs.Listener().WithUnwrap(sqs.S3)
			if topic {
				listener.WithUnwrap(sqs.SNS, sqs.S3)
				tp := p.topic(false)
				p.check(tp.Subscribe(p.Context(), q, nil))
				_, err := awssns.NewFromConfig(p.cfg).Publish(p.Context(), &awssns.PublishInput{TopicArn: &tp.ARN, Message: &notification})
				p.check(err)
			} else {
				client := awssqs.NewFromConfig(p.cfg)
				at, err := client.GetQueueUrl(p.Context(), &awssqs.GetQueueUrlInput{QueueName: &q.Name})
				p.check(err)
				_, err = client.SendMessage(p.Context(), &awssqs.SendMessageInput{QueueUrl: at.QueueUrl, MessageBody: &notification})
				p.check(err)
			}
			in := p.service(q, listener)
			deq, ack := events3.Listen(in)
			go in.Run(p.Context())

			take := func(attempt int) (all []swarm.Msg[events3.Record]) {
				p.Helper()
				for _, key := range want {
					msg := next(p, deq)
					if msg.Object.Key != key || msg.Object.Bucket != "photos" || msg.Attempt != attempt {
						p.Errorf("got %q, attempt %d, want %q, attempt %d", msg.Object.Key, msg.Attempt, key, attempt)
					}
					all = append(all, msg)
				}
				return all
			}
			all := take(1)
			ack <- all[2]
			ack <- all[0].Fail(errors.New("not today"))
			time.Sleep(200 * time.Millisecond)
			if n := p.left(q); n != 1 {
				p.Errorf("%d messages left before all records are settled", n)
			}
			ack <- all[1]
			for _, msg := range take(2) {
				ack <- msg
			}
			p.empty(q)
		})
	}
}
