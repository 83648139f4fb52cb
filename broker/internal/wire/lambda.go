package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fogfish/swarm/core/driver"
)

// Carry is driver.Limits.Carry of the brokers: the trace of an invocation of Lambda, as
// its runtime client puts it into the context. It has the lineage by which Lambda stops loops of
// functions, too: the SDK adds that by itself only to a function of one invocation at a time,
// and to a request, which may have messages of many.
func Carry(ctx context.Context) map[string]string {
	trace, _ := ctx.Value("x-amzn-trace-id").(string)
	if trace == "" {
		return nil
	}
	return map[string]string{Trace: trace}
}

// Notifications reads what SNS invokes a function with.
func Notifications(payload []byte) ([]driver.Bag, error) {
	raw, err := Records(payload, "SNS")
	if err != nil {
		return nil, err
	}
	bags := make([]driver.Bag, len(raw))
	for i := range raw {
		bags[i].Native = raw[i]
		m, err := members(raw[i])
		if err == nil {
			err = openNotification(&bags[i], m.object("Sns"))
		}
		if err != nil {
			bags[i].Err = fmt.Errorf("not a record of SNS: %w", err)
		}
	}
	return bags, nil
}

// Objects reads what S3 invokes a function with, or EventBridge for an event of S3.
func Objects(payload []byte) ([]driver.Bag, error) {
	m, err := members(payload)
	if err != nil {
		return nil, errors.New("not an event of S3")
	}
	bag := driver.Bag{Body: payload}
	if isEvent(m) {
		ev, err := openEvent(&bag, m)
		if err == nil {
			err = ev.s3(&bag)
		}
		if err != nil {
			return nil, fmt.Errorf("not an event of S3: %w", err)
		}
		bag.Native = bag.Body
		return []driver.Bag{bag}, nil
	}
	bags, err := openRecords(bag, m)
	if err != nil {
		return nil, fmt.Errorf("not an event of S3: %w", err)
	}
	for i := range bags {
		bags[i].Native = bags[i].Body
	}
	return bags, nil
}

// Records is the list of records of an event of Lambda, each not yet read; of whom names
// the source in errors.
func Records(payload []byte, of string) ([]json.RawMessage, error) {
	m, err := members(payload)
	if err != nil || !m.has("Records") {
		return nil, fmt.Errorf("not an event of %s: it has no Records", of)
	}
	var records []json.RawMessage
	if err := json.Unmarshal(m["Records"], &records); err != nil {
		return nil, fmt.Errorf("not an event of %s: its Records are no array", of)
	}
	return records, nil
}
