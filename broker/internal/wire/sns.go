package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fogfish/swarm/core/driver"
)

// isNotification knows what SNS writes around a message, to a queue without raw delivery.
func isNotification(m object) bool {
	return m.text("Type") == "Notification" && m.has("MessageId", "Message", "Timestamp") && strings.Contains(m.text("TopicArn"), ":sns:")
}

// openNotification puts what is in the envelope in place of it.
func openNotification(bag *driver.Bag, m object) error {
	switch kind := m.text("Type"); kind {
	case "Notification":
	case "SubscriptionConfirmation", "UnsubscribeConfirmation":
		return errors.New("it is a " + kind)
	default:
		return errors.New("it is no notification")
	}
	var n struct {
		MessageId         string
		Message           *string
		Timestamp         string
		MessageAttributes map[string]struct{ Type, Value string }
	}
	for name, into := range map[string]any{
		"MessageId": &n.MessageId, "Message": &n.Message, "Timestamp": &n.Timestamp, "MessageAttributes": &n.MessageAttributes,
	} {
		if v := m[name]; v != nil {
			if err := json.Unmarshal(v, into); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if n.Message == nil {
		return errors.New("it has no Message")
	}
	attrs := make(map[string]string, len(n.MessageAttributes))
	for name, a := range n.MessageAttributes {
		if IsText(a.Type) {
			attrs[name] = a.Value
		}
	}
	notified(bag, n.MessageId, *n.Message, n.Timestamp, attrs)
	return nil
}

// notified fills a bag with what a topic passes on. The trace of the outer message stays if
// there is no other.
func notified(bag *driver.Bag, id, message, at string, attrs map[string]string) {
	if trace := bag.Attrs[Trace]; trace != "" && attrs[Trace] == "" {
		attrs[Trace] = trace
	}
	if id != "" {
		bag.ID = id
	}
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		bag.SentAt = t
	}
	bag.Body, bag.Attrs = []byte(message), nil
	Read(bag, attrs)
}
