package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/coder/websocket"

	"github.com/fogfish/swarm/broker/websocket"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/kernel"
	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

// api is a local WebSocket API, whose clients are known by the names they connect with.
type api struct {
	*gateway.Gateway
	mu  sync.Mutex
	ids map[string]string // connections by name
}

func newAPI(t *testing.T, limits gateway.Limits) *api {
	t.Helper()
	a := &api{ids: map[string]string{}}
	g, err := gateway.Start(context.Background(), gateway.API{Limits: limits, Integration: lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
		var e events.APIGatewayWebsocketProxyRequest
		if err := json.Unmarshal(payload, &e); err != nil {
			return nil, err
		}
		if e.RequestContext.EventType == "CONNECT" {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.ids[e.QueryStringParameters["name"]] = e.RequestContext.ConnectionID
		}
		return []byte(`{"statusCode":200}`), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	a.Gateway = g
	t.Cleanup(g.Close)
	return a
}

func (a *api) id(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ids[name]
}

func (a *api) connect(t *testing.T, name string) *client.Conn {
	t.Helper()
	c, _, err := client.Dial(t.Context(), a.URL()+"?name="+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func (a *api) emitter(t *testing.T, opts ...swarm.Option) *kernel.Emitter {
	t.Helper()
	q, err := websocket.Emitter().
		WithConfig(awssdk.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}).
		WithKernel(append([]swarm.Option{quiet, swarm.WithBarrier(swarm.NewBarrier())}, opts...)...).
		Build(a.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	return q
}

// Parcel is a note for a client.
type Parcel struct {
	To   string `json:"-"`
	Note Note   `json:"note"`
}

// emitParcels makes a channel for parcels.
func emitParcels(q emit.Emitter, a *api) (chan<- Parcel, <-chan Parcel) {
	return emit.Typed[Parcel](q, websocket.SinkBy(func(p Parcel) string { return a.id(p.To) }))
}

func readParcel(ctx context.Context, c *client.Conn) (int, error) {
	_, b, err := c.Read(ctx)
	if err != nil {
		return 0, err
	}
	var p Parcel
	err = json.Unmarshal(b, &p)
	return p.Note.ID, err
}

// Each client gets what is for it, in order, also when values of many are on their way at
// once.
func TestWebSocketOrder(t *testing.T) {
	t.Parallel()
	a := newAPI(t, gateway.Limits{Buffer: 1000})
	const clients, each = 5, 100
	var conns []*client.Conn
	for i := range clients {
		conns = append(conns, a.connect(t, fmt.Sprint(i)))
	}
	q := a.emitter(t, swarm.WithEmitWindow(40))
	enq, dlq := emitParcels(q, a)
	go func() {
		for p := range dlq {
			t.Errorf("%+v comes back", p)
		}
	}()
	for i := range each {
		for c := range clients {
			enq <- Parcel{To: fmt.Sprint(c), Note: Note{ID: i}}
		}
	}
	for c, conn := range conns {
		var got []int
		for range each {
			id, err := readParcel(t.Context(), conn)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, id)
		}
		if !slices.IsSorted(got) || got[0] != 0 || got[each-1] != each-1 {
			t.Errorf("client %d got %v", c, got)
		}
	}
	close(enq)
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// A client that is gone is told by its connection.
func TestWebSocketGone(t *testing.T) {
	t.Parallel()
	a := newAPI(t, gateway.Limits{})
	conn := a.connect(t, "ada")
	q := a.emitter(t)
	if err := websocket.Send(t.Context(), q, a.id("ada"), Note{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(client.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	for a.Stats().Open > 0 {
		runtime.Gosched()
	}
	gone, ok := errors.AsType[*websocket.GoneError](websocket.Send(t.Context(), q, a.id("ada"), Note{ID: 2}))
	if !ok || gone.Connection != a.id("ada") {
		t.Errorf("got %v", gone)
	}
}

// A client that does not read has its messages refused, after the buffers are full, and
// delays nobody else.
func TestWebSocketHungClient(t *testing.T) {
	t.Parallel()
	a := newAPI(t, gateway.Limits{Buffer: 4, Write: time.Hour})
	a.connect(t, "hung")
	quick := a.connect(t, "quick")
	q := a.emitter(t, swarm.WithRetryConstant(10*time.Millisecond, 3))
	var refused atomic.Int64
	var others sync.WaitGroup
	large := Note{Text: fmt.Sprintf("%0100000d", 0)}
	for range 8 {
		others.Go(func() {
			for range 20 {
				if err := websocket.Send(t.Context(), q, a.id("hung"), large); err != nil {
					refused.Add(1)
				}
			}
		})
	}
	for i := range 100 {
		if err := websocket.Send(t.Context(), q, a.id("quick"), Parcel{Note: Note{ID: i}}); err != nil {
			t.Fatal(err)
		}
		if id, err := readParcel(t.Context(), quick); id != i || err != nil {
			t.Fatalf("got %d, %v", id, err)
		}
	}
	others.Wait()
	if refused.Load() == 0 {
		t.Error("the client hangs, and all is accepted")
	}
}

// Many clients, some of which are cut off: what was accepted has arrived, or came back, or
// is counted by the gateway as cut off with its client. Nobody is left behind.
func TestWebSocketSoak(t *testing.T) {
	clients, each := 100, 50
	if soak {
		clients = 1000
	}
	before := runtime.NumGoroutine()
	a := newAPI(t, gateway.Limits{ConnectRate: 1_000_000, Buffer: 1000})
	conns := make([]*client.Conn, clients)
	for i := range conns {
		conns[i] = a.connect(t, fmt.Sprint(i))
	}
	var received atomic.Int64
	var readers sync.WaitGroup
	for i, conn := range conns {
		readers.Go(func() {
			last := -1
			for {
				id, err := readParcel(context.Background(), conn)
				if err != nil {
					return
				}
				if id <= last {
					t.Errorf("client %d: %d after %d", i, id, last)
				}
				last = id
				received.Add(1)
				if i%100 == 7 && id == each/2 {
					_ = conn.CloseNow() // one in a hundred is cut off
					return
				}
			}
		})
	}
	q := a.emitter(t, swarm.WithEmitWindow(200))
	enq, dlq := emitParcels(q, a)
	var back atomic.Int64
	var dead sync.WaitGroup
	dead.Go(func() {
		for range dlq {
			back.Add(1)
		}
	})
	began := time.Now()
	for i := range each {
		for c := range clients {
			enq <- Parcel{To: fmt.Sprint(c), Note: Note{ID: i}}
		}
	}
	close(enq)
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	dead.Wait()
	took := time.Since(began)
	a.Close() // writes what it has, then closes
	readers.Wait()
	stats := a.Stats()
	sent := int64(clients * each)
	cut := sent - received.Load() - back.Load() - int64(stats.Undelivered)
	t.Logf("%d messages to %d clients in %s: %d received, %d came back, %d undelivered by the gateway, %d on the wire when their client was cut off",
		sent, clients, took.Round(time.Millisecond), received.Load(), back.Load(), stats.Undelivered, cut)
	if accepted := sent - back.Load(); int64(stats.Posts) != accepted {
		t.Errorf("the gateway has accepted %d, we count %d", stats.Posts, accepted)
	}
	// What is written to a connection that is cut off may be lost in its buffers.
	if most := int64(each/2) * int64((clients+92)/100); cut < 0 || cut > most {
		t.Errorf("%d are lost, %d at most may be", cut, most)
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
