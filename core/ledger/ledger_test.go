package ledger_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/embedded"
	"github.com/fogfish/swarm/core/emit"
	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/listen"
)

// fixed is a source with this ledger.
type fixed swarm.Stats

func (f fixed) Stats() swarm.Stats { return swarm.Stats(f) }

// ask a handler.
func ask(h http.Handler, method, accept string) *http.Response {
	r := httptest.NewRequest(method, "/any/path", nil)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWhoGetsWhat(t *testing.T) {
	const page, data = "text/html; charset=utf-8", "application/json"
	for accept, want := range map[string]string{
		"":    data,
		"*/*": data,
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8": page, // of browsers
		"TEXT/HTML":                              page,
		"text/html;q=0":                          data,
		"text/html;level=1;q=0.5":                page,
		"text/html;q=nonsense":                   data,
		"application/json":                       data,
		"application/json, text/html":            data,
		"application/json;q=0.5, text/html":      page,
		"application/json;q=0.9,text/html;q=0.8": data,
		"image/svg+xml,image/*;q=0.8":            data,
		"text/htmlx":                             data,
	} {
		r := ask(ledger.Handler(nil), http.MethodGet, accept)
		if got := r.Header.Get("Content-Type"); r.StatusCode != http.StatusOK || got != want {
			t.Errorf("%q: %d, %s", accept, r.StatusCode, got)
		}
		if r.Header.Get("Vary") != "Accept" || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%q: %v", accept, r.Header)
		}
	}
}

func TestItIsToBeRead(t *testing.T) {
	server := httptest.NewServer(ledger.Handler(map[string]ledger.Source{"a": fixed{}}))
	defer server.Close()
	for method, want := range map[string]int{
		http.MethodGet: 200, http.MethodHead: 200, http.MethodPost: 405, http.MethodPut: 405, http.MethodDelete: 405,
		http.MethodOptions: 405, "PROPFIND": 405,
	} {
		req, err := http.NewRequest(method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text := body(t, r)
		r.Body.Close()
		if r.StatusCode != want || r.Header.Get("Cache-Control") != "no-store" || (want == 405) != (r.Header.Get("Allow") == "GET, HEAD") ||
			(method == http.MethodHead) != (text == "") {
			t.Errorf("%s: %d %v %q", method, r.StatusCode, r.Header, text)
		}
	}
}

func TestJSON(t *testing.T) {
	stats := swarm.Stats{
		Emit:     map[string]swarm.EmitStats{"__proto__": {Accepted: 3, Confirmed: 2, InFlight: 1, Oldest: time.Second}},
		Requests: map[swarm.Operation]swarm.RequestStats{swarm.OpSend: {Calls: 1, Entries: 3, Succeeded: 3}},
		Settling: 4,
	}
	before := time.Now().Add(-time.Second)
	text := body(t, ask(ledger.Handler(map[string]ledger.Source{"<b>": fixed(stats)}), http.MethodGet, ""))
	var s ledger.Snapshot
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	if k := s.Kernels["<b>"]; k.Emit["__proto__"] != stats.Emit["__proto__"] || k.Requests[swarm.OpSend].Calls != 1 || k.Fault != "" || k.Closing || s.At.Before(before) {
		t.Errorf("got %+v", s)
	}
	if want := `"kernels":{"\u003cb\u003e":{"emit":{"__proto__":{"accepted":3,"inFlight":1,`; !strings.Contains(text, want) || !strings.HasPrefix(text, `{"at":"`) {
		t.Errorf("got %s", text)
	}
}

func TestWhatDoesNotAddUp(t *testing.T) {
	bad := fixed{
		Emit:   map[string]swarm.EmitStats{"A": {Accepted: 2, Confirmed: 1}, "B": {Accepted: 1}, "C": {}},
		Listen: map[string]swarm.ListenStats{"A": {Received: 1}},
	}
	want := "swarm: emit \"A\" does not add up: 1 of 2\nswarm: emit \"B\" does not add up: 0 of 1\nswarm: listen \"A\" does not add up: 0 of 1"
	for range 20 {
		s := ledger.Take(map[string]ledger.Source{"bad": bad, "good": fixed{}})
		if got := s.Kernels["bad"].Fault; got != want {
			t.Fatalf("got %s", got)
		}
		if err := s.Check(); err == nil || err.Error() != `kernel "bad": `+want {
			t.Fatalf("got %v", err)
		}
	}
}

// The map is of the handler once it has it.
func TestSourcesAreCopied(t *testing.T) {
	sources := map[string]ledger.Source{"a": fixed{}}
	h := ledger.Handler(sources)
	delete(sources, "a")
	if text := body(t, ask(h, http.MethodGet, "")); !strings.Contains(text, `"a":{`) {
		t.Errorf("got %s", text)
	}
}

func TestThePageIsOneFile(t *testing.T) {
	r := ask(ledger.Handler(nil), http.MethodGet, "text/html")
	policy := r.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("no %s in %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") || strings.Contains(policy, "*") {
		t.Errorf("got %s", policy)
	}
	text := body(t, r)
	for pattern, why := range map[string]string{
		`(src|href)="[^d#]`:     "it loads something",
		`\burl\(`:               "its style loads something",
		`@import`:               "its style loads something",
		` style=`:               "its policy forbids this",
		` on[a-z]+=`:            "its policy forbids this",
		`(inner|outer)HTML`:     "text would become elements",
		`insertAdjacent`:        "text would become elements",
		`document\.write|eval`:  "text would become a script",
		`<style></style>`:       "there is no style in it",
		`<script></script>`:     "there is no script in it",
		`https?://[^w]`:         "it knows an address",
		`\.cookie|localStorage`: "it keeps something",
	} {
		if found := regexp.MustCompile(pattern).FindString(text); found != "" {
			t.Errorf("%q: %s", found, why)
		}
	}
}

// Text on each ground has a contrast of 4.5, what is drawn one of 3, light and dark.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("page/style.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]float64{} // luminance
	for _, m := range regexp.MustCompile(`--([a-z]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);`).FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]float64{luminance(m[2]), luminance(m[3])}
	}
	check := func(least float64, names, grounds string) {
		for name := range strings.FieldsSeq(names) {
			for ground := range strings.FieldsSeq(grounds) {
				for i, theme := range []string{"light", "dark"} {
					a, b := colours[name][i], colours[ground][i]
					if c := (max(a, b) + .05) / (min(a, b) + .05); c < least {
						t.Errorf("%s: %s on %s has a contrast of %.2f", theme, name, ground, c)
					}
				}
			}
		}
	}
	check(4.5, "ink dim", "surface ground alarm track")
	check(4.5, "accent bad warn good", "surface ground")
	check(4.5, "bad", "alarm")
	check(3, "done flow wait fail dead drop late deny back", "surface")
	check(3, "done flow fail dead", "alarm")
}

