package ledger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/ledger"
)

type Order struct{ ID string }

// A browser gets a page, a program gets JSON.
func ExampleHandler() {
	q := swarm.Must(embedded.Emitter().Build(""))
	_ = emit.NewTyped[Order](q).Enq(context.Background(), Order{ID: "A"})

	mux := http.NewServeMux()
	mux.Handle("/ledger", ledger.Handler(map[string]ledger.Source{"orders": q}))
	server := httptest.NewServer(mux) // http.ListenAndServe("127.0.0.1:8080", mux)
	defer server.Close()

	answer := swarm.Must(http.Get(server.URL + "/ledger"))
	defer answer.Body.Close()
	var s ledger.Snapshot
	_ = json.Unmarshal(swarm.Must(io.ReadAll(answer.Body)), &s)
	fmt.Println(answer.Header.Get("Content-Type"))
	fmt.Println(s.Kernels["orders"].Emit["Order"].Confirmed, "confirmed, adds up", s.Check() == nil)
	// Output:
	// application/json
	// 1 confirmed, adds up true
}

// A program can look at its own ledger.
func ExampleTake() {
	queue := swarm.Must(embedded.NewQueue("orders"))
	q := swarm.Must(embedded.Emitter().WithQueue(queue).Build(""))
	sources := map[string]ledger.Source{"orders": q}
	_ = emit.NewTyped[Order](q).Enq(context.Background(), Order{ID: "A"})

	s := ledger.Take(sources)
	fmt.Println("accepted", s.Kernels["orders"].Emit["Order"].Accepted, "closing", s.Kernels["orders"].Closing)

	_ = q.Close()
	fmt.Println("closing", ledger.Take(sources).Kernels["orders"].Closing)
	// Output:
	// accepted 1 closing false
	// closing true
}

type broken struct{}

func (broken) Stats() swarm.Stats { panic("out of ink") }

// What cannot be relied on has a fault, and does not keep the others from being shown.
func ExampleSnapshot_Check() {
	q := swarm.Must(embedded.Emitter().Build(""))
	defer q.Close()
	s := ledger.Take(map[string]ledger.Source{"good": q, "broken": broken{}, "absent": nil})
	fmt.Println(s.Check())
	// Output:
	// kernel "absent": the source is nil
	// kernel "broken": the source panics: out of ink
}
