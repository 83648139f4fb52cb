// Package websocket has the constructs of AWS CDK for WebSocket APIs of AWS API Gateway whose
// messages are consumed by functions of AWS Lambda, by package broker/websocket: create a
// broker, an authorizer, the gateway, and attach sinks.
//
//	broker := websocket.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewAuthorizerJwt(&websocket.AuthorizerJwtProps{
//		Issuer:   "https://issuer.example.com",
//		Audience: "chat",
//	})
//	broker.NewGateway(nil)
//	broker.NewSink(&websocket.SinkProps{
//		Route: "Say",
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/chat",
//			SourceCodeLambda: "cmd/say",
//		},
//	})
//
// A message comes by the route that its field action has: {"action":"Say",…}, see
// RouteSelectionExpression. The route is its category. A function that wants to know who
// comes and goes has the routes $connect and $disconnect as well: SinkProps.Routes, or
// WebSocketApiProps.Connect and Disconnect.
//
// # Defaults
//
//	gateway    open to everyone, unless there is an authorizer; one stage, ws, deployed
//	           by itself, for 1,000 messages a second and bursts of 2,000
//	authorizer a function of 10 seconds that needs no permissions
//	sink       a timeout of 29 seconds, since API Gateway waits no longer
//	           may post to the connections of the stage, to reply
//
// The properties of the CDK override each of them. Which are those of all functions, and how
// they are built, is said at package cdk.
package websocket

import (
	"fmt"
	"slices"
	"sync"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2integrations"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53targets"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"

	"github.com/fogfish/swarm/cdk/internal/construct"
)

// Routes that API Gateway has by itself.
const (
	RouteConnect    = "$connect"
	RouteDisconnect = "$disconnect"
	RouteDefault    = "$default"
)

// integration is how long API Gateway waits for a function, in seconds.
const integration = 29

// BrokerProps are defaults for the functions of all sinks.
type BrokerProps struct {
	// Agent is who the functions are when they emit. Default: the name of the stack.
	Agent string
	// Realm is where they do. Default: none.
	Realm string
}

// Broker is a WebSocket API and its sinks.
type Broker struct {
	constructs.Construct
	// Authorizer is what NewAuthorizerApiKey, NewAuthorizerJwt and NewAuthorizerUniversal set.
	// Another one may be set before NewGateway.
	Authorizer awsapigatewayv2.IWebSocketRouteAuthorizer
	// Gateway and Stage are what NewGateway sets.
	Gateway awsapigatewayv2.WebSocketApi
	Stage   awsapigatewayv2.WebSocketStage
	// Domain is what NewGateway sets for a Host.
	Domain awsapigatewayv2.DomainName

	identity construct.Identity
	routes   map[string]bool
}

// NewBroker makes a broker, which needs a gateway.
func NewBroker(scope constructs.Construct, id *string, props *BrokerProps) *Broker {
	b := &Broker{Construct: construct.New("websocket.NewBroker", scope, id), routes: map[string]bool{}}
	if props != nil {
		b.identity = construct.Identity(*props)
	}
	return b
}

func (b *Broker) stage() awsapigatewayv2.WebSocketStage {
	construct.Need(b.Construct, "Gateway", b.Gateway != nil && b.Stage != nil, "NewGateway")
	return b.Stage
}

// WebSocketApiProps are those of a gateway. None is required.
type WebSocketApiProps struct {
	*awsapigatewayv2.WebSocketApiProps

	// Connect and Disconnect are functions for clients that come and go. A gateway with an
	// authorizer and without a function for $connect gets one that lets everyone in whom the
	// authorizer does: API Gateway asks an authorizer only where there is such a route.
	Connect, Disconnect scud.FunctionProps

	// StageName is the last part of the address of the API. Default: ws.
	StageName string
	// Throttle is how many messages of all clients together the stage takes. Default: 1,000 a
	// second, bursts of 2,000.
	Throttle *awsapigatewayv2.ThrottleSettings

	// Host is the name under which clients know the API, and TlsArn its certificate, in the
	// region of the API.
	Host, TlsArn *string
	// HostedZone gets a record for Host. Default: none; the record has to be made elsewhere,
	// as an alias of the RegionalDomainName of Domain.
	HostedZone awsroute53.IHostedZone
}

