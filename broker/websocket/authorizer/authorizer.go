package authorizer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

// Handler is what lambda.Start takes. It is safe for concurrent use.
type Handler func(context.Context, events.APIGatewayCustomAuthorizerRequestTypeRequest) (events.APIGatewayCustomAuthorizerResponse, error)

// ErrUnauthorized refuses a connection. API Gateway knows it by its text.
var ErrUnauthorized = errors.New("Unauthorized")

// Option configures a [Handler].
type Option func(*config)

type config struct {
	env              bool
	keys             []apiKey
	tokens           bool
	issuer, audience string
	jwks             string
	algorithms       []string
	leeway           time.Duration
	client           *http.Client
	log              *slog.Logger
	errs             []error
}

func (c *config) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("authorizer: "+format, args...))
}

// WithJWT accepts tokens of the issuer for the audience: their claims iss and aud must be
// these, to the character. There is one issuer.
func WithJWT(issuer, audience string) Option {
	return func(c *config) {
		switch {
		case issuer == "" || audience == "":
			c.fail("WithJWT: issuer and audience must not be empty")
		case c.tokens:
			c.fail("WithJWT: there is one issuer")
		}
		c.tokens, c.issuer, c.audience = true, issuer, audience
	}
}

// WithJWKS says where the issuer publishes its keys. The URL must be of https, or of this
// host. The default is /.well-known/jwks.json of the issuer, as Auth0 and AWS Cognito have
// it; others name theirs as jwks_uri at /.well-known/openid-configuration.
func WithJWKS(url string) Option { return func(c *config) { c.jwks = url } }

// WithAlgorithms says how tokens may be signed: by any of RS256, RS384, RS512, PS256, PS384,
// PS512, ES256, ES384, ES512 and EdDSA. The default is RS256, PS256, ES256 and EdDSA.
func WithAlgorithms(names ...string) Option {
	return func(c *config) {
		if len(names) == 0 {
			c.fail("WithAlgorithms: no algorithm")
		}
		for _, name := range names {
			if _, ok := algorithms[name]; !ok {
				c.fail("WithAlgorithms: %q is not one of %s", name, strings.Join(algorithmNames(), ", "))
			}
		}
		c.algorithms = slices.Clone(names)
	}
}

// WithLeeway says how far the clock of the issuer may be off: 0 to 5 minutes, by default 1
// minute.
func WithLeeway(d time.Duration) Option {
	return func(c *config) {
		if d < 0 || d > maxLeeway {
			c.fail("WithLeeway: %s is not between 0 and %s", d, maxLeeway)
		}
		c.leeway = d
	}
}

// WithHTTPClient says how the keys of the issuer are asked for. What the client does with
// redirects does not count: they are not followed.
func WithHTTPClient(client *http.Client) Option { return func(c *config) { c.client = client } }

// WithLogger says where refusals and failures are reported. The default is [slog.Default].
func WithLogger(log *slog.Logger) Option { return func(c *config) { c.log = log } }

// The environment of WithConfigFromEnv.
const (
	envAccess   = "CONFIG_SWARM_WS_AUTHORIZER_ACCESS"
	envSecret   = "CONFIG_SWARM_WS_AUTHORIZER_SECRET"
	envScope    = "CONFIG_SWARM_WS_AUTHORIZER_SCOPE"
	envIssuer   = "CONFIG_SWARM_WS_AUTHORIZER_ISS"
	envAudience = "CONFIG_SWARM_WS_AUTHORIZER_AUD"
	envJWKS     = "CONFIG_SWARM_WS_AUTHORIZER_JWKS"
)

// WithConfigFromEnv reads what other options leave open from the environment:
//
//	CONFIG_SWARM_WS_AUTHORIZER_ACCESS, _SECRET   accept this API key,
//	CONFIG_SWARM_WS_AUTHORIZER_SCOPE             which may have this scope
//	CONFIG_SWARM_WS_AUTHORIZER_ISS, _AUD         accept tokens of this issuer and audience,
//	CONFIG_SWARM_WS_AUTHORIZER_JWKS              whose keys are at this URL
func WithConfigFromEnv() Option { return func(c *config) { c.env = true } }

func (c *config) fromEnv() {
	both := func(a, b string) (string, string, bool) {
		va, vb := os.Getenv(a), os.Getenv(b)
		if (va == "") != (vb == "") {
			if va != "" {
				a, b = b, a
			}
			c.fail("%s is set and %s is not", b, a)
		}
		return va, vb, va != "" && vb != ""
	}
	if len(c.keys) == 0 {
		if access, secret, ok := both(envAccess, envSecret); ok {
			WithAPIKey(access, secret, os.Getenv(envScope))(c)
		}
	}
	if !c.tokens {
		if issuer, audience, ok := both(envIssuer, envAudience); ok {
			WithJWT(issuer, audience)(c)
		}
	}
	c.jwks = cmp.Or(c.jwks, os.Getenv(envJWKS))
}

