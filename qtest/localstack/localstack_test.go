package localstack

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// verdict records how a test ended.
type verdict struct{ failed, skipped string }

func (v *verdict) Helper()                           {}
func (v *verdict) Fatalf(format string, args ...any) { v.failed = fmt.Sprintf(format, args...) }
func (v *verdict) Skipf(format string, args ...any)  { v.skipped = fmt.Sprintf(format, args...) }

func server(t *testing.T, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_localstack/init/ready" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestWithoutAServerATestFailsInCIAndSkipsElsewhere(t *testing.T) {
	t.Setenv(EnvEndpoint, "")
	t.Setenv("AWS_ENDPOINT_URL", "")
	for ci, failed := range map[string]bool{"true": true, "": false} {
		t.Setenv("CI", ci)
		var v verdict
		Endpoint(&v)
		said := v.failed + v.skipped
		if (v.failed != "") != failed || (v.skipped != "") == failed || !strings.Contains(said, EnvEndpoint) || !strings.Contains(said, "make") {
			t.Errorf("CI=%q: %+v", ci, v)
		}
	}
}

func TestTheServerOfTheEnvironmentIsUsed(t *testing.T) {
	url := server(t, `{"completed": true}`)
	for _, env := range []string{EnvEndpoint, "AWS_ENDPOINT_URL"} {
		t.Setenv(EnvEndpoint, "")
		t.Setenv("AWS_ENDPOINT_URL", "")
		t.Setenv(env, url+"/")
		var v verdict
		if got := Endpoint(&v); got != url || v != (verdict{}) {
			t.Errorf("%s: got %q, %+v", env, got, v)
		}
	}
}

func TestAnotherServerIsNotTakenForOne(t *testing.T) {
	if err := probe(t.Context(), server(t, `<html>`)); err == nil || !strings.Contains(err.Error(), "is it LocalStack") {
		t.Errorf("got %v", err)
	}
	if err := probe(t.Context(), server(t, `{"completed": false}`)); err == nil || !strings.Contains(err.Error(), "starting") {
		t.Errorf("got %v", err)
	}
}

func TestAccountsAreStableAndTheirOwn(t *testing.T) {
	a, b := Account("broker/sqs"), Account("broker/sns")
	if a == b || a != Account("broker/sqs") || !regexp.MustCompile(`^[1-9][0-9]{11}$`).MatchString(a) {
		t.Errorf("got %s and %s", a, b)
	}
}

func TestUntarStaysInItsFolder(t *testing.T) {
	dir := t.TempDir()
	if err := untar(filepath.Join(dir, "none.tgz"), "package/", dir); err == nil {
		t.Error("got nil for an archive that is not there")
	}
	bad := filepath.Join(dir, "bad.tgz")
	if err := os.WriteFile(bad, []byte("no gzip"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := untar(bad, "package/", dir); err == nil {
		t.Error("got nil for what is no archive")
	}
}

// Start takes the server of the environment, if it names one, and leaves it running.
func TestStartTakesTheServerOfTheEnvironment(t *testing.T) {
	t.Setenv(EnvEndpoint, server(t, `{"completed": true}`))
	var log strings.Builder
	var s *Server
	s, err := Start(t.Context(), t.TempDir(), &log)
	if err != nil || s.Endpoint != FromEnv() || !strings.Contains(log.String(), "using "+s.Endpoint) {
		t.Fatal(err, log.String())
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	var v verdict
	if Endpoint(&v); v != (verdict{}) {
		t.Errorf("it was stopped: %+v", v)
	}
}
