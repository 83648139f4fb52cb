// Package maildir is a broker over a plain directory: the worked example of the guide for
// authors of brokers, docs/bring-your-own-broker.md. It needs no server and no dependency,
// passes the conformance suite, and loses nothing when a process is killed.
//
// A message is a file. Its name has the time it was sent, which is the order, its id, and
// how often it was received; its modification time says when it may be received next. To
// receive a message is to put that time off and to rename the file: of several processes
// one succeeds.
package maildir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/driver"
	"github.com/fogfish/swarm/core/kernel"
)

// Visibility is how long a message that was received stays with its receiver by default,
// unless the kernel extends that.
const Visibility = 30 * time.Second

// Emitter builds a kernel that puts messages into a directory.
func Emitter(dir string, opts ...swarm.Option) (*kernel.Emitter, error) {
	d, err := Open(dir)
	if err != nil {
		return nil, err
	}
	return kernel.NewEmitter(d, opts...)
}

// Listener builds a kernel that takes messages out of a directory.
func Listener(dir string, opts ...swarm.Option) (*kernel.Listener, error) {
	d, err := Open(dir)
	if err != nil {
		return nil, err
	}
	return kernel.NewListener(d, opts...)
}

// Maildir is the driver: it translates, and no more. Retry, batching, order of settlements,
// leases and shutdown are the kernel's.
type Maildir struct {
	dir string

	// Visibility of messages; change it before use.
	Visibility time.Duration
}

var (
	_ driver.Sender   = (*Maildir)(nil)
	_ driver.Receiver = (*Maildir)(nil)
	_ driver.Extender = (*Maildir)(nil)
	_ driver.Limiter  = (*Maildir)(nil)
)

// Open makes a driver on a directory, which it makes if need be.
func Open(dir string) (*Maildir, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	return &Maildir{dir, Visibility}, nil
}

// Close has nothing to do.
func (m *Maildir) Close() error { return nil }

// Limits has no limit of the broker: batches of ten, and four calls of a kind at a time, keep
// a disk busy.
func (m *Maildir) Limits() driver.Limits { return driver.Limits{Entries: 10, Requests: 4} }

// header is the first line of a file; the body is the rest.
type header struct {
	Category string            `json:"category,omitempty"`
	Source   string            `json:"source,omitempty"`
	ID       string            `json:"id,omitempty"`
	Attrs    map[string]string `json:"attrs,omitempty"`
}

var serial atomic.Int64

// Send writes each message under a name that receivers do not look at, and renames it: a
// message is there as a whole, or not at all.
func (m *Maildir) Send(_ context.Context, bags []driver.Bag) error {
	var failed []driver.Failure
	for i := range bags {
		if err := m.write(&bags[i]); err != nil {
			failed = append(failed, driver.Failure{Index: i, Err: fmt.Errorf("maildir: %w", err)})
		}
	}
	if len(failed) > 0 {
		return &driver.BatchError{Failed: failed}
	}
	return nil
}

func (m *Maildir) write(bag *driver.Bag) error {
	head, err := json.Marshal(header{bag.Category, bag.Source, bag.ID, bag.Attrs})
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(m.dir, ".tmp-*") // its random part makes the name unique
	if err != nil {
		return err
	}
	_, err = file.Write(slices.Concat(head, []byte("\n"), bag.Body))
	now := time.Now()
	err = errors.Join(err, file.Close(), os.Chtimes(file.Name(), now, now))
	if err == nil {
		unique := strings.TrimPrefix(filepath.Base(file.Name()), ".tmp-")
		err = os.Rename(file.Name(), filepath.Join(m.dir, fmt.Sprintf("%020d-%09d-%s,0", now.UnixNano(), serial.Add(1), unique)))
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// Receive takes the messages whose time has come, the oldest first.
func (m *Maildir) Receive(ctx context.Context, max int) (bags []driver.Bag, err error) {
	entries, err := os.ReadDir(m.dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("maildir: %w", err)
	}
	for _, e := range entries {
		if len(bags) == max || ctx.Err() != nil {
			break
		}
		name, count, ok := strings.Cut(e.Name(), ",")
		attempt, bad := strconv.Atoi(count)
		if !ok || bad != nil || e.IsDir() || strings.HasPrefix(name, ".") {
			continue // no message, or one that is being written
		}
		info, err := e.Info()
		if err != nil || info.ModTime().After(time.Now()) {
			continue // gone, or with another receiver, or not due
		}
		bag, err := m.claim(name, attempt)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another receiver was faster
		}
		if err != nil {
			return bags, fmt.Errorf("maildir: %w", err)
		}
		bags = append(bags, bag)
	}
	return bags, nil
}

// claim takes a message from whoever had it. The time is put off before the rename: behind
// it, another receiver could see the old one.
func (m *Maildir) claim(name string, attempt int) (driver.Bag, error) {
	before, path := m.path(name, attempt), m.path(name, attempt+1)
	lease := time.Now().Add(m.Visibility)
	if err := os.Chtimes(before, lease, lease); err != nil {
		return driver.Bag{}, err
	}
	if err := os.Rename(before, path); err != nil {
		return driver.Bag{}, err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return driver.Bag{}, err
	}
	bag := driver.Bag{Attempt: attempt + 1, Lease: lease, Handle: path, Native: path}
	if sent, err := strconv.ParseInt(strings.Split(name, "-")[0], 10, 64); err == nil {
		bag.SentAt = time.Unix(0, sent)
	}
	first, body, _ := bytes.Cut(content, []byte("\n"))
	var h header
	if err := json.Unmarshal(first, &h); err != nil {
		bag.ID, bag.Err = name, fmt.Errorf("maildir: %s: %w", path, err) // the kernel nacks and reports it
		return bag, nil
	}
	bag.Category, bag.Source, bag.ID, bag.Attrs, bag.Body = h.Category, h.Source, h.ID, h.Attrs, body
	return bag, nil
}

func (m *Maildir) path(name string, attempt int) string {
	return filepath.Join(m.dir, fmt.Sprintf("%s,%d", name, attempt))
}

// Settle removes a file, or says when it may be received again. A file that is not there any
// more is with somebody else, under another name: that failure is permanent.
func (m *Maildir) Settle(_ context.Context, settlements []driver.Settlement) error {
	return each(settlements, func(s driver.Settlement) error {
		path := s.Bag.Handle.(string)
		if s.Outcome == driver.Ack {
			return os.Remove(path)
		}
		again := time.Now()
		if s.Outcome == driver.Nack {
			again = again.Add(s.Delay)
		}
		return os.Chtimes(path, again, again)
	})
}

// Extend puts the time off.
func (m *Maildir) Extend(_ context.Context, bags []*driver.Bag, d time.Duration) error {
	return each(bags, func(bag *driver.Bag) error {
		lease := time.Now().Add(d)
		return os.Chtimes(bag.Handle.(string), lease, lease)
	})
}

// each names the ones that fail.
func each[T any](all []T, do func(T) error) error {
	var failed []driver.Failure
	for i, x := range all {
		if err := do(x); err != nil {
			failed = append(failed, driver.Failure{Index: i, Err: fmt.Errorf("maildir: %w", err), Permanent: errors.Is(err, fs.ErrNotExist)})
		}
	}
	if len(failed) > 0 {
		return &driver.BatchError{Failed: failed}
	}
	return nil
}
