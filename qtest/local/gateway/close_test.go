package gateway_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

// write sends a message in frames of at most n bytes.
func write(ctx context.Context, c *websocket.Conn, size, n int) error {
	w, err := c.Writer(ctx, websocket.MessageText)
	if err != nil {
		return err
	}
	for size > 0 {
		part := min(size, n)
		if _, err := io.WriteString(w, strings.Repeat("x", part)); err != nil {
			return err
		}
		size -= part
	}
	return w.Close()
}

func TestEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		do     func(w *world, c *websocket.Conn, id string)
		code   int // of the close frame that the client gets, 0: it has ended the connection
		event  int // disconnectStatusCode
		reason string
		after  time.Duration
	}{
		"client": {func(w *world, c *websocket.Conn, _ string) { _ = c.Close(websocket.StatusNormalClosure, "") },
			0, 1000, "Connection Closed Normally", 0},
		"client, with a reason": {func(w *world, c *websocket.Conn, _ string) { _ = c.Close(3000, "line\nfeed") },
			0, 3000, "line\nfeed", 0},
		"client, without a code": {func(w *world, c *websocket.Conn, _ string) { _ = c.Close(websocket.StatusNoStatusRcvd, "") },
			0, 1005, "Client-side close frame status not set", 0},
		"client, abruptly": {func(w *world, c *websocket.Conn, _ string) { _ = c.CloseNow() },
			0, 1006, "Connection Closed Abnormally", 0},
		"DELETE": {func(w *world, c *websocket.Conn, id string) {
			if _, err := w.client.DeleteConnection(w.Context(), &apigatewaymanagementapi.DeleteConnectionInput{ConnectionId: &id}); err != nil {
				w.Error(err)
			}
		}, 1000, 1000, "Connection Closed Normally", 0},
		"idle":        {func(*world, *websocket.Conn, string) {}, 1001, 1001, "Going away", 10 * time.Minute},
		"Close":       {func(w *world, _ *websocket.Conn, _ string) { go w.Close() }, 1001, 1001, "Going away", 0},
		"frame":       {func(w *world, c *websocket.Conn, _ string) { go write(w.Context(), c, 32<<10+1, 32<<10+1) }, 1009, 1009, "Message too long", 0},
		"message":     {func(w *world, c *websocket.Conn, _ string) { _ = write(w.Context(), c, 128<<10+1, 32<<10) }, 1009, 1009, "Message too long", 0},
		"huge":        {func(w *world, c *websocket.Conn, _ string) { go write(w.Context(), c, 1<<20, 1<<20) }, 1009, 1009, "Message too long", 0},
		"many frames": {func(w *world, c *websocket.Conn, _ string) { go write(w.Context(), c, 1<<20, 1000) }, 1009, 1009, "Message too long", 0},
		"binary": {func(w *world, c *websocket.Conn, _ string) {
			_ = c.Write(w.Context(), websocket.MessageBinary, []byte("a"))
		}, 1003, 1003, "Binary frames are not supported", 0},
		"invalid UTF-8": {func(w *world, c *websocket.Conn, _ string) { w.send(c, "a\xff") }, 1007, 1007, "Text is not UTF-8", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				w := open(t, gateway.API{Integration: r.fn()})
				c := w.dial()
				id := r.id()
				began := time.Now()
				tc.do(w, c, id)
				if tc.code != 0 {
					if got := w.ended(c); int(got) != tc.code {
						t.Errorf("the client got %d", got)
					}
				}
				e := r.next()
				if e.RequestContext.EventType != "DISCONNECT" || e.RequestContext.ConnectionID != id || int(e.RequestContext.DisconnectStatusCode) != tc.event || *e.RequestContext.DisconnectReason != tc.reason {
					t.Errorf("got %+v", e.RequestContext)
				}
				if took := time.Since(began); took != tc.after {
					t.Errorf("after %s", took)
				}
				if want := fmt.Sprintf("\nCLOSED %s %d %q lost 0\n", id, tc.event, tc.reason); !strings.HasSuffix(w.log.String(), want) {
					t.Errorf("log %s", w.log)
				}
				synctest.Wait()
				if s := w.Stats(); s.Open != 0 || s.Messages != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestTheLargestMessagePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		c := w.dial()
		r.next()
		for range 3 { // each one counts anew
			if err := write(t.Context(), c, 128<<10, 32<<10); err != nil {
				t.Fatal(err)
			}
			if e := r.next(); len(e.Body) != 128<<10 {
				t.Errorf("%d bytes", len(e.Body))
			}
		}
	})
}

