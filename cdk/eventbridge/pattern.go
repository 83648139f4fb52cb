package eventbridge

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/jsii-runtime-go"

	swarm "github.com/fogfish/swarm/core"
)

// Expr is a part of a pattern.
type Expr func(*awsevents.EventPattern)

// Like is the pattern of events that all parts match. Parts of one kind, and those for one
// key, are alternatives: Like(Source("a"), Source("b")) is Like(Source("a", "b")). What
// EventBridge cannot have as a pattern is a panic.
//
//	eventbridge.Like(
//		eventbridge.Source("shop"),
//		eventbridge.Event[UserEvent](),
//		eventbridge.EventMeta("realm", "test"),
//		eventbridge.EventData("country", "FI", "SE"),
//	)
func Like(seq ...Expr) *awsevents.EventPattern {
	p := &awsevents.EventPattern{}
	for _, f := range seq {
		f(p)
	}
	return p
}

// Typed matches values of T, as emit.Typed sends them.
func Typed[T any]() Expr {
	category, err := swarm.TypeOf[T]()
	if err != nil {
		panic(fmt.Errorf("swarm: eventbridge.Typed: %w", err))
	}
	return Category(category)
}

// Event matches events of E, as emit.Event sends them.
func Event[E event[M, T], M, T any]() Expr {
	category, err := swarm.TypeOf[T]()
	if err != nil {
		panic(fmt.Errorf("swarm: eventbridge.Event: %w", err))
	}
	return Category(category)
}

// event is satisfied by instances of swarm.Event, and lets their type arguments be
// inferred.
type event[M, T any] interface {
	~struct {
		Meta *M `json:"meta,omitempty"`
		Data *T `json:"data,omitempty"`
	}
}

// Category matches the categories, which EventBridge has as detail-type.
func Category(categories ...string) Expr {
	return func(p *awsevents.EventPattern) { p.DetailType = among("Category", p.DetailType, categories) }
}

// Source matches what the agents have sent, see swarm.WithSource.
func Source(agents ...string) Expr {
	return func(p *awsevents.EventPattern) { p.Source = among("Source", p.Source, agents) }
}

func among(what string, seq *[]*string, more []string) *[]*string {
	if len(more) == 0 || slices.Contains(more, "") {
		panic(fmt.Errorf("swarm: eventbridge.%s(%q): names are missing: nothing would match", what, more))
	}
	out := []*string{}
	if seq != nil {
		out = append(out, *seq...)
	}
	for _, s := range more {
		out = append(out, jsii.String(s))
	}
	return &out
}

// Has matches objects whose key has one of the values: strings, numbers and booleans, or
// filters of EventBridge, such as map[string]any{"prefix": "a"}. Without values the key has
// to be there. A null cannot be said, since the CDK for Go drops it. Keys are those of the
// JSON; a dot goes into an object, so Has("address.city", "Oulu") matches
// {"address":{"city":"Oulu"}}.
func Has(key string, values ...any) Expr {
	return func(p *awsevents.EventPattern) {
		if p.Detail == nil {
			p.Detail = &map[string]any{}
		}
		path, at := strings.Split(key, "."), *p.Detail
		if slices.Contains(path, "") {
			panic(fmt.Errorf("swarm: eventbridge.Has(%q): a part of the key is empty", key))
		}
		for i, name := range path {
			switch next := at[name].(type) {
			case nil:
				if i == len(path)-1 {
					at[name] = alternatives(key, nil, values)
					return
				}
				inner := map[string]any{}
				at[name], at = inner, inner
			case map[string]any:
				if i == len(path)-1 {
					panic(fmt.Errorf("swarm: eventbridge.Has(%q): the pattern goes into the key, too", key))
				}
				at = next
			case []any:
				if i < len(path)-1 {
					panic(fmt.Errorf("swarm: eventbridge.Has(%q): the pattern has values for %s, too", key, strings.Join(path[:i+1], ".")))
				}
				at[name] = alternatives(key, next, values)
			}
		}
	}
}

func alternatives(key string, seq []any, values []any) []any {
	if len(values) == 0 {
		return append(seq, map[string]any{"exists": true})
	}
	for _, value := range values {
		raw, err := json.Marshal(value)
		if err != nil {
			panic(fmt.Errorf("swarm: eventbridge.Has(%q): %w", key, err))
		}
		var as any
		if err := json.Unmarshal(raw, &as); err != nil {
			panic(fmt.Errorf("swarm: eventbridge.Has(%q): %w", key, err))
		}
		switch v := as.(type) {
		case []any:
			panic(fmt.Errorf("swarm: eventbridge.Has(%q): %s is an array: give its values, one by one", key, raw))
		case map[string]any:
			if len(v) == 0 {
				panic(fmt.Errorf("swarm: eventbridge.Has(%q): a filter is empty", key))
			}
		case float64:
			if math.Abs(v) > maxNumber {
				panic(fmt.Errorf("swarm: eventbridge.Has(%q): %s: the CDK for Go has numbers up to 2^53", key, raw))
			}
		}
		if null(as) {
			panic(fmt.Errorf("swarm: eventbridge.Has(%q): %s: the CDK for Go drops null", key, raw))
		}
		seq = append(seq, as)
	}
	return seq
}

// maxNumber is the largest that is exact in JavaScript, which the CDK is.
const maxNumber = 1 << 53

// null reports whether there is one in the value.
func null(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case []any:
		return slices.ContainsFunc(v, null)
	case map[string]any:
		return slices.ContainsFunc(slices.Collect(maps.Values(v)), null)
	}
	return false
}

// EventMeta is [Has] for the metadata of an event.
func EventMeta(key string, values ...any) Expr { return Has("meta."+key, values...) }

// EventData is [Has] for the data of an event.
func EventData(key string, values ...any) Expr { return Has("data."+key, values...) }
