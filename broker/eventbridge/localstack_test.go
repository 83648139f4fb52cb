package eventbridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"

	"github.com/fogfish/swarm/broker/eventbridge"
)

// What only EventBridge has, on LocalStack. The suite in conformance_test.go has the rest.

var soak = os.Getenv("SOAK") == "1"

// patience bounds what tests wait for. Nothing takes that long.
var patience = map[bool]time.Duration{false: time.Minute, true: 10 * time.Minute}[soak]

// connect builds a kernel on a bus of LocalStack. It closes with the test.
func connect(t testing.TB, cfg aws.Config, bus string, opts ...swarm.Option) *kernel.Emitter {
	t.Helper()
	q, err := eventbridge.Emitter().WithConfig(cfg).WithKernel(append([]swarm.Option{quiet, swarm.WithSource("me")}, opts...)...).Build(bus)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return q
}

// arrive takes n events from a queue.
func (q queue) arrive(t testing.TB, n int) (all []envelope) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(all) < n {
		events, err := q.take(ctx)
		if err != nil {
			t.Fatalf("%d of %d events: %v", len(all), n, err)
		}
		all = append(all, events...)
	}
	return all
}

// none fails when an event is there that should not be. Its rule has been looked at when
// another rule has sent the event on: LocalStack looks at them in turn.
func (q queue) none(t testing.TB) {
	t.Helper()
	if events, err := q.take(t.Context()); err != nil || len(events) > 0 {
		t.Errorf("got %s, %v", events, err)
	}
}

func TestRulesMatchCategoryAndSource(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	bus := createBus(t, cfg)
	byType := createQueue(t, cfg, bus, `{"detail-type":["User"]}`)
	bySource := createQueue(t, cfg, bus, `{"source":["me"],"resources":["arn:aws:s3:::bucket"]}`)
	byMeta := createQueue(t, cfg, bus, `{"detail":{"meta":{"participant":["ada"]}}}`)
	other := createQueue(t, cfg, bus, `{"source":["you"]}`)
	all := createQueue(t, cfg, bus, everything)

	q, err := eventbridge.Emitter().WithConfig(cfg).WithKernel(quiet, swarm.WithSource("me"), swarm.WithRealm("blue")).
		WithResources("arn:aws:s3:::bucket").Build(bus)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Second)
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	user := UserEvent{Meta: &swarm.Meta{ID: "e-1", Participant: "ada"}, Data: &User{Name: "ada"}}
	if err := emit.NewEvent[UserEvent](q).Enq(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	types := func(events []envelope) (out []string) {
		for _, e := range events {
			out = append(out, e.DetailType)
			if e.Source != "me" || !slices.Equal(e.Resources, []string{"arn:aws:s3:::bucket"}) ||
				e.Time.Before(began.Truncate(time.Second)) || e.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("got %+v", e)
			}
		}
		slices.Sort(out)
		return out
	}
	for what, x := range map[string]struct {
		q    queue
		want []string
	}{"all": {all, []string{"Note", "User"}}, "source": {bySource, []string{"Note", "User"}}, "type": {byType, []string{"User"}}, "meta": {byMeta, []string{"User"}}} {
		got := x.q.arrive(t, len(x.want))
		if types := types(got); !slices.Equal(types, x.want) {
			t.Errorf("by %s: got %v", what, types)
		}
		if what == "type" {
			var e UserEvent
			if err := json.Unmarshal(got[0].Detail, &e); err != nil || e.Data == nil || e.Data.Name != "ada" || e.Meta.Agent != "me" || e.Meta.Realm != "blue" || e.Meta.ID != "e-1" {
				t.Errorf("got %s, %v", got[0].Detail, err)
			}
		}
	}
	for _, q := range []queue{all, bySource, byType, byMeta, other} {
		q.none(t)
	}
}

func TestABusThatDoesNotExistFailsAtBuild(t *testing.T) {
	cfg := cloud(t)
	_, err := eventbridge.Emitter().WithConfig(cfg).WithKernel(quiet, swarm.WithSource("me")).Build("nowhere")
	if err == nil || !strings.Contains(err.Error(), "nowhere") || !strings.Contains(err.Error(), "ResourceNotFoundException") || !strings.Contains(err.Error(), "us-east-1") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	if err := connect(t, cfg, "default").Close(); err != nil { // which each account has
		t.Error(err)
	}
}

// 10 MB, or 100: each event arrives once.
func TestMegabytes(t *testing.T) {
	t.Parallel()
	type Text struct {
		ID int
		S  string
	}
	n, size := 1000, 10_000
	if soak {
		n = 10_000
	}
	cfg := cloud(t)
	bus := createBus(t, cfg)
	far := createQueue(t, cfg, bus, everything)
	q := connect(t, cfg, bus, swarm.WithEmitWindow(100))
	enq, dlq := emit.Typed[Text](q)
	go func() {
		for x := range dlq {
			t.Errorf("not sent: %d", x.ID)
		}
	}()
	text := func(i int) Text { return Text{i, strings.Repeat(fmt.Sprint(i%10), size)} }
	go func() {
		defer close(enq)
		for i := range n {
			enq <- text(i)
		}
	}()
	seen := map[int]bool{}
	for _, e := range far.arrive(t, n) {
		var x Text
		if err := json.Unmarshal(e.Detail, &x); err != nil || x != text(x.ID) || seen[x.ID] || e.DetailType != "Text" {
			t.Fatalf("got %s: %v, seen before: %v", e.DetailType, err, seen[x.ID])
		}
		seen[x.ID] = true
	}
	far.none(t)
}
