package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// As the services write them.
const (
	notificationForm = `{"Type":"Notification","MessageId":"n-1","TopicArn":"arn:aws:sns:eu-west-1:123456789012:notes","Subject":"s","Message":%s,
"Timestamp":"2026-11-24T10:00:00.123Z","SignatureVersion":"1","Signature":"x","SigningCertURL":"https://sns/x.pem","UnsubscribeURL":"https://sns/?x"%s}`
	eventForm = `{"version":"0","id":"e-1","detail-type":%q,"source":%q,"account":"123456789012","time":"2026-11-24T10:00:00Z","region":"eu-west-1","resources":["arn:aws:s3:::photos"],"detail":%s}`
	record1   = `{"eventVersion":"2.5","eventSource":"aws:s3","awsRegion":"eu-west-1","eventTime":"2026-11-24T10:00:00.000Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"photos"},"object":{"key":"a+b.jpg","size":7,"eTag":"e","sequencer":"0055"}}}`
	record2   = `{"eventSource":"aws:s3","eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"photos"},"object":{"key":"c.jpg","sequencer":"0056"}}}`
	testEvent = `{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-24T10:00:00.000Z","Bucket":"photos","RequestId":"r","HostId":"h"}`
	created   = `{"version":"0","bucket":{"name":"photos"},"object":{"key":"a b.jpg","size":7,"etag":"e","version-id":"v","sequencer":"0055"},"request-id":"r","requester":"123456789012","source-ip-address":"1.2.3.4","reason":"PutObject"}`
)

func notification(message, attrs string) string {
	b, _ := json.Marshal(message)
	if attrs != "" {
		attrs = `,"MessageAttributes":` + attrs
	}
	return fmt.Sprintf(notificationForm, b, attrs)
}

func eventOf(kind, source, detail string) string {
	return fmt.Sprintf(eventForm, kind, source, detail)
}

func records(r ...string) string { return `{"Records":[` + strings.Join(r, ",") + `]}` }

const ofNote = `{"Category":{"Type":"String","Value":"Note"},"Source":{"Type":"String","Value":"me"},"k":{"Type":"Number","Value":"7"},"b":{"Type":"Binary","Value":"AA=="}}`

// got is what a test looks at.
type got struct {
	category, source, id, body string
	binary                     bool
	err                        string // part of it; "skip"
}

func look(bag driver.Bag) got {
	g := got{bag.Category, bag.Source, bag.ID, string(bag.Body), bag.Binary, ""}
	if errors.Is(bag.Err, driver.ErrSkip) {
		return got{err: "skip"}
	} else if bag.Err != nil {
		return got{err: bag.Err.Error()}
	}
	return g
}

func compare(t *testing.T, name string, bags []driver.Bag, want []got) {
	t.Helper()
	if len(bags) != len(want) {
		t.Errorf("%s: got %d messages, want %d", name, len(bags), len(want))
		return
	}
	for i := range bags {
		g := look(bags[i])
		if w := want[i]; w.err != "" && strings.Contains(g.err, w.err) {
			continue
		} else if g != w {
			t.Errorf("%s: message %d is\n%+v, want\n%+v", name, i, g, w)
		}
		if bags[i].Handle != "handle" || bags[i].Native != "native" || bags[i].Attempt != 2 {
			t.Errorf("%s: message %d has lost what is of the outer one", name, i)
		}
	}
}

var fromS3Event = `{"eventSource":"aws:s3","eventTime":"2026-11-24T10:00:00Z","eventName":"ObjectCreated:Put","s3":{"s3SchemaVersion":"1.0","bucket":{"name":"photos","arn":"arn:aws:s3:::photos"},"object":{"key":"a+b.jpg","size":7,"eTag":"e","versionId":"v","sequencer":"0055"}},"awsRegion":"eu-west-1","userIdentity":{"principalId":"123456789012"},"requestParameters":{"sourceIPAddress":"1.2.3.4"},"responseElements":{"x-amz-request-id":"r"}}`

