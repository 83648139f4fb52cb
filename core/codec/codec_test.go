package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/codec"
)

type Note struct {
	ID   string   `json:"id"`
	Tags []string `json:"tags,omitempty"`
}

type Meta struct {
	swarm.Meta
	About string `json:"about,omitempty"`
}

func TestJSON(t *testing.T) {
	c := codec.JSON[Note]("")
	if c.Category() != "Note" || codec.JSON[Note]("Memo").Category() != "Memo" {
		t.Errorf("category %s", c.Category())
	}
	b, err := c.Encode(Note{ID: "<1>"})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Decode(b); err != nil || v.ID != "<1>" {
		t.Errorf("got %v, %v", v, err)
	}
	for _, bad := range []string{``, `null`, " null\n", `[]`, `"x"`, `7`, `{`, `{} {}`, `{"id":7}`} {
		if v, err := c.Decode([]byte(bad)); err == nil {
			t.Errorf("%q decodes to %v", bad, v)
		}
	}
	if _, err := codec.JSON[*Note]("").Decode([]byte(`null`)); err == nil {
		t.Error("null decodes to a nil pointer")
	}
	if _, err := codec.JSON[float64]("").Encode(math.NaN()); err == nil {
		t.Error("NaN encodes")
	}
}

func TestBytes(t *testing.T) {
	c := codec.Bytes("Image")
	in := []byte{0xff, 0, 0x80}
	b, err := c.Encode(in)
	in[0] = 0
	if err != nil || !bytes.Equal(b, []byte{0xff, 0, 0x80}) || c.Category() != "Image" {
		t.Errorf("got %v, %v", b, err)
	}
	if v, err := c.Decode(b); err != nil || !bytes.Equal(v, b) {
		t.Errorf("got %v, %v", v, err)
	}
}

