// Package eventddb has the constructs of AWS CDK for functions of AWS Lambda that consume the
// stream of a table of AWS DynamoDB by package broker/eventddb: create a broker, attach
// sinks.
//
//	broker := eventddb.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewTable(nil)
//	broker.NewSink(&eventddb.SinkProps{
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/shop",
//			SourceCodeLambda: "cmd/changes",
//		},
//	})
//
// # Defaults
//
//	table      keys prefix and suffix, of strings; billed by requests; a stream of new and old
//	           images; stays when the stack is deleted
//	sink       ReportBatchItemFailures; reads from the oldest record on; a batch that fails is
//	           split in two, and one that failed 11 times is given up: the dead letters say
//	           where it was, and DynamoDB has the records for a day
//	           dead letters are in a queue, encrypted, by TLS only, for 14 days
//
// The properties of the CDK override each of them. Which are those of all functions, and how
// they are built, is said at package cdk.
package eventddb

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsdynamodb"
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

// Broker is a table and the sinks of its stream.
type Broker struct {
	constructs.Construct
	// Table is what NewTable and AddTable set. A table made in another way may be set, too.
	Table awsdynamodb.ITableV2

	identity construct.Identity
	sinks    int
}

// NewBroker makes a broker, which needs a table.
func NewBroker(scope constructs.Construct, id *string, props *BrokerProps) *Broker {
	b := &Broker{Construct: construct.New("eventddb.NewBroker", scope, id)}
	if props != nil {
		b.identity = construct.Identity(*props)
	}
	return b
}

func (b *Broker) vacant() {
	construct.Vacant(b.Construct, "Table", b.Table != nil)
}

func (b *Broker) table() awsdynamodb.ITableV2 {
	construct.Need(b.Construct, "Table", b.Table != nil, "NewTable or AddTable")
	return b.Table
}

// NewTable makes the table of the broker.
func (b *Broker) NewTable(props *awsdynamodb.TablePropsV2) awsdynamodb.ITableV2 {
	b.vacant()
	p := awsdynamodb.TablePropsV2{}
	if props != nil {
		p = *props
	}
	if p.PartitionKey == nil {
		if p.SortKey != nil {
			construct.Fail(b.Construct, "TablePropsV2.PartitionKey", "is missing beside SortKey")
		}
		p.PartitionKey = &awsdynamodb.Attribute{Name: jsii.String("prefix"), Type: awsdynamodb.AttributeType_STRING}
		p.SortKey = &awsdynamodb.Attribute{Name: jsii.String("suffix"), Type: awsdynamodb.AttributeType_STRING}
	}
	construct.Default(&p.Billing, func() awsdynamodb.Billing { return awsdynamodb.Billing_OnDemand(nil) })
	construct.Default(&p.DynamoStream, func() awsdynamodb.StreamViewType { return awsdynamodb.StreamViewType_NEW_AND_OLD_IMAGES })
	b.Table = construct.Try(b.Construct, "TablePropsV2", func() awsdynamodb.ITableV2 {
		return awsdynamodb.NewTableV2(b.Construct, jsii.String("Table"), &p)
	})
	return b.Table
}

// AddTable takes a table that exists, by its name or ARN. Sinks need the ARN of its stream as
// well, which the name does not tell.
func (b *Broker) AddTable(tableName string, streamArn ...string) awsdynamodb.ITableV2 {
	b.vacant()
	attrs := &awsdynamodb.TableAttributesV2{}
	name, arn := construct.Given(b.Construct, "AddTable", "dynamodb", tableName)
	if arn {
		attrs.TableArn = &tableName
	} else {
		attrs.TableName = &tableName
	}
	switch {
	case len(streamArn) > 1:
		construct.Fail(b.Construct, "AddTable", "a table has one stream, not %d", len(streamArn))
	case len(streamArn) == 0:
	case !*awscdk.Token_IsUnresolved(streamArn[0]) && !strings.Contains(streamArn[0], ":table/"+name+"/stream/"):
		construct.Fail(b.Construct, "AddTable", "%.200q is not the ARN of the stream of %s", streamArn[0], name)
	default:
		attrs.TableStreamArn = &streamArn[0]
	}
	b.Table = construct.Try(b.Construct, "AddTable", func() awsdynamodb.ITableV2 {
		return awsdynamodb.TableV2_FromTableAttributes(b.Construct, jsii.String("Table"), attrs)
	})
	return b.Table
}

