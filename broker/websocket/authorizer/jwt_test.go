package authorizer_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

var edDSA = jwt.SigningMethodEdDSA

// signers are all algorithms and a key for each.
var signers = []struct {
	method jwt.SigningMethod
	key    crypto.Signer
}{
	{jwt.SigningMethodRS256, rsaKey}, {jwt.SigningMethodRS384, rsaKey}, {jwt.SigningMethodRS512, rsaKey},
	{jwt.SigningMethodPS256, rsaKey}, {jwt.SigningMethodPS384, rsaKey}, {jwt.SigningMethodPS512, rsaKey},
	{jwt.SigningMethodES256, p256}, {jwt.SigningMethodES384, p384}, {jwt.SigningMethodES512, p521},
	{edDSA, edKey},
}

func TestAlgorithms(t *testing.T) {
	defaults := map[string]bool{"RS256": true, "PS256": true, "ES256": true, "EdDSA": true}
	for _, x := range signers {
		alg := x.method.Alg()
		t.Run(alg, func(t *testing.T) {
			token := sign(x.method, x.key, claims(nil), nil)

			// Not in the list, or in it: the key does not say, or says so.
			g := newGate(t, newIssuer(newJWK("k", x.key, nil)).options()...)
			if defaults[alg] {
				g.allowed("token", token)
			} else {
				g.refused("signature is invalid", "token", token)
			}
			g = newGate(t, append(newIssuer(newJWK("k", x.key, jwk{"alg": alg, "use": "sig", "key_ops": []string{"verify"}})).options(), authorizer.WithAlgorithms(alg))...)
			g.allowed("token", token)

			// Someone else's key of the same kind.
			header := strings.Split(token, ".")
			g.refused("signature is invalid", "token", header[0]+"."+header[1]+"."+base64.RawURLEncoding.EncodeToString(make([]byte, len(header[2])*3/4)))

			// A list without it.
			other := "RS256"
			if alg == other {
				other = "ES256"
			}
			g = newGate(t, append(newIssuer(newJWK("k", x.key, nil)).options(), authorizer.WithAlgorithms(other))...)
			g.refused("signature is invalid", "token", token)
		})
	}
}

func TestTokenContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Unix()
		g := newGate(t, newIssuer(newJWK("k", edKey, nil)).options()...)
		for name, x := range map[string]struct {
			change jwt.MapClaims
			want   map[string]any
		}{
			"all":             {nil, nil},
			"no scope":        {jwt.MapClaims{"scope": nil}, map[string]any{"scope": ""}},
			"no nbf, no iat":  {jwt.MapClaims{"nbf": nil, "iat": nil}, map[string]any{"nbf": int64(0), "iat": int64(0)}},
			"many audiences":  {jwt.MapClaims{"aud": []string{"mail", audience}}, nil},
			"fractions":       {jwt.MapClaims{"exp": float64(now) + 9.5}, map[string]any{"exp": now + 9}},
			"privileges more": {jwt.MapClaims{"roles": []string{"admin"}, "auth": "basic", "principalId": "root"}, nil},
		} {
			want := map[string]any{
				"auth": "jwt", "principalId": "grace", "sub": "grace", "scope": "read write",
				"iss": issuerURL, "exp": now + 3600, "nbf": now - 10, "iat": now - 20,
			}
			maps.Copy(want, x.want)
			// The scope that a client asks for is for API keys.
			answer := g.allowed("token", sign(edDSA, edKey, claims(x.change), nil), "scope", "admin")
			if answer.PrincipalID != "grace" || !reflect.DeepEqual(answer.Context, want) {
				t.Errorf("%s: got %q, %v, want %v", name, answer.PrincipalID, answer.Context, want)
			}
		}
	})
}

