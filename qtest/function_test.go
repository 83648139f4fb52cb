package qtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
)

// pushed is a good function: a source in memory whose payload is JSON.
type pushed struct {
	features FunctionFeatures
	serve    chan driver.Serve
	open     sync.WaitGroup
}

type pushedEvent struct {
	Messages []pushedMessage `json:"messages"`
}

type pushedMessage struct {
	Category, ID, Group string
	Body                []byte
}

func (p *pushed) Limits() driver.Limits {
	return driver.Limits{Whole: p.features.Whole, Ordered: p.features.Ordered}
}

func (p *pushed) Close() error { return nil }

func (p *pushed) Run(ctx context.Context, serve driver.Serve) error {
	p.serve <- serve
	<-ctx.Done()
	p.open.Wait()
	return nil
}

func (p *pushed) handle(ctx context.Context, payload []byte) ([]int, error) {
	p.open.Add(1)
	defer p.open.Done()
	serve := <-p.serve
	p.serve <- serve
	var in pushedEvent
	if err := json.Unmarshal(payload, &in); err != nil {
		return nil, err
	}
	if in.Messages == nil {
		return nil, errors.New("not an event")
	}
	bags := make([]driver.Bag, len(in.Messages))
	for i, m := range in.Messages {
		bags[i] = driver.Bag{Category: m.Category, ID: m.ID, Group: m.Group, Body: m.Body, Attempt: 1}
	}
	s, err := serve(ctx, bags)
	if err != nil {
		return nil, err
	}
	var failed []int
	for i := range s {
		if s[i].Outcome == driver.Ack {
			continue
		}
		if p.features.Whole && s[i].Outcome == driver.Nack {
			return nil, s[i].Err
		}
		failed = append(failed, i)
	}
	if p.features.Whole && len(failed) > 0 {
		return nil, errors.New("not processed")
	}
	return failed, nil
}

func openPushed(features FunctionFeatures) func(T) Function {
	return func(T) Function {
		p := &pushed{features: features, serve: make(chan driver.Serve, 1)}
		return Function{
			Connect: func() (io.Closer, error) { return p, nil },
			Invoke: func(ctx context.Context, bags []driver.Bag) ([]int, error) {
				event := pushedEvent{Messages: []pushedMessage{}}
				for _, bag := range bags {
					event.Messages = append(event.Messages, pushedMessage{bag.Category, bag.ID, bag.Group, bag.Body})
				}
				payload, err := json.Marshal(event)
				if err != nil {
					return nil, err
				}
				defer clear(payload)
				return p.handle(ctx, payload)
			},
			Raw: func(ctx context.Context, payload []byte) error {
				_, err := p.handle(ctx, payload)
				return err
			},
		}
	}
}

var goodFunctions = map[string]FunctionFeatures{
	"partial": {}, "ordered": {Ordered: true}, "whole": {Whole: true}, "single": {Whole: true, Single: true},
}

func TestFunction(t *testing.T) {
	for name, features := range goodFunctions {
		t.Run(name, func(t *testing.T) {
			report := RunFunction(t, openPushed(features), features)
			if ran := report.Names(Passed, NotApplicable); len(ran) != len(FunctionCases()) {
				t.Errorf("%d of %d cases:\n%s", len(ran), len(FunctionCases()), report)
			}
			for _, result := range report {
				if result.Outcome == NotApplicable && !features.Whole && !strings.HasPrefix(result.Case, "B3") {
					t.Errorf("%s does not apply", result.Case)
				}
			}
		})
	}
}

// brokenFunction differs from a good one in one thing.
type brokenFunction struct {
	name     string
	features FunctionFeatures
	sabotage func() functionSabotage
	caught   []string // clause and topic of the cases that fail
}

func serving(f func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error)) func() functionSabotage {
	return func() functionSabotage {
		return functionSabotage{serve: func(serve driver.Serve) driver.Serve {
			return func(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) { return f(serve, ctx, bags) }
		}}
	}
}

// outcome gives each message the same one.
func outcomeOf(bags []driver.Bag, o driver.Outcome) []driver.Settlement {
	s := make([]driver.Settlement, len(bags))
	for i := range bags {
		s[i] = driver.Settlement{Bag: &bags[i], Outcome: o, Err: errBoom}
	}
	return s
}

