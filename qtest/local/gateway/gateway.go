package gateway

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// headerTimeout is what a client has to send the header of a request, bodyTimeout what
	// a post has for its body.
	headerTimeout = 10 * time.Second
	bodyTimeout   = 10 * time.Second
	// maxHeader is AWS's limit of the headers of a request, in bytes.
	maxHeader = 10240
)

// Stats counts what has happened since the start.
type Stats struct {
	Open        int // connections now
	Connects    int // connections made
	Refused     int // connections refused, by whomever
	Messages    int // from clients
	Failed      int // of those, the ones that no integration has handled
	Posts       int // messages accepted for clients, from @connections and route responses
	Undelivered int // of those, the ones that were not written when the connection ended
}

// Gateway is an [API] at work. Its methods are safe for concurrent use.
type Gateway struct {
	api             API
	selection       selection
	identitySources []identitySource
	routes          map[string]*integration
	authorizer      *integration
	log             *logger
	ctx             context.Context // of integrations
	stopAuto        func() bool
	server          *http.Server
	served          chan struct{} // closed when the server has ended

	mu          sync.Mutex
	connections map[string]*connection
	stats       Stats
	tokens      float64 // of connections that may be made now
	refilled    time.Time
	closing     bool           // no new connections
	closed      bool           // no calls either
	work        sync.WaitGroup // connections, also those to be, and invocations
	calls       sync.WaitGroup // of @connections
}

// Start serves the API, until Close, or until ctx ends, which closes it. If it fails, the
// listener is still the caller's.
func Start(ctx context.Context, api API) (*Gateway, error) {
	api, err := api.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{log: &logger{w: api.Log}, ctx: context.WithoutCancel(ctx), served: make(chan struct{}),
		connections: map[string]*connection{}, tokens: float64(api.Limits.ConnectRate), refilled: time.Now()}
	if g.selection, err = parseSelection(api.RouteSelectionExpression); err != nil {
		return nil, err
	}
	for _, text := range api.IdentitySources {
		source, err := parseIdentitySource(text)
		if err != nil {
			return nil, err
		}
		g.identitySources = append(g.identitySources, source)
	}
	if g.routes, g.authorizer, err = api.integrations(); err != nil {
		return nil, err
	}
	if api.Listener == nil {
		if api.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if api.DomainName == "" {
		api.DomainName = api.Listener.Addr().String()
	}
	g.api = api
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: headerTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(g.log, "", 0)}
	go func() {
		defer close(g.served)
		if err := g.server.Serve(api.Listener); !errors.Is(err, http.ErrServerClosed) {
			g.log.printf("server: %v", err)
		}
	}()
	g.mu.Lock() // it may be closed at once
	defer g.mu.Unlock()
	g.stopAuto = context.AfterFunc(ctx, g.Close)
	return g, nil
}

// URL is where clients connect, as in ws://127.0.0.1:8080/dev.
func (g *Gateway) URL() string { return "ws://" + g.api.Listener.Addr().String() + "/" + g.api.Stage }

// Endpoint is the base endpoint of a client of the @connections API, as in
// http://127.0.0.1:8080/dev.
func (g *Gateway) Endpoint() string {
	return "http://" + g.api.Listener.Addr().String() + "/" + g.api.Stage
}

// Stats returns the counts.
func (g *Gateway) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	stats := g.stats
	stats.Open = len(g.connections)
	return stats
}

func (g *Gateway) count(add func(*Stats)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	add(&g.stats)
}

// Close refuses new connections and closes those that are open, with 1001. It returns when
// the integrations have handled the messages that were accepted and the end of each
// connection, or have failed to within their time limit; so long they may post to
// @connections. A handler in the own process that goes on after its context has ended is
// not waited for.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.stopAuto()
	g.closing = true
	open := slices.Collect(maps.Values(g.connections))
	g.mu.Unlock()
	for _, c := range open {
		c.shut(errAway)
	}
	g.work.Wait()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	_ = g.server.Close()
	<-g.served
	g.calls.Wait()
}

