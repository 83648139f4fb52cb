package authorizer

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	defaultLeeway = time.Minute
	maxLeeway     = 5 * time.Minute
)

// algorithms that tokens may be signed by, and the keys they take. All are asymmetric: with
// one that is not, the public key would be the secret.
var algorithms = map[string]keyType{
	"RS256": {kty: "RSA"}, "RS384": {kty: "RSA"}, "RS512": {kty: "RSA"},
	"PS256": {kty: "RSA"}, "PS384": {kty: "RSA"}, "PS512": {kty: "RSA"},
	"ES256": {kty: "EC", crv: "P-256"}, "ES384": {kty: "EC", crv: "P-384"}, "ES512": {kty: "EC", crv: "P-521"},
	"EdDSA": {kty: "OKP", crv: "Ed25519"},
}

var defaultAlgorithms = []string{"RS256", "PS256", "ES256", "EdDSA"}

func algorithmNames() []string { return slices.Sorted(maps.Keys(algorithms)) }

// tokens verifies the tokens of an issuer.
type tokens struct {
	parser *jwt.Parser
	keys   *keySet
}

func newTokens(c *config, log func() *slog.Logger) (*tokens, error) {
	keys, err := newKeySet(c, log)
	if err != nil {
		return nil, err
	}
	return &tokens{keys: keys, parser: jwt.NewParser(
		jwt.WithValidMethods(c.algorithms),
		jwt.WithIssuer(c.issuer),
		jwt.WithAudience(c.audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(c.leeway),
	)}, nil
}

func (s *tokens) verify(ctx context.Context, token string) (who identity, _ error) {
	// A map and not a struct: to encoding/json EXP is the field exp of a struct.
	claims := jwt.MapClaims{}
	var keyErr error
	_, err := s.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (key any, _ error) {
		key, keyErr = s.key(ctx, t)
		return key, keyErr
	})
	switch {
	case keyErr != nil:
		return who, keyErr
	case err != nil:
		return who, explain(err)
	}
	var date [3]int64
	for i, name := range []string{"exp", "nbf", "iat"} {
		var ok bool
		if date[i], ok = seconds(claims[name]); !ok {
			return who, refusal("the claim " + name + " is not a date")
		}
	}
	sub, _ := claims["sub"].(string)
	if sub == "" {
		return who, refusal("the claim sub is missing")
	}
	scope, ok := claims["scope"].(string)
	if !ok && claims["scope"] != nil {
		return who, refusal("the claim scope is not a string")
	}
	return identity{principal: sub, context: map[string]any{
		"auth":        "jwt",
		"principalId": sub,
		"sub":         sub,
		"scope":       scope,
		"iss":         claims["iss"],
		"exp":         date[0],
		"nbf":         date[1],
		"iat":         date[2],
	}}, nil
}

// key that the token says it is signed by. Of all that a header may have only alg and kid
// count: a key or an address of one (jwk, jku, x5c, x5u) is the attacker's.
func (s *tokens) key(ctx context.Context, t *jwt.Token) (any, error) {
	if _, has := t.Header["crit"]; has {
		return nil, refusal("the token has critical extensions")
	}
	kid, _ := t.Header["kid"].(string)
	if kid == "" {
		return nil, refusal("the token names no key")
	}
	return s.keys.lookup(ctx, keyName{kid: kid, alg: t.Method.Alg()})
}

// maxSeconds is the end of the year 9999. The parser converts numbers without looking: a
// date beyond the range of integers becomes one of long ago.
const maxSeconds = 253402300799

// seconds of a date in a claim, 0 when there is none.
func seconds(claim any) (int64, bool) {
	if claim == nil {
		return 0, true
	}
	v, ok := claim.(float64)
	return int64(v), ok && v >= 0 && v <= maxSeconds
}

// The parser's reasons that say what they are without quoting the token.
var reasons = []error{
	jwt.ErrTokenMalformed,
	jwt.ErrTokenSignatureInvalid,
	jwt.ErrTokenUnverifiable,
	jwt.ErrTokenExpired,
	jwt.ErrTokenNotValidYet,
	jwt.ErrTokenUsedBeforeIssued,
	jwt.ErrTokenInvalidIssuer,
	jwt.ErrTokenInvalidAudience,
	jwt.ErrTokenRequiredClaimMissing,
}

func explain(err error) refusal {
	for _, reason := range reasons {
		if errors.Is(err, reason) {
			return refusal(reason.Error())
		}
	}
	return refusal(jwt.ErrTokenInvalidClaims.Error())
}