var brokenFunctions = []brokenFunction{
	{"answers before its messages are settled", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			go serve(context.WithoutCancel(ctx), bags)
			return outcomeOf(bags, driver.Ack), nil
		}), []string{"B1 answer: names", "B1 answer: messages", "B1 concurrent", "B2 hung", "B2 slow", "B4 emit", "B4 failure"}},
	{"fails all messages with one", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			s, err := serve(ctx, bags)
			if slices.ContainsFunc(s, func(s driver.Settlement) bool { return s.Outcome != driver.Ack }) {
				return outcomeOf(bags, driver.Nack), err
			}
			return s, err
		}), []string{"B1 answer: names", "B2 hung", "B3 poison"}},
	{"acknowledges what failed", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			_, err := serve(ctx, bags)
			return outcomeOf(bags, driver.Ack), err
		}), []string{"B1 answer: names", "B1 concurrent", "B2 hung", "B3 poison"}},
	{"acknowledges what failed, as a whole", FunctionFeatures{Whole: true},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			_, err := serve(ctx, bags)
			return outcomeOf(bags, driver.Ack), err
		}), []string{"B3 whole"}},
	{"serves one invocation at a time", FunctionFeatures{}, func() functionSabotage {
		busy := make(chan struct{}, 1)
		return functionSabotage{serve: func(serve driver.Serve) driver.Serve {
			return func(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
				busy <- struct{}{}
				defer func() { <-busy }()
				return serve(ctx, bags)
			}
		}}
	}, []string{"B1 concurrent"}},
	{"remembers an error", FunctionFeatures{}, func() functionSabotage {
		var mu sync.Mutex
		var before error
		return functionSabotage{serve: func(serve driver.Serve) driver.Serve {
			return func(ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
				s, err := serve(ctx, bags)
				mu.Lock()
				defer mu.Unlock()
				before = errors.Join(before, err)
				return s, before
			}
		}}
	}, []string{"B4 failure"}},
	{"knows no deadline", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			return serve(context.WithoutCancel(ctx), bags)
		}), []string{"B2 hung"}},
	{"has a limit of 5 s", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			return serve(ctx, bags)
		}), []string{"B1 answer: names", "B2 slow"}},
	{"keeps bodies in the payload", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			var bodies [][]byte
			for i := range bags {
				bodies = append(bodies, bags[i].Body)
			}
			s, err := serve(ctx, bags)
			for _, b := range bodies {
				clear(b)
			}
			return s, err
		}), []string{"B1 content"}},
	{"reads bodies as text", FunctionFeatures{Whole: true},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			for i := range bags {
				bags[i].Body = bytes.ToValidUTF8(bags[i].Body, []byte("?"))
			}
			return serve(ctx, bags)
		}), []string{"B1 content"}},
	{"tells messages apart by their id", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			seen := map[string]bool{}
			var one []driver.Bag
			for _, bag := range bags {
				if !seen[bag.ID] {
					seen[bag.ID] = true
					one = append(one, bag)
				}
			}
			_, err := serve(ctx, one)
			return outcomeOf(bags, driver.Ack), err
		}), []string{"B1 answer: messages"}},
	{"knows no groups", FunctionFeatures{Ordered: true},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			for i := range bags {
				bags[i].Group = ""
			}
			return serve(ctx, bags)
		}), []string{"B3 group"}},
	{"waits for the rest when one has failed", FunctionFeatures{Whole: true},
		func() functionSabotage { return functionSabotage{limits: func(l *driver.Limits) { l.Whole = false }} }, []string{"B3 whole"}},
	{"acknowledges what nobody listens to", FunctionFeatures{},
		func() functionSabotage {
			return functionSabotage{options: []swarm.Option{swarm.WithUnknownCategory(swarm.UnknownAck)}}
		}, []string{"B3 poison"}},
	{"waits for poison until the deadline", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			s, err := serve(ctx, bags)
			if slices.ContainsFunc(s, func(s driver.Settlement) bool { return s.Outcome != driver.Ack }) {
				time.Sleep(20 * time.Second)
			}
			return s, err
		}), []string{"B3 poison"}},
	{"does not wait for what was emitted", FunctionFeatures{},
		func() functionSabotage {
			return functionSabotage{options: []swarm.Option{swarm.WithBarrier(swarm.NewBarrier())}}
		}, []string{"B4 emit", "B4 failure"}},
	{"forgets that a value failed", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			s, _ := serve(ctx, bags)
			return s, nil
		}), []string{"B4 failure"}},
	{"gives idle emitters time", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			s, err := serve(ctx, bags)
			time.Sleep(5 * time.Second)
			return s, err
		}), []string{"B4 idle", "B5 empty"}},
	{"takes any payload", FunctionFeatures{}, func() functionSabotage { return functionSabotage{raw: true} }, []string{"B5 foreign"}},
	{"drops its invocations at Close", FunctionFeatures{},
		serving(func(serve driver.Serve, ctx context.Context, bags []driver.Bag) ([]driver.Settlement, error) {
			_, err := serve(ctx, bags)
			if err == nil && len(bags) == 1 {
				return outcomeOf(bags, driver.Release), nil
			}
			return outcomeOf(bags, driver.Ack), err
		}), []string{"C1 Close"}},
}

func TestBrokenFunctions(t *testing.T) {
	caught := map[string]bool{}
	for _, m := range brokenFunctions {
		t.Run(m.name, func(t *testing.T) {
			s := functionSuite{open: openPushed(m.features), features: m.features, broken: m.sabotage}
			for _, prefix := range m.caught {
				i := slices.IndexFunc(functionCases, func(c functionCase) bool { return strings.HasPrefix(c.name, prefix) })
				if i < 0 || functionCases[i].missing(m.features) != "" {
					t.Fatalf("no case %q applies", prefix)
				}
				if result, _ := s.attempt(t, functionCases[i]); result.Outcome != Failed {
					t.Errorf("not caught by %q", functionCases[i].name)
				}
				caught[functionCases[i].name] = true
			}
		})
	}
	for _, name := range FunctionCases() {
		if !caught[name] {
			t.Errorf("no broken function fails %q", name)
		}
	}
}

// RunFunction as a broker's test calls it; the report lists every case.
func ExampleRunFunction() {
	fmt.Println(len(FunctionCases()), "cases, the first:", FunctionCases()[0])
	// Output: 15 cases, the first: B1 content: bodies of any kind arrive unaltered, and outlive the invocation
}
