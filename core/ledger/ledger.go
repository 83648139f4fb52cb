// Package ledger shows the ledgers of the kernels of a process: a page to people, JSON to
// programs.
//
//	http.Handle("/ledger", ledger.Handler(map[string]ledger.Source{"orders": q}))
//
// Package github.com/fogfish/swarm/core/ledger/top shows the same in a terminal, and package
// github.com/fogfish/swarm/core/ledger/vars in /debug/vars.
//
// # Who may see it
//
// Whoever reaches the handler sees the names of kernels and of categories, and counts. There is
// no authentication in it, and it is not for the open internet: serve it on a loopback or an
// internal address, or behind what authenticates. Bodies, identifiers and attributes of messages
// are not in a ledger.
package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	swarm "github.com/fogfish/swarm/core"
)

// Source is what has a ledger: each kernel does. Stats is called by several goroutines at once
// and does not block.
//
// A source may also have the method Done of kernels. When that channel is closed the ledger
// says so: see [Kernel].
type Source interface {
	Stats() swarm.Stats
}

// Snapshot is the ledgers of several kernels at one moment, and the JSON that [Handler] answers.
type Snapshot struct {
	At      time.Time         `json:"at"`
	Kernels map[string]Kernel `json:"kernels"`
}

// Kernel is the ledger of one kernel. In JSON the fields of Stats are beside the others.
type Kernel struct {
	swarm.Stats

	// Closing: it accepts no values any more. If nothing is open it has ended.
	Closing bool `json:"closing,omitempty"`

	// Fault is why the ledger cannot be relied on, one reason a line: it does not add up, or
	// the source had no answer.
	Fault string `json:"fault,omitempty"`
}

// Take asks all sources. It does not fail: the fault of a source that is nil, or that panics,
// says so, and what it has panicked with.
func Take(sources map[string]Source) Snapshot {
	s := Snapshot{At: time.Now().UTC(), Kernels: make(map[string]Kernel, len(sources))}
	for name, q := range sources {
		s.Kernels[name] = take(q)
	}
	return s
}

// Check returns an error with the fault of each kernel that has one.
func (s Snapshot) Check() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Kernels)) {
		if fault := s.Kernels[name].Fault; fault != "" {
			errs = append(errs, fmt.Errorf("kernel %q: %s", name, fault))
		}
	}
	return errors.Join(errs...)
}

func take(q Source) (k Kernel) {
	if q == nil {
		return Kernel{Fault: "the source is nil"}
	}
	defer func() {
		if v := recover(); v != nil {
			k = Kernel{Fault: fmt.Sprintf("the source panics: %v", v)}
		}
	}()
	// Before its counts: what is closing and has nothing open stays so.
	if q, ok := q.(interface{ Done() <-chan struct{} }); ok {
		select {
		case <-q.Done():
			k.Closing = true
		default:
		}
	}
	k.Stats = q.Stats()
	k.Fault = faultOf(k.Stats)
	return k
}

// faultOf has its lines in order, so that a fault that stays does not change.
func faultOf(s swarm.Stats) string {
	err := s.Check()
	if err == nil {
		return ""
	}
	return strings.Join(slices.Sorted(strings.SplitSeq(err.Error(), "\n")), "\n")
}
