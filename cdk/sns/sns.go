// Package sns has the constructs of AWS CDK for functions of AWS Lambda that consume a topic
// of AWS SNS by package broker/sns: create a broker, attach sinks.
//
//	broker := sns.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewTopic(nil)
//	broker.NewSink(&sns.SinkProps{
//		Category: []string{"Order"},
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/shop",
//			SourceCodeLambda: "cmd/orders",
//		},
//	})
//
// # Defaults
//
//	topic      by TLS only. MasterKey encrypts it: by a key of yours, since other services
//	           of AWS cannot publish to a topic that has the key of SNS
//	sink       a message that could not be handed over is a dead letter, and one that the
//	           function failed 3 times, or that waited for it for 6 hours
//	           dead letters are in one queue, encrypted, by TLS only, for 14 days. A queue of
//	           yours that is made elsewhere must allow the service to send: there is a warning
//
// The properties of the CDK override each of them. Which are those of all functions, and how
// they are built, is said at package cdk.
package sns

import (
	"maps"

	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
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

// Broker is a topic and its sinks.
type Broker struct {
	constructs.Construct
	// Topic is what NewTopic and AddTopic set. A topic made in another way may be set, too.
	Topic awssns.ITopic

	identity construct.Identity
}

// NewBroker makes a broker, which needs a topic.
func NewBroker(scope constructs.Construct, id *string, props *BrokerProps) *Broker {
	b := &Broker{Construct: construct.New("sns.NewBroker", scope, id)}
	if props != nil {
		b.identity = construct.Identity(*props)
	}
	return b
}

func (b *Broker) vacant() {
	construct.Vacant(b.Construct, "Topic", b.Topic != nil)
}

func (b *Broker) topic() awssns.ITopic {
	construct.Need(b.Construct, "Topic", b.Topic != nil, "NewTopic or AddTopic")
	return b.Topic
}

// NewTopic makes the topic of the broker.
func (b *Broker) NewTopic(props *awssns.TopicProps) awssns.ITopic {
	b.vacant()
	p := awssns.TopicProps{}
	if props != nil {
		p = *props
	}
	construct.Default(&p.EnforceSSL, func() *bool { return jsii.Bool(true) })
	b.Topic = construct.Try(b.Construct, "TopicProps", func() awssns.ITopic {
		return awssns.NewTopic(b.Construct, jsii.String("Topic"), &p)
	})
	return b.Topic
}

// AddTopic takes a topic that exists: by its ARN, or by its name in this account and region.
func (b *Broker) AddTopic(topicName string) awssns.ITopic {
	b.vacant()
	arn := construct.ARN(b.Construct, "AddTopic", "sns", topicName)
	b.Topic = construct.Try(b.Construct, "AddTopic", func() awssns.ITopic {
		return awssns.Topic_FromTopicAttributes(b.Construct, jsii.String("Topic"), &awssns.TopicAttributes{TopicArn: &arn})
	})
	return b.Topic
}

// NewSink makes a function for messages of the topic.
func (b *Broker) NewSink(props *SinkProps) *Sink {
	topic := b.topic()
	if props == nil {
		construct.Fail(b.Construct, "SinkProps", "is missing")
	}
	p := *props
	if p.Topic != nil && p.Topic != topic {
		construct.Fail(b.Construct, "SinkProps.Topic", "is not the topic of the broker: leave it out")
	}
	p.Topic = topic
	id := construct.Identity{Agent: p.Agent, Realm: p.Realm}.Or(b.identity)
	p.Agent, p.Realm = id.Agent, id.Realm
	return NewSink(b.Construct, construct.FunctionID(b.Construct, p.Function), &p)
}

// GrantWrite lets the function publish to the topic, by sns.Emitter().Build("").
func (b *Broker) GrantWrite(f awslambda.Function) {
	topic := b.topic()
	topic.GrantPublish(f)
	construct.Grant(f, topic.TopicArn(), "sns:GetTopicAttributes")
	construct.Setenv(f, "GrantWrite", construct.EnvTargetSNS, topic.TopicArn())
}

// GrantRead tells the function which topic it is. There is nothing to allow: what reads a
// topic is a subscription, which a sink has.
func (b *Broker) GrantRead(f awslambda.Function) {
	construct.Setenv(f, "GrantRead", construct.EnvSourceSNS, b.topic().TopicArn())
}

// SinkProps are those of a sink. Function is required, and Topic where there is no broker.
type SinkProps struct {
	Topic    awssns.ITopic
	Function scud.FunctionProps

	// Category are those that the sink gets. Default: all messages.
	Category []string

	// Subscription has what is unlike the defaults. Its FilterPolicy and Category are both
	// met.
	Subscription *awssnssubscriptions.LambdaSubscriptionProps
	// DeadLetterQueue gets the messages that failed. Default: one of the sink.
	DeadLetterQueue awssqs.IQueue

	// Agent and Realm are those of the broker, if they are not set.
	Agent, Realm string
}

// Sink is a function that consumes messages of a topic.
type Sink struct {
	constructs.Construct
	Handler      awslambda.Function
	Subscription awssns.Subscription
	// DeadLetterQueue has the messages that failed. It is nil when the properties of function
	// and subscription have others.
	DeadLetterQueue awssqs.IQueue
}

// NewSink makes a function that consumes messages of a topic. Its environment has the topic,
// for sns.Listener().Build("").
func NewSink(scope constructs.Construct, id *string, props *SinkProps) *Sink {
	s := &Sink{Construct: construct.New("sns.NewSink", scope, id)}
	switch {
	case props == nil:
		construct.Fail(s.Construct, "SinkProps", "is missing")
	case props.Topic == nil:
		construct.Fail(s.Construct, "SinkProps.Topic", "is missing")
	case *props.Topic.Fifo():
		construct.Fail(s.Construct, "SinkProps.Topic", "is a FIFO topic, which delivers to queues only: subscribe one of package cdk/sqs, and listen by sqs.Listener().WithUnwrap(sqs.SNS)")
	}
	sub := awssnssubscriptions.LambdaSubscriptionProps{}
	if props.Subscription != nil {
		sub = *props.Subscription
	}
	if len(props.Category) > 0 {
		sub.FilterPolicy = s.categories(props, sub.FilterPolicy)
	}

	s.DeadLetterQueue = props.DeadLetterQueue
	dead := construct.DeadLetters(s.Construct, &s.DeadLetterQueue)
	s.Handler = construct.Function{
		Property:    "SinkProps.Function",
		Props:       props.Function,
		Identity:    construct.Identity{Agent: props.Agent, Realm: props.Realm},
		Env:         map[string]*string{construct.EnvSourceSNS: props.Topic.TopicArn()},
		DeadLetters: dead,
	}.New(s.Construct, "Function")
	construct.Default(&sub.DeadLetterQueue, dead)
	construct.Admit(s.Construct, sub.DeadLetterQueue, "sns.amazonaws.com")
	s.Subscription = construct.Try(s.Construct, "SinkProps.Subscription", func() awssns.Subscription {
		return props.Topic.AddSubscription(awssnssubscriptions.NewLambdaSubscription(s.Handler, &sub))
	})
	return s
}

// Messages have their category as an attribute.
func (s *Sink) categories(props *SinkProps, filter *map[string]awssns.SubscriptionFilter) *map[string]awssns.SubscriptionFilter {
	if props.Subscription != nil && props.Subscription.FilterPolicyWithMessageBody != nil {
		construct.Fail(s.Construct, "SinkProps.Category", "contradicts Subscription.FilterPolicyWithMessageBody: SNS filters by attributes or by bodies")
	}
	out := map[string]awssns.SubscriptionFilter{}
	if filter != nil {
		maps.Copy(out, *filter)
	}
	if _, has := out["Category"]; has {
		construct.Fail(s.Construct, "SinkProps.Category", "contradicts Subscription.FilterPolicy, which has Category as well")
	}
	out["Category"] = awssns.SubscriptionFilter_StringFilter(&awssns.StringConditions{Allowlist: jsii.Strings(props.Category...)})
	return &out
}
