package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/fogfish/swarm/examples/internal/browser/tab"
)

// A window of the screenshots, which have two beside each other.
const (
	width, height = 640, 600
	scale         = 1.5
)

// visitor is a page of the chat.
type visitor struct{ *tab.Tab }

func open(t *testing.T, browser context.Context, url string) visitor {
	t.Helper()
	p := visitor{tab.Open(t, browser)}
	p.Theme("light")
	p.Do(chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)), chromedp.Navigate(url))
	return p
}

func (p visitor) waitState(want string) {
	p.Helper()
	p.WaitText("#state:not([hidden])", want)
}

// write text, wherever the focus is.
func (p visitor) write(text string) {
	p.Helper()
	tab.Call(p.Tab, input.InsertText, input.InsertTextParams{Text: text})
}

// enter text, and press Enter.
func (p visitor) enter(text string) { p.Helper(); p.write(text); p.Press("Enter", 13, "\r") }

func (p visitor) focused(id string) {
	p.Helper()
	p.Wait(fmt.Sprintf(`document.activeElement.id === %q`, id))
}

func (p visitor) click(selector string) {
	p.Helper()
	p.Do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// bubbles are the messages.
const bubbles = "#messages .text"

func TestBrowser(t *testing.T) {
	r := start(t, nil)
	chrome := tab.Browser(t)
	url := "http://" + r.addr
	ada, op := open(t, chrome, url), open(t, chrome, url)

	// A key that is not the right one.
	op.SetOffline(true)
	op.click("#key")
	op.enter("b3BlcmF0b3I6Z3Vlc3M")
	op.WaitText("#refused", "The server does not accept this API key.")
	op.focused("key")
	op.Wait(`document.getElementById("key").ariaInvalid === "true"`)
	op.Screenshot("refused")
	op.SetOffline(false)

	// One by the right key, the other by name and without a mouse.
	op.enter(r.apiKey())
	op.waitState("Connected")
	op.focused("text")
	ada.focused("name")
	ada.Screenshot("login")
	ada.enter("ada")
	ada.waitState("Connected")
	ada.focused("text")
	ada.WaitText("#people .name", "ada\noperator")
	op.WaitText("#people .name", "ada\noperator")
	ada.WaitText("#people .you", "you")

	// They see each other's messages, as text and nothing else.
	op.enter("Hi! Is anybody here yet?")
	ada.WaitText(bubbles, "Hi! Is anybody here yet?")
	ada.enter("I am, by a token. And you by a key?")
	op.WaitText(bubbles, "Hi! Is anybody here yet?\nI am, by a token. And you by a key?")
	ada.focused("text")
	ada.enter("<img src=x onerror=alert(1)>")
	for _, p := range []visitor{ada, op} {
		p.Wait(fmt.Sprintf(`document.querySelectorAll(%q).length === 3`, bubbles))
		if last := p.Value(`[...document.querySelectorAll("#messages .text")].at(-1).innerHTML`); last != "&lt;img src=x onerror=alert(1)&gt;" {
			t.Errorf("got %v", last)
		}
	}

	// Rooms.
	ada.click("#rooms li:nth-child(2) button")
	ada.WaitText("#room", "garden")
	ada.WaitText("#people .name", "ada")
	op.WaitText("#people .name", "operator")
	ada.enter("Only I can see this.")
	ada.WaitText("#messages .by b", "You")
	ada.WaitText(bubbles, "Only I can see this.")
	ada.click("#rooms li:nth-child(1) button")
	ada.WaitText("#people .name", "ada\noperator")
	ada.Wait(fmt.Sprintf(`document.querySelectorAll(%q).length === 3`, bubbles))

	// The server goes. What one sends meanwhile waits, what one writes stays.
	for _, p := range []visitor{ada, op} {
		p.SetOffline(true)
	}
	r.close()
	ada.waitState("Reconnecting…")
	op.waitState("Reconnecting…")
	ada.enter("The server was gone, this has waited.")
	ada.Wait(`document.getElementById("text").value === ""`)
	ada.WaitText("#messages .pending .text", "The server was gone, this has waited.")
	op.write("And nothing was lost")
	ada.Screenshot("lost")
	// One comes back by itself. The other has no network until then, and is impatient.
	ada.Value(`const network = fetch; fetch = () => Promise.reject(new TypeError("no network"))`)
	r.open(t, r.addr)
	op.waitState("Connected")
	op.WaitText("#people .name", "operator")
	ada.waitState("Reconnecting…")
	ada.Value(`fetch = network`)
	ada.click("#now")
	for _, p := range []visitor{ada, op} {
		p.waitState("Connected")
		p.WaitText("#people .name", "ada\noperator")
		p.WaitText(bubbles+":not(.pending *)", strings.Join([]string{
			"Hi! Is anybody here yet?",
			"I am, by a token. And you by a key?",
			"<img src=x onerror=alert(1)>",
			"The server was gone, this has waited.",
		}, "\n"))
		p.SetOffline(false)
	}
	ada.focused("text")
	op.focused("text")
	op.enter(".")
	for _, p := range []visitor{ada, op} {
		p.Wait(fmt.Sprintf(`%s.endsWith("\nAnd nothing was lost.")`, tab.Text(bubbles)))
	}

	// How it looks.
	for _, name := range []string{"light", "dark"} {
		ada.Theme(name)
		op.Theme(name)
		left, right := ada.Screenshot("ada-"+name), op.Screenshot("operator-"+name)
		tab.Publish(t, "chat-"+name, beside(t, left, right))
	}
	if light, dark := ada.Value(background), func() any { ada.click("#theme"); return ada.Value(background) }(); light == dark {
		t.Errorf("the theme does not change: %v", light)
	}
	ada.WaitText("#theme", "Dark")

	// On a phone.
	ada.Do(chromedp.EmulateViewport(390, 780, chromedp.EmulateMobile, chromedp.EmulateScale(2)))
	ada.Wait(`innerWidth === 390 && document.documentElement.scrollWidth <= 390 && document.documentElement.scrollHeight <= innerHeight`)
	ada.Screenshot("phone")

	// Keys lead everywhere, and one sees where.
	op.Value(`document.getElementById("theme").focus()`)
	for _, want := range []string{"leave", "", "", "", "other", "scroll", "text"} {
		op.Press("Tab", 9, "")
		op.focused(want)
		if style := op.Value(`getComputedStyle(document.activeElement).outlineStyle`); style != "solid" {
			t.Errorf("focus on %q cannot be seen: %v", want, style)
		}
	}

	// The key is good no more. What was not sent is kept for who comes by the new one.
	for _, p := range []visitor{ada, op} {
		p.SetOffline(true)
	}
	r.close()
	r.secret = "changed"
	op.waitState("Reconnecting…")
	op.enter("This is kept, too.")
	op.write("And this")
	r.open(t, r.addr)
	op.WaitText("#refused", "The server does not accept this API key.")
	op.focused("key")
	ada.waitState("Connected")
	op.enter(r.apiKey())
	op.waitState("Connected")
	for _, p := range []visitor{ada, op} {
		p.WaitText("#people .name", "ada\noperator")
		p.Wait(fmt.Sprintf(`%s.endsWith("\nThis is kept, too.")`, tab.Text(bubbles)))
		p.SetOffline(false)
	}
	op.Wait(`document.getElementById("text").value === "And this"`)

	// One leaves, the other sees it.
	ada.click("#leave")
	ada.focused("name")
	op.WaitText("#people .name", "operator")
	if left := ada.Value(tab.Text("#messages li, #people li")); left != "" {
		t.Errorf("logged out, but there is %v", left)
	}

	ada.Quiet("ada")
	op.Quiet("operator")
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
	if err := png.Encode(&b, both); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
