package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// The route keys that AWS defines.
const (
	RouteConnect    = "$connect"
	RouteDisconnect = "$disconnect"
	RouteDefault    = "$default"
)

// API is a WebSocket API to [Start]. One of Integration and Routes is required.
type API struct {
	// Routes are the integrations by route key: $connect, $disconnect, $default and own
	// ones. An integration is a [lambda.Runtime], a [lambda.Func] in the own process, or
	// any other invoker. A nil one stands for Integration.
	Routes map[string]lambda.Invoker
	// Integration serves $connect, $disconnect and $default too, unless Routes has them.
	// Default: these routes exist only if Routes has them.
	Integration lambda.Invoker
	// RouteResponses are the keys of routes with a route response: the body that the
	// integration answers with is sent to the client. Other answers are dropped.
	RouteResponses []string
	// RouteSelectionExpression says where a message has its route key, as in
	// $request.body.PATH; dots in PATH lead into objects. Default $request.body.action.
	RouteSelectionExpression string

	// Authorizer is the function of a REQUEST authorizer of $connect. It is asked for
	// every connection: there is no cache. Default: none, everyone may connect.
	Authorizer lambda.Invoker
	// IdentitySources are what a client must present, else it is refused without a call of
	// the Authorizer: route.request.header.NAME or route.request.querystring.NAME.
	IdentitySources []string

	// Stage is the path of the API, default dev. Clients may also connect to "/".
	Stage          string
	StageVariables map[string]string
	// ID, Region and Account are for ARNs and events, and Region for signatures too.
	// Default local, us-east-1 and 000000000000.
	ID, Region, Account string
	// DomainName is told in events. Default: address and port of the listener, so that
	// http://DomainName/Stage is the endpoint of the @connections API.
	DomainName string

	// Credentials are what calls of the @connections API must be signed with. Default:
	// test and test.
	Credentials aws.CredentialsProvider
	// Fault, if set, is asked by each call of the @connections API whose signature is good,
	// and may block for as long as ctx lives. The operation is PostToConnection,
	// GetConnection or DeleteConnection. A status other than 0 is what the call fails with,
	// without effect; 403, 410, 413 and 429 get the exceptions of AWS.
	Fault func(ctx context.Context, operation, connectionID string) (status int)

	Limits Limits

	// Listener is where the API listens; the gateway closes it. Default: a free port of
	// 127.0.0.1.
	Listener net.Listener
	// Handler serves all requests that are not for the API, such as a page to try it with.
	// Default: 403, as AWS.
	Handler http.Handler

	// Log gets what happens, a line in each Write, one at a time:
	//
	//	CONNECT L0SM9cOFvHcCIhw= 127.0.0.1             a client has connected
	//	REFUSED L0SM9cOFvHcCIhw= 403: reason           it may not
	//	FAILED L0SM9cOFvHcCIhw= $default id: reason    a message that came to nothing
	//	POST "L0SM9cOFvHcCIhw=" 410: reason            a call of @connections that failed
	//	CLOSED L0SM9cOFvHcCIhw= 1000 "reason" lost 0   the end, and what was not delivered
	//
	// There are no messages, headers or query strings in it. Default: discarded.
	Log io.Writer
}

// Limits of an API. Default are those that AWS documents as of 2026.
type Limits struct {
	// Message and Frame are bytes from a client, Message also of a post: 131,072 and
	// 32,768. What is larger closes the connection with 1009, or fails with 413.
	Message, Frame int
	// Idle and Lifetime of a connection, 10 min and 2 h: it is closed with 1001. Every
	// frame in either direction, also a ping, is activity.
	Idle, Lifetime time.Duration
	// ConnectRate is the connections a second, 500, which is also the burst. Then 429.
	ConnectRate int
	// Integration is how long a client waits for an integration or the authorizer, 29 s.
	// It includes the time until the integration has a free place.
	Integration time.Duration
	// Buffer is how many messages may wait for a client that does not read. Then a post
	// fails with 429. AWS does not say; default 32.
	Buffer int
	// Write is what a client has to take a message, before its connection is cut. AWS does
	// not say; default 10 s.
	Write time.Duration
}

