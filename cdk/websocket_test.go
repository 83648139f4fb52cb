package cdk_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2authorizers"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2integrations"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/jsii-runtime-go"

	"github.com/fogfish/swarm/cdk/websocket"
)

func newWebSocket(t *testing.T) (awscdk.Stack, *websocket.Broker) {
	stack := newStack(t)
	return stack, websocket.NewBroker(stack, new("Broker"), nil)
}

// routes are those of the API, by their keys.
func routes(x *template) map[string]object {
	out := map[string]object{}
	for _, r := range x.all("AWS::ApiGatewayV2::Route") {
		out[r["RouteKey"].(string)] = r
	}
	return out
}

func TestWebSocketOpen(t *testing.T) {
	stack, b := newWebSocket(t)
	b.NewGateway(&websocket.WebSocketApiProps{
		WebSocketApiProps: &awsapigatewayv2.WebSocketApiProps{ApiName: new("chat"), RouteSelectionExpression: new("$request.body.kind")},
		StageName:         "prod",
		Throttle:          &awsapigatewayv2.ThrottleSettings{RateLimit: jsii.Number(5), BurstLimit: jsii.Number(7)},
	})
	b.NewSink(&websocket.SinkProps{Route: websocket.RouteDefault, Category: "Note", Function: function()})
	x := synth(t, stack)
	x.leastPrivilege()
	x.functions()
	expect(t, x.one("AWS::ApiGatewayV2::Api"), "Name", `"chat"`)
	expect(t, x.one("AWS::ApiGatewayV2::Api"), "RouteSelectionExpression", `"$request.body.kind"`)
	expect(t, x.one("AWS::ApiGatewayV2::Stage"), "StageName", `"prod"`)
	expect(t, x.one("AWS::ApiGatewayV2::Stage"), "DefaultRouteSettings", `{"ThrottlingBurstLimit":7,"ThrottlingRateLimit":5}`)
	expect(t, x.one("AWS::ApiGatewayV2::Route"), "RouteKey", `"$default"`)
	env := x.one("AWS::Lambda::Function")["Environment"]
	expect(t, env, "Variables/CONFIG_SWARM_WS_EVENT_CATEGORY", `"Note"`)
	for _, name := range []string{"SOURCE", "TARGET"} {
		if got := marshal(t, env.(object)["Variables"].(object)["CONFIG_SWARM_"+name+"_WS_URL"]); !strings.Contains(got, `"https://"`) || !strings.Contains(got, `"/prod"`) {
			t.Errorf("%s is %s", name, got)
		}
	}
}

// The authorizer guards $connect, whoever has it.
func TestWebSocketAuthorizers(t *testing.T) {
	key := &websocket.AuthorizerApiKeyProps{Access: "ada", Secret: "lovelace"}
	jwt := &websocket.AuthorizerJwtProps{Issuer: "https://issuer.example.com", Audience: "chat", JWKS: "https://keys.example.com/all"}
	for name, c := range map[string]struct {
		make   func(*websocket.Broker)
		source string
		env    map[string]string
	}{
		"key": {func(b *websocket.Broker) { b.NewAuthorizerApiKey(key) }, `["route.request.querystring.apikey"]`, map[string]string{"ACCESS": `"ada"`, "SECRET": `"lovelace"`, "ISS": `null`}},
		"jwt": {func(b *websocket.Broker) { b.NewAuthorizerJwt(jwt) }, `["route.request.querystring.token"]`, map[string]string{"ACCESS": `null`, "ISS": `"https://issuer.example.com"`, "AUD": `"chat"`, "JWKS": `"https://keys.example.com/all"`}},
		"universal": {func(b *websocket.Broker) {
			b.NewAuthorizerUniversal(&websocket.AuthorizerUniversalProps{AuthorizerApiKey: key, AuthorizerJwt: jwt})
		}, `[]`, map[string]string{"ACCESS": `"ada"`, "AUD": `"chat"`}},
	} {
		t.Run(name, func(t *testing.T) {
			stack, b := newWebSocket(t)
			c.make(b)
			b.NewGateway(nil)
			s := b.NewSink(&websocket.SinkProps{Route: "$connect", Routes: []string{"$disconnect", "Say"}, Function: function()})
			x := synth(t, stack)
			x.leastPrivilege()
			x.functions()
			expect(t, x.one("AWS::ApiGatewayV2::Authorizer"), "IdentitySource", c.source)
			r := routes(x)
			if len(r) != 3 || len(x.all("AWS::Lambda::Function")) != 2 {
				t.Errorf("routes %v, and %d functions", r, len(x.all("AWS::Lambda::Function")))
			}
			expect(t, r["$connect"], "AuthorizationType", `"CUSTOM"`)
			expect(t, r["$disconnect"], "AuthorizationType", `"NONE"`)
			expect(t, r["Say"], "AuthorizationType", `"NONE"`)
			f := x.resources[x.name("AWS::Lambda::Function", "Authorizer")]
			for name, want := range c.env {
				expect(t, f, "Properties/Environment/Variables/CONFIG_SWARM_WS_AUTHORIZER_"+name, want)
			}
			expect(t, f, "Properties/Timeout", `10`)
			if s.Handler == nil {
				t.Error("no handler")
			}
		})
	}
}

