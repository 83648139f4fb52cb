package construct

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdadestinations"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"
)

// ContextArch is the key of the context that says for which architecture functions are
// built that do not say it themselves, arm64 or amd64.
const ContextArch = "swarm:goarch"

// Function is what a sink wants of its function.
type Function struct {
	Property string // what Props is called in errors
	Props    scud.FunctionProps
	Identity
	Env map[string]*string
	// Timeout is the default, in seconds. Zero is a minute.
	Timeout float64
	// DeadLetters makes the queue for events that failed. It is set when the function is
	// invoked asynchronously: nobody else would know of them.
	DeadLetters func() awssqs.IQueue
}

// New makes the function below scope. It is [scud.NewFunction] with these differences: the
// runtime is provided.al2023; the binary is built by [build], and what is deployed is known
// by its content; the names of function and log group are CloudFormation's, so that a
// program may be two functions; the role may write the function's own log, and nothing else.
// What the props say counts, and they are not changed.
func (fn Function) New(scope constructs.Construct, id string) awslambda.Function {
	var make func() awslambda.Function
	var c common
	switch given := fn.Props.(type) {
	case *scud.FunctionGoProps:
		if given == nil {
			Fail(scope, fn.Property, "is nil")
		}
		spec := *given
		props := awslambda.FunctionProps{}
		if given.FunctionProps != nil {
			props = *given.FunctionProps
		}
		c = common{
			&props.Timeout, &props.Environment, &props.Role, &props.LogGroup,
			&props.OnFailure, &props.MaxEventAge, &props.RetryAttempts,
			props.Vpc != nil, props.DeadLetterQueue != nil || props.DeadLetterTopic != nil || props.DeadLetterQueueEnabled != nil,
		}
		make = func() awslambda.Function { return fn.newGo(scope, id, &spec, &props) }
	case *scud.ContainerGoProps:
		if given == nil {
			Fail(scope, fn.Property, "is nil")
		}
		spec := *given
		props := awslambda.DockerImageFunctionProps{}
		if given.DockerImageFunctionProps != nil {
			props = *given.DockerImageFunctionProps
		}
		spec.DockerImageFunctionProps = &props
		c = common{
			&props.Timeout, &props.Environment, &props.Role, &props.LogGroup,
			&props.OnFailure, &props.MaxEventAge, &props.RetryAttempts,
			props.Vpc != nil, props.DeadLetterQueue != nil || props.DeadLetterTopic != nil || props.DeadLetterQueueEnabled != nil,
		}
		make = func() awslambda.Function { return fn.newContainer(scope, id, &spec) }
	case nil:
		Fail(scope, fn.Property, "is missing")
	default:
		Fail(scope, fn.Property, "%T is neither *scud.FunctionGoProps nor *scud.ContainerGoProps", given)
	}

	Default(&fn.Timeout, func() float64 { return 60 })
	Default(c.timeout, func() awscdk.Duration { return awscdk.Duration_Seconds(&fn.Timeout) })
	if s, known := Seconds(*c.timeout); known && (s < 1 || s > 900) {
		Fail(scope, fn.Property+".Timeout", "%v s: must be from 1 s to 15 min", s)
	}
	fn.logs(scope, c)
	fn.async(scope, c)

	env, users := map[string]*string{}, []string{}
	maps.Copy(env, fn.Identity.env(scope))
	maps.Copy(env, fn.Env)
	if s, known := Seconds(*c.timeout); known {
		env[EnvTimeToFlight] = jsii.String(strconv.FormatFloat(s, 'f', -1, 64))
	}
	if *c.env != nil {
		maps.Copy(env, **c.env)
		users = slices.Sorted(maps.Keys(**c.env))
	}
	*c.env = &env

	f := Try(scope, fn.Property, make)
	for _, name := range slices.Sorted(maps.Keys(fn.Env)) {
		remember(f, ofSwarm, name, *fn.Env[name])
	}
	for _, name := range users {
		remember(f, ofUser, name, "") // it may be a secret
	}
	return f
}

// common is where the two kinds of props have what they share.
type common struct {
	timeout         *awscdk.Duration
	env             **map[string]*string
	role            *awsiam.IRole
	logGroup        *awslogs.ILogGroup
	onFailure       *awslambda.IDestination
	maxAge          *awscdk.Duration
	attempts        **float64
	vpc, deadLetter bool
}

