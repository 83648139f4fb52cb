// Package sqs has the constructs of AWS CDK for functions of AWS Lambda that consume a
// queue of AWS SQS by package broker/sqs: create a broker, attach a sink.
//
//	broker := sqs.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewQueue(nil)
//	broker.NewSink(&sqs.SinkProps{
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/shop",
//			SourceCodeLambda: "cmd/orders",
//		},
//	})
//
// # Defaults
//
//	queue      encrypted with keys of SQS, by TLS only
//	           messages go to the dead letters after 5 receives, and stay there for 14 days;
//	           of a FIFO queue also those that were only behind one, but for an
//	           EventSource.BatchSize of 1
//	           visibility timeout of 6 times the function's timeout, and the batching window
//	sink       ReportBatchItemFailures; one for a queue
//
// The properties of the CDK override each of them. Which are those of all functions, and how
// they are built, is said at package cdk.
package sqs

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdaeventsources"
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

// Broker is a queue and its sink.
type Broker struct {
	constructs.Construct
	// Queue is what NewQueue and AddQueue set. A queue made in another way may be set, too.
	Queue awssqs.IQueue
	// DeadLetterQueue gets what was received too often. It is nil after AddQueue.
	DeadLetterQueue awssqs.IQueue

	identity construct.Identity
	sink     *Sink
}

// NewBroker makes a broker, which needs a queue.
func NewBroker(scope constructs.Construct, id *string, props *BrokerProps) *Broker {
	b := &Broker{Construct: construct.New("sqs.NewBroker", scope, id)}
	if props != nil {
		b.identity = construct.Identity(*props)
	}
	return b
}

func (b *Broker) vacant() {
	construct.Vacant(b.Construct, "Queue", b.Queue != nil)
}

func (b *Broker) queue() awssqs.IQueue {
	construct.Need(b.Construct, "Queue", b.Queue != nil, "NewQueue or AddQueue")
	return b.Queue
}

// NewQueue makes the queue of the broker, see the defaults of the package. A name that ends
// with .fifo makes a FIFO queue, as Fifo does.
func (b *Broker) NewQueue(props *awssqs.QueueProps) awssqs.IQueue {
	b.vacant()
	q := awssqs.QueueProps{}
	if props != nil {
		q = *props
	}
	if q.QueueName != nil && !*awscdk.Token_IsUnresolved(q.QueueName) {
		named := strings.HasSuffix(*q.QueueName, ".fifo")
		construct.Default(&q.Fifo, func() *bool { // not false: CloudFormation takes true or nothing
			if named {
				return jsii.Bool(true)
			}
			return nil
		})
		if named != (q.Fifo != nil && *q.Fifo) {
			construct.Fail(b.Construct, "QueueProps.QueueName", "%s contradicts Fifo: names of FIFO queues, and no others, end with .fifo", *q.QueueName)
		}
	}
	if q.DeadLetterQueue == nil {
		dead := construct.NewDeadLetters(b.Construct, "DeadLetters", q.Fifo != nil && *q.Fifo)
		q.DeadLetterQueue = &awssqs.DeadLetterQueue{Queue: dead, MaxReceiveCount: jsii.Number(5)}
	} else if n := q.DeadLetterQueue.MaxReceiveCount; n != nil && *n < 5 {
		construct.Warn(b.Construct, "receives", "messages are dead letters after %v receives: those that a busy function was not given count, AWS advises 5 at least", *n)
	}
	if dead := q.DeadLetterQueue.Queue; dead != nil && *dead.Fifo() != (q.Fifo != nil && *q.Fifo) {
		construct.Fail(b.Construct, "QueueProps.DeadLetterQueue", "must be of the type of its queue: FIFO for FIFO, standard for standard")
	}
	if q.EncryptionMasterKey == nil {
		construct.Default(&q.Encryption, func() awssqs.QueueEncryption { return awssqs.QueueEncryption_SQS_MANAGED })
	}
	construct.Default(&q.EnforceSSL, func() *bool { return jsii.Bool(true) })

	b.Queue = construct.Try(b.Construct, "QueueProps", func() awssqs.IQueue { return awssqs.NewQueue(b.Construct, jsii.String("Queue"), &q) })
	b.DeadLetterQueue = q.DeadLetterQueue.Queue
	return b.Queue
}

// AddQueue takes a queue of this account and region that exists, by its name or ARN. Its
// visibility timeout must be 6 times the timeout of the function.
func (b *Broker) AddQueue(queueName string) awssqs.IQueue {
	b.vacant()
	arn := construct.ARN(b.Construct, "AddQueue", "sqs", queueName)
	b.Queue = construct.Try(b.Construct, "AddQueue", func() awssqs.IQueue {
		return awssqs.Queue_FromQueueAttributes(b.Construct, jsii.String("Queue"), &awssqs.QueueAttributes{
			QueueArn: &arn,
			Fifo:     jsii.Bool(strings.HasSuffix(queueName, ".fifo")),
		})
	})
	return b.Queue
}

