package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	api "github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
)

// is says that err is an exception of this type.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestTheClientOfAWS, over TCP: every operation, and every exception as the SDK knows it.
func TestTheClientOfAWS(t *testing.T) {
	r, log := newRecorder(), &buffer{}
	fault := 0
	g, err := gateway.Start(t.Context(), gateway.API{Integration: r.fn(), Log: log, Fault: func(context.Context, string, string) int { return fault }})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	began := time.Now().Truncate(time.Millisecond)
	c, _, err := websocket.Dial(t.Context(), g.URL(), &websocket.DialOptions{HTTPHeader: http.Header{"User-Agent": {"browser"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	client, id := management(g, http.DefaultClient), r.id()

	for _, data := range []string{"hello", "ä", "\xff\x00", "", strings.Repeat("x", 131072)} {
		if err := post(t.Context(), client, id, data); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(t.Context())
		if want := map[bool]websocket.MessageType{true: websocket.MessageBinary, false: websocket.MessageText}[data == "\xff\x00"]; err != nil || string(got) != data || kind != want {
			t.Errorf("got %v %.20q, %v", kind, got, err)
		}
	}
	info, err := client.GetConnection(t.Context(), &api.GetConnectionInput{ConnectionId: &id})
	if err != nil || aws.ToString(info.Identity.SourceIp) != "127.0.0.1" || aws.ToString(info.Identity.UserAgent) != "browser" ||
		info.ConnectedAt.Before(began) || info.LastActiveAt.Before(*info.ConnectedAt) || time.Since(*info.LastActiveAt) > time.Minute {
		t.Errorf("got %+v, %v", info, err)
	}

	if err := post(t.Context(), client, id, strings.Repeat("x", 131073)); !is[*types.PayloadTooLargeException](err) {
		t.Errorf("got %v", err)
	}
	if err := post(t.Context(), client, "L0SM9cOFvHcCIhw=", "a"); !is[*types.GoneException](err) {
		t.Errorf("got %v", err)
	}
	stranger := management(g, http.DefaultClient, func(o *api.Options) {
		o.Credentials = credentials.NewStaticCredentialsProvider("test", "other", "")
	})
	if err := post(t.Context(), stranger, id, "a"); !is[*types.ForbiddenException](err) {
		t.Errorf("got %v", err)
	}
	for fault = range map[int]bool{403: true, 410: true, 413: true, 429: true, 500: true} {
		err := post(t.Context(), client, id, "a")
		if ok := map[int]bool{403: is[*types.ForbiddenException](err), 410: is[*types.GoneException](err), 413: is[*types.PayloadTooLargeException](err),
			429: is[*types.LimitExceededException](err), 500: err != nil && strings.Contains(err.Error(), "InternalServerErrorException")}[fault]; !ok {
			t.Errorf("fault %d: got %v", fault, err)
		}
	}
	fault = 0

	if _, err := client.DeleteConnection(t.Context(), &api.DeleteConnectionInput{ConnectionId: &id}); err != nil {
		t.Error(err)
	}
	if err := post(t.Context(), client, id, "a"); !is[*types.GoneException](err) {
		t.Errorf("got %v", err)
	}
	if _, err := client.GetConnection(t.Context(), &api.GetConnectionInput{ConnectionId: &id}); !is[*types.GoneException](err) {
		t.Errorf("got %v", err)
	}
	if _, err := client.DeleteConnection(t.Context(), &api.DeleteConnectionInput{ConnectionId: &id}); !is[*types.GoneException](err) {
		t.Errorf("got %v", err)
	}
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), fmt.Sprintf("POST %q 410: the connection is gone\n", id)) {
		t.Errorf("log %s", log)
	}
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		calls := []string{}
		w := open(t, gateway.API{Integration: r.fn(), Fault: func(ctx context.Context, operation, connectionID string) int {
			calls = append(calls, operation+" "+connectionID)
			if len(calls) > 1 {
				<-ctx.Done()
			}
			return 429
		}})
		c := w.dial()
		id := r.id()
		if err := w.post(id, "a"); !is[*types.LimitExceededException](err) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, err := w.client.DeleteConnection(ctx, &api.DeleteConnectionInput{ConnectionId: &id}); err == nil || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		synctest.Wait()
		if err := c.Ping(w.reading(c)); err != nil {
			t.Errorf("the connection: %v", err)
		}
		if len(calls) != 2 || calls[0] != "PostToConnection "+id || calls[1] != "DeleteConnection "+id {
			t.Errorf("calls %q", calls)
		}
	})
}