func TestWebSocketConnect(t *testing.T) {
	for name, props := range map[string]*websocket.WebSocketApiProps{
		"functions": {Connect: function(), Disconnect: function()},
		"options":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			stack, b := newWebSocket(t)
			b.NewAuthorizerApiKey(&websocket.AuthorizerApiKeyProps{Access: "ada", Secret: "lovelace"})
			if props == nil {
				route := func() *awsapigatewayv2.WebSocketRouteOptions {
					f := awslambda.Function_FromFunctionName(stack, new("F"+name), new("f"))
					name += "x"
					return &awsapigatewayv2.WebSocketRouteOptions{Integration: awsapigatewayv2integrations.NewWebSocketLambdaIntegration(new("I"), f, nil)}
				}
				props = &websocket.WebSocketApiProps{WebSocketApiProps: &awsapigatewayv2.WebSocketApiProps{ConnectRouteOptions: route(), DisconnectRouteOptions: route()}}
			}
			b.NewGateway(props)
			x := synth(t, stack)
			r := routes(x)
			if len(r) != 2 {
				t.Errorf("routes %v", r)
			}
			expect(t, r["$connect"], "AuthorizationType", `"CUSTOM"`)
			expect(t, r["$disconnect"], "AuthorizationType", `"NONE"`)
			fails(t, func() { b.NewSink(&websocket.SinkProps{Route: "$connect", Function: function()}) }, "$connect has a function already")
			fails(t, func() { b.NewSink(&websocket.SinkProps{Route: "$disconnect", Function: function()}) }, "$disconnect has a function already")
		})
	}
}

func TestWebSocketSecretOfASecretsManager(t *testing.T) {
	stack, b := newWebSocket(t)
	secret := awscdk.SecretValue_SecretsManager(new("chat"), nil)
	b.NewAuthorizerApiKey(&websocket.AuthorizerApiKeyProps{Access: "ada", Secret: *secret.UnsafeUnwrap()})
	b.NewGateway(nil)
	x := synth(t, stack)
	f := x.resources[x.name("AWS::Lambda::Function", "Authorizer")]
	expect(t, f, "Properties/Environment/Variables/CONFIG_SWARM_WS_AUTHORIZER_SECRET", `"{{resolve:secretsmanager:chat:SecretString:::}}"`)
}

func TestWebSocketDomain(t *testing.T) {
	stack, b := newWebSocket(t)
	b.NewGateway(&websocket.WebSocketApiProps{
		Host:   new("chat.example.com"),
		TlsArn: new("arn:aws:acm:eu-west-1:000000000000:certificate/1"),
		HostedZone: awsroute53.HostedZone_FromHostedZoneAttributes(stack, new("Zone"), &awsroute53.HostedZoneAttributes{
			HostedZoneId: new("Z1"), ZoneName: new("example.com"),
		}),
	})
	x := synth(t, stack)
	expect(t, x.one("AWS::ApiGatewayV2::DomainName"), "DomainName", `"chat.example.com"`)
	expect(t, x.one("AWS::ApiGatewayV2::ApiMapping"), "Stage", `"ws"`)
	if got := marshal(t, x.resources[x.name("AWS::ApiGatewayV2::ApiMapping", "")]["DependsOn"]); !strings.Contains(got, "Stage") {
		t.Errorf("the mapping depends on %s", got)
	}
	expect(t, x.one("AWS::Route53::RecordSet"), "Name", `"chat.example.com."`)
}

