package eventddb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/lambdakit"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

// EnvSource is the variable of the environment that Build("") takes the table from.
const EnvSource = "CONFIG_SWARM_SOURCE_DDB"

// Builder collects options and builds a kernel on the stream of a table. Its methods
// change and return the builder itself. It is not safe for concurrent use.
type Builder struct {
	opts awskit.Options
	mode lambdakit.Mode

	client    Streams
	store     Store
	lease     time.Duration
	instance  string
	batch     int
	latest    bool
	at        time.Time
	attempts  int
	age       time.Duration
	onFailure func(context.Context, Failure) error
}

// Listener builds a kernel that listens to the stream of a table: in a function of AWS
// Lambda to what an event source mapping invokes it with, in a service by reading the
// shards. The options below WithKernel are for a service.
func Listener() *Builder {
	return &Builder{opts: awskit.Options{Broker: "eventddb", Env: []string{EnvSource}}, lease: 30 * time.Second, batch: 10}
}

// WithKernel adds options of the kernel. swarm.WithPollFrequency is the pause after an
// answer without records, 1 s if it is not set. Otherwise a shard is asked after 0.2 s again, or
// PollFrequency, if that is less: DynamoDB takes five requests a second for a shard, of all
// its readers.
func (b *Builder) WithKernel(opts ...swarm.Option) *Builder {
	b.opts.Kernel = append(b.opts.Kernel, opts...)
	return b
}

// WithStore keeps leases and checkpoints. Default: in memory, for one instance that starts
// anew each time.
func (b *Builder) WithStore(store Store) *Builder {
	b.opts.Require(store != nil, "WithStore: store is nil")
	b.store = store
	return b
}

// WithLease is how long an instance that does not write its leases any more keeps its
// shards, from 3 s. Default 30 s. A third of it passes between writes.
func (b *Builder) WithLease(d time.Duration) *Builder {
	b.opts.Require(d >= 3*time.Second, "WithLease(%s): must be 3 s at least", d)
	b.lease = d
	return b
}

// WithInstance names this instance among those that share the store. No two processes may
// have one name at the same time: they would take each other for themselves. Default: host,
// process and a number.
func (b *Builder) WithInstance(name string) *Builder {
	b.opts.Require(name != "", "WithInstance(%q): must not be empty", name)
	b.instance = name
	return b
}

// WithBatchSize is how many records are handed to the kernel at once, n from 1 to 1,000.
// Default 10. When all of them are settled, and what consumers emitted meanwhile is
// confirmed, the checkpoint moves: a crash repeats a batch, and what a second has brought.
func (b *Builder) WithBatchSize(n int) *Builder {
	b.opts.Require(n >= 1 && n <= maxRecords, "WithBatchSize(%d): must be from 1 to %d", n, maxRecords)
	b.batch = n
	return b
}

// WithStartAtLatest begins with records that are made from now on. The default is the
// oldest record there is, a day old. Either counts when the store has nothing yet.
func (b *Builder) WithStartAtLatest() *Builder { b.latest = true; return b }

// WithStartAt begins with records that were made at a time, to the second. Older ones are
// read and skipped.
func (b *Builder) WithStartAt(t time.Time) *Builder {
	b.opts.Require(!t.IsZero(), "WithStartAt: time is zero")
	b.at = t
	return b
}

// WithMaxAttempts gives a record up that has failed n times; see WithOnFailure. Default: it
// is handed over until DynamoDB removes it, and holds its shard up.
func (b *Builder) WithMaxAttempts(n int) *Builder {
	b.opts.Require(n >= 1, "WithMaxAttempts(%d): must be 1 at least", n)
	b.attempts = n
	return b
}

// WithMaxAge gives a record up that has failed and is older than d. Default: no limit.
func (b *Builder) WithMaxAge(d time.Duration) *Builder {
	b.opts.Require(d > 0, "WithMaxAge(%s): must not be zero or negative", d)
	b.age = d
	return b
}

// WithOnFailure takes records that are given up. While f fails, its shard waits and f is
// called again, after the record was handed over once more. Without it they are logged.
func (b *Builder) WithOnFailure(f func(context.Context, Failure) error) *Builder {
	b.opts.Require(f != nil, "WithOnFailure: function is nil")
	b.onFailure = f
	return b
}

// WithService takes a client. Default: one from the AWS configuration.
func (b *Builder) WithService(client Streams) *Builder {
	b.opts.RequireClient(client)
	b.client = client
	return b
}

