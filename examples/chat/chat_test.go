package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/fogfish/swarm/examples/internal/browser"
)

var updateScreenshots = flag.Bool("update-screenshots", false, "write the screenshots to docs/images")

// headless starts a browser; the context is of it.
func headless(t *testing.T) context.Context {
	t.Helper()
	path := browser.Path(t)
	profile, err := os.MkdirTemp("", "chat-browser-")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.WindowSize(width, height),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"))
	if os.Geteuid() == 0 {
		opts = append(opts, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, cancel := chromedp.NewContext(allocator)
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
	return ctx
}

// A window of the screenshots, which have two beside each other.
const (
	width, height = 640, 600
	scale         = 1.5
)

// tab is a page, which shares nothing with the others.
type tab struct {
	*testing.T
	ctx       context.Context
	artifacts string

	mu       sync.Mutex
	offline  bool // requests fail, and the browser says so
	troubles []string
}

func newTab(t *testing.T, browser context.Context, url string) *tab {
	t.Helper()
	p := &tab{T: t, artifacts: t.ArtifactDir()}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	p.theme("light")
	p.do(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)), chromedp.Navigate(url))
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
		for _, arg := range e.Args {
			p.troubles = append(p.troubles, fmt.Sprintf("console.%s: %s%s", e.Type, arg.Value, arg.Description))
		}
	case *log.EventEntryAdded:
		text, _, _ := strings.Cut(e.Entry.Text, "?") // what follows is a credential
		if !p.offline || e.Entry.Source != log.EntrySourceNetwork && !strings.HasPrefix(text, "WebSocket connection to ") {
			p.troubles = append(p.troubles, fmt.Sprintf("%s, %s: %s", e.Entry.Source, e.Entry.Level, text))
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

// call a command of the protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) {
	p.Helper()
	result(p, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// value of an expression of JavaScript.
func (p *tab) value(js string) any { p.Helper(); return result(p, chromedp.Evaluate[any](js)) }

// wait until an expression is true.
func (p *tab) wait(js string) {
	p.Helper()
	deadline := time.After(15 * time.Second)
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

// text of all elements, each on a line.
func text(selector string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.textContent).join("\n")`, selector)
}

func (p *tab) waitText(selector, want string) {
	p.Helper()
	p.wait(fmt.Sprintf(`%s === %q`, text(selector), want))
}

func (p *tab) waitState(want string) {
	p.Helper()
	p.waitText("#state:not([hidden])", want)
}

// write text, wherever the focus is.
func (p *tab) write(text string) {
	p.Helper()
	call(p, input.InsertText, input.InsertTextParams{Text: text})
}

// enter text, and press Enter.
func (p *tab) enter(text string) { p.Helper(); p.write(text); p.press("Enter", 13, "\r") }

// press a key, as a keyboard does: what it types comes with the key, and only if the page
// lets it.
func (p *tab) press(key string, code int64, types string) {
	p.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key, Code: key, WindowsVirtualKeyCode: code, Text: types})
		types = ""
	}
}

func (p *tab) focused(id string) {
	p.Helper()
	p.wait(fmt.Sprintf(`document.activeElement.id === %q`, id))
}

func (p *tab) click(selector string) {
	p.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

func (p *tab) theme(name string) {
	p.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// screenshot is a PNG, which is also saved with the artifacts of the test.
func (p *tab) screenshot(name string) []byte {
	p.Helper()
	p.wait(`document.getAnimations().length === 0`)
	picture := result(p, chromedp.CaptureScreenshot())
	save(p.T, filepath.Join(p.artifacts, name+".png"), picture)
	return picture
}

// bubbles are the messages.
const bubbles = "#messages .text"

func TestBrowser(t *testing.T) {
	r := start(t, nil)
	chrome := headless(t)
	url := "http://" + r.addr
	ada, op := newTab(t, chrome, url), newTab(t, chrome, url)

	// A key that is not the right one.
	op.setOffline(true)
	op.click("#key")
	op.enter("b3BlcmF0b3I6Z3Vlc3M")
	op.waitText("#refused", "The server does not accept this API key.")
	op.focused("key")
	op.wait(`document.getElementById("key").ariaInvalid === "true"`)
	op.screenshot("refused")
	op.setOffline(false)

	// One by the right key, the other by name and without a mouse.
	op.enter(r.apiKey())
	op.waitState("Connected")
	op.focused("text")
	ada.focused("name")
	ada.screenshot("login")
	ada.enter("ada")
	ada.waitState("Connected")
	ada.focused("text")
	ada.waitText("#people .name", "ada\noperator")
	op.waitText("#people .name", "ada\noperator")
	ada.waitText("#people .you", "you")

	// They see each other's messages, as text and nothing else.
	op.enter("Hi! Is anybody here yet?")
	ada.waitText(bubbles, "Hi! Is anybody here yet?")
	ada.enter("I am, by a token. And you by a key?")
	op.waitText(bubbles, "Hi! Is anybody here yet?\nI am, by a token. And you by a key?")
	ada.focused("text")
	ada.enter("<img src=x onerror=alert(1)>")
	for _, p := range []*tab{ada, op} {
		p.wait(fmt.Sprintf(`document.querySelectorAll(%q).length === 3`, bubbles))
		if last := p.value(`[...document.querySelectorAll("#messages .text")].at(-1).innerHTML`); last != "&lt;img src=x onerror=alert(1)&gt;" {
			t.Errorf("got %v", last)
		}
	}

	// Rooms.
	ada.click("#rooms li:nth-child(2) button")
	ada.waitText("#room", "garden")
	ada.waitText("#people .name", "ada")
	op.waitText("#people .name", "operator")
	ada.enter("Only I can see this.")
	ada.waitText("#messages .by b", "You")
	ada.waitText(bubbles, "Only I can see this.")
	ada.click("#rooms li:nth-child(1) button")
	ada.waitText("#people .name", "ada\noperator")
	ada.wait(fmt.Sprintf(`document.querySelectorAll(%q).length === 3`, bubbles))

	// The server goes. What one sends meanwhile waits, what one writes stays.
	for _, p := range []*tab{ada, op} {
		p.setOffline(true)
	}
	r.close()
	ada.waitState("Reconnecting…")
	op.waitState("Reconnecting…")
	ada.enter("The server was gone, this has waited.")
	ada.wait(`document.getElementById("text").value === ""`)
	ada.waitText("#messages .pending .text", "The server was gone, this has waited.")
	op.write("And nothing was lost")
	ada.screenshot("lost")
	// One comes back by itself. The other has no network until then, and is impatient.
	ada.value(`const network = fetch; fetch = () => Promise.reject(new TypeError("no network"))`)
	r.open(t, r.addr)
	op.waitState("Connected")
	op.waitText("#people .name", "operator")
	ada.waitState("Reconnecting…")
	ada.value(`fetch = network`)
	ada.click("#now")
	for _, p := range []*tab{ada, op} {
		p.waitState("Connected")
		p.waitText("#people .name", "ada\noperator")
		p.waitText(bubbles+":not(.pending *)", strings.Join([]string{
			"Hi! Is anybody here yet?",
			"I am, by a token. And you by a key?",
			"<img src=x onerror=alert(1)>",
			"The server was gone, this has waited.",
		}, "\n"))
		p.setOffline(false)
	}
	ada.focused("text")
	op.focused("text")
	op.enter(".")
	for _, p := range []*tab{ada, op} {
		p.wait(fmt.Sprintf(`%s.endsWith("\nAnd nothing was lost.")`, text(bubbles)))
	}

	// How it looks.
	for _, name := range []string{"light", "dark"} {
		ada.theme(name)
		op.theme(name)
		left, right := ada.screenshot("ada-"+name), op.screenshot("operator-"+name)
		if *updateScreenshots {
			save(t, filepath.Join("..", "..", "docs", "images", "chat-"+name+".png"), beside(t, left, right))
		}
	}
	if light, dark := ada.value(background), func() any { ada.click("#theme"); return ada.value(background) }(); light == dark {
		t.Errorf("the theme does not change: %v", light)
	}
	ada.waitText("#theme", "Dark")

	// On a phone.
	ada.do(chromedp.EmulateViewport(390, 780, chromedp.EmulateMobile, chromedp.EmulateScale(2)))
	ada.wait(`innerWidth === 390 && document.documentElement.scrollWidth <= 390 && document.documentElement.scrollHeight <= innerHeight`)
	ada.screenshot("phone")

	// Keys lead everywhere, and one sees where.
	op.value(`document.getElementById("theme").focus()`)
	for _, want := range []string{"leave", "", "", "", "other", "scroll", "text"} {
		op.press("Tab", 9, "")
		op.focused(want)
		if style := op.value(`getComputedStyle(document.activeElement).outlineStyle`); style != "solid" {
			t.Errorf("focus on %q cannot be seen: %v", want, style)
		}
	}

	// The key is good no more. What was not sent is kept for who comes by the new one.
	for _, p := range []*tab{ada, op} {
		p.setOffline(true)
	}
	r.close()
	r.secret = "changed"
	op.waitState("Reconnecting…")
	op.enter("This is kept, too.")
	op.write("And this")
	r.open(t, r.addr)
	op.waitText("#refused", "The server does not accept this API key.")
	op.focused("key")
	ada.waitState("Connected")
	op.enter(r.apiKey())
	op.waitState("Connected")
	for _, p := range []*tab{ada, op} {
		p.waitText("#people .name", "ada\noperator")
		p.wait(fmt.Sprintf(`%s.endsWith("\nThis is kept, too.")`, text(bubbles)))
		p.setOffline(false)
	}
	op.wait(`document.getElementById("text").value === "And this"`)

	// One leaves, the other sees it.
	ada.click("#leave")
	ada.focused("name")
	op.waitText("#people .name", "operator")
	if left := ada.value(text("#messages li, #people li")); left != "" {
		t.Errorf("logged out, but there is %v", left)
	}

	for name, p := range map[string]*tab{"ada": ada, "operator": op} {
		p.mu.Lock()
		for _, trouble := range p.troubles {
			t.Errorf("%s: %s", name, trouble)
		}
		p.mu.Unlock()
	}
	if s := r.gateway.Stats(); s.Failed != 0 {
		t.Errorf("%d messages have failed", s.Failed)
	}
}

const background = `getComputedStyle(document.body).backgroundColor`

// beside puts two pictures into one, each with a line around it.
func beside(t *testing.T, left, right []byte) []byte {
	t.Helper()
	const gap, line = 24, 2
	var both *image.RGBA
	for i, b := range [][]byte{left, right} {
		picture, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		frame := picture.Bounds().Inset(-line)
		if both == nil {
			both = image.NewRGBA(image.Rect(0, 0, 2*frame.Dx()+gap, frame.Dy()))
		}
		frame = frame.Add(image.Pt(line+i*(frame.Dx()+gap), line))
		draw.Draw(both, frame, image.NewUniform(color.Gray{0x88}), image.Point{}, draw.Src)
		draw.Draw(both, frame.Inset(line), picture, picture.Bounds().Min, draw.Src)
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, both); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func save(t *testing.T, path string, picture []byte) {
	t.Helper()
	if len(picture) > 300<<10 {
		t.Errorf("%s has %d bytes", path, len(picture))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
