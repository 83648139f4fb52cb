package sns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/lambdakit"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Variables of the environment that Build("") takes the topic from.
const (
	EnvSource = "CONFIG_SWARM_SOURCE_SNS" // of listeners and endpoints
	EnvTarget = "CONFIG_SWARM_TARGET_SNS" // of emitters and endpoints
)

// Builder collects options and builds a kernel K on a topic. Its methods change and return
// the builder itself. It is not safe for concurrent use.
type Builder[K any] struct {
	make func(b *Builder[K], name string) (K, error)
	opts awskit.Options
	mode lambdakit.Mode

	client               SNS
	batch                int
	subject              string
	groupBatching, fairQ bool
}

// Emitter builds a kernel that publishes to a topic.
func Emitter() *Builder[*kernel.Emitter] {
	return newBuilder(func(b *Builder[*kernel.Emitter], name string) (*kernel.Emitter, error) {
		d, err := b.driver(name)
		if err != nil {
			return nil, err
		}
		return kernel.NewEmitter(d, b.opts.Kernel...)
	}, EnvTarget)
}

// Listener builds the kernel of a function of AWS Lambda that SNS invokes. A service
// listens to a queue that is subscribed to the topic: see package sqs, WithUnwrap.
func Listener() *Builder[*kernel.Listener] {
	return newBuilder(func(b *Builder[*kernel.Listener], name string) (*kernel.Listener, error) {
		if err := b.function(name); err != nil {
			return nil, err
		}
		return kernel.NewListener(newFunction(nil), b.opts.Kernel...)
	}, EnvSource)
}

// Endpoint builds a kernel that does both.
func Endpoint() *Builder[*kernel.Endpoint] {
	return newBuilder(func(b *Builder[*kernel.Endpoint], name string) (*kernel.Endpoint, error) {
		if err := b.function(name); err != nil {
			return nil, err
		}
		d, err := b.driver(name)
		if err != nil {
			return nil, err
		}
		return kernel.NewEndpoint(newFunction(d), b.opts.Kernel...)
	}, EnvSource, EnvTarget)
}

func newBuilder[K any](make func(*Builder[K], string) (K, error), env ...string) *Builder[K] {
	return &Builder[K]{make: make, opts: awskit.Options{Broker: "sns", Env: env}, batch: awskit.MaxEntries}
}

// WithKernel adds options of the kernel.
func (b *Builder[K]) WithKernel(opts ...swarm.Option) *Builder[K] {
	b.opts.Kernel = append(b.opts.Kernel, opts...)
	return b
}

// WithBatchSize limits how many messages a request has, n from 1 to 10. Default 10.
func (b *Builder[K]) WithBatchSize(n int) *Builder[K] {
	b.opts.Require(n >= 1 && n <= awskit.MaxEntries, "WithBatchSize(%d): must be from 1 to %d", n, awskit.MaxEntries)
	b.batch = n
	return b
}

// WithSubject gives each message of the kernel a subject: of the mail, where it goes by
// mail. Up to 100 printable characters of ASCII; the first is no space.
func (b *Builder[K]) WithSubject(s string) *Builder[K] {
	valid := s != "" && len(s) <= maxSubject && s[0] != ' '
	for i := range len(s) {
		valid = valid && s[i] >= ' ' && s[i] <= '~'
	}
	b.opts.Require(valid, "WithSubject(%.120q): must be from 1 to %d printable characters of ASCII, the first no space", s, maxSubject)
	b.subject = s
	return b
}

// WithGroupBatching lets a request to a FIFO topic have several messages of one group.
// That is an order of magnitude fewer requests for few groups. The price: when SNS refuses
// one of them, those behind it may be published before it is.
func (b *Builder[K]) WithGroupBatching() *Builder[K] { b.groupBatching = true; return b }

// WithFairQueue sends the ordering key of a channel (emit.OrderBy) as group id to a
// standard topic. SNS passes it on to standard SQS queues, where it keeps one noisy tenant
// from delaying the others, and to nobody else.
func (b *Builder[K]) WithFairQueue() *Builder[K] { b.fairQ = true; return b }

// WithService takes a client. Default: one from the AWS configuration.
func (b *Builder[K]) WithService(client SNS) *Builder[K] {
	b.opts.RequireClient(client)
	b.client = client
	return b
}

// WithConfig takes an AWS configuration. Default: the one of the environment.
func (b *Builder[K]) WithConfig(cfg aws.Config) *Builder[K] { b.opts.AWS = &cfg; return b }

