package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/examples/internal/browser"
)

var updateScreenshots = flag.Bool("update-screenshots", false, "write the screenshots to docs/images")

// tab is a page of a browser of its own.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	offline  bool // requests fail, and the browser says so
	troubles []string
}

func newTab(t *testing.T, url string) *tab {
	t.Helper()
	path := browser.Path(t)
	profile, err := os.MkdirTemp("", "live-browser-")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	p := &tab{T: t}
	ctx, cancel := chromedp.NewContext(allocator, chromedp.WithListener(p.listen))
	p.ctx = ctx
	t.Cleanup(func() {
		end, done := context.WithTimeout(ctx, 10*time.Second)
		defer done()
		if err := chromedp.Cancel(end); err != nil {
			t.Errorf("the browser does not end: %v", err)
		}
		cancel()
		stop()
		os.RemoveAll(profile)
	})
	if err := chromedp.Do(ctx); err != nil { // it lives as long as the context of its first action
		t.Fatalf("%s does not start: %v", path, err)
	}
	p.look("light", 1280, 1000)
	p.do(chromedp.Navigate(url))
	return p
}

// listen to what the browser complains about.
func (p *tab) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.troubles = append(p.troubles, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		p.troubles = append(p.troubles, fmt.Sprintf("console.%s", e.Type))
	case *log.EventEntryAdded:
		if !p.offline || e.Entry.Source != log.EntrySourceNetwork {
			p.troubles = append(p.troubles, fmt.Sprintf("%s, %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text))
		}
	}
}

func (p *tab) setOffline(offline bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offline = offline
}

func (p *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// result of an action.
func result[T any](p *tab, action chromedp.Action[T]) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.Fatal(err)
	}
	return v
}

// value of an expression of JavaScript.
func (p *tab) value(js string) any { p.Helper(); return result(p, chromedp.Evaluate[any](js)) }

// wait until an expression is true.
func (p *tab) wait(js string) {
	p.Helper()
	deadline := time.After(60 * time.Second)
	for tick := time.Tick(20 * time.Millisecond); ; {
		if p.value(js) == true {
			return
		}
		select {
		case <-tick:
		case <-deadline:
			p.Fatalf("not true: %s\nthe page:\n%s", js, p.value(`document.body.innerText`))
		}
	}
}

// look at the page in a theme and a size.
func (p *tab) look(theme string, width, height int) {
	p.Helper()
	result(p, call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}))
	scale := 1.25
	if width < 600 {
		scale = 2
	}
	p.do(chromedp.EmulateViewport(int64(width), int64(height), chromedp.EmulateScale(scale)))
}

// call a command of the protocol.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) }
}

// screenshot of the top of the page, as far as the first kernel goes and no higher than a
// window is; with the artifacts of the test.
func (p *tab) screenshot(name, theme string, width, most int) []byte {
	p.Helper()
	p.look(theme, width, most)
	p.wait(fmt.Sprintf(`innerWidth === %d && document.documentElement.scrollWidth <= innerWidth && document.getAnimations().length === 0`, width))
	end := p.value(`scrollY + document.querySelector(".kernel").getBoundingClientRect().bottom + 12`).(float64)
	p.look(theme, width, min(most, int(end)))
	picture := result(p, chromedp.CaptureScreenshot())
	save(p.T, filepath.Join(p.ArtifactDir(), name+".png"), picture)
	return picture
}

// publish a picture in the documentation, if that is wanted.
func publish(t *testing.T, name string, picture []byte) {
	t.Helper()
	if !*updateScreenshots {
		return
	}
	picture = squeeze(t, picture)
	if len(picture) > 300<<10 {
		t.Errorf("%s has %d bytes", name, len(picture))
	}
	save(t, filepath.Join("..", "..", "docs", "images", "top-"+name+".png"), picture)
}

// squeeze a picture as the browser does not.
func squeeze(t *testing.T, picture []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func save(t *testing.T, path string, picture []byte) {
	t.Helper()
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		t.Fatal(err)
	}
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

func (p *tab) quick(url string) {
	p.Helper()
	result(p, call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: quick}))
	p.do(chromedp.Navigate(url))
}

func (p *tab) waitText(selector, want string) {
	p.Helper()
	p.wait(fmt.Sprintf(`%s === %q`, text(selector), want))
}