// NewSink makes a function for changes of the table.
func (b *Broker) NewSink(props *SinkProps) *Sink {
	table := b.table()
	if props == nil {
		construct.Fail(b.Construct, "SinkProps", "is missing")
	}
	p := *props
	if p.Table != nil && p.Table != table {
		construct.Fail(b.Construct, "SinkProps.Table", "is not the table of the broker: leave it out")
	}
	p.Table = table
	id := construct.Identity{Agent: p.Agent, Realm: p.Realm}.Or(b.identity)
	p.Agent, p.Realm = id.Agent, id.Realm
	if b.sinks++; b.sinks == 3 {
		construct.Warn(b.Construct, "readers", "the stream has more than 2 sinks: DynamoDB throttles the readers of a shard from the third on")
	}
	return NewSink(b.Construct, construct.FunctionID(b.Construct, p.Function), &p)
}

// GrantWrite lets the function change items, and names the table in its environment:
// CONFIG_SWARM_TARGET_DDB.
func (b *Broker) GrantWrite(f awslambda.Function) {
	table := b.table()
	table.GrantWriteData(f)
	construct.Setenv(f, "GrantWrite", construct.EnvTargetDDB, table.TableName())
}

// GrantRead lets the function read items. A sink may not by itself: it reads the stream.
func (b *Broker) GrantRead(f awslambda.Function) {
	table := b.table()
	table.GrantReadData(f)
	construct.Setenv(f, "GrantRead", construct.EnvSourceDDB, table.TableName())
}

// SinkProps are those of a sink. Function is required, and Table where there is no broker.
type SinkProps struct {
	Table    awsdynamodb.ITable
	Function scud.FunctionProps

	// EventSource has what is unlike the defaults: StartingPosition TRIM_HORIZON,
	// ReportBatchItemFailures, BisectBatchOnError, RetryAttempts 10, OnFailure. Without the
	// last two, a record that always fails holds up its shard for a day.
	EventSource *awslambdaeventsources.DynamoEventSourceProps
	// DeadLetterQueue gets where batches were that failed. Default: one of the sink.
	DeadLetterQueue awssqs.IQueue

	// Agent and Realm are those of the broker, if they are not set.
	Agent, Realm string
}

// Sink is a function that consumes the stream of a table.
type Sink struct {
	constructs.Construct
	Handler awslambda.Function
	// DeadLetterQueue has where batches were that failed. It is nil when EventSource has an
	// OnFailure of its own.
	DeadLetterQueue awssqs.IQueue
}

// NewSink makes a function that consumes the stream of a table. Its environment has the
// table, for eventddb.Listener().Build("").
func NewSink(scope constructs.Construct, id *string, props *SinkProps) *Sink {
	s := &Sink{Construct: construct.New("eventddb.NewSink", scope, id)}
	switch {
	case props == nil:
		construct.Fail(s.Construct, "SinkProps", "is missing")
	case props.Table == nil:
		construct.Fail(s.Construct, "SinkProps.Table", "is missing")
	case props.Table.TableStreamArn() == nil:
		construct.Fail(s.Construct, "SinkProps.Table", "has no stream: set DynamoStream where the table is made, or give AddTable the ARN of the stream")
	}
	source := awslambdaeventsources.DynamoEventSourceProps{}
	if props.EventSource != nil {
		source = *props.EventSource
	}
	// The latest position loses what changes until the mapping is ready.
	construct.Default(&source.StartingPosition, func() awslambda.StartingPosition { return awslambda.StartingPosition_TRIM_HORIZON })
	construct.Default(&source.ReportBatchItemFailures, func() *bool { return jsii.Bool(true) })
	construct.Default(&source.BisectBatchOnError, func() *bool { return jsii.Bool(true) })
	construct.Default(&source.RetryAttempts, func() *float64 { return jsii.Number(10) })
	if props.DeadLetterQueue != nil && source.OnFailure != nil {
		construct.Fail(s.Construct, "SinkProps.DeadLetterQueue", "contradicts EventSource.OnFailure: what failed goes to one place")
	}
	s.DeadLetterQueue = props.DeadLetterQueue
	construct.Default(&source.OnFailure, func() awslambda.IEventSourceDlq {
		return awslambdaeventsources.NewSqsDlq(construct.DeadLetters(s.Construct, &s.DeadLetterQueue)())
	})
	s.Handler = construct.Function{
		Property: "SinkProps.Function",
		Props:    props.Function,
		Identity: construct.Identity{Agent: props.Agent, Realm: props.Realm},
		Env:      map[string]*string{construct.EnvSourceDDB: props.Table.TableName()},
	}.New(s.Construct, "Function")
	construct.Try(s.Construct, "SinkProps.EventSource", func() any {
		s.Handler.AddEventSource(awslambdaeventsources.NewDynamoEventSource(props.Table, &source))
		return nil
	})
	return s
}
