package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fogfish/swarm/core/driver"
)

// Envelope is what a service puts around a message that it passes on to a queue.
type Envelope uint8

// The envelopes, from the outermost that there is to the innermost.
const (
	SNS Envelope = iota + 1
	EventBridge
	S3
)

// String returns the name of the service.
func (e Envelope) String() string {
	switch e {
	case SNS:
		return "SNS"
	case EventBridge:
		return "EventBridge"
	case S3:
		return "S3"
	}
	return fmt.Sprintf("envelope(%d)", uint8(e))
}

// CheckEnvelopes refuses envelopes that no service nests: SNS may be around EventBridge,
// each of them around S3, none around itself.
func CheckEnvelopes(layers []Envelope) error {
	last := Envelope(0)
	for _, e := range layers {
		switch {
		case e < SNS || e > S3:
			return fmt.Errorf("%s is unknown", e)
		case e <= last:
			return fmt.Errorf("no service puts %s into %s", e, last)
		}
		last = e
	}
	return nil
}

// Unwrap opens the envelopes around a message, the outermost first: one bag for each
// message in it, each with the handle, the lease and the native record of the outer one.
// It never guesses. A message that is not in these envelopes has [driver.Bag].Err.
func Unwrap(bag driver.Bag, layers []Envelope) []driver.Bag {
	if bag.Err != nil {
		return []driver.Bag{bag}
	}
	var ev *event
	for _, layer := range layers {
		m, err := members(bag.Body)
		switch {
		case layer == S3 && ev != nil:
			if err = ev.s3(&bag); err == nil {
				return []driver.Bag{bag}
			}
		case err != nil:
		case layer == SNS:
			err = openNotification(&bag, m)
		case layer == EventBridge:
			ev, err = openEvent(&bag, m)
		default:
			var bags []driver.Bag
			if bags, err = openRecords(bag, m); err == nil {
				return bags
			}
		}
		if err == nil {
			err = bag.Err // the message inside is broken
		}
		if err != nil {
			bag.Err = fmt.Errorf("not the envelope of %s that it should be: %w", layer, err)
			break
		}
	}
	return []driver.Bag{bag}
}

// Detect opens the envelopes that a message is seen to have. One with a category is none:
// it is a message of swarm, whatever its body looks like. A body counts as an envelope when
// it has all members that the service always writes, in their exact spelling. What is not
// an envelope comes back as it is.
func Detect(bag driver.Bag) []driver.Bag {
	for depth := Envelope(0); bag.Err == nil && bag.Category == ""; {
		m, err := members(bag.Body)
		if err != nil {
			break
		}
		switch {
		case depth < SNS && isNotification(m):
			depth = SNS
			if err := openNotification(&bag, m); err != nil {
				bag.Err = err
			}
		case depth < EventBridge && isEvent(m):
			ev, err := openEvent(&bag, m)
			if err == nil && ev.isS3() {
				err = ev.s3(&bag)
			}
			if err != nil {
				bag.Err = err
			}
			return []driver.Bag{bag}
		case isRecords(m):
			bags, err := openRecords(bag, m)
			if err != nil {
				bag.Err = err
				break
			}
			return bags
		default:
			return []driver.Bag{bag}
		}
	}
	return []driver.Bag{bag}
}

// object is a JSON object, its members not yet read.
type object map[string]json.RawMessage

var errNoObject = errors.New("the message is not a JSON object")

func members(body []byte) (m object, err error) {
	if body = bytes.TrimSpace(body); len(body) == 0 || body[0] != '{' || json.Unmarshal(body, &m) != nil {
		return nil, errNoObject
	}
	return m, nil
}

func (m object) has(names ...string) bool {
	for _, name := range names {
		if v := m[name]; v == nil || v[0] == 'n' { // null
			return false
		}
	}
	return true
}

// text of a member; "" if it is something else.
func (m object) text(name string) (s string) {
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// object of a member; nil if it is something else.
func (m object) object(name string) (o object) {
	if json.Unmarshal(m[name], &o) != nil {
		return nil
	}
	return o
}