// WithLazy makes Build ask nothing of AWS. A topic by its name is looked up by the first
// request; messages have 256 KiB at most.
func (b *Builder[K]) WithLazy() *Builder[K] { b.opts.Lazy = true; return b }

// WithLambda makes a listener or endpoint serve invocations of AWS Lambda, whatever the
// environment says. The default is to look for AWS_LAMBDA_RUNTIME_API.
func (b *Builder[K]) WithLambda() *Builder[K] { b.mode = lambdakit.Lambda; return b }

// Build connects a kernel to a topic, by its ARN or its name. The empty name takes it from
// the environment: [EnvSource], [EnvTarget]. A name is looked for among all topics of the account and
// region, a request for each hundred of them: prefer the ARN. Build asks for the limits of
// the topic, within NetworkTimeout, and fails with an error that names topic, region and
// cause. When it may not ask, that is a warning: the defaults of SNS then hold.
//
// A listener needs no name: what a function is invoked with is configured elsewhere. In a
// function Build asks nothing. Outside of one a listener or endpoint is an error, which
// names the way for a service.
func (b *Builder[K]) Build(name string) (K, error) { return b.make(b, name) }

// function fails outside of one, and when an option is not valid.
func (b *Builder[K]) function(name string) error {
	if !b.mode.Lambda() {
		return b.opts.Errorf("Build(%q): not a function of AWS Lambda. A service listens to a queue that is subscribed to the topic: sqs.Listener().WithUnwrap(sqs.SNS)", name)
	}
	_, err := b.opts.Config()
	return err
}

func (b *Builder[K]) driver(name string) (*topic, error) {
	cfg, err := b.opts.Config()
	if err != nil {
		return nil, err
	}
	if name, err = b.opts.Name(name, "topic"); err != nil {
		return nil, err
	}
	ref, err := b.opts.Resource(name, "topic", "sns", "", func(name string) bool {
		return awskit.NamedFIFO(name, 256)
	})
	if err != nil {
		return nil, err
	}
	order, err := b.opts.Order(ref, b.fairQ, b.groupBatching)
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), cfg.NetworkTimeout)
	defer cancel()
	client, region, err := awskit.Client(ctx, &b.opts, ref, awskit.MaxRequests, b.client, regionOf, newClient)
	if err != nil {
		return nil, err
	}
	t := &topic{client: client, name: ref.Name, order: order, subject: b.subject, batch: b.batch, maxSize: usualSize}
	t.arn = awskit.NewLookup(ref.ARN, cfg.NetworkTimeout, t.lookup)
	if !b.opts.Lazy && !lambdakit.Here() {
		if err := t.describe(ctx, cfg.Logger); err != nil {
			return nil, fmt.Errorf("%w (region %s)", err, cmp.Or(region, "of the client"))
		}
	}
	return t, nil
}

// lookup finds the ARN of a topic by its name. SNS has no request for that.
func (t *topic) lookup(ctx context.Context) (string, error) {
	in := &sns.ListTopicsInput{}
	for {
		out, err := awskit.Answered(t.client.ListTopics(ctx, in))
		if err != nil {
			return "", t.classify("list topics", fmt.Errorf("%w; the ARN in place of the name needs no look-up", err))
		}
		for _, x := range out.Topics {
			if arn := aws.ToString(x.TopicArn); strings.HasSuffix(arn, ":"+t.name) {
				return arn, nil
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return "", t.classify("list topics", errAbsent)
		}
		in.NextToken = out.NextToken
	}
}

// errAbsent is not permanent: a topic may yet be made, and be found by a later request.
var errAbsent = errors.New("no topic of this account and region has the name; one of another account needs its ARN")

// describe reads what the topic was made with.
func (t *topic) describe(ctx context.Context, log *slog.Logger) error {
	arn, err := t.arn.Get(ctx)
	if err != nil {
		return err
	}
	out, err := awskit.Answered(t.client.GetTopicAttributes(ctx, &sns.GetTopicAttributesInput{TopicArn: arn}))
	if awskit.Denied(err) {
		log.Warn("swarm: sns: attributes of the topic may not be read, defaults hold", "topic", t.name, "err", err)
		return nil
	}
	if err != nil {
		return t.classify("describe", err)
	}
	if n, err := strconv.Atoi(out.Attributes["MaximumMessageSize"]); err == nil && n > 0 {
		t.maxSize = n // absent: the usual one
	}
	return nil
}

func newClient(cfg aws.Config) SNS { return sns.NewFromConfig(cfg) }

// regionOf a client; one of the user's own making does not tell.
func regionOf(client SNS) string {
	if c, ok := client.(*sns.Client); ok {
		return c.Options().Region
	}
	return ""
}