// New makes the handler. It accepts API keys when [WithAPIKey] is among the options, tokens
// when [WithJWT] is, and either with both. It asks nobody: the first token that comes does.
func New(opts ...Option) (Handler, error) {
	c := config{leeway: defaultLeeway, algorithms: defaultAlgorithms}
	for _, opt := range opts {
		opt(&c)
	}
	if c.env {
		c.fromEnv()
	}
	a := &authorizer{keys: c.keys, log: c.log}
	switch {
	case len(c.errs) > 0:
	case c.tokens:
		var err error
		if a.tokens, err = newTokens(&c, a.logger); err != nil {
			c.errs = append(c.errs, err)
		}
	case len(c.keys) == 0:
		c.fail("no credentials to accept: WithAPIKey, WithJWT, or WithConfigFromEnv with %s and %s, or %s and %s", envAccess, envSecret, envIssuer, envAudience)
	}
	if err := errors.Join(c.errs...); err != nil {
		return nil, err
	}
	return a.handle, nil
}

// authorizer is a Handler.
type authorizer struct {
	keys   []apiKey
	tokens *tokens // nil: not accepted
	log    *slog.Logger
}

func (a *authorizer) logger() *slog.Logger {
	if a.log != nil {
		return a.log
	}
	return slog.Default()
}

// identity is who a client has proved to be.
type identity struct {
	principal string
	context   map[string]any
}

// refusal is why credentials do not count. It has nothing of them in it: it is logged.
type refusal string

func (r refusal) Error() string { return string(r) }

// denial is a client that is known, and asks for too much.
type denial struct{ principal string }

func (denial) Error() string { return "the scope is more than the key may have" }

func (a *authorizer) handle(ctx context.Context, req events.APIGatewayCustomAuthorizerRequestTypeRequest) (none events.APIGatewayCustomAuthorizerResponse, _ error) {
	if req.Type != "REQUEST" || req.MethodArn == "" {
		return none, errors.New("authorizer: not the event of a REQUEST authorizer")
	}
	who, err := a.identify(ctx, req)
	report := func(level slog.Level, msg string, attrs ...any) {
		attrs = append(attrs, "reason", err, "requestId", req.RequestContext.RequestID, "sourceIp", req.RequestContext.Identity.SourceIP)
		a.logger().Log(ctx, level, msg, attrs...)
	}
	switch e := err.(type) {
	case nil:
		return answer("Allow", who, req.MethodArn), nil
	case refusal:
		report(slog.LevelInfo, "authorizer: unauthorized")
		return none, ErrUnauthorized
	case denial:
		report(slog.LevelInfo, "authorizer: denied", "principalId", e.principal)
		return answer("Deny", identity{principal: e.principal}, req.MethodArn), nil
	default:
		report(slog.LevelError, "authorizer: failed")
		return none, err
	}
}

func answer(effect string, who identity, resource string) events.APIGatewayCustomAuthorizerResponse {
	return events.APIGatewayCustomAuthorizerResponse{
		PrincipalID: who.principal,
		PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{
			Version:   "2012-10-17",
			Statement: []events.IAMPolicyStatement{{Action: []string{"execute-api:Invoke"}, Effect: effect, Resource: []string{resource}}},
		},
		Context: who.context,
	}
}

// identify returns a refusal, a denial, or an error of our own.
func (a *authorizer) identify(ctx context.Context, req events.APIGatewayCustomAuthorizerRequestTypeRequest) (who identity, _ error) {
	apikey, err1 := parameter(req, "apikey")
	token, err2 := parameter(req, "token")
	scope, err3 := parameter(req, "scope")
	switch err := cmp.Or(err1, err2, err3); {
	case err != nil:
		return who, err
	case apikey == "" && token == "":
		return who, refusal("no credentials")
	case apikey != "" && token != "":
		return who, refusal("both an API key and a token")
	case strings.Contains(token, "."): // which base64 has not
		if a.tokens == nil {
			return who, refusal("tokens are not accepted")
		}
		return a.tokens.verify(ctx, token)
	case len(a.keys) == 0:
		return who, refusal("API keys are not accepted")
	default:
		return verifyAPIKey(a.keys, cmp.Or(apikey, token), scope)
	}
}

// maxParameter bounds what is parsed. API Gateway has a limit of its own of about 10 KiB for
// the whole request.
const maxParameter = 8 << 10

// parameter of the query string. One that comes twice is refused: which of them counts is
// not for an attacker to choose.
func parameter(req events.APIGatewayCustomAuthorizerRequestTypeRequest, name string) (string, error) {
	value, has := req.QueryStringParameters[name]
	if all := req.MultiValueQueryStringParameters[name]; len(all) > 0 {
		if len(all) > 1 || has && value != all[0] {
			return "", refusal("more than one " + name)
		}
		value = all[0]
	}
	if len(value) > maxParameter {
		return "", refusal(name + " is too long")
	}
	return value, nil
}

// unescape undoes percent-encoding that the client did twice, or the gateway did not undo.
func unescape(value string) (string, error) {
	value, err := url.QueryUnescape(value)
	if err != nil {
		return "", refusal("percent-encoding is broken")
	}
	return value, nil
}
