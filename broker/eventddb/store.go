package eventddb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Lease says who reads a shard, and how far it came.
type Lease struct {
	Shard string
	// Version counts the writes. One that finds another version fails: its writer has
	// lost the shard, or did not know of a request for it.
	Version int64
	// Owner is the instance that reads the shard; empty: nobody. It writes the lease again
	// and again; one that was not written for the time of a lease is anybody's.
	Owner string
	// Heir is the instance that asks the owner to hand over.
	Heir string
	// Sequence is the number of the last record up to which all are settled; empty: none.
	Sequence string
	// At is when that record was written, and before there is one, when reading begins: zero
	// for the oldest record there is.
	At time.Time
	// Done: the shard was closed, and read to its end.
	Done bool
}

// Store keeps the leases of a stream, for all instances of a service. [NewMemory] is for
// one that reads everything again when it starts, [NewFile] for one on one machine,
// [NewTable] for several. It must be safe for concurrent use.
type Store interface {
	// Load returns the leases of a stream.
	Load(ctx context.Context, stream string) ([]Lease, error)

	// Put writes a lease as version l.Version+1 if the stored one has l.Version, 0 if there
	// is none; otherwise it fails with [ErrConflict] and writes nothing.
	Put(ctx context.Context, stream string, l Lease) error

	// Delete removes the lease of a shard that is no more. It does not matter if there is
	// none.
	Delete(ctx context.Context, stream, shard string) error
}

// ErrConflict is the error of a write that somebody else was faster with.
var ErrConflict = errors.New("eventddb: the lease was written by somebody else")

// NewMemory keeps leases in memory.
func NewMemory() Store { return &memory{leases: leases{}} }

// leases by stream and shard.
type leases map[string]map[string]Lease

func (s leases) load(stream string) []Lease {
	list := make([]Lease, 0, len(s[stream]))
	for _, l := range s[stream] {
		list = append(list, l)
	}
	return list
}

func (s leases) put(stream string, l Lease) error {
	if s[stream][l.Shard].Version != l.Version {
		return ErrConflict
	}
	if s[stream] == nil {
		s[stream] = map[string]Lease{}
	}
	l.Version++
	s[stream][l.Shard] = l
	return nil
}

type memory struct {
	mu     sync.Mutex
	leases leases
}

func (m *memory) Load(_ context.Context, stream string) ([]Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leases.load(stream), nil
}

func (m *memory) Put(_ context.Context, stream string, l Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leases.put(stream, l)
}

func (m *memory) Delete(_ context.Context, stream, shard string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.leases[stream], shard)
	return nil
}

// NewFile keeps leases in a file, which it makes: for one process at a time. A crash
// leaves the file as it was, or as it was to become. The folder must exist.
func NewFile(path string) Store { return &file{path: path} }

type file struct {
	path string
	mu   sync.Mutex
}

func (f *file) Load(_ context.Context, stream string) ([]Lease, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, err := f.read()
	return all.load(stream), err
}

func (f *file) Put(_ context.Context, stream string, l Lease) error {
	return f.change(func(all leases) error { return all.put(stream, l) })
}

func (f *file) Delete(_ context.Context, stream, shard string) error {
	return f.change(func(all leases) error {
		delete(all[stream], shard)
		return nil
	})
}

func (f *file) read() (leases, error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return leases{}, nil
	}
	all := leases{}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("eventddb: leases in %s: %w", f.path, err)
	}
	return all, nil
}

// change replaces the file by a new one.
func (f *file) change(edit func(leases) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, err := f.read()
	if err == nil {
		err = edit(all)
	}
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".*")
	if err != nil {
		return err
	}
	_, err = next.Write(b)
	err = errors.Join(err, next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), f.path)
	}
	if err != nil {
		_ = os.Remove(next.Name())
	}
	return err
}

// sorted by their shards, so that instances do the same things in the same order.
func sorted(list []Lease) []Lease {
	slices.SortFunc(list, func(a, b Lease) int { return strings.Compare(a.Shard, b.Shard) })
	return list
}
