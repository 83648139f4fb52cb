package eventbridge

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"

	"github.com/fogfish/swarm/broker/internal/awskit"
	"github.com/fogfish/swarm/broker/internal/wire"
	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
)

// Limits of EventBridge.
const (
	maxRequest  = 1<<20 - 1 // bytes of all events of a request: below 1 MiB
	maxSource   = 256       // characters
	maxCategory = 128       // characters
	maxTrace    = 500       // characters
	maxDepth    = 1000      // of JSON
)

// bus is the driver: one bus, one client.
type bus struct {
	client    EventBridge
	name      string // or ARN
	resources []string
	batch     int
	maxSize   int
}

var (
	_ driver.Sender  = (*bus)(nil)
	_ driver.Limiter = (*bus)(nil)
)

// String is in front of errors.
func (b *bus) String() string { return "eventbridge: bus " + b.name }

// Limits of EventBridge.
func (b *bus) Limits() driver.Limits {
	return driver.Limits{Entries: b.batch, Bytes: b.maxSize, Requests: awskit.MaxRequests, Size: b.size, Check: b.check, Carry: wire.Carry, Attrs: []string{wire.Trace}}
}

// once: the kernel's retry is the retry. It knows each entry, the deadline of Close, and
// what is permanent; the SDK would repeat whole requests below it.
func once(o *eventbridge.Options) { o.Retryer = aws.NopRetryer{} }

// Send is PutEvents.
func (b *bus) Send(ctx context.Context, bags []driver.Bag) error {
	entries := make([]types.PutEventsRequestEntry, len(bags))
	for i := range bags {
		entries[i] = b.encode(&bags[i])
	}
	out, err := awskit.Answered(b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: entries}, once))
	if err != nil {
		return b.classify("put events", err)
	}
	r := awskit.NewResults(len(bags))
	r.Who = b.String()
	for i, x := range out.Entries[:min(len(bags), len(out.Entries))] { // answers are in order
		switch {
		case x.ErrorCode != nil:
			r.Refuse(awskit.Index(i), x.ErrorCode, x.ErrorMessage, isPermanent(*x.ErrorCode))
		case x.EventId != nil:
			r.Succeed(i)
		}
	}
	return r.Err()
}

// encode makes the entry of a bag.
func (b *bus) encode(bag *driver.Bag) types.PutEventsRequestEntry {
	body := bag.Body
	if bag.Binary {
		body = codec.Pack(body)
	}
	e := types.PutEventsRequestEntry{
		EventBusName: &b.name,
		Source:       aws.String(bag.Source),
		DetailType:   aws.String(bag.Category),
		Detail:       aws.String(string(body)),
		Resources:    b.resources,
	}
	if !bag.SentAt.IsZero() {
		e.Time = aws.Time(bag.SentAt)
	}
	if trace, ok := bag.Attrs[wire.Trace]; ok {
		e.TraceHeader = &trace
	}
	return e
}

// size counts as EventBridge does: 14 bytes for the time, and texts in UTF-8.
func (b *bus) size(bag *driver.Bag) int {
	n := 14 + len(bag.Source) + len(bag.Category) + len(bag.Body)
	if bag.Binary {
		n += base64.StdEncoding.EncodedLen(len(bag.Body)) - len(bag.Body) + len(`{"p":""}`)
	}
	for _, r := range b.resources {
		n += len(r)
	}
	return n
}

// check refuses what EventBridge would refuse, also where one bad entry fails the others
// of its request.
func (b *bus) check(bag *driver.Bag) error { return driver.Permanent(b.refusal(bag)) }

func (b *bus) refusal(bag *driver.Bag) error {
	if err := checkSource(bag.Source); err != nil {
		return err
	}
	if bag.Category == "" || utf8.RuneCountInString(bag.Category) > maxCategory || !utf8.ValidString(bag.Category) {
		return fmt.Errorf("eventbridge: category %.200q: the detail-type has from 1 to %d characters", bag.Category, maxCategory)
	}
	for name, value := range bag.Attrs {
		if name != wire.Trace {
			return fmt.Errorf("eventbridge: attribute %.80q: events have no attributes but %s", name, wire.Trace)
		}
		if value == "" || utf8.RuneCountInString(value) > maxTrace || !utf8.ValidString(value) {
			return fmt.Errorf("eventbridge: %s has from 1 to %d characters", name, maxTrace)
		}
	}
	if n := b.size(bag); n > b.maxSize {
		return fmt.Errorf("eventbridge: event has %d bytes with its source, category and resources, %d are the most", n, b.maxSize)
	}
	if bag.Binary {
		return nil
	}
	return checkDetail(bag.Body)
}

func checkSource(s string) error {
	switch {
	case s == "":
		return errors.New("eventbridge: the source is empty, which EventBridge refuses")
	case strings.HasPrefix(s, "aws."):
		return fmt.Errorf("eventbridge: source %.80q begins with aws. as only sources of AWS do", s)
	case utf8.RuneCountInString(s) > maxSource || !utf8.ValidString(s):
		return fmt.Errorf("eventbridge: source %.80q has more than %d characters, or is not UTF-8", s, maxSource)
	}
	return nil
}

// checkDetail refuses what is not a JSON object that EventBridge takes.
func checkDetail(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("eventbridge: the body is not UTF-8")
	}
	depth := 0
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '"':
			for i++; i < len(body) && body[i] != '"'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("eventbridge: the body is nested more than %d levels deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		case c == '-' || c >= '0' && c <= '9':
			from := i
			for i+1 < len(body) && strings.IndexByte("+-.0123456789Ee", body[i+1]) >= 0 {
				i++
			}
			number := string(body[from : i+1])
			if _, err := strconv.ParseInt(number, 10, 64); errors.Is(err, strconv.ErrRange) {
				return fmt.Errorf("eventbridge: the body has the integer %.40s, which 64 bits do not hold", number)
			}
		}
	}
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) || !json.Valid(body) {
		return errors.New("eventbridge: the body is not a JSON object")
	}
	return nil
}

// Close has nothing to do: the client is its maker's.
func (b *bus) Close() error { return nil }