// WithConfig takes an AWS configuration. Default: the one of the environment.
func (b *Builder) WithConfig(cfg aws.Config) *Builder { b.opts.AWS = &cfg; return b }

// WithLambda builds for AWS Lambda whatever the environment says. The default is to look
// for AWS_LAMBDA_RUNTIME_API.
func (b *Builder) WithLambda() *Builder { b.mode = lambdakit.Lambda; return b }

// WithPoller reads the shards, also in a function of AWS Lambda.
func (b *Builder) WithPoller() *Builder { b.mode = lambdakit.Service; return b }

// Build connects a kernel to the stream of a table, by the name of the table or the ARN of
// the stream. The empty name takes it from the environment: [EnvSource]. It looks for the
// newest stream of the table, within NetworkTimeout, and fails with an error that names
// table, region and cause. In a function it asks nothing, and needs no name: the event
// source mapping says what comes.
func (b *Builder) Build(table string) (*kernel.Listener, error) {
	if b.mode.Lambda() {
		if _, err := b.opts.Config(); err != nil {
			return nil, err
		}
		return kernel.NewListener(function{newFunction()}, b.opts.Kernel...)
	}
	s, err := b.stream(table)
	if err != nil {
		return nil, err
	}
	return kernel.NewListener(s, b.opts.Kernel...)
}

func (b *Builder) stream(table string) (*stream, error) {
	b.opts.Require(!b.latest || b.at.IsZero(), "WithStartAtLatest: contradicts WithStartAt")
	cfg, err := b.opts.Config()
	if err != nil {
		return nil, err
	}
	if table, err = b.opts.Name(table, "table"); err != nil {
		return nil, err
	}
	ref, err := b.opts.Resource(table, "table", "dynamodb", "table/", func(name string) bool {
		name, _, _ = strings.Cut(name, "/stream/")
		return awskit.Named(name, "._-", 255)
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.NetworkTimeout)
	defer cancel()
	client, region, err := awskit.Client(ctx, &b.opts, ref, awskit.MaxRequests, b.client, regionOf, newClient)
	if err != nil {
		return nil, err
	}
	s := &stream{
		client: client, arn: ref.ARN, store: b.store, instance: b.instance, log: cfg.Logger,
		lease: b.lease, batch: b.batch, pause: cfg.PollFrequency, start: b.at, timeout: cfg.NetworkTimeout,
		attempts: b.attempts, age: b.age, onFailure: b.onFailure, again: cfg.Redelivery, ahead: cfg.AtMostOnce,
	}
	if s.store == nil {
		s.store = NewMemory()
	}
	if s.instance == "" {
		s.instance = anyInstance()
	}
	if s.pause < 0 {
		s.pause = time.Second
	}
	if b.latest {
		s.start = time.Now()
	}
	if !strings.Contains(s.arn, "/stream/") {
		if s.arn, err = newest(ctx, client, ref.Name); err != nil {
			return nil, b.opts.Errorf("table %s in region %s: %w", ref.Name, cmp.Or(region, "of the client"), err)
		}
	}
	return s, nil
}

// anyInstance is a name that no other instance has.
func anyInstance() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%s-%d-%s", cmp.Or(host, "host"), os.Getpid(), strconv.FormatInt(time.Now().UnixNano(), 36))
}

// newest finds the stream of a table: one that was switched off stays for a day beside the
// one that was switched on later.
func newest(ctx context.Context, client Streams, table string) (string, error) {
	in := &dynamodbstreams.ListStreamsInput{TableName: &table}
	stream, label := "", ""
	for {
		out, err := awskit.Answered(client.ListStreams(ctx, in))
		if err != nil {
			return "", err
		}
		for _, x := range out.Streams {
			if l := aws.ToString(x.StreamLabel); x.StreamArn != nil && (stream == "" || l > label) {
				stream, label = *x.StreamArn, l
			}
		}
		if in.ExclusiveStartStreamArn = out.LastEvaluatedStreamArn; aws.ToString(in.ExclusiveStartStreamArn) == "" {
			break
		}
	}
	if stream == "" {
		return "", driver.Permanent(errors.New("it does not exist, or has no stream: enable DynamoDB Streams"))
	}
	return stream, nil
}

func newClient(cfg aws.Config) Streams { return dynamodbstreams.NewFromConfig(cfg) }

// regionOf a client; one of the user's own making does not tell.
func regionOf(client Streams) string {
	if c, ok := client.(*dynamodbstreams.Client); ok {
		return c.Options().Region
	}
	return ""
}
