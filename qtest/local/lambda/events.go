package lambda

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The functions of this file make the events that services send to functions, in AWS's
// own shape. Fields that are left empty get a value. They panic if a value that was given
// to them cannot be encoded as JSON.

// Entry is an event for EventBridge, as PutEvents takes it.
type Entry struct {
	Source, DetailType string
	// Detail is encoded as JSON; it should be an object.
	Detail          any
	ID              string // default: a random UUID
	Account, Region string // default 000000000000, us-east-1
	Time            time.Time
	Resources       []string
}

// EventBridgeEvent is what a rule with the function as its target sends.
func EventBridgeEvent(e Entry) []byte {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Resources == nil {
		e.Resources = []string{}
	}
	return must(struct {
		Version    string   `json:"version"`
		ID         string   `json:"id"`
		DetailType string   `json:"detail-type"`
		Source     string   `json:"source"`
		Account    string   `json:"account"`
		Time       string   `json:"time"`
		Region     string   `json:"region"`
		Resources  []string `json:"resources"`
		Detail     any      `json:"detail"`
	}{"0", orDefault(e.ID, uuid()), e.DetailType, e.Source, orDefault(e.Account, "000000000000"), e.Time.UTC().Format(time.RFC3339),
		orDefault(e.Region, "us-east-1"), e.Resources, e.Detail})
}

// Notification is a message of an SNS topic.
type Notification struct {
	TopicARN   string // default arn:aws:sns:us-east-1:000000000000:topic
	Message    string
	Subject    string // default null
	Attributes map[string]NotificationAttribute
	ID         string // default: a random UUID
	Time       time.Time
}

// NotificationAttribute is an attribute of a message. The value of the type Binary is
// base64.
type NotificationAttribute struct {
	Type  string // String, String.Array, Number or Binary
	Value string
}

// SNSEvent is what a topic sends: one record an event. Unlike in a message to a queue,
// the keys are SigningCertUrl and UnsubscribeUrl.
func SNSEvent(n Notification) []byte {
	if n.Time.IsZero() {
		n.Time = time.Now()
	}
	if n.Attributes == nil {
		n.Attributes = map[string]NotificationAttribute{}
	}
	n.TopicARN = orDefault(n.TopicARN, "arn:aws:sns:us-east-1:000000000000:topic")
	subscription := n.TopicARN + ":00000000-0000-0000-0000-000000000000"
	var subject *string
	if n.Subject != "" {
		subject = &n.Subject
	}
	type sns struct {
		Type              string
		MessageID         string `json:"MessageId"`
		TopicARN          string `json:"TopicArn"`
		Subject           *string
		Message           string
		Timestamp         string
		SignatureVersion  string
		Signature         string
		SigningCertURL    string `json:"SigningCertUrl"`
		UnsubscribeURL    string `json:"UnsubscribeUrl"`
		MessageAttributes map[string]NotificationAttribute
	}
	type record struct {
		EventSource          string
		EventVersion         string
		EventSubscriptionARN string `json:"EventSubscriptionArn"`
		SNS                  sns    `json:"Sns"`
	}
	return must(map[string][]record{"Records": {{"aws:sns", "1.0", subscription, sns{
		Type: "Notification", MessageID: orDefault(n.ID, uuid()), TopicARN: n.TopicARN, Subject: subject, Message: n.Message,
		Timestamp: milli(n.Time), SignatureVersion: "1", Signature: "EXAMPLE",
		SigningCertURL:    "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0000.pem",
		UnsubscribeURL:    "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=" + subscription,
		MessageAttributes: n.Attributes,
	}}}})
}

// Object is what has happened to an object of S3.
type Object struct {
	Event       string // without the prefix s3:, default ObjectCreated:Put
	Bucket, Key string // Key as the user knows it; in the event it is URL-encoded
	Size        int64
	ETag        string
	VersionID   string // of a bucket with versions
	Sequencer   string // default: grows with Time
	Region      string // default us-east-1
	Time        time.Time
}

// S3Event is what the notification of a bucket sends: one record an event.
func S3Event(o Object) []byte {
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	type identity struct {
		PrincipalID string `json:"principalId"`
	}
	type bucket struct {
		Name          string   `json:"name"`
		OwnerIdentity identity `json:"ownerIdentity"`
		ARN           string   `json:"arn"`
	}
	// Records of removals have neither size nor tag.
	type object struct {
		Key       string `json:"key"`
		Size      *int64 `json:"size,omitempty"`
		ETag      string `json:"eTag,omitempty"`
		VersionID string `json:"versionId,omitempty"`
		Sequencer string `json:"sequencer"`
	}
	type s3 struct {
		SchemaVersion   string `json:"s3SchemaVersion"`
		ConfigurationID string `json:"configurationId"`
		Bucket          bucket `json:"bucket"`
		Object          object `json:"object"`
	}
	type record struct {
		EventVersion      string            `json:"eventVersion"`
		EventSource       string            `json:"eventSource"`
		Region            string            `json:"awsRegion"`
		EventTime         string            `json:"eventTime"`
		EventName         string            `json:"eventName"`
		UserIdentity      identity          `json:"userIdentity"`
		RequestParameters map[string]string `json:"requestParameters"`
		ResponseElements  map[string]string `json:"responseElements"`
		S3                s3                `json:"s3"`
	}
	name := orDefault(o.Event, "ObjectCreated:Put")
	obj := object{Key: strings.ReplaceAll(url.QueryEscape(o.Key), "%2F", "/"), VersionID: o.VersionID,
		Sequencer: orDefault(o.Sequencer, fmt.Sprintf("%018X", o.Time.UnixNano()))}
	if strings.HasPrefix(name, "ObjectCreated:") {
		obj.Size, obj.ETag = &o.Size, orDefault(o.ETag, "d41d8cd98f00b204e9800998ecf8427e")
	}
	return must(map[string][]record{"Records": {{
		EventVersion: "2.5", EventSource: "aws:s3", Region: orDefault(o.Region, "us-east-1"), EventTime: milli(o.Time), EventName: name,
		UserIdentity:      identity{"EXAMPLE"},
		RequestParameters: map[string]string{"sourceIPAddress": "127.0.0.1"},
		ResponseElements:  map[string]string{"x-amz-request-id": strings.ToUpper(hex(8)), "x-amz-id-2": hex(32)},
		S3: s3{SchemaVersion: "1.0", ConfigurationID: "local",
			Bucket: bucket{o.Bucket, identity{"EXAMPLE"}, "arn:aws:s3:::" + o.Bucket}, Object: obj},
	}}})
}

func milli(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func must(v any) []byte {
	raw, err := marshal(v)
	if err != nil {
		panic(fmt.Sprintf("lambda: event: %v", err))
	}
	return json.RawMessage(raw)
}
