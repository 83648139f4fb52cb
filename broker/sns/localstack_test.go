package sns_test

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
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"

	"github.com/fogfish/swarm/broker/sns"
)

// What only SNS has, on LocalStack. The suite in conformance_test.go has the rest.

var soak = os.Getenv("SOAK") == "1"

// patience bounds what tests wait for. Nothing takes that long.
var patience = map[bool]time.Duration{false: time.Minute, true: 10 * time.Minute}[soak]

// connect builds a kernel on a topic of LocalStack. It closes with the test.
func connect(t testing.TB, cfg aws.Config, topic string, b *sns.Builder[*kernel.Emitter], opts ...swarm.Option) *kernel.Emitter {
	t.Helper()
	q, err := b.WithConfig(cfg).WithKernel(append([]swarm.Option{quiet, swarm.WithSource("me")}, opts...)...).Build(topic)
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

// arrive takes n messages from a queue.
func (q queue) arrive(t testing.TB, n int) (all []delivery) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(all) < n {
		got, err := q.take(ctx)
		if err != nil {
			t.Fatalf("%d of %d messages: %v", len(all), n, err)
		}
		all = append(all, got...)
	}
	return all
}

// none fails when a message is there that should not be.
func (q queue) none(t testing.TB) {
	t.Helper()
	if got, err := q.take(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestFiltersMatchCategorySourceAndAttributes(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	topic := createTopic(t, cfg, false)
	all := subscribe(t, cfg, topic, true, "")
	users := subscribe(t, cfg, topic, true, `{"Category":["User"]}`)
	mine := subscribe(t, cfg, topic, false, `{"Source":["me"],"tenant":["blue"]}`)
	other := subscribe(t, cfg, topic, true, `{"Source":["you"]}`)

	q := connect(t, cfg, topic, sns.Emitter().WithSubject("Hello"))
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	if err := emit.NewEvent[UserEvent](q).Enq(t.Context(), UserEvent{Data: &User{Name: "ada"}}); err != nil {
		t.Fatal(err)
	}
	bag := q.NewBag("Note")
	bag.Body = []byte(`{"id":8}`)
	bag.Attrs = map[string]string{"tenant": "blue", "AWSTraceHeader": trace}
	if err := q.Enqueue(t.Context(), &bag); err != nil {
		t.Fatal(err)
	}
	categories := func(got []delivery) (out []string) {
		for _, d := range got {
			out = append(out, d.Category)
		}
		slices.Sort(out)
		return out
	}
	if got := categories(all.arrive(t, 3)); !slices.Equal(got, []string{"Note", "Note", "User"}) {
		t.Errorf("all: got %v", got)
	}
	if got := users.arrive(t, 1); got[0].Category != "User" || !strings.Contains(string(got[0].Body), `"data":{"name":"ada"}`) {
		t.Errorf("by category: got %+v", got)
	}
	if got := mine.arrive(t, 1)[0]; string(got.Body) != `{"id":8}` || got.Source != "me" || got.subject != "Hello" || got.Attrs["AWSTraceHeader"] != trace || got.Attrs["tenant"] != "blue" {
		t.Errorf("by source and attribute: got %+v", got)
	}
	for _, q := range []queue{all, users, mine, other} {
		q.none(t)
	}
}

func TestFIFOTopicToFIFOQueue(t *testing.T) {
	t.Parallel()
	const groups, each = 5, 20
	cfg := cloud(t)
	for _, batching := range []bool{false, true} {
		topic := createTopic(t, cfg, true)
		far := subscribe(t, cfg, topic, true, "")
		b := sns.Emitter()
		if batching {
			b.WithGroupBatching()
		}
		q := connect(t, cfg, topic, b, swarm.WithEmitWindow(groups*each))
		enq, dlq := emit.Typed[Note](q,
			emit.OrderBy(func(n Note) string { return fmt.Sprint("group ", n.ID%groups) }),
			emit.DedupBy(func(n Note) string { return fmt.Sprint("key ", n.ID) }))
		go func() {
			for n := range dlq {
				t.Errorf("not sent: %v", n)
			}
		}()
		for i := range groups * each {
			enq <- Note{i}
			enq <- Note{i} // SNS keeps one of the two
		}
		close(enq)
		got := map[string][]int{}
		for _, d := range far.arrive(t, groups*each) {
			var n Note
			if err := json.Unmarshal(d.Body, &n); err != nil || !strings.HasPrefix(d.Group, "sha256-") {
				t.Fatalf("got %+v: %v", d, err)
			}
			got[d.Group] = append(got[d.Group], n.ID)
		}
		for group, ids := range got {
			if len(ids) != each || !slices.IsSorted(ids) {
				t.Errorf("batching %v: %s: got %v", batching, group, ids)
			}
		}
		far.none(t)
	}
}

func TestATopicIsFoundByName(t *testing.T) {
	cfg := cloud(t)
	arn := createTopic(t, cfg, false)
	for range 120 { // a page has 100
		createTopic(t, cfg, false)
	}
	far := subscribe(t, cfg, arn, true, "")
	q := connect(t, cfg, arn[strings.LastIndexByte(arn, ':')+1:], sns.Emitter())
	if err := emit.NewTyped[Note](q).Enq(t.Context(), Note{7}); err != nil {
		t.Fatal(err)
	}
	far.arrive(t, 1)

	nowhere := "arn:aws:sns:us-east-1:" + strings.Split(arn, ":")[4] + ":nowhere"
	for name, want := range map[string]string{"nowhere": "no topic of this account", nowhere: "NotFound"} {
		_, err := sns.Emitter().WithConfig(cfg).WithKernel(quiet).Build(name)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "us-east-1") {
			t.Errorf("got %v", err)
		}
		t.Log(err)
	}
}

// The service counts as we do.
func TestTheLargestMessage(t *testing.T) {
	t.Parallel()
	cfg := cloud(t)
	topic := createTopic(t, cfg, false)
	far := subscribe(t, cfg, topic, true, "")
	d, err := sns.Connect(topic, sns.Emitter().WithConfig(cfg))
	if err != nil {
		t.Fatal(err)
	}
	bag := sized(256 << 10)
	if err := d.(bare).Send(t.Context(), []driver.Bag{bag}); err != nil {
		t.Fatal(err)
	}
	if got := far.arrive(t, 1)[0]; string(got.Body) != string(bag.Body) {
		t.Errorf("%d bytes have arrived", len(got.Body))
	}
	if err := d.(bare).Send(t.Context(), []driver.Bag{sized(256<<10 + 1)}); !driver.IsPermanent(err) {
		t.Errorf("the service takes what we refuse: %v", err)
	}
}

// 10 MB, or 100: each message arrives once.
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
	topic := createTopic(t, cfg, false)
	far := subscribe(t, cfg, topic, true, "")
	q := connect(t, cfg, topic, sns.Emitter(), swarm.WithEmitWindow(100))
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
	for _, d := range far.arrive(t, n) {
		var x Text
		if err := json.Unmarshal(d.Body, &x); err != nil || x != text(x.ID) || seen[x.ID] || d.Category != "Text" {
			t.Fatalf("got %s: %v, seen before: %v", d.Category, err, seen[x.ID])
		}
		seen[x.ID] = true
	}
	far.none(t)
}
