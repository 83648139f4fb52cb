package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// S3Record is the category of records of S3, as fogfish/swarm v0.24 has it.
const S3Record = "S3EventRecord"

// isRecords knows a notification of S3, and the message that it sends when it is
// configured.
func isRecords(m object) bool {
	if isTestEvent(m) {
		return true
	}
	var records []json.RawMessage
	if json.Unmarshal(m["Records"], &records) != nil || len(records) == 0 {
		return false
	}
	for _, raw := range records {
		r, err := members(raw)
		if err != nil || r.text("eventSource") != "aws:s3" || r.object("s3") == nil {
			return false
		}
	}
	return true
}

func isTestEvent(m object) bool {
	return m.text("Event") == "s3:TestEvent" && !m.has("Records")
}

// openRecords makes a bag of each record. A record that is none fails alone.
func openRecords(outer driver.Bag, m object) ([]driver.Bag, error) {
	var records []json.RawMessage
	switch {
	case isTestEvent(m):
		outer.Err = fmt.Errorf("s3:TestEvent: %w", driver.ErrSkip)
		return []driver.Bag{outer}, nil
	case !m.has("Records"):
		return nil, errors.New("it has no Records")
	case json.Unmarshal(m["Records"], &records) != nil:
		return nil, errors.New("its Records are no array")
	case len(records) == 0:
		outer.Err = fmt.Errorf("a notification of S3 without records: %w", driver.ErrSkip)
		return []driver.Bag{outer}, nil
	}
	bags := make([]driver.Bag, len(records))
	for i, raw := range records {
		bags[i] = outer
		openRecord(&bags[i], raw)
	}
	return bags, nil
}

func openRecord(bag *driver.Bag, raw json.RawMessage) {
	var r heading
	bag.Category, bag.Body = S3Record, raw
	if err := json.Unmarshal(raw, &r); err != nil {
		bag.Err = fmt.Errorf("not a record of S3: %w", err)
		return
	}
	if r.S3 == nil || r.S3.Object == nil {
		bag.Err = errors.New("not a record of S3: it names no object")
		return
	}
	bag.Source = r.EventSource
	bag.ID = r.id()
	if t, err := time.Parse(time.RFC3339, r.EventTime); err == nil {
		bag.SentAt = t
	}
}

// heading of a record of S3: what a bag needs of it.
type heading struct {
	EventSource string    `json:"eventSource"`
	EventTime   string    `json:"eventTime"`
	EventName   string    `json:"eventName"`
	S3          *recordS3 `json:"s3"`
}

// record of S3, as it is made of an event.
type record struct {
	heading
	Region   string            `json:"awsRegion"`
	User     map[string]string `json:"userIdentity,omitempty"`
	Request  map[string]string `json:"requestParameters,omitempty"`
	Response map[string]string `json:"responseElements,omitempty"`
}

type recordS3 struct {
	Schema string        `json:"s3SchemaVersion"`
	Bucket recordBucket  `json:"bucket"`
	Object *recordObject `json:"object"`
}

type recordBucket struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
}

type recordObject struct {
	Key       string `json:"key"`
	Size      int64  `json:"size,omitempty"`
	ETag      string `json:"eTag,omitempty"`
	Version   string `json:"versionId,omitempty"`
	Sequencer string `json:"sequencer,omitempty"`
}

// id of a record: S3 gives it none. Bucket, key, what was done to which version and when
// tell it from all others.
func (r *heading) id() string {
	o := r.S3.Object
	key := o.Key
	if plain, err := url.QueryUnescape(key); err == nil {
		key = EscapeKey(plain) // S3 spells some characters in several ways
	}
	return strings.Join([]string{r.EventName, r.S3.Bucket.Name, key, cmp.Or(o.Version, o.ETag), o.Sequencer}, "/")
}

// EscapeKey spells the key of an object as notifications do.
func EscapeKey(key string) string { return strings.ReplaceAll(url.QueryEscape(key), "%2F", "/") }

// isS3 tells an event of S3: nobody else can have such a source.
func (ev *event) isS3() bool { return ev.Source == "aws.s3" && strings.HasPrefix(ev.Type, "Object ") }

// s3 gives an event of S3 the shape of the record in a notification.
func (ev *event) s3(bag *driver.Bag) error {
	if !ev.isS3() {
		return errors.New("it is no event of S3")
	}
	var d struct {
		Bucket struct{ Name string }
		Object struct {
			Key       *string
			Size      int64
			ETag      string `json:"etag"`
			Version   string `json:"version-id"`
			Sequencer string
		}
		RequestID string `json:"request-id"`
		Requester string
		Address   string `json:"source-ip-address"`
		Reason    string
		Deletion  string `json:"deletion-type"`
	}
	if err := json.Unmarshal(ev.Detail, &d); err != nil {
		return err
	}
	if d.Object.Key == nil {
		return errors.New("it names no object")
	}
	r := record{
		heading: heading{
			EventSource: "aws:s3", EventTime: ev.Time, EventName: eventName(ev.Type, d.Reason, d.Deletion),
			S3: &recordS3{Schema: "1.0", Bucket: recordBucket{Name: d.Bucket.Name}, Object: &recordObject{
				Key:  EscapeKey(*d.Object.Key), // events have it as it is
				Size: d.Object.Size, ETag: d.Object.ETag, Version: d.Object.Version, Sequencer: d.Object.Sequencer,
			}},
		},
		Region: ev.Region,
		User:   one("principalId", d.Requester), Request: one("sourceIPAddress", d.Address), Response: one("x-amz-request-id", d.RequestID),
	}
	if len(ev.Resources) > 0 {
		r.S3.Bucket.ARN = ev.Resources[0]
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return err
	}
	bag.Category, bag.Body, bag.Binary = S3Record, bytes.TrimSpace(body.Bytes()), false
	bag.Source, bag.ID = r.EventSource, r.id() // as of a notification
	return nil
}

func one(key, value string) map[string]string {
	if value == "" {
		return nil
	}
	return map[string]string{key: value}
}

// eventName is what a notification calls an event of EventBridge.
func eventName(kind, reason, deletion string) string {
	switch kind {
	case "Object Created":
		switch reason {
		case "PutObject":
			return "ObjectCreated:Put"
		case "POST Object":
			return "ObjectCreated:Post"
		case "CopyObject":
			return "ObjectCreated:Copy"
		}
		return "ObjectCreated:" + strings.ReplaceAll(reason, " ", "")
	case "Object Deleted":
		family, what := "ObjectRemoved:", "Delete"
		if strings.HasPrefix(reason, "Lifecycle") {
			family = "LifecycleExpiration:"
		}
		if deletion == "Delete Marker Created" {
			what = "DeleteMarkerCreated"
		}
		return family + what
	case "Object Restore Initiated":
		return "ObjectRestore:Post"
	case "Object Restore Completed":
		return "ObjectRestore:Completed"
	case "Object Restore Expired":
		return "ObjectRestore:Delete"
	case "Object Storage Class Changed":
		return "LifecycleTransition"
	case "Object Access Tier Changed":
		return "IntelligentTiering"
	case "Object ACL Updated":
		return "ObjectAcl:Put"
	case "Object Tags Added":
		return "ObjectTagging:Put"
	case "Object Tags Deleted":
		return "ObjectTagging:Delete"
	}
	return strings.ReplaceAll(kind, " ", "")
}
