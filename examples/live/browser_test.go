package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/examples/internal/browser/tab"
)

// page of a browser of its own.
type page struct{ *tab.Tab }

func open(t *testing.T, url string) page {
	t.Helper()
	p := page{tab.Open(t, tab.Browser(t))}
	p.look("light", 1280, 1000)
	p.Do(chromedp.Navigate(url))
	return p
}

// look at the page in a theme and a size.
func (p page) look(theme string, width, height int) {
	p.Helper()
	p.Theme(theme)
	scale := 1.25
	if width < 600 {
		scale = 2
	}
	p.Do(chromedp.EmulateViewport(int64(width), int64(height), chromedp.EmulateScale(scale)))
}

// screenshot of the top of the page, as far as the first kernel goes and no higher than a
// window is.
func (p page) screenshot(name, theme string, width, most int) []byte {
	p.Helper()
	p.look(theme, width, most)
	p.Wait(fmt.Sprintf(`innerWidth === %d && document.documentElement.scrollWidth <= innerWidth && document.getAnimations().length === 0`, width))
	end := p.Value(`scrollY + document.querySelector(".kernel").getBoundingClientRect().bottom + 12`).(float64)
	p.look(theme, width, min(most, int(end)))
	return p.Screenshot(name)
}

// player is the handler of the ledger with answers that were recorded; the last one stays.
type player struct {
	answers []ledger.Snapshot
	next    atomic.Int64
	drawn   chan struct{} // closed when the page has drawn the last one: it asks after that
}

func (r *player) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Accept") != "application/json" {
		ledger.Handler(nil).ServeHTTP(w, req)
		return
	}
	i := int(r.next.Add(1)) - 1
	if i == len(r.answers) {
		close(r.drawn)
	}
	_ = json.NewEncoder(w).Encode(r.answers[min(i, len(r.answers)-1)])
}

// quick makes the page ask a hundred times as often.
const quick = `{ const wait = setTimeout; setTimeout = (f, ms) => wait(f, ms / 100) }`

func (p page) quick(url string) {
	p.Helper()
	tab.Call(p.Tab, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: quick})
	p.Do(chromedp.Navigate(url))
}

// The program as it runs: numbers move, and a channel that is blocked turns red.
func TestBrowser(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"-addr", ":0"}, w); w.Close() }()
	lines := bufio.NewScanner(r)
	if !lines.Scan() {
		t.Fatal(<-ended)
	}
	p := open(t, lines.Text())
	p.WaitText("#state", "Live")
	p.WaitText(".kernel h2", "counter\nmailroom")
	p.WaitText(".kernel .sum", "Adds up\nAdds up")
	p.WaitText(".kernel:first-child .emit h4", "Order\nPayment\nScan")
	p.Wait(`parseFloat(document.querySelector(".rates .in dd").textContent) > 10`)
	moving := tab.Text(".sum-of")
	p.Wait(fmt.Sprintf(`%s !== %q`, moving, p.Value(moving)))
	p.Wait(`document.querySelector(".line-in").getAttribute("d").split("L").length > 3`)

	p.WaitText(".row.blocked h4", "Scan")
	p.WaitText("#attention a bdi", "Scan")
	if red := p.Value(`getComputedStyle(document.querySelector(".row.blocked .flag")).color`); red != "rgb(179, 38, 30)" {
		t.Errorf("the flag is %v", red)
	}
	p.Wait(`document.title.startsWith("(1) ")`)

	p.SetOffline(true)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.Wait(`["Reconnecting", "Ended"].includes(document.getElementById("state").textContent)`)
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if last != "the ledger adds up" {
		t.Errorf("got %q", last)
	}
	p.Quiet("the browser")
}

// Three minutes of the program, and how they look.
func TestLook(t *testing.T) {
	const seconds = 192 // in a break
	rec := &player{answers: record(t, seconds)[:seconds], drawn: make(chan struct{})}
	server := httptest.NewServer(rec)
	defer server.Close()
	p := open(t, "about:blank")
	p.quick(server.URL)
	select {
	case <-rec.drawn:
	case <-time.After(time.Minute):
		t.Fatalf("the page has asked %d times", rec.next.Load())
	}
	p.WaitText(".row.blocked h4", "Scan")
	if n := p.Value(`document.querySelector(".line-in").getAttribute("d").split("L").length`).(float64); n < 170 {
		t.Errorf("a line of %v points", n)
	}
	tab.Publish(t, "top-light", p.screenshot("light", "light", 1280, 2000))
	tab.Publish(t, "top-dark", p.screenshot("dark", "dark", 1280, 2000))
	tab.Publish(t, "top-phone", p.screenshot("phone", "light", 390, 844))
	p.Quiet("the browser")
}

// stage is a server that can be made to answer anything.
type stage struct {
	mu      sync.Mutex
	handler http.Handler
}

func (s *stage) set(h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	h := s.handler
	s.mu.Unlock()
	h.ServeHTTP(w, r)
}

