package eventddb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/dynamodb/attributevalue"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/listen"
)

// Category of the records, as fogfish/swarm v0.24 has it.
const Category = "DynamoDBEventRecord"

// Record is a record of a stream, its images not yet decoded. It encodes as DynamoDB
// writes it for a function: tests may emit records on a broker in memory.
type Record struct {
	EventID        string // the same for each delivery
	EventName      string // INSERT, MODIFY, REMOVE
	SequenceNumber string
	Created        time.Time // about when the item was changed
	Region         string
	StreamARN      string // names the table
	ViewType       string // what the stream has of an item: KEYS_ONLY, NEW_IMAGE, …
	SizeBytes      int64
	Identity       *Identity // of a service that made the change; nil: a program did

	// Keys of the item, the item after the change, and before: JSON with types of
	// attributes. Nil: there is none, or the stream does not have it.
	Keys, NewImage, OldImage json.RawMessage
}

// Identity is who made a change.
type Identity struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
}

// ErrNoImage is the error of an image that a record does not have: an item that was
// inserted has no old one, one that was removed no new one, and the view type of the
// stream says which are there at all.
var ErrNoImage = errors.New("eventddb: the record has no such image")

// Records makes channels for records as they are; q is a kernel on a stream. See package
// listen. A program listens either to records or to changes ([Listen]).
func Records(q listen.Listener) (deq <-chan swarm.Msg[Record], ack chan<- swarm.Msg[Record]) {
	return listen.Typed[Record](q, listen.Category(Category))
}

// Image encodes an item as DynamoDB does in a record, by the tags of the SDK's
// attributevalue. For tests.
func Image(item any) (json.RawMessage, error) {
	m, err := attributevalue.MarshalMap(item)
	if err == nil && len(m) == 0 {
		err = errors.New("it has no attributes")
	}
	if err != nil {
		return nil, fmt.Errorf("eventddb: image of %T: %w", item, err)
	}
	return attributevalue.MarshalMapJSON(m)
}

// record is a Record as DynamoDB writes it.
type record struct {
	EventID      string    `json:"eventID"`
	EventName    string    `json:"eventName"`
	EventVersion string    `json:"eventVersion,omitempty"`
	EventSource  string    `json:"eventSource"`
	AWSRegion    string    `json:"awsRegion"`
	Change       change    `json:"dynamodb"`
	UserIdentity *Identity `json:"userIdentity,omitempty"`
	StreamARN    string    `json:"eventSourceARN"`
}

type change struct {
	Created        json.Number     `json:"ApproximateCreationDateTime,omitempty"`
	Keys           json.RawMessage `json:"Keys,omitempty"`
	NewImage       json.RawMessage `json:"NewImage,omitempty"`
	OldImage       json.RawMessage `json:"OldImage,omitempty"`
	SequenceNumber string          `json:"SequenceNumber"`
	SizeBytes      int64           `json:"SizeBytes"`
	ViewType       string          `json:"StreamViewType"`
}

// UnmarshalJSON reads a record.
func (r *Record) UnmarshalJSON(b []byte) error {
	in, err := parse(bytes.Clone(b))
	if err == nil {
		*r = in
	}
	return err
}

func parse(b []byte) (r Record, err error) {
	if !json.Valid(b) {
		return r, errors.New("eventddb: the record is not JSON")
	}
	_, err = object(b, func(key, rest []byte) (n int, err error) {
		switch string(key) {
		case "eventID":
			r.EventID, n = text(rest)
		case "eventName":
			r.EventName, n = text(rest)
		case "awsRegion":
			r.Region, n = text(rest)
		case "eventSourceARN":
			r.StreamARN, n = text(rest)
		case "userIdentity":
			err = json.Unmarshal(value(rest), &r.Identity)
		case "dynamodb":
			return object(rest, r.change)
		}
		return n, err
	})
	if err != nil {
		return Record{}, fmt.Errorf("eventddb: not a record of DynamoDB: %w", err)
	}
	return r, nil
}

// change reads a member of what happened.
func (r *Record) change(key, rest []byte) (n int, err error) {
	raw := value(rest)
	switch string(key) {
	case "ApproximateCreationDateTime":
		r.Created, err = parseTime(string(raw))
	case "Keys":
		r.Keys = image(raw)
	case "NewImage":
		r.NewImage = image(raw)
	case "OldImage":
		r.OldImage = image(raw)
	case "SequenceNumber":
		r.SequenceNumber, _ = text(raw)
	case "SizeBytes":
		r.SizeBytes, _ = strconv.ParseInt(string(raw), 10, 64)
	case "StreamViewType":
		r.ViewType, _ = text(raw)
	}
	return len(raw), err
}

// image without the null that some write for none.
func image(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || raw[0] == 'n' {
		return nil
	}
	return raw
}

// MarshalJSON writes the record.
func (r Record) MarshalJSON() ([]byte, error) {
	return json.Marshal(record{
		EventID: r.EventID, EventName: r.EventName, EventSource: "aws:dynamodb", AWSRegion: r.Region, StreamARN: r.StreamARN, UserIdentity: r.Identity,
		Change: change{
			Created: formatTime(r.Created), Keys: r.Keys, NewImage: r.NewImage, OldImage: r.OldImage,
			SequenceNumber: r.SequenceNumber, SizeBytes: r.SizeBytes, ViewType: r.ViewType,
		},
	})
}

// parseTime reads seconds with a fraction, which a float would round.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	whole, fraction, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	nanos := int64(0)
	if err == nil && fraction != "" {
		digits := (fraction + "000000000")[:9]
		nanos, err = strconv.ParseInt(digits, 10, 64)
	}
	if err != nil { // 1.7E9
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || f < -1e11 || f > 1e12 {
			return time.Time{}, errors.New("eventddb: a number is no time")
		}
		return time.UnixMilli(int64(f * 1000)).UTC(), nil
	}
	if strings.HasPrefix(s, "-") {
		nanos = -nanos
	}
	return time.Unix(seconds, nanos).UTC(), nil
}

func formatTime(t time.Time) json.Number {
	if t.IsZero() {
		return ""
	}
	if t.Nanosecond() == 0 {
		return json.Number(strconv.FormatInt(t.Unix(), 10))
	}
	if t.Unix() < 0 { // before 1970: the fraction counts the other way
		return json.Number(strconv.FormatFloat(float64(t.UnixNano())/1e9, 'f', 9, 64))
	}
	return json.Number(strings.TrimRight(fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()), "0"))
}