func TestUnwrap(t *testing.T) {
	s3Record := got{S3Record, "aws:s3", "ObjectCreated:Put/photos/a+b.jpg/e/0055", record1, false, ""}
	removed := got{S3Record, "aws:s3", "ObjectRemoved:Delete/photos/c.jpg//0056", record2, false, ""}
	for _, x := range []struct {
		name   string
		layers []Envelope
		body   string
		want   []got
		detect []got // nil: as want
	}{
		{"SNS", []Envelope{SNS}, notification(`{"id":1}`, ofNote), []got{{"Note", "me", "n-1", `{"id":1}`, false, ""}}, nil},
		{"SNS, base64", []Envelope{SNS}, notification("/wA=", `{"Category":{"Type":"String","Value":"Image"},"Encoding":{"Type":"String","Value":"base64"}}`), []got{{"Image", "", "n-1", "\xff\x00", false, ""}}, nil},
		{"SNS, not base64", []Envelope{SNS}, notification("?", `{"Encoding":{"Type":"String","Value":"base64"}}`), []got{{err: "base64"}}, nil},
		{"SNS, unknown encoding", []Envelope{SNS}, notification("?", `{"Encoding":{"Type":"String","Value":"rot13"}}`), []got{{err: "unknown encoding"}}, nil},
		{"SNS, no attributes", []Envelope{SNS}, notification("hi", ""), []got{{"", "", "n-1", "hi", false, ""}}, nil},
		{"EventBridge", []Envelope{EventBridge}, eventOf("Note", "me", `{"id":1}`), []got{{"Note", "me", "e-1", `{"id":1}`, false, ""}}, nil},
		{"EventBridge, bytes", []Envelope{EventBridge}, eventOf("Image", "me", `{"p":"aGk="}`), []got{{"Image", "me", "e-1", `{"p":"aGk="}`, true, ""}}, nil},
		{"EventBridge in SNS", []Envelope{SNS, EventBridge}, notification(eventOf("Note", "me", `{}`), ""), []got{{"Note", "me", "e-1", `{}`, false, ""}}, nil},
		{"S3", []Envelope{S3}, records(record1, record2), []got{s3Record, removed}, nil},
		{"S3, spelled in another way", []Envelope{S3}, records(strings.ReplaceAll(record1, "a+b.jpg", "x%2Fa%20b%2a.jpg")), []got{{S3Record, "aws:s3", "ObjectCreated:Put/photos/x/a+b%2A.jpg/e/0055", strings.ReplaceAll(record1, "a+b.jpg", "x%2Fa%20b%2a.jpg"), false, ""}}, nil},
		{"S3 by EventBridge, with a slash", []Envelope{EventBridge, S3}, eventOf("Object Created", "aws.s3", strings.ReplaceAll(created, "a b.jpg", "x/a b*.jpg")), []got{{S3Record, "aws:s3", "ObjectCreated:Put/photos/x/a+b%2A.jpg/v/0055", strings.ReplaceAll(fromS3Event, "a+b.jpg", "x/a+b%2A.jpg"), false, ""}}, nil},
		{"S3 in SNS", []Envelope{SNS, S3}, notification(records(record1), ""), []got{s3Record}, nil},
		{"S3 by EventBridge", []Envelope{EventBridge, S3}, eventOf("Object Created", "aws.s3", created), []got{{S3Record, "aws:s3", "ObjectCreated:Put/photos/a+b.jpg/v/0055", fromS3Event, false, ""}}, nil},
		{"S3 by EventBridge in SNS", []Envelope{SNS, EventBridge, S3}, notification(eventOf("Object Created", "aws.s3", created), ""), []got{{S3Record, "aws:s3", "ObjectCreated:Put/photos/a+b.jpg/v/0055", fromS3Event, false, ""}}, nil},
		{"S3 by EventBridge, as an event", []Envelope{EventBridge}, eventOf("Object Created", "aws.s3", `{"a":1}`), []got{{"Object Created", "aws.s3", "e-1", `{"a":1}`, false, ""}}, []got{{err: "names no object"}}},
		{"test event", []Envelope{S3}, testEvent, []got{{err: "skip"}}, nil},
		{"test event in SNS", []Envelope{SNS, S3}, notification(testEvent, ""), []got{{err: "skip"}}, nil},
		{"no records", []Envelope{S3}, `{"Records":[]}`, []got{{err: "skip"}}, []got{{body: `{"Records":[]}`}}},
		{"a record that is none", []Envelope{S3}, records(record1, `7`, `{"s3":{}}`, record2), []got{s3Record, {err: "not a record"}, {err: "names no object"}, removed}, []got{{body: records(record1, `7`, `{"s3":{}}`, record2)}}},

		{"plain text", []Envelope{SNS}, "hello", []got{{err: "not a JSON object"}}, []got{{body: "hello"}}},
		{"empty", []Envelope{EventBridge}, "", []got{{err: "not a JSON object"}}, []got{{body: ""}}},
		{"another object", []Envelope{S3}, `{"id":1}`, []got{{err: "no Records"}}, []got{{body: `{"id":1}`}}},
		{"Records of somebody", []Envelope{S3}, `{"Records":[{"id":1}]}`, []got{{err: "names no object"}}, []got{{body: `{"Records":[{"id":1}]}`}}},
		{"Records are text", []Envelope{S3}, `{"Records":"x"}`, []got{{err: "no array"}}, []got{{body: `{"Records":"x"}`}}},
		{"to be confirmed", []Envelope{SNS}, `{"Type":"SubscriptionConfirmation","MessageId":"m","TopicArn":"arn:aws:sns:x","Message":"x","Timestamp":"x"}`, []got{{err: "SubscriptionConfirmation"}}, []got{{body: `{"Type":"SubscriptionConfirmation","MessageId":"m","TopicArn":"arn:aws:sns:x","Message":"x","Timestamp":"x"}`}}},
		{"other spelling", []Envelope{SNS}, `{"type":"Notification","messageid":"m"}`, []got{{err: "no notification"}}, []got{{body: `{"type":"Notification","messageid":"m"}`}}},
		{"an event without members", []Envelope{EventBridge}, `{"detail-type":"Note","detail":{}}`, []got{{"Note", "", "outer", `{}`, false, ""}}, []got{{body: `{"detail-type":"Note","detail":{}}`}}},
		{"an event without detail", []Envelope{EventBridge}, `{"detail-type":"Note","detail":null}`, []got{{err: "no detail"}}, []got{{body: `{"detail-type":"Note","detail":null}`}}},
		{"the wrong order", []Envelope{EventBridge}, notification(eventOf("Note", "me", `{}`), ""), []got{{err: "no detail-type"}}, []got{{"Note", "me", "e-1", `{}`, false, ""}}},
		{"not of S3", []Envelope{EventBridge, S3}, eventOf("Note", "me", `{}`), []got{{err: "no event of S3"}}, []got{{"Note", "me", "e-1", `{}`, false, ""}}},
		{"SNS in SNS", []Envelope{SNS}, notification(notification("x", ""), ""), []got{{"", "", "n-1", notification("x", ""), false, ""}}, nil},
	} {
		outer := driver.Bag{ID: "outer", Body: []byte(x.body), Handle: "handle", Native: "native", Attempt: 2}
		for i := range x.want {
			if x.want[i].err == "" && x.want[i].id == "" {
				x.want[i].id = "outer"
			}
		}
		for i := range x.detect {
			if x.detect[i].err == "" && x.detect[i].id == "" {
				x.detect[i].id = "outer"
			}
		}
		compare(t, x.name, Unwrap(outer, x.layers), x.want)
		if x.detect == nil {
			x.detect = x.want
		}
		compare(t, x.name+", detected", Detect(outer), x.detect)

		// A message with a category is not looked into.
		outer.Category = "Mine"
		compare(t, x.name+", of swarm", Detect(outer), []got{{"Mine", "", "outer", x.body, false, ""}})
	}
}

