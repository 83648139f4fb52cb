package vars_test

import (
	"crypto/rand"
	"encoding/json"
	"expvar"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/ledger/vars"
)

// The ledger is a variable in /debug/vars.
func ExamplePublish() {
	q := swarm.Must(embedded.Emitter().Build(""))
	defer q.Close()
	_ = vars.Publish("orders", q)
	fmt.Println(vars.Publish("orders", q)) // again

	var k ledger.Kernel
	err := json.Unmarshal([]byte(expvar.Get("orders").String()), &k)
	fmt.Println(k.Requests[swarm.OpSend].Calls, "requests", err)
	// Output:
	// swarm: publish ledger "orders": there is a variable of this name
	// 0 requests <nil>
}

type broken struct{}

func (broken) Stats() swarm.Stats { panic("out of ink") }

func TestPublishNothing(t *testing.T) {
	for name, q := range map[string]ledger.Source{"": broken{}, "absent": nil, "memstats": broken{}} {
		if err := vars.Publish(name, q); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestWhoPanicsHasAFault(t *testing.T) {
	name := rand.Text()
	if err := vars.Publish(name, broken{}); err != nil {
		t.Fatal(err)
	}
	if got := expvar.Get(name).String(); !strings.Contains(got, `"fault":"the source panics: out of ink"`) {
		t.Errorf("got %s", got)
	}
}

func TestOneOfManyIsFirst(t *testing.T) {
	var all sync.WaitGroup
	var published atomic.Int64
	name := rand.Text()
	for range 20 {
		all.Go(func() {
			if vars.Publish(name, broken{}) == nil {
				published.Add(1)
			}
		})
	}
	all.Wait()
	if n := published.Load(); n != 1 {
		t.Errorf("published %d times", n)
	}
}
