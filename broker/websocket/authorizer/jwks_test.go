package authorizer_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

// signedBy is a good token by the key of this name.
func signedBy(kid string, key ed25519.PrivateKey) string {
	return sign(edDSA, key, claims(nil), jwk{"kid": kid})
}

func TestKeysAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		g := newGate(t, i.options()...)
		if i.asked() != 0 {
			t.Error("New asks")
		}
		for range 15 {
			g.allowed("token", good())
			time.Sleep(time.Minute)
			if i.asked() != 1 {
				t.Fatalf("asked %d times", i.asked())
			}
		}
		g.allowed("token", good())
		if i.asked() != 2 {
			t.Errorf("asked %d times", i.asked())
		}
	})
}

// The issuer begins to sign by a new key, and some day withdraws the old one.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := ed25519.NewKeyFromSeed([]byte(strings.Repeat("n", ed25519.SeedSize)))
		i := newIssuer(newJWK("old", edKey, nil))
		g := newGate(t, i.options()...)
		g.allowed("token", signedBy("old", edKey))

		i.set(func(i *issuer) { i.body = jwks(newJWK("old", edKey, nil), newJWK("new", next, nil)) })
		time.Sleep(30*time.Second - 1)
		g.refused("no such key", "token", signedBy("new", next)) // asked a moment ago
		time.Sleep(time.Nanosecond)
		g.allowed("token", signedBy("new", next))
		g.allowed("token", signedBy("old", edKey))
		if i.asked() != 2 {
			t.Errorf("asked %d times", i.asked())
		}

		i.set(func(i *issuer) { i.body = jwks(newJWK("new", next, nil)) })
		time.Sleep(15 * time.Minute)
		g.refused("no such key", "token", signedBy("old", edKey))
		g.allowed("token", signedBy("new", next))
		if i.asked() != 3 {
			t.Errorf("asked %d times", i.asked())
		}
	})
}

// Whoever makes up names of keys makes one request in 30 seconds, and stops nobody.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		i.takes = 100 * time.Millisecond
		g := newGate(t, i.options()...)
		begin := time.Now()
		var wg sync.WaitGroup
		for n := range 1000 {
			for m := range 3 {
				wg.Go(func() {
					evil := sign(edDSA, edKey, claims(nil), jwk{"kid": fmt.Sprint("evil", n, m)})
					if _, err := g.connect("token", evil); err != authorizer.ErrUnauthorized {
						t.Errorf("got %v", err)
					}
				})
			}
			time.Sleep(300 * time.Millisecond)
			if n%100 == 0 {
				g.allowed("token", good())
			}
		}
		wg.Wait()
		if limit := 1 + int(time.Since(begin)/(30*time.Second)); i.asked() > limit || i.asked() < 2 {
			t.Errorf("asked %d times, of %d", i.asked(), limit)
		}
	})
}

// Who comes while the issuer is asked waits for that answer.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		i.takes = time.Second
		g := newGate(t, i.options()...)
		token, begin := good(), time.Now()
		var wg sync.WaitGroup
		for n := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(n) * 9 * time.Millisecond)
				if answer, err := g.connect("token", token); err != nil || effect(answer) != "Allow" {
					t.Errorf("got %+v, %v", answer, err)
				}
			})
		}
		wg.Wait()
		if i.asked() != 1 || time.Since(begin) != time.Second {
			t.Errorf("asked %d times in %s", i.asked(), time.Since(begin))
		}
	})
}

// Nobody is refused for what the issuer fails to say, and it is not asked all the time.
func TestIssuerDownAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		i.err = errors.New("connection refused")
		g := newGate(t, i.options()...)
		for range 10 {
			g.failed("connection refused", "token", good())
		}
		if i.asked() != 1 {
			t.Errorf("asked %d times", i.asked())
		}
		time.Sleep(5*time.Second - 1)
		g.failed("connection refused", "token", good())
		time.Sleep(time.Nanosecond)
		g.failed("connection refused", "token", good())
		if i.asked() != 2 {
			t.Errorf("asked %d times", i.asked())
		}
		i.set(func(i *issuer) { i.err = nil })
		time.Sleep(5 * time.Second)
		g.allowed("token", good())
		if i.asked() != 3 {
			t.Errorf("asked %d times", i.asked())
		}
	})
}

func TestStaleKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		g := newGate(t, i.options()...)
		token := sign(edDSA, edKey, claims(jwt.MapClaims{"exp": time.Now().Add(24 * time.Hour).Unix()}), nil)
		begin := time.Now()
		g.allowed("token", token)
		i.set(func(i *issuer) { i.status = http.StatusServiceUnavailable })

		for time.Since(begin) < 4*time.Hour {
			g.allowed("token", token)
			time.Sleep(10 * time.Minute)
		}
		if !strings.Contains(g.logged(), "level=WARN") {
			t.Error("the log does not say that the issuer is down")
		}
		g.failed("issuer.test", "token", token)
		g.failed("issuer.test", "token", signedBy("other", edKey)) // who knows

		i.set(func(i *issuer) { i.status = http.StatusOK })
		time.Sleep(5 * time.Second)
		g.allowed("token", token)
	})
	// To the moment, with keys that were asked for when they were still good.
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		g := newGate(t, i.options()...)
		token := sign(edDSA, edKey, claims(jwt.MapClaims{"exp": time.Now().Add(24 * time.Hour).Unix()}), nil)
		g.allowed("token", token)
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		time.Sleep(4*time.Hour - 1)
		g.allowed("token", token)
		time.Sleep(time.Nanosecond)
		g.failed("connection refused", "token", token)
	})
}

// An unknown name while the issuer is down is no proof that the key is none.
func TestUnknownKeyWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		g := newGate(t, i.options()...)
		g.allowed("token", good())
		i.set(func(i *issuer) { i.err = errors.New("connection refused") })
		time.Sleep(30 * time.Second)
		g.failed("connection refused", "token", signedBy("new", edKey))
		g.allowed("token", good())
	})
}

func TestIssuerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		i.takes = time.Hour
		g := newGate(t, i.options()...)
		begin := time.Now()
		g.failed("deadline exceeded", "token", good())
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("took %s", took)
		}
		// The pause is after the request: an issuer that is slow is not asked without end.
		g.failed("deadline exceeded", "token", good())
		if i.asked() != 1 || time.Since(begin) != 5*time.Second {
			t.Errorf("asked %d times in %s", i.asked(), time.Since(begin))
		}
	})
	// The invocation ends earlier. Its request goes on, for the next one.
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		i.takes = 3 * time.Second
		g := newGate(t, i.options()...)
		token := good()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		_, err := g.handler(ctx, request(map[string]string{"token": token}))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("got %v after %s", err, time.Since(begin))
		}
		g.allowed("token", token)
		if time.Since(begin) != 3*time.Second || i.asked() != 1 {
			t.Errorf("asked %d times in %s", i.asked(), time.Since(begin))
		}
	})
	// Keys that are there count when the invocation has no time to wait.
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(newJWK("k", edKey, nil))
		g := newGate(t, i.options()...)
		g.allowed("token", good())
		i.set(func(i *issuer) { i.takes = time.Hour })
		time.Sleep(20 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if answer, err := g.handler(ctx, request(map[string]string{"token": good()})); err != nil || effect(answer) != "Allow" {
			t.Errorf("got %+v, %v", answer, err)
		}
		time.Sleep(5 * time.Second) // the request ends
	})
}

func TestAnswersOfTheIssuer(t *testing.T) {
	set := jwks(newJWK("k", edKey, nil))
	padded := func(n int) string { return strings.Repeat(" ", n-len(set)) + set }
	for name, x := range map[string]struct {
		change func(*issuer)
		reason string // of a failure; empty: allowed
	}{
		"fits":              {func(i *issuer) { i.body = padded(256 << 10) }, ""},
		"too large":         {func(i *issuer) { i.body = padded(256<<10 + 1) }, "more than"},
		"members more":      {func(i *issuer) { i.body = `{"issuer":"x",` + set[1:] }, ""},
		"redirect":          {func(i *issuer) { i.status, i.header = 302, http.Header{"Location": {"https://evil.test/keys"}} }, "answers"},
		"redirect, GET":     {func(i *issuer) { i.status, i.header = 307, http.Header{"Location": {"/keys"}} }, "answers"},
		"not found":         {func(i *issuer) { i.status = 404 }, "answers"},
		"created":           {func(i *issuer) { i.status = 201 }, "answers"},
		"empty":             {func(i *issuer) { i.body = "" }, "no set of keys"},
		"HTML":              {func(i *issuer) { i.body = "<html>" }, "no set of keys"},
		"other document":    {func(i *issuer) { i.body = `{"jwks_uri":"https://issuer.test/keys"}` }, "no set of keys"},
		"null":              {func(i *issuer) { i.body = `{"keys":null}` }, "no set of keys"},
		"keys in an object": {func(i *issuer) { i.body = `{"keys":{}}` }, "no set of keys"},
		"a second document": {func(i *issuer) { i.body = set + set }, "no set of keys"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer()
			i.body = set
			x.change(i)
			g := newGate(t, i.options()...)
			if x.reason == "" {
				g.allowed("token", good())
			} else {
				g.failed(x.reason, "token", good())
			}
			if i.asked() != 1 {
				t.Errorf("asked %v", i.requests)
			}
		})
	}
}

