package gateway_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/qtest/local/gateway"
)

// TestSlowRequests are cut off: of a header that does not end, of a body that does not
// come.
func TestSlowRequests(t *testing.T) {
	for name, bytes := range map[string]string{
		"nothing":       "",
		"half a header": "GET /dev HTTP/1.1\r\nHost: a\r\nUpgrade: webs",
		"half a body":   "POST /dev/@connections/a HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				w := open(t, gateway.API{Integration: r.fn()})
				c := w.raw()
				began := time.Now()
				go io.WriteString(c, bytes)
				answer, _ := io.ReadAll(c)
				if took := time.Since(began); took < 9*time.Second || took > 15*time.Second {
					t.Errorf("after %s: %q", took, answer)
				}
				if len(r.events) != 0 {
					t.Error("the integration was invoked")
				}
			})
		})
	}
}

func TestHugeHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		c := w.raw()
		go fmt.Fprintf(c, "GET /dev?token=%s HTTP/1.1\r\nHost: a\r\n\r\n", strings.Repeat("x", 1<<20))
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge || len(r.events) != 0 {
			t.Errorf("got %+v, %v", response, err)
		}
		time.Sleep(time.Second) // the server lingers, so that the answer arrives
	})
}

// TestAFloodOfPings that nobody reads the answers of ends the connection.
func TestAFloodOfPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		c := w.upgraded()
		r.next()
		began := time.Now()
		var err error
		for err == nil && time.Since(began) < time.Minute {
			_, err = c.Write([]byte("\x89\x81\x00\x00\x00\x00a"))
		}
		if e := r.next(); err == nil || time.Since(began) > 10*time.Second || e.RequestContext.EventType != "DISCONNECT" {
			t.Errorf("after %s: %v, %+v", time.Since(began), err, e)
		}
	})
}

// TestAHalfOpenConnection, whose client is gone without a word, ends when it is idle.
func TestAHalfOpenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn(), Limits: gateway.Limits{Idle: time.Minute}})
		w.upgraded()
		r.next()
		began := time.Now()
		if e := r.next(); e.RequestContext.DisconnectStatusCode != 1001 || time.Since(began) != time.Minute+2*time.Second {
			t.Errorf("after %s: %+v", time.Since(began), e)
		}
	})
}

// TestAClientThatLeavesDuringConnect is connected all the same, and disconnected.
func TestAClientThatLeavesDuringConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		slow := &limited{n: 1, together: make(chan struct{}), Func: r.fn()}
		w := open(t, gateway.API{Integration: slow})
		c := w.raw()
		go fmt.Fprintf(c, "GET /dev HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		synctest.Wait()
		c.Close()
		synctest.Wait()
		close(slow.together)
		connect, disconnect := r.next(), r.next()
		if connect.RequestContext.EventType != "CONNECT" || disconnect.RequestContext.DisconnectStatusCode != 1006 {
			t.Errorf("got %+v and %+v", connect, disconnect)
		}
	})
}

// TestCloseDuringConnect: the function has seen a connection, so it sees its end too.
func TestCloseDuringConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		slow := &limited{n: 2, together: make(chan struct{}), Func: r.fn()}
		w := open(t, gateway.API{Integration: slow})
		refused := make(chan int, 1)
		go func() {
			_, response, _ := w.try(w.URL())
			refused <- response.StatusCode
		}()
		synctest.Wait()
		go w.Close()
		synctest.Wait()
		close(slow.together)
		if got := <-refused; got != 503 {
			t.Errorf("got %d", got)
		}
		connect, disconnect := r.next(), r.next()
		if connect.RequestContext.EventType != "CONNECT" || disconnect.RequestContext.DisconnectStatusCode != 1001 || connect.RequestContext.ConnectionID != disconnect.RequestContext.ConnectionID {
			t.Errorf("got %+v and %+v", connect, disconnect)
		}
		if s := w.Stats(); s.Connects != 0 || s.Refused != 1 {
			t.Errorf("%+v", s)
		}
		synctest.Wait()
		answer := httptest.NewRecorder()
		if w.ServeHTTP(answer, httptest.NewRequest("POST", "/dev/@connections/a", nil)); answer.Code != 503 {
			t.Errorf("@connections: %d", answer.Code)
		}
	})
}

// TestAnswersNobodyReads are dropped and reported.
func TestAnswersNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		r.answer = func(e events.APIGatewayWebsocketProxyRequest) (any, error) {
			if e.RequestContext.EventType == "DISCONNECT" || e.Body == "b" {
				return nil, errors.New("as told")
			}
			return ok("answer"), nil
		}
		w := open(t, gateway.API{Integration: r.fn(), RouteResponses: []string{"$default"}, Limits: gateway.Limits{Buffer: 1}})
		c := w.upgraded()
		for _, text := range []byte("aaab") { // one is being written, one waits
			if _, err := c.Write([]byte{0x81, 0x81, 0, 0, 0, 0, text}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		c.Close()
		synctest.Wait()
		for _, want := range []string{`FAILED \S+ \$default \S+: response: too many messages wait`, `FAILED \S+ \$default \S+: lambda: errorString: as told; not told: too many`,
			`CLOSED \S+ 1006 "Connection Closed Abnormally" lost 2\n`, `FAILED \S+ \$disconnect: lambda: errorString: as told\n`} {
			if !regexp.MustCompile(want).MatchString(w.log.String()) {
				t.Errorf("no %s in\n%s", want, w.log)
			}
		}
		if s := w.Stats(); s.Messages != 4 || s.Failed != 1 || s.Posts != 2 || s.Undelivered != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAServerThatCannotUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		request, answer := httptest.NewRequest("GET", "/dev", nil), httptest.NewRecorder()
		request.Header = handshake()
		if w.ServeHTTP(answer, request); answer.Code != http.StatusNotImplemented || w.Stats().Open != 0 {
			t.Errorf("got %d", answer.Code)
		}
		if len(r.events) != 0 || !strings.Contains(w.log.String(), "no http.Hijacker") {
			t.Errorf("%d events\n%s", len(r.events), w.log)
		}
	})
}