func TestWebSocketWithoutABroker(t *testing.T) {
	stack := newStack(t)
	api := awsapigatewayv2.NewWebSocketApi(stack, new("Api"), nil)
	stage := awsapigatewayv2.NewWebSocketStage(stack, new("Stage"), &awsapigatewayv2.WebSocketStageProps{WebSocketApi: api, StageName: new("s"), AutoDeploy: jsii.Bool(true)})
	websocket.NewSink(stack, new("Sink"), &websocket.SinkProps{Gateway: api, Stage: stage, Route: "Say", Function: function()})
	x := synth(t, stack)
	x.leastPrivilege()
	x.functions()
	expect(t, x.one("AWS::ApiGatewayV2::Route"), "RouteKey", `"Say"`)
	sink := func(p websocket.SinkProps) func() {
		return func() { p.Function = function(); websocket.NewSink(newStack(t), new("Sink"), &p) }
	}
	fails(t, sink(websocket.SinkProps{Stage: stage, Route: "Say"}), "construct test/Sink: SinkProps.Gateway: is missing")
	fails(t, sink(websocket.SinkProps{Gateway: api, Route: "Say"}), "SinkProps.Stage: is missing")
	fails(t, sink(websocket.SinkProps{Gateway: api, Stage: stage}), "SinkProps.Route: is missing")
	fails(t, sink(websocket.SinkProps{Gateway: api, Stage: stage, Route: "Say"}), "SinkProps.Route: ", "already a Construct")
	fails(t, func() { websocket.NewSink(stack, new("S"), nil) }, "SinkProps: is missing")
}

func TestWebSocketTimeout(t *testing.T) {
	stack, b := newWebSocket(t)
	b.NewGateway(nil)
	b.NewSink(&websocket.SinkProps{Route: "Say", Function: function(&awslambda.FunctionProps{Timeout: seconds(30)})})
	if got := warnings(t, stack); !strings.Contains(got, "API Gateway gives up after 29 s") {
		t.Errorf("warnings %q", got)
	}
}

func TestWebSocketErrors(t *testing.T) {
	key := &websocket.AuthorizerApiKeyProps{Access: "ada", Secret: "lovelace"}
	gateway := func(p websocket.WebSocketApiProps) func(*websocket.Broker) {
		return func(b *websocket.Broker) { b.NewGateway(&p) }
	}
	options := &awsapigatewayv2.WebSocketApiProps{ConnectRouteOptions: &awsapigatewayv2.WebSocketRouteOptions{}, DisconnectRouteOptions: &awsapigatewayv2.WebSocketRouteOptions{}}
	for name, c := range map[string]struct {
		f    func(*websocket.Broker)
		want string
	}{
		"no gateway":   {func(b *websocket.Broker) { b.NewSink(nil) }, "construct test/Broker: Broker.Gateway: there is no gateway: call NewGateway first"},
		"grant":        {func(b *websocket.Broker) { b.GrantWrite(nil) }, "there is no gateway"},
		"two gateways": {func(b *websocket.Broker) { b.NewGateway(nil); b.NewGateway(nil) }, "there is a gateway already"},
		"no props":     {func(b *websocket.Broker) { b.NewGateway(nil); b.NewSink(nil) }, "SinkProps: is missing"},
		"no function":  {func(b *websocket.Broker) { b.NewGateway(nil); b.NewSink(&websocket.SinkProps{Route: "Say"}) }, "SinkProps.Function: is missing"},
		"no route":     {func(b *websocket.Broker) { b.NewGateway(nil); b.NewSink(&websocket.SinkProps{Function: function()}) }, "SinkProps.Route: is missing"},
		"category of others": {func(b *websocket.Broker) {
			b.NewGateway(nil)
			b.NewSink(&websocket.SinkProps{Route: "Say", Category: "Note", Function: function()})
		}, "SinkProps.Category: Note: only messages of $default"},
		"route twice": {func(b *websocket.Broker) {
			b.NewGateway(nil)
			b.NewSink(&websocket.SinkProps{Route: "Say", Routes: []string{"Say"}, Function: function()})
		}, "SinkProps.Route: Say has a function already"},
		"authorizer of another route": {func(b *websocket.Broker) {
			b.NewGateway(nil)
			auth := websocket.NewBroker(b.Construct, new("Other"), nil).NewAuthorizerApiKey(key)
			b.NewSink(&websocket.SinkProps{Route: "Say", Function: function(), Authorizer: auth})
		}, "SinkProps.Authorizer: guards the route $connect, which the sink has not"},
		"late authorizer": {func(b *websocket.Broker) { b.NewGateway(nil); b.NewAuthorizerApiKey(key) }, "AuthorizerApiKeyProps: the gateway is there already"},
		"two authorizers": {func(b *websocket.Broker) { b.NewAuthorizerApiKey(key); b.NewAuthorizerApiKey(key) }, "AuthorizerApiKeyProps: there is an authorizer already"},
		"no key":          {func(b *websocket.Broker) { b.NewAuthorizerApiKey(nil) }, "AuthorizerApiKeyProps: is missing"},
		"no secret":       {func(b *websocket.Broker) { b.NewAuthorizerApiKey(&websocket.AuthorizerApiKeyProps{Access: "ada"}) }, "construct test/Broker: AuthorizerApiKeyProps: authorizer: WithAPIKey: access and secret must not be empty"},
		"no jwt":          {func(b *websocket.Broker) { b.NewAuthorizerJwt(nil) }, "AuthorizerJwtProps: is missing"},
		"no audience": {func(b *websocket.Broker) {
			b.NewAuthorizerJwt(&websocket.AuthorizerJwtProps{Issuer: "https://x.example"})
		}, "AuthorizerJwtProps: authorizer: WithJWT: issuer and audience"},
		"issuer of http": {func(b *websocket.Broker) {
			b.NewAuthorizerJwt(&websocket.AuthorizerJwtProps{Issuer: "http://x.example", Audience: "a"})
		}, "must be of https"},
		"nothing universal": {func(b *websocket.Broker) { b.NewAuthorizerUniversal(nil) }, "AuthorizerUniversalProps: is missing"},
		"half universal": {func(b *websocket.Broker) {
			b.NewAuthorizerUniversal(&websocket.AuthorizerUniversalProps{AuthorizerApiKey: key})
		}, "AuthorizerUniversalProps.AuthorizerJwt: is missing"},
		"other half":       {func(b *websocket.Broker) { b.NewAuthorizerUniversal(&websocket.AuthorizerUniversalProps{}) }, "AuthorizerUniversalProps.AuthorizerApiKey: is missing"},
		"host alone":       {gateway(websocket.WebSocketApiProps{Host: new("x.example")}), "WebSocketApiProps.Host: Host and TlsArn go together"},
		"connect twice":    {gateway(websocket.WebSocketApiProps{WebSocketApiProps: options, Connect: function()}), "WebSocketApiProps.Connect: contradicts"},
		"disconnect twice": {gateway(websocket.WebSocketApiProps{WebSocketApiProps: options, Disconnect: function()}), "WebSocketApiProps.Disconnect: contradicts"},
		"bad stage":        {gateway(websocket.WebSocketApiProps{TlsArn: new("x"), Host: new("")}), "WebSocketApiProps.Host: "},
		"other authorizer": {func(b *websocket.Broker) {
			b.NewAuthorizerApiKey(key)
			b.NewGateway(&websocket.WebSocketApiProps{WebSocketApiProps: &awsapigatewayv2.WebSocketApiProps{ConnectRouteOptions: &awsapigatewayv2.WebSocketRouteOptions{
				Authorizer: awsapigatewayv2authorizers.NewWebSocketIamAuthorizer(),
			}}})
		}, "ConnectRouteOptions: has an authorizer, and so has the broker"},
	} {
		t.Run(name, func(t *testing.T) {
			_, b := newWebSocket(t)
			fails(t, func() { c.f(b) }, c.want)
		})
	}
}