// luminance of a colour, by WCAG.
func luminance(hex string) (l float64) {
	for i, weight := range []float64{.2126, .7152, .0722} {
		n, _ := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		c := float64(n) / 255
		if c <= .04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}

// Who looks does not disturb, and sees what adds up.
func TestHandlerUnderLoad(t *testing.T) {
	const values, senders, lookers = 3000, 4, 4
	q := swarm.Must(embedded.Endpoint().WithKernel(swarm.WithLogger(slog.New(slog.DiscardHandler)), swarm.WithPollerPool(2)).Build(""))
	h := ledger.Handler(map[string]ledger.Source{"q": q})
	deq, ack := listen.Typed[Order](q)
	orders := emit.NewTyped[Order](q)
	ended := make(chan error)
	go func() { ended <- q.Run(context.Background()) }()

	stop := make(chan struct{})
	var looking, sending sync.WaitGroup
	looks := make([]int, lookers)
	for i := range lookers {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var s ledger.Snapshot
				if err := json.NewDecoder(ask(h, http.MethodGet, "").Body).Decode(&s); err != nil {
					t.Error(err)
				}
				if err := s.Check(); err != nil {
					t.Error(err)
				}
				looks[i]++
			}
		})
	}
	for range senders {
		sending.Go(func() {
			for range values / senders {
				if err := orders.Enq(context.Background(), Order{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range values {
		ack <- <-deq
	}
	sending.Wait()
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	close(stop)
	looking.Wait()
	k := ledger.Take(map[string]ledger.Source{"q": q}).Kernels["q"]
	if k.Listen["Order"].Acked != values || k.Emit["Order"].Confirmed != values || !k.Closing || k.Fault != "" {
		t.Errorf("got %+v", k)
	}
	for i, n := range looks {
		if n == 0 {
			t.Errorf("looker %d saw nothing", i)
		}
	}
}
