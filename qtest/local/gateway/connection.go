package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// closeTimeout is what a client has to take what waits for it and to answer the close
// frame. Then it is cut off.
const closeTimeout = 2 * time.Second

// Why a post does not reach a client.
var (
	errGone = errors.New("the connection is gone")
	errFull = errors.New("too many messages wait for the client")
)

// connection is a client. Its goroutine reads; another one writes while there is
// something to be written.
type connection struct {
	g           *Gateway
	id          string
	connectedAt time.Time
	identity    identity
	authorizer  map[string]any // nil without authorizer
	ws          *websocket.Conn
	frames      *frames

	mu         sync.Mutex
	lastActive time.Time
	queue      []message
	writing    bool // by a goroutine, or there is nothing to write to yet
	lost       int  // messages accepted and not written
	end        *closing
	timers     []*time.Timer // idle, lifetime, cut
	writers    sync.WaitGroup
}

type message struct {
	kind websocket.MessageType
	body []byte
}

func (g *Gateway) newConnection(r *http.Request) *connection {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		ip = r.RemoteAddr // no TCP
	}
	now := time.Now()
	c := &connection{g: g, id: newID(), connectedAt: now, lastActive: now, writing: true,
		identity: identity{SourceIP: ip, UserAgent: r.UserAgent()}}
	c.frames = &frames{frame: uint64(g.api.Limits.Frame), limit: uint64(g.api.Limits.Message), active: c.arrived}
	return c
}

// start begins to write, and lets idle time and lifetime run.
func (c *connection) start(ws *websocket.Conn) {
	ws.SetReadLimit(-1) // frames has it
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ws = ws
	away := func() { c.shut(errAway) }
	c.timers = append(c.timers, time.AfterFunc(c.g.api.Limits.Idle, away), time.AfterFunc(c.g.api.Limits.Lifetime, away))
	if c.end != nil {
		c.timers = append(c.timers, time.AfterFunc(closeTimeout, c.cut))
	}
	c.writers.Go(c.write)
}

// touch notes activity.
func (c *connection) touch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastActive = time.Now()
	if c.end == nil && len(c.timers) > 0 {
		c.timers[0].Reset(c.g.api.Limits.Idle)
	}
}

// arrived notes a frame of the client. If it is the first to close, so it is, whatever
// comes until its close frame is read.
func (c *connection) arrived(h frameHeader) {
	c.touch()
	if h.opcode == opClose {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end == nil {
			c.end = errLeaving
		}
	}
}

// run reads until the connection ends, whoever ends it, and returns why.
func (c *connection) run() *closing {
	err := c.receive()
	if broken, ok := errors.AsType[*closing](err); ok {
		c.shut(broken)
	} else if ended, ok := errors.AsType[websocket.CloseError](err); ok {
		c.gone(&closing{ended.Code, closeReason(ended)})
	} else if c.frames.broken.Load() || errors.Is(err, net.ErrClosed) {
		c.gone(errAbnormal)
	} else { // the library found it
		c.shut(errProtocol)
	}
	c.writers.Wait()
	_ = c.ws.CloseNow() // it is closed already
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.timers {
		t.Stop()
	}
	c.lost += len(c.queue)
	c.queue = nil
	return c.end
}

// closeReason is the reason that a client gave, or what AWS says if there is none.
func closeReason(e websocket.CloseError) string {
	switch {
	case e.Code == websocket.StatusNoStatusRcvd:
		return "Client-side close frame status not set"
	case e.Code == websocket.StatusNormalClosure && e.Reason == "":
		return "Connection Closed Normally"
	}
	return e.Reason
}

func (c *connection) receive() error {
	for {
		kind, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		if kind == websocket.MessageBinary {
			return errBinary
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if !utf8.Valid(body) {
			return errNotUTF8
		}
		c.g.message(c, body)
	}
}

// post accepts a message for the client, or fails with errGone or errFull. It does not
// wait.
func (c *connection) post(body []byte) error {
	kind := websocket.MessageText
	if !utf8.Valid(body) {
		kind = websocket.MessageBinary
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.end != nil:
		return errGone
	case len(c.queue) >= c.g.api.Limits.Buffer:
		return errFull
	}
	c.queue = append(c.queue, message{kind, body})
	c.g.count(func(s *Stats) { s.Posts++ })
	c.wake()
	return nil
}

// wake makes sure that someone writes. The caller holds mu.
func (c *connection) wake() {
	if !c.writing {
		c.writing = true
		c.writers.Go(c.write)
	}
}

// write sends what waits and then, when the connection is to end, the close frame.
func (c *connection) write() {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			end := c.end
			last := end != nil && end != errLeaving
			c.writing = last // nobody begins again
			c.mu.Unlock()
			if last {
				_ = c.ws.Close(end.code, end.reason) // the client may have gone
			}
			return
		}
		m := c.queue[0]
		c.queue[0] = message{} // it may be large
		c.queue = c.queue[1:]
		c.mu.Unlock()

		ctx, cancel := context.WithTimeout(context.Background(), c.g.api.Limits.Write)
		err := c.ws.Write(ctx, m.kind, m.body)
		cancel()
		if err != nil {
			c.mu.Lock()
			c.lost++
			c.mu.Unlock()
			c.cut() // the reader notices
			return
		}
		c.touch()
	}
}

// shut ends the connection: no more posts are accepted, the client gets those that wait
// and then the close frame. The first call counts: others return false. It does not wait.
func (c *connection) shut(why *closing) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A close frame that is not even valid is a violation like others.
	if c.end != nil && (c.end != errLeaving || why != errProtocol) {
		return false
	}
	c.end = why
	if c.ws != nil { // else start does it
		c.timers = append(c.timers, time.AfterFunc(closeTimeout, c.cut))
	}
	c.wake()
	return true
}

// gone notes that the client has ended the connection.
func (c *connection) gone(why *closing) {
	c.mu.Lock()
	if c.end == nil || c.end == errLeaving {
		c.end = why
	}
	c.mu.Unlock()
	c.cut() // whoever writes has nobody to write to
}

// cut closes the connection without a word.
func (c *connection) cut() { _ = c.frames.Close() }

// tell sends the client a message of the gateway itself.
func (c *connection) tell(text, requestID string) error {
	return c.post(marshal(failure{text, c.id, requestID}))
}
