package eventbridge

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/lambdakit"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Variables of the environment that Build("") takes the bus from.
const (
	EnvSource = "CONFIG_SWARM_SOURCE_EVENTBUS" // of listeners and endpoints
	EnvTarget = "CONFIG_SWARM_TARGET_EVENTBUS" // of emitters and endpoints
)

// Builder collects options and builds a kernel K on a bus. Its methods change and return
// the builder itself. It is not safe for concurrent use.
type Builder[K any] struct {
	make func(b *Builder[K], name string) (K, error)
	opts awskit.Options
	mode lambdakit.Mode

	client    EventBridge
	batch     int
	resources []string
}

// Emitter builds a kernel that puts events on a bus.
func Emitter() *Builder[*kernel.Emitter] {
	return newBuilder(func(b *Builder[*kernel.Emitter], name string) (*kernel.Emitter, error) {
		d, err := b.driver(name)
		if err != nil {
			return nil, err
		}
		return kernel.NewEmitter(d, b.opts.Kernel...)
	}, EnvTarget)
}

// Listener builds the kernel of a function of AWS Lambda that EventBridge invokes. A service
// listens to a queue that is the target of a rule: see package sqs, WithUnwrap.
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
	return &Builder[K]{make: make, opts: awskit.Options{Broker: "eventbridge", Env: env}, batch: awskit.MaxEntries}
}

// WithKernel adds options of the kernel. One is needed: the source of each event is the
// agent that swarm.WithSource names.
func (b *Builder[K]) WithKernel(opts ...swarm.Option) *Builder[K] {
	b.opts.Kernel = append(b.opts.Kernel, opts...)
	return b
}

// WithBatchSize limits how many events a request has, n from 1 to 10. Default 10.
func (b *Builder[K]) WithBatchSize(n int) *Builder[K] {
	b.opts.Require(n >= 1 && n <= awskit.MaxEntries, "WithBatchSize(%d): must be from 1 to %d", n, awskit.MaxEntries)
	b.batch = n
	return b
}

// WithResources names what each event of the kernel is about, by ARNs: rules may match
// them. They count for the size of an event.
func (b *Builder[K]) WithResources(arns ...string) *Builder[K] {
	for _, s := range arns {
		b.opts.Require(arn.IsARN(s), "WithResources: %q is not an ARN", s)
	}
	b.resources = append(b.resources, arns...)
	return b
}

// WithService takes a client. Default: one from the AWS configuration.
func (b *Builder[K]) WithService(client EventBridge) *Builder[K] {
	b.opts.RequireClient(client)
	b.client = client
	return b
}

// WithConfig takes an AWS configuration. Default: the one of the environment.
func (b *Builder[K]) WithConfig(cfg aws.Config) *Builder[K] { b.opts.AWS = &cfg; return b }

// WithLazy makes Build ask nothing of AWS. Nobody then says that a bus does not exist:
// EventBridge accepts events for such a one, and drops them.
func (b *Builder[K]) WithLazy() *Builder[K] { b.opts.Lazy = true; return b }

// WithLambda makes a listener or endpoint serve invocations of AWS Lambda, whatever the
// environment says. The default is to look for AWS_LAMBDA_RUNTIME_API.
func (b *Builder[K]) WithLambda() *Builder[K] { b.mode = lambdakit.Lambda; return b }

// Build connects a kernel to a bus, by its name ("default" is the one that each account
// has) or its ARN. The empty name takes it from the environment: [EnvSource], [EnvTarget]. It
// asks, within NetworkTimeout, whether the bus exists, and fails with an error that names bus,
// region and cause. When it may not ask, that is a warning.
//
// A listener needs no name: what a function is invoked with is configured elsewhere. In a
// function Build asks nothing. Outside of one a listener or endpoint is an error, which
// names the way for a service.
func (b *Builder[K]) Build(name string) (K, error) { return b.make(b, name) }

// function fails outside of one, and when an option is not valid.
func (b *Builder[K]) function(name string) error {
	if !b.mode.Lambda() {
		return b.opts.Errorf("Build(%q): not a function of AWS Lambda. A service listens to a queue that is the target of a rule: sqs.Listener().WithUnwrap(sqs.EventBridge)", name)
	}
	_, err := b.opts.Config()
	return err
}

func (b *Builder[K]) driver(name string) (*bus, error) {
	cfg, err := b.opts.Config()
	if err != nil {
		return nil, err
	}
	if err := checkSource(cfg.Source); err != nil {
		return nil, fmt.Errorf("%w; swarm.WithSource sets it", err)
	}
	if name, err = b.opts.Name(name, "bus"); err != nil {
		return nil, err
	}
	ref, err := b.opts.Resource(name, "bus", "events", "event-bus/", func(name string) bool {
		return awskit.Named(name, "._-/", 256) // a slash is in names of partners' buses
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
	d := &bus{client: client, name: name, resources: b.resources, batch: b.batch, maxSize: maxRequest}
	if !b.opts.Lazy && !lambdakit.Here() {
		if err := d.describe(ctx, cfg.Logger); err != nil {
			return nil, fmt.Errorf("%w (region %s)", err, cmp.Or(region, "of the client"))
		}
	}
	return d, nil
}

// describe fails when the bus does not exist.
func (b *bus) describe(ctx context.Context, log *slog.Logger) error {
	_, err := awskit.Answered(b.client.DescribeEventBus(ctx, &eventbridge.DescribeEventBusInput{Name: &b.name}))
	if awskit.Denied(err) {
		log.Warn("swarm: eventbridge: it may not be asked whether the bus exists", "bus", b.name, "err", err)
		return nil
	}
	return b.classify("describe", err)
}

func newClient(cfg aws.Config) EventBridge { return eventbridge.NewFromConfig(cfg) }

// regionOf a client; one of the user's own making does not tell.
func regionOf(client EventBridge) string {
	if c, ok := client.(*eventbridge.Client); ok {
		return c.Options().Region
	}
	return ""
}
