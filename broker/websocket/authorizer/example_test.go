package authorizer_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/golang-jwt/jwt/v5"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

// The main function of an authorizer that takes API keys and tokens.
func ExampleNew() {
	handler, err := authorizer.New(
		authorizer.WithAPIKey("ada", os.Getenv("SECRET_OF_ADA"), "chat:read", "chat:write"),
		authorizer.WithJWT("https://issuer.example.com", "chat"),
		authorizer.WithAlgorithms("RS256", "ES256"),
		authorizer.WithLeeway(30*time.Second),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	lambda.Start(handler)
}

// What a client adds to the address of the API, and what the authorizer makes of it.
func ExampleAPIKey() {
	handler, err := authorizer.New(authorizer.WithAPIKey("ada", "lovelace??", "chat:read", "chat:write"))
	if err != nil {
		fmt.Println(err)
		return
	}

	key := authorizer.APIKey("ada", "lovelace??")
	fmt.Println("wss://api.example.com/live?" + url.Values{"apikey": {key}, "scope": {"chat:read"}}.Encode())

	answer, err := handler(context.Background(), events.APIGatewayCustomAuthorizerRequestTypeRequest{
		Type:                  "REQUEST",
		MethodArn:             "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3/live/$connect",
		QueryStringParameters: map[string]string{"apikey": key, "scope": "chat:read"},
	})
	fmt.Println(answer.PolicyDocument.Statement[0].Effect, answer.PrincipalID, answer.Context["scope"], err)
	// Output:
	// wss://api.example.com/live?apikey=YWRhOmxvdmVsYWNlPz8&scope=chat%3Aread
	// Allow ada chat:read <nil>
}

// A test of one's own needs no issuer of tokens: a server on this host publishes the key.
func ExampleWithJWT() {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		x := base64.RawURLEncoding.EncodeToString(public)
		io.WriteString(w, `{"keys":[{"kid":"2026","kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","x":"`+x+`"}]}`)
	}))
	defer issuer.Close()

	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer.URL, "aud": "chat", "sub": "grace", "scope": "chat:read", "exp": time.Now().Add(time.Hour).Unix(),
	})
	token.Header["kid"] = "2026"
	signed, err := token.SignedString(private)
	if err != nil {
		fmt.Println(err)
		return
	}

	handler, err := authorizer.New(
		authorizer.WithJWT(issuer.URL, "chat"),
		authorizer.WithHTTPClient(issuer.Client()),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	connect := events.APIGatewayCustomAuthorizerRequestTypeRequest{
		Type:                  "REQUEST",
		MethodArn:             "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3/live/$connect",
		QueryStringParameters: map[string]string{"token": signed},
	}
	answer, err := handler(context.Background(), connect)
	fmt.Println(answer.PolicyDocument.Statement[0].Effect, answer.PrincipalID, answer.Context["auth"], answer.Context["scope"], err)
	// Output: Allow grace jwt chat:read <nil>
}
