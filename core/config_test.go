package swarm_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/backoff"
)

func TestDefaults(t *testing.T) {
	c, err := swarm.NewConfig()
	if err != nil {
		t.Fatal(err)
	}
	if c.AtMostOnce || c.TimeToFlight != 0 || c.NetworkTimeout != 5*time.Second || c.DrainTimeout != 25*time.Second ||
		c.PollerPool != 1 || c.EmitWindow != 1 || c.Linger != 5*time.Millisecond || c.Retry.Attempts != 5 || c.PollFrequency >= 0 ||
		c.EmitCapacity+c.DeadLetterCapacity+c.RecvCapacity+c.AckCapacity != 0 || c.Logger == nil || c.Barrier == nil || c.DeadLetterHandled {
		t.Errorf("got %+v", c)
	}
	for n, most := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond} {
		if d, again := c.Retry.Next(n); !again || d < 0 || d > most {
			t.Errorf("retry after attempt %d: %s", n, d)
		}
	}
	if _, again := c.Retry.Next(5); again {
		t.Error("a sixth attempt")
	}
	for n, within := range map[int][2]time.Duration{
		0:   {time.Second, time.Second}, // the broker does not count
		1:   {0, 0},
		2:   {500 * time.Millisecond, time.Second},
		3:   {time.Second, 2 * time.Second},
		100: {150 * time.Second, 5 * time.Minute},
	} {
		if d := c.Redelivery(n); d < within[0] || d > within[1] {
			t.Errorf("redelivery after %d: %s", n, d)
		}
	}
}