// One key that is none does not spoil the others, and a withdrawn set is one.
func TestSetWithoutKeys(t *testing.T) {
	for _, body := range []string{`{"keys":[]}`, `{"keys":[null,1,"x",{}]}`, jwks(newJWK("k", edKey, jwk{"use": "enc"}))} {
		i := newIssuer()
		i.body = body
		g := newGate(t, i.options()...)
		if _, err := g.connect("token", good()); err != authorizer.ErrUnauthorized {
			t.Errorf("%s: got %v", body, err)
		}
		if log := g.logged(); !strings.Contains(log, "none of the issuer's keys can be used") {
			t.Errorf("%s: the log has\n%s", body, log)
		}
	}
	i := newIssuer()
	i.body = `{"keys":[null,1,"x",{},{"kid":"k","kty":"EC","crv":"P-256"},` + strings.TrimPrefix(jwks(newJWK("k", edKey, nil)), `{"keys":[`)
	newGate(t, i.options()...).allowed("token", good())
}

func TestKeys(t *testing.T) {
	all := authorizer.WithAlgorithms("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
	rs := sign(jwt.SigningMethodRS256, rsaKey, claims(nil), nil)
	es := sign(jwt.SigningMethodES256, p256, claims(nil), nil)
	ed := good()
	zeros := func(n int) string { return base64.RawURLEncoding.EncodeToString(make([]byte, n)) }
	const quiet = "none of the issuer's keys" // nothing is wrong with the key: it is for something else
	for name, x := range map[string]struct {
		key    jwk
		token  string
		reason string // in the log; empty: allowed
	}{
		"RSA":                {newJWK("k", rsaKey, nil), rs, ""},
		"RSA with all":       {newJWK("k", rsaKey, jwk{"use": "sig", "alg": "RS256", "key_ops": []string{"verify"}, "x5c": []string{"x"}, "x5u": "https://evil.test"}), rs, ""},
		"RSA padded":         {newJWK("k", rsaKey, jwk{"e": "AQAB=="}), rs, ""},
		"RSA 1024":           {newJWK("k", weakKey, nil), sign(jwt.SigningMethodRS256, weakKey, claims(nil), nil), "RSA of 1024 bits"},
		"RSA huge":           {newJWK("k", rsaKey, jwk{"n": strings.Repeat("_", 1400)}), rs, "RSA of 8400 bits"},
		"RSA without n":      {newJWK("k", rsaKey, jwk{"n": nil}), rs, "RSA of 0 bits"},
		"RSA without e":      {newJWK("k", rsaKey, jwk{"e": nil}), rs, "exponent"},
		"RSA e=1":            {newJWK("k", rsaKey, jwk{"e": "AQ"}), rs, "exponent"},
		"RSA e=2":            {newJWK("k", rsaKey, jwk{"e": "Ag"}), rs, "exponent"},
		"RSA e=2^64+65537":   {newJWK("k", rsaKey, jwk{"e": "AQAAAAAAAQAB"}), rs, "exponent"},
		"RSA n not base64":   {newJWK("k", rsaKey, jwk{"n": "!"}), rs, "not base64"},
		"RSA e not base64":   {newJWK("k", rsaKey, jwk{"e": "!"}), rs, "not base64"},
		"RSA private":        {newJWK("k", rsaKey, jwk{"d": "AQAB"}), rs, "private key"},
		"RSA is an EC":       {newJWK("k", rsaKey, jwk{"kty": "EC"}), rs, quiet},
		"RSA on a curve":     {newJWK("k", rsaKey, jwk{"crv": "P-256"}), rs, quiet},
		"n is a number":      {newJWK("k", rsaKey, jwk{"n": 17}), rs, "cannot unmarshal"},
		"EC":                 {newJWK("k", p256, nil), es, ""},
		"EC not on curve":    {newJWK("k", p256, jwk{"y": zeros(32)}), es, "not on curve"},
		"EC at infinity":     {newJWK("k", p256, jwk{"x": zeros(32), "y": zeros(32)}), es, "not on curve"},
		"EC short":           {newJWK("k", p256, jwk{"x": zeros(31)}), es, "31 bytes"},
		"EC long":            {newJWK("k", p256, jwk{"y": zeros(33)}), es, "33 bytes"},
		"EC without y":       {newJWK("k", p256, jwk{"y": nil}), es, "0 bytes"},
		"EC not base64":      {newJWK("k", p256, jwk{"x": "!"}), es, "not base64"},
		"EC other curve":     {newJWK("k", p256, jwk{"crv": "P-384"}), es, "32 bytes"},
		"EC no curve":        {newJWK("k", p256, jwk{"crv": nil}), es, quiet},
		"EC Bitcoin's":       {newJWK("k", p256, jwk{"crv": "secp256k1"}), es, quiet},
		"Ed25519":            {newJWK("k", edKey, nil), ed, ""},
		"Ed25519 short":      {newJWK("k", edKey, jwk{"x": zeros(31)}), ed, "31 bytes"},
		"Ed25519 long":       {newJWK("k", edKey, jwk{"x": zeros(33)}), ed, "33 bytes"},
		"Ed25519 not base64": {newJWK("k", edKey, jwk{"x": "!"}), ed, "not base64"},
		"X25519":             {newJWK("k", edKey, jwk{"crv": "X25519"}), ed, quiet},
		"private":            {newJWK("k", edKey, jwk{"d": "AQAB"}), ed, "private key"},
		"for encryption":     {newJWK("k", edKey, jwk{"use": "enc"}), ed, quiet},
		"for wrapping":       {newJWK("k", edKey, jwk{"key_ops": []string{"wrapKey", "sign"}}), ed, quiet},
		"for nothing":        {newJWK("k", edKey, jwk{"key_ops": []string{}}), ed, quiet},
		"by another alg":     {newJWK("k", rsaKey, jwk{"alg": "RS512"}), rs, "no such key"},
		"by an unsafe alg":   {newJWK("k", rsaKey, jwk{"alg": "HS256"}), rs, quiet},
		"without kid":        {newJWK("", edKey, nil), ed, quiet},
		"other kid":          {newJWK("K", edKey, nil), ed, "no such key"},
		"no kty":             {newJWK("k", edKey, jwk{"kty": nil}), ed, quiet},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, append(newIssuer(x.key).options(), all)...)
			answer, err := g.connect("token", x.token)
			log := g.logged()
			switch {
			case x.reason == "":
				if err != nil || effect(answer) != "Allow" || log != "" {
					t.Errorf("got %+v, %v\n%s", answer, err, log)
				}
			case err != authorizer.ErrUnauthorized || !strings.Contains(log, x.reason):
				t.Errorf("got %+v, %v\n%s", answer, err, log)
			case x.reason == quiet && strings.Contains(log, "is not used"):
				t.Errorf("warns of a key for something else:\n%s", log)
			}
		})
	}
}

