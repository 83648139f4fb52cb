package awskit

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Resource is what Build was given the name or the ARN of.
type Resource struct {
	Kind            string // the noun for it: queue, topic, bus
	Name            string
	ARN             string // empty when Build was given a name
	Account, Region string // as the ARN tells
}

// Resource reads a name, or an ARN of a service, which has the prefix in front of the name.
func (o *Options) Resource(s, kind, service, prefix string, valid func(name string) bool) (Resource, error) {
	r := Resource{Kind: kind, Name: s}
	if strings.HasPrefix(s, "arn:") {
		a, err := arn.Parse(s)
		name, ok := strings.CutPrefix(a.Resource, prefix)
		if err != nil || !ok || a.Service != service || a.AccountID == "" || a.Region == "" {
			return r, o.Errorf("%q is not the ARN of a %s", s, kind)
		}
		r.Name, r.ARN, r.Account, r.Region = name, s, a.AccountID, a.Region
	}
	if !valid(r.Name) {
		return r, o.Errorf("%q is not the name or ARN of a %s", r.Name, kind)
	}
	return r, nil
}

// Named reports whether a name has from 1 to max letters, digits, and characters of others.
func Named(name, others string, max int) bool {
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(others, c) >= 0) {
			return false
		}
	}
	return name != "" && len(name) <= max
}

// At refuses a client, whose region is known or empty, for a resource of another region.
func (r Resource) At(region string) error {
	if r.Region != "" && region != "" && r.Region != region {
		return fmt.Errorf("is in region %s, the client in %s", r.Region, region)
	}
	return nil
}

// Lookup finds where a resource is when that is first needed, for several callers at once
// if need be.
type Lookup struct {
	find  func(context.Context) (string, error)
	limit time.Duration
	found atomic.Pointer[string]
}

// NewLookup is for what is known, or else is to be found within the limit: callers may
// have more, for a long poll.
func NewLookup(known string, limit time.Duration, find func(context.Context) (string, error)) *Lookup {
	l := &Lookup{find: find, limit: limit}
	if known != "" {
		l.found.Store(&known)
	}
	return l
}

// Get looks up once; what has failed is tried again by the next call.
func (l *Lookup) Get(ctx context.Context) (*string, error) {
	if at := l.found.Load(); at != nil {
		return at, nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	at, err := l.find(ctx)
	if err != nil {
		return nil, err
	}
	l.found.Store(&at)
	return &at, nil
}

// Answered is the answer of a client, or an error: a client of the user may give neither.
func Answered[T any](out *T, err error) (*T, error) {
	if err == nil && out == nil {
		err = ErrNothing
	}
	return out, err
}
