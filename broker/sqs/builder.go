package sqs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/broker/internal/wire"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Variables of the environment that Build("") takes the queue from.
const (
	EnvSource = "CONFIG_SWARM_SOURCE_SQS" // of listeners and endpoints
	EnvTarget = "CONFIG_SWARM_TARGET_SQS" // of emitters and endpoints
)

// Builder collects options and builds a kernel K on a queue. Its methods change and
// return the builder itself. It is not safe for concurrent use.
type Builder[K any] struct {
	make func(built, []swarm.Option) (K, error)
	opts awskit.Options
	mode lambdakit.Mode

	emits, listens bool

	client                  SQS
	batch                   int
	wait, visibility, delay time.Duration
	groupBatching, fairQ    bool
	unwrap                  bool
	envelopes               []wire.Envelope
}

// built is what Build makes a kernel of.
type built struct {
	*queue
	function *function // nil: this is no function, or it only sends
}

// Emitter builds a kernel that sends to a queue.
func Emitter() *Builder[*kernel.Emitter] {
	return newBuilder(true, false, func(b built, opts []swarm.Option) (*kernel.Emitter, error) {
		return kernel.NewEmitter(b.queue, opts...)
	}, EnvTarget)
}

// Listener builds a kernel that receives from a queue.
func Listener() *Builder[*kernel.Listener] {
	return newBuilder(false, true, func(b built, opts []swarm.Option) (*kernel.Listener, error) {
		if b.function != nil {
			return kernel.NewListener(b.function, opts...)
		}
		return kernel.NewListener(b.queue, opts...)
	}, EnvSource)
}

// Endpoint builds a kernel that does both.
func Endpoint() *Builder[*kernel.Endpoint] {
	return newBuilder(true, true, func(b built, opts []swarm.Option) (*kernel.Endpoint, error) {
		if b.function != nil {
			return kernel.NewEndpoint(b.function, opts...)
		}
		return kernel.NewEndpoint(b.queue, opts...)
	}, EnvSource, EnvTarget)
}

func newBuilder[K any](emits, listens bool, make func(built, []swarm.Option) (K, error), env ...string) *Builder[K] {
	return &Builder[K]{
		make: make, emits: emits, listens: listens,
		opts: awskit.Options{Broker: "sqs", Env: env}, batch: awskit.MaxEntries, wait: 20 * time.Second,
	}
}

// WithKernel adds options of the kernel.
func (b *Builder[K]) WithKernel(opts ...swarm.Option) *Builder[K] {
	b.opts.Kernel = append(b.opts.Kernel, opts...)
	return b
}

// WithBatchSize limits how many messages a request has, n from 1 to 10. Default 10:
// leases are extended while messages wait, so to receive ahead is safe.
func (b *Builder[K]) WithBatchSize(n int) *Builder[K] {
	b.opts.Require(n >= 1 && n <= awskit.MaxEntries, "WithBatchSize(%d): must be from 1 to %d", n, awskit.MaxEntries)
	b.batch = n
	return b
}

// WithWaitTime is how long a receive waits for messages, from 0 to 20 s, whole seconds.
// Default 20 s. 0 leaves it to the queue: the API has no way to say that it should not
// wait.
func (b *Builder[K]) WithWaitTime(d time.Duration) *Builder[K] {
	b.opts.Require(d >= 0 && d <= 20*time.Second && whole(d), "WithWaitTime(%s): must be whole seconds from 0 to 20", d)
	b.wait = d
	return b
}

// WithVisibility is the lease of a receive, whole seconds up to 12 h. Default: the
// queue's own. It is extended while a message waits or is worked on.
func (b *Builder[K]) WithVisibility(d time.Duration) *Builder[K] {
	b.opts.Require(d >= time.Second && d <= maxLease && whole(d), "WithVisibility(%s): must be whole seconds from 1 to %.0f", d, maxLease.Seconds())
	b.visibility = d
	return b
}

// WithDelay keeps back each message that is sent, whole seconds up to 15 min. Not on
// FIFO queues.
func (b *Builder[K]) WithDelay(d time.Duration) *Builder[K] {
	b.opts.Require(d >= 0 && d <= 15*time.Minute && whole(d), "WithDelay(%s): must be whole seconds from 0 to 900", d)
	b.delay = d
	return b
}

// WithGroupBatching lets a request to a FIFO queue have several messages of one group.
// That is an order of magnitude fewer requests for few groups. The price: when SQS
// refuses one of them, those behind it may be in the queue before it is.
func (b *Builder[K]) WithGroupBatching() *Builder[K] { b.groupBatching = true; return b }

// WithFairQueue sends the ordering key of a channel (emit.OrderBy) as group id to a
// standard queue, where it keeps one noisy tenant from delaying the others. AWS bills
// it.
func (b *Builder[K]) WithFairQueue() *Builder[K] { b.fairQ = true; return b }