// One name may be that of two keys of different types, as RFC 7517 has it.
func TestKeysOfOneName(t *testing.T) {
	g := newGate(t, newIssuer(newJWK("k", edKey, nil), newJWK("k", rsaKey, nil), newJWK("k", strangerKey, nil)).options()...)
	g.allowed("token", good())
	g.allowed("token", sign(jwt.SigningMethodRS256, rsaKey, claims(nil), nil))
	g.refused("signature is invalid", "token", sign(jwt.SigningMethodRS256, strangerKey, claims(nil), nil))
}

// Many invocations of one process, while keys come and go.
func TestConcurrency(t *testing.T) {
	i := newIssuer(newJWK("k", edKey, nil))
	g := newGate(t, append(i.options(), authorizer.WithAPIKey(access, secret, "read"))...)
	token, key := good(), authorizer.APIKey(access, secret)
	evil := signedBy("evil", edKey)
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			for range 50 {
				switch n % 4 {
				case 0, 1:
					if answer, err := g.connect("token", token); err != nil || effect(answer) != "Allow" {
						t.Errorf("got %+v, %v", answer, err)
					}
				case 2:
					if answer, err := g.connect("apikey", key, "scope", "read"); err != nil || effect(answer) != "Allow" {
						t.Errorf("got %+v, %v", answer, err)
					}
				case 3:
					if _, err := g.connect("token", evil); err != authorizer.ErrUnauthorized {
						t.Errorf("got %v", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if i.asked() != 1 {
		t.Errorf("asked %v", i.requests)
	}
}

func TestAddressOfKeys(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://issuer.test":        "https://issuer.test/.well-known/jwks.json",
		"https://issuer.test/":       "https://issuer.test/.well-known/jwks.json",
		"https://issuer.test/tenant": "https://issuer.test/tenant/.well-known/jwks.json",
	} {
		i := newIssuer(newJWK("k", edKey, nil))
		g := newGate(t, append(i.options()[1:], authorizer.WithJWT(issuer, audience))...)
		g.allowed("token", sign(edDSA, edKey, claims(jwt.MapClaims{"iss": issuer}), nil))
		if !slices.Equal(i.requests, []string{want}) {
			t.Errorf("%s: asked %v", issuer, i.requests)
		}
	}
}
