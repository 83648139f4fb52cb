package authorizer_test

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

// fuzzed makes a handler that logs nothing.
func fuzzed(opts ...authorizer.Option) authorizer.Handler {
	handler, err := authorizer.New(append(opts, authorizer.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		panic(err)
	}
	return handler
}

// Nothing but the key is let in, however it is spelled.
func FuzzAPIKey(f *testing.F) {
	key := authorizer.APIKey(access, secret)
	f.Add(key, "read")
	f.Add(url.QueryEscape(key)+"%3D", "read%20write")
	f.Add(strings.ReplaceAll(key, "+", " ")+"==", "  ")
	f.Add(base64.URLEncoding.EncodeToString([]byte(access+":wrong")), "admin")
	f.Add(":", "%")
	f.Add("=\n=", "\x00")
	handler := fuzzed(authorizer.WithAPIKey(access, secret, "read", "write"))
	f.Fuzz(func(t *testing.T, apikey, scope string) {
		answer, err := handler(context.Background(), request(map[string]string{"apikey": apikey, "scope": scope}))
		switch {
		case err == authorizer.ErrUnauthorized && effect(answer) == "":
			return
		case err != nil || effect(answer) == "":
			t.Fatalf("got %+v, %v", answer, err)
		}
		spelled, err := url.QueryUnescape(apikey)
		if err != nil {
			t.Fatal(err)
		}
		if strings.NewReplacer("\r", "", "\n", "", "-", "+", "_", "/", " ", "+", "=", "").Replace(spelled) != key {
			t.Fatalf("known by %q", apikey)
		}
		if effect(answer) == "Allow" {
			for name := range strings.FieldsSeq(answer.Context["scope"].(string)) {
				if name != "read" && name != "write" {
					t.Fatalf("may %q", name)
				}
			}
		}
	})
}

// Nothing but what the issuer signed is let in.
func FuzzToken(f *testing.F) {
	signed := sign(jwt.SigningMethodES256, p256, claims(jwt.MapClaims{"exp": 253402300799}), nil)
	f.Add(signed)
	f.Add(good())
	f.Add(sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims(nil), nil))
	f.Add(sign(jwt.SigningMethodHS256, []byte("shared"), claims(nil), nil))
	f.Add(sign(jwt.SigningMethodES256, p256, claims(nil), jwk{"crit": []string{"b64"}, "b64": false}))
	f.Add(sign(jwt.SigningMethodES256, p256, claims(jwt.MapClaims{"exp": 1e300, "nbf": -1}), nil))
	f.Add("..")
	f.Add("bnVsbA.bnVsbA.")
	handler := fuzzed(newIssuer(newJWK("k", p256, nil)).options()...)
	f.Fuzz(func(t *testing.T, token string) {
		answer, err := handler(context.Background(), request(map[string]string{"token": token}))
		if err == authorizer.ErrUnauthorized && effect(answer) == "" {
			return
		}
		// The signature may have line breaks in it, which base64 does not count.
		if err != nil || token[:strings.LastIndex(token, ".")] != signed[:strings.LastIndex(signed, ".")] {
			t.Fatalf("got %+v, %v for %q", answer, err, token)
		}
	})
}

// Nothing that an issuer may publish panics, neither when it is read nor when a token is
// held against it. The key of the tokens is not among what it publishes.
func FuzzKeySet(f *testing.F) {
	var tokens []string
	for _, x := range signers {
		key := x.key
		if x.method.Alg()[1] == 'S' && x.method.Alg()[0] != 'E' {
			key = strangerKey
		}
		tokens = append(tokens, sign(x.method, key, claims(nil), nil))
	}
	zeros := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	f.Add(jwks(newJWK("k", rsaKey, nil)))
	f.Add(jwks(newJWK("k", newEC(p256.Curve), nil), newJWK("k", newEC(p384.Curve), jwk{"alg": "ES384", "use": "sig"}), newJWK("k", newEC(p521.Curve), jwk{"key_ops": []string{"verify"}})))
	f.Add(jwks(newJWK("k", edKey, jwk{"x": zeros}), newJWK("k", p256, jwk{"x": zeros, "y": zeros}), newJWK("k", rsaKey, jwk{"e": "AQ"})))
	f.Add(jwks(newJWK("k", rsaKey, jwk{"n": strings.Repeat("_", 400)})))
	f.Add(`{"keys":[null,{},{"kid":1}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		i := newIssuer()
		i.body = body
		handler := fuzzed(authorizer.WithJWT(issuerURL, audience), authorizer.WithHTTPClient(&http.Client{Transport: i}),
			authorizer.WithAlgorithms("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"))
		for _, token := range tokens {
			if answer, err := handler(context.Background(), request(map[string]string{"token": token})); err == nil {
				t.Fatalf("got %+v for %q", answer, body)
			}
		}
	})
}
