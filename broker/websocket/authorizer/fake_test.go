package authorizer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

const (
	issuerURL = "https://issuer.test/tenant/"
	audience  = "chat"
	methodARN = "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3/live/$connect"
)

// The keys of the issuer, and of someone else.
var (
	rsaKey, strangerKey = newRSA(2048), newRSA(2048)
	weakKey             = newRSA(1024)
	p256                = newEC(elliptic.P256())
	p384                = newEC(elliptic.P384())
	p521                = newEC(elliptic.P521())
	edKey               = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// jwk is a public key as an issuer publishes it; more adds members, nil removes them.
type jwk map[string]any

func newJWK(kid string, key crypto.Signer, more jwk) jwk {
	enc := base64.RawURLEncoding.EncodeToString
	k := jwk{"kid": kid}
	switch key := key.Public().(type) {
	case *rsa.PublicKey:
		k["kty"], k["n"], k["e"] = "RSA", enc(key.N.Bytes()), enc(big.NewInt(int64(key.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		size := len(point) / 2
		k["kty"], k["crv"], k["x"], k["y"] = "EC", key.Params().Name, enc(point[1:1+size]), enc(point[1+size:])
	case ed25519.PublicKey:
		k["kty"], k["crv"], k["x"] = "OKP", "Ed25519", enc(key)
	}
	maps.Copy(k, more)
	maps.DeleteFunc(k, func(_ string, v any) bool { return v == nil })
	return k
}

func jwks(keys ...jwk) string {
	doc, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	return string(doc)
}

// issuer answers requests for its keys: it is the transport of a client.
type issuer struct {
	mu       sync.Mutex
	body     string
	status   int // 0: 200
	header   http.Header
	err      error
	takes    time.Duration
	requests []string // addresses
}

func newIssuer(keys ...jwk) *issuer { return &issuer{body: jwks(keys...)} }

// set changes the answers to come.
func (i *issuer) set(f func(*issuer)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(i)
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.requests)
}

func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.requests = append(i.requests, req.URL.String())
	res := &http.Response{StatusCode: max(i.status, 200), Status: "status", Header: i.header, Body: io.NopCloser(strings.NewReader(i.body)), Request: req}
	err, takes := i.err, i.takes
	i.mu.Unlock()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (i *issuer) options() []authorizer.Option {
	return []authorizer.Option{
		authorizer.WithJWT(issuerURL, audience),
		authorizer.WithHTTPClient(&http.Client{Transport: i}),
	}
}

// claims of a token that is good for an hour; more replaces some, nil removes them.
func claims(more jwt.MapClaims) jwt.MapClaims {
	now := time.Now().Unix()
	c := jwt.MapClaims{
		"iss": issuerURL, "aud": audience, "sub": "grace", "scope": "read write",
		"exp": now + 3600, "nbf": now - 10, "iat": now - 20,
	}
	maps.Copy(c, more)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

// sign makes a token. Members of the header are replaced by those of header, nil removes
// them.
func sign(method jwt.SigningMethod, key any, c jwt.Claims, header jwk) string {
	token := jwt.NewWithClaims(method, c)
	token.Header["kid"] = "k"
	maps.Copy(token.Header, header)
	maps.DeleteFunc(token.Header, func(_ string, v any) bool { return v == nil })
	signed, err := token.SignedString(key)
	if err != nil {
		panic(err)
	}
	return signed
}

// good is a token that is let in, when the issuer has edKey as k.
func good() string { return sign(jwt.SigningMethodEdDSA, edKey, claims(nil), nil) }

// gate is a handler and what it logs.
type gate struct {
	*testing.T
	handler authorizer.Handler
	mu      sync.Mutex
	log     bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.log.Write(b)
}

// logged returns what was logged since it was last asked.
func (g *gate) logged() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.log.Reset()
	return g.log.String()
}

func newGate(t *testing.T, opts ...authorizer.Option) *gate {
	t.Helper()
	g := &gate{T: t}
	handler, err := authorizer.New(append(opts, authorizer.WithLogger(slog.New(slog.NewTextHandler(g, nil))))...)
	if err != nil {
		t.Fatal(err)
	}
	g.handler = handler
	return g
}

func request(query map[string]string) events.APIGatewayCustomAuthorizerRequestTypeRequest {
	req := events.APIGatewayCustomAuthorizerRequestTypeRequest{
		Type: "REQUEST", MethodArn: methodARN,
		QueryStringParameters: query, MultiValueQueryStringParameters: map[string][]string{},
	}
	req.RequestContext.RequestID = "request-1"
	for name, value := range query {
		req.MultiValueQueryStringParameters[name] = []string{value}
	}
	return req
}

func (g *gate) connect(query ...string) (events.APIGatewayCustomAuthorizerResponse, error) {
	params := map[string]string{}
	for i := 0; i < len(query); i += 2 {
		params[query[i]] = query[i+1]
	}
	return g.handler(g.Context(), request(params))
}

// allowed expects the client to be let in.
func (g *gate) allowed(query ...string) events.APIGatewayCustomAuthorizerResponse {
	g.Helper()
	answer, err := g.connect(query...)
	if err != nil || effect(answer) != "Allow" {
		g.Fatalf("got %+v, %v\n%s", answer, err, g.logged())
	}
	return answer
}

// refused expects 401 for this reason, and nothing of the credentials in the log.
func (g *gate) refused(reason string, query ...string) {
	g.Helper()
	g.logged()
	answer, err := g.connect(query...)
	log := g.logged()
	if err != authorizer.ErrUnauthorized || answer.PrincipalID != "" || effect(answer) != "" {
		g.Errorf("got %+v, %v", answer, err)
	}
	if !strings.Contains(log, "unauthorized") || !strings.Contains(log, reason) || !strings.Contains(log, "request-1") {
		g.Errorf("the log has not %q:\n%s", reason, log)
	}
	g.secret(log, query...)
}

// failed expects 500 for this reason.
func (g *gate) failed(reason string, query ...string) {
	g.Helper()
	g.logged()
	answer, err := g.connect(query...)
	log := g.logged()
	if err == nil || err == authorizer.ErrUnauthorized || effect(answer) != "" {
		g.Fatalf("got %+v, %v", answer, err)
	}
	if !strings.Contains(err.Error(), reason) || !strings.Contains(log, "level=ERROR") {
		g.Errorf("got %v, the log:\n%s", err, log)
	}
	g.secret(log+err.Error(), query...)
}

func (g *gate) secret(text string, query ...string) {
	g.Helper()
	for i := 0; i < len(query); i += 2 {
		if query[i] == "scope" {
			continue
		}
		for part := range strings.SplitSeq(query[i+1], ".") {
			if len(part) > 5 && strings.Contains(text, part) {
				g.Errorf("a credential was logged: %s", text)
			}
		}
	}
}

func effect(answer events.APIGatewayCustomAuthorizerResponse) string {
	if len(answer.PolicyDocument.Statement) == 0 {
		return ""
	}
	return answer.PolicyDocument.Statement[0].Effect
}
