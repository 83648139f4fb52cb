// Stack deploys functions of the examples, each with what it consumes: an application of AWS
// CDK for each broker, and one that joins them.
//
//	cdk deploy --app "go run ./examples/serverless/stack sqs"
//
// To synthesise by hand, without the command of the CDK and without a network:
//
//	CDK_OUTDIR=cdk.out go run ./examples/serverless/stack joined
//
// The functions are built for this machine, to try them by swarm-local, with
//
//	CDK_CONTEXT_JSON='{"swarm:goarch":"amd64"}'
//
// which is what cdk synth makes of -c swarm:goarch=amd64. Clients of WebSocket APIs show an API
// key, which is an output: of -c secret=…, or a new one at each synthesis.
package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"
)

var applications = map[string]func(awscdk.Stack){
	"sqs":         newSQS,
	"eventbridge": newEventBridge,
	"sns":         newSNS,
	"events3":     newEventS3,
	"eventddb":    newEventDDB,
	"websocket":   newWebSocket,
	"joined":      newJoined,
}

func main() {
	if len(os.Args) != 2 || applications[os.Args[1]] == nil {
		fmt.Fprintf(os.Stderr, "usage: stack %s\n", strings.Join(slices.Sorted(maps.Keys(applications)), "|"))
		os.Exit(2)
	}
	defer jsii.Close()
	app := awscdk.NewApp(nil)
	newStack(app, os.Args[1])
	app.Synth(nil)
}

func newStack(app awscdk.App, name string) awscdk.Stack {
	props := &awscdk.StackProps{}
	if account := os.Getenv("CDK_DEFAULT_ACCOUNT"); account != "" {
		props.Env = &awscdk.Environment{Account: &account, Region: jsii.String(os.Getenv("CDK_DEFAULT_REGION"))}
	}
	stack := awscdk.NewStack(app, jsii.String("swarm-example-"+name), props)
	applications[name](stack)
	return stack
}

// example is a function of the examples, by its folder.
func example(folder string) *scud.FunctionGoProps {
	return &scud.FunctionGoProps{
		SourceCodeModule: "github.com/fogfish/swarm/examples",
		SourceCodeLambda: folder,
	}
}

// own is a function of this module, by its name.
func own(name string) *scud.FunctionGoProps {
	return &scud.FunctionGoProps{
		SourceCodeModule: "github.com/fogfish/swarm/examples/serverless/stack",
		SourceCodeLambda: "functions/" + name,
	}
}
