package cdk_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdaeventsources"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/jsii-runtime-go"

	"github.com/fogfish/swarm/cdk/sqs"
)

// newQueue is a broker with a queue.
func newQueue(t *testing.T, props *awssqs.QueueProps) (awscdk.Stack, *sqs.Broker) {
	stack := newStack(t)
	b := sqs.NewBroker(stack, new("Broker"), nil)
	b.NewQueue(props)
	return stack, b
}

func seconds(n float64) awscdk.Duration { return awscdk.Duration_Seconds(&n) }

// warnings that synthesis prints.
func warnings(t *testing.T, stack awscdk.Stack) string {
	t.Helper()
	var out strings.Builder
	assembly := awscdk.App_Of(stack).(awscdk.App).Synth(nil)
	for _, m := range *assembly.GetStackArtifact(stack.ArtifactId()).Messages() {
		out.WriteString(*m.Id + ": " + marshal(t, m.Entry.Data) + "\n")
	}
	return out.String()
}

func TestSQSVisibility(t *testing.T) {
	for name, c := range map[string]struct {
		queue, timeout, window awscdk.Duration
		want, warning          string
	}{
		"default":                   {want: "360"},
		"of the timeout":            {timeout: seconds(10), want: "60"},
		"and the window":            {timeout: seconds(10), window: seconds(5), want: "65"},
		"of the queue":              {queue: seconds(500), want: "500"},
		"of the queue, too short":   {queue: seconds(90), want: "90", warning: "below 360 s"},
		"of the queue, for windows": {queue: seconds(360), window: seconds(1), want: "360", warning: "below 361 s"},
	} {
		t.Run(name, func(t *testing.T) {
			stack, b := newQueue(t, &awssqs.QueueProps{VisibilityTimeout: c.queue})
			b.NewSink(&sqs.SinkProps{
				Function:    function(&awslambda.FunctionProps{Timeout: c.timeout}),
				EventSource: &awslambdaeventsources.SqsEventSourceProps{MaxBatchingWindow: c.window},
			})
			if got := warnings(t, stack); c.warning == "" && got != "" || !strings.Contains(got, c.warning) {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
			x := synth(t, stack)
			expect(t, x.resources[x.name("AWS::SQS::Queue", "BrokerQueue")], "Properties/VisibilityTimeout", c.want)
		})
	}
	t.Run("below the timeout", func(t *testing.T) {
		_, b := newQueue(t, &awssqs.QueueProps{VisibilityTimeout: seconds(30)})
		fails(t, func() { b.NewSink(&sqs.SinkProps{Function: function()}) }, "test/Broker/function", "QueueProps.VisibilityTimeout", "30 s", "60 s")
	})
}

func TestSQSOverrides(t *testing.T) {
	stack := newStack(t)
	dead := awssqs.NewQueue(stack, new("Dead"), nil)
	b := sqs.NewBroker(stack, new("Broker"), &sqs.BrokerProps{Agent: "agent", Realm: "realm"})
	b.NewQueue(&awssqs.QueueProps{
		QueueName:       new("orders"),
		EnforceSSL:      jsii.Bool(false),
		Encryption:      awssqs.QueueEncryption_KMS_MANAGED,
		DeadLetterQueue: &awssqs.DeadLetterQueue{Queue: dead, MaxReceiveCount: jsii.Number(3)},
	})
	if b.DeadLetterQueue != awssqs.IQueue(dead) {
		t.Error("the dead letters are others")
	}
	props := &sqs.SinkProps{Function: function(), EventSource: &awslambdaeventsources.SqsEventSourceProps{
		BatchSize: jsii.Number(100), MaxBatchingWindow: seconds(1), MaxConcurrency: jsii.Number(7), ReportBatchItemFailures: jsii.Bool(false),
	}}
	b.NewSink(props)
	if props.Queue != nil || props.Agent != "" {
		t.Error("the properties were changed")
	}
	if got := warnings(t, stack); !strings.Contains(got, "dead letters after 3 receives") {
		t.Errorf("warnings %q", got)
	}
	x := synth(t, stack)
	q := x.resources[x.name("AWS::SQS::Queue", "BrokerQueue")]
	expect(t, q, "Properties/QueueName", `"orders"`)
	expect(t, q, "Properties/KmsMasterKeyId", `"alias/aws/sqs"`)
	expect(t, q, "Properties/SqsManagedSseEnabled", `null`)
	expect(t, q, "Properties/RedrivePolicy/maxReceiveCount", `3`)
	if n := len(x.all("AWS::SQS::QueuePolicy")); n != 0 {
		t.Errorf("%d policies", n)
	}
	m := x.one("AWS::Lambda::EventSourceMapping")
	expect(t, m, "BatchSize", `100`)
	expect(t, m, "MaximumBatchingWindowInSeconds", `1`)
	expect(t, m, "ScalingConfig/MaximumConcurrency", `7`)
	expect(t, m, "FunctionResponseTypes", `null`)
	env := x.one("AWS::Lambda::Function")["Environment"]
	expect(t, env, "Variables/CONFIG_SWARM_AGENT", `"agent"`)
	expect(t, env, "Variables/CONFIG_SWARM_REALM", `"realm"`)
}

func TestSQSFIFO(t *testing.T) {
	for name, props := range map[string]*awssqs.QueueProps{
		"by name":  {QueueName: new("orders.fifo")},
		"by type":  {Fifo: jsii.Bool(true)},
		"by both":  {QueueName: new("orders.fifo"), Fifo: jsii.Bool(true)},
		"standard": {QueueName: new("orders"), Fifo: jsii.Bool(false)},
	} {
		t.Run(name, func(t *testing.T) {
			stack, b := newQueue(t, props)
			b.NewSink(&sqs.SinkProps{Function: function()})
			x := synth(t, stack)
			want := "true"
			if name == "standard" {
				want = "null"
			}
			expect(t, x.resources[x.name("AWS::SQS::Queue", "BrokerQueue")], "Properties/FifoQueue", want)
			expect(t, x.resources[x.name("AWS::SQS::Queue", "DeadLetters")], "Properties/FifoQueue", want)
		})
	}
	fails(t, func() { newQueue(t, &awssqs.QueueProps{QueueName: new("orders"), Fifo: jsii.Bool(true)}) }, "test/Broker", "QueueProps.QueueName", "orders")
	fails(t, func() { newQueue(t, &awssqs.QueueProps{QueueName: new("orders.fifo"), Fifo: jsii.Bool(false)}) }, "test/Broker", "QueueProps.QueueName")
	_, b := newQueue(t, &awssqs.QueueProps{Fifo: jsii.Bool(true)})
	fails(t, func() {
		b.NewSink(&sqs.SinkProps{Function: function(), EventSource: &awslambdaeventsources.SqsEventSourceProps{BatchSize: jsii.Number(11), MaxBatchingWindow: seconds(1)}})
	}, "SinkProps.EventSource.BatchSize", "FIFO")
	_, b = newQueue(t, &awssqs.QueueProps{Fifo: jsii.Bool(true)})
	fails(t, func() {
		b.NewSink(&sqs.SinkProps{Function: function(), EventSource: &awslambdaeventsources.SqsEventSourceProps{MaxBatchingWindow: seconds(1)}})
	}, "SinkProps.EventSource", "Batching window is not supported for FIFO queues")
}

func TestSQSAddQueue(t *testing.T) {
	for name, arn := range map[string]string{
		"orders":                              `{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},":sqs:",{"Ref":"AWS::Region"},":",{"Ref":"AWS::AccountId"},":orders"]]}`,
		"arn:aws:sqs:eu-west-1:1:orders.fifo": `"arn:aws:sqs:eu-west-1:1:orders.fifo"`,
	} {
		stack := newStack(t)
		b := sqs.NewBroker(stack, new("Broker"), nil)
		b.AddQueue(name)
		b.GrantWrite(b.NewSink(&sqs.SinkProps{Function: function()}).Handler)
		x := synth(t, stack)
		x.leastPrivilege()
		expect(t, x.one("AWS::Lambda::EventSourceMapping"), "EventSourceArn", arn)
		if got := marshal(t, x.one("AWS::Lambda::Function")["Environment"].(object)["Variables"].(object)["CONFIG_SWARM_TARGET_SQS"]); !strings.Contains(got, "/orders") || !strings.Contains(got, "https://sqs.") {
			t.Errorf("the target is %s", got)
		}
	}
}

func TestSQSWithoutABroker(t *testing.T) {
	stack := newStack(t)
	q := awssqs.NewQueue(stack, new("Queue"), nil)
	sqs.NewSink(stack, new("Sink"), &sqs.SinkProps{Queue: q, Function: function(), Agent: "test"})
	x := synth(t, stack)
	x.leastPrivilege()
	x.functions()
	expect(t, x.one("AWS::SQS::Queue"), "VisibilityTimeout", "360")
	expect(t, x.one("AWS::Lambda::EventSourceMapping"), "FunctionResponseTypes", `["ReportBatchItemFailures"]`)
}

func TestSQSErrors(t *testing.T) {
	source := func(s awslambdaeventsources.SqsEventSourceProps) func(*sqs.Broker) {
		return func(b *sqs.Broker) { b.NewSink(&sqs.SinkProps{Function: function(), EventSource: &s}) }
	}
	for name, c := range map[string]struct {
		f    func(*sqs.Broker)
		want string
	}{
		"no props":                {func(b *sqs.Broker) { b.NewSink(nil) }, "construct test/Broker: SinkProps: is missing"},
		"no function":             {func(b *sqs.Broker) { b.NewSink(&sqs.SinkProps{}) }, "construct test/Broker: SinkProps.Function: is missing"},
		"two queues":              {func(b *sqs.Broker) { b.NewQueue(nil) }, "construct test/Broker: Broker.Queue: there is a queue already"},
		"a queue and another":     {func(b *sqs.Broker) { b.AddQueue("x") }, "there is a queue already"},
		"large batch, at once":    {source(awslambdaeventsources.SqsEventSourceProps{BatchSize: jsii.Number(11)}), "SinkProps.EventSource.BatchSize: 11: more than 10 needs a MaxBatchingWindow"},
		"larger than a batch is":  {source(awslambdaeventsources.SqsEventSourceProps{BatchSize: jsii.Number(10001), MaxBatchingWindow: seconds(1)}), "test/Broker/function: SinkProps.EventSource: Maximum batch size must be between 1 and 10000"},
		"longer than windows are": {source(awslambdaeventsources.SqsEventSourceProps{MaxBatchingWindow: seconds(301)}), "SinkProps.EventSource: Maximum batching window must be 300 seconds or less"},
		"two sinks": {func(b *sqs.Broker) {
			b.NewSink(&sqs.SinkProps{Function: function()})
			b.NewSink(&sqs.SinkProps{Function: function()})
		}, "construct test/Broker: NewSink: the queue has a sink"},
		"foreign queue": {func(b *sqs.Broker) {
			b.NewSink(&sqs.SinkProps{Function: function(), Queue: awssqs.NewQueue(b.Construct, new("Other"), nil)})
		}, "SinkProps.Queue: is not the queue of the broker"},
		"no queue":        {func(b *sqs.Broker) { sqs.NewSink(b.Construct, new("Sink"), &sqs.SinkProps{Function: function()}) }, "construct test/Broker/Sink: SinkProps.Queue: is missing"},
		"nil function":    {func(b *sqs.Broker) { sqs.NewSink(b.Construct, new("Sink"), &sqs.SinkProps{Queue: b.Queue}) }, "construct test/Broker/Sink: SinkProps.Function: is missing"},
		"no sink props":   {func(b *sqs.Broker) { sqs.NewSink(b.Construct, new("Sink"), nil) }, "construct test/Broker/Sink: SinkProps: is missing"},
		"no scope":        {func(b *sqs.Broker) { sqs.NewBroker(nil, new("Broker"), nil) }, "sqs.NewBroker: scope is nil"},
		"no id":           {func(b *sqs.Broker) { sqs.NewBroker(b.Construct, nil, nil) }, "construct test/Broker: sqs.NewBroker: id is missing"},
		"the same id":     {func(b *sqs.Broker) { sqs.NewBroker(b.Construct, new("Queue"), nil) }, `there is a construct "Queue" already`},
		"sink, no queue":  {func(b *sqs.Broker) { b.Queue = nil; b.NewSink(&sqs.SinkProps{}) }, "construct test/Broker: Broker.Queue: there is no queue: call NewQueue or AddQueue first"},
		"grant, no queue": {func(b *sqs.Broker) { b.Queue = nil; b.GrantWrite(nil) }, "there is no queue"},
		"read, no queue":  {func(b *sqs.Broker) { b.Queue = nil; b.GrantRead(nil) }, "there is no queue"},
		"no name":         {func(b *sqs.Broker) { b.Queue = nil; b.AddQueue("") }, "construct test/Broker: AddQueue: the name is missing"},
		"bad queue": {func(b *sqs.Broker) {
			sqs.NewBroker(b.Construct, new("B"), nil).NewQueue(&awssqs.QueueProps{RetentionPeriod: seconds(1)})
		}, "construct test/Broker/B: QueueProps: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, b := newQueue(t, nil)
			fails(t, func() { c.f(b) }, c.want)
		})
	}
}

// A visibility timeout that is known at deployment only is taken.
func TestSQSVisibilityOfAParameter(t *testing.T) {
	stack := newStack(t)
	p := awscdk.NewCfnParameter(stack, new("V"), &awscdk.CfnParameterProps{Type: new("Number")})
	b := sqs.NewBroker(stack, new("Broker"), nil)
	b.NewQueue(&awssqs.QueueProps{VisibilityTimeout: awscdk.Duration_Seconds(p.ValueAsNumber())})
	b.NewSink(&sqs.SinkProps{Function: function()})
	seen := false
	for _, r := range synth(t, stack).resources {
		seen = seen || r["Type"] == "AWS::SQS::Queue" && strings.Contains(marshal(t, r["Properties"]), `"VisibilityTimeout":{"Ref":"V"}`)
	}
	if !seen {
		t.Error("no queue has the parameter")
	}
}