// text of all elements, each on a line.
func text(selector string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.textContent).join("\n")`, selector)
}

// press a key.
func (p *tab) press(key string, code int64, types string) {
	p.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		result(p, call(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key, Code: key, WindowsVirtualKeyCode: code, Text: types}))
		types = ""
	}
}

// quiet: the browser had nothing to complain about.
func (p *tab) quiet() {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, trouble := range p.troubles {
		p.Error(trouble)
	}
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
	p := newTab(t, lines.Text())
	p.waitText("#state", "Live")
	p.waitText(".kernel h2", "counter\nmailroom")
	p.waitText(".kernel .sum", "Adds up\nAdds up")
	p.waitText(".kernel:first-child .emit h4", "Order\nPayment\nScan")
	p.wait(`parseFloat(document.querySelector(".rates .in dd").textContent) > 10`)
	moving := text(".sum-of")
	p.wait(fmt.Sprintf(`%s !== %q`, moving, p.value(moving)))
	p.wait(`document.querySelector(".line-in").getAttribute("d").split("L").length > 3`)

	p.waitText(".row.blocked h4", "Scan")
	p.waitText("#attention a bdi", "Scan")
	if red := p.value(`getComputedStyle(document.querySelector(".row.blocked .flag")).color`); red != "rgb(179, 38, 30)" {
		t.Errorf("the flag is %v", red)
	}
	p.wait(`document.title.startsWith("(1) ")`)

	p.setOffline(true)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	p.wait(`["Reconnecting", "Ended"].includes(document.getElementById("state").textContent)`)
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	if last != "the ledger adds up" {
		t.Errorf("got %q", last)
	}
	p.quiet()
}

// Three minutes of the program, and how they look.
func TestLook(t *testing.T) {
	const seconds = 192 // in a break
	rec := &player{answers: record(t, seconds)[:seconds], drawn: make(chan struct{})}
	server := httptest.NewServer(rec)
	defer server.Close()
	p := newTab(t, "about:blank")
	p.quick(server.URL)
	select {
	case <-rec.drawn:
	case <-time.After(time.Minute):
		t.Fatalf("the page has asked %d times", rec.next.Load())
	}
	p.waitText(".row.blocked h4", "Scan")
	if n := p.value(`document.querySelector(".line-in").getAttribute("d").split("L").length`).(float64); n < 170 {
		t.Errorf("a line of %v points", n)
	}
	publish(t, "light", p.screenshot("light", "light", 1280, 2000))
	publish(t, "dark", p.screenshot("dark", "dark", 1280, 2000))
	publish(t, "phone", p.screenshot("phone", "light", 390, 844))
	p.quiet()
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
	p := newTab(t, "about:blank")
	p.quick(server.URL)

	// Nothing.
	p.waitText("#empty:not([hidden])", "There is no kernel to show: the handler was given none.")
	s.set(ledger.Handler(map[string]ledger.Source{"q": source{}}))
	p.waitText(".none:not([hidden])", "Nothing is emitted: no channel was made.\nNothing is listened to: no channel was made.\nNo requests yet. A broker that pushes needs none.")
	p.wait(`document.getElementById("empty").hidden`)

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
	p.waitText(".kernel h2", strings.Join(names, "\n"))
	p.waitText(".emit h4", strings.Join(names, "\n"))
	p.waitText(".operations h4", strings.Join(hostile, "\n"))
	p.look("light", 390, 800)
	p.wait(`innerWidth === 390 && document.documentElement.scrollWidth <= 390 && document.querySelector("main img") === null`)
	p.look("light", 1280, 1000)

	// A fault, and what is blocked; by keys.
	blocked := swarm.Stats{Emit: map[string]swarm.EmitStats{"A": {Accepted: 2, Confirmed: 1, DeadLetters: 1}}}
	wrong := swarm.Stats{Emit: map[string]swarm.EmitStats{"A": {Accepted: 5, Confirmed: 1}}}
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{stats: blocked}, "lost": nil, "wrong": source{stats: wrong}}))
	p.waitText(".faults:not([hidden]) li", "the source is nil\nswarm: emit \"A\" does not add up: 1 of 5")
	p.waitText(".kernel .sum", "Adds up\nFault\nFault")
	p.waitText(".life:not([hidden])", "Running\nRunning")
	p.waitText("#attention a bdi", "A\nlost\nwrong")
	p.value(`document.activeElement.blur()`)
	p.press("Tab", 9, "")
	p.wait(`document.activeElement.id === "pause" && getComputedStyle(document.activeElement).outlineStyle === "solid"`)
	p.press("Tab", 9, "")
	p.wait(`document.activeElement === document.querySelector("#attention a")`)
	p.press("Enter", 13, "\r")
	p.wait(`document.activeElement.matches(".row.blocked")`)

	p.screenshot("faults", "light", 1280, 700)
	p.value(`scrollTo(0, 0)`)

	// Somebody takes it.
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{stats: swarm.Stats{Emit: map[string]swarm.EmitStats{"A": {Accepted: 2, Confirmed: 1, Failed: 1}}}}}))
	p.waitText(".row h4", "A")
	p.wait(`document.getElementById("attention").hidden && !document.querySelector(".row.blocked") && document.title.startsWith("Ledger of 127.0.0.1:")`)

	// A pause.
	p.value(`document.getElementById("pause").click()`)
	p.waitText("#state", "Paused")
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{stats: swarm.Stats{Emit: map[string]swarm.EmitStats{"B": {}}}, closing: true}}))
	p.press("Shift", 16, "") // some time
	p.waitText(".row h4", "A")
	p.value(`document.getElementById("pause").click()`)
	p.waitText("#state", "Live")
	p.waitText(".row h4", "B")
	p.waitText(".life", "Ended")

	// It is away: it has ended, or not, or something else is there.
	p.setOffline(true)
	away := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	s.set(away)
	p.waitText("#state", "Ended")
	p.waitText("#lost:not([hidden]) b", "The process has ended.")
	s.set(ledger.Handler(map[string]ledger.Source{"good": source{}}))
	p.waitText("#state", "Live")
	p.wait(`document.getElementById("lost").hidden`)
	for want, h := range map[string]http.Handler{
		"Connection lost, retrying.":         away,
		"The server answers 404, retrying.":  http.NotFoundHandler(),
		"The answer is no ledger, retrying.": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }),
	} {
		s.set(h)
		p.waitText("#lost:not([hidden]) b", want)
		p.waitText("#state", "Reconnecting")
	}
	p.screenshot("lost", "dark", 1280, 700)
	p.quiet()
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
