// Package events3 has the constructs of AWS CDK for functions of AWS Lambda that consume the
// events of a bucket of AWS S3 by package broker/events3: create a broker, attach sinks.
//
//	broker := events3.NewBroker(stack, jsii.String("Broker"), nil)
//	broker.NewBucket(nil)
//	sink := broker.NewSink(&events3.SinkProps{
//		Function: &scud.FunctionGoProps{
//			SourceCodeModule: "github.com/example/shop",
//			SourceCodeLambda: "cmd/uploads",
//		},
//	})
//	broker.GrantRead(sink.Handler) // if it reads the objects
//
// # Defaults
//
//	bucket     encrypted with keys of S3, by TLS only, closed to the public, stays when the
//	           stack is deleted
//	sink       events of objects that were created
//	           an event that the function failed 3 times, or that waited for it for 6 hours,
//	           is a dead letter, in a queue that is encrypted, by TLS only, for 14 days
//
// The properties of the CDK override each of them. Which are those of all functions, and how
// they are built, is said at package cdk. The CDK adds a function of its own, which tells the
// bucket whom to notify.
package events3

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdaeventsources"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
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

// Broker is a bucket and its sinks.
type Broker struct {
	constructs.Construct
	// Bucket is what NewBucket and AddBucket set. A bucket made in another way may be set, too.
	Bucket awss3.IBucket

	identity construct.Identity
}

// NewBroker makes a broker, which needs a bucket.
func NewBroker(scope constructs.Construct, id *string, props *BrokerProps) *Broker {
	b := &Broker{Construct: construct.New("events3.NewBroker", scope, id)}
	if props != nil {
		b.identity = construct.Identity(*props)
	}
	return b
}

func (b *Broker) vacant() {
	construct.Vacant(b.Construct, "Bucket", b.Bucket != nil)
}

func (b *Broker) bucket() awss3.IBucket {
	construct.Need(b.Construct, "Bucket", b.Bucket != nil, "NewBucket or AddBucket")
	return b.Bucket
}

// NewBucket makes the bucket of the broker.
func (b *Broker) NewBucket(props *awss3.BucketProps) awss3.IBucket {
	b.vacant()
	p := awss3.BucketProps{}
	if props != nil {
		p = *props
	}
	if p.EncryptionKey == nil {
		construct.Default(&p.Encryption, func() awss3.BucketEncryption { return awss3.BucketEncryption_S3_MANAGED })
	}
	construct.Default(&p.EnforceSSL, func() *bool { return jsii.Bool(true) })
	construct.Default(&p.BlockPublicAccess, awss3.BlockPublicAccess_BLOCK_ALL)
	b.Bucket = construct.Try(b.Construct, "BucketProps", func() awss3.IBucket {
		return awss3.NewBucket(b.Construct, jsii.String("Bucket"), &p)
	})
	return b.Bucket
}

// AddBucket takes a bucket that exists, by its name or ARN. Its notifications that are made
// elsewhere stay.
func (b *Broker) AddBucket(bucketName string) awss3.IBucket {
	b.vacant()
	from := awss3.Bucket_FromBucketName
	if _, arn := construct.Given(b.Construct, "AddBucket", "s3", bucketName); arn {
		from = awss3.Bucket_FromBucketArn
	}
	b.Bucket = construct.Try(b.Construct, "AddBucket", func() awss3.IBucket { return from(b.Construct, jsii.String("Bucket"), &bucketName) })
	return b.Bucket
}

// NewSink makes a function for events of the bucket.
func (b *Broker) NewSink(props *SinkProps) *Sink {
	bucket := b.bucket()
	if props == nil {
		construct.Fail(b.Construct, "SinkProps", "is missing")
	}
	p := *props
	if p.Bucket != nil && p.Bucket != bucket {
		construct.Fail(b.Construct, "SinkProps.Bucket", "is not the bucket of the broker: leave it out")
	}
	p.Bucket = bucket
	id := construct.Identity{Agent: p.Agent, Realm: p.Realm}.Or(b.identity)
	p.Agent, p.Realm = id.Agent, id.Realm
	return NewSink(b.Construct, construct.FunctionID(b.Construct, p.Function), &p)
}

