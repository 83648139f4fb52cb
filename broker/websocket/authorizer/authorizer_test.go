package authorizer_test

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

// The key has both characters that other alphabets spell differently, and all its bits.
const access, secret = "adam", "~???>>>~~~"

func TestAPIKeyAllowed(t *testing.T) {
	g := newGate(t, authorizer.WithAPIKey(access, secret, "read", "write admin"))
	key := authorizer.APIKey(access, secret)
	if !strings.Contains(key, "+") || !strings.Contains(key, "/") {
		t.Fatalf("%s tests nothing", key)
	}
	for name, query := range map[string][]string{
		"apikey":               {"apikey", key},
		"token":                {"token", key},
		"empty token":          {"apikey", key, "token", ""},
		"percent-encoded":      {"apikey", url.QueryEscape(key)},
		"plus became a space":  {"apikey", strings.ReplaceAll(key, "+", " ")},
		"padded":               {"apikey", key + "=="},
		"padding encoded":      {"apikey", key + "%3D"},
		"URL-safe":             {"apikey", base64.RawURLEncoding.EncodeToString([]byte(access + ":" + secret))},
		"one of scope":         {"apikey", key, "scope", "write"},
		"all of scope":         {"apikey", key, "scope", "admin read write"},
		"scope with spaces":    {"apikey", key, "scope", "  read  write "},
		"scope as plus":        {"apikey", key, "scope", "read+write"},
		"scope encoded":        {"apikey", key, "scope", "read%20write"},
		"something else is on": {"apikey", key, "color", "blue"},
	} {
		t.Run(name, func(t *testing.T) {
			g.T = t
			answer := g.allowed(query...)
			scope := map[string]string{"one of scope": "write", "all of scope": "admin read write", "scope with spaces": "read write", "scope as plus": "read write", "scope encoded": "read write"}[name]
			want := map[string]any{"auth": "basic", "principalId": access, "sub": access, "scope": scope}
			if answer.PrincipalID != access || !reflect.DeepEqual(answer.Context, want) {
				t.Errorf("got %q, %v, want %v", answer.PrincipalID, answer.Context, want)
			}
		})
	}
}

// The answer as API Gateway reads it.
func TestAnswer(t *testing.T) {
	g := newGate(t, authorizer.WithAPIKey(access, secret, "read"))
	for scope, want := range map[string]string{
		"read": `{"principalId":"adam","policyDocument":{"Version":"2012-10-17","Statement":[{"Action":["execute-api:Invoke"],"Effect":"Allow","Resource":["` + methodARN + `"]}]},` +
			`"context":{"auth":"basic","principalId":"adam","scope":"read","sub":"adam"}}`,
		"admin": `{"principalId":"adam","policyDocument":{"Version":"2012-10-17","Statement":[{"Action":["execute-api:Invoke"],"Effect":"Deny","Resource":["` + methodARN + `"]}]}}`,
	} {
		answer, err := g.connect("apikey", authorizer.APIKey(access, secret), "scope", scope)
		if err != nil {
			t.Fatal(err)
		}
		if doc, _ := json.Marshal(answer); string(doc) != want {
			t.Errorf("scope %s\ngot  %s\nwant %s", scope, doc, want)
		}
	}
}