// ServeHTTP serves clients, the @connections API and API.Handler, so that the gateway can
// also be mounted in another server. That server must not set a WriteTimeout below the
// time of integrations.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if id, ok := connectionPath(path, g.api.Stage); ok {
		g.manage(w, r, id)
		return
	}
	isStage := strings.Trim(path, "/") == g.api.Stage || path == "/"
	switch wants := hasToken(r.Header, "Upgrade", "websocket"); {
	case isStage && wants:
		g.connect(w, r)
	case g.api.Handler != nil:
		g.api.Handler.ServeHTTP(w, r)
	case isStage && path != "/":
		w.Header().Set("Upgrade", "websocket")
		fail(w, http.StatusUpgradeRequired, "Upgrade Required", "", "")
	default:
		fail(w, http.StatusForbidden, "Forbidden", "", "")
	}
}

// hasToken looks for a token in a header that is a list of them.
func hasToken(h http.Header, name, token string) bool {
	for _, list := range h.Values(name) {
		for t := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// validHandshake says that the library will accept the request: an integration should not
// see a client that cannot connect.
func validHandshake(r *http.Request) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Header.Get("Sec-WebSocket-Key")))
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoAtLeast(1, 1) && hasToken(r.Header, "Connection", "Upgrade") &&
		r.Header.Get("Sec-WebSocket-Version") == "13" && len(r.Header.Values("Sec-WebSocket-Key")) == 1 && err == nil && len(key) == 16
}

// canHijack says that the connection can be taken from the server: middleware may have
// hidden that.
func canHijack(w http.ResponseWriter) bool {
	for {
		switch inner := w.(type) {
		case http.Hijacker:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = inner.Unwrap()
		default:
			return false
		}
	}
}

// connect is the life of a client until it is connected or refused.
func (g *Gateway) connect(w http.ResponseWriter, r *http.Request) {
	if !validHandshake(r) {
		w.Header().Set("Sec-WebSocket-Version", "13")
		fail(w, http.StatusBadRequest, "Bad Request", "", "")
		return
	}
	if !canHijack(w) {
		g.log.printf("server: the ResponseWriter is no http.Hijacker and does not unwrap to one")
		fail(w, http.StatusNotImplemented, "Not Implemented", "", "")
		return
	}
	c := g.newConnection(r)
	connect := c.connectEvent(r)
	refuse := func(why *refusal) {
		g.count(func(s *Stats) { s.Refused++ })
		g.log.printf("REFUSED %s %d: %v", c.id, why.status, why.cause)
		fail(w, why.status, why.message, c.id, connect.RequestContext.RequestID)
	}
	if why := g.enter(); why != nil {
		refuse(why)
		return
	}
	defer g.work.Done()

	if g.authorizer != nil {
		var why *refusal
		if c.authorizer, why = g.authorize(r, connect); why != nil {
			refuse(why)
			return
		}
		connect.RequestContext.Authorizer = c.authorizer
	}
	answer, why := g.ask(connect)
	if why != nil {
		refuse(why)
		return
	}
	// From here on it exists: the client must find it so when it sees our answer.
	g.mu.Lock()
	closing := g.closing
	if !closing {
		g.connections[c.id] = c
		g.stats.Connects++
	}
	g.mu.Unlock()
	if closing {
		refuse(errShutdown)
		g.disconnect(c, errAway)
		return
	}
	ws, err := websocket.Accept(hijacker{w, c.frames}, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{answer.protocol}})
	if err != nil {
		g.log.printf("REFUSED %s: %s", c.id, reason(err))
		c.shut(errAbnormal)
		g.leave(c, errAbnormal)
		return
	}
	g.log.printf("CONNECT %s %s", c.id, c.identity.SourceIP)
	c.start(ws)
	g.work.Go(func() { g.leave(c, c.run()) })
}

var errShutdown = &refusal{http.StatusServiceUnavailable, "Service Unavailable", errors.New("the gateway is closing")}

