// Package codec turns values into bytes and back. [JSON] is what emit.Typed and
// listen.Typed use by default, [Event] what emit.Event and listen.Event do, [Bytes] is
// for programs that encode themselves. Any type with the methods of [Codec] serves.
//
// Codecs are called by one goroutine for each channel, and by synchronous callers: a
// codec must be safe for concurrent use. A panic in a codec counts as its error.
package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	swarm "github.com/fogfish/swarm/core"
)

// Encoder makes bytes of a value, which are the kernel's from then on.
type Encoder[T any] interface {
	// Category of all values of the codec.
	Category() string
	Encode(T) ([]byte, error)
}

// Decoder makes a value of bytes, which are the value's from then on.
type Decoder[T any] interface {
	// Category of all values of the codec.
	Category() string
	Decode([]byte) (T, error)
}

// Codec is both.
type Codec[T any] interface {
	Encoder[T]
	Decoder[T]
}

var null = []byte("null")

// errNull refuses a JSON null: it decodes into nothing, and the consumer would get a
// nil pointer, or a zero value that nobody sent.
var errNull = errors.New("null is not a message")

// JSON encodes values of T as JSON. An empty category is the category of T; it panics
// when T has none, see [swarm.TypeOf].
func JSON[T any](category string) Codec[T] { return jsonCodec[T](categoryOf[T](category)) }

type jsonCodec[T any] string

func (c jsonCodec[T]) Category() string { return string(c) }

func (jsonCodec[T]) Encode(v T) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && bytes.Equal(b, null) {
		err = errNull // a nil pointer: its listener would refuse it for ever
	}
	return b, err
}

func (jsonCodec[T]) Decode(b []byte) (v T, err error) {
	if bytes.Equal(bytes.TrimSpace(b), null) {
		return v, errNull
	}
	err = json.Unmarshal(b, &v)
	return v, discreet(err)
}

// decodeError tells of an error what may be in a log: the values of messages may not.
type decodeError struct {
	text string
	err  error
}

func (e *decodeError) Error() string { return e.text }
func (e *decodeError) Unwrap() error { return e.err }

// discreet leaves out of an error the value it is about. Of what is not an error of package
// json, but of types that decode themselves, only the type is told: its text may be anything.
func discreet(err error) error {
	const tag = "json: invalid use of ,string struct tag"
	if err == nil || err == errEmptyEvent {
		return err
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(e.Value, " ") // number 4111…
		return &decodeError{fmt.Sprintf("JSON %s does not fit %s, field %q of %s", kind, e.Type, e.Field, e.Struct), err}
	}
	if e, ok := errors.AsType[*time.ParseError](err); ok {
		return &decodeError{"text is not a time of layout " + e.Layout, err}
	}
	if strings.HasPrefix(err.Error(), tag) {
		return &decodeError{tag, err}
	}
	if e, ok := err.(*json.SyntaxError); ok {
		return e // it tells one character
	}
	return &decodeError{fmt.Sprintf("a value does not decode: %T", err), err}
}

// Bytes passes bytes through, in both directions, under a category. It panics when the
// category is empty.
func Bytes(category string) Codec[[]byte] {
	if category == "" {
		panic("swarm: codec.Bytes needs a category")
	}
	return bytesCodec(category)
}

type bytesCodec string

func (c bytesCodec) Category() string { return string(c) }

// Encode copies: the caller may use its buffer again once the value was sent, and the
// broker keeps what it got.
func (bytesCodec) Encode(v []byte) ([]byte, error) { return bytes.Clone(v), nil }

func (bytesCodec) Decode(b []byte) ([]byte, error) { return b, nil }

// Identified is an [Encoder] of values that have an id of their own. The kernel calls
// EncodeID in place of Encode.
type Identified[T any] interface {
	// EncodeID encodes a value under its own id, or under the given one if it has
	// none, and returns the id it used.
	EncodeID(v T, id string) (body []byte, used string, err error)
}