func TestStates(t *testing.T) {
	hostile := []string{"", "<img src=x onerror=alert(1)>", "__proto__", "a\u202eb", strings.Repeat("long", 60)}
	s := &stage{handler: ledger.Handler(nil)}
	server := httptest.NewServer(s)
	defer server.Close()
	p := open(t, "about:blank")
	p.quick(server.URL)

	// Nothing.
	p.WaitText("#empty:not([hidden])", "There is no kernel to show: the handler was given none.")
	s.set(ledger.Handler(map[string]ledger.Source{"q": source{}}))
	p.WaitText(".none:not([hidden])", "Nothing is emitted: no channel was made.\nNothing is listened to: no channel was made.\nNo requests yet. A broker that pushes needs none.")
	p.Wait(`document.getElementById("empty").hidden`)

	// Names are text.
	all := map[string]ledger.Source{}
	for _, name := range hostile {
		all[name] = source{stats: swarm.Stats{
			Emit:     map[string]swarm.EmitStats{name: {Accepted: 1, Confirmed: 1}},
			Listen:   map[string]swarm.ListenStats{name: {Received: 1, Acked: 1}},
			Requests: map[swarm.Operation]swarm.RequestStats{swarm.Operation(name): {Calls: 1}},
		}}
	}
	s.set(ledger.Handler(all))
	names := append([]string{"no name"}, hostile[1], hostile[2], hostile[3], hostile[4])
	p.WaitText(".kernel h2", strings.Join(names, "\n"))
	p.WaitText(".emit h4", strings.Join(names, "\n"))
	p.WaitText(".operations h4", strings.Join(hostile, "\n"))
	p.look("light", 390, 800)
	p.Wait(`innerWidth === 390 && document.documentElement.scrollWidth <= 390 && document.querySelector("main img") === null`)
	p.look("light", 1280, 1000)

	// A fault, and what is blocked; by keys.
	blocked := swarm.Stats{Emit: map[string]swarm.EmitStats{"A": {Accepted: 2, Confirmed: 1, DeadLetters: 1}}}
	wrong := swarm.Stats{Emit: map[string]swarm.EmitStats{"A": {Accepted: 5, Confirmed: 1}}}
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{stats: blocked}, "lost": nil, "wrong": source{stats: wrong}}))
	p.WaitText(".faults:not([hidden]) li", "the source is nil\nswarm: emit \"A\" does not add up: 1 of 5")
	p.WaitText(".kernel .sum", "Adds up\nFault\nFault")
	p.WaitText(".life:not([hidden])", "Running\nRunning")
	p.WaitText("#attention a bdi", "A\nlost\nwrong")
	p.Value(`document.activeElement.blur()`)
	p.Press("Tab", 9, "")
	p.Wait(`document.activeElement.id === "pause" && getComputedStyle(document.activeElement).outlineStyle === "solid"`)
	p.Press("Tab", 9, "")
	p.Wait(`document.activeElement === document.querySelector("#attention a")`)
	p.Press("Enter", 13, "\r")
	p.Wait(`document.activeElement.matches(".row.blocked")`)

	p.screenshot("faults", "light", 1280, 700)
	p.Value(`scrollTo(0, 0)`)

	// Somebody takes it.
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{stats: swarm.Stats{Emit: map[string]swarm.EmitStats{"A": {Accepted: 2, Confirmed: 1, Failed: 1}}}}}))
	p.WaitText(".row h4", "A")
	p.Wait(`document.getElementById("attention").hidden && !document.querySelector(".row.blocked") && document.title.startsWith("Ledger of 127.0.0.1:")`)

	// A pause.
	p.Value(`document.getElementById("pause").click()`)
	p.WaitText("#state", "Paused")
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{stats: swarm.Stats{Emit: map[string]swarm.EmitStats{"B": {}}}, closing: true}}))
	p.Press("Shift", 16, "") // some time
	p.WaitText(".row h4", "A")
	p.Value(`document.getElementById("pause").click()`)
	p.WaitText("#state", "Live")
	p.WaitText(".row h4", "B")
	p.WaitText(".life", "Ended")

	// It is away: it has ended, or not, or something else is there.
	p.SetOffline(true)
	away := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s.set(away)
	p.WaitText("#state", "Ended")
	p.WaitText("#lost:not([hidden]) b", "The process has ended.")
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{}}))
	p.WaitText("#state", "Live")
	p.Wait(`document.getElementById("lost").hidden`)
	for want, h := range map[string]http.Handler{
		"Connection lost, retrying.":         away,
		"The server answers 404, retrying.":  http.NotFoundHandler(),
		"The answer is no ledger, retrying.": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }),
	} {
		s.set(h)
		p.WaitText("#lost:not([hidden]) b", want)
		p.WaitText("#state", "Reconnecting")
	}
	p.screenshot("lost", "dark", 1280, 700)
	p.Quiet("the browser")
}

// source is a ledger that stays as it is.
type source struct {
	stats   swarm.Stats
	closing bool
}

func (s source) Stats() swarm.Stats { return s.stats }

func (s source) Done() <-chan struct{} {
	done := make(chan struct{})
	if s.closing {
		close(done)
	}
	return done
}
