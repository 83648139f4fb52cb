package cdk_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awseventstargets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdadestinations"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdaeventsources"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssnssubscriptions"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	swarm "github.com/fogfish/swarm/core"

	"github.com/fogfish/swarm/cdk/eventbridge"
	"github.com/fogfish/swarm/cdk/eventddb"
	"github.com/fogfish/swarm/cdk/events3"
	"github.com/fogfish/swarm/cdk/sns"
	"github.com/fogfish/swarm/cdk/sqs"
	"github.com/fogfish/swarm/cdk/websocket"
)

type (
	Note struct{ Text string }
	User struct{ Name string }
	Meta struct {
		swarm.Meta
		About string
	}
	UserEvent = swarm.Event[Meta, User]
)

func TestPatterns(t *testing.T) {
	like := eventbridge.Like
	for want, p := range map[string]*awsevents.EventPattern{
		`{"source":["a","b"]}`:                                  like(eventbridge.Source("a"), eventbridge.Source("b")),
		`{"detail-type":["Note"]}`:                              like(eventbridge.Typed[Note]()),
		`{"detail-type":["User"]}`:                              like(eventbridge.Event[UserEvent]()),
		`{"detail-type":["Note","User"]}`:                       like(eventbridge.Typed[*Note](), eventbridge.Category("User")),
		`{"detail-type":["Pair[User,Note]"]}`:                   like(eventbridge.Typed[Pair[User, Note]]()),
		`{"detail":{"country":["FI","SE"]}}`:                    like(eventbridge.Has("country", "FI"), eventbridge.Has("country", "SE")),
		`{"detail":{"n":[1,2.5,true]}}`:                         like(eventbridge.Has("n", 1, 2.5, true)),
		`{"detail":{"n":[{"exists":true}]}}`:                    like(eventbridge.Has("n")),
		`{"detail":{"n":[{"prefix":"a"},{"numeric":[">",5]}]}}`: like(eventbridge.Has("n", map[string]any{"prefix": "a"}, map[string]any{"numeric": []any{">", 5}})),
		`{"detail":{"address":{"city":["Oulu"],"zip":["90"]}}}`: like(eventbridge.Has("address.city", "Oulu"), eventbridge.Has("address.zip", "90")),
		`{"detail":{"data":{"name":["Ada"]},"meta":{"agent":["a"]}},"detail-type":["User"],"source":["shop"]}`: like(
			eventbridge.Source("shop"), eventbridge.Event[UserEvent](), eventbridge.EventMeta("agent", "a"), eventbridge.EventData("name", "Ada")),
	} {
		stack := newStack(t)
		b := eventbridge.NewBroker(stack, new("Broker"), nil)
		b.AddEventBus("default")
		b.NewSink(&eventbridge.SinkProps{EventPattern: p, Function: function()})
		expect(t, synth(t, stack).one("AWS::Events::Rule"), "EventPattern", want)
	}
	fails(t, func() { like(eventbridge.Has("a", "x"), eventbridge.Has("a.b", "y")) }, `Has("a.b")`, "values for a")
	fails(t, func() { like(eventbridge.Has("a.b", "x"), eventbridge.Has("a", "y")) }, `Has("a")`, "goes into")
	fails(t, func() { like(eventbridge.Has("a", []string{"x"})) }, `Has("a")`, "array")
	fails(t, func() { like(eventbridge.Has("a", func() {})) }, `Has("a")`)
	fails(t, func() { like(eventbridge.Has("a", nil)) }, `Has("a")`, "drops null")
	fails(t, func() { like(eventbridge.Has("a", map[string]any{"anything-but": []any{"x", nil}})) }, `Has("a")`, "drops null")
	fails(t, func() { eventbridge.Typed[[]Note]() }, "eventbridge.Typed", "explicit category")
}

type Pair[A, B any] struct {
	A A
	B B
}