// reading reads from c in the background, which a ping needs.
func (w *world) reading(c *websocket.Conn) context.Context { return c.CloseRead(w.Context()) }

// TestAClientThatDoesNotRead gets an error to who posts to it, at once, and harms nobody
// else.
func TestAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn(), Limits: gateway.Limits{Buffer: 3}})
		hung := w.upgraded()
		hungID := r.id()
		other := w.dial()
		otherID := r.id()
		began := time.Now()
		for i := range 6 {
			if err := w.post(hungID, "a"); i < 4 && err != nil || i >= 4 && !is[*types.LimitExceededException](err) {
				t.Errorf("%d: got %v", i, err)
			}
			synctest.Wait() // the first is being written, the others wait
			if err := w.post(otherID, "b"); err != nil {
				t.Error(err)
			}
			if got := w.receive(other); got != "b" {
				t.Errorf("got %q", got)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("after %s", took)
		}
		if e := r.next(); e.RequestContext.DisconnectStatusCode != 1006 || e.RequestContext.ConnectionID != hungID || time.Since(began) != 10*time.Second {
			t.Errorf("after %s: %+v", time.Since(began), e)
		}
		if err := w.post(hungID, "a"); !is[*types.GoneException](err) {
			t.Errorf("got %v", err)
		}
		if s := w.Stats(); s.Undelivered != 4 || s.Posts != 10 || !strings.Contains(w.log.String(), " lost 4\n") {
			t.Errorf("%+v\n%s", s, w.log)
		}
		hung.Close()
	})
}

func TestWhatWasAcceptedIsSentBeforeTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		c := w.dial()
		id := r.id()
		for i := range 10 {
			if err := w.post(id, fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.client.DeleteConnection(t.Context(), &api.DeleteConnectionInput{ConnectionId: &id}); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if got := w.receive(c); got != fmt.Sprint(i) {
				t.Errorf("%d: got %q", i, got)
			}
		}
		if got := w.ended(c); got != websocket.StatusNormalClosure {
			t.Errorf("got %d", got)
		}
	})
}

func TestAClientThatDoesNotReadIsCutOffWhenItIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		hung := w.upgraded()
		id := r.id()
		for range 3 {
			if err := w.post(id, "a"); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		w.Close()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("after %s", took)
		}
		if s := w.Stats(); s.Undelivered != 3 || s.Open != 0 {
			t.Errorf("%+v", s)
		}
		hung.Close()
	})
}

// change changes requests that are signed already.
type change struct {
	client *http.Client
	do     func(*http.Request)
}

func (c change) Do(r *http.Request) (*http.Response, error) {
	c.do(r)
	return c.client.Do(r)
}

