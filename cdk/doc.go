// Package cdk is about the packages below it: constructs of AWS CDK that deploy functions of
// AWS Lambda with what they consume, one package for each broker. They follow one pattern:
// create a broker, attach sinks.
//
//	broker := eventbridge.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewEventBus(nil)
//	broker.NewSink(&eventbridge.SinkProps{
//		Source: []string{"shop"},
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/shop",
//			SourceCodeLambda: "cmd/orders",
//		},
//	})
//
// A broker makes its resource (NewQueue), or takes one that exists (AddQueue). A sink is a
// function with its event source, permissions and environment. GrantWrite and GrantRead do
// the same for any other function. The constructors without a broker, such as sqs.NewSink,
// take the resource from their properties.
//
// Constructs are in a module of their own, and never in what a function imports: they would
// make its binary 32 MB larger.
//
// # Functions
//
// Function is what package scud has: a *scud.FunctionGoProps, or a *scud.ContainerGoProps for
// an image. What its FunctionProps say counts; otherwise:
//
//	runtime       provided.al2023
//	architecture  arm64; Toolchain.GoEnv["GOARCH"], Architecture, or for the whole application
//	              the context swarm:goarch say amd64
//	timeout       1 min
//	log           kept for a month, deleted with the stack. LogGroup is another one, and
//	              LogRetention contradicts it
//	role          may write this log, and what the sink needs. A Role given is not changed
//	              but by grants
//	name          one that CloudFormation makes
//	environment   CONFIG_SWARM_SOURCE_…, what Build("") of the broker takes
//	              CONFIG_SWARM_TIME_TO_FLIGHT, the timeout in seconds
//	              CONFIG_SWARM_AGENT and _REALM, for swarm.WithConfigFromEnv
//
// Functions that are invoked asynchronously (eventbridge, sns, events3) also have OnFailure, 2
// RetryAttempts and a MaxEventAge of 6 hours, which is what Lambda does by itself.
//
// # Builds
//
// Binaries are built at synthesis, by go build with the environment of the application. The
// package has to be found from the working folder: it is of the main module, of a workspace,
// or of a module that go.mod requires. What is deployed has the hash of the binary, and
// builds are reproducible: a function is deployed again when its code, or that of a
// dependency, has changed. FunctionProps.Code is taken instead, if it is set.
//
// Containers are built by scud, which gets the environment that it needs. It compiles each
// time as well, and Docker makes the image at deployment.
//
// # Deployment
//
// Applications are programs. Nothing but Node.js is needed to synthesise, and no network once
// the modules are there:
//
//	cdk deploy --app "go run ./path/of/the/application"
//
// The CDK for Go supports Node.js 22 and later, and prints a banner with others. For Node.js
// 20 the variable JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION=20 hides it.
//
// # Errors
//
// Constructors panic when a property is missing or contradicts another one, with an error that
// names the construct and the property. What would deploy but not do well is a warning, which
// cdk synth prints.
package cdk
