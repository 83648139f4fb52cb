package gateway_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

func TestRouteSelection(t *testing.T) {
	for name, tc := range map[string]struct{ expression, body, route string }{
		"exact":               {"", `{"action":"join"}`, "join"},
		"case counts":         {"", `{"action":"Join"}`, "$default"},
		"unknown":             {"", `{"action":"leave"}`, "$default"},
		"no such key":         {"", `{}`, "$default"},
		"not JSON":            {"", `join`, "$default"},
		"JSON and more":       {"", `{"action":"join"} x`, "$default"},
		"no object":           {"", `["action","join"]`, "$default"},
		"empty":               {"", ``, "$default"},
		"null":                {"", `{"action":null}`, "$default"},
		"object":              {"", `{"action":{"a":1}}`, "$default"},
		"array":               {"", `{"action":["join"]}`, "$default"},
		"number":              {"", `{"action":7}`, "7"},
		"bool":                {"", `{"action":true}`, "true"},
		"escapes":             {"", `{ "action" : "jo\u0069n" }`, "join"},
		"deep":                {"$request.body.meta.kind", `{"meta":{"kind":"join"}}`, "join"},
		"deep, not an object": {"$request.body.meta.kind", `{"meta":"join"}`, "$default"},
		"AWS's own":           {"", `{"action":"$connect"}`, "$default"},
		"AWS's own too":       {"", `{"action":"$disconnect"}`, "$default"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				w := open(t, gateway.API{Routes: map[string]lambda.Invoker{"join": nil, "7": nil, "true": nil}, Integration: r.fn(),
					RouteSelectionExpression: tc.expression})
				c := w.dial()
				r.next()
				w.send(c, tc.body)
				if e := r.next(); e.RequestContext.RouteKey != tc.route || e.Body != tc.body || e.RequestContext.EventType != "MESSAGE" {
					t.Errorf("got %q: %+v", e.RequestContext.RouteKey, e)
				}
			})
		})
	}
}

var frame = regexp.MustCompile(`^\{"message":"([^"]*)","connectionId":"([\w-]{15}=)","requestId":"[\w-]{15}="\}$`)

func TestAClientIsToldThatThereIsNoRouteAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Routes: map[string]lambda.Invoker{"join": r.fn()}})
		c := w.dial()
		for range 2 {
			w.send(c, `{"action":"leave","token":"secret"}`)
			if got := frame.FindStringSubmatch(w.receive(c)); got == nil || got[1] != "Forbidden" {
				t.Errorf("got %q", got)
			}
		}
		w.send(c, `{"action":"join"}`)
		r.next()
		synctest.Wait()
		if s := w.Stats(); s.Messages != 3 || s.Failed != 2 || s.Open != 1 {
			t.Errorf("%+v", s)
		}
		if !strings.Contains(w.log.String(), ": no route\n") || strings.Contains(w.log.String(), "secret") {
			t.Errorf("log %s", w.log)
		}
	})
}

func TestAnswersReachTheClientOnRoutesWithAResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		r.answer = func(e events.APIGatewayWebsocketProxyRequest) (any, error) {
			switch e.Body {
			case "binary":
				return events.APIGatewayProxyResponse{StatusCode: 200, Body: "/w==", IsBase64Encoded: true}, nil
			case "large":
				return ok(strings.Repeat("x", 128<<10+1)), nil
			case "empty":
				return ok(""), nil
			case "teapot":
				return events.APIGatewayProxyResponse{StatusCode: 418, Body: "short"}, nil
			}
			return ok("re: " + e.Body), nil
		}
		w := open(t, gateway.API{Integration: r.fn(), Routes: map[string]lambda.Invoker{"quiet": nil}, RouteResponses: []string{"$default"}})
		c := w.dial()
		for _, tc := range [][2]string{{"hello", "re: hello"}, {"binary", "\xff"}, {"teapot", "short"}} {
			w.send(c, tc[0])
			if got := w.receive(c); got != tc[1] {
				t.Errorf("%s: got %q", tc[0], got)
			}
		}
		w.send(c, "large")
		if got := frame.FindStringSubmatch(w.receive(c)); got == nil || got[1] != "Internal server error" {
			t.Errorf("got %q", got)
		}
		w.send(c, "empty")
		w.send(c, `{"action":"quiet"}`)
		synctest.Wait() // they are done with, and nothing was sent
		w.send(c, "last")
		if got := w.receive(c); got != "re: last" {
			t.Errorf("got %q", got)
		}
	})
}

func TestAClientIsToldThatTheIntegrationFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		answer any
		err    error
		panics bool
	}{
		"error":         {err: errors.New("as told")},
		"throttled":     {err: &lambda.ThrottleError{Limit: 1}},
		"panic":         {panics: true},
		"no answer":     {answer: []byte(``)},
		"null":          {answer: []byte(`null`)},
		"no statusCode": {answer: []byte(`{"body":"a"}`)},
		"no JSON":       {answer: []byte(`ok`)},
		"bad base64":    {answer: []byte(`{"statusCode":200,"body":"!","isBase64Encoded":true}`)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				r.answer = func(events.APIGatewayWebsocketProxyRequest) (any, error) {
					if tc.panics {
						panic("oops")
					}
					return tc.answer, tc.err
				}
				w := open(t, gateway.API{Routes: map[string]lambda.Invoker{"$default": r.fn()}})
				c := w.dial()
				for range 2 { // it stays connected
					w.send(c, "a")
					if got := frame.FindStringSubmatch(w.receive(c)); got == nil || got[1] != "Internal server error" {
						t.Errorf("got %q", got)
					}
				}
			})
		})
	}
}

// TestOrder: an integration that takes one at a time gets the messages in order, without
// being throttled, and those of one connection do not wait when it takes more.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		one := &limited{Func: r.fn(), n: 1}
		w := open(t, gateway.API{Routes: map[string]lambda.Invoker{"$default": one}})
		c := w.dial()
		for i := range 50 {
			w.send(c, fmt.Sprint(i))
		}
		for i := range 50 {
			if e := r.next(); e.Body != fmt.Sprint(i) {
				t.Fatalf("got %s as number %d", e.Body, i)
			}
		}
		if one.most != 1 {
			t.Errorf("%d at a time", one.most)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		three := &limited{Func: r.fn(), n: 3, together: make(chan struct{})}
		w := open(t, gateway.API{Routes: map[string]lambda.Invoker{"$default": three}})
		c := w.dial()
		go func() {
			for i := range 5 { // the fourth waits in the gateway, the fifth in the connection
				_ = c.Write(t.Context(), websocket.MessageText, fmt.Append(nil, i))
			}
		}()
		synctest.Wait()
		close(three.together)
		for range 5 {
			r.next()
		}
		if three.most != 3 {
			t.Errorf("%d at a time", three.most)
		}
	})
}
