package gateway

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// request is what all events have.
type request struct {
	Headers                         map[string]string   `json:"headers,omitzero"`
	MultiValueHeaders               map[string][]string `json:"multiValueHeaders,omitzero"`
	QueryStringParameters           map[string]string   `json:"queryStringParameters,omitzero"`
	MultiValueQueryStringParameters map[string][]string `json:"multiValueQueryStringParameters,omitzero"`
	StageVariables                  map[string]string   `json:"stageVariables,omitzero"`
	RequestContext                  requestContext      `json:"requestContext"`
}

// event is what an integration gets: the JSON of events.APIGatewayWebsocketProxyRequest
// of aws-lambda-go, with the fields that AWS sends.
type event struct {
	request
	Body            string `json:"body,omitempty"`
	IsBase64Encoded bool   `json:"isBase64Encoded"`
}

// authorizerEvent is what a REQUEST authorizer gets.
type authorizerEvent struct {
	Type      string `json:"type"`
	MethodARN string `json:"methodArn"`
	request
}

type requestContext struct {
	RouteKey             string         `json:"routeKey"`
	MessageID            string         `json:"messageId,omitempty"`
	EventType            string         `json:"eventType"`
	ExtendedRequestID    string         `json:"extendedRequestId"`
	RequestTime          string         `json:"requestTime"`
	MessageDirection     string         `json:"messageDirection"`
	Stage                string         `json:"stage"`
	ConnectedAt          int64          `json:"connectedAt"`
	RequestTimeEpoch     int64          `json:"requestTimeEpoch"`
	Identity             identity       `json:"identity"`
	RequestID            string         `json:"requestId"`
	DomainName           string         `json:"domainName"`
	ConnectionID         string         `json:"connectionId"`
	APIID                string         `json:"apiId"`
	Authorizer           map[string]any `json:"authorizer,omitempty"`
	DisconnectStatusCode int            `json:"disconnectStatusCode,omitempty"`
	DisconnectReason     *string        `json:"disconnectReason,omitempty"`
}

type identity struct {
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent,omitempty"`
}

// newID is an id of a connection, a message or a request, of the form that AWS uses.
func newID() string {
	var b [11]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.URLEncoding.EncodeToString(b[:])
}

// request is a new one of the connection.
func (c *connection) request(route, kind string) request {
	now, id := time.Now(), newID()
	return request{StageVariables: c.g.api.StageVariables, RequestContext: requestContext{
		RouteKey: route, EventType: kind, RequestID: id, ExtendedRequestID: id, MessageDirection: "IN",
		RequestTime: now.UTC().Format("02/Jan/2006:15:04:05 +0000"), RequestTimeEpoch: now.UnixMilli(),
		Stage: c.g.api.Stage, APIID: c.g.api.ID, DomainName: c.g.api.DomainName,
		ConnectedAt: c.connectedAt.UnixMilli(), ConnectionID: c.id, Identity: c.identity, Authorizer: c.authorizer,
	}}
}

func (c *connection) connectEvent(r *http.Request) event {
	e := event{request: c.request(RouteConnect, "CONNECT")}
	e.MultiValueHeaders = map[string][]string{"Host": {r.Host}}
	for name, values := range r.Header {
		// Clients write it so, and functions look for it so.
		e.MultiValueHeaders[strings.Replace(name, "Sec-Websocket-", "Sec-WebSocket-", 1)] = values
	}
	e.MultiValueHeaders["X-Forwarded-For"] = []string{c.identity.SourceIP}
	e.MultiValueHeaders["X-Forwarded-Proto"] = []string{"http"}
	e.Headers = lastOf(e.MultiValueHeaders)
	if query := r.URL.Query(); len(query) > 0 {
		e.MultiValueQueryStringParameters, e.QueryStringParameters = query, lastOf(query)
	}
	return e
}

func (c *connection) messageEvent(route string, body []byte) event {
	e := event{request: c.request(route, "MESSAGE"), Body: string(body)}
	e.RequestContext.MessageID = newID()
	return e
}

func (c *connection) disconnectEvent(end *closing) event {
	e := event{request: c.request(RouteDisconnect, "DISCONNECT")}
	e.MultiValueHeaders = map[string][]string{"Host": {c.g.api.DomainName}, "x-api-key": {""}, "X-Forwarded-For": {""}, "x-restapi": {""}}
	e.Headers = lastOf(e.MultiValueHeaders)
	e.RequestContext.DisconnectStatusCode, e.RequestContext.DisconnectReason = int(end.code), &end.reason
	return e
}

func (g *Gateway) authorizerEvent(connect event) authorizerEvent {
	e := authorizerEvent{Type: "REQUEST", MethodARN: g.methodARN(), request: connect.request}
	// Here AWS has empty objects where it has nothing otherwise.
	if e.QueryStringParameters == nil {
		e.QueryStringParameters, e.MultiValueQueryStringParameters = map[string]string{}, map[string][]string{}
	}
	if e.StageVariables == nil {
		e.StageVariables = map[string]string{}
	}
	return e
}

func (g *Gateway) methodARN() string {
	return fmt.Sprintf("arn:aws:execute-api:%s:%s:%s/%s/%s", g.api.Region, g.api.Account, g.api.ID, g.api.Stage, RouteConnect)
}

// lastOf is what AWS does with several values where there is room for one.
func lastOf(many map[string][]string) map[string]string {
	one := make(map[string]string, len(many))
	for name, values := range many {
		one[name] = values[len(values)-1]
	}
	return one
}

// marshal encodes what is made of strings and numbers, so that it cannot fail.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("gateway: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// failure is the body of an answer, or the message to a client, that something failed.
type failure struct {
	Message      string `json:"message"`
	ConnectionID string `json:"connectionId,omitempty"`
	RequestID    string `json:"requestId,omitempty"`
}