func TestAPIKeyRefused(t *testing.T) {
	g := newGate(t, authorizer.WithAPIKey(access, secret, "read"))
	key := authorizer.APIKey(access, secret)
	for name, x := range map[string]struct {
		reason string
		query  []string
	}{
		"nothing":             {"no credentials", nil},
		"empty":               {"no credentials", []string{"apikey", "", "token", ""}},
		"other name":          {"no credentials", []string{"apiKey", key}},
		"wrong secret":        {"unknown", []string{"apikey", authorizer.APIKey(access, "wrong")}},
		"secret's beginning":  {"unknown", []string{"apikey", authorizer.APIKey(access, secret[:5])}},
		"secret and more":     {"unknown", []string{"apikey", authorizer.APIKey(access, secret+"x")}},
		"no secret":           {"unknown", []string{"apikey", authorizer.APIKey(access, "")}},
		"wrong access":        {"unknown", []string{"apikey", authorizer.APIKey("eve", secret)}},
		"no access":           {"unknown", []string{"apikey", authorizer.APIKey("", secret)}},
		"no colon":            {"unknown", []string{"apikey", base64.RawStdEncoding.EncodeToString([]byte(access + secret))}},
		"plain":               {"not base64", []string{"apikey", access + ":" + secret}},
		"padding only":        {"unknown", []string{"apikey", "===="}},
		"broken percent":      {"percent-encoding", []string{"apikey", key + "%"}},
		"broken scope":        {"percent-encoding", []string{"apikey", key, "scope", "%"}},
		"long key":            {"too long", []string{"apikey", strings.Repeat("A", 8193)}},
		"long token":          {"too long", []string{"token", strings.Repeat("A", 8193)}},
		"long scope":          {"too long", []string{"apikey", key, "scope", strings.Repeat("read ", 2000)}},
		"both":                {"both", []string{"apikey", key, "token", key}},
		"token not accepted":  {"tokens are not accepted", []string{"token", good()}},
		"token as an API key": {"not base64", []string{"apikey", good()}},
	} {
		t.Run(name, func(t *testing.T) { g.T = t; g.refused(x.reason, x.query...) })
	}
}

func TestScopeDenied(t *testing.T) {
	g := newGate(t, authorizer.WithAPIKey(access, secret, "read", "write"), authorizer.WithAPIKey("eve", "evil"))
	for name, query := range map[string][]string{
		"other":             {"apikey", authorizer.APIKey(access, secret), "scope", "admin"},
		"one too many":      {"apikey", authorizer.APIKey(access, secret), "scope", "read write admin"},
		"a part of one":     {"apikey", authorizer.APIKey(access, secret), "scope", "rea"},
		"other case":        {"apikey", authorizer.APIKey(access, secret), "scope", "Read"},
		"none may be asked": {"apikey", authorizer.APIKey("eve", "evil"), "scope", "read"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := g.connect(query...)
			if err != nil || effect(answer) != "Deny" || answer.PrincipalID == "" || answer.Context != nil {
				t.Errorf("got %+v, %v", answer, err)
			}
			if log := g.logged(); !strings.Contains(log, "scope") || strings.Contains(log, query[1]) {
				t.Errorf("logged %s", log)
			}
		})
	}
	// Who is not known learns nothing of scopes.
	g.refused("unknown", "apikey", authorizer.APIKey(access, "wrong"), "scope", "admin")
}

// While clients move to a new secret, both count; and each key has its own scope.
func TestAPIKeys(t *testing.T) {
	g := newGate(t,
		authorizer.WithAPIKey("ada", "old", "read"),
		authorizer.WithAPIKey("ada", "new", "read", "write"),
		authorizer.WithAPIKey("eve", "new"),
	)
	for secret, scope := range map[string]string{"old": "read", "new": "read write"} {
		if answer := g.allowed("apikey", authorizer.APIKey("ada", secret), "scope", scope); answer.PrincipalID != "ada" {
			t.Errorf("got %+v", answer)
		}
	}
	if answer := g.allowed("apikey", authorizer.APIKey("eve", "new")); answer.PrincipalID != "eve" {
		t.Errorf("got %+v", answer)
	}
	g.refused("unknown", "apikey", authorizer.APIKey("eve", "old"))
}