// Envelope is what a service puts around a message that it passes on to a queue.
type Envelope uint8

const (
	// SNS is around a message of a topic, unless the subscription has raw delivery: then
	// a message comes as it was sent, attributes included, and needs no WithUnwrap.
	SNS = Envelope(wire.SNS)

	// EventBridge is around an event. Its detail-type is the category, its detail the
	// body.
	EventBridge = Envelope(wire.EventBridge)

	// S3 is around the records of a notification of a bucket. Each record is a message of
	// the category S3EventRecord, of one shape, also when it comes by EventBridge.
	S3 = Envelope(wire.S3)
)

// String returns the name of the service.
func (e Envelope) String() string { return wire.Envelope(e).String() }

// WithUnwrap opens the envelopes that messages are in, outermost first: SNS, EventBridge,
// S3, or (SNS, EventBridge), (SNS, S3), (EventBridge, S3), (SNS, EventBridge, S3). A
// message that is not in just these is nacked and reported.
//
// Without arguments it opens what each message is seen to have. A message with a Category
// attribute is taken as it is; of the others a body is an envelope when it has every member
// that the service writes. Whoever may send to the queue can write one, as he can write a
// Category: let policies say who may. Events of S3 become records.
//
// A message of several records is settled when all of them are: deleted if each was
// acknowledged, else it comes back whole. At most once does not hold for the records of one
// message: when one cannot be read, or the delete fails, all of them come again. The ID and
// SentAt of what was inside are its own; IOContext is the message of SQS.
func (b *Builder[K]) WithUnwrap(outermost ...Envelope) *Builder[K] {
	b.unwrap, b.envelopes = true, nil
	for _, e := range outermost {
		b.envelopes = append(b.envelopes, wire.Envelope(e))
	}
	err := wire.CheckEnvelopes(b.envelopes)
	b.opts.Require(err == nil, "WithUnwrap%v: %v", outermost, err)
	return b
}

// WithService takes a client. Default: one from the AWS configuration.
func (b *Builder[K]) WithService(client SQS) *Builder[K] {
	b.opts.RequireClient(client)
	b.client = client
	return b
}

// WithConfig takes an AWS configuration. Default: the one of the environment.
func (b *Builder[K]) WithConfig(cfg aws.Config) *Builder[K] { b.opts.AWS = &cfg; return b }

// WithLazy makes Build ask nothing of AWS. The queue is looked up by the first
// request; its limits are the defaults of SQS. In a function of Lambda it is always so.
func (b *Builder[K]) WithLazy() *Builder[K] { b.opts.Lazy = true; return b }

// WithLambda makes a listener or endpoint serve invocations of AWS Lambda, whatever the
// environment says. The default is to do so where AWS_LAMBDA_RUNTIME_API is set.
func (b *Builder[K]) WithLambda() *Builder[K] { b.mode = lambdakit.Lambda; return b }

// WithPoller makes it ask the queue for messages, also in a function of AWS Lambda.
func (b *Builder[K]) WithPoller() *Builder[K] { b.mode = lambdakit.Service; return b }

func whole(d time.Duration) bool { return d%time.Second == 0 }

// Build connects a kernel to a queue, by its name, URL or ARN. The empty name takes it
// from the environment: [EnvSource], [EnvTarget]. It looks the queue up, within
// NetworkTimeout, and fails with an error that names queue, region and cause. A
// queue whose attributes may not be read is a warning: the defaults of SQS then hold.
//
// In a function of Lambda it asks nothing, and a listener needs no name: the event source
// mapping says what comes.
func (b *Builder[K]) Build(name string) (k K, err error) {
	q, opts, err := b.driver(name)
	if err != nil {
		return k, err
	}
	return b.make(q, opts)
}

func (b *Builder[K]) driver(name string) (built, []swarm.Option, error) {
	cfg, err := b.opts.Config()
	if err != nil {
		return built{}, nil, err
	}
	lambda := b.listens && b.mode.Lambda()
	mapped := lambda && !b.emits // the name is only good for messages
	name, err = b.opts.Name(name, "queue")
	if err != nil && !mapped {
		return built{}, nil, err
	}
	ref, url := awskit.Resource{Kind: "queue"}, ""
	if name != "" {
		if ref, url, err = parse(name); err != nil {
			return built{}, nil, err
		}
	}
	q, err := b.queue(ref, url, cfg, lambda || lambdakit.Here(), mapped)
	if err != nil {
		return built{}, nil, err
	}
	out := built{queue: q}
	if lambda {
		out.function = newFunction(q, cfg)
	}
	return out, b.opts.Kernel, nil
}

