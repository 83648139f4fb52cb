package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/ledger"
)

// call runs the command until it ends, and returns what it has printed.
func call(t *testing.T, ctx context.Context, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = run(ctx, args, f)
	text, failed := os.ReadFile(path)
	if failed != nil {
		t.Fatal(failed)
	}
	return string(text), err
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

type Order struct{ ID string }

func TestOnce(t *testing.T) {
	q := swarm.Must(embedded.Emitter().WithQueue(swarm.Must(embedded.NewQueue("q"))).Build(""))
	defer q.Close()
	if err := emit.NewTyped[Order](q).Enq(t.Context(), Order{}); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ledger", ledger.Handler(map[string]ledger.Source{"orders": q}))
	server := serve(t, mux)
	for _, url := range []string{server.URL + "/ledger", strings.TrimPrefix(server.URL, "http://") + "/ledger"} {
		got, err := call(t, t.Context(), "-once", url)
		want := `KERNEL  EMIT   ACCEPTED  IN FLIGHT  DEAD LETTERS  CONFIRMED  FAILED  DROPPED  UNDELIVERED  RETRIED  REFUSED  OLDEST
orders  Order  1         0          0             1          0       0        0            0        0        0s

KERNEL  REQUEST  CALLS  OPEN  ERRORS  MESSAGES  IN FLIGHT  SUCCEEDED  FAILED  A MESSAGE
orders  send     1      0     0       1         0          1          0       1.00

KERNEL  STATE    SETTLING  UNCONFIRMED  LEDGER
orders  running  0         0            adds up
`
		if err != nil || got != want {
			t.Errorf("%v\n%s\nwant\n%s", err, got, want)
		}
	}
}

// fixed is a source with this ledger.
type fixed swarm.Stats

func (f fixed) Stats() swarm.Stats { return swarm.Stats(f) }

// What does not add up is printed all the same. Names steer nothing, in the error neither.
func TestOnceOfAFault(t *testing.T) {
	bad := fixed{Emit: map[string]swarm.EmitStats{"\x1b[2JA\u202e": {Accepted: 2, Confirmed: 1}}}
	got, err := call(t, t.Context(), "-once", serve(t, ledger.Handler(map[string]ledger.Source{"\x1b]0;x\x07": bad})).URL)
	if err == nil || !strings.Contains(err.Error(), "does not add up: 1 of 2") || !strings.Contains(got, "�[2JA�") {
		t.Errorf("%v\n%s", err, got)
	}
	if strings.ContainsAny(got+err.Error(), "\x1b\x07\u202e") {
		t.Errorf("%q\n%q", err, got)
	}
}

func TestWhoDoesNotAnswer(t *testing.T) {
	away := httptest.NewServer(nil)
	away.Close()
	redirect := serve(t, http.RedirectHandler("ftp://elsewhere/", http.StatusFound))
	for url, want := range map[string]string{
		away.URL: away.URL + " does not answer: dial tcp",
		strings.Replace(away.URL, "://", "://ada:secret@", 1):                                                 away.URL + " does not answer",
		strings.Replace(away.URL, "://", "://secret@", 1) + "?token=secret#secret":                            away.URL + " does not answer",
		serve(t, http.NotFoundHandler()).URL:                                                                  " answers 404 Not Found",
		serve(t, answer("<html>")).URL:                                                                        "answers, but not with a ledger",
		serve(t, answer(`{"cmdline":[]}`)).URL:                                                                "answers, but not with a ledger",
		serve(t, answer(`{"kernels":{}}`)).URL:                                                                "answers, but not with a ledger",
		serve(t, answer(`{"at":"2026-07-01T12:00:00Z","kernels":{"a":{"settling":"many"}}}`)).URL:             "answers, but not with a ledger",
		serve(t, answer(`{"at":"2026-07-01T12:00:00Z","kernels":{"a":{}}}`+strings.Repeat(" ", largest))).URL: "answers with more than 4194304 bytes",
		serve(t, answer(categories(most))).URL:                                                                "answers with 5001 categories",
		serve(t, http.HandlerFunc(drips)).URL:                                                                 "does not answer: ",
		redirect.URL:                                                                                          "unsupported protocol scheme",
	} {
		got, err := call(t, t.Context(), "-once", url)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\x1b") || got != "" {
			t.Errorf("%s: %v, %q", url, err, got)
		}
		if errors.As(err, new(usageError)) {
			t.Errorf("%s: the argument is good: %v", url, err)
		}
	}
}

// categories is a ledger that has many, without names to speak of.
func categories(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"%x":{}`, i)
	}
	return `{"at":"2026-07-01T12:00:00Z","kernels":{"a":{"emit":{` + b.String()[1:] + `}}}}`
}

// drips answers as long as somebody waits.
func drips(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		fmt.Fprint(w, " ")
		w.(http.Flusher).Flush()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
		}
	}
}

func answer(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"a", "b"}, {"-twice", "a"}, {"file:///etc"}, {"http://"}, {"http://ada:secret@a:port"}, {"ada:secret@a:port"}, {"http://ada:secret/x@h"}, {"file://secret@a/?secret"}} {
		if out, err := call(t, t.Context(), args...); !errors.As(err, new(usageError)) || out != "" || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %q", args, err, out)
		}
	}
	if out, err := call(t, t.Context(), "-h"); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out, "-once") {
		t.Errorf("%v, %q", err, out)
	}
}

// The server has a name and a password.
func TestPassword(t *testing.T) {
	h := ledger.Handler(map[string]ledger.Source{"orders": fixed{}})
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "ada" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	}))
	if out, err := call(t, t.Context(), "-once", strings.Replace(server.URL, "://", "://ada:secret@", 1)); err != nil {
		t.Errorf("%v, %s", err, out)
	}
	if _, err := call(t, t.Context(), "-once", server.URL); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") {
		t.Errorf("got %v", err)
	}
}

// The server goes and comes back: the ledger stays, and goes on.
func TestAwayAndBack(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		switch n {
		case 2, 3: // a client asks once more by a new connection
			panic(http.ErrAbortHandler)
		case 5:
			cancel()
			return
		}
		_ = json.NewEncoder(w).Encode(ledger.Snapshot{At: time.Unix(n, 0), Kernels: map[string]ledger.Kernel{
			"orders": {Stats: swarm.Stats{Emit: map[string]swarm.EmitStats{"Order": {Accepted: 10 * n, Confirmed: 10 * n}}}},
		}})
	}))
	out, err := call(t, ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	frames := strings.Split(strings.TrimSpace(out), "\n\n"+server.URL)
	if len(frames) != 3 || strings.Contains(out, "\x1b") {
		t.Fatalf("%d frames: %q", len(frames), out)
	}
	for i, want := range []string{"10 = 10 confirmed", "does not answer", "40 = 40 confirmed"} {
		if !strings.Contains(frames[i], want) {
			t.Errorf("frame %d has no %q:\n%s", i, want, frames[i])
		}
	}
	if !strings.Contains(frames[1], "10 = 10 confirmed") || !strings.Contains(frames[2], "Order          10     10") {
		t.Errorf("got\n%s", out)
	}
}