func TestDuplicates(t *testing.T) {
	g := newGate(t, append(newIssuer(newJWK("k", edKey, nil)).options(), authorizer.WithAPIKey(access, secret, "read"))...)
	key := authorizer.APIKey(access, secret)
	for name, change := range map[string]func(one map[string]string, all map[string][]string){
		"apikey twice": func(one map[string]string, all map[string][]string) { all["apikey"] = []string{key, key} },
		"scope twice": func(one map[string]string, all map[string][]string) {
			one["scope"], all["scope"] = "read", []string{"admin", "read"}
		},
		"token twice": func(one map[string]string, all map[string][]string) {
			delete(one, "apikey")
			delete(all, "apikey")
			one["token"], all["token"] = key, []string{"x", key}
		},
		"they differ": func(one map[string]string, all map[string][]string) { all["apikey"] = []string{"x"} },
	} {
		req := request(map[string]string{"apikey": key})
		change(req.QueryStringParameters, req.MultiValueQueryStringParameters)
		if answer, err := g.handler(t.Context(), req); err != authorizer.ErrUnauthorized || !strings.Contains(g.logged(), "more than one") {
			t.Errorf("%s: got %+v, %v", name, answer, err)
		}
	}
	for name, drop := range map[string]func(*events.APIGatewayCustomAuthorizerRequestTypeRequest){
		"only single": func(req *events.APIGatewayCustomAuthorizerRequestTypeRequest) {
			req.MultiValueQueryStringParameters = nil
		},
		"only multi": func(req *events.APIGatewayCustomAuthorizerRequestTypeRequest) { req.QueryStringParameters = nil },
	} {
		req := request(map[string]string{"apikey": key})
		drop(&req)
		if answer, err := g.handler(t.Context(), req); err != nil || effect(answer) != "Allow" {
			t.Errorf("%s: got %+v, %v", name, answer, err)
		}
	}
}

func TestForeignEvents(t *testing.T) {
	g := newGate(t, authorizer.WithAPIKey(access, secret))
	for name, req := range map[string]events.APIGatewayCustomAuthorizerRequestTypeRequest{
		"zero":   {},
		"TOKEN":  {Type: "TOKEN", MethodArn: methodARN, QueryStringParameters: map[string]string{"apikey": authorizer.APIKey(access, secret)}},
		"no ARN": {Type: "REQUEST", QueryStringParameters: map[string]string{"apikey": authorizer.APIKey(access, secret)}},
	} {
		if answer, err := g.handler(t.Context(), req); err == nil || err == authorizer.ErrUnauthorized || effect(answer) != "" {
			t.Errorf("%s: got %+v, %v", name, answer, err)
		}
	}
}

// An authorizer for both takes either, each where it belongs.
func TestUniversal(t *testing.T) {
	g := newGate(t, append(newIssuer(newJWK("k", edKey, nil)).options(), authorizer.WithAPIKey(access, secret))...)
	key := authorizer.APIKey(access, secret)
	for _, query := range [][]string{{"apikey", key}, {"token", key}} {
		if answer := g.allowed(query...); answer.Context["auth"] != "basic" {
			t.Errorf("got %+v", answer)
		}
	}
	if answer := g.allowed("token", good()); answer.Context["auth"] != "jwt" {
		t.Errorf("got %+v", answer)
	}
	g.refused("both", "apikey", key, "token", good())
	g.refused("not base64", "apikey", good())

	g = newGate(t, newIssuer(newJWK("k", edKey, nil)).options()...)
	g.refused("API keys are not accepted", "apikey", key)
	g.refused("API keys are not accepted", "token", key)
}

// API Gateway knows the error by its text.
func TestErrUnauthorized(t *testing.T) {
	if got := authorizer.ErrUnauthorized.Error(); got != "Unauthorized" {
		t.Errorf("got %q", got)
	}
}