// NewSink makes the function that consumes the queue of the broker.
func (b *Broker) NewSink(props *SinkProps) *Sink {
	q := b.queue()
	if props == nil {
		construct.Fail(b.Construct, "SinkProps", "is missing")
	}
	if b.sink != nil {
		construct.Fail(b.Construct, "NewSink", "the queue has a sink: two would each get a part of the messages. A function listens to several categories")
	}
	p := *props
	if p.Queue != nil && p.Queue != q {
		construct.Fail(b.Construct, "SinkProps.Queue", "is not the queue of the broker: leave it out")
	}
	p.Queue = q
	id := construct.Identity{Agent: p.Agent, Realm: p.Realm}.Or(b.identity)
	p.Agent, p.Realm = id.Agent, id.Realm
	b.sink = NewSink(b.Construct, construct.FunctionID(b.Construct, p.Function), &p)
	return b.sink
}

// GrantWrite lets the function send to the queue, by sqs.Emitter().Build("").
func (b *Broker) GrantWrite(f awslambda.Function) {
	q := b.queue()
	q.GrantSendMessages(f)
	construct.Setenv(f, "GrantWrite", construct.EnvTargetSQS, q.QueueUrl())
}

// GrantRead lets the function receive from the queue. The function of a sink needs it not.
func (b *Broker) GrantRead(f awslambda.Function) {
	q := b.queue()
	q.GrantConsumeMessages(f)
	construct.Setenv(f, "GrantRead", construct.EnvSourceSQS, q.QueueUrl())
}

// SinkProps are those of a sink. Function is required, and Queue where there is no broker.
type SinkProps struct {
	Queue    awssqs.IQueue
	Function scud.FunctionProps

	// EventSource has what is unlike the defaults: BatchSize 10, at once, and
	// ReportBatchItemFailures. Without the latter one failure repeats the whole batch.
	EventSource *awslambdaeventsources.SqsEventSourceProps

	// Agent and Realm are those of the broker, if they are not set.
	Agent, Realm string
}

// Sink is a function that consumes a queue.
type Sink struct {
	constructs.Construct
	Handler awslambda.Function
}

// NewSink makes a function that consumes a queue. Its environment has the queue, for
// sqs.Listener().Build("").
func NewSink(scope constructs.Construct, id *string, props *SinkProps) *Sink {
	s := &Sink{Construct: construct.New("sqs.NewSink", scope, id)}
	switch {
	case props == nil:
		construct.Fail(s.Construct, "SinkProps", "is missing")
	case props.Queue == nil:
		construct.Fail(s.Construct, "SinkProps.Queue", "is missing")
	}
	source := awslambdaeventsources.SqsEventSourceProps{}
	if props.EventSource != nil {
		source = *props.EventSource
	}
	construct.Default(&source.ReportBatchItemFailures, func() *bool { return jsii.Bool(true) })
	s.check(props.Queue, &source)

	s.Handler = construct.Function{
		Property: "SinkProps.Function",
		Props:    props.Function,
		Identity: construct.Identity{Agent: props.Agent, Realm: props.Realm},
		Env:      map[string]*string{construct.EnvSourceSQS: props.Queue.QueueUrl()},
	}.New(s.Construct, "Function")
	s.visibility(props.Queue, &source)
	construct.Try(s.Construct, "SinkProps.EventSource", func() any {
		s.Handler.AddEventSource(awslambdaeventsources.NewSqsEventSource(props.Queue, &source))
		return nil
	})
	return s
}

func (s *Sink) check(q awssqs.IQueue, source *awslambdaeventsources.SqsEventSourceProps) {
	if source.BatchSize == nil || *source.BatchSize <= 10 {
		return
	}
	window, known := construct.Seconds(source.MaxBatchingWindow)
	switch {
	case *q.Fifo():
		construct.Fail(s.Construct, "SinkProps.EventSource.BatchSize", "%v: a FIFO queue has at most 10", *source.BatchSize)
	case source.MaxBatchingWindow == nil, known && window < 1:
		construct.Fail(s.Construct, "SinkProps.EventSource.BatchSize", "%v: more than 10 needs a MaxBatchingWindow of 1 s at least", *source.BatchSize)
	}
}

// A message must stay invisible while Lambda tries again an invocation that it had to
// throttle: AWS asks for 6 times the timeout, and the time that a batch is waited for.
func (s *Sink) visibility(q awssqs.IQueue, source *awslambdaeventsources.SqsEventSourceProps) {
	timeout, known := construct.Seconds(s.Handler.Timeout())
	queue, own := q.Node().DefaultChild().(awssqs.CfnQueue)
	if !known || !own { // an imported queue tells nothing
		return
	}
	window, _ := construct.Seconds(source.MaxBatchingWindow)
	want := 6*timeout + window
	switch has := queue.VisibilityTimeout(); {
	case has == nil:
		queue.SetVisibilityTimeout(&want)
	case *awscdk.Token_IsUnresolved(has): // known at deployment only
	case *has < timeout:
		construct.Fail(s.Construct, "QueueProps.VisibilityTimeout", "%v s: Lambda refuses a queue with less than the timeout of its function, %v s", *has, timeout)
	case *has < want:
		construct.Warn(s.Construct, "visibility", "the queue's visibility timeout is %v s: below %v s, 6 times the timeout of the function and the batching window, messages come twice when Lambda is busy", *has, want)
	}
}
