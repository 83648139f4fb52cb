package eventddb_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/eventddb"
	swarm "github.com/fogfish/swarm/core"
)

func TestBuildOfAService(t *testing.T) {
	f := newFake("s1")
	build := func() *eventddb.Builder { return eventddb.Listener().WithService(f) }
	for name, x := range map[string]struct {
		b     *eventddb.Builder
		table string
		err   string
	}{
		"table":             {build(), "users", ""},
		"ARN of the stream": {build(), arn, ""},
		"ARN of the table":  {build(), "arn:aws:dynamodb:eu-west-1:123456789012:table/users", ""},
		"no stream":         {build(), "other", "has no stream"},
		"no name":           {build(), "", eventddb.EnvSource},
		"bad name":          {build(), "no/such", "not the name or ARN"},
		"bad ARN":           {build(), "arn:aws:sqs:eu-west-1:123456789012:users", "not the ARN"},
		"no client":         {eventddb.Listener().WithService(nil), "users", "client is nil"},
		"no store":          {build().WithStore(nil), "users", "WithStore"},
		"short lease":       {build().WithLease(time.Second), "users", "WithLease(1s)"},
		"batch":             {build().WithBatchSize(0), "users", "WithBatchSize(0)"},
		"attempts":          {build().WithMaxAttempts(0), "users", "WithMaxAttempts(0)"},
		"age":               {build().WithMaxAge(-1), "users", "WithMaxAge(-1ns)"},
		"instance":          {build().WithInstance(""), "users", "WithInstance"},
		"on failure":        {build().WithOnFailure(nil), "users", "WithOnFailure"},
		"start":             {build().WithStartAt(time.Time{}), "users", "WithStartAt"},
		"two starts":        {build().WithStartAt(time.Now()).WithStartAtLatest(), "users", "contradicts"},
		"kernel":            {build().WithKernel(swarm.WithTimeToFlight(-1)), "users", "WithTimeToFlight"},
	} {
		q, err := x.b.Build(x.table)
		if (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: got %v, want %q", name, err, x.err)
		}
		if err == nil {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Setenv(eventddb.EnvSource, "users")
	q, err := build().WithOnFailure(func(context.Context, eventddb.Failure) error { return nil }).Build("")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