// NewGateway makes the API and its stage. What should authorize its clients has to be there
// before.
func (b *Broker) NewGateway(props *WebSocketApiProps) awsapigatewayv2.WebSocketApi {
	construct.Vacant(b.Construct, "Gateway", b.Gateway != nil)
	p := WebSocketApiProps{}
	if props != nil {
		p = *props
	}
	api := awsapigatewayv2.WebSocketApiProps{}
	if p.WebSocketApiProps != nil {
		api = *p.WebSocketApiProps
	}
	switch {
	case (p.Host == nil) != (p.TlsArn == nil):
		construct.Fail(b.Construct, "WebSocketApiProps.Host", "Host and TlsArn go together: a name needs its certificate")
	case p.HostedZone != nil && p.Host == nil:
		construct.Fail(b.Construct, "WebSocketApiProps.HostedZone", "is there without a Host")
	case p.Connect != nil && api.ConnectRouteOptions != nil:
		construct.Fail(b.Construct, "WebSocketApiProps.Connect", "contradicts ConnectRouteOptions")
	case p.Disconnect != nil && api.DisconnectRouteOptions != nil:
		construct.Fail(b.Construct, "WebSocketApiProps.Disconnect", "contradicts DisconnectRouteOptions")
	}
	if o := api.ConnectRouteOptions; o != nil {
		route := *o
		construct.Default(&route.Authorizer, func() awsapigatewayv2.IWebSocketRouteAuthorizer { return b.Authorizer })
		if b.Authorizer != nil && route.Authorizer != b.Authorizer {
			construct.Fail(b.Construct, "WebSocketApiProps.ConnectRouteOptions", "has an authorizer, and so has the broker")
		}
		api.ConnectRouteOptions = &route
	}
	construct.Default(&api.ApiName, awscdk.Stack_Of(b.Construct).StackName)
	b.routes[RouteConnect] = api.ConnectRouteOptions != nil
	b.routes[RouteDisconnect] = api.DisconnectRouteOptions != nil
	b.routes[RouteDefault] = api.DefaultRouteOptions != nil

	b.Gateway = construct.Try(b.Construct, "WebSocketApiProps", func() awsapigatewayv2.WebSocketApi {
		return awsapigatewayv2.NewWebSocketApi(b.Construct, jsii.String("Gateway"), &api)
	})
	b.newStage(&p)
	if p.Connect != nil {
		b.sink(*construct.FreeID(b.Construct, "Connect"), &SinkProps{Route: RouteConnect, Function: p.Connect}, "WebSocketApiProps.Connect")
	}
	if p.Disconnect != nil {
		b.sink(*construct.FreeID(b.Construct, "Disconnect"), &SinkProps{Route: RouteDisconnect, Function: p.Disconnect}, "WebSocketApiProps.Disconnect")
	}
	// A sink may still come for $connect: whether there is one shows at the end.
	end := &connector{broker: b, authorizer: b.Authorizer}
	awscdk.Aspects_Of(b.Construct).Add(end, nil)
	b.Node().AddValidation(end)
	return b.Gateway
}

func (b *Broker) newStage(p *WebSocketApiProps) {
	construct.Default(&p.StageName, func() string { return "ws" })
	construct.Default(&p.Throttle, func() *awsapigatewayv2.ThrottleSettings {
		return &awsapigatewayv2.ThrottleSettings{RateLimit: jsii.Number(1000), BurstLimit: jsii.Number(2000)}
	})
	stage := &awsapigatewayv2.WebSocketStageProps{
		AutoDeploy:   jsii.Bool(true),
		StageName:    &p.StageName,
		Throttle:     p.Throttle,
		WebSocketApi: b.Gateway,
	}
	if p.Host != nil {
		b.Domain = construct.Try(b.Construct, "WebSocketApiProps.Host", func() awsapigatewayv2.DomainName {
			return awsapigatewayv2.NewDomainName(b.Construct, jsii.String("Domain"), &awsapigatewayv2.DomainNameProps{
				DomainName:  p.Host,
				Certificate: awscertificatemanager.Certificate_FromCertificateArn(b.Construct, jsii.String("Certificate"), p.TlsArn),
			})
		})
		stage.DomainMapping = &awsapigatewayv2.DomainMappingOptions{DomainName: b.Domain}
	}
	b.Stage = construct.Try(b.Construct, "WebSocketApiProps.StageName", func() awsapigatewayv2.WebSocketStage {
		return awsapigatewayv2.NewWebSocketStage(b.Construct, jsii.String("Stage"), stage)
	})
	if p.HostedZone != nil {
		awsroute53.NewARecord(b.Construct, jsii.String("Record"), &awsroute53.ARecordProps{
			Zone:       p.HostedZone,
			RecordName: p.Host,
			Target: awsroute53.RecordTarget_FromAlias(awsroute53targets.NewApiGatewayv2DomainProperties(
				b.Domain.RegionalDomainName(), b.Domain.RegionalHostedZoneId())),
		})
	}
}

