package events3_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/fogfish/swarm/broker/events3"
	swarm "github.com/fogfish/swarm/core"
)

func TestLambda(t *testing.T) {
	handler := make(chan lambda.Handler, 1)
	q, err := events3.Function(handler, swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithBarrier(swarm.NewBarrier()))
	if err != nil {
		t.Fatal(err)
	}
	deq, ack := events3.Listen(q)
	var keys []string
	go func() {
		for msg := range deq {
			keys = append(keys, msg.Object.Key)
			if msg.Object.Key == "bad" {
				ack <- msg.Fail(errors.New("cannot read it"))
				continue
			}
			ack <- msg
		}
	}()
	go q.Run(context.Background())
	h := <-handler
	invoke := func(payload string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		out, err := h.Invoke(ctx, []byte(payload))
		if err == nil && string(out) != "null" {
			t.Errorf("answers %s", out)
		}
		return err
	}
	bad := strings.Replace(put, "a+b%2Bc/%C3%A4+HappyFace.jpg", "bad", 1)
	for _, x := range []struct{ payload, err string }{
		{`{"Records":[` + put + `]}`, ""},
		{`{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}`, ""},
		{`{"Records":[]}`, ""},
		{`{"Records":[` + bad + `]}`, "cannot read it"},
		{`{"version":"0","id":"e","detail-type":"Object Created","source":"aws.s3","account":"1","time":"2026-11-24T10:00:00Z","region":"x","resources":["arn:aws:s3:::photos"],"detail":{"bucket":{"name":"photos"},"object":{"key":"c d"}}}`, ""},
		{`{"version":"0","id":"e","detail-type":"Note","source":"me","account":"1","time":"2026-11-24T10:00:00Z","region":"x","resources":[],"detail":{}}`, "not an event of S3"},
		{`{"Records":[7]}`, "not a record of S3"},
		{`{}`, "not an event of S3"}, {`7`, "not an event of S3"}, {``, "not an event of S3"},
	} {
		if err := invoke(x.payload); (err == nil) != (x.err == "") || err != nil && !strings.Contains(err.Error(), x.err) {
			t.Errorf("%s: got %v, want %q", x.payload, err, x.err)
		}
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(keys, ","); got != "a b+c/ä HappyFace.jpg,bad,c d" {
		t.Errorf("keys %s", got)
	}
}

func TestAServiceIsToldToUseAQueue(t *testing.T) {
	if _, err := events3.Listener().Build("photos"); err == nil || !strings.Contains(err.Error(), "WithUnwrap(sqs.S3)") {
		t.Errorf("got %v", err)
	}
	q, err := events3.Listener().WithLambda().WithKernel(swarm.WithTimeToFlight(time.Second)).Build("")
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}
