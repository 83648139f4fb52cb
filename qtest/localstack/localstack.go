// Package localstack gives tests a LocalStack server, without Docker if need be.
//
// Tests ask [Endpoint] where it is. They do not start it: one server serves all
// packages, and the command localstack runs it around them:
//
//	go run github.com/fogfish/swarm/qtest/localstack/cmd/localstack run -- go test ./...
//
// Each test package works in an AWS account of its own, see [Account].
package localstack

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"strings"
	"time"
)

// EnvEndpoint names the variable by which tests find the server. AWS_ENDPOINT_URL
// serves as well.
const EnvEndpoint = "LOCALSTACK_ENDPOINT"

// T is the part of *testing.T that is needed here.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Endpoint returns the URL of the server. Without one it fails the test where CI=true,
// and skips it otherwise, saying how to get one.
func Endpoint(t T) string {
	t.Helper()
	endpoint := FromEnv()
	why := "no LocalStack: " + EnvEndpoint + " is not set"
	if endpoint != "" {
		err := ready(endpoint, 10*time.Second)
		if err == nil {
			return endpoint
		}
		why = fmt.Sprintf("no LocalStack at %s: %v", endpoint, err)
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s; CI needs it: run the tests by `make test`", why)
		return ""
	}
	t.Skipf("SKIPPED, NOT TESTED: %s; run `make localstack` in another terminal and set what it prints, or run `make test`", why)
	return ""
}

// FromEnv is what the environment says about the server, empty if nothing.
func FromEnv() string {
	for _, env := range []string{EnvEndpoint, "AWS_ENDPOINT_URL"} {
		if v := os.Getenv(env); v != "" {
			return strings.TrimSuffix(v, "/")
		}
	}
	return ""
}

// Account is an account id for the name, of a test package for example. Used as the
// access key id it gives the package a namespace of its own.
func Account(name string) string {
	h := fnv.New64a()
	h.Write([]byte(name))
	return fmt.Sprintf("%012d", 100_000_000_000+h.Sum64()%800_000_000_000)
}

// ready waits until the server has started its services.
func ready(endpoint string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var last error
	for {
		if last = probe(ctx, endpoint); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", within, last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func probe(ctx context.Context, endpoint string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/_localstack/init/ready", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var state struct {
		Completed bool `json:"completed"`
	}
	if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
		return fmt.Errorf("is it LocalStack? %w", err)
	}
	if !state.Completed {
		return fmt.Errorf("still starting")
	}
	return nil
}
