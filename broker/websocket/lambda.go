package websocket

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/internal/lambdakit"
	"github.com/fogfish/swarm/core/driver"
)

// Request is the native record of a message: [swarm.Msg.IOContext].
type Request = events.APIGatewayWebsocketProxyRequest

// newFunction is the driver in a function that API Gateway invokes. One that only listens
// has no sender.
func newFunction(sender driver.Sender, protocols []string) *lambdakit.WholeFunction {
	f := lambdakit.NewWhole(sender, receive)
	f.Within = within
	f.Answer = func(_ context.Context, s []driver.Settlement, err error) ([]byte, error) {
		return answer(protocols, s, err)
	}
	return f
}

// within has clients that connect answered while they wait. What else they do goes on behind
// their backs for as long as the function may run.
func within(bags []driver.Bag) time.Duration {
	if bags[0].Category != RouteConnect {
		return 0
	}
	// It waits since the request: the function may have had to start. Who waits for longer
	// has a clock of his own.
	if waited := time.Since(bags[0].SentAt); waited > 0 && waited < connectTimeout {
		return max(connectTimeout-waited, time.Second)
	}
	return connectTimeout
}

// connectTimeout is how long API Gateway waits for an integration; then it turns the client
// away.
// https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
const connectTimeout = 29 * time.Second

// receive reads what the function is invoked with: one event.
func receive(payload []byte) ([]driver.Bag, error) {
	var r Request
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber() // of the authorizer
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("websocket: not an event of a WebSocket API: %w", err)
	}
	c := &r.RequestContext
	if c.ConnectionID == "" || c.RouteKey == "" || c.RequestID == "" {
		return nil, errors.New("websocket: not an event of a WebSocket API: no connection, route or request id")
	}
	bag := driver.Bag{Category: c.RouteKey, ID: c.RequestID, Native: r, Body: []byte(r.Body)}
	if c.RequestTimeEpoch > 0 {
		bag.SentAt = time.UnixMilli(c.RequestTimeEpoch)
	}
	switch c.EventType {
	case "CONNECT":
		bag.Category, bag.Optional = RouteConnect, true
		bag.Body, bag.Err = json.Marshal(connectOf(&r))
	case "DISCONNECT":
		bag.Category, bag.Optional = RouteDisconnect, true
		bag.Body, bag.Err = json.Marshal(disconnectOf(&r))
	case "MESSAGE":
		if isLifecycle(bag.Category) {
			return nil, fmt.Errorf("websocket: request %s: a message selects the route %s", c.RequestID, c.RouteKey) // a client made it up
		}
		if r.IsBase64Encoded {
			bag.Body, bag.Err = base64.StdEncoding.DecodeString(r.Body)
		}
		if c.RouteKey == RouteDefault {
			if bag.Category = cmp.Or(os.Getenv(EnvCategory), RouteDefault); isLifecycle(bag.Category) {
				return nil, fmt.Errorf("websocket: %s=%s: not a category of messages", EnvCategory, bag.Category)
			}
		}
	default:
		return nil, fmt.Errorf("websocket: not an event of a WebSocket API: event type %.40q", c.EventType)
	}
	if bag.Err != nil {
		bag.Err = fmt.Errorf("websocket: request %s of connection %s: %w", c.RequestID, c.ConnectionID, bag.Err)
	}
	return []driver.Bag{bag}, nil
}

func isLifecycle(category string) bool {
	return category == RouteConnect || category == RouteDisconnect
}

// answer is what API Gateway gets: it lets a client in, or refuses it.
func answer(protocols []string, s []driver.Settlement, err error) ([]byte, error) {
	out := response{Status: http.StatusOK}
	for i := range s {
		r := s[i].Bag.Native.(Request)
		kind := r.RequestContext.EventType
		cause := s[i].Err
		no, chosen := errors.AsType[*refusal](cause)
		switch {
		case err != nil:
		case s[i].Outcome == driver.Ack:
		case chosen && kind == "CONNECT":
			out.Status = no.status
		case cause == nil:
			err = errUnprocessed
		default:
			err = cause
		}
		if p := choose(protocols, &r); p != "" && kind == "CONNECT" && out.Status == http.StatusOK {
			out.Headers = map[string]string{protocolHeader: p}
		}
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// response of a proxy integration.
type response struct {
	Status  int               `json:"statusCode"`
	Headers map[string]string `json:"headers,omitempty"`
}

var errUnprocessed = errors.New("websocket: the message was not processed")

const protocolHeader = "Sec-WebSocket-Protocol"

// choose is the first of ours that the client offers; empty: none.
func choose(ours []string, r *Request) string {
	offered := offers(r)
	for _, p := range ours {
		if slices.Contains(offered, p) {
			return p
		}
	}
	return ""
}

// offers are the subprotocols that a client is able to speak, of as many headers as it has
// sent.
func offers(r *Request) (names []string) {
	lists := r.MultiValueHeaders
	if len(lists) == 0 {
		lists = map[string][]string{}
		for name, value := range r.Headers {
			lists[name] = []string{value}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		if !strings.EqualFold(name, protocolHeader) {
			continue
		}
		for p := range strings.SplitSeq(strings.Join(lists[name], ","), ",") {
			if p = strings.TrimSpace(p); p != "" {
				names = append(names, p)
			}
		}
	}
	return names
}