func (fn Function) logs(scope constructs.Construct, c common) {
	Default(c.logGroup, func() awslogs.ILogGroup {
		return awslogs.NewLogGroup(scope, jsii.String("Logs"), &awslogs.LogGroupProps{
			Retention:     awslogs.RetentionDays_ONE_MONTH,
			RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
		})
	})
	Default(c.role, func() awsiam.IRole {
		role := awsiam.NewRole(scope, jsii.String("Role"), &awsiam.RoleProps{
			AssumedBy: awsiam.NewServicePrincipal(jsii.String("lambda.amazonaws.com"), nil),
		})
		(*c.logGroup).GrantWrite(role)
		if c.vpc {
			role.AddManagedPolicy(awsiam.ManagedPolicy_FromAwsManagedPolicyName(jsii.String("service-role/AWSLambdaVPCAccessExecutionRole")))
		}
		return role
	})
}

func (fn Function) async(scope constructs.Construct, c common) {
	if fn.DeadLetters == nil {
		return
	}
	if *c.onFailure != nil && c.deadLetter {
		Fail(scope, fn.Property, "OnFailure contradicts DeadLetterQueue: one of them gets what failed")
	}
	if !c.deadLetter {
		Default(c.onFailure, func() awslambda.IDestination { return awslambdadestinations.NewSqsDestination(fn.DeadLetters()) })
	}
	// What Lambda does by itself, in the template where it is seen.
	Default(c.maxAge, func() awscdk.Duration { return awscdk.Duration_Hours(jsii.Number(6)) })
	Default(c.attempts, func() *float64 { return jsii.Number(2) })
}

func (fn Function) newGo(scope constructs.Construct, id string, spec *scud.FunctionGoProps, props *awslambda.FunctionProps) awslambda.Function {
	spec.Toolchain = toolchain(spec.Toolchain)
	arch := fn.arch(scope, spec.Toolchain, props.Architecture)
	props.Architecture = architectures[arch]()
	Default(&props.Runtime, awslambda.Runtime_PROVIDED_AL2023)
	Default(&props.Handler, func() *string { return jsii.String(binary) })
	if props.Code != nil {
		return awslambda.NewFunction(scope, jsii.String(id), props)
	}
	if spec.SourceCodeModule == "" {
		Fail(scope, fn.Property+".SourceCodeModule", "is missing")
	}
	dir, err := build(spec)
	if err != nil {
		Fail(scope, fn.Property, "%v", err)
	}
	// The CDK has copied the binary when the function is made, unless it was told to leave
	// it where it is.
	if disabled, _ := scope.Node().TryGetContext(jsii.String("aws:cdk:disable-asset-staging")).(bool); !disabled {
		defer os.RemoveAll(dir)
	}
	props.Code = awslambda.Code_FromAsset(jsii.String(dir), nil)
	return awslambda.NewFunction(scope, jsii.String(id), props)
}

func (fn Function) newContainer(scope constructs.Construct, id string, spec *scud.ContainerGoProps) awslambda.Function {
	spec.Toolchain = toolchain(spec.Toolchain)
	fn.arch(scope, spec.Toolchain, spec.Architecture)
	if spec.SourceCodeModule == "" {
		Fail(scope, fn.Property+".SourceCodeModule", "is missing")
	}
	restore, err := scudEnv(spec)
	if err != nil {
		Fail(scope, fn.Property, "%v", err)
	}
	defer restore()
	return scud.NewContainerGo(scope, jsii.String(id), spec)
}

var architectures = map[string]func() awslambda.Architecture{
	"arm64": awslambda.Architecture_ARM_64,
	"amd64": awslambda.Architecture_X86_64,
}

// arch is what the function is built for; the toolchain has it afterwards.
func (fn Function) arch(scope constructs.Construct, t *scud.Toolchain, want awslambda.Architecture) string {
	arch := t.GoEnv["GOARCH"]
	if want != nil {
		switch name := map[string]string{"arm64": "arm64", "x86_64": "amd64"}[*want.Name()]; arch {
		case "":
			arch = name
		case name:
		default:
			Fail(scope, fn.Property+".Architecture", "%s contradicts Toolchain.GoEnv[GOARCH] %s", *want.Name(), arch)
		}
	}
	if arch == "" {
		if v := scope.Node().TryGetContext(jsii.String(ContextArch)); v != nil {
			arch = fmt.Sprint(v)
		}
	}
	Default(&arch, func() string { return "arm64" })
	if architectures[arch] == nil {
		Fail(scope, fn.Property, "GOARCH %s: Lambda has arm64 and amd64", arch)
	}
	if os := t.GoEnv["GOOS"]; os != "" && os != "linux" {
		Fail(scope, fn.Property+".Toolchain", "GOOS %s: Lambda has linux", os)
	}
	t.GoEnv["GOARCH"], t.GoEnv["GOOS"] = arch, "linux"
	return arch
}
