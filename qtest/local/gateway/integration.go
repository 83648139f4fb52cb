package gateway

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// maxConcurrency is that of an integration that does not say what it takes: the quota of
// an account.
const maxConcurrency = 1000

// What an integration can fail with beside its own errors.
var (
	errTimeout   = errors.New("no answer within the time limit")
	errMalformed = errors.New("malformed Lambda proxy response")
)

// integration is a function that serves routes. It is invoked as often at a time as it can
// be; the next wait for a place, in their order.
type integration struct {
	fn     lambda.Invoker
	places chan struct{}
}

func newIntegration(fn lambda.Invoker) *integration {
	n := maxConcurrency
	if f, ok := fn.(interface{ Concurrency() int }); ok {
		n = f.Concurrency()
	}
	return &integration{fn: fn, places: make(chan struct{}, n)}
}

type result struct {
	response []byte
	err      error
}

// begin waits for a place and begins an invocation. What comes of it is on the channel, at
// the latest when ctx ends, with errTimeout.
func (i *integration) begin(ctx context.Context, payload []byte) <-chan result {
	done := make(chan result, 1)
	select {
	case i.places <- struct{}{}:
	case <-ctx.Done():
		done <- result{nil, errTimeout}
		return done
	}
	// Whoever comes later begins later: we return when the goroutine runs.
	running, ended := make(chan struct{}), make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if cause := recover(); cause != nil { // a Func recovers itself
				r.err = fmt.Errorf("panic: %v", cause)
			}
			<-i.places
			ended <- r
		}()
		close(running)
		r.response, r.err = i.fn.Invoke(ctx, payload)
	}()
	<-running
	go func() {
		// A handler in the own process may go on for longer than ctx: it is not waited for.
		select {
		case r := <-ended:
			if r.err != nil && ctx.Err() != nil {
				r.err = errTimeout
			}
			done <- r
		case <-ctx.Done():
			done <- result{nil, errTimeout}
		}
	}()
	return done
}

// response is what an integration answers with.
type response struct {
	status   int
	protocol string // the header Sec-WebSocket-Protocol
	body     []byte
}

func parseResponse(raw []byte) (r response, err error) {
	var proxy struct {
		StatusCode        int              `json:"statusCode"`
		Headers           map[string]any   `json:"headers"`
		MultiValueHeaders map[string][]any `json:"multiValueHeaders"`
		Body              string           `json:"body"`
		IsBase64Encoded   bool             `json:"isBase64Encoded"`
	}
	if json.Unmarshal(raw, &proxy) != nil || proxy.StatusCode < 200 || proxy.StatusCode > 599 {
		return r, errMalformed
	}
	r.status, r.body = proxy.StatusCode, []byte(proxy.Body)
	if proxy.IsBase64Encoded {
		if r.body, err = base64.StdEncoding.DecodeString(proxy.Body); err != nil {
			return r, errMalformed
		}
	}
	protocol := func(name string, value any) {
		if text, ok := value.(string); ok && strings.EqualFold(name, "Sec-WebSocket-Protocol") {
			r.protocol = text
		}
	}
	for name, value := range proxy.Headers {
		protocol(name, value)
	}
	for name, values := range proxy.MultiValueHeaders {
		if len(values) > 0 {
			protocol(name, values[0])
		}
	}
	return r, nil
}

// reason is an error in one line, for the log.
func reason(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n") // the stack of a panic
	return line
}