// queue makes the driver. A lazy one asks nothing; one that is only mapped needs no client
// but for RetryAfter.
func (b *Builder[K]) queue(ref awskit.Resource, url string, cfg swarm.Config, lazy, mapped bool) (*queue, error) {
	order, err := b.opts.Order(ref, b.fairQ, b.groupBatching)
	if err != nil {
		return nil, err
	}
	if order.FIFO && b.delay > 0 {
		return nil, b.opts.Errorf("WithDelay(%s): FIFO queue %s takes no delay of a message", b.delay, ref.Name)
	}

	ctx, cancel := context.WithTimeout(context.Background(), cfg.NetworkTimeout)
	defer cancel()
	client, region, err := awskit.Client(ctx, &b.opts, ref, 2*awskit.MaxRequests+cfg.PollerPool, b.client, regionOf, newClient)
	if err != nil && !(mapped && client == nil) {
		return nil, err
	}
	q := newQueue(client, ref, url, cfg.NetworkTimeout)
	q.order = order
	q.batch, q.maxSize = b.batch, maxRequest
	q.wait, q.visibility, q.delay = b.wait, b.visibility, b.delay
	q.unwrap, q.envelopes = b.unwrap, b.envelopes
	if q.wait == 0 {
		q.longest = 20 * time.Second // the queue's to say, and not known yet
	}
	if !b.opts.Lazy && !lazy {
		if err := q.describe(ctx, cfg.Logger); err != nil {
			return nil, fmt.Errorf("%w (region %s)", err, cmp.Or(region, "of the client"))
		}
	}
	if q.visibility == 0 {
		q.visibility = 30 * time.Second // unknown, or zero: there is no work without a lease
	}
	return q, nil
}

// parse reads what Build was given. The URL is empty if that was something else.
func parse(s string) (ref awskit.Resource, at string, err error) {
	name := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(strings.TrimSuffix(s, "/"))
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.Count(u.Path, "/") < 2 {
			return ref, "", errors.New("sqs: not the URL of a queue") // which may have a secret
		}
		name, at = u.Path[strings.LastIndexByte(u.Path, '/')+1:], u.String()
	}
	o := awskit.Options{Broker: "sqs"}
	ref, err = o.Resource(name, "queue", "sqs", "", func(name string) bool {
		return awskit.NamedFIFO(name, 80)
	})
	return ref, at, err
}

// newQueue is a driver that knows where its queue is, or how to find out.
func newQueue(client SQS, ref awskit.Resource, url string, limit time.Duration) *queue {
	q := &queue{client: client, name: ref.Name}
	q.url = awskit.NewLookup(url, limit, func(ctx context.Context) (string, error) {
		in := &sqs.GetQueueUrlInput{QueueName: &ref.Name}
		if ref.Account != "" {
			in.QueueOwnerAWSAccountId = &ref.Account
		}
		// Only to look up, here and in describe, the SDK repeats requests.
		out, err := awskit.Answered(client.GetQueueUrl(ctx, in))
		if err == nil && out.QueueUrl == nil {
			err = awskit.ErrNothing
		}
		if err != nil {
			return "", q.classify("look up", err)
		}
		return *out.QueueUrl, nil
	})
	return q
}

// describe reads what the queue was made with.
func (q *queue) describe(ctx context.Context, log *slog.Logger) error {
	url, err := q.url.Get(ctx)
	if err != nil {
		return err
	}
	out, err := awskit.Answered(q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: url,
		AttributeNames: []types.QueueAttributeName{
			// Not FifoQueue: a standard queue refuses to be asked for it.
			types.QueueAttributeNameMaximumMessageSize, types.QueueAttributeNameVisibilityTimeout, types.QueueAttributeNameReceiveMessageWaitTimeSeconds,
		},
	}))
	if awskit.Denied(err) {
		log.Warn("swarm: sqs: attributes of the queue may not be read, defaults hold", "queue", q.name, "err", err)
		return nil
	}
	if err != nil {
		return q.classify("describe", err)
	}
	read := func(name types.QueueAttributeName) int {
		n, err := strconv.Atoi(out.Attributes[string(name)])
		if err != nil {
			return 0
		}
		return n
	}
	if n := read(types.QueueAttributeNameMaximumMessageSize); n > 0 {
		q.maxSize = min(n, maxRequest)
	}
	if n := read(types.QueueAttributeNameVisibilityTimeout); n > 0 && q.visibility == 0 {
		q.visibility = time.Duration(n) * time.Second
	}
	if q.wait == 0 {
		q.longest = time.Duration(read(types.QueueAttributeNameReceiveMessageWaitTimeSeconds)) * time.Second
	}
	return nil
}

func newClient(cfg aws.Config) SQS { return sqs.NewFromConfig(cfg) }

// regionOf a client; one of the user's own making does not tell.
func regionOf(client SQS) string {
	if c, ok := client.(*sqs.Client); ok {
		return c.Options().Region
	}
	return ""
}
