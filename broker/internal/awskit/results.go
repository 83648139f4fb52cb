package awskit

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/fogfish/swarm/core/driver"
)

// MaxEntries is how many entries a batch request has, of every service.
const MaxEntries = 10

// Index is the id of an entry: its position.
func Index(i int) *string { return &indices[i] }

var indices = func() (ids [MaxEntries]string) {
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	return ids
}()

// Results gathers what became of the entries of a batch. What the service does not
// mention has failed.
type Results struct {
	// Who is in front of the errors of entries: the broker and its queue, topic or bus.
	Who string

	done     []bool
	failures []driver.Failure
}

// NewResults is for a batch of n.
func NewResults(n int) *Results { return &Results{done: make([]bool, n)} }

// Part is for a request that has some entries of the batch.
func (r *Results) Part() *Results {
	part := NewResults(len(r.done))
	part.Who = r.Who
	return part
}

// Position reads the id of an entry; -1 when it is none of the batch.
func (r *Results) Position(id *string) int {
	i, err := strconv.Atoi(aws.ToString(id))
	if err != nil || i < 0 || i >= len(r.done) {
		return -1
	}
	return i
}

// Succeed notes that an entry has. A position of -1 is none.
func (r *Results) Succeed(i int) {
	if i >= 0 {
		r.done[i] = true
	}
}

// Fail notes that an entry has failed. The first word about an entry counts.
func (r *Results) Fail(i int, err error, permanent bool) {
	if i >= 0 && !r.done[i] {
		r.done[i] = true
		r.failures = append(r.failures, driver.Failure{Index: i, Err: err, Permanent: permanent})
	}
}

// Refuse notes the answer of the service to an entry. It says whose fault it is, except
// that it blames the sender for its own throttling.
func (r *Results) Refuse(id, code, message *string, sender bool) {
	r.Fail(r.Position(id), r.by(Entry(code, message, sender)), sender && !Throttled(aws.ToString(code)))
}

func (r *Results) by(err error) error {
	if r.Who == "" {
		return err
	}
	return fmt.Errorf("%s: %w", r.Who, err)
}

// Take takes over what part knows of entry i, which was in a request of its own; err is
// what became of that request.
func (r *Results) Take(part *Results, i int, err error) {
	switch {
	case i < 0:
	case err != nil:
		r.Fail(i, err, driver.IsPermanent(err))
	case part.done[i]:
		for _, f := range part.failures {
			if f.Index == i {
				r.Fail(i, f.Err, f.Permanent)
				return
			}
		}
		r.Succeed(i)
	}
}

// Same says that entry i shares the fate of another one of the batch.
func (r *Results) Same(i, as int) {
	for _, f := range r.failures {
		if f.Index == as {
			r.Fail(i, f.Err, f.Permanent)
			return
		}
	}
	r.done[i] = r.done[as]
}

// Succeeded reports that an entry has.
func (r *Results) Succeeded(i int) bool {
	for _, f := range r.failures {
		if f.Index == i {
			return false
		}
	}
	return r.done[i]
}

var errSilent = errors.New("the service does not mention the entry")

// Err is the answer of the driver.
func (r *Results) Err() error {
	for i, done := range r.done {
		if !done {
			r.failures = append(r.failures, driver.Failure{Index: i, Err: r.by(errSilent)})
		}
	}
	if len(r.failures) == 0 {
		return nil
	}
	return &driver.BatchError{Failed: r.failures}
}
