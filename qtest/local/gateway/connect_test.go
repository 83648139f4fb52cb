package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

func TestConnectCanBeRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		err    error
		status int
		log    string
	}{
		"by the integration": {`{"statusCode":402}`, nil, 402, `402: by the integration`},
		"redirect":           {`{"statusCode":302}`, nil, 302, `302: by the integration`},
		"error":              {``, errors.New("as told"), 500, `500: lambda: errorString: as told`},
		"throttled":          {``, &lambda.ThrottleError{Limit: 1}, 500, `500: lambda: TooManyRequestsException`},
		"panic":              {`panic`, nil, 500, `500: lambda: string: oops`},
		"slow":               {`slow`, nil, 504, `504: no answer within`},
		"hangs":              {`hangs`, nil, 504, `504: no answer within`},
		"no answer":          {``, nil, 502, `502: malformed`},
		"no status":          {`{}`, nil, 502, `502: malformed`},
		"switching":          {`{"statusCode":101}`, nil, 502, `502: malformed`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hanging := make(chan struct{})
				disconnects := 0
				w := open(t, gateway.API{Integration: lambda.Func(func(ctx context.Context, payload []byte) ([]byte, error) {
					if strings.Contains(string(payload), "DISCONNECT") {
						disconnects++
					}
					switch tc.answer {
					case "panic":
						panic("oops")
					case "slow":
						<-ctx.Done()
						return nil, ctx.Err()
					case "hangs":
						<-hanging
						return nil, nil
					}
					return []byte(tc.answer), tc.err
				})})
				began := time.Now()
				_, response, err := w.try(w.URL())
				if err == nil || response.StatusCode != tc.status {
					t.Fatalf("got %+v", response)
				}
				if took := time.Since(began); tc.status == 504 && took != 29*time.Second || tc.status != 504 && took > 0 {
					t.Errorf("after %s", took)
				}
				body, _ := io.ReadAll(response.Body)
				if !regexp.MustCompile(`^\{"message":"[^"]+","connectionId":"[\w-]{15}=","requestId":"[\w-]{15}="\}$`).Match(body) {
					t.Errorf("body %s", body)
				}
				if !strings.Contains(w.log.String(), tc.log) {
					t.Errorf("log %s", w.log)
				}
				close(hanging)
				if s := w.Stats(); s.Refused != 1 || s.Connects != 0 || s.Open != 0 || disconnects != 0 {
					t.Errorf("%+v, %d disconnects", s, disconnects)
				}
			})
		})
	}
}

// panics is no Func: nothing recovers in it.
type panics struct{}

func (panics) Invoke(context.Context, []byte, ...lambda.InvokeOption) ([]byte, error) { panic("oops") }

func TestAPanicOfAnyIntegrationIs500(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, gateway.API{Integration: panics{}})
		for range 3 { // its place is free again
			if _, response, err := w.try(w.URL()); err == nil || response.StatusCode != 500 {
				t.Errorf("got %+v", response)
			}
		}
	})
}

func TestAConnectionExistsWhenConnectIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		var w *world
		r.answer = func(e events.APIGatewayWebsocketProxyRequest) (any, error) {
			if err := w.post(e.RequestContext.ConnectionID, "early"); e.RequestContext.EventType == "CONNECT" {
				if _, ok := errors.AsType[*types.GoneException](err); !ok {
					t.Errorf("got %v", err)
				}
			}
			return ok(""), nil
		}
		w = open(t, gateway.API{Integration: r.fn()})
		c := w.dial()
		if err := w.post(r.id(), "now"); err != nil {
			t.Error(err)
		}
		if got := w.receive(c); got != "now" {
			t.Errorf("got %q", got)
		}
	})
}

