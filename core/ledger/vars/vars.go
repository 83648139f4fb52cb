// Package vars publishes the ledgers of kernels as variables of package expvar.
//
// It is a package of its own because expvar adds /debug/vars, with the command line of the
// process, to http.DefaultServeMux of every program that it is linked into. Who may see it: see
// package github.com/fogfish/swarm/core/ledger.
package vars

import (
	"encoding/json"
	"expvar"
	"fmt"
	"sync"

	"github.com/fogfish/swarm/core/ledger"
)

// publishing keeps another Publish from coming in between: expvar has no other way to ask.
var publishing sync.Mutex

// Publish makes the ledger of q a variable: the JSON of a [ledger.Kernel]. Variables stay until
// the end of the process. A name that is empty or taken, or a source that is nil, is an error.
func Publish(name string, q ledger.Source) error {
	publishing.Lock()
	defer publishing.Unlock()
	switch {
	case name == "":
		return fmt.Errorf("swarm: publish a ledger: it has no name")
	case q == nil:
		return fmt.Errorf("swarm: publish ledger %q: the source is nil", name)
	case expvar.Get(name) != nil:
		return fmt.Errorf("swarm: publish ledger %q: there is a variable of this name", name)
	}
	expvar.Publish(name, variable{name, q})
	return nil
}

type variable struct {
	name string
	q    ledger.Source
}

// String is the JSON that expvar wants.
func (v variable) String() string {
	text, _ := json.Marshal(ledger.Take(map[string]ledger.Source{v.name: v.q}).Kernels[v.name]) // counts and text: it does not fail
	return string(text)
}
