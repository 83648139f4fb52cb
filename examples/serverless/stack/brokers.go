package main

import (
	"crypto/rand"
	"encoding/base64"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/jsii-runtime-go"

	"github.com/fogfish/swarm/cdk/eventbridge"
	"github.com/fogfish/swarm/cdk/eventddb"
	"github.com/fogfish/swarm/cdk/events3"
	"github.com/fogfish/swarm/cdk/sns"
	"github.com/fogfish/swarm/cdk/sqs"
	"github.com/fogfish/swarm/cdk/websocket"
)

// apiKey is the one that clients show: of the context (cdk deploy -c secret=…), or a new one.
// The template has it in plain text, and an output says it: it is an example. An API for others
// than you has it of a secret of AWS Secrets Manager, or takes tokens.
func apiKey(stack awscdk.Stack) *websocket.AuthorizerApiKeyProps {
	secret, _ := stack.Node().TryGetContext(jsii.String("secret")).(string)
	if secret == "" {
		secret = rand.Text()
	}
	key := base64.RawURLEncoding.EncodeToString([]byte("example:" + secret))
	awscdk.NewCfnOutput(stack, jsii.String("Key"), &awscdk.CfnOutputProps{Value: jsii.String("?apikey=" + key)})
	return &websocket.AuthorizerApiKeyProps{Access: "example", Secret: secret}
}

// A queue, and one that the function sends to.
func newSQS(stack awscdk.Stack) {
	in := sqs.NewBroker(stack, jsii.String("In"), nil)
	in.NewQueue(nil)
	sink := in.NewSink(&sqs.SinkProps{Function: example("serverless/sqs")})

	out := sqs.NewBroker(stack, jsii.String("Out"), nil)
	out.NewQueue(nil)
	out.GrantWrite(sink.Handler)
}

// The events of one agent.
func newEventBridge(stack awscdk.Stack) {
	broker := eventbridge.NewBroker(stack, jsii.String("Broker"), nil)
	broker.NewEventBus(nil)
	broker.NewSink(&eventbridge.SinkProps{
		Source:   []string{"swarm-example-eventbridge"},
		Function: example("serverless/functions/eventbridge"),
	})
}

// The messages that the function knows.
func newSNS(stack awscdk.Stack) {
	broker := sns.NewBroker(stack, jsii.String("Broker"), nil)
	broker.NewTopic(nil)
	broker.NewSink(&sns.SinkProps{
		Category: []string{"Note", "User", "Image"},
		Function: example("serverless/functions/sns"),
	})
}

func newEventS3(stack awscdk.Stack) {
	broker := events3.NewBroker(stack, jsii.String("Broker"), nil)
	broker.NewBucket(nil)
	broker.NewSink(&events3.SinkProps{Function: example("serverless/functions/events3")})
}

func newEventDDB(stack awscdk.Stack) {
	broker := eventddb.NewBroker(stack, jsii.String("Broker"), nil)
	broker.NewTable(&awsdynamodb.TablePropsV2{
		PartitionKey: &awsdynamodb.Attribute{Name: jsii.String("id"), Type: awsdynamodb.AttributeType_STRING},
	})
	broker.NewSink(&eventddb.SinkProps{Function: example("eventddb")})
}

// Clients show an API key.
func newWebSocket(stack awscdk.Stack) {
	broker := websocket.NewBroker(stack, jsii.String("Broker"), nil)
	broker.NewAuthorizerApiKey(apiKey(stack))
	broker.NewGateway(nil)
	broker.NewSink(&websocket.SinkProps{Route: "Say", Function: own("echo")})
	awscdk.NewCfnOutput(stack, jsii.String("URL"), &awscdk.CfnOutputProps{Value: broker.Stage.Url()})
}
