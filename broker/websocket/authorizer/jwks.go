package authorizer

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	freshTime    = 15 * time.Minute // then keys are asked for again
	staleTime    = 4 * time.Hour    // so long they are used when nobody answers
	unknownPause = 30 * time.Second // between requests, whoever names keys that are not there
	failedPause  = 5 * time.Second  // after a request that failed
	fetchTimeout = 5 * time.Second
	maxSet       = 256 << 10
)

// keyName is what a token says of its key. A key is found only by an algorithm that it is
// for.
type keyName struct{ kid, alg string }

// keySet is the published keys of an issuer. They are asked for when a token needs them, and
// never in the background: a function is frozen between invocations.
type keySet struct {
	url        string
	client     *http.Client
	algorithms []string
	log        func() *slog.Logger

	mu      sync.Mutex
	keys    map[keyName]crypto.PublicKey
	fetched time.Time     // when the request of keys began
	tried   time.Time     // when the last request ended
	failure error         // of the last request
	flight  chan struct{} // closed when the request under way ends; nil: there is none
}

func newKeySet(c *config, log func() *slog.Logger) (*keySet, error) {
	address := cmp.Or(c.jwks, strings.TrimRight(c.issuer, "/")+"/.well-known/jwks.json")
	if err := checkURL(address); err != nil {
		return nil, fmt.Errorf("authorizer: the keys of the issuer (WithJWKS): %w", err)
	}
	client := *cmp.Or(c.client, http.DefaultClient)
	// A redirect is an answer as any other that is not 200.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &keySet{url: address, client: &client, algorithms: c.algorithms, log: log}, nil
}

