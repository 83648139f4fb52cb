package cdk_test

import (
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"

	"github.com/fogfish/swarm/cdk/eventbridge"
	"github.com/fogfish/swarm/cdk/eventddb"
	"github.com/fogfish/swarm/cdk/events3"
	"github.com/fogfish/swarm/cdk/sns"
	"github.com/fogfish/swarm/cdk/sqs"
	"github.com/fogfish/swarm/cdk/websocket"
)

// Each broker with a sink, and nothing said that has a default; and a function that has both
// grants.
var defaults = map[string]func(awscdk.Stack){
	"sqs": func(stack awscdk.Stack) {
		b := sqs.NewBroker(stack, new("Broker"), nil)
		b.NewQueue(nil)
		f := b.NewSink(&sqs.SinkProps{Function: function()}).Handler
		b.GrantWrite(f)
		b.GrantRead(f)
	},
	"eventbridge": func(stack awscdk.Stack) {
		b := eventbridge.NewBroker(stack, new("Broker"), nil)
		b.NewEventBus(nil)
		f := b.NewSink(&eventbridge.SinkProps{Function: function()}).Handler
		b.GrantWrite(f)
		b.GrantRead(f)
	},
	"sns": func(stack awscdk.Stack) {
		b := sns.NewBroker(stack, new("Broker"), nil)
		b.NewTopic(nil)
		f := b.NewSink(&sns.SinkProps{Function: function()}).Handler
		b.GrantWrite(f)
		b.GrantRead(f)
	},
	"events3": func(stack awscdk.Stack) {
		b := events3.NewBroker(stack, new("Broker"), nil)
		b.NewBucket(nil)
		f := b.NewSink(&events3.SinkProps{Function: function()}).Handler
		b.GrantWrite(f)
		b.GrantRead(f)
	},
	"eventddb": func(stack awscdk.Stack) {
		b := eventddb.NewBroker(stack, new("Broker"), nil)
		b.NewTable(nil)
		f := b.NewSink(&eventddb.SinkProps{Function: function()}).Handler
		b.GrantWrite(f)
		b.GrantRead(f)
	},
	"websocket": func(stack awscdk.Stack) {
		b := websocket.NewBroker(stack, new("Broker"), nil)
		b.NewAuthorizerUniversal(&websocket.AuthorizerUniversalProps{
			AuthorizerApiKey: &websocket.AuthorizerApiKeyProps{Access: "ada", Secret: "lovelace", Scope: "read write"},
			AuthorizerJwt:    &websocket.AuthorizerJwtProps{Issuer: "https://issuer.example.com", Audience: "chat"},
		})
		b.NewGateway(nil)
		f := b.NewSink(&websocket.SinkProps{Route: "Say", Function: function()}).Handler
		b.GrantWrite(f)
		b.GrantRead(f)
	},
}

func TestDefaults(t *testing.T) {
	for name, make := range defaults {
		t.Run(name, func(t *testing.T) {
			stack := newStack(t)
			make(stack)
			x := synth(t, stack)
			x.leastPrivilege()
			x.secure()
			x.functions()
			x.golden(name)
		})
	}
}