func TestOptions(t *testing.T) {
	stderr := make(chan error)
	logger := slog.New(slog.DiscardHandler)
	c, err := swarm.NewConfig(
		swarm.WithSource("agent"), swarm.WithRealm("blue"),
		swarm.WithRetryConstant(10*time.Millisecond, 3),
		swarm.WithRedelivery(backoff.Constant(time.Hour)),
		swarm.WithPollFrequency(0), swarm.WithPollerPool(4),
		swarm.WithTimeToFlight(time.Hour), swarm.WithNetworkTimeout(time.Second), swarm.WithDrainTimeout(2*time.Second),
		swarm.WithLinger(0), swarm.WithEmitWindow(7),
		swarm.WithPolicyAtLeastOnce(5), swarm.WithEmitCapacity(1), swarm.WithDeadLetterCapacity(2), swarm.WithRecvCapacity(3), swarm.WithAckCapacity(4),
		swarm.WithStdErr(stderr), swarm.WithLogger(logger),
		swarm.WithUnknownCategory(swarm.UnknownAck), swarm.WithDefaultCategory("Note"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if c.Source != "agent" || c.Realm != "blue" || c.PollFrequency != 0 || c.PollerPool != 4 || c.TimeToFlight != time.Hour ||
		c.NetworkTimeout != time.Second || c.DrainTimeout != 2*time.Second || c.Linger != 0 || c.EmitWindow != 7 ||
		c.EmitCapacity != 1 || c.DeadLetterCapacity != 2 || c.RecvCapacity != 3 || c.AckCapacity != 4 ||
		c.StdErr != stderr || c.Logger != logger || c.Unknown != swarm.UnknownAck || c.DefaultCategory != "Note" ||
		c.Redelivery(1) != time.Hour {
		t.Errorf("got %+v", c)
	}
	for n, want := range []bool{1: true, 2: true, 3: false} {
		if d, again := c.Retry.Next(n); n > 0 && (again != want || again && d != 10*time.Millisecond) {
			t.Errorf("retry after %d: %s, %v", n, d, again)
		}
	}
	if c, err := swarm.NewConfig(swarm.WithAgent("x"), swarm.WithPolicyAtMostOnce(9)); err != nil || c.Source != "x" ||
		!c.AtMostOnce || c.EmitCapacity != 9 || c.DeadLetterCapacity != 9 || c.RecvCapacity != 9 || c.AckCapacity != 9 || c.EmitWindow != 9 {
		t.Errorf("at most once: %+v, %v", c, err)
	}
}

// EM2, RX23: nothing invalid is accepted, nothing is silently rewritten.
func TestInvalidOptionsAreNamedWithTheirValue(t *testing.T) {
	for want, opt := range map[string]swarm.Option{
		`WithSource("")`:              swarm.WithSource(""),
		`WithAgent("")`:               swarm.WithAgent(""),
		`WithRealm("")`:               swarm.WithRealm(""),
		`WithDefaultCategory("")`:     swarm.WithDefaultCategory(""),
		`WithRetryConstant(1s, 0)`:    swarm.WithRetryConstant(time.Second, 0),
		`WithRetryConstant(-1s, 3)`:   swarm.WithRetryConstant(-time.Second, 3),
		`WithRetryLinear(1s, -1)`:     swarm.WithRetryLinear(time.Second, -1),
		`WithRetryExponential(1s, 0)`: swarm.WithRetryExponential(time.Second, 0),
		`WithRetry(0s, 0)`:            swarm.WithRetry(backoff.Policy{}),
		`WithRedelivery`:              swarm.WithRedelivery(nil),
		`WithPollFrequency(-1s)`:      swarm.WithPollFrequency(-time.Second),
		`WithPollerPool(-1)`:          swarm.WithPollerPool(-1),
		`WithPollerPool(0)`:           swarm.WithPollerPool(0),
		`WithPollerPool(10001)`:       swarm.WithPollerPool(10001),
		`WithTimeToFlight(0s)`:        swarm.WithTimeToFlight(0),
		`WithNetworkTimeout(-1ns)`:    swarm.WithNetworkTimeout(-1),
		`WithNetworkTimeout(0s)`:      swarm.WithNetworkTimeout(0),
		`WithDrainTimeout(0s)`:        swarm.WithDrainTimeout(0),
		`WithLinger(-1ms)`:            swarm.WithLinger(-time.Millisecond),
		`WithEmitWindow(0)`:           swarm.WithEmitWindow(0),
		`WithEmitWindow(100001)`:      swarm.WithEmitWindow(100001),
		`WithEmitCapacity(-1)`:        swarm.WithEmitCapacity(-1),
		`WithDeadLetterCapacity(-1)`:  swarm.WithDeadLetterCapacity(-1),
		`WithRecvCapacity(-1)`:        swarm.WithRecvCapacity(-1),
		`WithAckCapacity(1000001)`:    swarm.WithAckCapacity(1_000_001),
		`WithPolicyAtMostOnce(0)`:     swarm.WithPolicyAtMostOnce(0),
		`WithPolicyAtLeastOnce(-1)`:   swarm.WithPolicyAtLeastOnce(-1),
		`WithStdErr`:                  swarm.WithStdErr(nil),
		`WithLogger`:                  swarm.WithLogger(nil),
		`WithUnknownCategory(9)`:      swarm.WithUnknownCategory(9),
		`option 0 is nil`:             nil,
	} {
		if _, err := swarm.NewConfig(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	// What is set explicitly counts, before or after a policy.
	for _, opts := range [][]swarm.Option{
		{swarm.WithEmitCapacity(3), swarm.WithPolicyAtMostOnce(9)},
		{swarm.WithPolicyAtMostOnce(9), swarm.WithEmitCapacity(3)},
	} {
		if c, err := swarm.NewConfig(opts...); err != nil || c.EmitCapacity != 3 || c.RecvCapacity != 9 {
			t.Errorf("got %+v, %v", c, err)
		}
	}
	_, err := swarm.NewConfig(swarm.WithPolicyAtMostOnce(1), swarm.WithPolicyAtLeastOnce(1), swarm.WithLinger(-1))
	if err == nil || !strings.Contains(err.Error(), "WithPolicyAtLeastOnce(1): contradicts WithPolicyAtMostOnce") || !strings.Contains(err.Error(), "WithLinger") {
		t.Errorf("got %v, want each mistake", err)
	}
}

func TestConfigFromEnv(t *testing.T) {
	for _, x := range []struct {
		name, value string
		want        string // part of the error
		ok          func(swarm.Config) bool
	}{
		{"CONFIG_SWARM_REALM", "green", "", func(c swarm.Config) bool { return c.Realm == "green" }},
		{"CONFIG_SWARM_AGENT", "me", "", func(c swarm.Config) bool { return c.Source == "me" }},
		{"CONFIG_SWARM_POLL_FREQUENCY", "500ms", "", func(c swarm.Config) bool { return c.PollFrequency == 500*time.Millisecond }},
		{"CONFIG_SWARM_POLL_FREQUENCY", "0", "", func(c swarm.Config) bool { return c.PollFrequency == 0 }},
		{"CONFIG_SWARM_TIME_TO_FLIGHT", "30", "", func(c swarm.Config) bool { return c.TimeToFlight == 30*time.Second }},
		{"CONFIG_SWARM_NETWORK_TIMEOUT", "1m", "", func(c swarm.Config) bool { return c.NetworkTimeout == time.Minute }},
		{"CONFIG_SWARM_TIME_TO_FLIGHT", "0", `CONFIG_SWARM_TIME_TO_FLIGHT="0"`, nil},
		{"CONFIG_SWARM_TIME_TO_FLIGHT", "-1", `="-1"`, nil},
		{"CONFIG_SWARM_NETWORK_TIMEOUT", "soon", `="soon"`, nil},
		{"CONFIG_SWARM_REALM", "", "", func(c swarm.Config) bool { return c.Realm == "" }},
	} {
		t.Run(x.name+"="+x.value, func(t *testing.T) {
			t.Setenv(x.name, x.value)
			c, err := swarm.NewConfig(swarm.WithConfigFromEnv())
			if x.want != "" {
				if err == nil || !strings.Contains(err.Error(), x.want) {
					t.Errorf("got %v, want it to name %s", err, x.want)
				}
			} else if err != nil || !x.ok(c) {
				t.Errorf("got %+v, %v", c, err)
			}
		})
	}
}

func TestErrorsWrapTheirCause(t *testing.T) {
	cause := errors.New("cause")
	for _, err := range []error{
		&swarm.EmitError{Category: "Note", ID: "7", Attempts: 3, Err: cause},
		&swarm.ListenError{Category: "Note", ID: "7", Op: "decode", Err: cause},
		&swarm.CountError{Category: "Note", Count: 3, Err: cause},
		&swarm.DrainError{Undelivered: 1, Unsettled: 2, Unconfirmed: 3, Err: cause},
		swarm.RetryAfter(time.Second, cause),
	} {
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "cause") {
			t.Errorf("%T: %v", err, err)
		}
	}
	if e, ok := errors.AsType[*swarm.RetryAfterError](swarm.RetryAfter(-1, nil)); !ok || e.Delay != 0 || !errors.Is(e, swarm.ErrFailed) {
		t.Errorf("got %v", e)
	}
}
