package websocket

import (
	"context"
	"net"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/lambdakit"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/kernel"
)

// Variables of the environment.
const (
	// EnvSource and EnvTarget have the address of the API, for Build("").
	EnvSource = "CONFIG_SWARM_SOURCE_WS_URL" // of endpoints
	EnvTarget = "CONFIG_SWARM_TARGET_WS_URL" // of emitters and endpoints

	// EnvCategory has the category of messages that come by the route $default.
	EnvCategory = "CONFIG_SWARM_WS_EVENT_CATEGORY"
)

// Builder collects options and builds a kernel K on a WebSocket API. Its methods change and
// return the builder itself. It is not safe for concurrent use.
type Builder[K any] struct {
	make func(b *Builder[K], address string) (K, error)
	opts awskit.Options
	mode lambdakit.Mode

	client    Management
	requests  int
	protocols []string
}

// Emitter builds a kernel that sends to the clients of an API.
func Emitter() *Builder[*kernel.Emitter] {
	return newBuilder(func(b *Builder[*kernel.Emitter], address string) (*kernel.Emitter, error) {
		a, err := b.api(address)
		if err != nil {
			return nil, err
		}
		return kernel.NewEmitter(a, b.opts.Kernel...)
	}, EnvTarget)
}

// Listener builds the kernel of a function of AWS Lambda that routes of the API invoke.
func Listener() *Builder[*kernel.Listener] {
	return newBuilder(func(b *Builder[*kernel.Listener], address string) (*kernel.Listener, error) {
		if err := b.function(address); err != nil {
			return nil, err
		}
		return kernel.NewListener(newFunction(nil, b.protocols), b.opts.Kernel...)
	})
}

// Endpoint builds a kernel that does both: replies, for example.
func Endpoint() *Builder[*kernel.Endpoint] {
	return newBuilder(func(b *Builder[*kernel.Endpoint], address string) (*kernel.Endpoint, error) {
		if err := b.function(address); err != nil {
			return nil, err
		}
		a, err := b.api(address)
		if err != nil {
			return nil, err
		}
		return kernel.NewEndpoint(newFunction(a, b.protocols), b.opts.Kernel...)
	}, EnvSource, EnvTarget)
}

func newBuilder[K any](make func(*Builder[K], string) (K, error), env ...string) *Builder[K] {
	return &Builder[K]{make: make, opts: awskit.Options{Broker: "websocket", Env: env}, requests: 64}
}

// WithKernel adds options of the kernel. A channel has swarm.WithEmitWindow messages on
// their way at a time, and the default of one makes a slow connection delay the others on
// it.
func (b *Builder[K]) WithKernel(opts ...swarm.Option) *Builder[K] {
	b.opts.Kernel = append(b.opts.Kernel, opts...)
	return b
}

// WithConcurrency is how many connections are posted to at the same time, n from 1 to 1,000.
// Default 64. A connection has one request at a time, whatever n is.
func (b *Builder[K]) WithConcurrency(n int) *Builder[K] {
	b.opts.Require(n >= 1 && n <= 1000, "WithConcurrency(%d): must be from 1 to 1000", n)
	b.requests = n
	return b
}

// WithSubprotocols lets clients that offer subprotocols connect: the answer to $connect has
// the first one of names that the client offers. Browsers close a connection whose server
// picks none of those they have offered.
func (b *Builder[K]) WithSubprotocols(names ...string) *Builder[K] {
	for _, name := range names {
		b.opts.Require(token(name), "WithSubprotocols: %.60q is no name of a subprotocol", name)
	}
	b.protocols = names
	return b
}

// token reports whether s is one by RFC 9110.
func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// WithService takes a client, whose endpoint is then the one of the API: the name that Build
// is given is only for errors. Default: one from the AWS configuration.
func (b *Builder[K]) WithService(client Management) *Builder[K] {
	b.opts.RequireClient(client)
	b.client = client
	return b
}

// WithConfig takes an AWS configuration. Default: the one of the environment. Its endpoint
// does not count, the one that Build is given does.
func (b *Builder[K]) WithConfig(cfg aws.Config) *Builder[K] { b.opts.AWS = &cfg; return b }

// WithLambda makes a listener or endpoint serve invocations of AWS Lambda, whatever the
// environment says. The default is to look for AWS_LAMBDA_RUNTIME_API.
func (b *Builder[K]) WithLambda() *Builder[K] { b.mode = lambdakit.Lambda; return b }

// Build connects a kernel to an API by its address, with the stage, as clients know it or as
// the console shows it: wss://abc.execute-api.eu-west-1.amazonaws.com/prod or https://…. The
// empty address takes it from the environment: [EnvSource], [EnvTarget]. It asks nothing of
// AWS.
//
// A listener needs no address: what a function is invoked with is configured elsewhere.
// Outside of a function a listener or endpoint is an error: API Gateway calls functions.
func (b *Builder[K]) Build(address string) (K, error) { return b.make(b, address) }

// function fails outside of one, and when an option is not valid.
func (b *Builder[K]) function(address string) error {
	if !b.mode.Lambda() {
		return b.opts.Errorf("Build(%q): not a function of AWS Lambda. API Gateway invokes functions; on your machine run this one by swarm-local -websocket", address)
	}
	cfg, err := b.opts.Config()
	if err == nil && cfg.AtMostOnce {
		err = b.opts.Errorf("WithPolicyAtMostOnce: not here: API Gateway waits for the answer, and a client that is refused would be let in")
	}
	return err
}

func (b *Builder[K]) api(address string) (*api, error) {
	cfg, err := b.opts.Config()
	if err != nil {
		return nil, err
	}
	if address, err = b.opts.Name(address, "address"); err != nil {
		return nil, err
	}
	endpoint, region, err := b.endpoint(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cfg.NetworkTimeout)
	defer cancel()
	ref := awskit.Resource{Kind: "api", Name: endpoint, Region: region}
	client, _, err := awskit.Client(ctx, &b.opts, ref, b.requests, b.client, regionOf, func(cfg aws.Config) Management {
		return apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = &endpoint })
	})
	if err != nil {
		return nil, err
	}
	return &api{client: client, endpoint: endpoint, requests: b.requests}, nil
}

// endpoint is where the management API is, and its region, if the address tells.
func (b *Builder[K]) endpoint(address string) (endpoint, region string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		// It is not told: it may have credentials.
		return "", "", b.opts.Errorf("Build: not the address of an API: want wss://HOST/STAGE or https://HOST/STAGE, without user and query")
	}
	switch u.Scheme {
	case "wss", "https":
		u.Scheme = "https"
	case "ws", "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return "", "", b.opts.Errorf("Build(%.120q): without TLS an API is on this machine only", address)
		}
		u.Scheme = "http"
	default:
		return "", "", b.opts.Errorf("Build(%.120q): scheme %q: want wss or https", address, u.Scheme)
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/@connections")
	if part := strings.Split(u.Hostname(), "."); len(part) > 3 && part[1] == "execute-api" {
		region = part[2]
		if u.Path == "" {
			return "", "", b.opts.Errorf("Build(%.120q): no stage: want wss://HOST/STAGE", address)
		}
	}
	return u.String(), region, nil
}

// regionOf a client; one of the user's own making does not tell.
func regionOf(client Management) string {
	if c, ok := client.(*apigatewaymanagementapi.Client); ok {
		return c.Options().Region
	}
	return ""
}