func TestClock(t *testing.T) {
	for name, x := range map[string]struct {
		leeway time.Duration // -1: default
		change func(now int64) jwt.MapClaims
		reason string // empty: allowed
	}{
		"exp within":  {-1, func(now int64) jwt.MapClaims { return jwt.MapClaims{"exp": now - 59} }, ""},
		"exp past":    {-1, func(now int64) jwt.MapClaims { return jwt.MapClaims{"exp": now - 60} }, "expired"},
		"exp exact":   {0, func(now int64) jwt.MapClaims { return jwt.MapClaims{"exp": now} }, "expired"},
		"exp to come": {0, func(now int64) jwt.MapClaims { return jwt.MapClaims{"exp": now + 1} }, ""},
		"nbf within":  {-1, func(now int64) jwt.MapClaims { return jwt.MapClaims{"nbf": now + 60} }, ""},
		"nbf to come": {-1, func(now int64) jwt.MapClaims { return jwt.MapClaims{"nbf": now + 61} }, "not valid yet"},
		"nbf exact":   {0, func(now int64) jwt.MapClaims { return jwt.MapClaims{"nbf": now} }, ""},
		"nbf strict":  {0, func(now int64) jwt.MapClaims { return jwt.MapClaims{"nbf": now + 1} }, "not valid yet"},
		"iat within":  {-1, func(now int64) jwt.MapClaims { return jwt.MapClaims{"iat": now + 60} }, ""},
		"iat to come": {-1, func(now int64) jwt.MapClaims { return jwt.MapClaims{"iat": now + 61} }, "before issued"},
		"largest":     {5 * time.Minute, func(now int64) jwt.MapClaims { return jwt.MapClaims{"exp": now - 299} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := newIssuer(newJWK("k", edKey, nil)).options()
				if x.leeway >= 0 {
					opts = append(opts, authorizer.WithLeeway(x.leeway))
				}
				g := newGate(t, opts...)
				token := sign(edDSA, edKey, claims(x.change(time.Now().Unix())), nil)
				if x.reason == "" {
					g.allowed("token", token)
				} else {
					g.refused(x.reason, "token", token)
				}
			})
		})
	}
	// The same token, as time goes by.
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, newIssuer(newJWK("k", edKey, nil)).options()...)
		token := good()
		g.allowed("token", token)
		time.Sleep(time.Hour + 59*time.Second)
		g.allowed("token", token)
		time.Sleep(time.Second)
		g.refused("expired", "token", token)
	})
}

func TestHostileClaims(t *testing.T) {
	g := newGate(t, newIssuer(newJWK("k", edKey, nil)).options()...)
	for name, x := range map[string]struct {
		reason string
		change jwt.MapClaims
	}{
		"wrong iss":           {"invalid issuer", jwt.MapClaims{"iss": "https://evil.test/"}},
		"iss without slash":   {"invalid issuer", jwt.MapClaims{"iss": strings.TrimSuffix(issuerURL, "/")}},
		"no iss":              {"missing required claim", jwt.MapClaims{"iss": nil}},
		"iss in a list":       {"invalid claims", jwt.MapClaims{"iss": []string{issuerURL}}},
		"ISS":                 {"missing required claim", jwt.MapClaims{"iss": nil, "ISS": issuerURL}},
		"wrong aud":           {"invalid audience", jwt.MapClaims{"aud": "mail"}},
		"aud begins the same": {"invalid audience", jwt.MapClaims{"aud": audience + "2"}},
		"no aud":              {"missing required claim", jwt.MapClaims{"aud": nil}},
		"empty aud":           {"missing required claim", jwt.MapClaims{"aud": []string{}}},
		"aud of numbers":      {"invalid claims", jwt.MapClaims{"aud": []any{1, audience}}},
		"no exp":              {"missing required claim", jwt.MapClaims{"exp": nil}},
		"exp 0":               {"missing required claim", jwt.MapClaims{"exp": 0}},
		"exp null":            {"invalid claims", jwt.MapClaims{"exp": json.RawMessage("null")}},
		"exp in letters":      {"invalid claims", jwt.MapClaims{"exp": "9999999999"}},
		"EXP":                 {"missing required claim", jwt.MapClaims{"exp": nil, "EXP": 9999999999}},
		"exp negative":        {"expired", jwt.MapClaims{"exp": -1}},
		"exp after all time":  {"", jwt.MapClaims{"exp": 1e300}},
		"exp after the year":  {"exp is not a date", jwt.MapClaims{"exp": 253402300800}},
		"nbf negative":        {"nbf is not a date", jwt.MapClaims{"nbf": -1}},
		"nbf in letters":      {"invalid claims", jwt.MapClaims{"nbf": "0"}},
		"nbf after all time":  {"", jwt.MapClaims{"nbf": 1e300}},
		"iat negative":        {"iat is not a date", jwt.MapClaims{"iat": -1e300}},
		"no sub":              {"sub is missing", jwt.MapClaims{"sub": nil}},
		"empty sub":           {"sub is missing", jwt.MapClaims{"sub": ""}},
		"sub of a number":     {"sub is missing", jwt.MapClaims{"sub": 1}},
		"scope in a list":     {"scope is not a string", jwt.MapClaims{"scope": []string{"read"}}},
	} {
		t.Run(name, func(t *testing.T) {
			g.T = t
			g.refused(x.reason, "token", sign(edDSA, edKey, claims(x.change), nil))
		})
	}
}

