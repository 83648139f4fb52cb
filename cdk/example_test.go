package cdk_test

import (
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"
	"github.com/fogfish/swarm/cdk/eventbridge"
)

// The user guide of v0.24, with other import paths, module and folder.
func Example() {
	app := awscdk.NewApp(nil)
	stack := awscdk.NewStack(app, jsii.String("swarm-example-eventbridge"),
		&awscdk.StackProps{
			Env: &awscdk.Environment{
				Account: jsii.String(os.Getenv("CDK_DEFAULT_ACCOUNT")),
				Region:  jsii.String(os.Getenv("CDK_DEFAULT_REGION")),
			},
		},
	)

	// create broker
	broker := eventbridge.NewBroker(stack, jsii.String("Broker"), nil)
	broker.NewEventBus(nil)

	broker.NewSink(
		&eventbridge.SinkProps{
			Source: []string{"swarm-example-eventbridge"},
			Function: &scud.FunctionGoProps{
				SourceCodeModule: "github.com/fogfish/swarm/examples",
				SourceCodeLambda: "serverless/eventbridge",
			},
		},
	)

	app.Synth(nil)
}
