package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/fogfish/swarm/core/driver"
)

// Attributes of messages, as fogfish/swarm v0.24 writes and reads them; Encoding is new.
const (
	Category = "Category"
	Source   = "Source"
	Encoding = "Encoding"

	// Trace is the X-Ray header. SQS has a system attribute by this name, others carry it
	// as any attribute.
	Trace = "AWSTraceHeader"
)

const (
	// MaxAttributes of a message: of SQS, and of what SNS passes on to SQS.
	MaxAttributes = 10

	// MaxID is the length of group and deduplication ids.
	MaxID = 128

	maxName = 256
)

// Text is how SQS and SNS carry a message: a body of characters that XML has, and
// attributes. JSON that has others escapes them. Bytes that are no such text go as base64,
// with the attribute Encoding.
type Text struct {
	Broker  string // in front of errors
	Service string // the noun in them
	System  bool   // the trace is not among the attributes
}

// Body of a bag, and whether it goes as it is.
func (Text) Body(bag *driver.Bag) (body string, plain bool) {
	if text, ok := printable(bag); ok {
		return string(text), true
	}
	return base64.StdEncoding.EncodeToString(bag.Body), false
}

// length of the Body.
func length(bag *driver.Bag) (n int, plain bool) {
	if text, ok := printable(bag); ok {
		return len(text), true
	}
	return base64.StdEncoding.EncodedLen(len(bag.Body)), false
}

// printable is the body as text, if it is one: JSON is without the two characters that its
// strings may have, and XML has not.
func printable(bag *driver.Bag) (text []byte, ok bool) {
	if ok = Printable(bag.Body); ok || bag.Binary {
		return bag.Body, ok
	}
	text = []byte(escapes.Replace(string(bag.Body)))
	return text, Printable(text)
}

var escapes = strings.NewReplacer("\ufffe", `\ufffe`, "\uffff", `\uffff`)

// Attributes yields the attributes of a bag, whose body is plain or is not.
func (t Text) Attributes(bag *driver.Bag, plain bool) func(yield func(name, value string) bool) {
	return func(yield func(string, string) bool) {
		ok := bag.Category == "" || yield(Category, bag.Category)
		if ok && bag.Source != "" {
			ok = yield(Source, bag.Source)
		}
		if ok && !plain {
			ok = yield(Encoding, "base64")
		}
		for name, value := range bag.Attrs {
			if !ok {
				return
			}
			if !t.System || name != Trace {
				ok = yield(name, value)
			}
		}
	}
}

// Size counts as the services do: body, and name, type and value of each attribute.
func (t Text) Size(bag *driver.Bag) int {
	n, plain := length(bag)
	return n + t.sizeOfAttributes(bag, plain)
}

func (t Text) sizeOfAttributes(bag *driver.Bag, plain bool) (n int) {
	for name, value := range t.Attributes(bag, plain) {
		n += len(name) + len("String") + len(value)
	}
	return n
}

// Check refuses what the service would refuse. A message has at most maxSize bytes; what
// names the queue or topic that says so.
func (t Text) Check(bag *driver.Bag, maxSize int, what string) error {
	if len(bag.Body) == 0 {
		return fmt.Errorf("%s: body is empty, %s takes none", t.Broker, t.Service)
	}
	for _, name := range []string{Category, Source, Encoding} {
		if _, taken := bag.Attrs[name]; taken {
			return fmt.Errorf("%s: attribute %s is the driver's own", t.Broker, name)
		}
	}
	if trace, ok := bag.Attrs[Trace]; ok && (trace == "" || !Printable(trace)) {
		return fmt.Errorf("%s: %s is empty or has characters that %s does not carry", t.Broker, Trace, t.Service)
	}
	size, plain := length(bag)
	n := 0
	for name, value := range t.Attributes(bag, plain) {
		n++
		if err := t.checkAttribute(name, value); err != nil {
			return err
		}
	}
	if n > MaxAttributes {
		return fmt.Errorf("%s: message has %d attributes, %s takes %d", t.Broker, n, t.Service, MaxAttributes)
	}
	if n := size + t.sizeOfAttributes(bag, plain); n > maxSize {
		return fmt.Errorf("%s: message has %d bytes with its attributes, %s takes %d", t.Broker, n, what, maxSize)
	}
	return nil
}

func (t Text) checkAttribute(name, value string) error {
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
		return fmt.Errorf("%s: %.80q is not a name for an attribute", t.Broker, name)
	case value == "":
		return fmt.Errorf("%s: attribute %s is empty, %s takes none", t.Broker, name, t.Service)
	case !Printable(value):
		return fmt.Errorf("%s: attribute %s has characters that %s does not carry", t.Broker, name, t.Service)
	}
	return nil
}

// CheckOrdered refuses a bag that a FIFO queue or topic cannot place.
func (t Text) CheckOrdered(bag *driver.Bag) error {
	if bag.Group == "" || bag.Dedup == "" && bag.ID == "" {
		return fmt.Errorf("%s: FIFO needs a group, and an id or a deduplication key", t.Broker)
	}
	return nil
}

// Read fills a bag from its attributes, and undoes the encoding of its body. The map
// becomes the bag's.
func Read(bag *driver.Bag, attrs map[string]string) {
	bag.Category, bag.Source = attrs[Category], attrs[Source]
	encoding := attrs[Encoding]
	maps.DeleteFunc(attrs, func(name, _ string) bool {
		return name == Category || name == Source || name == Encoding
	})
	if len(attrs) > 0 {
		bag.Attrs = attrs
	}
	switch encoding {
	case "":
	case "base64":
		body, err := base64.StdEncoding.AppendDecode(nil, bag.Body)
		if err != nil {
			err = fmt.Errorf("message is not the base64 its attribute says: %w", err)
		}
		bag.Body, bag.Err = body, errors.Join(bag.Err, err)
	default:
		bag.Err = errors.Join(bag.Err, errors.New("message has an unknown encoding: its attribute "+Encoding+" is not base64"))
	}
}

// IsText reports whether an attribute of that type has a text: String and Number, also
// of a kind of the sender's own.
func IsText(dataType string) bool {
	kind, _, _ := strings.Cut(dataType, ".")
	return kind == "String" && dataType != "String.Array" || kind == "Number"
}

// Printable reports whether the bytes can go as they are: UTF-8 of the characters that
// XML 1.0 has.
func Printable[T string | []byte](b T) bool {
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

// Token makes a group or deduplication id of a key of the user: the key itself where AWS
// takes it (up to 128 letters, digits and punctuation of ASCII), else its hash. Keys are
// compared, never read.
func Token(key string) string {
	valid := len(key) <= MaxID
	for i := 0; valid && i < len(key); i++ {
		valid = key[i] > ' ' && key[i] < 0x7f
	}
	if valid {
		return key
	}
	sum := sha256.Sum256([]byte(key))
	return "sha256-" + hex.EncodeToString(sum[:])
}
