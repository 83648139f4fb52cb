package eventbridge

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
)

// FuzzCheck: what check accepts makes an entry that is valid by the rules of EventBridge,
// and carries what it was given. The rules are read here by a decoder of tokens.
func FuzzCheck(f *testing.F) {
	f.Add([]byte(`{"id":7}`), false, "Note", "me", wire.Trace, "Root=1", "arn:aws:s3:::a")
	f.Add([]byte(`{"a":[1,-2,3.5e7,9223372036854775808]}`), false, "Note", "me", "", "", "")
	f.Add([]byte(`{"a":"\"[{"}}`), false, "Note", "aws.me", "tenant", "blue", "")
	f.Add([]byte("{\"\\u0000\":\"\xff\"}"), false, "\xff", "", "", "", "")
	f.Add([]byte("\x00\xff"), true, "Pair[User,Note]", "me", wire.Trace, "", "")
	f.Add([]byte(`{"a":-}`), false, "Note", "me", "", "", "")
	f.Add([]byte(`{"a":`+strings.Repeat("[", 999)+strings.Repeat("]", 999)+`}`), false, "Note", "me", "", "", "")
	f.Fuzz(func(t *testing.T, body []byte, binary bool, category, source, name, value, resource string) {
		b := &bus{name: "bus", maxSize: maxRequest}
		if resource != "" {
			b.resources = []string{resource}
		}
		bag := driver.Bag{Category: category, Source: source, Body: bytes.Clone(body), Binary: binary, SentAt: time.Now()}
		if name != "" {
			bag.Attrs = map[string]string{name: value}
		}
		if err := b.check(&bag); err != nil {
			if !driver.IsPermanent(err) {
				t.Errorf("%v is not permanent", err)
			}
			return
		}
		e := b.encode(&bag)
		detail := *e.Detail
		switch {
		case *e.Source != source || source == "" || strings.HasPrefix(source, "aws.") || !utf8.ValidString(source):
			t.Errorf("source %q", *e.Source)
		case *e.DetailType != category || category == "" || utf8.RuneCountInString(category) > 128 || !utf8.ValidString(category):
			t.Errorf("detail-type %q", *e.DetailType)
		case name != "" && (name != wire.Trace || e.TraceHeader == nil || *e.TraceHeader != value):
			t.Errorf("attribute %q is %q, the trace goes as %v", name, value, e.TraceHeader)
		case name == "" && e.TraceHeader != nil || e.Time == nil || !e.Time.Equal(bag.SentAt):
			t.Errorf("got %+v", e)
		}
		if n := 14 + len(*e.Source) + len(*e.DetailType) + len(detail) + len(resource); n != b.size(&bag) || n >= 1<<20 {
			t.Errorf("size %d, counted as %d", n, b.size(&bag))
		}
		if got := []byte(detail); binary && !bytes.Equal(codec.Unpack(got), body) || !binary && !bytes.Equal(got, body) {
			t.Errorf("%q goes as %q", body, detail)
		}
		valid(t, detail)
	})
}

// valid reads a detail token by token.
func valid(t *testing.T, detail string) {
	t.Helper()
	if !utf8.ValidString(detail) || !json.Valid([]byte(detail)) {
		t.Fatalf("%q is not JSON in UTF-8", detail)
	}
	d := json.NewDecoder(strings.NewReader(detail))
	d.UseNumber()
	depth := 0
	for first := true; ; first = false {
		token, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil || first && token != json.Delim('{') {
			t.Fatalf("%q begins with %v: %v", detail, token, err)
		}
		switch x := token.(type) {
		case json.Delim:
			if depth--; x == '{' || x == '[' {
				depth += 2
			}
			if depth > 1000 {
				t.Fatalf("nested %d deep", depth)
			}
		case json.Number:
			if _, err := strconv.ParseInt(x.String(), 10, 64); err != nil && !strings.ContainsAny(x.String(), ".eE") {
				t.Errorf("integer %s", x)
			}
		}
	}
}
