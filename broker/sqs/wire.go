package sqs

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/fogfish/swarm/core/driver"
)

// Message attributes, as fogfish/swarm v0.24 writes and reads them; Encoding is new.
const (
	attrCategory = "Category"
	attrSource   = "Source"
	attrEncoding = "Encoding"

	// attrTrace is a system attribute: it costs no size, and X-Ray reads it.
	attrTrace = "AWSTraceHeader"
)

const (
	maxRequest    = 1 << 20 // bytes of a message, and of all messages of a request
	maxAttributes = 10
	maxName       = 256
	maxID         = 128 // of group and deduplication ids
)

var stringType = aws.String("String")

// encode makes the entry of a bag. What SQS does not carry, because it is not XML
// text, goes as base64 and is marked.
func (q *queue) encode(id string, bag *driver.Bag) types.SendMessageBatchRequestEntry {
	plain := printable(bag.Body)
	body := string(bag.Body)
	if !plain {
		body = base64.StdEncoding.EncodeToString(bag.Body)
	}
	e := types.SendMessageBatchRequestEntry{
		Id:                aws.String(id),
		MessageBody:       aws.String(body),
		DelaySeconds:      int32(q.delay / time.Second),
		MessageAttributes: make(map[string]types.MessageAttributeValue, 3+len(bag.Attrs)),
	}
	for name, value := range attributes(bag, plain) {
		e.MessageAttributes[name] = types.MessageAttributeValue{DataType: stringType, StringValue: aws.String(value)}
	}
	if trace := bag.Attrs[attrTrace]; trace != "" {
		e.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{
			attrTrace: {DataType: stringType, StringValue: aws.String(trace)},
		}
	}
	switch {
	case q.fifo:
		e.MessageGroupId = aws.String(token(bag.Group))
		e.MessageDeduplicationId = aws.String(token(cmp.Or(bag.Dedup, bag.ID))) // stable over retries: both are
	case q.fair && bag.Group != "":
		e.MessageGroupId = aws.String(token(bag.Group))
	}
	return e
}

