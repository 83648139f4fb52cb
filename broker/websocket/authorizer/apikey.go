package authorizer

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
)

// APIKey makes the key that a client shows: unpadded base64 of access:secret. In a query
// string it is percent-encoded: it may have a plus sign in it.
func APIKey(access, secret string) string {
	return base64.RawStdEncoding.EncodeToString([]byte(access + ":" + secret))
}

// WithAPIKey accepts the key that [APIKey] makes of access and secret. Access is the name of
// the client, which the connection has as its principal; there is no colon in it. Scope is
// all that the client may ask for: names, also several in one string, separated by spaces.
// Given more than once, each of the keys is accepted: also two secrets of one client, while
// the one takes the place of the other.
func WithAPIKey(access, secret string, scope ...string) Option {
	return func(c *config) {
		key := apiKey{
			access: access,
			digest: sha256.Sum256([]byte(access + ":" + secret)),
			scope:  strings.Fields(strings.Join(scope, " ")),
		}
		switch {
		case access == "" || secret == "":
			c.fail("WithAPIKey: access and secret must not be empty")
		case strings.Contains(access, ":"):
			c.fail("WithAPIKey: access must not have a colon")
		}
		for _, name := range key.scope {
			if strings.ContainsAny(name, "+%") { // nobody could ask for it: see unescape
				c.fail("WithAPIKey: scope %q must not have + or %%", name)
			}
		}
		c.keys = append(c.keys, key)
	}
}

// apiKey is a key without its secret.
type apiKey struct {
	access string
	digest [sha256.Size]byte // of access:secret
	scope  []string
}

// alphabet maps other spellings of base64, and what becomes of a plus sign in a query
// string.
var alphabet = strings.NewReplacer("-", "+", "_", "/", " ", "+")

func verifyAPIKey(keys []apiKey, value, scope string) (who identity, err error) {
	if value, err = unescape(value); err != nil {
		return who, err
	}
	credentials, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(alphabet.Replace(value), "="))
	if err != nil {
		return who, refusal("the API key is not base64")
	}
	// Digests are of one length, and all are compared: time tells neither how long a secret
	// is, nor how much of it is right, nor which of the keys.
	digest, found := sha256.Sum256(credentials), -1
	for i := range keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(digest[:], keys[i].digest[:]), i, found)
	}
	if found < 0 {
		return who, refusal("the API key is unknown")
	}
	key := keys[found]
	if scope, err = unescape(scope); err != nil {
		return who, err
	}
	names := strings.Fields(scope)
	for _, name := range names {
		if !slices.Contains(key.scope, name) {
			return who, denial{principal: key.access}
		}
	}
	return identity{principal: key.access, context: map[string]any{
		"auth":        "basic",
		"principalId": key.access,
		"sub":         key.access,
		"scope":       strings.Join(names, " "),
	}}, nil
}
