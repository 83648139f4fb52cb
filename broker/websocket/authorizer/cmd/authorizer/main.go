// Authorizer is the Lambda function that decides who may connect to a WebSocket API of AWS
// API Gateway: see package authorizer. The environment says which credentials it accepts:
//
//	CONFIG_SWARM_WS_AUTHORIZER_ACCESS   an API key: the name of the client,
//	CONFIG_SWARM_WS_AUTHORIZER_SECRET   its secret,
//	CONFIG_SWARM_WS_AUTHORIZER_SCOPE    and the scope that it may ask for
//	CONFIG_SWARM_WS_AUTHORIZER_ISS      tokens: their issuer,
//	CONFIG_SWARM_WS_AUTHORIZER_AUD      their audience,
//	CONFIG_SWARM_WS_AUTHORIZER_JWKS     and where its keys are, if not at /.well-known/jwks.json
//
// With both, a client may show either.
package main

import (
	"log"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

func main() {
	handler, err := authorizer.New(authorizer.WithConfigFromEnv())
	if err != nil {
		log.Fatal(err)
	}
	lambda.Start(handler)
}