// GrantWrite lets the function put objects, and names the bucket in its environment:
// CONFIG_SWARM_TARGET_S3.
func (b *Broker) GrantWrite(f awslambda.Function) {
	bucket := b.bucket()
	construct.Grant(f, bucket.ArnForObjects(jsii.String("*")), "s3:PutObject", "s3:AbortMultipartUpload")
	if key := bucket.EncryptionKey(); key != nil {
		key.GrantEncryptDecrypt(f) // parts of an upload are read again
	}
	construct.Setenv(f, "GrantWrite", construct.EnvTargetS3, bucket.BucketName())
}

// GrantRead lets the function read objects. A sink may not by itself: an event tells key and
// size.
func (b *Broker) GrantRead(f awslambda.Function) {
	bucket := b.bucket()
	construct.Grant(f, bucket.ArnForObjects(jsii.String("*")), "s3:GetObject", "s3:GetObjectVersion")
	construct.Grant(f, bucket.BucketArn(), "s3:ListBucket") // without it, what is not there is forbidden
	if key := bucket.EncryptionKey(); key != nil {
		key.GrantDecrypt(f)
	}
	construct.Setenv(f, "GrantRead", construct.EnvSourceS3, bucket.BucketName())
}

// SinkProps are those of a sink. Function is required, and Bucket where there is no broker.
type SinkProps struct {
	Bucket   awss3.IBucket
	Function scud.FunctionProps

	// EventSource has what is unlike the default: Events are those of objects that were
	// created. Two sinks of a bucket must not match one event by prefix, suffix and kind: S3
	// refuses that.
	EventSource *awslambdaeventsources.S3EventSourceProps
	// DeadLetterQueue gets the events that failed. Default: one of the sink.
	DeadLetterQueue awssqs.IQueue

	// Agent and Realm are those of the broker, if they are not set.
	Agent, Realm string
}

// Sink is a function that consumes events of a bucket.
type Sink struct {
	constructs.Construct
	Handler awslambda.Function
	// DeadLetterQueue has the events that failed. It is nil when the properties of the
	// function have another one.
	DeadLetterQueue awssqs.IQueue
}

// NewSink makes a function that consumes events of a bucket. Its environment has the bucket:
// CONFIG_SWARM_SOURCE_S3. That of a bucket of another stack is not: the bucket needs the
// function, which then could not need the bucket.
func NewSink(scope constructs.Construct, id *string, props *SinkProps) *Sink {
	s := &Sink{Construct: construct.New("events3.NewSink", scope, id)}
	switch {
	case props == nil:
		construct.Fail(s.Construct, "SinkProps", "is missing")
	case props.Bucket == nil:
		construct.Fail(s.Construct, "SinkProps.Bucket", "is missing")
	}
	source := awslambdaeventsources.S3EventSourceProps{}
	if props.EventSource != nil {
		source = *props.EventSource
	}
	construct.Default(&source.Events, func() *[]awss3.EventType { return &[]awss3.EventType{awss3.EventType_OBJECT_CREATED} })
	s.DeadLetterQueue = props.DeadLetterQueue
	env := map[string]*string{}
	if awscdk.Stack_Of(props.Bucket) == awscdk.Stack_Of(s.Construct) {
		env[construct.EnvSourceS3] = props.Bucket.BucketName()
	}
	s.Handler = construct.Function{
		Property:    "SinkProps.Function",
		Props:       props.Function,
		Identity:    construct.Identity{Agent: props.Agent, Realm: props.Realm},
		Env:         env,
		DeadLetters: construct.DeadLetters(s.Construct, &s.DeadLetterQueue),
	}.New(s.Construct, "Function")
	construct.Try(s.Construct, "SinkProps.EventSource", func() any {
		s.Handler.AddEventSource(awslambdaeventsources.NewS3EventSourceV2(props.Bucket, &source))
		return nil
	})
	return s
}