func TestConfigFromEnv(t *testing.T) {
	const prefix = "CONFIG_SWARM_WS_AUTHORIZER_"
	names := []string{"ACCESS", "SECRET", "SCOPE", "ISS", "AUD", "JWKS"}
	for name, x := range map[string]struct {
		env  map[string]string
		want []string // of the error; nil: none
	}{
		"nothing":       {nil, []string{prefix + "ACCESS", prefix + "SECRET", prefix + "ISS", prefix + "AUD"}},
		"only scope":    {map[string]string{"SCOPE": "read"}, []string{"no credentials to accept"}},
		"API key":       {map[string]string{"ACCESS": access, "SECRET": secret}, nil},
		"with scope":    {map[string]string{"ACCESS": access, "SECRET": secret, "SCOPE": "read write"}, nil},
		"no secret":     {map[string]string{"ACCESS": access}, []string{prefix + "ACCESS is set and " + prefix + "SECRET is not"}},
		"no access":     {map[string]string{"SECRET": secret}, []string{prefix + "SECRET is set and " + prefix + "ACCESS is not"}},
		"JWT":           {map[string]string{"ISS": issuerURL, "AUD": audience}, nil},
		"JWT, keys at":  {map[string]string{"ISS": "issuer", "AUD": audience, "JWKS": "https://issuer.test/keys"}, nil},
		"no audience":   {map[string]string{"ISS": issuerURL}, []string{prefix + "ISS is set and " + prefix + "AUD is not"}},
		"no issuer":     {map[string]string{"AUD": audience}, []string{prefix + "AUD is set and " + prefix + "ISS is not"}},
		"issuer no URL": {map[string]string{"ISS": "issuer", "AUD": audience}, []string{"not a URL"}},
		"either":        {map[string]string{"ACCESS": access, "SECRET": secret, "ISS": issuerURL, "AUD": audience}, nil},
		"two faults":    {map[string]string{"ACCESS": access, "ISS": issuerURL}, []string{prefix + "SECRET", prefix + "AUD"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range names {
				t.Setenv(prefix+name, x.env[name])
			}
			i := newIssuer(newJWK("k", edKey, nil))
			opts := append(i.options()[1:], authorizer.WithConfigFromEnv())
			if x.want != nil {
				_, err := authorizer.New(opts...)
				for _, want := range x.want {
					if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
						t.Errorf("got %v, want %q", err, want)
					}
				}
				return
			}
			g := newGate(t, opts...)
			if x.env["ACCESS"] != "" {
				g.allowed("apikey", authorizer.APIKey(access, secret), "scope", x.env["SCOPE"])
			}
			if iss := x.env["ISS"]; iss != "" {
				g.allowed("token", sign(edDSA, edKey, claims(map[string]any{"iss": iss}), nil))
				want := map[string]string{"": "https://issuer.test/tenant/.well-known/jwks.json"}[x.env["JWKS"]] + x.env["JWKS"]
				if got := i.requests; len(got) != 1 || got[0] != want {
					t.Errorf("asked %v, want %s", got, want)
				}
			}
		})
	}
}

// What the program says wins over the environment.
func TestConfigFromEnvLoses(t *testing.T) {
	for name, value := range map[string]string{"ACCESS": "env", "SECRET": "env", "ISS": "https://env.test", "AUD": "env", "JWKS": "https://env.test/keys"} {
		t.Setenv("CONFIG_SWARM_WS_AUTHORIZER_"+name, value)
	}
	i := newIssuer(newJWK("k", edKey, nil))
	g := newGate(t, append(i.options(), authorizer.WithConfigFromEnv(), authorizer.WithAPIKey(access, secret), authorizer.WithJWKS("https://issuer.test/keys"))...)
	g.allowed("apikey", authorizer.APIKey(access, secret))
	g.allowed("token", good())
	g.refused("unknown", "apikey", authorizer.APIKey("env", "env"))
	if i.requests[0] != "https://issuer.test/keys" {
		t.Errorf("asked %v", i.requests)
	}
}