// An API that seems to be guarded is, or is not made.
func TestWebSocketAuthorizerSetTooLate(t *testing.T) {
	stack := newStack(t)
	other := websocket.NewBroker(stack, new("Other"), nil)
	b := websocket.NewBroker(stack, new("Broker"), nil)
	b.NewGateway(nil)
	b.Authorizer = other.NewAuthorizerApiKey(&websocket.AuthorizerApiKeyProps{Access: "ada", Secret: "lovelace"})
	fails(t, func() { synth(t, stack) }, "construct test/Broker: Broker.Authorizer: was set after NewGateway")
	// If it were said by a panic in what the CDK calls, the CDK would wait for the answer, and
	// do all that follows inside of the call, until its stack is full.
	for range 6000 {
		awscdk.Duration_Seconds(new(1.0))
	}
	assembly := awscdk.App_Of(stack).(awscdk.App).Synth(&awscdk.StageSynthesisOptions{SkipValidation: new(true)})
	told := false
	for _, m := range *assembly.GetStackArtifact(stack.ArtifactId()).Messages() {
		told = told || strings.Contains(marshal(t, m.Entry.Data), "was set after NewGateway")
	}
	if !told {
		t.Error("who synthesizes without validation is not told")
	}
}

// The function that is made for the authorizer has an id of its own.
func TestWebSocketSinkCalledConnect(t *testing.T) {
	stack := newStack(t)
	b := websocket.NewBroker(stack, new("Broker"), nil)
	b.NewAuthorizerApiKey(&websocket.AuthorizerApiKeyProps{Access: "ada", Secret: "lovelace"})
	b.NewGateway(nil)
	f := function()
	f.SourceCodeLambda = "cmd/Connect"
	b.NewSink(&websocket.SinkProps{Route: "Say", Function: f})
	if all := routes(synth(t, stack)); all["$connect"] == nil || all["Say"] == nil {
		t.Errorf("routes: %v", all)
	}
}
