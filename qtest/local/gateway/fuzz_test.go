package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path"
	"strings"
	"testing"
)

func FuzzSelection(f *testing.F) {
	for _, expression := range []string{"$request.body.action", "$request.body.a.b", "$request.body.", "$request.body.a..b", "${request.body.action}", ""} {
		for _, body := range []string{`{"action":"a"}`, `{"a":{"b":1.5e3}}`, `{"a":true}`, `[1]`, `{"a`, ``} {
			f.Add(expression, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, expression string, body []byte) {
		s, err := parseSelection(expression)
		if err != nil {
			return
		}
		if "$request.body."+strings.Join(s, ".") != expression {
			t.Fatalf("%q is %q", expression, s)
		}
		value, ok := s.value(body)
		if !ok {
			if value != "" {
				t.Errorf("not ok: %q", value)
			}
			return
		}
		// The same by another way.
		var v any
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("selected %q of what is no JSON", value)
		}
		for _, key := range s {
			v = v.(map[string]any)[key]
		}
		switch v := v.(type) {
		case string:
			ok = v == value
		case json.Number:
			ok = v.String() == value
		case bool:
			ok = map[bool]string{true: "true", false: "false"}[v] == value
		default:
			ok = false
		}
		if !ok {
			t.Errorf("selected %q, not %v", value, v)
		}
	})
}

func FuzzFrames(f *testing.F) {
	for _, s := range []string{"\x81\x82\x00\x00\x00\x00hi", "\x81\xfe\x00\x7e", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", "\x01\x80\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00", "\x81\x01a", "\x81"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		header, size := parseFrameHeader(b)
		if size < 2 || size > 14 {
			t.Fatalf("a header of %d bytes", size)
		}
		if size <= len(b) {
			if again, n := parseFrameHeader(b[:size]); again != header || n != size {
				t.Fatalf("got %+v and %+v", header, again)
			}
		}
		// All bytes pass, with at most one refusal, which is before a frame.
		const limit = 100
		r := &frames{r: bufio.NewReader(bytes.NewReader(b)), frame: limit / 2, limit: limit, active: func(frameHeader) {}}
		var got []byte
		refusals := 0
		for p := make([]byte, 7); ; {
			n, err := r.Read(p)
			got = append(got, p[:n]...)
			if _, refused := errors.AsType[*closing](err); refused {
				if refusals++; refusals > 1 || n > 0 {
					t.Fatalf("refusal %d with %d bytes", refusals, n)
				}
				continue
			}
			if refusals == 0 && r.message > limit {
				t.Fatalf("a message of %d bytes", r.message)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) || !r.broken.Load() {
					t.Fatal(err)
				}
				break
			}
		}
		// A header that is not complete is not passed on.
		if !bytes.HasPrefix(b, got) || len(b)-len(got) >= 14 {
			t.Errorf("got %x of %x", got, b)
		}
	})
}

func FuzzPolicy(f *testing.F) {
	const method = "arn:aws:execute-api:us-east-1:000000000000:local/dev/$connect"
	for _, s := range []string{
		`{"principalId":"me","policyDocument":{"Version":"2012-10-17","Statement":[{"Action":"execute-api:Invoke","Effect":"Allow","Resource":"*"}]},"context":{"a":1}}`,
		`{"principalId":"me","policyDocument":{"Statement":{"Action":["*"],"Effect":"Deny","Resource":["` + method + `"]}}}`,
		`{"principalId":"me","policyDocument":{"Statement":[null]}}`, `{"principalId":null,"policyDocument":null}`, `{"context":{"a":{}}}`, `null`, `{`,
	} {
		f.Add([]byte(s), method)
	}
	f.Fuzz(func(t *testing.T, answer []byte, method string) {
		values, allowed, err := evaluate(answer, method)
		if err != nil {
			if allowed || values != nil {
				t.Error("an error, and more")
			}
			return
		}
		if allowed && !(bytes.Contains(answer, []byte("Allow")) || bytes.Contains(answer, []byte(`\u`))) {
			t.Errorf("%s allows", answer)
		}
		for name, v := range values {
			if _, ok := v.(string); !ok {
				t.Errorf("%s is %T", name, v)
			}
		}
		marshal(requestContext{Authorizer: values}) // or it panics
	})
}

func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"*", "a"}, {"a*b?c", "aXXbYc"}, {"**", ""}, {"?", ""}, {"a*a*a*b", "aaaaaaaaaa"}, {"", ""}} {
		f.Add(s[0], s[1])
	}
	equal := func(a, b string) bool { return a == b }
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if !match(s, s, equal) && !strings.ContainsAny(s, "*?") {
			t.Errorf("%q is not itself", s)
		}
		if strings.ContainsAny(pattern+s, "[]\\/") || len(pattern) > 20 || strings.ToValidUTF8(pattern+s, "") != pattern+s || len([]rune(s)) != len(s) {
			return
		}
		// Without classes and separators the patterns of package path are the same.
		if want, err := path.Match(pattern, s); err == nil && want != match(pattern, s, equal) {
			t.Errorf("%q, %q: want %v", pattern, s, want)
		}
	})
}

func FuzzConnectionPath(f *testing.F) {
	for _, s := range []string{"/dev/@connections/L0SM9cOFvHcCIhw%3D", "/@connections/L0SM9cOFvHcCIhw=", "/dev/%40connections/a", "/dev/@connections/", "/dev/@connections/a/b", "/dev/@connections/%", "//", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := connectionPath(s, "dev")
		if !ok {
			return
		}
		if id == "" {
			t.Fatalf("%q has an empty id", s)
		}
		for _, again := range []string{"/dev/@connections/" + url.PathEscape(id), "/@connections/" + url.PathEscape(id)} {
			if got, ok := connectionPath(again, "dev"); !ok || got != id {
				t.Errorf("%q: %q, then %q", s, id, got)
			}
		}
	})
}
