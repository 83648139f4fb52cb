package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// issuer signs tokens for whoever asks, by the name they say. It is for development only: a
// real one wants to know who it is.
type issuer struct {
	url      string
	reserved string // nobody's name: clients are known by names, whatever they show
	kid      string
	key      ed25519.PrivateKey
}

const audience = "chat"

// newIssuer has a key of its own, so that its tokens are good until the program ends.
func newIssuer(url, reserved string) *issuer {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		log.Fatal(err) // never: the source of random numbers does not fail
	}
	return &issuer{url: url, reserved: reserved, kid: rand.Text(), key: key}
}

// ServeHTTP serves what authorizers ask an issuer for: its public keys.
func (i *issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{"keys": []any{map[string]string{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": i.kid,
		"x": base64.RawURLEncoding.EncodeToString(i.key.Public().(ed25519.PublicKey)),
	}}})
}

// login answers {"name":"ada"} with a token.
func (i *issuer) login(w http.ResponseWriter, r *http.Request) {
	var who struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&who); err != nil {
		http.Error(w, "want a name", http.StatusBadRequest)
		return
	}
	name := strings.TrimSpace(who.Name)
	if n := utf8.RuneCountInString(name); n == 0 || n > 32 || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		http.Error(w, "want a name of up to 32 letters", http.StatusBadRequest)
		return
	}
	if strings.EqualFold(name, i.reserved) { // who shows the API key has it
		http.Error(w, "the name is taken", http.StatusForbidden)
		return
	}
	now := time.Now()
	signed, err := i.sign(jwt.MapClaims{
		"iss": i.url, "aud": audience, "sub": name, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		http.Error(w, "no token", http.StatusInternalServerError)
		return
	}
	reply(w, map[string]string{"token": signed})
}

func (i *issuer) sign(claims jwt.MapClaims) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = i.kid
	return token.SignedString(i.key)
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // to a client that may be gone
}
