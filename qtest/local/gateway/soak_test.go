package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi/types"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

var soak = os.Getenv("SOAK") == "1"

// many is how many connections the tests make that are only whole with SOAK=1.
var many = map[bool]int{false: 100, true: 1000}[soak]

// heap is what lives on heap and stacks, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers have let go
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// settle waits until there are no more goroutines than before.
func settle(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestMemory states what an idle connection takes of the gateway. The clients are as small
// as can be.
func TestMemory(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	g, err := gateway.Start(t.Context(), gateway.API{Limits: gateway.Limits{ConnectRate: 1e6}, Routes: map[string]lambda.Invoker{
		"$connect": lambda.Func(func(context.Context, []byte) ([]byte, error) { return []byte(`{"statusCode":200}`), nil }),
	}})
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, many)
	before := heap()
	for i := range conns {
		conn, err := net.Dial("tcp", g.URL()[len("ws://"):len(g.URL())-len("/dev")])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /dev HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if response, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil); err != nil || response.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%v, %v", response, err)
		}
		conns[i] = conn
	}
	each := (heap() - before) / int64(many)
	t.Logf("%d connections: %d bytes each, %.1f goroutines each", many, each, float64(runtime.NumGoroutine()-goroutines)/float64(many))
	if each > 64<<10 {
		t.Errorf("a connection takes %d bytes", each)
	}
	for _, conn := range conns {
		conn.Close()
	}
	g.Close()
	settle(t, goroutines)
}

// TestManyConnections: clients that all talk at the same time to a function which posts
// each message back, while some of them drop off. Every message that was accepted is
// delivered or reported.
func TestManyConnections(t *testing.T) {
	const messages = 50
	goroutines := runtime.NumGoroutine()

	type record struct {
		got                  map[int]bool // by the function
		accepted, gone, ends int
		code                 int64
	}
	var mu sync.Mutex
	records := map[string]*record{}
	transport := &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64}
	var g *gateway.Gateway
	ready := make(chan struct{})
	fn := &limited{n: 64, Func: func(ctx context.Context, payload []byte) ([]byte, error) {
		var e events.APIGatewayWebsocketProxyRequest
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, err
		}
		<-ready
		id, gone := e.RequestContext.ConnectionID, false
		if e.RequestContext.EventType == "MESSAGE" {
			err := post(ctx, management(g, &http.Client{Transport: transport}), id, e.Body)
			if gone = is[*types.GoneException](err); err != nil && !gone {
				t.Errorf("post: %v", err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		r := records[id]
		switch e.RequestContext.EventType {
		case "CONNECT":
			records[id] = &record{got: map[int]bool{}}
		case "DISCONNECT":
			r.ends++
			r.code = e.RequestContext.DisconnectStatusCode
		default:
			n, err := strconv.Atoi(e.Body)
			if err != nil || r.got[n] {
				t.Errorf("message %q, %v", e.Body, err)
			}
			r.got[n] = true
			if gone {
				r.gone++
			} else {
				r.accepted++
			}
		}
		return []byte(`{"statusCode":200}`), nil
	}}
	g, err := gateway.Start(t.Context(), gateway.API{Integration: fn, Limits: gateway.Limits{ConnectRate: 1e6, Buffer: messages}})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	began := time.Now()

	dropping := func(client int) bool { return client%100 == 50 }
	received := 0 // by clients that stay
	dialling := make(chan struct{}, 50)
	var clients sync.WaitGroup
	for client := range many {
		clients.Go(func() {
			dialling <- struct{}{}
			var conn net.Conn // to be cut
			dialer := &http.Transport{DialContext: func(ctx context.Context, network, address string) (_ net.Conn, err error) {
				conn, err = new(net.Dialer).DialContext(ctx, network, address)
				return conn, err
			}}
			c, _, err := websocket.Dial(t.Context(), g.URL(), &websocket.DialOptions{HTTPClient: &http.Client{Transport: dialer}})
			<-dialling
			if err != nil {
				t.Error(err)
				return
			}
			defer c.CloseNow()
			writing := make(chan struct{})
			go func() {
				defer close(writing)
				for i := range messages {
					if dropping(client) && i == messages/2 {
						conn.Close()
						return
					}
					if err := c.Write(t.Context(), websocket.MessageText, strconv.AppendInt(nil, int64(i), 10)); err != nil {
						t.Error(err)
					}
				}
			}()
			seen := map[string]bool{}
			for range messages {
				_, body, err := c.Read(t.Context())
				if err != nil {
					if !dropping(client) {
						t.Errorf("client %d, after %d messages: %v", client, len(seen), err)
					}
					break
				}
				if seen[string(body)] {
					t.Errorf("client %d: %s came twice", client, body)
				}
				seen[string(body)] = true
			}
			<-writing
			if dropping(client) {
				return
			}
			mu.Lock()
			received += len(seen)
			mu.Unlock()
			if err := c.Close(websocket.StatusNormalClosure, ""); err != nil && !is[websocket.CloseError](err) {
				t.Errorf("client %d: %v", client, err)
			}
		})
	}
	clients.Wait()
	took := time.Since(began)
	g.Close()
	transport.CloseIdleConnections()

	stayed, dropped, got, accepted, gone := 0, 0, 0, 0, 0
	for id, r := range records {
		got, accepted, gone = got+len(r.got), accepted+r.accepted, gone+r.gone
		switch {
		case r.ends != 1:
			t.Errorf("%s: %d ends", id, r.ends)
		case r.code == 1000:
			stayed++
			if r.accepted != messages {
				t.Errorf("%s: %d messages accepted", id, r.accepted)
			}
		case r.code == 1006:
			dropped++
			if len(r.got) > messages/2 {
				t.Errorf("%s: got %d messages", id, len(r.got))
			}
		default:
			t.Errorf("%s: %d", id, r.code)
		}
	}
	if dropped != many/100 || stayed != many-dropped || received != stayed*messages {
		t.Errorf("%d stayed and received %d messages, %d dropped", stayed, received, dropped)
	}
	// Each message from a client was handled; each post was accepted or its sender told.
	s := g.Stats()
	if s.Open != 0 || s.Connects != many || s.Messages != got || s.Failed != 0 || s.Posts != accepted || got != accepted+gone || s.Undelivered > accepted-received {
		t.Errorf("%+v, but the function got %d and posted %d, %d were gone", s, got, accepted, gone)
	}
	t.Logf("%d connections, %d dropped: %d messages in %s, %.0f/s; %d posts gone, %d reported as not delivered", many, dropped, got, took, float64(got)/took.Seconds(), gone, s.Undelivered)
	settle(t, goroutines)
}
