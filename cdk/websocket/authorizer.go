package websocket

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapigatewayv2authorizers"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
	"github.com/fogfish/swarm/cdk/internal/construct"
)

// AuthorizerApiKeyProps are an API key that clients show in the query string, as apikey. See
// package broker/websocket/authorizer.
type AuthorizerApiKeyProps struct {
	// Access is the name of the client, and Secret what it knows. Both are in the template,
	// unless Secret is a reference that CloudFormation resolves:
	//
	//	*awscdk.SecretValue_SecretsManager(jsii.String("chat"), nil).UnsafeUnwrap()
	Access, Secret string
	// Scope is all that the client may ask for: names, separated by spaces.
	Scope string
}

// AuthorizerJwtProps are tokens that clients show in the query string, as token. See package
// broker/websocket/authorizer.
type AuthorizerJwtProps struct {
	// Issuer and Audience are claims of the token, to the character.
	Issuer, Audience string
	// JWKS is where the keys of the issuer are. Default: /.well-known/jwks.json of the issuer.
	JWKS string
}

// AuthorizerUniversalProps are both. A client shows either.
type AuthorizerUniversalProps struct {
	AuthorizerApiKey *AuthorizerApiKeyProps
	AuthorizerJwt    *AuthorizerJwtProps
}

// NewAuthorizerApiKey lets in clients that have the key.
func (b *Broker) NewAuthorizerApiKey(props *AuthorizerApiKeyProps) awsapigatewayv2.IWebSocketRouteAuthorizer {
	if props == nil {
		construct.Fail(b.Construct, "AuthorizerApiKeyProps", "is missing")
	}
	return b.authorizer("AuthorizerApiKeyProps", props, nil, "route.request.querystring.apikey")
}

// NewAuthorizerJwt lets in clients that have a token.
func (b *Broker) NewAuthorizerJwt(props *AuthorizerJwtProps) awsapigatewayv2.IWebSocketRouteAuthorizer {
	if props == nil {
		construct.Fail(b.Construct, "AuthorizerJwtProps", "is missing")
	}
	return b.authorizer("AuthorizerJwtProps", nil, props, "route.request.querystring.token")
}

// NewAuthorizerUniversal lets in clients that have either.
func (b *Broker) NewAuthorizerUniversal(props *AuthorizerUniversalProps) awsapigatewayv2.IWebSocketRouteAuthorizer {
	switch {
	case props == nil:
		construct.Fail(b.Construct, "AuthorizerUniversalProps", "is missing")
	case props.AuthorizerApiKey == nil:
		construct.Fail(b.Construct, "AuthorizerUniversalProps.AuthorizerApiKey", "is missing: NewAuthorizerJwt is for tokens alone")
	case props.AuthorizerJwt == nil:
		construct.Fail(b.Construct, "AuthorizerUniversalProps.AuthorizerJwt", "is missing: NewAuthorizerApiKey is for a key alone")
	}
	// API Gateway would want all sources of a request, and clients have one of the two.
	return b.authorizer("AuthorizerUniversalProps", props.AuthorizerApiKey, props.AuthorizerJwt)
}

func (b *Broker) authorizer(property string, key *AuthorizerApiKeyProps, jwt *AuthorizerJwtProps, source ...string) awsapigatewayv2.IWebSocketRouteAuthorizer {
	switch {
	case b.Gateway != nil:
		construct.Fail(b.Construct, property, "the gateway is there already: make its authorizer before")
	case b.Authorizer != nil:
		construct.Fail(b.Construct, property, "there is an authorizer already: NewAuthorizerUniversal takes a key and tokens")
	}
	env := map[string]*string{}
	set := func(name, value string) {
		if value != "" {
			env["CONFIG_SWARM_WS_AUTHORIZER_"+name] = jsii.String(value)
		}
	}
	opts := []authorizer.Option{}
	if key != nil {
		// What is known at deployment only is checked when the function starts.
		opts = append(opts, authorizer.WithAPIKey(known(key.Access), known(key.Secret), known(key.Scope)))
		set("ACCESS", key.Access)
		set("SECRET", key.Secret)
		set("SCOPE", key.Scope)
	}
	if jwt != nil {
		opts = append(opts, authorizer.WithJWT(known(jwt.Issuer), known(jwt.Audience)))
		if !unknown(jwt.Issuer) && jwt.JWKS != "" {
			opts = append(opts, authorizer.WithJWKS(known(jwt.JWKS)))
		}
		set("ISS", jwt.Issuer)
		set("AUD", jwt.Audience)
		set("JWKS", jwt.JWKS)
	}
	if jwt == nil || !unknown(jwt.Issuer) && !unknown(jwt.JWKS) {
		if _, err := authorizer.New(opts...); err != nil {
			construct.Fail(b.Construct, property, "%v", err)
		}
	}

	f := construct.Function{
		Property: property,
		Props: &scud.FunctionGoProps{
			FunctionProps: &awslambda.FunctionProps{
				// The issuer has 5 s to answer.
				Timeout:     awscdk.Duration_Seconds(jsii.Number(10)),
				Environment: &env,
			},
			SourceCodeModule: "github.com/fogfish/swarm/broker/websocket/authorizer",
			SourceCodeLambda: "cmd/authorizer",
		},
		Identity: b.identity,
	}.New(construct.New("websocket.NewAuthorizer", b.Construct, jsii.String("Authorizer")), "Function")
	b.Authorizer = awsapigatewayv2authorizers.NewWebSocketLambdaAuthorizer(jsii.String("Authorizer"), f,
		&awsapigatewayv2authorizers.WebSocketLambdaAuthorizerProps{IdentitySource: jsii.Strings(source...)})
	return b.Authorizer
}

func unknown(s string) bool { return *awscdk.Token_IsUnresolved(s) }

func known(s string) string {
	if unknown(s) {
		return "known-later"
	}
	return s
}
