package serverless_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// release builds a main as it is deployed.
func release(b *testing.B, main string, env ...string) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "bootstrap")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", "lambda.norpc", "-o", path, "./"+main)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return path
}

// clients are those of the SDK that a binary links. Names of functions stay when the rest
// is stripped.
var clients = regexp.MustCompile(`aws-sdk-go-v2/service/(\w+)\.\(\*Client\)`)

// Size of what is deployed, and what it links.
func BenchmarkBudgetSize(b *testing.B) {
	for _, x := range []struct {
		main, byHand string
		mb           float64
		x            float64
	}{
		{"sqs", "internal/byhand/sqs", 9.5, 1.12}, // it polls, too, when it is no function
		{"functions/eventbridge", "internal/byhand/eventbridge", 7.5, 1.12},
		{"functions/sns", "internal/byhand/sns", 7.5, 1.12},
		{"functions/events3", "internal/byhand/plain", 7.5, 1.12},
	} {
		b.Run(x.main, func(b *testing.B) {
			read := func(main string) []byte {
				raw, err := os.ReadFile(release(b, main, "GOOS=linux", "GOARCH=arm64"))
				if err != nil {
					b.Fatal(err)
				}
				return raw
			}
			ours, theirs := read(x.main), read(x.byHand)
			b.ReportMetric(float64(len(ours))/1e6, "MB")
			b.ReportMetric(x.mb, "max-MB")
			b.ReportMetric(float64(len(theirs))/1e6, "MB-by-hand")
			b.ReportMetric(float64(strings.Count(string(ours), "jsii")), "jsii")
			b.ReportMetric(0, "max-jsii")
			b.ReportMetric(float64(len(ours))/float64(len(theirs)), "x-size")
			b.ReportMetric(x.x, "max-x-size")
			if !strings.HasPrefix(x.main, "functions/") { // those only listen
				return
			}
			linked := map[string]bool{}
			for _, m := range clients.FindAllSubmatch(ours, -1) {
				linked[string(m[1])] = true
			}
			b.ReportMetric(float64(len(linked)), "clients")
			b.ReportMetric(0, "max-clients")
		})
	}
}

// runtimeAPI tells when a process asks for its first event, and never has one.
type runtimeAPI struct {
	*httptest.Server
	asked chan time.Time
}

func newRuntimeAPI(b *testing.B) *runtimeAPI {
	a := &runtimeAPI{asked: make(chan time.Time, 1)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		a.asked <- time.Now()
		<-r.Context().Done()
	}))
	b.Cleanup(a.Close)
	return a
}

// start is the time from the start of a process to its first question.
func (a *runtimeAPI) start(b *testing.B, path string) time.Duration {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), path)
	cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + a.Listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=f", "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"}
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	select {
	case at := <-a.asked:
		return at.Sub(began)
	case <-time.After(time.Minute):
		b.Fatalf("%s does not ask for an event", path)
		return 0
	}
}

// Time to the first event.
func BenchmarkBudgetStart(b *testing.B) {
	for _, x := range []struct{ main, byHand string }{
		{"sqs", "internal/byhand/sqs"},
		{"functions/eventbridge", "internal/byhand/eventbridge"},
		{"functions/sns", "internal/byhand/sns"},
		{"functions/events3", "internal/byhand/plain"},
	} {
		b.Run(x.main, func(b *testing.B) {
			ours, theirs := release(b, x.main), release(b, x.byHand)
			api := newRuntimeAPI(b)
			api.start(b, ours)
			api.start(b, theirs)
			// In turn, and of five starts the fastest: the machine has others to care for.
			var mine, other []float64
			for range 51 {
				fastest := [2]time.Duration{time.Hour, time.Hour}
				for range 5 {
					fastest[0] = min(fastest[0], api.start(b, ours))
					fastest[1] = min(fastest[1], api.start(b, theirs))
				}
				mine, other = append(mine, milliseconds(fastest[0])), append(other, milliseconds(fastest[1]))
			}
			b.ReportMetric(median(mine)/median(other), "x-start")
			b.ReportMetric(1.15, "max-x-start")
			b.ReportMetric(median(mine), "ms")
			b.ReportMetric(median(other), "ms-by-hand")
		})
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