// connector is the aspect that makes the function of $connect if nothing else is there for
// the authorizer to guard, and the validation that tells why it could not: a panic in what
// the CDK calls would leave its process waiting for the answer.
type connector struct {
	broker     *Broker
	authorizer awsapigatewayv2.IWebSocketRouteAuthorizer
	once       sync.Once
	errs       []*string
}

// Visit is called by the CDK, first with the broker.
func (c *connector) Visit(constructs.IConstruct) { c.once.Do(c.connect) }

// Validate is called by the CDK when all aspects were.
func (c *connector) Validate() *[]*string { return &c.errs }

func (c *connector) connect() {
	defer func() {
		if r := recover(); r != nil {
			c.errs = append(c.errs, new(fmt.Sprint(r)))
			// For who synthesizes without validation.
			awscdk.Annotations_Of(c.broker.Construct).AddError(new(fmt.Sprint(r)))
		}
	}()
	b := c.broker
	if b.Authorizer != c.authorizer {
		construct.Fail(b.Construct, "Broker.Authorizer", "was set after NewGateway: the API would be open")
	}
	if b.Authorizer != nil && !b.routes[RouteConnect] {
		b.sink(*construct.FreeID(b.Construct, "Connect"), &SinkProps{Route: RouteConnect, quiet: true, Function: &scud.FunctionGoProps{
			SourceCodeModule: "github.com/fogfish/swarm/cdk",
			SourceCodeLambda: "websocket/connector",
		}}, "WebSocketApiProps.Connect")
	}
}

// NewSink makes a function for messages of a route, or of several.
func (b *Broker) NewSink(props *SinkProps) *Sink {
	b.stage()
	if props == nil {
		construct.Fail(b.Construct, "SinkProps", "is missing")
	}
	p := *props
	return b.sink(*construct.FunctionID(b.Construct, p.Function), &p, "SinkProps.Function")
}

func (b *Broker) sink(id string, p *SinkProps, property string) *Sink {
	if p.Gateway != nil && p.Gateway != b.Gateway {
		construct.Fail(b.Construct, "SinkProps.Gateway", "is not the gateway of the broker: leave it out")
	}
	p.Gateway, p.Stage = b.Gateway, b.Stage
	if p.Authorizer == nil && slices.Contains(p.all(), RouteConnect) {
		p.Authorizer = b.Authorizer
	}
	for _, route := range p.all() {
		if b.routes[route] {
			construct.Fail(b.Construct, "SinkProps.Route", "%s has a function already", route)
		}
		b.routes[route] = true
	}
	who := construct.Identity{Agent: p.Agent, Realm: p.Realm}.Or(b.identity)
	p.Agent, p.Realm = who.Agent, who.Realm
	return newSink(b.Construct, &id, p, property)
}

// GrantWrite lets the function post to the connections of the stage, by
// websocket.Emitter().Build("").
func (b *Broker) GrantWrite(f awslambda.Function) {
	stage := b.stage()
	post(b.Gateway, stage, f)
	construct.Setenv(f, "GrantWrite", construct.EnvTargetWS, stage.CallbackUrl())
}

// post lets the function send to the clients of the stage, and not ask or disconnect them, as
// the grant of the CDK would.
func post(api awsapigatewayv2.WebSocketApi, stage awsapigatewayv2.WebSocketStage, f awslambda.Function) {
	construct.Grant(f, awscdk.Stack_Of(api).FormatArn(&awscdk.ArnComponents{
		Service:      jsii.String("execute-api"),
		Resource:     api.ApiId(),
		ResourceName: jsii.String(*stage.StageName() + "/POST/@connections/*"),
	}), "execute-api:ManageConnections")
}

