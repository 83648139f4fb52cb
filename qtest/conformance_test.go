package qtest_test

import (
	"io"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/qtest"
)

// TestConformance is what the author of a broker writes.
func TestConformance(t *testing.T) {
	open := func(t qtest.T) qtest.Queue {
		queue, err := embedded.NewQueue(t.Name(), embedded.WithVisibility(time.Minute))
		if err != nil {
			t.Fatalf("NewQueue: %v", err)
		}
		return qtest.Queue{Connect: func() (io.Closer, error) { return queue.Open() }}
	}
	report := qtest.Run(t, open, qtest.Features{
		Visibility: time.Minute, Extend: true, Delay: true, Attempts: true, StaleHandle: true,
		KeepID: true, KeepSource: true, SentAt: true, Foreign: true,
		EmptyBody: true, Attributes: 10, AttributeSize: 10_000, EmptyAttribute: true,
		Virtual: true, Messages: 500,
	})
	t.Logf("%d cases passed, not applicable: %q", len(report.Names(qtest.Passed)), report.Names(qtest.NotApplicable))
}
