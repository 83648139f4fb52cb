package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"

	"github.com/fogfish/swarm/cdk/eventbridge"
	"github.com/fogfish/swarm/cdk/eventddb"
	"github.com/fogfish/swarm/cdk/events3"
	"github.com/fogfish/swarm/cdk/sqs"
	"github.com/fogfish/swarm/cdk/websocket"
	"github.com/fogfish/swarm/examples/serverless/stack/internal/connections"
	"github.com/fogfish/swarm/examples/serverless/stack/internal/uploads"
)

// Clients see which files are uploaded, as they come:
//
//	bucket > uploads > bus > queue > catalogue > table > stream > notify > WebSocket
func newJoined(stack awscdk.Stack) {
	// An upload becomes an event: who else cares may have a rule as well.
	files := events3.NewBroker(stack, jsii.String("Files"), nil)
	files.NewBucket(nil)
	upload := files.NewSink(&events3.SinkProps{Function: own("uploads")})

	bus := eventbridge.NewBroker(stack, jsii.String("Events"), nil)
	bus.NewEventBus(nil)
	bus.GrantWrite(upload.Handler)

	// A rule may have a queue as its target, for bursts: listeners unwrap the event.
	queue := sqs.NewBroker(stack, jsii.String("Uploads"), nil)
	queue.NewQueue(nil)
	catalogue := queue.NewSink(&sqs.SinkProps{Function: own("catalogue")})
	awsevents.NewRule(stack, jsii.String("Uploaded"), &awsevents.RuleProps{
		EventBus:     bus.Bus,
		EventPattern: eventbridge.Like(eventbridge.Typed[uploads.Uploaded]()),
	}).AddTarget(awseventstargets.NewSqsQueue(queue.Queue, &awseventstargets.SqsQueueProps{
		DeadLetterQueue: queue.DeadLetterQueue,
	}))

	table := eventddb.NewBroker(stack, jsii.String("Catalogue"), nil)
	table.NewTable(&awsdynamodb.TablePropsV2{
		PartitionKey: &awsdynamodb.Attribute{Name: jsii.String("bucket"), Type: awsdynamodb.AttributeType_STRING},
		SortKey:      &awsdynamodb.Attribute{Name: jsii.String("key"), Type: awsdynamodb.AttributeType_STRING},
	})
	table.GrantWrite(catalogue.Handler)
	notify := table.NewSink(&eventddb.SinkProps{Function: own("notify")})

	// Functions have no memory of their own: a table knows who is there.
	clients := websocket.NewBroker(stack, jsii.String("Clients"), nil)
	clients.NewAuthorizerApiKey(apiKey(stack))
	clients.NewGateway(nil)
	clients.GrantWrite(notify.Handler)
	presence := clients.NewSink(&websocket.SinkProps{
		Routes:   []string{websocket.RouteConnect, websocket.RouteDisconnect},
		Function: own("presence"),
	})
	who := awsdynamodb.NewTableV2(stack, jsii.String("Connections"), &awsdynamodb.TablePropsV2{
		PartitionKey:  &awsdynamodb.Attribute{Name: jsii.String(connections.Topic), Type: awsdynamodb.AttributeType_STRING},
		SortKey:       &awsdynamodb.Attribute{Name: jsii.String(connections.Connection), Type: awsdynamodb.AttributeType_STRING},
		RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	who.Grant(presence.Handler, jsii.String("dynamodb:PutItem"), jsii.String("dynamodb:DeleteItem"))
	who.Grant(notify.Handler, jsii.String("dynamodb:Query"), jsii.String("dynamodb:DeleteItem"))
	for _, f := range []awslambda.Function{presence.Handler, notify.Handler} {
		f.AddEnvironment(jsii.String(connections.EnvTable), who.TableName(), nil)
	}

	awscdk.NewCfnOutput(stack, jsii.String("Bucket"), &awscdk.CfnOutputProps{Value: files.Bucket.BucketName()})
	awscdk.NewCfnOutput(stack, jsii.String("URL"), &awscdk.CfnOutputProps{Value: clients.Stage.Url()})
}
