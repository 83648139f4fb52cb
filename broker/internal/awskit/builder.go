package awskit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	swarm "github.com/fogfish/swarm/core"
)

// MaxRequests is how many sends, and how many settlements, are in flight at once.
const MaxRequests = 16

// Options are those that the builders of all brokers have.
type Options struct {
	Broker string // its name, in front of errors
	Env    []string
	Kernel []swarm.Option
	AWS    *aws.Config
	Lazy   bool

	errs []error
}

// Require notes an option that is not valid: Build will fail.
func (o *Options) Require(ok bool, format string, args ...any) {
	if !ok {
		o.errs = append(o.errs, o.Errorf(format, args...))
	}
}

// RequireClient is Require for a client of the user.
func (o *Options) RequireClient(client any) {
	v := reflect.ValueOf(client)
	o.Require(v.IsValid() && !(v.Kind() == reflect.Pointer && v.IsNil()), "WithService: client is nil")
}

// Errorf makes an error of the broker.
func (o *Options) Errorf(format string, args ...any) error {
	return fmt.Errorf(o.Broker+": "+format, args...)
}

// Config is what the kernel will be configured with; an error when any option is not valid.
func (o *Options) Config() (swarm.Config, error) {
	cfg, err := swarm.NewConfig(o.Kernel...)
	return cfg, errors.Join(append(o.errs, err)...)
}

// Name is the name that Build was given, or the one of the environment when that is
// empty. What is the noun for it.
func (o *Options) Name(name, what string) (string, error) {
	if name != "" {
		return name, nil
	}
	for _, env := range o.Env {
		value := os.Getenv(env)
		if value != "" && name != "" && value != name {
			return "", o.Errorf("Build(%q): %s name two %ss", "", strings.Join(o.Env, " and "), what)
		}
		if value != "" {
			name = value
		}
	}
	if name == "" {
		return "", o.Errorf("Build(%q): no name, and %s is not set", "", strings.Join(o.Env, " or "))
	}
	return name, nil
}

// Load is the configuration of a client: the user's, or the one of the environment. The
// region is the fallback for one without. The client keeps an idle connection for each of
// the requests that may be in flight: the SDK's default of 10 closes and opens them all the
// time. What names the thing whose ARN would tell the region.
func (o *Options) Load(ctx context.Context, region, what string, requests int) (aws.Config, error) {
	if o.AWS == nil {
		cfg, err := load(ctx)
		if err != nil {
			return aws.Config{}, err
		}
		o.AWS = &cfg
	}
	cfg := o.AWS.Copy()
	if cfg.Region == "" {
		cfg.Region = region
	}
	if cfg.Region == "" {
		return cfg, fmt.Errorf("no region: set AWS_REGION, or give the ARN of the %s", what)
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(idle(requests))
	} else if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = c.WithTransportOptions(idle(requests))
	}
	return cfg, nil
}

// Client is the user's own client, if he gave one, or else one that is made for the region
// of the resource, and its region, as far as region can tell. One for another region is
// refused.
func Client[C comparable](ctx context.Context, o *Options, r Resource, requests int, own C, region func(C) string, make func(aws.Config) C) (client C, at string, err error) {
	if client = own; own == *new(C) {
		cfg, err := o.Load(ctx, r.Region, r.Kind, requests)
		if err != nil {
			return client, "", o.Errorf("%s %s: %w", r.Kind, r.Name, err)
		}
		client = make(cfg)
	}
	at = region(client)
	if err := r.At(at); err != nil {
		return client, at, o.Errorf("%s %s %w", r.Kind, r.Name, err)
	}
	return client, at, nil
}

func idle(n int) func(*http.Transport) {
	return func(t *http.Transport) {
		t.MaxIdleConnsPerHost = max(t.MaxIdleConnsPerHost, n)
		t.MaxIdleConns = max(t.MaxIdleConns, 2*n)
	}
}