func TestLifetime(t *testing.T) {
	for name, do := range map[string]func(w *world, c *websocket.Conn, id string) error{
		"messages": func(w *world, c *websocket.Conn, _ string) error {
			return c.Write(w.Context(), websocket.MessageText, []byte("a"))
		},
		"posts": func(w *world, c *websocket.Conn, id string) error { return w.post(id, "a") },
		"pings": func(w *world, c *websocket.Conn, _ string) error { return c.Ping(w.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				w := open(t, gateway.API{Integration: r.fn()})
				c := w.dial()
				id := r.id()
				began := time.Now()
				code := make(chan websocket.StatusCode, 1)
				go func() {
					for {
						if _, _, err := c.Read(context.WithoutCancel(t.Context())); err != nil {
							code <- websocket.CloseStatus(err)
							return
						}
					}
				}()
				for time.Since(began) < 115*time.Minute { // activity keeps it from being idle
					time.Sleep(9 * time.Minute)
					if err := do(w, c, id); err != nil {
						t.Fatalf("after %s: %v\n%s", time.Since(began), err, w.log)
					}
				}
				if got := <-code; got != websocket.StatusGoingAway || time.Since(began) != 2*time.Hour {
					t.Errorf("%d after %s", got, time.Since(began))
				}
			})
		})
	}
}

// raw is a client that speaks bytes.
type raw struct {
	net.Conn
	r *bufio.Reader
}

func (w *world) raw() *raw {
	w.Helper()
	conn, err := w.net.dial()
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close() })
	return &raw{conn, bufio.NewReader(conn)}
}

// upgraded is one after its handshake, with what it sends together with the handshake.
func (w *world) upgraded(early ...byte) *raw {
	w.Helper()
	c := w.raw()
	go fmt.Fprintf(c, "GET /dev HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n%s", early)
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			w.Fatal(err)
		}
		if line == "\r\n" {
			return c
		}
	}
}

// code reads frames until the close frame, and returns its code; 0 if the connection ends
// without one.
func (c *raw) code() int {
	for {
		var head [2]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return 0
		}
		body := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(c.r, body); err != nil {
			return 0
		}
		if head[0]&0x0f == 8 && len(body) >= 2 {
			return int(binary.BigEndian.Uint16(body))
		}
	}
}

func TestFramesThatAreNotAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes string
		code  int
	}{
		"not masked":            {"\x81\x01a", 1002},
		"reserved bit":          {"\xc1\x81\x00\x00\x00\x00a", 1002},
		"unknown opcode":        {"\x83\x81\x00\x00\x00\x00a", 1002},
		"continuation of none":  {"\x80\x81\x00\x00\x00\x00a", 1002},
		"ping of 126 bytes":     {"\x89\xfe\x00\x7e\x00\x00\x00\x00" + strings.Repeat("a", 126), 1002},
		"close of one byte":     {"\x88\x81\x00\x00\x00\x00a", 1002},
		"close with 1005":       {"\x88\x82\x00\x00\x00\x00\x03\xed", 1002},
		"length 2^63":           {"\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 1009},
		"length 2^64-1":         {"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", 1009},
		"large, after a ping":   {"\x89\x80\x00\x00\x00\x00\x81\xff\x00\x00\x00\x00\x00\x00\x80\x01\x00\x00\x00\x00", 1009},
		"large, later":          {"\x01\x81\x00\x00\x00\x00a\x80\xff\x00\x00\x00\x00\x00\x00\x80\x01\x00\x00\x00\x00", 1009},
		"ends within a header":  {"\x81", 0},
		"ends within a message": {"\x81\x85\x00\x00\x00\x00a", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorder()
				w := open(t, gateway.API{Integration: r.fn()})
				for _, early := range []bool{true, false} {
					var c *raw
					if early {
						c = w.upgraded([]byte(tc.bytes)...)
					} else {
						c = w.upgraded()
						go c.Write([]byte(tc.bytes))
					}
					r.next()
					want := tc.code
					if want == 0 {
						synctest.Wait()
						c.Close()
						want = 1006
					} else if got := c.code(); got != tc.code {
						t.Errorf("early %v: the client got %d", early, got)
					}
					c.Close()
					if e := r.next(); int(e.RequestContext.DisconnectStatusCode) != want {
						t.Errorf("early %v: got %d", early, e.RequestContext.DisconnectStatusCode)
					}
				}
			})
		})
	}
}

func TestMessagesSentWithTheHandshakeArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		w := open(t, gateway.API{Integration: r.fn()})
		w.upgraded([]byte("\x81\x82\x00\x00\x00\x00hi")...)
		r.next()
		if e := r.next(); e.Body != "hi" {
			t.Errorf("got %+v", e)
		}
	})
}

func TestIntegrationTimeout(t *testing.T) {
	for name, respectful := range map[string]bool{"ends with its context": true, "goes on": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				goOn := make(chan struct{})
				w := open(t, gateway.API{Routes: map[string]lambda.Invoker{gateway.RouteDefault: lambda.Func(func(ctx context.Context, _ []byte) ([]byte, error) {
					if respectful {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					<-goOn
					return []byte(`{"statusCode":200}`), nil
				})}})
				defer close(goOn)
				c := w.dial()
				began := time.Now()
				w.send(c, "a")
				if got := frame.FindStringSubmatch(w.receive(c)); got == nil || got[1] != "Endpoint request timed out" {
					t.Errorf("got %q", got)
				}
				if took := time.Since(began); took != 29*time.Second {
					t.Errorf("after %s", took)
				}
				w.Close() // does not wait for the handler
			})
		})
	}
}

// TestWaitingForAPlaceIsPartOfTheTime: a client whose message finds a busy integration is
// told so in time.
func TestWaitingForAPlaceIsPartOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := &limited{n: 1, together: make(chan struct{}), Func: newRecorder().fn()}
		w := open(t, gateway.API{Routes: map[string]lambda.Invoker{gateway.RouteDefault: busy}, Limits: gateway.Limits{Integration: time.Second}})
		a, b := w.dial(), w.dial()
		w.send(a, "a")
		w.send(b, "b")
		began := time.Now()
		for _, c := range []*websocket.Conn{a, b} {
			if got := frame.FindStringSubmatch(w.receive(c)); got == nil || got[1] != "Endpoint request timed out" || time.Since(began) != time.Second {
				t.Errorf("after %s: %q", time.Since(began), got)
			}
		}
		close(busy.together)
	})
}

// TestClose: the integrations see what was accepted and every end, and can still post.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		var w *world
		first := ""
		r.answer = func(e events.APIGatewayWebsocketProxyRequest) (any, error) {
			if e.RequestContext.EventType == "MESSAGE" {
				time.Sleep(5 * time.Second)
				if err := w.post(e.RequestContext.ConnectionID, "late"); err == nil || !strings.Contains(err.Error(), "GoneException") {
					t.Errorf("got %v", err)
				}
			}
			return ok(""), nil
		}
		w = open(t, gateway.API{Integration: r.fn(), RouteResponses: []string{"$default"}})
		c, hung := w.dial(), w.upgraded()
		first = r.id()
		r.next()
		w.send(c, "a")
		go func() { _, _, _ = c.Read(t.Context()) }()
		synctest.Wait()
		began := time.Now()
		done := make(chan struct{})
		for range 3 { // it is idempotent, and each call waits
			go func() {
				w.Close()
				done <- struct{}{}
			}()
		}
		synctest.Wait()
		if _, response, err := w.try(w.URL()); err == nil || response.StatusCode != 503 {
			t.Errorf("a new connection: %v", response)
		}
		for range 3 {
			<-done
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("after %s", took)
		}
		w.Close()
		kinds := map[string]int{}
		for len(r.events) > 0 {
			kinds[r.next().RequestContext.EventType]++
		}
		if kinds["MESSAGE"] != 1 || kinds["DISCONNECT"] != 2 || first == "" {
			t.Errorf("got %v", kinds)
		}
		if _, _, err := w.try(w.URL()); err == nil {
			t.Error("it still listens")
		}
		hung.Close()
	})
}

func TestTheEndOfTheContextClosesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := newRecorder()
		w := &world{TB: t, net: newMemory(), log: &buffer{}}
		g, err := gateway.Start(ctx, gateway.API{Integration: r.fn(), Listener: w.net})
		if err != nil {
			t.Fatal(err)
		}
		c := w.upgraded()
		r.next()
		cancel()
		if got := c.code(); got != 1001 {
			t.Errorf("got %d", got)
		}
		c.Close()
		r.next()
		g.Close()
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g, err := gateway.Start(ctx, gateway.API{Integration: newRecorder().fn()})
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	if _, _, err := websocket.Dial(t.Context(), g.URL(), nil); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
