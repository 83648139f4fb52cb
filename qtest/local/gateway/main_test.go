package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	awslambda "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

// The test binary is the function too: the variable says which.
const envFunction = "SWARM_TEST_FUNCTION"

func TestMain(m *testing.M) {
	switch os.Getenv(envFunction) {
	case "":
		os.Exit(m.Run())
	case "echo":
		awslambda.Start(echoByPost)
	case "authorizer":
		awslambda.Start(authorizeByToken)
	}
}

// memory is a network of one listener, whose connections are pipes, so that a gateway and
// its clients can live in a bubble. A write on a pipe waits until it is read.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return address{} }

func (m *memory) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.closed:
		return nil, errors.New("connection refused")
	}
}

type address struct{}

func (address) Network() string { return "memory" }
func (address) String() string  { return "gateway.test:80" }

// buffer is a log that tests can read at any time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !bytes.HasSuffix(p, []byte("\n")) || bytes.Count(p, []byte("\n")) != 1 {
		return 0, fmt.Errorf("not a line: %q", p)
	}
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is a gateway with a network of its own.
type world struct {
	testing.TB
	*gateway.Gateway
	net    *memory
	http   *http.Client
	client *apigatewaymanagementapi.Client // of @connections
	log    *buffer
}

// open makes a gateway in the bubble of the test. That no goroutine is left is part of
// every such test: else the bubble does not end.
func open(t *testing.T, api gateway.API) *world {
	t.Helper()
	w := &world{TB: t, net: newMemory(), log: &buffer{}}
	transport := &http.Transport{DisableCompression: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return w.net.dial() }}
	w.http = &http.Client{Transport: transport}
	api.Listener, api.Log = w.net, w.log
	var err error
	if w.Gateway, err = gateway.Start(context.WithoutCancel(t.Context()), api); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		transport.CloseIdleConnections()
	})
	w.client = management(w.Gateway, w.http)
	return w
}

// management is a client of the SDK that does not repeat calls.
func management(g *gateway.Gateway, client *http.Client, opts ...func(*apigatewaymanagementapi.Options)) *apigatewaymanagementapi.Client {
	return apigatewaymanagementapi.New(apigatewaymanagementapi.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(g.Endpoint()), HTTPClient: client, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	}, opts...)
}

// dial connects a client, that the test ends unless it has ended by itself.
func (w *world) dial(opts ...func(*websocket.DialOptions)) *websocket.Conn {
	w.Helper()
	c, response, err := w.try(w.URL(), opts...)
	if err != nil {
		w.Fatalf("%v: %v\n%s", response, err, w.log)
	}
	w.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func (w *world) try(url string, opts ...func(*websocket.DialOptions)) (*websocket.Conn, *http.Response, error) {
	o := websocket.DialOptions{HTTPClient: w.http}
	for _, opt := range opts {
		opt(&o)
	}
	c, response, err := websocket.Dial(w.Context(), url, &o)
	if err == nil {
		c.SetReadLimit(1 << 20)
	}
	return c, response, err
}

func (w *world) send(c *websocket.Conn, text string) {
	w.Helper()
	if err := c.Write(w.Context(), websocket.MessageText, []byte(text)); err != nil {
		w.Fatal(err)
	}
}

func (w *world) receive(c *websocket.Conn) string {
	w.Helper()
	_, body, err := c.Read(w.Context())
	if err != nil {
		w.Fatalf("%v\n%s", err, w.log)
	}
	return string(body)
}

// ended is the code of the close frame that a client gets.
func (w *world) ended(c *websocket.Conn) websocket.StatusCode {
	_, body, err := c.Read(w.Context())
	if err == nil {
		w.Fatalf("a message: %s", body)
	}
	return websocket.CloseStatus(err)
}

func (w *world) post(id, text string) error { return post(w.Context(), w.client, id, text) }

func post(ctx context.Context, client *apigatewaymanagementapi.Client, id, text string) error {
	_, err := client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &id, Data: []byte(text)})
	return err
}

// at is the option of a client for another endpoint.
func at(endpoint string) func(*apigatewaymanagementapi.Options) {
	return func(o *apigatewaymanagementapi.Options) { o.BaseEndpoint = &endpoint }
}

// recorder is an integration that keeps what it gets.
type recorder struct {
	events chan events.APIGatewayWebsocketProxyRequest
	raw    chan string
	answer func(events.APIGatewayWebsocketProxyRequest) (any, error) // nil: 200
}

func newRecorder() *recorder {
	return &recorder{events: make(chan events.APIGatewayWebsocketProxyRequest, 100), raw: make(chan string, 100)}
}

func (r *recorder) fn() lambda.Func {
	return func(_ context.Context, payload []byte) ([]byte, error) {
		var e events.APIGatewayWebsocketProxyRequest
		d := json.NewDecoder(bytes.NewReader(payload))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			return nil, err
		}
		r.raw <- string(payload)
		r.events <- e
		if r.answer != nil {
			v, err := r.answer(e)
			if raw, ok := v.([]byte); ok || err != nil {
				return raw, err
			}
			return json.Marshal(v)
		}
		return []byte(`{"statusCode":200}`), nil
	}
}

// next is the next event; id that of its connection.
func (r *recorder) next() events.APIGatewayWebsocketProxyRequest { return <-r.events }

func (r *recorder) id() string { return r.next().RequestContext.ConnectionID }

func ok(body string) any { return events.APIGatewayProxyResponse{StatusCode: 200, Body: body} }

// limited is a function that says how much it takes at a time, and counts.
type limited struct {
	lambda.Func
	n        int
	together chan struct{} // if set: waits until it is closed

	mu        sync.Mutex
	now, most int
}

func (l *limited) Concurrency() int { return l.n }

func (l *limited) Invoke(ctx context.Context, payload []byte, opts ...lambda.InvokeOption) ([]byte, error) {
	l.mu.Lock()
	l.now++
	l.most = max(l.most, l.now)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.now--
	}()
	if l.together != nil {
		<-l.together
	}
	return l.Func.Invoke(ctx, payload, opts...)
}
