package construct

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// The environment of functions. The constants of brokers are not imported: their packages
// have the clients of AWS in them.
const (
	EnvAgent        = "CONFIG_SWARM_AGENT"
	EnvRealm        = "CONFIG_SWARM_REALM"
	EnvTimeToFlight = "CONFIG_SWARM_TIME_TO_FLIGHT"

	EnvSourceSQS      = "CONFIG_SWARM_SOURCE_SQS"
	EnvTargetSQS      = "CONFIG_SWARM_TARGET_SQS"
	EnvSourceEventBus = "CONFIG_SWARM_SOURCE_EVENTBUS"
	EnvTargetEventBus = "CONFIG_SWARM_TARGET_EVENTBUS"
	EnvSourceSNS      = "CONFIG_SWARM_SOURCE_SNS"
	EnvTargetSNS      = "CONFIG_SWARM_TARGET_SNS"
	EnvSourceS3       = "CONFIG_SWARM_SOURCE_S3"
	EnvTargetS3       = "CONFIG_SWARM_TARGET_S3"
	EnvSourceDDB      = "CONFIG_SWARM_SOURCE_DDB"
	EnvTargetDDB      = "CONFIG_SWARM_TARGET_DDB"
	EnvSourceWS       = "CONFIG_SWARM_SOURCE_WS_URL"
	EnvTargetWS       = "CONFIG_SWARM_TARGET_WS_URL"
	EnvCategoryWS     = "CONFIG_SWARM_WS_EVENT_CATEGORY"
)

// Identity is who a function is when it emits.
type Identity struct {
	Agent string // default: the name of the stack
	Realm string // default: none
}

// Or is the identity with what it lacks taken from another one.
func (i Identity) Or(other Identity) Identity {
	Default(&i.Agent, func() string { return other.Agent })
	Default(&i.Realm, func() string { return other.Realm })
	return i
}

func (i Identity) env(scope constructs.Construct) map[string]*string {
	env := map[string]*string{EnvAgent: awscdk.Stack_Of(scope).StackName()}
	if i.Agent != "" {
		env[EnvAgent] = jsii.String(i.Agent)
	}
	if i.Realm != "" {
		env[EnvRealm] = jsii.String(i.Realm)
	}
	return env
}

// What is known of a function's environment is kept as metadata of its construct, since the
// CDK tells nobody what was set: the name, a mark, the value.
const (
	metadata = "swarm:environment"
	ofUser   = "!" // the user has set it
	ofSwarm  = "=" // a construct has
)

func remember(f awslambda.Function, mark, name, value string) {
	f.Node().AddMetadata(jsii.String(metadata), name+mark+value, nil)
}

// Setenv gives the function a variable, unless the user of a sink has set it among the
// properties of its function. A variable that has another value is an error: the function
// would find just one of two queues. Of a function that is no sink's the CDK does not tell
// what its user has set.
func Setenv(f awslambda.Function, property, name string, value *string) {
	for _, m := range *f.Node().Metadata() {
		text, _ := m.Data.(string)
		switch {
		case *m.Type != metadata:
		case strings.HasPrefix(text, name+ofUser), text == name+ofSwarm+*value:
			return
		case strings.HasPrefix(text, name+ofSwarm):
			Fail(f, property, "%[1]s is taken: set %[1]s in the Environment of the function, and name the other one in its code", name)
		}
	}
	remember(f, ofSwarm, name, *value)
	f.AddEnvironment(jsii.String(name), value, nil)
}