// GrantRead tells the function which API it is. There is nothing to allow: API Gateway
// invokes the function of a sink.
func (b *Broker) GrantRead(f awslambda.Function) {
	construct.Setenv(f, "GrantRead", construct.EnvSourceWS, b.stage().CallbackUrl())
}

// SinkProps are those of a sink. Function and one of Route and Routes are required, and
// Gateway and Stage where there is no broker.
type SinkProps struct {
	// Route is one that the function is invoked for, and the category of its messages.
	Route string
	// Routes are others.
	Routes []string
	// Category is that of messages of the route $default, which have none.
	Category string

	Function scud.FunctionProps

	Gateway awsapigatewayv2.WebSocketApi
	Stage   awsapigatewayv2.WebSocketStage
	// Authorizer guards the route $connect. Default: the one of the broker.
	Authorizer awsapigatewayv2.IWebSocketRouteAuthorizer

	// Agent and Realm are those of the broker, if they are not set.
	Agent, Realm string

	quiet bool // posts to nobody
}

func (p *SinkProps) all() []string {
	if p.Route == "" {
		return p.Routes
	}
	return append([]string{p.Route}, p.Routes...)
}

// Sink is a function that consumes messages of clients.
type Sink struct {
	constructs.Construct
	Handler awslambda.Function
}

// NewSink makes a function for messages of a route, or of several. Its environment has the
// API, for websocket.Endpoint().Build("").
func NewSink(scope constructs.Construct, id *string, props *SinkProps) *Sink {
	if props == nil {
		construct.Fail(scope, "SinkProps", "is missing")
	}
	return newSink(scope, id, props, "SinkProps.Function")
}

func newSink(scope constructs.Construct, id *string, props *SinkProps, property string) *Sink {
	s := &Sink{Construct: construct.New("websocket.NewSink", scope, id)}
	routes := props.all()
	switch {
	case props.Gateway == nil:
		construct.Fail(s.Construct, "SinkProps.Gateway", "is missing")
	case props.Stage == nil:
		construct.Fail(s.Construct, "SinkProps.Stage", "is missing")
	case len(routes) == 0:
		construct.Fail(s.Construct, "SinkProps.Route", "is missing")
	case props.Authorizer != nil && !slices.Contains(routes, RouteConnect):
		construct.Fail(s.Construct, "SinkProps.Authorizer", "guards the route $connect, which the sink has not: let the broker make it before the gateway, or give it to the sink of $connect")
	case props.Category != "" && !slices.Contains(routes, RouteDefault):
		construct.Fail(s.Construct, "SinkProps.Category", "%s: only messages of $default have no category of their own", props.Category)
	}
	env := map[string]*string{}
	if !props.quiet {
		env[construct.EnvSourceWS], env[construct.EnvTargetWS] = props.Stage.CallbackUrl(), props.Stage.CallbackUrl()
	}
	if props.Category != "" {
		env[construct.EnvCategoryWS] = &props.Category
	}
	s.Handler = construct.Function{
		Property: property,
		Props:    props.Function,
		Identity: construct.Identity{Agent: props.Agent, Realm: props.Realm},
		Env:      env,
		Timeout:  integration,
	}.New(s.Construct, "Function")
	if t, known := construct.Seconds(s.Handler.Timeout()); known && t > integration {
		construct.Warn(s.Construct, "timeout", "the timeout of the function is %v s, and API Gateway gives up after %v s", t, integration)
	}
	if !props.quiet {
		post(props.Gateway, props.Stage, s.Handler)
	}
	for _, route := range routes {
		options := &awsapigatewayv2.WebSocketRouteOptions{
			Integration: awsapigatewayv2integrations.NewWebSocketLambdaIntegration(jsii.String("Integration"), s.Handler, nil),
		}
		if route == RouteConnect {
			options.Authorizer = props.Authorizer
		}
		construct.Try(s.Construct, "SinkProps.Route", func() any {
			props.Gateway.AddRoute(&route, options)
			return nil
		})
	}
	return s
}
