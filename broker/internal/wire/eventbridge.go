package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fogfish/swarm/core/codec"
	"github.com/fogfish/swarm/core/driver"
)

// event is what EventBridge writes around the detail of an event.
type event struct {
	ID        string          `json:"id"`
	Type      string          `json:"detail-type"`
	Source    string          `json:"source"`
	Time      string          `json:"time"`
	Region    string          `json:"region"`
	Resources []string        `json:"resources"`
	Detail    json.RawMessage `json:"detail"`
}

func isEvent(m object) bool {
	return m.has("version", "id", "detail-type", "source", "account", "time", "region", "resources") &&
		m.text("detail-type") != "" && m.object("detail") != nil
}

// openEvent puts the detail in place of the event. The category is its detail-type.
func openEvent(bag *driver.Bag, m object) (*event, error) {
	ev := &event{Type: m.text("detail-type"), Source: m.text("source"), ID: m.text("id"), Time: m.text("time"), Region: m.text("region"), Detail: m["detail"]}
	_ = json.Unmarshal(m["resources"], &ev.Resources)
	switch {
	case ev.Type == "":
		return nil, errors.New("it has no detail-type")
	case !m.has("detail"):
		return nil, errors.New("it has no detail")
	}
	ev.fill(bag)
	return ev, nil
}

func (ev *event) fill(bag *driver.Bag) {
	bag.Category, bag.Source, bag.Body = ev.Type, ev.Source, ev.Detail
	bag.Binary = codec.IsPacked(ev.Detail)
	if ev.ID != "" {
		bag.ID = ev.ID
	}
	if t, err := time.Parse(time.RFC3339, ev.Time); err == nil {
		bag.SentAt = t
	}
}

// Events reads what EventBridge invokes a function with: an event, or an array of them.
func Events(payload []byte) ([]driver.Bag, error) {
	list := []json.RawMessage{payload}
	if m, err := members(payload); err != nil {
		if json.Unmarshal(payload, &list) != nil || list == nil {
			return nil, errors.New("neither an event of EventBridge nor an array of them")
		}
	} else if !m.has("detail-type", "detail") {
		return nil, errors.New("not an event of EventBridge: it has no detail-type and detail")
	}
	bags := make([]driver.Bag, len(list))
	for i, raw := range list {
		bag := &bags[i]
		m, err := members(raw)
		if err == nil {
			_, err = openEvent(bag, m)
		}
		if err != nil {
			bag.Err = fmt.Errorf("not an event of EventBridge: %w", err)
		}
		bag.Native = raw
	}
	return bags, nil
}