func TestSubprotocol(t *testing.T) {
	for name, tc := range map[string]struct {
		answer any
		want   string
	}{
		"accepted":   {events.APIGatewayProxyResponse{StatusCode: 200, Headers: map[string]string{"sec-websocket-protocol": "two"}}, "two"},
		"many":       {events.APIGatewayProxyResponse{StatusCode: 200, MultiValueHeaders: map[string][]string{"Sec-WebSocket-Protocol": {"one"}}}, "one"},
		"ignored":    {ok(""), ""},
		"not asked":  {events.APIGatewayProxyResponse{StatusCode: 200, Headers: map[string]string{"Sec-WebSocket-Protocol": "three"}}, ""},
		"no strings": {[]byte(`{"statusCode":200,"headers":{"Sec-WebSocket-Protocol":1,"X":true},"multiValueHeaders":{"Sec-WebSocket-Protocol":[]}}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				r.answer = func(events.APIGatewayWebsocketProxyRequest) (any, error) { return tc.answer, nil }
				w := open(t, gateway.API{Integration: r.fn()})
				c := w.dial(func(o *websocket.DialOptions) { o.Subprotocols = []string{"one", "two"} })
				if c.Subprotocol() != tc.want {
					t.Errorf("got %q", c.Subprotocol())
				}
				if got := r.next().Headers["Sec-WebSocket-Protocol"]; got != "one,two" {
					t.Errorf("the integration got %q", got)
				}
			})
		})
	}
}

// get sends a request without a body.
func (w *world) get(method, path string, header http.Header) *http.Response {
	w.Helper()
	request, err := http.NewRequestWithContext(w.Context(), method, "http://gateway.test"+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	request.Header = header
	response, err := w.http.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { response.Body.Close() })
	return response
}

func handshake(change ...string) http.Header {
	h := http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
	for i := 0; i < len(change); i += 2 {
		if h.Set(change[i], change[i+1]); change[i+1] == "" {
			h.Del(change[i])
		}
	}
	return h
}

func TestPaths(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.URL.Path) })
	for name, tc := range map[string]struct {
		method, path string
		header       http.Header
		status       int // without a page
		page         bool
	}{
		"stage":           {"GET", "/prod", handshake(), 101, false},
		"stage, slash":    {"GET", "/prod/", handshake(), 101, false},
		"root":            {"GET", "/", handshake(), 101, false},
		"other stage":     {"GET", "/dev", handshake(), 403, true},
		"deeper":          {"GET", "/prod/a", handshake(), 403, true},
		"no handshake":    {"GET", "/prod", nil, 426, true},
		"page":            {"GET", "/", nil, 403, true},
		"script":          {"GET", "/chat.js", nil, 403, true},
		"old version":     {"GET", "/prod", handshake("Sec-WebSocket-Version", "8"), 400, false},
		"no key":          {"GET", "/prod", handshake("Sec-WebSocket-Key", ""), 400, false},
		"bad key":         {"GET", "/prod", handshake("Sec-WebSocket-Key", "AAAA"), 400, false},
		"no connection":   {"GET", "/prod", handshake("Connection", "keep-alive"), 400, false},
		"not GET":         {"POST", "/prod", handshake(), 400, false},
		"no id":           {"GET", "/prod/@connections/", nil, 403, true},
		"management":      {"GET", "/prod/@connections/a", nil, 403, false},
		"without a stage": {"GET", "/@connections/a", nil, 403, false},
		"encoded":         {"GET", "/%40connections/a%3D", nil, 403, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				for _, handler := range []http.Handler{nil, page} {
					w := open(t, gateway.API{Stage: "prod", Integration: r.fn(), Handler: handler})
					response := w.get(tc.method, tc.path, tc.header)
					want := tc.status
					if handler != nil && tc.page {
						want = 200
					}
					if response.StatusCode != want {
						t.Errorf("handler %v: got %s", handler != nil, response.Status)
					}
				}
				synctest.Wait()
				if got := len(r.events); tc.status == 101 && got < 2 || tc.status != 101 && got != 0 {
					t.Errorf("%d events", got)
				}
			})
		})
	}
}

func TestTheGatewayCanBeMountedInAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		inner := open(t, gateway.API{Integration: r.fn()})
		mux := http.NewServeMux()
		mux.Handle("/ws/", http.StripPrefix("/ws", inner.Gateway))
		outer := open(t, gateway.API{Integration: r.fn(), Handler: nil, Stage: "unused"})
		outer.Close()
		server := &http.Server{Handler: mux}
		outer.net = newMemory()
		go func() { _ = server.Serve(outer.net) }()
		defer server.Close()
		c, _, err := outer.try("ws://gateway.test/ws/dev")
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		id := r.id()
		client := management(inner.Gateway, outer.http, at("http://gateway.test/ws/dev"))
		if err := post(t.Context(), client, id, "hello"); err != nil {
			t.Fatal(err)
		}
		if got := outer.receive(c); got != "hello" {
			t.Errorf("got %q", got)
		}
	})
}

func TestConnectRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, gateway.API{Integration: newRecorder().fn(), Limits: gateway.Limits{ConnectRate: 10}})
		status := func() int {
			response := w.get("GET", "/dev", handshake())
			return response.StatusCode
		}
		for range 10 {
			if got := status(); got != 101 {
				t.Fatalf("got %d", got)
			}
		}
		if got := status(); got != 429 {
			t.Errorf("the eleventh: %d", got)
		}
		time.Sleep(200 * time.Millisecond)
		for i, want := range []int{101, 101, 429} {
			if got := status(); got != want {
				t.Errorf("after a while, %d: %d", i, got)
			}
		}
	})
}

func TestStartChecksTheAPI(t *testing.T) {
	fn := newRecorder().fn()
	for name, tc := range map[string]struct {
		api  gateway.API
		want string
	}{
		"nothing":       {gateway.API{}, "neither API.Integration nor API.Routes"},
		"stage":         {gateway.API{Integration: fn, Stage: "a/b"}, `API.Stage "a/b"`},
		"expression":    {gateway.API{Integration: fn, RouteSelectionExpression: "$request.header.a"}, `API.RouteSelectionExpression`},
		"no path":       {gateway.API{Integration: fn, RouteSelectionExpression: "$request.body."}, `API.RouteSelectionExpression`},
		"empty key":     {gateway.API{Integration: fn, RouteSelectionExpression: "$request.body.a..b"}, `API.RouteSelectionExpression`},
		"route":         {gateway.API{Integration: fn, Routes: map[string]lambda.Invoker{"$other": nil}}, `"$other" is no route key`},
		"empty route":   {gateway.API{Integration: fn, Routes: map[string]lambda.Invoker{"": nil}}, `"" is no route key`},
		"nil":           {gateway.API{Routes: map[string]lambda.Invoker{"a": nil}}, `"a" has no integration`},
		"no such route": {gateway.API{Integration: fn, RouteResponses: []string{"a"}}, `"a" is no route of messages`},
		"connect":       {gateway.API{Integration: fn, RouteResponses: []string{"$connect"}}, `"$connect" is no route of messages`},
		"identity":      {gateway.API{Integration: fn, Authorizer: fn, IdentitySources: []string{"route.request.body.a"}}, `API.IdentitySources`},
		"no name":       {gateway.API{Integration: fn, Authorizer: fn, IdentitySources: []string{"route.request.header."}}, `API.IdentitySources`},
		"authorizer":    {gateway.API{Authorizer: fn, Routes: map[string]lambda.Invoker{"a": fn}}, `no route $connect`},
		"no authorizer": {gateway.API{Integration: fn, IdentitySources: []string{"route.request.header.A"}}, `without API.Authorizer`},
		"limits":        {gateway.API{Integration: fn, Limits: gateway.Limits{Idle: -1}}, `must not be negative`},
	} {
		if g, err := gateway.Start(t.Context(), tc.api); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn(), ID: "abc", StageVariables: map[string]string{"v": "1"}})
		c, _, err := w.try(w.URL()+"?token=a&token=b&x=%26", func(o *websocket.DialOptions) {
			o.HTTPHeader = http.Header{"User-Agent": {"test <1>"}, "X-Many": {"1", "2"}}
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.send(c, "<hello>")
		synctest.Wait()
		if err := c.Close(4001, "bye"); err != nil {
			t.Error(err)
		}
		synctest.Wait()

		connect, message, disconnect := r.next(), r.next(), r.next()
		id, key := connect.RequestContext.ConnectionID, connect.Headers["Sec-WebSocket-Key"]
		if !regexp.MustCompile(`^[\w-]{15}=$`).MatchString(id) {
			t.Errorf("connection id %q", id)
		}
		common := `"messageDirection":"IN","stage":"dev","connectedAt":946684800000,`
		unique := func(e events.APIGatewayWebsocketProxyRequest) string { return e.RequestContext.RequestID }
		tail := func(e events.APIGatewayWebsocketProxyRequest, authorizer string) string {
			return `"identity":{"sourceIp":"pipe","userAgent":"test <1>"},"requestId":"` + unique(e) + `","domainName":"gateway.test:80","connectionId":"` + id + `","apiId":"abc"` + authorizer
		}
		for i, tc := range []struct {
			e    events.APIGatewayWebsocketProxyRequest
			want string
		}{
			{connect, `{"headers":{"Connection":"Upgrade","Host":"gateway.test:80","Sec-WebSocket-Key":"` + key + `","Sec-WebSocket-Version":"13","Upgrade":"websocket","User-Agent":"test <1>",` +
				`"X-Forwarded-For":"pipe","X-Forwarded-Proto":"http","X-Many":"2"},` +
				`"multiValueHeaders":{"Connection":["Upgrade"],"Host":["gateway.test:80"],"Sec-WebSocket-Key":["` + key + `"],"Sec-WebSocket-Version":["13"],"Upgrade":["websocket"],` +
				`"User-Agent":["test <1>"],"X-Forwarded-For":["pipe"],"X-Forwarded-Proto":["http"],"X-Many":["1","2"]},` +
				`"queryStringParameters":{"token":"b","x":"&"},"multiValueQueryStringParameters":{"token":["a","b"],"x":["&"]},"stageVariables":{"v":"1"},` +
				`"requestContext":{"routeKey":"$connect","eventType":"CONNECT","extendedRequestId":"` + unique(connect) + `","requestTime":"01/Jan/2000:00:00:00 +0000",` + common +
				`"requestTimeEpoch":946684800000,` + tail(connect, "") + `},"isBase64Encoded":false}`},
			{message, `{"stageVariables":{"v":"1"},"requestContext":{"routeKey":"$default","messageId":"` + fmt.Sprint(message.RequestContext.MessageID) + `","eventType":"MESSAGE","extendedRequestId":"` +
				unique(message) + `","requestTime":"01/Jan/2000:00:00:01 +0000",` + common + `"requestTimeEpoch":946684801000,` + tail(message, "") + `},"body":"<hello>","isBase64Encoded":false}`},
			{disconnect, `{"headers":{"Host":"gateway.test:80","X-Forwarded-For":"","x-api-key":"","x-restapi":""},` +
				`"multiValueHeaders":{"Host":["gateway.test:80"],"X-Forwarded-For":[""],"x-api-key":[""],"x-restapi":[""]},"stageVariables":{"v":"1"},` +
				`"requestContext":{"routeKey":"` + gateway.RouteDisconnect + `","eventType":"DISCONNECT","extendedRequestId":"` + unique(disconnect) + `","requestTime":"01/Jan/2000:00:00:01 +0000",` + common +
				`"requestTimeEpoch":946684801000,` + tail(disconnect, `,"disconnectStatusCode":4001,"disconnectReason":"bye"`) + `},"isBase64Encoded":false}`},
		} {
			if raw := <-r.raw; raw != tc.want {
				t.Errorf("%d: got\n%s\nwant\n%s", i, raw, tc.want)
			}
		}
		ids := map[any]bool{id: true, unique(connect): true, unique(message): true, unique(disconnect): true, message.RequestContext.MessageID: true}
		if len(ids) != 5 {
			t.Errorf("ids are not unique: %v", ids)
		}
		if log := w.log.String(); strings.Contains(log, "hello") || strings.Contains(log, "token") {
			t.Errorf("log %s", log)
		}
		if want := fmt.Sprintf("CONNECT %[1]s pipe\nCLOSED %[1]s 4001 \"bye\" lost 0\n", id); w.log.String() != want {
			t.Errorf("log %s", w.log)
		}
	})
}
