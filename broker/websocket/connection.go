package websocket

import (
	"context"
	"encoding/json"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/listen"
)

// Routes that every API has. They are categories, as the routes of an API's own are.
const (
	RouteConnect    = "$connect"    // see Connects
	RouteDisconnect = "$disconnect" // see Disconnects
	RouteDefault    = "$default"    // messages that select no other route; see EnvCategory
)

// Connect is a client that wants to connect. [Refuse] turns it away. It is connected, and can
// be sent to, when API Gateway has the answer of the invocation, some time after the message
// was acknowledged: let the client speak first.
type Connect struct {
	Connection string              `json:"connection"`
	At         time.Time           `json:"at"`
	Headers    map[string]string   `json:"headers,omitempty"`
	Query      map[string][]string `json:"query,omitempty"`
	Protocols  []string            `json:"protocols,omitempty"` // that the client offers; see WithSubprotocols
	Address    string              `json:"address,omitempty"`   // IP
	UserAgent  string              `json:"userAgent,omitempty"`
}

// Disconnect is a client that has gone. API Gateway tells most of them, not all: a
// [GoneError] tells the rest.
type Disconnect struct {
	Connection string    `json:"connection"`
	At         time.Time `json:"at"`
	Code       int       `json:"code,omitempty"` // of the close frame; 0: there was none
	Reason     string    `json:"reason,omitempty"`
}

func connectOf(r *Request) Connect {
	c := &r.RequestContext
	in := Connect{Connection: c.ConnectionID, At: time.UnixMilli(c.ConnectedAt).UTC(), Headers: r.Headers,
		Query: r.MultiValueQueryStringParameters, Protocols: offers(r), Address: c.Identity.SourceIP, UserAgent: c.Identity.UserAgent}
	if in.Query == nil {
		for name, value := range r.QueryStringParameters {
			if in.Query == nil {
				in.Query = map[string][]string{}
			}
			in.Query[name] = []string{value}
		}
	}
	return in
}

func disconnectOf(r *Request) Disconnect {
	c := &r.RequestContext
	out := Disconnect{Connection: c.ConnectionID, At: time.UnixMilli(c.RequestTimeEpoch).UTC(), Code: int(c.DisconnectStatusCode)}
	if c.DisconnectReason != nil {
		out.Reason = *c.DisconnectReason
	}
	return out
}

// Connects makes channels for clients that connect; q is a kernel that listens. Without
// them every client that the API's authorizer lets pass may connect: make them before the
// kernel runs. API Gateway turns a client away after 29 s; the context of its message has
// ended then.
func Connects(q listen.Listener) (deq <-chan swarm.Msg[Connect], ack chan<- swarm.Msg[Connect]) {
	return listen.Typed[Connect](q, listen.Category(RouteConnect))
}

// Disconnects makes channels for clients that have gone.
func Disconnects(q listen.Listener) (deq <-chan swarm.Msg[Disconnect], ack chan<- swarm.Msg[Disconnect]) {
	return listen.Typed[Disconnect](q, listen.Category(RouteDisconnect))
}

// request is the record of a message that a listener of this package has received.
func request[T any](msg swarm.Msg[T]) Request {
	r, _ := msg.IOContext.(Request)
	return r
}

// ConnectionOf is the connection that a message came by: Meta.Sink of an event that answers.
// It is empty when the message is of another broker.
func ConnectionOf[T any](msg swarm.Msg[T]) string {
	return request(msg).RequestContext.ConnectionID
}

// PrincipalOf is who the authorizer says the client is; empty without one.
func PrincipalOf[T any](msg swarm.Msg[T]) string { return ContextOf(msg)["principalId"] }

// ContextOf is what the authorizer says of the client: auth, scope and more, by name. API
// Gateway makes strings of all values. Nil without an authorizer.
func ContextOf[T any](msg swarm.Msg[T]) map[string]string {
	given, _ := request(msg).RequestContext.Authorizer.(map[string]any)
	if given == nil {
		return nil
	}
	all := make(map[string]string, len(given))
	for name, value := range given {
		switch v := value.(type) {
		case nil:
		case string:
			all[name] = v
		case json.Number:
			all[name] = v.String()
		default:
			if b, err := json.Marshal(v); err == nil {
				all[name] = string(b)
			}
		}
	}
	return all
}

// SinkBy gives each value of a channel the connection that it goes to. Events need none:
// they go to their Meta.Sink.
func SinkBy[T any](connection func(T) string) emit.Option { return emit.OrderBy(connection) }

// Reply sends v, as JSON, to the client that msg came from, and blocks until API Gateway has
// accepted it. It goes by the rules of Enq, within the context of msg: reply before you
// acknowledge. Events go by emit.NewEvent and [ConnectionOf], which fills their metadata.
func Reply[T, R any](q emit.Emitter, msg swarm.Msg[T], v R, opts ...emit.Option) error {
	return Send(msg.Context(), q, ConnectionOf(msg), v, opts...)
}

// Send is [Reply] to a connection by its id.
func Send[R any](ctx context.Context, q emit.Emitter, connection string, v R, opts ...emit.Option) error {
	all := append([]emit.Option{emit.Category(category[R]()), SinkBy(func(R) string { return connection })}, opts...)
	return emit.NewTyped[R](q, all...).Enq(ctx, v)
}

// category is the name of a type, for errors and logs: clients do not see it.
func category[T any]() string {
	name, err := swarm.TypeOf[T]()
	if err != nil {
		return "value"
	}
	return name
}