// enter counts a new connection as work, if there may be one.
func (g *Gateway) enter() *refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return errShutdown
	}
	now, rate := time.Now(), float64(g.api.Limits.ConnectRate)
	g.tokens = min(rate, g.tokens+now.Sub(g.refilled).Seconds()*rate)
	g.refilled = now
	if g.tokens < 1 {
		return &refusal{http.StatusTooManyRequests, "Too Many Requests", fmt.Errorf("more than %d connections a second", g.api.Limits.ConnectRate)}
	}
	g.tokens--
	g.work.Add(1)
	return nil
}

// ask has the integration of $connect decide.
func (g *Gateway) ask(connect event) (response, *refusal) {
	in := g.routes[RouteConnect]
	if in == nil {
		return response{}, nil
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.api.Limits.Integration)
	defer cancel()
	r := <-in.begin(ctx, marshal(connect))
	switch {
	case errors.Is(r.err, errTimeout):
		return response{}, &refusal{http.StatusGatewayTimeout, "Endpoint request timed out", r.err}
	case r.err != nil:
		return response{}, &refusal{http.StatusInternalServerError, "Internal server error", errors.New(reason(r.err))}
	}
	answer, err := parseResponse(r.response)
	switch {
	case err != nil:
		return response{}, &refusal{http.StatusBadGateway, "Internal server error", err}
	case answer.status > 299:
		return response{}, &refusal{answer.status, http.StatusText(answer.status), errors.New("by the integration")}
	}
	return answer, nil
}

// leave is the end of a connection.
func (g *Gateway) leave(c *connection, why *closing) {
	g.mu.Lock()
	delete(g.connections, c.id)
	g.stats.Undelivered += c.lost
	g.mu.Unlock()
	g.log.printf("CLOSED %s %d %q lost %d", c.id, why.code, why.reason, c.lost)
	g.disconnect(c, why)
}

func (g *Gateway) disconnect(c *connection, why *closing) {
	in := g.routes[RouteDisconnect]
	if in == nil {
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.api.Limits.Integration)
	defer cancel()
	if r := <-in.begin(ctx, marshal(c.disconnectEvent(why))); r.err != nil {
		g.log.printf("FAILED %s %s: %s", c.id, RouteDisconnect, reason(r.err))
	}
}

// message brings a message of a client to its integration. It returns when the invocation
// has begun.
func (g *Gateway) message(c *connection, body []byte) {
	route := g.route(body)
	e := c.messageEvent(route, body)
	id := e.RequestContext.RequestID
	g.count(func(s *Stats) { s.Messages++ })
	failed := func(toClient string, why error) {
		g.count(func(s *Stats) { s.Failed++ })
		if err := c.tell(toClient, id); err != nil {
			why = fmt.Errorf("%w; not told: %w", why, err)
		}
		g.log.printf("FAILED %s %s %s: %s", c.id, route, id, reason(why))
	}
	in := g.routes[route]
	if in == nil {
		failed("Forbidden", errors.New("no route"))
		return
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.api.Limits.Integration)
	done := in.begin(ctx, marshal(e))
	g.work.Go(func() { // the connection is work too, so that Close is still waiting
		defer cancel()
		r := <-done
		answer, err := parseResponse(r.response)
		switch {
		case errors.Is(r.err, errTimeout):
			failed("Endpoint request timed out", r.err)
		case r.err != nil:
			failed("Internal server error", r.err)
		case err != nil:
			failed("Internal server error", err)
		case !slices.Contains(g.api.RouteResponses, route) || len(answer.body) == 0:
		case len(answer.body) > g.api.Limits.Message:
			failed("Internal server error", fmt.Errorf("the response has %d bytes", len(answer.body)))
		default:
			if err := c.post(answer.body); err != nil {
				g.log.printf("FAILED %s %s %s: response: %v", c.id, route, id, err)
			}
		}
	})
}

// fail answers with an error. It is on its way when fail returns: Close may follow.
func fail(w http.ResponseWriter, status int, message, connectionID, requestID string) {
	body := marshal(failure{message, connectionID, requestID})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
	_ = http.NewResponseController(w).Flush()
}

// logger writes whole lines, one at a time.
type logger struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *logger) printf(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }

func (l *logger) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range bytes.Lines(text) { // several when a page panics
		if _, err := l.w.Write(line); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}
