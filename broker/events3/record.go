package events3

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	"github.com/fogfish/swarm/broker/internal/wire"
	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"
)

// Category of the records.
const Category = "S3EventRecord"

// Listen makes channels for records; q is a kernel on a source of them. See package
// listen.
func Listen(q listen.Listener) (deq <-chan swarm.Msg[Record], ack chan<- swarm.Msg[Record]) {
	return listen.Typed[Record](q, listen.Category(Category))
}

// Record says what happened to an object. Decoded from JSON it has what S3 wrote, and it
// encodes as S3 would write it: tests may emit records on a broker in memory. What S3 did
// not say is empty.
type Record struct {
	Event  string // ObjectCreated:Put, ObjectRemoved:Delete, …; without the s3: of policies
	Time   time.Time
	Region string

	Bucket    string
	BucketARN string

	// Key of the object, decoded. A key that is not encoded as S3 does it is taken as it
	// is.
	Key       string
	Size      int64 // bytes
	ETag      string
	VersionID string

	// Sequencer orders the events of one key, see [CompareSequencers]. Only creations and
	// removals have one.
	Sequencer string

	PrincipalID     string // who did it
	SourceIP        string // from where
	RequestID       string // of the request that did it
	ConfigurationID string // of the notification
}

// record is a Record as S3 writes it.
type record struct {
	EventVersion string    `json:"eventVersion,omitempty"`
	EventSource  string    `json:"eventSource"`
	AWSRegion    string    `json:"awsRegion"`
	EventTime    time.Time `json:"eventTime,omitzero"`
	EventName    string    `json:"eventName"`
	UserIdentity struct {
		PrincipalID string `json:"principalId,omitempty"`
	} `json:"userIdentity"`
	RequestParameters struct {
		SourceIP string `json:"sourceIPAddress,omitempty"`
	} `json:"requestParameters"`
	ResponseElements struct {
		RequestID string `json:"x-amz-request-id,omitempty"`
	} `json:"responseElements"`
	S3 struct {
		ConfigurationID string `json:"configurationId,omitempty"`
		Bucket          struct {
			Name string `json:"name"`
			ARN  string `json:"arn,omitempty"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			Size      int64  `json:"size,omitempty"`
			ETag      string `json:"eTag,omitempty"`
			VersionID string `json:"versionId,omitempty"`
			Sequencer string `json:"sequencer,omitempty"`
		} `json:"object"`
	} `json:"s3"`
}

// UnmarshalJSON reads a record of any version of the format.
func (r *Record) UnmarshalJSON(b []byte) error {
	var in record
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	key, err := url.QueryUnescape(in.S3.Object.Key) // + and %20 are a space
	if err != nil {
		key = in.S3.Object.Key
	}
	*r = Record{
		Event: in.EventName, Time: in.EventTime, Region: in.AWSRegion,
		Bucket: in.S3.Bucket.Name, BucketARN: in.S3.Bucket.ARN,
		Key: key, Size: in.S3.Object.Size, ETag: in.S3.Object.ETag, VersionID: in.S3.Object.VersionID, Sequencer: in.S3.Object.Sequencer,
		PrincipalID: in.UserIdentity.PrincipalID, SourceIP: in.RequestParameters.SourceIP,
		RequestID: in.ResponseElements.RequestID, ConfigurationID: in.S3.ConfigurationID,
	}
	return nil
}

// MarshalJSON writes the record as S3 does.
func (r Record) MarshalJSON() ([]byte, error) {
	out := record{EventSource: "aws:s3", AWSRegion: r.Region, EventTime: r.Time, EventName: r.Event}
	out.UserIdentity.PrincipalID = r.PrincipalID
	out.RequestParameters.SourceIP = r.SourceIP
	out.ResponseElements.RequestID = r.RequestID
	out.S3.ConfigurationID = r.ConfigurationID
	out.S3.Bucket.Name, out.S3.Bucket.ARN = r.Bucket, r.BucketARN
	o := &out.S3.Object
	o.Key, o.Size, o.ETag, o.VersionID, o.Sequencer = wire.EscapeKey(r.Key), r.Size, r.ETag, r.VersionID, r.Sequencer
	return json.Marshal(out)
}

// CompareSequencers tells which of two events of one key was first: -1 when a was, 0 when
// they are the same, 1 when b was. Sequencers of different keys say nothing of each other.
func CompareSequencers(a, b string) int {
	// Hexadecimal numbers, the shorter one to be padded on the right.
	n := max(len(a), len(b))
	pad := func(s string) string { return strings.ToUpper(s) + strings.Repeat("0", n-len(s)) }
	return cmp.Compare(pad(a), pad(b))
}
