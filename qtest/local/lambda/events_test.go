package lambda_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 123e6, time.UTC)

func TestEventBridgeEvent(t *testing.T) {
	got := string(lambda.EventBridgeEvent(lambda.Entry{Source: "my", DetailType: "Note", Detail: map[string]string{"a": "<b>"}, ID: "1", Time: noon}))
	want := `{"version":"0","id":"1","detail-type":"Note","source":"my","account":"000000000000","time":"2026-11-24T12:00:00Z","region":"us-east-1","resources":[],"detail":{"a":"<b>"}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var e events.EventBridgeEvent
	if err := json.Unmarshal(lambda.EventBridgeEvent(lambda.Entry{Detail: 1}), &e); err != nil || len(e.ID) != 36 || time.Since(e.Time).Abs() > time.Minute {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestSNSEvent(t *testing.T) {
	raw := lambda.SNSEvent(lambda.Notification{Message: `{"a":1}`, Subject: "s", ID: "1", Time: noon,
		Attributes: map[string]lambda.NotificationAttribute{"Category": {Type: "String", Value: "Note"}}})
	var e events.SNSEvent
	if err := json.Unmarshal(raw, &e); err != nil || len(e.Records) != 1 {
		t.Fatalf("%v: %s", err, raw)
	}
	sns := e.Records[0].SNS
	if sns.Message != `{"a":1}` || sns.Subject != "s" || sns.MessageID != "1" || !sns.Timestamp.Equal(noon) || sns.Type != "Notification" || e.Records[0].EventSource != "aws:sns" {
		t.Errorf("got %+v", e)
	}
	for _, part := range []string{`"MessageAttributes":{"Category":{"Type":"String","Value":"Note"}}`, `"SigningCertUrl":"https`, `"UnsubscribeUrl":"https`, `"Timestamp":"2026-11-24T12:00:00.123Z"`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("no %s in %s", part, raw)
		}
	}
	if raw := string(lambda.SNSEvent(lambda.Notification{Message: "m"})); !strings.Contains(raw, `"Subject":null`) || !strings.Contains(raw, `"MessageAttributes":{}`) {
		t.Errorf("got %s", raw)
	}
}

func TestS3Event(t *testing.T) {
	raw := lambda.S3Event(lambda.Object{Bucket: "b", Key: "a b/ü.txt", Size: 5, Sequencer: "01", VersionID: "v", Time: noon})
	var e events.S3Event
	if err := json.Unmarshal(raw, &e); err != nil || len(e.Records) != 1 {
		t.Fatalf("%v: %s", err, raw)
	}
	r := e.Records[0]
	if r.EventName != "ObjectCreated:Put" || r.S3.Bucket.Name != "b" || r.S3.Bucket.Arn != "arn:aws:s3:::b" || r.S3.Object.Key != "a+b/%C3%BC.txt" ||
		r.S3.Object.URLDecodedKey != "a b/ü.txt" || r.S3.Object.Size != 5 || r.S3.Object.VersionID != "v" || !r.EventTime.Equal(noon) || r.EventVersion != "2.5" {
		t.Errorf("got %+v", r)
	}
	removed := string(lambda.S3Event(lambda.Object{Event: "ObjectRemoved:Delete", Bucket: "b", Key: "k"}))
	if strings.Contains(removed, "size") || strings.Contains(removed, "eTag") || !strings.Contains(removed, `"sequencer":"`) {
		t.Errorf("got %s", removed)
	}
}