// Event encodes events as {"meta":{…},"data":{…}}. What the sender left empty of the
// metadata is filled on a copy: id, type, agent, realm and time. An empty category is
// the category of T; it panics when T has none, or M embeds [swarm.Meta] by a pointer: there
// would be nothing to fill, or what the sender has.
func Event[M, T any, PM swarm.Metadata[M]](realm, agent, category string) Codec[swarm.Event[M, T]] {
	if PM(new(M)).SwarmMeta() == nil {
		panic(fmt.Sprintf("swarm: %T embeds swarm.Meta by a pointer: embed it by value", *new(M)))
	}
	return eventCodec[M, T, PM]{realm: realm, agent: agent, category: categoryOf[T](category)}
}

type eventCodec[M, T any, PM swarm.Metadata[M]] struct{ realm, agent, category string }

func (c eventCodec[M, T, PM]) Category() string { return c.category }

func (c eventCodec[M, T, PM]) Encode(v swarm.Event[M, T]) ([]byte, error) {
	body, _, err := c.EncodeID(v, "")
	return body, err
}

func (c eventCodec[M, T, PM]) EncodeID(v swarm.Event[M, T], id string) ([]byte, string, error) {
	if v.Meta == nil && v.Data == nil {
		return nil, id, errEmptyEvent
	}
	meta := new(M)
	if v.Meta != nil {
		*meta = *v.Meta
	}
	m := PM(meta).SwarmMeta()
	fill(&m.ID, id)
	fill(&m.Type, c.category)
	fill(&m.Agent, c.agent)
	fill(&m.Realm, c.realm)
	if m.Created.IsZero() {
		m.Created = time.Now().UTC()
	}
	v.Meta = meta
	body, err := json.Marshal(v)
	return body, m.ID, err
}

func (c eventCodec[M, T, PM]) Decode(b []byte) (v swarm.Event[M, T], err error) {
	if err = json.Unmarshal(b, &v); err == nil && v.Meta == nil && v.Data == nil {
		err = errEmptyEvent
	}
	return v, discreet(err)
}

var errEmptyEvent = errors.New("event has neither meta nor data")

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

func categoryOf[T any](explicit string) string {
	if explicit != "" {
		return explicit
	}
	category, err := swarm.TypeOf[T]()
	if err != nil {
		panic(err.Error())
	}
	return category
}

// MediaTyped is a codec that says what it makes. One of JSON is worth saying: on a
// transport that carries nothing but JSON (EventBridge) its bytes go as they are, those of
// other codecs as a packet.
type MediaTyped interface {
	MediaType() string // as of RFC 6838: application/json
}

const mediaJSON = "application/json"

func (jsonCodec[T]) MediaType() string         { return mediaJSON }
func (eventCodec[M, T, PM]) MediaType() string { return mediaJSON }

// IsJSON reports whether a codec says that it makes JSON.
func IsJSON(codec any) bool {
	c, ok := codec.(MediaTyped)
	return ok && c.MediaType() == mediaJSON
}

// packet is how bytes travel as JSON; as fogfish/swarm v0.24 writes it.
type packet struct {
	Bytes []byte `json:"p"`
}

// Pack wraps bytes in a JSON object, {"p":"…"} with base64, for a transport that carries
// nothing else.
func Pack(b []byte) []byte {
	out := make([]byte, 0, base64.StdEncoding.EncodedLen(len(b))+8)
	out = append(out, `{"p":"`...)
	out = base64.StdEncoding.AppendEncode(out, b)
	return append(out, `"}`...)
}

// IsPacked reports whether b looks like the work of [Pack]: an object whose only member
// is p, a string of base64.
func IsPacked(b []byte) bool {
	_, ok := unpack(b)
	return ok
}

// Unpack is the inverse of [Pack]. What is not packed comes back as it is.
func Unpack(b []byte) []byte {
	if out, ok := unpack(b); ok {
		return out
	}
	return b
}

func unpack(b []byte) ([]byte, bool) {
	inside, ok := bytes.CutPrefix(bytes.TrimSpace(b), []byte("{"))
	if !ok || !bytes.HasPrefix(bytes.TrimSpace(inside), []byte(`"p"`)) {
		return nil, false // as most are, without reading all of it
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(b, &members) != nil || len(members) != 1 || members["p"] == nil {
		return nil, false
	}
	var p packet
	if json.Unmarshal(b, &p) != nil || p.Bytes == nil {
		return nil, false
	}
	return p.Bytes, true
}

// Safely runs f, a call of a codec; a panic in it becomes the error.
func Safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("codec panicked: %v", p)
		}
	}()
	return f()
}
