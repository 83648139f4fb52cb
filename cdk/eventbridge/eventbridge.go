// Package eventbridge has the constructs of AWS CDK for functions of AWS Lambda that consume
// an event bus of AWS EventBridge by package broker/eventbridge: create a broker, attach
// sinks.
//
//	broker := eventbridge.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewEventBus(nil)
//	broker.NewSink(&eventbridge.SinkProps{
//		EventPattern: eventbridge.Like(
//			eventbridge.Source("shop"),
//			eventbridge.Typed[Order](),
//			eventbridge.Has("country", "FI", "SE"),
//		),
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/shop",
//			SourceCodeLambda: "cmd/orders",
//		},
//	})
//
// # Defaults
//
//	sink       a rule for the events of the pattern, or for all of the account
//	           an event that could not be handed over for 6 hours is a dead letter, and
//	           one that the function failed 3 times, or that waited for it for 6 hours
//	           dead letters are in one queue, encrypted, by TLS only, for 14 days. A queue of
//	           yours that is made elsewhere must allow the service to send: there is a warning
//
// The properties of the CDK override each of them. Which are those of all functions, and how
// they are built, is said at package cdk.
package eventbridge

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"

	"github.com/fogfish/swarm/cdk/internal/construct"
)

// BrokerProps are defaults for the functions of all sinks.
type BrokerProps struct {
	// Agent is who the functions are when they emit. Default: the name of the stack.
	Agent string
	// Realm is where they do. Default: none.
	Realm string
}

// Broker is a bus and its sinks.
type Broker struct {
	constructs.Construct
	// Bus is what NewEventBus and AddEventBus set. A bus made in another way may be set, too.
	Bus awsevents.IEventBus

	identity construct.Identity
}

// NewBroker makes a broker, which needs a bus.
func NewBroker(scope constructs.Construct, id *string, props *BrokerProps) *Broker {
	b := &Broker{Construct: construct.New("eventbridge.NewBroker", scope, id)}
	if props != nil {
		b.identity = construct.Identity(*props)
	}
	return b
}

func (b *Broker) vacant() {
	construct.Vacant(b.Construct, "Bus", b.Bus != nil)
}

func (b *Broker) bus() awsevents.IEventBus {
	construct.Need(b.Construct, "Bus", b.Bus != nil, "NewEventBus or AddEventBus")
	return b.Bus
}

// NewEventBus makes the bus of the broker. Its name is by default one that the CDK makes of
// the path of the construct.
func (b *Broker) NewEventBus(props *awsevents.EventBusProps) awsevents.IEventBus {
	b.vacant()
	p := awsevents.EventBusProps{}
	if props != nil {
		p = *props
	}
	b.Bus = construct.Try(b.Construct, "EventBusProps", func() awsevents.IEventBus {
		return awsevents.NewEventBus(b.Construct, jsii.String("Bus"), &p)
	})
	return b.Bus
}

// AddEventBus takes a bus that exists, by its name or ARN: "default" is the one that each
// account has. One of another account or region, which only an ARN can name, may be written
// to, if it lets; rules, which sinks have, are where the bus is.
func (b *Broker) AddEventBus(eventBusName string) awsevents.IEventBus {
	b.vacant()
	from := awsevents.EventBus_FromEventBusName
	if _, arn := construct.Given(b.Construct, "AddEventBus", "events", eventBusName); arn {
		from = awsevents.EventBus_FromEventBusArn
	}
	b.Bus = from(b.Construct, jsii.String("Bus"), &eventBusName)
	return b.Bus
}

// NewSink makes a function for events of the bus.
func (b *Broker) NewSink(props *SinkProps) *Sink {
	bus := b.bus()
	if props == nil {
		construct.Fail(b.Construct, "SinkProps", "is missing")
	}
	p := *props
	if p.EventBus != nil && p.EventBus != bus {
		construct.Fail(b.Construct, "SinkProps.EventBus", "is not the bus of the broker: leave it out")
	}
	p.EventBus = bus
	id := construct.Identity{Agent: p.Agent, Realm: p.Realm}.Or(b.identity)
	p.Agent, p.Realm = id.Agent, id.Realm
	return NewSink(b.Construct, construct.FunctionID(b.Construct, p.Function), &p)
}

// GrantWrite lets the function put events, by eventbridge.Emitter().Build("").
func (b *Broker) GrantWrite(f awslambda.Function) {
	bus := b.bus()
	bus.GrantPutEventsTo(f, nil)
	construct.Grant(f, bus.EventBusArn(), "events:DescribeEventBus")
	construct.Setenv(f, "GrantWrite", construct.EnvTargetEventBus, named(f, bus))
}

