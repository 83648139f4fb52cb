package eventddb

import (
	"bytes"
	"encoding/json"
	"errors"
)

// The driver needs four members of a record, and where it ends; the channel decodes it.
// encoding/json would read all of it twice for that, as often again as by hand.

var errSyntax = errors.New("not JSON")

// object reads the JSON object that b begins with and returns its length. It calls f with
// each key, without its quotes, and with what follows, the value first; f returns the
// length of the value, as far as it has read it, or 0. No more is checked than is needed.
func object(b []byte, f func(key, rest []byte) (int, error)) (int, error) {
	return walk(b, '{', '}', func(b []byte) (int, error) {
		if b[0] != '"' {
			return 0, errSyntax
		}
		n := endOfString(b)
		if n < 0 {
			return 0, errSyntax
		}
		key := b[1 : n-1]
		n += space(b[n:])
		if n >= len(b) || b[n] != ':' {
			return 0, errSyntax
		}
		n++
		n += space(b[n:])
		value, err := f(key, b[n:])
		if value == 0 {
			value = end(b[n:])
		}
		if err == nil && value < 0 {
			err = errSyntax
		}
		return n + value, err
	})
}

// array is the same for the elements of a JSON array.
func array(b []byte, f func(rest []byte) (int, error)) (int, error) {
	return walk(b, '[', ']', f)
}

// walk calls each with what follows an opening bracket or a comma; it says how long that
// was.
func walk(b []byte, open, closed byte, each func([]byte) (int, error)) (int, error) {
	i := space(b)
	if i >= len(b) || b[i] != open {
		return 0, errSyntax
	}
	for first := true; ; first = false {
		i++
		i += space(b[i:])
		if i >= len(b) {
			return 0, errSyntax
		}
		if first && b[i] == closed {
			return i + 1, nil
		}
		n, err := each(b[i:])
		if err != nil {
			return 0, err
		}
		i += n
		i += space(b[i:])
		switch {
		case i >= len(b):
			return 0, errSyntax
		case b[i] == closed:
			return i + 1, nil
		case b[i] != ',':
			return 0, errSyntax
		}
	}
}

// value is the JSON value that b begins with; nil if there is none.
func value(b []byte) []byte {
	n := max(0, end(b))
	return b[:n:n]
}

// space is how many bytes of it b begins with.
func space(b []byte) int {
	for i, c := range b {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return i
		}
	}
	return len(b)
}

// end is the length of the JSON value that b begins with; -1 if there is none.
func end(b []byte) int {
	if len(b) == 0 {
		return -1
	}
	switch b[0] {
	case '"':
		return endOfString(b)
	case '{', '[':
		depth := 0
		for i := 0; i < len(b); i++ {
			switch b[i] {
			case '"':
				n := endOfString(b[i:])
				if n < 0 {
					return -1
				}
				i += n - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
		return -1
	}
	n := bytes.IndexAny(b, ",]} \n\t\r")
	if n < 0 {
		n = len(b)
	}
	if n == 0 {
		return -1
	}
	return n
}

func endOfString(b []byte) int {
	for i := 1; i < len(b); i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
	return -1
}

// text reads the JSON string that b begins with, and its length; "" if it is none.
func text(b []byte) (s string, n int) {
	if n = end(b); n < 0 {
		return "", n
	}
	if b[0] == '"' && bytes.IndexByte(b[:n], '\\') < 0 {
		return string(b[1 : n-1]), n
	}
	_ = json.Unmarshal(b[:n], &s)
	return s, n
}

// heading is what the driver needs of a record.
type heading struct{ id, sequence, created, stream string }

// headingOf reads the record that b begins with, and its length.
func headingOf(b []byte) (h heading, n int, err error) {
	n, err = object(b, func(key, rest []byte) (n int, err error) {
		switch string(key) {
		case "eventID":
			h.id, n = text(rest)
		case "eventSourceARN":
			h.stream, n = text(rest)
		case "dynamodb":
			return object(rest, func(key, rest []byte) (n int, err error) {
				switch string(key) {
				case "SequenceNumber":
					h.sequence, n = text(rest)
				case "ApproximateCreationDateTime":
					h.created = string(value(rest))
				}
				return n, nil
			})
		}
		return n, nil
	})
	return h, n, err
}
