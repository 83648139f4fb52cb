package qtest

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// run runs one case that is not in the table.
func run(t *testing.T, f Features, body func(*rig)) (Result, []string) {
	t.Helper()
	s := suite{features: f.withDefaults(), open: func(T) Queue {
		return Queue{Connect: func() (io.Closer, error) { return nil, errors.New("no broker") }}
	}}
	return s.attempt(t, Case{Clause: "X1", Sentence: "case: of a test", run: body})
}

func TestOutcome(t *testing.T) {
	virtual, real := Features{Virtual: true, Patience: time.Minute}, Features{Patience: 20 * time.Millisecond}
	for _, x := range []struct {
		name     string
		features Features
		body     func(*rig)
		want     string // part of the only failure; "" when the case passes
	}{
		{"passes", virtual, func(r *rig) { r.Logf("fine") }, ""},
		{"passes on a service", real, func(r *rig) { r.Logf("fine") }, ""},
		{"Errorf", virtual, func(r *rig) { r.Errorf("wrong: %d", 42) }, "wrong: 42"},
		{"Fatalf ends the case", virtual, func(r *rig) {
			r.Fatalf("wrong")
			r.Errorf("not reached")
		}, "wrong"},
		{"Fatalf of a helper", virtual, func(r *rig) { r.connect() }, "Connect: no broker"},
		{"panic", virtual, func(r *rig) { panic("at the disco") }, "panic: at the disco"},
		{"panic of a cleanup", virtual, func(r *rig) {
			r.Cleanup(func() { panic("late") })
		}, "panic: late"},
		{"hangs in a bubble", virtual, func(r *rig) { <-r.Context().Done() }, "hangs: not done after 10m0s"},
		{"hangs on a service", real, func(r *rig) { <-r.Context().Done() }, "hangs: not done after 200ms"},
		{"waits in vain", virtual, func(r *rig) {
			r.eventually("pigs fly", func() bool { return false })
		}, "not within 1m0s: pigs fly"},
	} {
		t.Run(x.name, func(t *testing.T) {
			result, _ := run(t, x.features, x.body)
			want := Failed
			if x.want == "" {
				want = Passed
			}
			if result.Outcome != want {
				t.Fatalf("got %s: %q, want %s", result.Outcome, result.Detail, want)
			}
			if x.want != "" && (len(result.Detail) != 1 || !strings.Contains(result.Detail[0], x.want)) {
				t.Errorf("got %q, want one failure with %q", result.Detail, x.want)
			}
		})
	}
}

func TestGoroutineLeftBehind(t *testing.T) {
	result, _ := run(t, Features{Virtual: true}, func(r *rig) {
		go func() { select {} }()
	})
	if result.Outcome != Failed || !strings.Contains(strings.Join(result.Detail, ""), "left behind") {
		t.Errorf("got %s: %q, want a failure for the goroutine", result.Outcome, result.Detail)
	}
}

func TestCleanups(t *testing.T) {
	var order []string
	result, log := run(t, Features{Virtual: true}, func(r *rig) {
		r.Cleanup(func() { order = append(order, "first") })
		r.Cleanup(func() { order = append(order, "second"); r.Fatalf("of a cleanup") })
		r.Cleanup(func() {
			if r.Context().Err() == nil {
				r.Errorf("the context of the case has not ended")
			}
			order = append(order, "third")
			r.Cleanup(func() { order = append(order, "fourth") })
		})
		r.Logf("log %d", 1)
	})
	if want := []string{"third", "fourth", "second", "first"}; !slices.Equal(order, want) {
		t.Errorf("cleanups: got %q, want %q", order, want)
	}
	if !slices.Equal(result.Detail, []string{"of a cleanup"}) || !slices.Equal(log, []string{"log 1"}) {
		t.Errorf("got failures %q and log %q", result.Detail, log)
	}
}

// TestFailureSaysWhere: the line of the case, whatever helper has failed.
func TestFailureSaysWhere(t *testing.T) {
	s := standard
	i := slices.IndexFunc(driverCases, func(c Case) bool { return c.Sentence == "ack: removes the message" })
	result, _ := suite{open: s.open(conns(forgets(driver.Ack))), features: s.features.withDefaults()}.attempt(t, driverCases[i])
	if result.Outcome != Failed || !strings.HasPrefix(result.Detail[0], "driver_cases.go:") || !strings.Contains(result.Detail[0], "acknowledged: received") {
		t.Errorf("got %s: %q, want a line of driver_cases.go and the message that came back", result.Outcome, result.Detail)
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	clauses := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name()] {
			t.Errorf("two cases are called %q", c.Name())
		}
		seen[c.Name()] = true
		clauses[c.Clause] = true
		if strings.ContainsAny(c.Name(), "/\n") || c.Clause == "" || c.Sentence == "" {
			t.Errorf("case %q has a bad name", c.Name())
		}
	}
	for _, clause := range []string{
		"D0", "D1", "D2", "D3", "D4", "D5", "D6",
		"E1", "E2", "E3", "E4", "E5", "E6", "E7", "E8",
		"L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L9",
		"C1", "C2", "C3", "C4", "C5",
	} {
		if !clauses[clause] {
			t.Errorf("no case is of clause %s", clause)
		}
	}
}

