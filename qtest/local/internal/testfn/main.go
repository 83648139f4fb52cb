// Testfn is a function that the test of swarm-local builds: it prints what it gets and
// answers with it. A record or an event with "fail" in its body fails. A message of a
// WebSocket is posted back to its connection; and as an authorizer it knows one token.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
)

func main() {
	lambda.Start(func(ctx context.Context, raw json.RawMessage) (any, error) {
		var e struct {
			events.SQSEvent
			events.APIGatewayWebsocketProxyRequest
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		switch {
		case e.Type == "REQUEST":
			effect := map[bool]string{true: "Allow", false: "Deny"}[e.QueryStringParameters["token"] == "mine"]
			return events.APIGatewayCustomAuthorizerResponse{PrincipalID: "me", PolicyDocument: events.APIGatewayCustomAuthorizerPolicy{
				Statement: []events.IAMPolicyStatement{{Action: []string{"execute-api:Invoke"}, Effect: effect, Resource: []string{"*"}}}}}, nil
		case e.RequestContext.EventType != "":
			return events.APIGatewayProxyResponse{StatusCode: 200}, websocket(ctx, e.APIGatewayWebsocketProxyRequest)
		case len(e.Records) > 0:
			return queue(e.SQSEvent), nil
		}
		fmt.Println("event", string(raw))
		if strings.Contains(string(raw), "fail") {
			return nil, errors.New("as told")
		}
		return raw, nil
	})
}

func queue(e events.SQSEvent) (response events.SQSEventResponse) {
	for _, r := range e.Records {
		fmt.Println("message", r.Body)
		if r.Body == "fail" {
			response.BatchItemFailures = append(response.BatchItemFailures, events.SQSBatchItemFailure{ItemIdentifier: r.MessageId})
		}
	}
	return response
}

func websocket(ctx context.Context, e events.APIGatewayWebsocketProxyRequest) error {
	fmt.Println("websocket", e.RequestContext.RouteKey)
	switch {
	case e.Body == "":
		return nil
	case e.Body == "fail":
		return errors.New("as told")
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	client := apigatewaymanagementapi.NewFromConfig(cfg, func(o *apigatewaymanagementapi.Options) {
		o.BaseEndpoint = aws.String(os.Getenv("CONFIG_SWARM_TARGET_WS_URL"))
	})
	_, err = client.PostToConnection(ctx, &apigatewaymanagementapi.PostToConnectionInput{ConnectionId: &e.RequestContext.ConnectionID,
		Data: []byte(e.RequestContext.RouteKey + ": " + e.Body)})
	return err
}