func TestUnwrapKeepsTimeAndAttributes(t *testing.T) {
	bags := Detect(driver.Bag{Body: []byte(notification("x", ofNote)), Attrs: map[string]string{Trace: "Root=1"}, SentAt: time.Unix(1, 0)})
	if a := bags[0].Attrs; len(a) != 2 || a["k"] != "7" || a[Trace] != "Root=1" {
		t.Errorf("got %v", a)
	}
	if want := time.Date(2026, 11, 24, 10, 0, 0, 123e6, time.UTC); !bags[0].SentAt.Equal(want) {
		t.Errorf("got %s", bags[0].SentAt)
	}
	if bags := Unwrap(driver.Bag{Err: errNoObject, Body: []byte(`{}`)}, []Envelope{SNS}); bags[0].Err != errNoObject {
		t.Errorf("got %v", bags[0].Err)
	}
}

func TestCheckEnvelopes(t *testing.T) {
	for _, good := range [][]Envelope{nil, {SNS}, {EventBridge}, {S3}, {SNS, EventBridge}, {SNS, S3}, {EventBridge, S3}, {SNS, EventBridge, S3}} {
		if err := CheckEnvelopes(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]Envelope{{0}, {4}, {SNS, SNS}, {S3, SNS}, {EventBridge, SNS}, {S3, S3}} {
		if CheckEnvelopes(bad) == nil {
			t.Errorf("%v passes", bad)
		}
	}
}

func TestEventNames(t *testing.T) {
	for _, x := range [][4]string{
		{"Object Created", "PutObject", "", "ObjectCreated:Put"},
		{"Object Created", "POST Object", "", "ObjectCreated:Post"},
		{"Object Created", "CopyObject", "", "ObjectCreated:Copy"},
		{"Object Created", "CompleteMultipartUpload", "", "ObjectCreated:CompleteMultipartUpload"},
		{"Object Deleted", "DeleteObject", "Permanently Deleted", "ObjectRemoved:Delete"},
		{"Object Deleted", "DeleteObject", "Delete Marker Created", "ObjectRemoved:DeleteMarkerCreated"},
		{"Object Deleted", "Lifecycle Expiration", "Permanently Deleted", "LifecycleExpiration:Delete"},
		{"Object Deleted", "Lifecycle Expiration", "Delete Marker Created", "LifecycleExpiration:DeleteMarkerCreated"},
		{"Object Restore Initiated", "", "", "ObjectRestore:Post"},
		{"Object Restore Completed", "", "", "ObjectRestore:Completed"},
		{"Object Restore Expired", "", "", "ObjectRestore:Delete"},
		{"Object Storage Class Changed", "", "", "LifecycleTransition"},
		{"Object Access Tier Changed", "", "", "IntelligentTiering"},
		{"Object ACL Updated", "", "", "ObjectAcl:Put"},
		{"Object Tags Added", "", "", "ObjectTagging:Put"},
		{"Object Tags Deleted", "", "", "ObjectTagging:Delete"},
		{"Object Of The Future", "", "", "ObjectOfTheFuture"},
	} {
		if got := eventName(x[0], x[1], x[2]); got != x[3] {
			t.Errorf("%v: got %s", x[:3], got)
		}
	}
}

func TestEvents(t *testing.T) {
	one, two := eventOf("Note", "me", `{"id":1}`), eventOf("Image", "me", `{"p":"aGk="}`)
	for _, x := range []struct {
		payload string
		want    []got
		err     string
	}{
		{one, []got{{"Note", "me", "e-1", `{"id":1}`, false, ""}}, ""},
		{"[" + one + "," + two + "]", []got{{"Note", "me", "e-1", `{"id":1}`, false, ""}, {"Image", "me", "e-1", `{"p":"aGk="}`, true, ""}}, ""},
		{"[]", nil, ""},
		{"[7," + one + "]", []got{{err: "not an event"}, {"Note", "me", "e-1", `{"id":1}`, false, ""}}, ""},
		{"{}", nil, "detail-type"},
		{`{"Records":[]}`, nil, "detail-type"},
		{"7", nil, "neither"},
		{"", nil, "neither"},
		{"null", nil, "neither"},
	} {
		bags, err := Events([]byte(x.payload))
		if x.err != "" {
			if err == nil || !strings.Contains(err.Error(), x.err) {
				t.Errorf("%s: got %v", x.payload, err)
			}
			continue
		}
		if err != nil || len(bags) != len(x.want) {
			t.Errorf("%s: got %d events, %v", x.payload, len(bags), err)
			continue
		}
		for i := range bags {
			if g := look(bags[i]); g != x.want[i] && (x.want[i].err == "" || !strings.Contains(g.err, x.want[i].err)) {
				t.Errorf("%s: got %+v", x.payload, g)
			}
		}
	}
}

// Whatever the body is: no panic; in automatic mode a message with a category stays what
// it is, and what is no envelope too.
func FuzzUnwrap(f *testing.F) {
	for _, s := range []string{
		notification(`{"id":1}`, ofNote), notification(records(record1), ""), eventOf("Note", "me", `{}`), records(record1, record2), testEvent,
		eventOf("Object Created", "aws.s3", created), notification(eventOf("Object Created", "aws.s3", created), ""), `{"Records":[{}]}`, "7", "", `{"Type":"Notification"}`,
	} {
		f.Add([]byte(s), uint8(1), uint8(2), "")
	}
	f.Fuzz(func(t *testing.T, body []byte, a, b uint8, category string) {
		outer := driver.Bag{ID: "outer", Body: body, Category: category, Handle: 1}
		layers := []Envelope{Envelope(a%3 + 1)}
		if second := Envelope(b % 4); second > layers[0] {
			layers = append(layers, second)
		}
		for _, bags := range [][]driver.Bag{Unwrap(outer, layers), Detect(outer)} {
			if len(bags) == 0 {
				t.Fatal("a message is gone")
			}
			for _, bag := range bags {
				if bag.Handle != 1 {
					t.Fatalf("lost its handle: %+v", bag)
				}
			}
		}
		if bags := Detect(outer); category != "" && (len(bags) != 1 || string(bags[0].Body) != string(body) || bags[0].Category != category) {
			t.Fatalf("was not left alone: %+v", bags)
		}
		_, _ = Events(body)
	})
}

// Errors are logged: what is in a message, or in its attributes, is not told.
func TestErrorsDoNotQuoteMessages(t *testing.T) {
	const secret = "hunter2"
	check := func(what string, err error) {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", what, err)
		}
	}
	bag := driver.Bag{Body: []byte("x")}
	Read(&bag, map[string]string{Encoding: secret})
	if bag.Err == nil {
		t.Error("an encoding that nobody knows is no error")
	}
	check("encoding", bag.Err)
	refused := 0
	for _, envelope := range []Envelope{SNS, EventBridge, S3} {
		for _, body := range []string{
			`hunter2`,
			`{"Type":"hunter2","MessageId":"1","Message":"x","Timestamp":"x"}`,
			`{"Type":"Notification","MessageId":"1","Message":hunter2}`,
			`{"Type":"Notification","MessageId":{"hunter2":1},"Message":"hunter2","Timestamp":"hunter2","TopicArn":"arn:aws:sns:hunter2"}`,
			`{"detail-type":"hunter2","source":"hunter2","id":"1","time":"hunter2","detail":{}}`,
			`{"detail-type":"Object hunter2","source":"aws.s3","id":"1","time":"hunter2","detail":{"object":{"key":"hunter2","size":"hunter2"}}}`,
			`{"Records":[{"eventName":"hunter2","eventSource":"hunter2","eventTime":"hunter2"}]}`,
			`{"Records":[{"eventName":"ObjectCreated:Put","eventSource":"aws:s3","eventTime":"hunter2","s3":{"object":{"key":"%zzhunter2","size":"hunter2"}}}]}`,
		} {
			for _, b := range Unwrap(driver.Bag{Body: []byte(body)}, []Envelope{envelope}) {
				check(body, b.Err)
				if b.Err != nil {
					refused++
				}
			}
		}
	}
	if refused < 8 {
		t.Errorf("%d were refused", refused)
	}
}