func TestSignatures(t *testing.T) {
	with := func(key, secret, token string) func(*api.Options) {
		return func(o *api.Options) { o.Credentials = credentials.NewStaticCredentialsProvider(key, secret, token) }
	}
	changed := func(do func(r *http.Request)) func(*api.Options) {
		return func(o *api.Options) { o.HTTPClient = change{o.HTTPClient.(*http.Client), do} }
	}
	body := func(s string) func(r *http.Request) {
		return func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(s)) }
	}
	for name, tc := range map[string]struct {
		opt    func(*api.Options)
		reason string // empty: it is good
	}{
		"good":            {with("me", "hush", "session"), ""},
		"without a stage": {func(o *api.Options) { o.BaseEndpoint = aws.String("http://gateway.test") }, ""},
		"other headers": {changed(func(r *http.Request) {
			r.Header.Set("X-Forwarded-For", "10.0.0.1")
			r.Header.Set("User-Agent", "proxy")
		}), ""},
		"clock 4 min slow":  {changed(nil), ""},
		"key":               {with("you", "hush", "session"), "other credentials"},
		"secret":            {with("me", "Hush", "session"), "does not match"},
		"session":           {with("me", "hush", "other"), "other credentials"},
		"no session":        {with("me", "hush", ""), "other credentials"},
		"not signed":        {changed(func(r *http.Request) { r.Header.Del("Authorization") }), "not signed"},
		"basic":             {changed(func(r *http.Request) { r.SetBasicAuth("me", "hush") }), "not signed"},
		"nothing in it":     {changed(func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 a=b") }), "other credentials"},
		"region":            {func(o *api.Options) { o.Region = "eu-west-1" }, "scope"},
		"no date":           {changed(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), "X-Amz-Date is missing"},
		"no session header": {changed(func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }), "other credentials"},
		"date":              {changed(func(r *http.Request) { r.Header.Set("X-Amz-Date", "20000101T000001Z") }), "does not match"},
		"date not signed": {changed(func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ";x-amz-date", "", 1))
		}), "does not match"},
		"body":   {changed(body("tampered!")), "does not match"},
		"path":   {changed(func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/dev/@connections/AAAA", "" }), "does not match"},
		"query":  {changed(func(r *http.Request) { r.URL.RawQuery = "a=b" }), "does not match"},
		"method": {changed(func(r *http.Request) { r.Method = "DELETE" }), "does not match"},
		"host":   {changed(func(r *http.Request) { r.Host = "other.test" }), "does not match"},
		"header": {changed(func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }), "does not match"},
		"short signature": {changed(func(r *http.Request) {
			h := r.Header
			h.Set("Authorization", strings.TrimRight(h.Get("Authorization"), "0123456789abcdef"))
		}), "does not match"},
		"clock 6 min slow": {changed(func(*http.Request) { time.Sleep(6 * time.Minute) }), "off by 6m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				w := open(t, gateway.API{Integration: r.fn(), Credentials: credentials.NewStaticCredentialsProvider("me", "hush", "session")})
				c := w.dial()
				id := r.id()
				if name == "clock 4 min slow" {
					tc.opt = changed(func(*http.Request) { time.Sleep(4 * time.Minute) })
				}
				client := management(w.Gateway, w.http, with("me", "hush", "session"), tc.opt)
				err := post(t.Context(), client, id, "message a")
				if tc.reason == "" {
					if err != nil || w.receive(c) != "message a" {
						t.Errorf("got %v", err)
					}
					return
				}
				if !is[*types.ForbiddenException](err) || !strings.Contains(w.log.String(), tc.reason) {
					t.Errorf("got %v\n%s", err, w.log)
				}
				if s := w.Stats(); s.Posts != 0 || s.Open != 1 || strings.Contains(w.log.String(), "hush") {
					t.Errorf("%+v\n%s", s, w.log)
				}
			})
		})
	}
}

func TestOtherCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, errors.New("expired") })
		w := open(t, gateway.API{Integration: newRecorder().fn(), Credentials: failing})
		if response := w.get("PUT", "/dev/@connections/a", nil); response.StatusCode != 405 || response.Header.Get("x-amzn-ErrorType") != "MethodNotAllowedException" {
			t.Errorf("got %+v", response)
		}
		if err := w.post("a", "b"); !is[*types.ForbiddenException](err) || !strings.Contains(w.log.String(), "no credentials to compare with") {
			t.Errorf("got %v", err)
		}
		// More than AWS takes at all is not even read, so that its signature is not seen.
		response, err := w.http.Post("http://gateway.test/dev/@connections/a", "", bytes.NewReader(make([]byte, 10<<20+1)))
		if err != nil || response.StatusCode != 413 || response.Header.Get("x-amzn-ErrorType") != "PayloadTooLargeException" {
			t.Errorf("got %+v, %v", response, err)
		}
		if response.Body.Close(); response.Header.Get("x-amzn-RequestId") == "" {
			t.Error("no request id")
		}
	})
}
