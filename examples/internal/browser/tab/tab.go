// Package tab drives pages of a browser in tests, and notes what the browser complains about.
package tab

import (
	"bytes"
	"context"
	"flag"
	"fmt"
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

var update = flag.Bool("update-screenshots", false, "write the screenshots to docs/images")

// Browser starts a browser without a window; the context is of it. It ends with the test.
func Browser(t *testing.T) context.Context {
	t.Helper()
	path := browser.Path(t)
	profile, err := os.MkdirTemp("", "browser-")
	if err != nil {
		t.Fatal(err)
	}
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(profile),
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

// Tab is a page, which shares nothing with the others of its browser.
type Tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	offline  bool
	troubles []string
}

// Open makes an empty page.
func Open(t *testing.T, browser context.Context) *Tab {
	t.Helper()
	p := &Tab{T: t}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.listen))
	t.Cleanup(cancel)
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// listen to what the browser complains about.
func (p *Tab) listen(event any) {
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
		text, _, _ := strings.Cut(e.Entry.Text, "?") // what follows may be a credential
		if !p.offline || e.Entry.Source != log.EntrySourceNetwork && !strings.HasPrefix(text, "WebSocket connection to ") {
			p.troubles = append(p.troubles, fmt.Sprintf("%s, %s: %s", e.Entry.Source, e.Entry.Level, text))
		}
	}
}

// SetOffline says whether requests are to fail: then the browser may say so.
func (p *Tab) SetOffline(offline bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offline = offline
}

// Quiet fails if the browser had anything to complain about.
func (p *Tab) Quiet(name string) {
	p.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, trouble := range p.troubles {
		p.Errorf("%s: %s", name, trouble)
	}
}

// Do some actions.
func (p *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// Result of an action.
func Result[T any](p *Tab, action chromedp.Action[T]) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 15*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.Fatal(err)
	}
	return v
}

// Call a command of the protocol.
func Call[P, R any](p *Tab, command cdp.Command[P, R], params P) R {
	p.Helper()
	return Result(p, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// Value of an expression of JavaScript.
func (p *Tab) Value(js string) any { p.Helper(); return Result(p, chromedp.Evaluate[any](js)) }

// Wait until an expression is true.
func (p *Tab) Wait(js string) {
	p.Helper()
	deadline := time.After(60 * time.Second)
	for tick := time.Tick(20 * time.Millisecond); ; {
		if p.Value(js) == true {
			return
		}
		select {
		case <-tick:
		case <-deadline:
			p.Fatalf("not true: %s\nthe page:\n%s", js, p.Value(`document.body.innerText`))
		}
	}
}

// Text is the expression for the text of all elements, each on a line.
func Text(selector string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.textContent).join("\n")`, selector)
}

// WaitText waits until the elements have this text.
func (p *Tab) WaitText(selector, want string) {
	p.Helper()
	p.Wait(fmt.Sprintf(`%s === %q`, Text(selector), want))
}

// Press a key, as a keyboard does: what it types comes with the key, and only if the page
// lets it.
func (p *Tab) Press(key string, code int64, types string) {
	p.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeKeyDown, input.DispatchKeyEventTypeKeyUp} {
		Call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key, Code: key, WindowsVirtualKeyCode: code, Text: types})
		types = ""
	}
}

// Theme is light or dark. Nothing moves in either.
func (p *Tab) Theme(name string) {
	p.Helper()
	Call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// Screenshot is a PNG of what is seen, which is also with the artifacts of the test.
func (p *Tab) Screenshot(name string) []byte {
	p.Helper()
	p.Wait(`document.getAnimations().length === 0`)
	picture := Result(p, chromedp.CaptureScreenshot())
	save(p.T, filepath.Join(p.ArtifactDir(), name+".png"), picture)
	return picture
}

// Publish writes a picture to docs/images, if -update-screenshots is given. It is for tests
// of a folder of the examples.
func Publish(t *testing.T, name string, picture []byte) {
	t.Helper()
	if !*update {
		return
	}
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer // smaller than the browser makes it
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 300<<10 {
		t.Errorf("%s has %d bytes", name, b.Len())
	}
	save(t, filepath.Join("..", "..", "docs", "images", name+".png"), b.Bytes())
}

func save(t *testing.T, path string, picture []byte) {
	t.Helper()
	if err := os.WriteFile(path, picture, 0o644); err != nil {
		t.Fatal(err)
	}
}
