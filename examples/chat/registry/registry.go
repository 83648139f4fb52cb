// Package registry keeps who is in which room: in memory, for one process, or in a table of
// DynamoDB, for all instances of a function.
package registry

import (
	"context"
	"slices"
	"sync"

	"github.com/fogfish/swarm/broker/websocket"
)

// Registry is one of package websocket that also answers the other way round.
type Registry interface {
	websocket.Registry

	// Topics that a connection is in. None: it is not known.
	Topics(ctx context.Context, connection string) ([]string, error)
}

// Memory is a Registry of one process.
type Memory struct {
	*websocket.Memory
	mu     sync.Mutex
	topics map[string][]string // by connection
}

// NewMemory makes an empty one.
func NewMemory() *Memory {
	return &Memory{Memory: websocket.NewMemory(), topics: map[string][]string{}}
}

// Set implements [Registry].
func (r *Memory) Set(ctx context.Context, m websocket.Member, topics ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.topics, m.Connection)
	if len(topics) > 0 {
		r.topics[m.Connection] = unique(topics)
	}
	return r.Memory.Set(ctx, m, topics...)
}

// Topics implements [Registry].
func (r *Memory) Topics(_ context.Context, connection string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.topics[connection]), nil
}

func unique(topics []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(topics)))
}
