package sns_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/internal/awstest"
	"github.com/fogfish/swarm/broker/sns"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/listen"
)

// Greeting is what these functions consume.
type Greeting struct {
	ID int `json:"id"`
}

func recordOf(message, attributes string) string {
	return `{"EventVersion":"1.0","EventSubscriptionArn":"arn:aws:sns:eu-west-1:123456789012:greetings:x","EventSource":"aws:sns","Sns":{"Type":"Notification","MessageId":"n-1",` +
		`"TopicArn":"arn:aws:sns:eu-west-1:123456789012:greetings","Subject":null,"Message":` + message + `,"Timestamp":"2026-11-24T10:00:00.000Z","SignatureVersion":"1","Signature":"x",` +
		`"SigningCertUrl":"https://sns/x.pem","UnsubscribeUrl":"https://sns/?x","MessageAttributes":` + attributes + `}}`
}

const ofGreeting = `{"Category":{"Type":"String","Value":"Greeting"},"Binary":{"Type":"Binary","Value":"AA=="}}`

func TestLambda(t *testing.T) {
	handler := make(chan lambda.Handler, 1)
	q, err := sns.Function(handler, swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithBarrier(swarm.NewBarrier()))
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := listen.Typed[Greeting](q)
	images, ackImages := listen.Bytes(q, codec.Bytes("Image"))
	var seen []string
	go func() {
		for msg := range deq {
			native, ok := msg.IOContext.(events.SNSEventRecord)
			if want := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC); !ok || native.SNS.MessageID != "n-1" || msg.ID != "n-1" || !msg.SentAt.Equal(want) {
				t.Errorf("got %+v", msg)
			}
			if msg.Object.ID == 13 {
				ack <- msg.Fail(errors.New("unlucky"))
				continue
			}
			seen = append(seen, "greeting")
			ack <- msg
		}
	}()
	go func() {
		for msg := range images {
			seen = append(seen, string(msg.Object))
			ackImages <- msg
		}
	}()
	go q.Run(context.Background())
	invoke := awstest.Invoker(t, <-handler)
	good, bad := recordOf(`"{\"id\":1}"`, ofGreeting), recordOf(`"{\"id\":13}"`, ofGreeting)
	image := recordOf(`"/wA="`, `{"Category":{"Type":"String","Value":"Image"},"Encoding":{"Type":"String","Value":"base64"}}`)
	torn := recordOf(`"?"`, `{"Category":{"Type":"String","Value":"Image"},"Encoding":{"Type":"String","Value":"base64"}}`)
	for _, x := range []struct{ payload, err string }{
		{`{"Records":[` + good + `]}`, ""},
		{`{"Records":[` + image + `]}`, ""},
		{`{"Records":[` + good + `,` + good + `]}`, ""},
		{`{"Records":[]}`, ""},
		{`{"Records":[` + bad + `]}`, "unlucky"},
		{`{"Records":[` + torn + `]}`, "base64"},
		{`{"Records":[` + recordOf(`"x"`, `{}`) + `]}`, "unknown category"},
		{`{"Records":[7]}`, "not a record of SNS"}, {`{"Records":[{}]}`, "not a record of SNS"},
		{`{"Records":7}`, "Records are no array"}, {`{}`, "not an event of SNS"}, {`7`, "not an event of SNS"}, {``, "not an event of SNS"},
	} {
		if err := invoke(x.payload); (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: got %v, want %q", x.payload, err, x.err)
		}
	}
	closed(t, q)
	if len(seen) != 4 || seen[1] != "\xff\x00" {
		t.Errorf("consumed %q", seen)
	}
}

// A service is told the way, in a function nothing is asked, and an endpoint has a topic to
// emit to.
func TestBuildInLambda(t *testing.T) {
	if _, err := sns.Listener().Build("greetings"); err == nil || !strings.Contains(err.Error(), "WithUnwrap(sqs.SNS)") {
		t.Errorf("got %v", err)
	}
	if _, err := sns.Endpoint().Build("greetings"); err == nil {
		t.Error("a service builds an endpoint")
	}
	if _, err := sns.Listener().WithLambda().WithKernel(swarm.WithTimeToFlight(-1)).Build(""); err == nil {
		t.Error("a bad option passes")
	}
	t.Setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
	t.Setenv("AWS_REGION", "eu-west-1")
	l, err := sns.Listener().Build("")
	if err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	t.Setenv(sns.EnvSource, "greetings")
	t.Setenv(sns.EnvTarget, "greetings")
	e, err := sns.Endpoint().Build("")
	if err != nil {
		t.Fatal(err)
	}
	closed(t, e)
}

func closed(t *testing.T, q interface{ Close() error }) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