func TestFeatures(t *testing.T) {
	for _, x := range []struct {
		name     string
		features Features
		want     string // part of the error; "" when there is none
	}{
		{"none", Features{}, ""},
		{"all", complete, ""},
		{"two far sides", Features{EmitOnly: true, ListenOnly: true}, "EmitOnly contradicts ListenOnly"},
		{"emits with a lease", Features{EmitOnly: true, Visibility: time.Second}, "EmitOnly contradicts Visibility"},
		{"listens with dedup", Features{ListenOnly: true, Dedup: true}, "ListenOnly contradicts Dedup"},
		{"extends nothing", Features{Extend: true}, "Extend needs Visibility"},
		{"stale without lease", Features{StaleHandle: true}, "StaleHandle needs Visibility"},
		{"lease within the slack", Features{Visibility: time.Second, Slack: time.Second}, "Visibility(1s) must be longer than Slack(1s)"},
		{"limit of no delay", Features{MaxDelay: time.Second}, "MaxDelay needs Delay"},
		{"attributes without size", Features{Attributes: 1}, "Attributes needs AttributeSize"},
		{"negative", Features{Messages: -1}, "must not be negative"},
		{"parallel bubbles", Features{Virtual: true, Parallel: true}, "Virtual contradicts Parallel"},
	} {
		t.Run(x.name, func(t *testing.T) {
			err := x.features.validate()
			if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
}

func TestBatches(t *testing.T) {
	bag := func(body, group string) driver.Bag { return driver.Bag{Body: []byte(body), Group: group} }
	size := func(bag *driver.Bag) int { return len(bag.Body) }
	for _, x := range []struct {
		name   string
		limits driver.Limits
		bags   []driver.Bag
		want   []int
	}{
		{"none", driver.Limits{Entries: 2, Size: size}, nil, nil},
		{"by entries", driver.Limits{Entries: 2, Size: size}, []driver.Bag{bag("a", ""), bag("b", ""), bag("c", "")}, []int{2, 1}},
		{"by bytes", driver.Limits{Entries: 9, Bytes: 4, Size: size}, []driver.Bag{bag("aaa", ""), bag("b", ""), bag("c", ""), bag("ddddd", "")}, []int{2, 1, 1}},
		{"by group", driver.Limits{Entries: 9, Ordered: true, Size: size}, []driver.Bag{bag("a", "g"), bag("b", "h"), bag("c", "g")}, []int{2, 1}},
		{"batches of a group", driver.Limits{Entries: 9, Ordered: true, GroupBatches: true, Size: size}, []driver.Bag{bag("a", "g"), bag("b", "g")}, []int{2}},
	} {
		t.Run(x.name, func(t *testing.T) {
			var got []int
			for batch := range batches(x.limits, x.bags) {
				got = append(got, len(batch))
			}
			if !slices.Equal(got, x.want) {
				t.Errorf("got %v, want %v", got, x.want)
			}
		})
	}
}

// TestPick: what the spy passes on and refuses adds up, with indices of the caller.
func TestPick(t *testing.T) {
	gone := errors.New("gone")
	err := pick([]string{"a", "refused", "b", "fails", "dead"}, func(s string) error {
		switch s {
		case "refused":
			return errNow
		case "dead":
			return errGood
		}
		return nil
	}, func(rest []string) error {
		if !slices.Equal(rest, []string{"a", "b", "fails"}) {
			t.Errorf("passed on %q", rest)
		}
		return &driver.BatchError{Failed: []driver.Failure{{Index: 2, Err: gone, Permanent: true}}}
	})
	got := causes(err, 5)
	if got[0] != nil || got[1] != errNow || got[2] != nil || !errors.Is(got[3], gone) || !driver.IsPermanent(got[3]) || !driver.IsPermanent(got[4]) {
		t.Errorf("got %v", got)
	}
	if driver.IsPermanent(got[1]) {
		t.Errorf("the first refusal is permanent")
	}
	all := pick([]string{"a"}, nil, func([]string) error { return context.Canceled })
	if all != context.Canceled {
		t.Errorf("an answer for all is not passed on: %v", all)
	}
}

func TestReport(t *testing.T) {
	report := Report{
		{Case: "A1 one", Outcome: Passed},
		{Case: "A2 two", Outcome: NotApplicable, Detail: []string{"Extend", "Delay"}},
		{Case: "A3 three", Outcome: Failed, Detail: []string{"wrong"}},
	}
	if got := report.Names(Passed, Failed); !slices.Equal(got, []string{"A1 one", "A3 three"}) {
		t.Errorf("got %q", got)
	}
	if got, want := report.String(), "pass  A1 one\nn/a   A2 two (needs Extend, Delay)\nfail  A3 three\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
