package awstest

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Canned is a service as a client of the SDK sees it: it takes 5 ms for a request, and its
// answers cost next to nothing, so that what is measured is the library and the SDK.
type Canned struct {
	Protocol Protocol
	Answer   func(op string, body []byte) string

	requests atomic.Int64
}

// Config of a client that the service answers.
func (c *Canned) Config() aws.Config { return config("http://stub", c) }

// Do implements [aws.HTTPClient].
func (c *Canned) Do(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	c.requests.Add(1)
	time.Sleep(5 * time.Millisecond)
	out := []byte(c.Answer(c.Protocol.Operation(r, body), body))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {c.Protocol.ContentType}},
		Body: io.NopCloser(bytes.NewReader(out)), ContentLength: int64(len(out)), Request: r}, nil
}

// usage is what n messages took.
type usage struct {
	wall, cpu time.Duration
	requests  float64
}

func (c *Canned) measure(n int, f func()) usage {
	before, requests, began := cpu(), c.requests.Load(), time.Now()
	f()
	return usage{time.Since(began), cpu() - before, float64(c.requests.Load()-requests) / float64(n)}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Compare runs the loop that people write by hand and ours in turn, n messages each, and
// reports the median of the ratios beside their budgets.
func (c *Canned) Compare(b *testing.B, n int, requests float64, raw, ours func()) {
	raw()
	ours()
	var speed, cpus, per []float64
	for range 5 {
		x, y := c.measure(n, raw), c.measure(n, ours)
		speed = append(speed, x.wall.Seconds()/y.wall.Seconds())
		cpus = append(cpus, y.cpu.Seconds()/x.cpu.Seconds())
		per = append(per, y.requests)
	}
	median := func(x []float64) float64 { slices.Sort(x); return x[len(x)/2] }
	b.ReportMetric(median(speed), "speed")
	b.ReportMetric(0.9, "min-speed")
	b.ReportMetric(median(cpus), "cpu")
	b.ReportMetric(1.5, "max-cpu")
	b.ReportMetric(median(per), "requests/msg")
	b.ReportMetric(requests, "max-requests/msg")
}
