package lambdakit_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/core/driver"
)

const runtimeAPI = "AWS_LAMBDA_RUNTIME_API"

// LB16: Run ends with its context, and returns an error where it cannot serve: a process has
// one handler.
func TestLB16_AProcessHasOneFunction(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // a runtime that has no invocation: it never answers
	if err != nil {
		t.Fatal(err)
	}
	if _, again := os.LookupEnv(runtimeAPI); again {
		t.Skip("the process has its function: -count=1")
	}
	os.Setenv(runtimeAPI, l.Addr().String()) // as long as the process lives
	serve := func(context.Context, []driver.Bag) ([]driver.Settlement, error) { return nil, nil }
	f := lambdakit.Function{Open: func([]byte) ([]driver.Bag, error) { return nil, nil }, Answer: lambdakit.Whole}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, serve) }()
	if _, err := l.Accept(); err != nil { // it has asked for an invocation
		t.Fatal(err)
	}
	if err := f.Run(ctx, serve); !driver.IsPermanent(err) {
		t.Errorf("a second function of a process: %v", err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Run does not end with its context")
	}
}
