package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/backoff"
)

func TestDelays(t *testing.T) {
	ms := time.Millisecond
	for _, x := range []struct {
		name string
		f    backoff.Func
		want []time.Duration // after attempt 1, 2 …
	}{
		{"constant", backoff.Constant(10 * ms), []time.Duration{10 * ms, 10 * ms, 10 * ms}},
		{"linear", backoff.Linear(10 * ms), []time.Duration{10 * ms, 20 * ms, 30 * ms}},
		{"exponential", backoff.Exponential(10*ms, 35*ms), []time.Duration{10 * ms, 20 * ms, 35 * ms}},
		{"zero", backoff.Exponential(0, time.Hour), []time.Duration{0, 0, 0}},
	} {
		for i, want := range x.want {
			if got := x.f(i + 1); got != want {
				t.Errorf("%s(%d): got %s, want %s", x.name, i+1, got, want)
			}
		}
		for _, n := range []int{math.MinInt, -1, 0, 64, 5000, math.MaxInt} {
			if got := x.f(n); got < 0 {
				t.Errorf("%s(%d): got %s", x.name, n, got)
			}
		}
	}
}

func TestJitterStaysWithinItsBounds(t *testing.T) {
	f := backoff.Constant(time.Second)
	for range 1000 {
		if d := f.FullJitter()(1); d < 0 || d > time.Second {
			t.Errorf("full jitter: %s", d)
		}
		if d := f.EqualJitter()(1); d < time.Second/2 || d > time.Second {
			t.Errorf("equal jitter: %s", d)
		}
	}
}

func TestPolicy(t *testing.T) {
	p := backoff.Policy{Attempts: 3, Delay: backoff.Linear(time.Second)}
	for n, want := range []struct {
		delay time.Duration
		again bool
	}{1: {time.Second, true}, 2: {2 * time.Second, true}, 3: {0, false}, 4: {0, false}} {
		if d, again := p.Next(n); n > 0 && (d != want.delay || again != want.again) {
			t.Errorf("after %d: %s, %v", n, d, again)
		}
	}
	if _, again := backoff.None().Next(1); again {
		t.Error("None repeats")
	}
	if d, again := (backoff.Policy{Attempts: 2}).Next(1); d != 0 || !again {
		t.Errorf("no delay: %s, %v", d, again)
	}
	if d, _ := (backoff.Policy{Attempts: 2, Delay: backoff.Constant(-1)}).Next(1); d != 0 {
		t.Errorf("negative delay: %s", d)
	}
}