func TestHostileTokens(t *testing.T) {
	public, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	n, _ := newJWK("rsa", rsaKey, nil)["n"].(string)
	modulus, _ := base64.RawURLEncoding.DecodeString(n)
	enc := base64.RawURLEncoding.EncodeToString
	part := func(i int) string { return strings.Split(good(), ".")[i] }
	unsigned := func(header string) string { return enc([]byte(header)) + "." + part(1) + "." + part(2) }

	i := newIssuer(
		newJWK("k", edKey, nil),
		newJWK("rsa", rsaKey, nil),
		newJWK("rs256", rsaKey, jwk{"alg": "RS256"}),
		newJWK("p384", p384, nil),
		newJWK("weak", weakKey, nil),
		jwk{"kid": "oct", "kty": "oct", "k": enc([]byte("shared")), "alg": "HS256"},
	)
	// Every key is among those it could choose from.
	g := newGate(t, append(i.options(), authorizer.WithAlgorithms("RS256", "PS256", "ES256", "EdDSA"))...)
	g.allowed("token", good())
	for name, x := range map[string]struct{ reason, token string }{
		"alg none":              {"signature is invalid", sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil), nil)},
		"alg None":              {"unverifiable", unsigned(`{"alg":"None","kid":"k"}`)},
		"alg none, a signature": {"signature is invalid", unsigned(`{"alg":"none","kid":"k"}`)},
		"no alg":                {"unverifiable", unsigned(`{"kid":"k"}`)},
		"alg of a number":       {"unverifiable", unsigned(`{"alg":1,"kid":"k"}`)},
		"no signature":          {"signature is invalid", part(0) + "." + part(1) + "."},
		"HS256, public PEM":     {"signature is invalid", sign(jwt.SigningMethodHS256, pemKey, claims(nil), jwk{"kid": "rsa"})},
		"HS256, public DER":     {"signature is invalid", sign(jwt.SigningMethodHS256, public, claims(nil), jwk{"kid": "rsa"})},
		"HS256, modulus":        {"signature is invalid", sign(jwt.SigningMethodHS256, modulus, claims(nil), jwk{"kid": "rsa"})},
		"HS256, published":      {"signature is invalid", sign(jwt.SigningMethodHS256, []byte("shared"), claims(nil), jwk{"kid": "oct"})},
		"key of another type":   {"no such key", sign(jwt.SigningMethodRS256, rsaKey, claims(nil), nil)},
		"key of another alg":    {"no such key", sign(jwt.SigningMethodPS256, rsaKey, claims(nil), jwk{"kid": "rs256"})},
		"ES256 on P-384":        {"no such key", es256(p384, "p384")},
		"weak key":              {"no such key", sign(jwt.SigningMethodRS256, weakKey, claims(nil), jwk{"kid": "weak"})},
		"stranger's key":        {"signature is invalid", sign(jwt.SigningMethodRS256, strangerKey, claims(nil), jwk{"kid": "rsa"})},
		"key in the token":      {"signature is invalid", sign(jwt.SigningMethodRS256, strangerKey, claims(nil), jwk{"kid": "rsa", "jwk": newJWK("rsa", strangerKey, nil)})},
		"key somewhere":         {"no such key", sign(jwt.SigningMethodRS256, strangerKey, claims(nil), jwk{"kid": "evil", "jku": "https://evil.test/keys", "x5u": "https://evil.test/cert"})},
		"no kid":                {"names no key", sign(edDSA, edKey, claims(nil), jwk{"kid": nil})},
		"empty kid":             {"names no key", sign(edDSA, edKey, claims(nil), jwk{"kid": ""})},
		"kid of a number":       {"names no key", sign(edDSA, edKey, claims(nil), jwk{"kid": 1})},
		"kid of a list":         {"names no key", sign(edDSA, edKey, claims(nil), jwk{"kid": []string{"k"}})},
		"kid with a path":       {"no such key", sign(edDSA, edKey, claims(nil), jwk{"kid": "../../dev/null"})},
		"crit":                  {"critical", sign(edDSA, edKey, claims(nil), jwk{"crit": []string{"b64"}, "b64": false})},
		"crit empty":            {"critical", sign(edDSA, edKey, claims(nil), jwk{"crit": []string{}})},
		"crit null":             {"critical", sign(edDSA, edKey, claims(nil), jwk{"crit": json.RawMessage("null")})},
		"claims changed":        {"signature is invalid", part(0) + "." + enc([]byte(`{"sub":"root"}`)) + "." + part(2)},
		"two parts":             {"malformed", part(0) + "." + part(1)},
		"four parts":            {"malformed", good() + "." + part(2)},
		"encrypted":             {"malformed", "e30.x.x.x.x"},
		"dots":                  {"malformed", ".."},
		"header not JSON":       {"malformed", enc([]byte("x")) + "." + part(1) + "." + part(2)},
		"header null":           {"unverifiable", enc([]byte("null")) + "." + part(1) + "." + part(2)},
		"claims not JSON":       {"malformed", part(0) + "." + enc([]byte("x")) + "." + part(2)},
		"claims a list":         {"malformed", part(0) + "." + enc([]byte("[]")) + "." + part(2)},
		"claims null":           {"missing required claim", rawClaims("null")},
		"claims deep":           {"malformed", part(0) + "." + enc([]byte(`{"a":`+strings.Repeat("[", 5000))) + "." + part(2)},
		"not base64":            {"malformed", "!." + part(1) + "." + part(2)},
		"padded":                {"malformed", part(0) + "==." + part(1) + "." + part(2)},
		"huge":                  {"too long", sign(edDSA, edKey, claims(jwt.MapClaims{"x": strings.Repeat("x", 8<<10)}), nil)},
	} {
		t.Run(name, func(t *testing.T) { g.T = t; g.refused(x.reason, "token", x.token) })
	}
	for _, address := range i.requests {
		if !strings.HasPrefix(address, issuerURL) {
			t.Errorf("asked %s", address)
		}
	}
}

// es256 signs by ES256 on a curve that is not its own, which the library refuses to do.
func es256(key *ecdsa.PrivateKey, kid string) string {
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims(nil))
	token.Header["kid"] = kid
	text, err := token.SigningString()
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
}

// rawClaims signs claims that are no object.
func rawClaims(doc string) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"k"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(doc))
	sig, err := edDSA.Sign(text, edKey)
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// The longest that is parsed: what is refused above is refused for its length.
func TestLongToken(t *testing.T) {
	g := newGate(t, newIssuer(newJWK("k", edKey, nil)).options()...)
	token := sign(edDSA, edKey, claims(jwt.MapClaims{"x": strings.Repeat("x", 5800)}), nil)
	if len(token) < 8000 || len(token) > 8192 {
		t.Fatalf("%d bytes test nothing", len(token))
	}
	g.allowed("token", token)
}