func TestEventBridge(t *testing.T) {
	stack := newStack(t)
	b := eventbridge.NewBroker(stack, new("Broker"), nil)
	b.NewEventBus(&awsevents.EventBusProps{EventBusName: new("shop")})
	s := b.NewSink(&eventbridge.SinkProps{Source: []string{"a"}, EventPattern: eventbridge.Like(eventbridge.Category("Note")), Function: function()})
	if s.DeadLetterQueue == nil || s.Rule == nil || s.Handler == nil {
		t.Errorf("got %+v", s)
	}
	again := b.NewSink(&eventbridge.SinkProps{
		Function:        function(&awslambda.FunctionProps{MaxEventAge: seconds(60), RetryAttempts: jsii.Number(0)}),
		DeadLetterQueue: s.DeadLetterQueue,
		Target:          &awseventstargets.LambdaFunctionProps{MaxEventAge: seconds(120), RetryAttempts: jsii.Number(3)},
	})
	if id := *again.Node().Id(); id != "function2" {
		t.Errorf("the second sink is %s", id)
	}
	x := synth(t, stack)
	x.leastPrivilege()
	x.secure()
	x.one("AWS::SQS::Queue")
	expect(t, x.one("AWS::Events::EventBus"), "Name", `"shop"`)
	rules := x.all("AWS::Events::Rule")
	expect(t, rules[1], "EventPattern", `{"detail-type":["Note"],"source":["a"]}`)
	expect(t, rules[0], "Targets/0/RetryPolicy", `{"MaximumEventAgeInSeconds":120,"MaximumRetryAttempts":3}`)
	config := x.all("AWS::Lambda::EventInvokeConfig")
	expect(t, config[0], "MaximumEventAgeInSeconds", `60`)
	expect(t, config[0], "MaximumRetryAttempts", `0`)

	fails(t, func() {
		b.NewSink(&eventbridge.SinkProps{Source: []string{"a"}, EventPattern: eventbridge.Like(eventbridge.Source("b")), Function: function()})
	}, "SinkProps.Source", "contradicts EventPattern")
	fails(t, func() { b.NewEventBus(nil) }, "there is a bus already")
	fails(t, func() { eventbridge.NewBroker(stack, new("B2"), nil).NewSink(&eventbridge.SinkProps{}) }, "construct test/B2: Broker.Bus: there is no bus")
	fails(t, func() { eventbridge.NewBroker(stack, new("B3"), nil).AddEventBus("") }, "AddEventBus: the name is missing")
	fails(t, func() {
		eventbridge.NewBroker(stack, new("B4"), nil).NewEventBus(&awsevents.EventBusProps{EventBusName: new("a/b")})
	}, "construct test/B4: EventBusProps: ")
	fails(t, func() { eventbridge.NewSink(stack, new("S1"), &eventbridge.SinkProps{Function: function()}) }, "construct test/S1: SinkProps.EventBus: is missing")
	fails(t, func() { eventbridge.NewSink(stack, new("S2"), nil) }, "construct test/S2: SinkProps: is missing")
	fails(t, func() { b.NewSink(nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(&eventbridge.SinkProps{EventBus: awsevents.NewEventBus(stack, new("Other"), nil)}) }, "SinkProps.EventBus")
}

func TestEventBridgeAddEventBus(t *testing.T) {
	for name, want := range map[string]string{"shop": `"shop"`, "arn:aws:events:eu-west-1:1:event-bus/shop": `"arn:aws:events:eu-west-1:1:event-bus/shop"`} {
		stack := newStack(t)
		b := eventbridge.NewBroker(stack, new("Broker"), nil)
		b.AddEventBus(name)
		f := b.NewSink(&eventbridge.SinkProps{Function: function()}).Handler
		b.GrantWrite(f)
		x := synth(t, stack)
		x.leastPrivilege()
		expect(t, x.one("AWS::Lambda::Function"), "Environment/Variables/CONFIG_SWARM_TARGET_EVENTBUS", want)
	}
}

// What is given is taken, and no queue is made for nothing.
func TestAsyncDestinations(t *testing.T) {
	for name, make := range map[string]func(stack awscdk.Stack, dead awssqs.IQueue) *awslambda.FunctionProps{
		"OnFailure": func(_ awscdk.Stack, dead awssqs.IQueue) *awslambda.FunctionProps {
			return &awslambda.FunctionProps{OnFailure: awslambdadestinations.NewSqsDestination(dead)}
		},
		"DeadLetterQueue": func(_ awscdk.Stack, dead awssqs.IQueue) *awslambda.FunctionProps {
			return &awslambda.FunctionProps{DeadLetterQueue: dead}
		},
	} {
		t.Run(name, func(t *testing.T) {
			stack := newStack(t)
			b := events3.NewBroker(stack, new("Broker"), nil)
			b.NewBucket(nil)
			s := b.NewSink(&events3.SinkProps{Function: function(make(stack, awssqs.NewQueue(stack, new("Dead"), nil)))})
			if s.DeadLetterQueue != nil {
				t.Error("there is a queue of the sink")
			}
			synth(t, stack).one("AWS::SQS::Queue")
		})
	}
	stack := newStack(t)
	b := events3.NewBroker(stack, new("Broker"), nil)
	b.NewBucket(nil)
	dead := awssqs.NewQueue(stack, new("Dead"), nil)
	fails(t, func() {
		b.NewSink(&events3.SinkProps{Function: function(&awslambda.FunctionProps{OnFailure: awslambdadestinations.NewSqsDestination(dead), DeadLetterQueue: dead})})
	}, "SinkProps.Function", "OnFailure contradicts DeadLetterQueue")
}

func TestSNS(t *testing.T) {
	stack := newStack(t)
	b := sns.NewBroker(stack, new("Broker"), nil)
	b.NewTopic(&awssns.TopicProps{TopicName: new("orders")})
	dead := awssqs.NewQueue(stack, new("Dead"), nil)
	s := b.NewSink(&sns.SinkProps{
		Category: []string{"Note", "User"},
		Function: function(),
		Subscription: &awssnssubscriptions.LambdaSubscriptionProps{
			DeadLetterQueue: dead,
			FilterPolicy:    &map[string]awssns.SubscriptionFilter{"Source": awssns.SubscriptionFilter_ExistsFilter()},
		},
	})
	if s.Subscription == nil || s.DeadLetterQueue == nil {
		t.Errorf("got %+v", s)
	}
	x := synth(t, stack)
	x.leastPrivilege()
	sub := x.one("AWS::SNS::Subscription")
	expect(t, sub, "FilterPolicy", `{"Category":["Note","User"],"Source":[{"exists":true}]}`)
	if got := marshal(t, sub["RedrivePolicy"]); !strings.Contains(got, "Dead") || strings.Contains(got, "Broker") {
		t.Errorf("redrive to %s", got)
	}

	fails(t, func() {
		b.NewSink(&sns.SinkProps{Category: []string{"Note"}, Function: function(), Subscription: &awssnssubscriptions.LambdaSubscriptionProps{
			FilterPolicyWithMessageBody: &map[string]awssns.FilterOrPolicy{"x": awssns.FilterOrPolicy_Filter(awssns.SubscriptionFilter_ExistsFilter())}}})
	}, "SinkProps.Category", "FilterPolicyWithMessageBody")
	fails(t, func() {
		b.NewSink(&sns.SinkProps{Category: []string{"Note"}, Function: function(), Subscription: &awssnssubscriptions.LambdaSubscriptionProps{
			FilterPolicy: &map[string]awssns.SubscriptionFilter{"Category": awssns.SubscriptionFilter_ExistsFilter()}}})
	}, "SinkProps.Category", "contradicts Subscription.FilterPolicy")
	fifo := sns.NewBroker(stack, new("Fifo"), nil)
	fifo.NewTopic(&awssns.TopicProps{Fifo: jsii.Bool(true)})
	fails(t, func() { fifo.NewSink(&sns.SinkProps{Function: function()}) }, "construct test/Fifo/function: SinkProps.Topic: is a FIFO topic")
	fails(t, func() { b.AddTopic("x") }, "there is a topic already")
	fails(t, func() { sns.NewBroker(stack, new("B2"), nil).NewSink(nil) }, "Broker.Topic: there is no topic")
	fails(t, func() { sns.NewBroker(stack, new("B3"), nil).AddTopic("") }, "AddTopic: the name is missing")
	fails(t, func() {
		sns.NewBroker(stack, new("B4"), nil).NewTopic(&awssns.TopicProps{ContentBasedDeduplication: jsii.Bool(true)})
	}, "construct test/B4: TopicProps: ")
	fails(t, func() { sns.NewSink(stack, new("S1"), &sns.SinkProps{Function: function()}) }, "SinkProps.Topic: is missing")
	fails(t, func() { sns.NewSink(stack, new("S2"), nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(&sns.SinkProps{Topic: fifo.Topic}) }, "SinkProps.Topic")
}

func TestSNSAddTopic(t *testing.T) {
	for name, want := range map[string]string{
		"orders":                         `{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":sns:",{"Ref":"AWS::Region"},":",{"Ref":"AWS::AccountId"},":orders"]]}`,
		"arn:aws:sns:eu-west-1:1:orders": `"arn:aws:sns:eu-west-1:1:orders"`,
	} {
		stack := newStack(t)
		b := sns.NewBroker(stack, new("Broker"), nil)
		b.AddTopic(name)
		b.GrantWrite(b.NewSink(&sns.SinkProps{Function: function()}).Handler)
		x := synth(t, stack)
		x.leastPrivilege()
		expect(t, x.one("AWS::Lambda::Function"), "Environment/Variables/CONFIG_SWARM_TARGET_SNS", want)
	}
}

func TestEventS3(t *testing.T) {
	stack := newStack(t)
	b := events3.NewBroker(stack, new("Broker"), nil)
	b.NewBucket(&awss3.BucketProps{
		Encryption:        awss3.BucketEncryption_KMS,
		RemovalPolicy:     awscdk.RemovalPolicy_DESTROY,
		BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ACLS_ONLY(),
	})
	f := b.NewSink(&events3.SinkProps{Function: function(), EventSource: &awslambdaeventsources.S3EventSourceProps{
		Events:  &[]awss3.EventType{awss3.EventType_OBJECT_REMOVED},
		Filters: &[]*awss3.NotificationKeyFilter{{Prefix: new("in/")}},
	}}).Handler
	b.GrantRead(f)
	b.GrantWrite(f)
	x := synth(t, stack)
	expect(t, x.one("AWS::S3::Bucket"), "BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault/SSEAlgorithm", `"aws:kms"`)
	expect(t, x.one("AWS::S3::Bucket"), "PublicAccessBlockConfiguration/RestrictPublicBuckets", `false`)
	expect(t, x.one("Custom::S3BucketNotifications"), "NotificationConfiguration/LambdaFunctionConfigurations/0/Events", `["s3:ObjectRemoved:*"]`)
	policy := marshal(t, x.resources[x.name("AWS::IAM::Policy", "Brokerfunction")])
	for _, want := range []string{"kms:Decrypt", "kms:GenerateDataKey"} {
		if !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}

	fails(t, func() { b.NewBucket(nil) }, "there is a bucket already")
	fails(t, func() { events3.NewBroker(stack, new("B2"), nil).NewSink(nil) }, "Broker.Bucket: there is no bucket")
	fails(t, func() { events3.NewBroker(stack, new("B3"), nil).AddBucket("") }, "AddBucket: the name is missing")
	fails(t, func() { events3.NewBroker(stack, new("B4"), nil).NewBucket(&awss3.BucketProps{BucketName: new("A")}) }, "construct test/B4: BucketProps: ")
	fails(t, func() { events3.NewSink(stack, new("S1"), &events3.SinkProps{Function: function()}) }, "SinkProps.Bucket: is missing")
	fails(t, func() { events3.NewSink(stack, new("S2"), nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(&events3.SinkProps{Bucket: awss3.NewBucket(stack, new("Other"), nil)}) }, "SinkProps.Bucket")
}

func TestEventS3AddBucket(t *testing.T) {
	for _, name := range []string{"uploads", "arn:aws:s3:::uploads"} {
		stack := newStack(t)
		b := events3.NewBroker(stack, new("Broker"), nil)
		b.AddBucket(name)
		b.GrantRead(b.NewSink(&events3.SinkProps{Function: function()}).Handler)
		x := synth(t, stack)
		x.leastPrivilege()
		expect(t, x.one("Custom::S3BucketNotifications"), "BucketName", `"uploads"`)
		expect(t, x.resources[x.name("AWS::Lambda::Function", "Brokerfunction")], "Properties/Environment/Variables/CONFIG_SWARM_SOURCE_S3", `"uploads"`)
	}
}

func TestEventDDB(t *testing.T) {
	stack := newStack(t)
	b := eventddb.NewBroker(stack, new("Broker"), nil)
	b.NewTable(&awsdynamodb.TablePropsV2{
		PartitionKey: &awsdynamodb.Attribute{Name: new("id"), Type: awsdynamodb.AttributeType_NUMBER},
		DynamoStream: awsdynamodb.StreamViewType_NEW_IMAGE,
		Billing:      awsdynamodb.Billing_OnDemand(&awsdynamodb.MaxThroughputProps{MaxReadRequestUnits: jsii.Number(5)}),
	})
	dead := awssqs.NewQueue(stack, new("Dead"), nil)
	s := b.NewSink(&eventddb.SinkProps{Function: function(), EventSource: &awslambdaeventsources.DynamoEventSourceProps{
		StartingPosition: awslambda.StartingPosition_LATEST, BisectBatchOnError: jsii.Bool(false), ReportBatchItemFailures: jsii.Bool(false),
		RetryAttempts: jsii.Number(1), OnFailure: awslambdaeventsources.NewSqsDlq(dead), ParallelizationFactor: jsii.Number(2),
	}})
	if s.DeadLetterQueue != nil {
		t.Error("there is a queue of the sink")
	}
	x := synth(t, stack)
	table := x.one("AWS::DynamoDB::GlobalTable")
	expect(t, table, "KeySchema", `[{"AttributeName":"id","KeyType":"HASH"}]`)
	expect(t, table, "StreamSpecification/StreamViewType", `"NEW_IMAGE"`)
	m := x.one("AWS::Lambda::EventSourceMapping")
	expect(t, m, "StartingPosition", `"LATEST"`)
	expect(t, m, "BisectBatchOnFunctionError", `false`)
	expect(t, m, "FunctionResponseTypes", `null`)
	expect(t, m, "MaximumRetryAttempts", `1`)
	expect(t, m, "ParallelizationFactor", `2`)
	x.one("AWS::SQS::Queue")

	third := newStack(t)
	b = eventddb.NewBroker(third, new("Broker"), nil)
	b.NewTable(nil)
	for range 3 {
		b.NewSink(&eventddb.SinkProps{Function: function()})
	}
	if got := warnings(t, third); !strings.Contains(got, "more than 2 sinks") {
		t.Errorf("warnings %q", got)
	}

	fails(t, func() { b.NewTable(nil) }, "there is a table already")
	fails(t, func() {
		eventddb.NewBroker(third, new("B1"), nil).NewTable(&awsdynamodb.TablePropsV2{SortKey: &awsdynamodb.Attribute{Name: new("x"), Type: awsdynamodb.AttributeType_STRING}})
	}, "TablePropsV2.PartitionKey: is missing")
	fails(t, func() { eventddb.NewBroker(third, new("B2"), nil).NewSink(nil) }, "Broker.Table: there is no table")
	fails(t, func() { eventddb.NewBroker(third, new("B3"), nil).AddTable("") }, "AddTable: the name is missing")
	fails(t, func() { eventddb.NewBroker(third, new("B4"), nil).AddTable("users", "b", "c") }, "AddTable: a table has one stream")
	imported := eventddb.NewBroker(third, new("B5"), nil)
	imported.AddTable("users")
	fails(t, func() { imported.NewSink(&eventddb.SinkProps{Function: function()}) }, "construct test/B5/function: SinkProps.Table: has no stream")
	fails(t, func() { eventddb.NewSink(third, new("S1"), &eventddb.SinkProps{Function: function()}) }, "SinkProps.Table: is missing")
	fails(t, func() { eventddb.NewSink(third, new("S2"), nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(nil) }, "SinkProps: is missing")
	fails(t, func() { b.NewSink(&eventddb.SinkProps{Table: imported.Table}) }, "SinkProps.Table")
	fails(t, func() {
		b.NewSink(&eventddb.SinkProps{Function: function(), EventSource: &awslambdaeventsources.DynamoEventSourceProps{BatchSize: jsii.Number(100000)}})
	}, "SinkProps.EventSource: ")
}

func TestEventDDBAddTable(t *testing.T) {
	const stream = "arn:aws:dynamodb:eu-west-1:1:table/users/stream/2026"
	for _, name := range []string{"users", "arn:aws:dynamodb:eu-west-1:1:table/users"} {
		stack := newStack(t)
		b := eventddb.NewBroker(stack, new("Broker"), nil)
		b.AddTable(name, stream)
		f := b.NewSink(&eventddb.SinkProps{Function: function()}).Handler
		b.GrantRead(f)
		b.GrantWrite(f)
		x := synth(t, stack)
		x.leastPrivilege()
		expect(t, x.one("AWS::Lambda::EventSourceMapping"), "EventSourceArn", `"`+stream+`"`)
		expect(t, x.one("AWS::Lambda::Function"), "Environment/Variables/CONFIG_SWARM_SOURCE_DDB", `"users"`)
	}
}

// A function has one source and one target of a kind in its environment.
func TestGrantsOfTwoBrokers(t *testing.T) {
	stack := newStack(t)
	newBroker := func(name string) *sqs.Broker {
		b := sqs.NewBroker(stack, new(name), nil)
		b.NewQueue(nil)
		return b
	}
	in, out, other := newBroker("In"), newBroker("Out"), newBroker("Other")
	f := in.NewSink(&sqs.SinkProps{Function: function()}).Handler
	out.GrantWrite(f)
	out.GrantWrite(f) // again, the same
	in.GrantRead(f)
	fails(t, func() { other.GrantWrite(f) }, "construct test/In/function/Function: GrantWrite: CONFIG_SWARM_TARGET_SQS is taken")
	fails(t, func() { other.GrantRead(f) }, "GrantRead: CONFIG_SWARM_SOURCE_SQS is taken")

	own := newBroker("Own").NewSink(&sqs.SinkProps{Function: function(&awslambda.FunctionProps{
		Environment: &map[string]*string{"CONFIG_SWARM_TARGET_SQS": new("mine"), "CONFIG_SWARM_TIME_TO_FLIGHT": new("5s"), "X": new("y")},
	})}).Handler
	out.GrantWrite(own)
	other.GrantWrite(own)
	x := synth(t, stack)
	env := x.resources[x.name("AWS::Lambda::Function", "Own")]["Properties"].(object)["Environment"]
	expect(t, env, "Variables/CONFIG_SWARM_TARGET_SQS", `"mine"`)
	expect(t, env, "Variables/CONFIG_SWARM_TIME_TO_FLIGHT", `"5s"`)
	expect(t, env, "Variables/X", `"y"`)
}

// Functions are who the broker says, unless the sink says it.
func TestIdentity(t *testing.T) {
	for name, make := range map[string]func(stack awscdk.Stack, agent string){
		"sqs": func(stack awscdk.Stack, agent string) {
			b := sqs.NewBroker(stack, new("Broker"), &sqs.BrokerProps{Agent: "broker", Realm: "realm"})
			b.NewQueue(nil)
			b.NewSink(&sqs.SinkProps{Function: function(), Agent: agent})
		},
		"eventbridge": func(stack awscdk.Stack, agent string) {
			b := eventbridge.NewBroker(stack, new("Broker"), &eventbridge.BrokerProps{Agent: "broker", Realm: "realm"})
			b.NewEventBus(nil)
			b.NewSink(&eventbridge.SinkProps{Function: function(), Agent: agent})
		},
		"sns": func(stack awscdk.Stack, agent string) {
			b := sns.NewBroker(stack, new("Broker"), &sns.BrokerProps{Agent: "broker", Realm: "realm"})
			b.NewTopic(nil)
			b.NewSink(&sns.SinkProps{Function: function(), Agent: agent})
		},
		"events3": func(stack awscdk.Stack, agent string) {
			b := events3.NewBroker(stack, new("Broker"), &events3.BrokerProps{Agent: "broker", Realm: "realm"})
			b.NewBucket(nil)
			b.NewSink(&events3.SinkProps{Function: function(), Agent: agent})
		},
		"eventddb": func(stack awscdk.Stack, agent string) {
			b := eventddb.NewBroker(stack, new("Broker"), &eventddb.BrokerProps{Agent: "broker", Realm: "realm"})
			b.NewTable(nil)
			b.NewSink(&eventddb.SinkProps{Function: function(), Agent: agent})
		},
		"websocket": func(stack awscdk.Stack, agent string) {
			b := websocket.NewBroker(stack, new("Broker"), &websocket.BrokerProps{Agent: "broker", Realm: "realm"})
			b.NewGateway(nil)
			b.NewSink(&websocket.SinkProps{Route: "Say", Function: function(), Agent: agent})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for agent, want := range map[string]string{"": `"broker"`, "sink": `"sink"`} {
				stack := newStack(t)
				make(stack, agent)
				x := synth(t, stack)
				f := x.resources[x.name("AWS::Lambda::Function", "Brokerfunction")]
				expect(t, f, "Properties/Environment/Variables/CONFIG_SWARM_AGENT", want)
				expect(t, f, "Properties/Environment/Variables/CONFIG_SWARM_REALM", `"realm"`)
			}
		})
	}
}

// What a broker is given is a name or an ARN of its own kind, and known.
func TestGivenResources(t *testing.T) {
	stack := newStack(t)
	n := 0
	id := func() *string { n++; return new(fmt.Sprint("B", n)) }
	queue := func(s string) func() { return func() { sqs.NewBroker(stack, id(), nil).AddQueue(s) } }
	topic := func(s string) func() { return func() { sns.NewBroker(stack, id(), nil).AddTopic(s) } }
	bus := func(s string) func() { return func() { eventbridge.NewBroker(stack, id(), nil).AddEventBus(s) } }
	bucket := func(s string) func() { return func() { events3.NewBroker(stack, id(), nil).AddBucket(s) } }
	table := func(s ...string) func() {
		return func() { eventddb.NewBroker(stack, id(), nil).AddTable(s[0], s[1:]...) }
	}
	token := *awscdk.NewCfnParameter(stack, new("Token"), nil).ValueAsString()
	for _, x := range []struct {
		f    func()
		want string
	}{
		{queue("https://sqs.eu-west-1.amazonaws.com/1/orders"), "AddQueue: \"https://sqs.eu-west-1.amazonaws.com/1/orders\" is neither a name nor an ARN"},
		{queue("orders queue"), "is neither a name nor an ARN"},
		{queue("arn:aws:sns:eu-west-1:1:orders"), "is not the ARN of a queue"},
		{queue(token), "AddQueue: is known at deployment only: set Broker.Queue"},
		{topic("arn:aws:sqs:eu-west-1:1:orders"), "is not the ARN of a topic"},
		{topic(token), "set Broker.Topic"},
		{bus("arn:aws:events:eu-west-1:1:rule/x"), "is not the ARN of a bus"},
		{bus(token), "set Broker.Bus"},
		{bucket("arn:aws:s3:::b/*"), "is not the ARN of a bucket"},
		{bucket(token), "set Broker.Bucket"},
		{table("arn:aws:dynamodb:eu-west-1:1:table/a/index/b"), "is not the ARN of a table"},
		{table(token), "set Broker.Table"},
		{table("users", "2026-01-01"), "AddTable: \"2026-01-01\" is not the ARN of the stream of users"},
		{table("users", "arn:aws:dynamodb:eu-west-1:1:table/orders/stream/2026"), "is not the ARN of the stream of users"},
	} {
		fails(t, x.f, x.want)
	}
}

// Where dead letters could not go, or would go to two places, is an error.
func TestDeadLettersThatCannotBe(t *testing.T) {
	stack := newStack(t)
	fifo := awssqs.NewQueue(stack, new("Dead"), &awssqs.QueueProps{Fifo: new(true)})
	standard := awssqs.NewQueue(stack, new("Standard"), nil)
	topic := sns.NewBroker(stack, new("SNS"), nil)
	topic.NewTopic(nil)
	fails(t, func() { topic.NewSink(&sns.SinkProps{Function: function(), DeadLetterQueue: fifo}) }, "SinkProps.DeadLetterQueue: is a FIFO queue")
	bus := eventbridge.NewBroker(stack, new("Bus"), nil)
	bus.NewEventBus(nil)
	fails(t, func() { bus.NewSink(&eventbridge.SinkProps{Function: function(), DeadLetterQueue: fifo}) }, "is a FIFO queue")
	table := eventddb.NewBroker(stack, new("DDB"), nil)
	table.NewTable(nil)
	fails(t, func() { table.NewSink(&eventddb.SinkProps{Function: function(), DeadLetterQueue: fifo}) }, "is a FIFO queue")
	fails(t, func() {
		table.NewSink(&eventddb.SinkProps{Function: function(), DeadLetterQueue: standard,
			EventSource: &awslambdaeventsources.DynamoEventSourceProps{StartingPosition: awslambda.StartingPosition_LATEST, OnFailure: awslambdaeventsources.NewSqsDlq(standard)}})
	}, "SinkProps.DeadLetterQueue: contradicts EventSource.OnFailure")
	for name, props := range map[string]*awssqs.QueueProps{
		"A": {DeadLetterQueue: &awssqs.DeadLetterQueue{Queue: fifo, MaxReceiveCount: new(5.0)}},
		"B": {Fifo: new(true), DeadLetterQueue: &awssqs.DeadLetterQueue{Queue: standard, MaxReceiveCount: new(5.0)}},
	} {
		fails(t, func() { sqs.NewBroker(stack, &name, nil).NewQueue(props) }, "QueueProps.DeadLetterQueue: must be of the type of its queue")
	}
}

// A service that hands over to a function sends what it could not to a queue of the user's:
// by a key of his it may, and what only he can allow is told.
func TestDeadLettersOfServices(t *testing.T) {
	sinks := map[string]func(stack awscdk.Stack, dead awssqs.IQueue){
		"sns.amazonaws.com": func(stack awscdk.Stack, dead awssqs.IQueue) {
			b := sns.NewBroker(stack, new("Broker"), nil)
			b.NewTopic(nil)
			b.NewSink(&sns.SinkProps{Function: function(), DeadLetterQueue: dead})
		},
		"events.amazonaws.com": func(stack awscdk.Stack, dead awssqs.IQueue) {
			b := eventbridge.NewBroker(stack, new("Broker"), nil)
			b.NewEventBus(nil)
			b.NewSink(&eventbridge.SinkProps{Function: function(), DeadLetterQueue: dead})
		},
	}
	queues := map[string]struct {
		queue        func(awscdk.Stack) awssqs.IQueue
		key, warning string
	}{
		"own": {queue: func(stack awscdk.Stack) awssqs.IQueue { return awssqs.NewQueue(stack, new("Dead"), nil) }},
		"own key": {queue: func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.NewQueue(stack, new("Dead"), &awssqs.QueueProps{EncryptionMasterKey: awskms.NewKey(stack, new("Key"), nil)})
		}, key: `"Action":["kms:GenerateDataKey*","kms:Decrypt"]`},
		"key of AWS": {queue: func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.NewQueue(stack, new("Dead"), &awssqs.QueueProps{Encryption: awssqs.QueueEncryption_KMS_MANAGED})
		}, warning: "the key that AWS manages, which %s may not use"},
		"made elsewhere": {queue: func(stack awscdk.Stack) awssqs.IQueue {
			return awssqs.Queue_FromQueueArn(stack, new("Dead"), new("arn:aws:sqs:eu-west-1:123456789012:dead"))
		}, warning: "must allow %s to send"},
	}
	for service, sink := range sinks {
		for name, c := range queues {
			t.Run(service+"/"+name, func(t *testing.T) {
				stack := newStack(t)
				sink(stack, c.queue(stack))
				want := c.warning
				if want != "" {
					want = fmt.Sprintf(want, service)
				}
				if got := warnings(t, stack); want == "" && got != "" || !strings.Contains(got, want) {
					t.Errorf("warnings %q, want %q", got, want)
				}
				var of strings.Builder
				for _, key := range synth(t, stack).all("AWS::KMS::Key") {
					for _, s := range key["KeyPolicy"].(object)["Statement"].([]any) {
						if text := marshal(t, s); strings.Contains(text, service) {
							of.WriteString(text)
						}
					}
				}
				if allowed := of.String(); c.key == "" && allowed != "" || !strings.Contains(allowed, c.key) {
					t.Errorf("of the key is allowed %q, want %q", allowed, c.key)
				}
			})
		}
	}
}

// A pattern that matches nothing, or something else, is no pattern.
func TestPatternsThatMatchNothing(t *testing.T) {
	for want, f := range map[string]func(){
		"eventbridge.Category([]): names are missing":      func() { eventbridge.Like(eventbridge.Category()) },
		`eventbridge.Source([""]): names are missing`:      func() { eventbridge.Like(eventbridge.Source("")) },
		`eventbridge.Has(""): a part of the key`:           func() { eventbridge.Like(eventbridge.Has("")) },
		`eventbridge.Has("a..b"): a part of the key`:       func() { eventbridge.Like(eventbridge.Has("a..b")) },
		`eventbridge.Has("a"): a filter is empty`:          func() { eventbridge.Like(eventbridge.Has("a", map[string]any{})) },
		`eventbridge.Has("a"): 12345678901234567: the CDK`: func() { eventbridge.Like(eventbridge.Has("a", 12345678901234567)) },
	} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, want) {
					t.Errorf("got %s, want %s", text, want)
				}
			}()
			f()
		}()
	}
}

// A bucket of another stack has a sink, too.
func TestEventS3OfAnotherStack(t *testing.T) {
	stack := newStack(t)
	other := awscdk.NewStack(awscdk.App_Of(stack).(awscdk.App), new("other"), nil)
	events3.NewSink(other, new("Sink"), &events3.SinkProps{Bucket: awss3.NewBucket(stack, new("Bucket"), nil), Function: function()})
	if x := synth(t, other); len(x.all("AWS::Lambda::Function")) == 0 {
		t.Error("there is no function")
	}
}