func TestOptions(t *testing.T) {
	jwt := authorizer.WithJWT(issuerURL, audience)
	for want, opts := range map[string][]authorizer.Option{
		"no credentials to accept":                      {},
		"access and secret must not be empty":           {authorizer.WithAPIKey("", secret)},
		"WithAPIKey: access and secret":                 {authorizer.WithAPIKey(access, "")},
		"must not have a colon":                         {authorizer.WithAPIKey("a:b", secret)},
		`scope "a+b"`:                                   {authorizer.WithAPIKey(access, secret, "read a+b")},
		"issuer and audience":                           {authorizer.WithJWT("", audience)},
		"WithJWT: issuer and audience":                  {authorizer.WithJWT(issuerURL, "")},
		"there is one issuer":                           {jwt, authorizer.WithJWT("https://other.test", audience)},
		"no algorithm":                                  {jwt, authorizer.WithAlgorithms()},
		`"none" is not one of ES256, ES384`:             {jwt, authorizer.WithAlgorithms("ES256", "none")},
		`"HS256" is not one of`:                         {jwt, authorizer.WithAlgorithms("HS256")},
		"-1s is not between 0 and 5m0s":                 {jwt, authorizer.WithLeeway(-time.Second)},
		"1h0m0s is not between":                         {jwt, authorizer.WithLeeway(time.Hour)},
		`"http://issuer.test/keys" must be of https`:    {jwt, authorizer.WithJWKS("http://issuer.test/keys")},
		`"http://127.0.0.1.evil.test" must be`:          {jwt, authorizer.WithJWKS("http://127.0.0.1.evil.test")},
		`"ftp://localhost/keys" must be of https`:       {jwt, authorizer.WithJWKS("ftp://localhost/keys")},
		`"https:///keys" is not a URL with a host`:      {jwt, authorizer.WithJWKS("https:///keys")},
		"must not have a user":                          {jwt, authorizer.WithJWKS("https://ada:pass-word@issuer.test/")},
		"not a URL":                                     {jwt, authorizer.WithJWKS("https://ada:pass-word@issuer.test:port/")},
		`(WithJWKS): "issuer/.well-known/jwks.json" is`: {authorizer.WithJWT("issuer", audience)},
	} {
		h, err := authorizer.New(opts...)
		if h != nil || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "pass-word") {
			t.Errorf("%q: got %v", want, err)
		}
	}
	for _, address := range []string{"http://localhost:8080/keys", "http://127.0.0.1:8080/keys", "http://[::1]/keys", "https://issuer.test"} {
		if _, err := authorizer.New(jwt, authorizer.WithJWKS(address)); err != nil {
			t.Error(err)
		}
	}
}

// Without WithLogger the program's logger has the refusals.
func TestDefaultLogger(t *testing.T) {
	h, err := authorizer.New(authorizer.WithAPIKey(access, secret))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{T: t, handler: h}
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(g, nil)))
	g.refused("no credentials")
}

// The event of API Gateway, with members that the type does not have.
func TestEvent(t *testing.T) {
	doc := `{"type":"REQUEST","methodArn":"arn:aws:execute-api:us-east-1:123456789012:abcdef123/default/$connect",
		"headers":{"Connection":"upgrade","Host":"abcdef123.execute-api.us-east-1.amazonaws.com"},"multiValueHeaders":{"Connection":["upgrade"]},
		"queryStringParameters":{"apikey":"` + authorizer.APIKey(access, secret) + `"},"multiValueQueryStringParameters":{"apikey":["` + authorizer.APIKey(access, secret) + `"]},
		"stageVariables":{},"requestContext":{"routeKey":"$connect","eventType":"CONNECT","extendedRequestId":"x","requestTime":"19/Jan/2023:21:13:26 +0000",
		"messageDirection":"IN","stage":"default","connectedAt":1674162806344,"requestTimeEpoch":1674162806345,"identity":{"sourceIp":"192.0.2.1"},
		"requestId":"r","domainName":"abcdef123.execute-api.us-east-1.amazonaws.com","connectionId":"EXAMPLE=","apiId":"abcdef123"}}`
	var req events.APIGatewayCustomAuthorizerRequestTypeRequest
	if err := json.Unmarshal([]byte(doc), &req); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, authorizer.WithAPIKey(access, secret))
	if answer, err := g.handler(t.Context(), req); err != nil || effect(answer) != "Allow" {
		t.Errorf("got %+v, %v", answer, err)
	}
	maps.DeleteFunc(req.QueryStringParameters, func(string, string) bool { return true })
	clear(req.MultiValueQueryStringParameters)
	if _, err := g.handler(t.Context(), req); err != authorizer.ErrUnauthorized || !strings.Contains(g.logged(), "sourceIp=192.0.2.1") {
		t.Errorf("got %v", err)
	}
}
