// Package construct is what the constructs of all brokers have in common: functions that
// are built of Go code, their environment, queues for what failed, and errors that say
// where and what.
package construct

import (
	"fmt"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"
)

// Fail panics with an error that names the construct and its property. Constructors of the
// CDK return no error, and an application that goes on without a construct deploys a hole.
func Fail(scope constructs.Construct, property, format string, args ...any) {
	panic(failure{fmt.Errorf("swarm: construct %s: %s: %s", *scope.Node().Path(), property, fmt.Sprintf(format, args...))})
}

// failure is what Fail panics with.
type failure struct{ error }

// Try calls f, and turns what the CDK panics with into an error as [Fail] has it.
func Try[T any](scope constructs.Construct, property string, f func() T) (v T) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			panic(r)
		default:
			Fail(scope, property, "%s", cause(fmt.Sprint(r)))
		}
	}()
	return f()
}

// The CDK says "@jsii/kernel.RuntimeError: ValidationError: text", and lines of a stack.
var noise = regexp.MustCompile(`^\\?"?(@jsii/kernel\.\w+: |\w*Error: )*`)

func cause(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return noise.ReplaceAllString(line, "")
}

// New makes the construct of a broker or a sink. The name is that of the constructor. Who
// embeds it hands on the construct as a scope, not itself, which the CDK does not know.
func New(name string, scope constructs.Construct, id *string) constructs.Construct {
	switch {
	case scope == nil:
		panic(fmt.Errorf("swarm: %s: scope is nil", name))
	case id == nil || *id == "":
		Fail(scope, name, "id is missing")
	case scope.Node().TryFindChild(id) != nil:
		Fail(scope, name, "there is a construct %q already", *id)
	}
	return constructs.NewConstruct(scope, id)
}

// FreeID is want, or want with the first number that makes it free.
func FreeID(scope constructs.Construct, want string) *string {
	id := want
	for n := 2; scope.Node().TryFindChild(&id) != nil; n++ {
		id = want + strconv.Itoa(n)
	}
	return &id
}

// NewDeadLetters makes a queue for what failed: encrypted, by TLS only, kept for the 14 days
// that are the most SQS has.
func NewDeadLetters(scope constructs.Construct, id string, fifo bool) awssqs.Queue {
	props := &awssqs.QueueProps{
		Encryption:      awssqs.QueueEncryption_SQS_MANAGED,
		EnforceSSL:      jsii.Bool(true),
		RetentionPeriod: awscdk.Duration_Days(jsii.Number(14)),
	}
	if fifo {
		props.Fifo = jsii.Bool(true)
	}
	return awssqs.NewQueue(scope, jsii.String(id), props)
}

// Seconds of a duration, and false when it is known at deployment only.
func Seconds(d awscdk.Duration) (float64, bool) {
	if d == nil || *d.IsUnresolved() {
		return 0, false
	}
	return *d.ToSeconds(nil), true
}

// Default is v if it is set, and otherwise what the function makes.
func Default[T comparable](v *T, otherwise func() T) {
	if zero := *new(T); *v == zero {
		*v = otherwise()
	}
}

// Warn adds a warning that synthesis prints. The id is what acknowledges it.
func Warn(scope constructs.Construct, id, format string, args ...any) {
	awscdk.Annotations_Of(scope).AddWarningV2(jsii.String("swarm:"+id), jsii.String(fmt.Sprintf(format, args...)))
}

// FunctionID is a free id for the sink of a function: the name of its folder, which
// then is in the names of all resources.
func FunctionID(scope constructs.Construct, f scud.FunctionProps) *string {
	if v := reflect.ValueOf(f); f == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		Fail(scope, "SinkProps.Function", "is missing")
	}
	folder := ""
	switch f := f.(type) {
	case *scud.FunctionGoProps:
		folder = path.Join(f.SourceCodeModule, f.SourceCodeLambda)
	case *scud.ContainerGoProps:
		folder = path.Join(f.SourceCodeModule, f.SourceCodeLambda)
	default:
		folder = f.UniqueID()
	}
	id := path.Base(folder)
	if folder == "" {
		id = "Sink"
	}
	return FreeID(scope, id)
}

// DeadLetters is where a sink keeps the queue for what failed: the one that it was given, or
// one that is made when it is asked for.
func DeadLetters(scope constructs.Construct, q *awssqs.IQueue) func() awssqs.IQueue {
	return func() awssqs.IQueue {
		Default(q, func() awssqs.IQueue { return NewDeadLetters(scope, "DeadLetters", false) })
		if *(*q).Fifo() {
			Fail(scope, "SinkProps.DeadLetterQueue", "is a FIFO queue: what a function or a subscription has failed goes to standard ones only")
		}
		return *q
	}
}

// Admit lets a service of AWS send what failed to a queue, beyond what the CDK does for it,
// and warns of what only the owner of the queue can do.
func Admit(scope constructs.Construct, q awssqs.IQueue, service string) {
	key := q.EncryptionMasterKey()
	switch {
	case q.EncryptionType() == awssqs.QueueEncryption_KMS_MANAGED:
		Warn(scope, "dead-letters", "dead letters are lost: their queue is encrypted by the key that AWS manages, which %s may not use. Use SQS_MANAGED, or a key of your own", service)
	case key != nil:
		key.Grant(awsiam.NewServicePrincipal(&service, nil), jsii.String("kms:GenerateDataKey*"), jsii.String("kms:Decrypt"))
	}
	if q.Node().DefaultChild() == nil {
		Warn(scope, "dead-letters", "the queue for dead letters is made elsewhere: its policy, and that of its key, must allow %s to send", service)
	}
}

// Grant lets the function do what the CDK has no grant for.
func Grant(f awslambda.Function, arn *string, actions ...string) {
	awsiam.Grant_AddToPrincipal(&awsiam.GrantOnPrincipalOptions{
		Grantee:      f,
		Actions:      jsii.Strings(actions...),
		ResourceArns: &[]*string{arn},
	})
}
