package construct

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Vacant fails when a broker has its resource already. Field is that of the broker: Queue.
func Vacant(scope constructs.Construct, field string, taken bool) {
	if taken {
		Fail(scope, "Broker."+field, "there is a %s already: each has a broker of its own", strings.ToLower(field))
	}
}

// Need fails when a broker has no resource yet, and names the calls that make one.
func Need(scope constructs.Construct, field string, there bool, calls string) {
	if !there {
		Fail(scope, "Broker."+field, "there is no %s: call %s first", strings.ToLower(field), calls)
	}
}

// ARN of what is called name in this account and region; one that is given stays as it is.
func ARN(scope constructs.Construct, property, service, name string) string {
	switch {
	case name == "":
		Fail(scope, property, "the name is missing")
	case strings.HasPrefix(name, "arn:"):
		return name
	}
	return *awscdk.Stack_Of(scope).FormatArn(&awscdk.ArnComponents{Service: jsii.String(service), Resource: &name})
}