// GrantRead tells the function which bus it is. There is nothing to allow: what reads a bus
// is a rule, which a sink has.
func (b *Broker) GrantRead(f awslambda.Function) {
	construct.Setenv(f, "GrantRead", construct.EnvSourceEventBus, named(f, b.bus()))
}

// named is how a function calls the bus: by its name, if it is of the function's own account
// and region.
func named(scope constructs.Construct, bus awsevents.IEventBus) *string {
	at, here := bus.Env(), awscdk.Stack_Of(scope)
	if *at.Account == *here.Account() && *at.Region == *here.Region() {
		return bus.EventBusName()
	}
	return bus.EventBusArn()
}

// SinkProps are those of a sink. Function is required, and EventBus where there is no broker.
type SinkProps struct {
	EventBus awsevents.IEventBus
	Function scud.FunctionProps

	// Source are the agents whose events the sink gets: Source: x is
	// EventPattern: Like(Source(x...)), and both together are both.
	Source []string
	// EventPattern is for anything else. Default: all events of the account.
	EventPattern *awsevents.EventPattern

	// Target has what is unlike the defaults: DeadLetterQueue, and MaxEventAge 6 hours.
	Target *awseventstargets.LambdaFunctionProps
	// DeadLetterQueue gets the events that failed. Default: one of the sink.
	DeadLetterQueue awssqs.IQueue

	// Agent and Realm are those of the broker, if they are not set.
	Agent, Realm string
}

// Sink is a function that consumes events.
type Sink struct {
	constructs.Construct
	Rule    awsevents.Rule
	Handler awslambda.Function
	// DeadLetterQueue has the events that failed. It is nil when the properties of function
	// and target have others.
	DeadLetterQueue awssqs.IQueue
}

// NewSink makes a function that consumes events of a bus. Its environment has the bus, for
// eventbridge.Listener().Build("").
func NewSink(scope constructs.Construct, id *string, props *SinkProps) *Sink {
	s := &Sink{Construct: construct.New("eventbridge.NewSink", scope, id)}
	switch {
	case props == nil:
		construct.Fail(s.Construct, "SinkProps", "is missing")
	case props.EventBus == nil:
		construct.Fail(s.Construct, "SinkProps.EventBus", "is missing")
	}
	pattern := s.pattern(props)
	s.DeadLetterQueue = props.DeadLetterQueue
	dead := construct.DeadLetters(s.Construct, &s.DeadLetterQueue)
	s.Handler = construct.Function{
		Property:    "SinkProps.Function",
		Props:       props.Function,
		Identity:    construct.Identity{Agent: props.Agent, Realm: props.Realm},
		Env:         map[string]*string{construct.EnvSourceEventBus: named(s.Construct, props.EventBus)},
		DeadLetters: dead,
	}.New(s.Construct, "Function")

	target := awseventstargets.LambdaFunctionProps{}
	if props.Target != nil {
		target = *props.Target
	}
	construct.Default(&target.DeadLetterQueue, dead)
	construct.Admit(s.Construct, target.DeadLetterQueue, "events.amazonaws.com")
	construct.Default(&target.MaxEventAge, func() awscdk.Duration { return awscdk.Duration_Hours(jsii.Number(6)) })
	s.Rule = construct.Try(s.Construct, "SinkProps.EventPattern", func() awsevents.Rule {
		return awsevents.NewRule(s.Construct, jsii.String("Rule"), &awsevents.RuleProps{EventBus: props.EventBus, EventPattern: pattern})
	})
	construct.Try(s.Construct, "SinkProps.Target", func() any {
		s.Rule.AddTarget(awseventstargets.NewLambdaFunction(s.Handler, &target))
		return nil
	})
	return s
}

func (s *Sink) pattern(props *SinkProps) *awsevents.EventPattern {
	p := awsevents.EventPattern{}
	if props.EventPattern != nil {
		p = *props.EventPattern
	}
	if len(props.Source) > 0 {
		if p.Source != nil {
			construct.Fail(s.Construct, "SinkProps.Source", "contradicts EventPattern, which has sources as well")
		}
		Source(props.Source...)(&p)
	}
	if p == (awsevents.EventPattern{}) {
		// A rule has to match something; each event has an account.
		p.Account = &[]*string{awscdk.Stack_Of(s.Construct).Account()}
	}
	return &p
}