// The wire format of events, as fogfish/swarm v0.24 reads and writes it.
func TestEventOnTheWire(t *testing.T) {
	c := codec.Event[Meta, Note]("blue", "agent", "")
	if c.Category() != "Note" {
		t.Errorf("category %s", c.Category())
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b, err := c.Encode(swarm.Event[Meta, Note]{
		Meta: &Meta{Meta: swarm.Meta{ID: "7", Created: at, Sink: "s", Target: "t", Participant: "p"}, About: "x"},
		Data: &Note{ID: "n"},
	})
	want := `{"meta":{"sink":"s","id":"7","type":"Note","realm":"blue","agent":"agent","created":"2026-01-02T03:04:05Z","target":"t","participant":"p","about":"x"},"data":{"id":"n"}}`
	if err != nil || string(b) != want {
		t.Errorf("got  %s, %v\nwant %s", b, err, want)
	}
	v, err := c.Decode([]byte(want))
	if err != nil || v.Meta.ID != "7" || v.Meta.About != "x" || !v.Meta.Created.Equal(at) || v.Data.ID != "n" {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestAnEventIsEncodedTwiceTheSame(t *testing.T) {
	c := codec.Event[swarm.Meta, Note]("", "", "")
	e := swarm.Event[swarm.Meta, Note]{Meta: &swarm.Meta{ID: "7", Created: time.Unix(1, 0).UTC()}, Data: &Note{}}
	a, _ := c.Encode(e)
	b, _ := c.Encode(e)
	if !bytes.Equal(a, b) || e.Meta.Type != "" {
		t.Errorf("got %s and %s, meta %+v", a, b, e.Meta)
	}
}

func TestCodecsOfTypesWithoutANameNeedACategory(t *testing.T) {
	for _, f := range []func(){
		func() { codec.JSON[[]Note]("") },
		func() { codec.Event[swarm.Meta, map[string]Note]("", "", "") },
		func() { codec.Bytes("") },
	} {
		func() {
			defer func() {
				if p, _ := recover().(string); !strings.Contains(p, "category") {
					t.Errorf("got panic %q", p)
				}
			}()
			f()
		}()
	}
	if codec.JSON[[]Note]("Notes").Category() != "Notes" {
		t.Error("an explicit category does not count")
	}
}

func TestPacket(t *testing.T) {
	for _, in := range []string{"", "hello", "\xff\x00", `{"p":"aGk="}`, strings.Repeat("x", 10_000)} {
		b := codec.Pack([]byte(in))
		if !json.Valid(b) || !codec.IsPacked(b) || string(codec.Unpack(b)) != in {
			t.Errorf("%.20q packs to %.40s, back to %.20q", in, b, codec.Unpack(b))
		}
	}
	if got := string(codec.Pack([]byte("hi"))); got != `{"p":"aGk="}` {
		t.Errorf("got %s, fogfish/swarm v0.24 writes otherwise", got)
	}
	for _, other := range []string{``, `{}`, `{"p":null}`, `{"p":7}`, `{"p":"?"}`, `{"P":"aGk="}`, `{"p":"aGk=","q":1}`, `["p"]`, `"p"`, `null`, `{"p":"aGk="`} {
		if codec.IsPacked([]byte(other)) || string(codec.Unpack([]byte(other))) != other {
			t.Errorf("%s counts as a packet", other)
		}
	}
}

func TestMediaType(t *testing.T) {
	for _, x := range []struct {
		codec any
		json  bool
	}{
		{codec.JSON[Note](""), true}, {codec.Event[Meta, Note]("", "", ""), true}, {codec.Bytes("Image"), false}, {nil, false},
	} {
		if codec.IsJSON(x.codec) != x.json {
			t.Errorf("%T: got %v", x.codec, !x.json)
		}
	}
	if m := codec.JSON[Note]("").(codec.MediaTyped).MediaType(); m != "application/json" {
		t.Errorf("got %s", m)
	}
}

func FuzzPacket(f *testing.F) {
	for _, s := range []string{`{"p":"aGk="}`, `{"p":""}`, `{"p":"aGk=","p":"eA=="}`, `{`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := codec.Unpack(b)
		if !codec.IsPacked(b) && !bytes.Equal(out, b) {
			t.Fatalf("%q is no packet and becomes %q", b, out)
		}
		if again := codec.Unpack(codec.Pack(b)); !bytes.Equal(again, b) {
			t.Fatalf("%q comes back as %q", b, again)
		}
	})
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"id":"x","tags":["a"]}`, `null`, `[]`, `{"id":null}`, `{`, "\xff"} {
		f.Add([]byte(s))
	}
	c := codec.JSON[Note]("")
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := c.Decode(b)
		if err != nil {
			return
		}
		again, err := c.Encode(v)
		if err != nil {
			t.Fatalf("%q decodes to what does not encode: %v", b, err)
		}
		if w, err := c.Decode(again); err != nil || w.ID != v.ID || len(w.Tags) != len(v.Tags) {
			t.Fatalf("%q decodes to %v, then to %v, %v", b, v, w, err)
		}
	})
}

func FuzzEvent(f *testing.F) {
	for _, s := range []string{`{"meta":{"id":"7","created":"2026-01-02T03:04:05Z"},"data":{"id":"n"}}`, `{}`, `null`, `{"meta":null,"data":{}}`} {
		f.Add([]byte(s))
	}
	c := codec.Event[Meta, Note]("", "", "")
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := c.Decode(b)
		if err != nil {
			return
		}
		if v.Meta == nil && v.Data == nil {
			t.Fatalf("%q decodes to an empty event", b)
		}
		if _, err := c.Encode(v); err != nil {
			if _, is := err.(*json.MarshalerError); !is { // a year that RFC 3339 has not
				t.Fatalf("%q decodes to what does not encode: %v", b, err)
			}
		}
	})
}

// What is in a message that cannot be decoded is not in the error, which goes to logs.
func TestErrorsAreDiscreet(t *testing.T) {
	type card struct {
		Number int8      `json:"number"`
		At     time.Time `json:"at"`
		Quoted int       `json:"quoted,string"`
	}
	c, e := codec.JSON[card](""), codec.Event[swarm.Meta, card]("", "", "")
	for _, payload := range []string{`{"number":4111}`, `{"number":"4111"}`, `{"at":"4111"}`, `{"quoted":"4111x"}`} {
		_, err := c.Decode([]byte(payload))
		_, again := e.Decode([]byte(`{"data":` + payload + `}`))
		if err == nil || again == nil || strings.Contains(err.Error()+again.Error(), "4111") {
			t.Errorf("%s: got %v, %v", payload, err, again)
		}
	}
	_, err := c.Decode([]byte(`{"number":4111}`))
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok || !strings.Contains(err.Error(), `"number"`) {
		t.Errorf("got %v", err)
	}
}

// stern is a type that decodes itself, and says why it does not.
type stern struct{}

var errStern = errors.New("stern")

func (*stern) UnmarshalJSON(b []byte) error { return fmt.Errorf("%s is nothing: %w", b, errStern) }

// wordy is one that decodes a part of itself.
type wordy struct{}

func (*wordy) UnmarshalJSON(b []byte) error {
	var n int
	return fmt.Errorf("%s is no number: %w", b, json.Unmarshal([]byte("x"), &n))
}

// Types that decode themselves may quote what they are given: their type is told, and the rest
// is there for who unwraps it.
func TestErrorsOfTypesAreDiscreet(t *testing.T) {
	const body = `{"v":"4111"}`
	for name, decode := range map[string]func() error{
		"netip.Addr": func() error { _, err := codec.JSON[struct{ V netip.Addr }]("x").Decode([]byte(body)); return err },
		"json.Number": func() error {
			_, err := codec.JSON[struct{ V json.Number }]("x").Decode([]byte(`{"v":"4111x"}`))
			return err
		},
		"big.Int": func() error {
			_, err := codec.JSON[struct{ V *big.Int }]("x").Decode([]byte(`{"v":"4111x"}`))
			return err
		},
		"wordy": func() error { _, err := codec.JSON[struct{ V wordy }]("x").Decode([]byte(body)); return err },
		"own":   func() error { _, err := codec.JSON[struct{ V stern }]("x").Decode([]byte(body)); return err },
	} {
		err := decode()
		if err == nil || strings.Contains(err.Error(), "4111") || !strings.Contains(err.Error(), "does not decode: ") {
			t.Errorf("%s: got %v", name, err)
		}
		if name == "own" && !errors.Is(err, errStern) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := codec.JSON[Note]("").Decode([]byte(`{4111`)); err == nil || strings.Contains(err.Error(), "4111") || !strings.Contains(err.Error(), "invalid character") {
		t.Errorf("syntax: got %v", err)
	}
}

// A codec may take the id of a value for that of its message.
func TestIdentified(t *testing.T) {
	type event = swarm.Event[Meta, Note]
	c := codec.Event[Meta, Note]("", "", "").(codec.Identified[event])
	for own, want := range map[string]string{"mine": "mine", "": "given"} {
		body, used, err := c.EncodeID(event{Meta: &Meta{Meta: swarm.Meta{ID: own}}, Data: &Note{}}, "given")
		if err != nil || used != want || !strings.Contains(string(body), `"id":"`+want+`"`) {
			t.Errorf("%s: %s, %q, %v", own, body, used, err)
		}
	}
}

// Metadata of an event is swarm's own, or has it embedded.
func TestMetadata(t *testing.T) {
	m := &Meta{Meta: swarm.Meta{ID: "e-1"}}
	if m.SwarmMeta() != &m.Meta || m.SwarmMeta().ID != "e-1" {
		t.Error(m.SwarmMeta())
	}
}

func TestAPanicOfACodecIsAnError(t *testing.T) {
	err := codec.Safely(func() error { panic("mine") })
	if err == nil || err.Error() != "codec panicked: mine" {
		t.Error(err)
	}
	if err := codec.Safely(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