// token makes a group or deduplication id of a key of the user: the key itself where
// SQS takes it (up to 128 letters, digits and punctuation of ASCII), else its hash. Keys
// are compared, never read.
func token(key string) string {
	valid := len(key) <= maxID
	for i := 0; valid && i < len(key); i++ {
		valid = key[i] > ' ' && key[i] < 0x7f
	}
	if valid {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256-" + hex.EncodeToString(sum[:])
}

// attributes yields the message attributes of a bag, whose body is plain or is not.
func attributes(bag *driver.Bag, plain bool) func(yield func(name, value string) bool) {
	return func(yield func(string, string) bool) {
		ok := bag.Category == "" || yield(attrCategory, bag.Category)
		if ok && bag.Source != "" {
			ok = yield(attrSource, bag.Source)
		}
		if ok && !plain {
			ok = yield(attrEncoding, "base64")
		}
		for name, value := range bag.Attrs {
			if !ok {
				return
			}
			if name != attrTrace {
				ok = yield(name, value)
			}
		}
	}
}

// printable reports whether SQS carries the bytes as they are: UTF-8 of the characters
// that XML 1.0 has.
func printable[T string | []byte](b T) bool {
	i := 0
	for i < len(b) && (b[i] >= ' ' && b[i] < utf8.RuneSelf || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	if i == len(b) {
		return true // of ASCII, as most are
	}
	if !utf8.ValidString(string(b)) {
		return false
	}
	for _, r := range string(b) {
		switch {
		case r == '\t', r == '\n', r == '\r', r >= 0x20 && r <= 0xd7ff, r >= 0xe000 && r <= 0xfffd, r >= 0x10000:
		default:
			return false
		}
	}
	return true
}

// size counts as SQS does: body, and name, type and value of each attribute.
func size(bag *driver.Bag) int { return sizeOf(bag, printable(bag.Body)) }

func sizeOf(bag *driver.Bag, plain bool) int {
	n := len(bag.Body)
	if !plain {
		n = base64.StdEncoding.EncodedLen(n)
	}
	for name, value := range attributes(bag, plain) {
		n += len(name) + len("String") + len(value)
	}
	return n
}

// check refuses what SQS would refuse.
func (q *queue) check(bag *driver.Bag) error { return driver.Permanent(q.invalid(bag)) }

func (q *queue) invalid(bag *driver.Bag) error {
	if len(bag.Body) == 0 {
		return errors.New("sqs: body is empty, SQS takes none")
	}
	for _, name := range []string{attrCategory, attrSource, attrEncoding} {
		if _, taken := bag.Attrs[name]; taken {
			return fmt.Errorf("sqs: attribute %s is the driver's own", name)
		}
	}
	if trace, ok := bag.Attrs[attrTrace]; ok && (trace == "" || !printable(trace)) {
		return fmt.Errorf("sqs: %s is empty or has characters that SQS does not carry", attrTrace)
	}
	plain, n := printable(bag.Body), 0
	for name, value := range attributes(bag, plain) {
		n++
		if err := checkAttribute(name, value); err != nil {
			return err
		}
	}
	if n > maxAttributes {
		return fmt.Errorf("sqs: message has %d attributes, SQS takes %d", n, maxAttributes)
	}
	if n := sizeOf(bag, plain); n > q.maxSize {
		return fmt.Errorf("sqs: message has %d bytes with its attributes, queue %s takes %d", n, q.name, q.maxSize)
	}
	if q.fifo && (bag.Group == "" || bag.Dedup+bag.ID == "") {
		return errors.New("sqs: message to a FIFO queue needs a group, and an id or a deduplication key")
	}
	return nil
}

func checkAttribute(name, value string) error {
	lower := strings.ToLower(name)
	valid := name != "" && len(name) <= maxName &&
		!strings.HasPrefix(lower, "aws.") && !strings.HasPrefix(lower, "amazon.") &&
		!strings.HasPrefix(name, ".") && !strings.HasSuffix(name, ".") && !strings.Contains(name, "..")
	for i := 0; valid && i < len(name); i++ {
		c := name[i]
		valid = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
	}
	switch {
	case !valid:
		return fmt.Errorf("sqs: %.80q is not a name for an attribute", name)
	case value == "":
		return fmt.Errorf("sqs: attribute %s is empty, SQS takes none", name)
	case !printable(value):
		return fmt.Errorf("sqs: attribute %s has characters that SQS does not carry", name)
	}
	return nil
}

// lease is the driver's token of a delivery.
type lease struct {
	receipt *string
	since   time.Time // when it began; SQS ends it 12 h later at the latest
}

// decode makes a bag of a message, which may be anybody's: attributes that are
// missing, or of another type, are as if they were not there.
func (q *queue) decode(m *types.Message, since time.Time) driver.Bag {
	bag := driver.Bag{
		ID:      aws.ToString(m.MessageId),
		Body:    []byte(aws.ToString(m.Body)),
		Attempt: number(m.Attributes, types.MessageSystemAttributeNameApproximateReceiveCount),
		Lease:   since.Add(q.visibility),
		Handle:  &lease{receipt: m.ReceiptHandle, since: since},
		Native:  *m,
		Err:     verify(aws.ToString(m.Body), m.MD5OfBody),
	}
	if ms := number(m.Attributes, types.MessageSystemAttributeNameSentTimestamp); ms > 0 {
		bag.SentAt = time.UnixMilli(int64(ms))
	}
	if q.fifo {
		bag.Group = m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]
	}
	bag.Dedup = m.Attributes[string(types.MessageSystemAttributeNameMessageDeduplicationId)]
	attrs := make(map[string]string, len(m.MessageAttributes))
	for name, value := range m.MessageAttributes {
		if kind, _, _ := strings.Cut(aws.ToString(value.DataType), "."); (kind == "String" || kind == "Number") && value.StringValue != nil {
			attrs[name] = *value.StringValue
		}
	}
	bag.Category, bag.Source = attrs[attrCategory], attrs[attrSource]
	encoding := attrs[attrEncoding]
	maps.DeleteFunc(attrs, func(name, _ string) bool {
		return name == attrCategory || name == attrSource || name == attrEncoding
	})
	if trace := m.Attributes[attrTrace]; trace != "" {
		attrs[attrTrace] = trace
	}
	if len(attrs) > 0 {
		bag.Attrs = attrs
	}
	switch encoding {
	case "":
	case "base64":
		body, err := base64.StdEncoding.AppendDecode(nil, bag.Body)
		if err != nil {
			err = fmt.Errorf("sqs: message is not the base64 its attribute says: %w", err)
		}
		bag.Body, bag.Err = body, errors.Join(bag.Err, err)
	default:
		bag.Err = errors.Join(bag.Err, fmt.Errorf("sqs: message has the unknown encoding %.80q", encoding))
	}
	return bag
}

func number(attrs map[string]string, name types.MessageSystemAttributeName) int {
	n, err := strconv.Atoi(attrs[string(name)])
	if err != nil || n < 0 {
		return 0
	}
	return n
}