func checkURL(address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("not a URL") // what it is may have a password in it
	case u.User != nil:
		return errors.New("the URL must not have a user or a password")
	case u.Hostname() == "":
		return fmt.Errorf("%q is not a URL with a host", address)
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q must be of https", address)
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// now is by the wall clock: the monotonic one stands still while a function is frozen, and
// keys would stay fresh.
func now() time.Time { return time.Now().Round(0) }

// lookup finds a key, and asks the issuer when that is due. The error is a refusal when the
// issuer has no such key, and another one when it is not known whether it has.
func (s *keySet) lookup(ctx context.Context, name keyName) (crypto.PublicKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, known := s.keys[name]
	if known && now().Sub(s.fetched) < freshTime {
		return key, nil
	}
	if s.due() {
		s.refresh(ctx)
	}
	failure := s.failure
	if flight := s.flight; flight != nil {
		s.mu.Unlock()
		select {
		case <-flight:
		case <-ctx.Done():
		}
		s.mu.Lock()
		failure = cmp.Or(s.failure, ctx.Err())
	}
	switch key, known = s.keys[name]; {
	case known && now().Sub(s.fetched) < staleTime:
		return key, nil
	case failure != nil:
		return nil, fmt.Errorf("authorizer: no keys of the issuer: %w", failure)
	}
	return nil, refusal("the issuer has no such key")
}

// due reports whether the issuer may be asked.
func (s *keySet) due() bool {
	pause := unknownPause
	if s.failure != nil {
		pause = failedPause
	}
	return s.flight == nil && now().Sub(s.tried) >= pause
}

// refresh asks the issuer, for everyone who waits: it does not end with the invocation that
// began it.
func (s *keySet) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	begin, flight := now(), make(chan struct{})
	s.flight = flight
	go func() {
		defer cancel()
		keys, err := s.fetch(ctx)
		if err != nil {
			s.log().WarnContext(ctx, "authorizer: no keys of the issuer", "url", s.url, "err", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil {
			s.keys, s.fetched = keys, begin
		}
		s.failure, s.tried, s.flight = err, now(), nil
		close(flight)
	}()
}

func (s *keySet) fetch(ctx context.Context) (map[keyName]crypto.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", s.url, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxSet+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxSet:
		return nil, fmt.Errorf("%s answers more than %d bytes", s.url, maxSet)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, fmt.Errorf("%s answers no set of keys", s.url)
	}
	return s.read(ctx, set.Keys), nil
}

// read takes the keys that can sign tokens. An issuer may publish others.
func (s *keySet) read(ctx context.Context, set []json.RawMessage) map[keyName]crypto.PublicKey {
	keys := make(map[keyName]crypto.PublicKey)
	for _, doc := range set {
		var k jwk
		key, err := crypto.PublicKey(nil), json.Unmarshal(doc, &k)
		if err == nil && !k.signs() {
			continue
		}
		names := s.names(k)
		if err == nil && len(names) > 0 {
			key, err = k.public()
		}
		if err != nil {
			s.log().WarnContext(ctx, "authorizer: a key of the issuer is not used", "url", s.url, "kid", k.ID, "err", err)
			continue
		}
		for _, name := range names {
			if _, has := keys[name]; !has {
				keys[name] = key
			}
		}
	}
	if len(keys) == 0 {
		s.log().WarnContext(ctx, "authorizer: none of the issuer's keys can be used", "url", s.url, "keys", len(set))
	}
	return keys
}

// names by which tokens may call the key.
func (s *keySet) names(k jwk) (names []keyName) {
	for _, alg := range s.algorithms {
		if k.ID != "" && algorithms[alg] == k.keyType() && (k.Algorithm == "" || k.Algorithm == alg) {
			names = append(names, keyName{kid: k.ID, alg: alg})
		}
	}
	return names
}

// keyType is a type of keys, and the curve of those that have one.
type keyType struct{ kty, crv string }

// jwk is a JSON Web Key, RFC 7517. Certificates (x5c, x5u) do not count, as trust is in the
// address that the set is from.
type jwk struct {
	ID         string          `json:"kid"`
	Type       string          `json:"kty"`
	Curve      string          `json:"crv"`
	Algorithm  string          `json:"alg"`
	Use        string          `json:"use"`
	Operations []string        `json:"key_ops"`
	Modulus    string          `json:"n"`
	Exponent   string          `json:"e"`
	X          string          `json:"x"`
	Y          string          `json:"y"`
	Private    json.RawMessage `json:"d"`
}

func (k jwk) keyType() keyType { return keyType{kty: k.Type, crv: k.Curve} }

// signs reports whether the key is for signatures, as far as it says.
func (k jwk) signs() bool {
	return (k.Use == "" || k.Use == "sig") && (k.Operations == nil || slices.Contains(k.Operations, "verify"))
}

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

const (
	minRSA = 2048
	maxRSA = 8192 // beyond, verifying costs more than a stranger may make us spend
)

func (k jwk) public() (crypto.PublicKey, error) {
	if k.Private != nil {
		return nil, errors.New("the private key is published with it")
	}
	switch k.Type {
	case "RSA":
		n, err := octets(k.Modulus)
		if err != nil {
			return nil, err
		}
		e, err := octets(k.Exponent)
		if err != nil {
			return nil, err
		}
		key := &rsa.PublicKey{N: new(big.Int).SetBytes(n)}
		if bits := key.N.BitLen(); bits < minRSA || bits > maxRSA {
			return nil, fmt.Errorf("RSA of %d bits", bits)
		}
		// With the exponent 1 every text is its own signature.
		exponent := new(big.Int).SetBytes(e)
		if exponent.BitLen() < 2 || exponent.BitLen() > 31 || exponent.Bit(0) == 0 {
			return nil, errors.New("RSA with an exponent that is none")
		}
		key.E = int(exponent.Int64())
		return key, nil
	case "EC":
		curve := curves[k.Curve]
		size := (curve.Params().BitSize + 7) / 8
		point := make([]byte, 1+2*size)
		point[0] = 4 // both coordinates follow
		for i, coordinate := range []string{k.X, k.Y} {
			b, err := octets(coordinate)
			if err != nil {
				return nil, err
			}
			if len(b) != size {
				return nil, fmt.Errorf("%s with a coordinate of %d bytes", k.Curve, len(b))
			}
			copy(point[1+i*size:], b)
		}
		return ecdsa.ParseUncompressedPublicKey(curve, point)
	default: // OKP: there is no other name
		x, err := octets(k.X)
		if err != nil {
			return nil, err
		}
		if len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("Ed25519 of %d bytes", len(x))
		}
		return ed25519.PublicKey(x), nil
	}
}

func octets(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return nil, errors.New("not base64")
	}
	return b, nil
}