var stageName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// withDefaults checks the API and completes it.
func (a API) withDefaults() (API, error) {
	a.Stage = cmp.Or(a.Stage, "dev")
	a.ID, a.Region, a.Account = cmp.Or(a.ID, "local"), cmp.Or(a.Region, "us-east-1"), cmp.Or(a.Account, "000000000000")
	a.RouteSelectionExpression = cmp.Or(a.RouteSelectionExpression, "$request.body.action")
	l := &a.Limits
	l.Message, l.Frame = cmp.Or(l.Message, 128<<10), cmp.Or(l.Frame, 32<<10)
	l.Idle, l.Lifetime = cmp.Or(l.Idle, 10*time.Minute), cmp.Or(l.Lifetime, 2*time.Hour)
	l.ConnectRate, l.Buffer = cmp.Or(l.ConnectRate, 500), cmp.Or(l.Buffer, 32)
	l.Integration, l.Write = cmp.Or(l.Integration, 29*time.Second), cmp.Or(l.Write, 10*time.Second)
	if a.Credentials == nil {
		a.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})
	}
	if a.Log == nil {
		a.Log = io.Discard
	}
	switch {
	case !stageName.MatchString(a.Stage):
		return a, fmt.Errorf("gateway: API.Stage %q: want letters, digits, _ and -", a.Stage)
	case a.Authorizer == nil && len(a.IdentitySources) > 0:
		return a, errors.New("gateway: API.IdentitySources without API.Authorizer")
	case a.Integration == nil && len(a.Routes) == 0:
		return a, errors.New("gateway: neither API.Integration nor API.Routes is set")
	case min(l.Message, l.Frame, l.ConnectRate, l.Buffer) < 0 || min(l.Idle, l.Lifetime, l.Integration, l.Write) < 0:
		return a, fmt.Errorf("gateway: API.Limits %+v: must not be negative", *l)
	}
	return a, nil
}

// integrations makes the integrations of the routes, and that of the authorizer, nil if
// there is none.
func (a API) integrations() (routes map[string]*integration, authorizer *integration, err error) {
	routes = map[string]*integration{}
	shared := map[lambda.Invoker]*integration{}
	integrationOf := func(fn lambda.Invoker) *integration {
		if !reflect.TypeOf(fn).Comparable() { // a Func
			return newIntegration(fn)
		}
		if shared[fn] == nil {
			shared[fn] = newIntegration(fn)
		}
		return shared[fn]
	}
	var fallback *integration
	if a.Integration != nil {
		fallback = integrationOf(a.Integration)
		routes[RouteConnect], routes[RouteDisconnect], routes[RouteDefault] = fallback, fallback, fallback
	}
	for key, fn := range a.Routes {
		switch {
		case key == "" || key[0] == '$' && key != RouteConnect && key != RouteDisconnect && key != RouteDefault:
			return nil, nil, fmt.Errorf("gateway: API.Routes: %q is no route key", key)
		case fn == nil && fallback == nil:
			return nil, nil, fmt.Errorf("gateway: API.Routes: %q has no integration", key)
		case fn == nil:
			routes[key] = fallback
		default:
			routes[key] = integrationOf(fn)
		}
	}
	for _, key := range a.RouteResponses {
		if routes[key] == nil || key == RouteConnect || key == RouteDisconnect {
			return nil, nil, fmt.Errorf("gateway: API.RouteResponses: %q is no route of messages", key)
		}
	}
	if a.Authorizer != nil {
		if routes[RouteConnect] == nil {
			return nil, nil, errors.New("gateway: API.Authorizer: there is no route $connect to authorize")
		}
		authorizer = integrationOf(a.Authorizer)
	}
	return routes, authorizer, nil
}
