package construct

import (
	"regexp"
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

// kinds are what resources of a service are called, and what is before that in their ARNs.
var kinds = map[string]struct {
	field, before string
	name          *regexp.Regexp
}{
	"sqs":      {"Queue", "", regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}(\.fifo)?$`)},
	"sns":      {"Topic", "", regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}(\.fifo)?$`)},
	"events":   {"Bus", "event-bus/", regexp.MustCompile(`^[A-Za-z0-9._/-]{1,256}$`)},
	"s3":       {"Bucket", "", regexp.MustCompile(`^[A-Za-z0-9._-]{3,255}$`)},
	"dynamodb": {"Table", "table/", regexp.MustCompile(`^[A-Za-z0-9._-]{3,255}$`)},
}

// Given reads the name or ARN of a resource that exists. It fails for one that is known at
// deployment only: what it is could not be seen.
func Given(scope constructs.Construct, property, service, s string) (name string, arn bool) {
	kind := kinds[service]
	switch {
	case s == "":
		Fail(scope, property, "the name is missing")
	case *awscdk.Token_IsUnresolved(s):
		Fail(scope, property, "is known at deployment only: set Broker.%s to the construct that has it, or to what the CDK imports with attributes", kind.field)
	case !strings.HasPrefix(s, "arn:"):
		if !kind.name.MatchString(s) {
			Fail(scope, property, "%.100q is neither a name nor an ARN", s)
		}
		return s, false
	}
	part := strings.SplitN(s, ":", 6) // arn, partition, service, region, account, resource
	if arn = len(part) == 6 && part[2] == service; arn {
		name, arn = strings.CutPrefix(part[5], kind.before)
	}
	if !arn || !kind.name.MatchString(name) {
		Fail(scope, property, "%.200q is not the ARN of a %s", s, strings.ToLower(kind.field))
	}
	return name, arn
}

// ARN of what is called name in this account and region; one that is given stays as it is.
func ARN(scope constructs.Construct, property, service, s string) string {
	name, arn := Given(scope, property, service, s)
	if arn {
		return s
	}
	return *awscdk.Stack_Of(scope).FormatArn(&awscdk.ArnComponents{Service: jsii.String(service), Resource: &name})
}
