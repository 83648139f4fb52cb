package top

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/ledger"
)

var update = flag.Bool("update", false, "write the golden frames")

func init() { time.Local = time.UTC }

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// moment is the ledger of a shop after i seconds: scans are blocked from second 20 on, and
// mail is fine.
func moment(i int) ledger.Snapshot {
	n := int64(i)
	wave := int64(200 * (1 + math.Sin(float64(i)/4)))
	blocked := max(0, n-20)
	shop := ledger.Kernel{Stats: swarm.Stats{
		Emit: map[string]swarm.EmitStats{
			"Order": {Accepted: 40*n + wave, Confirmed: 40*n + wave - 3, InFlight: 3, Retried: n / 5, Oldest: 1234 * time.Millisecond},
			"Scan":  {Accepted: 6 * min(n, 20), Confirmed: 5 * min(n, 20), Failed: min(n, 20) - min(2, blocked), DeadLetters: min(2, blocked)},
		},
		Listen: map[string]swarm.ListenStats{
			"Order": {Received: 39 * n, Acked: 36 * n, Failed: n, Released: n, Waiting: n - n/3, Working: n / 3, Redelivered: n,
				Oldest: 75 * time.Second, Longest: 40 * time.Millisecond},
			"": {Received: 2, Rejected: 2},
		},
		Requests: map[swarm.Operation]swarm.RequestStats{
			swarm.OpSend:    {Calls: 10 * n, Open: 1, Errors: n / 5, Entries: 46 * n, Succeeded: 45 * n, Failed: n},
			swarm.OpReceive: {Calls: 9 * n, Entries: 39 * n, Succeeded: 39 * n},
			swarm.OpSettle:  {Calls: 8 * n, Entries: 38 * n, Succeeded: 38 * n},
			"poke":          {Calls: 1},
			swarm.OpExtend:  {},
		},
		Unconfirmed: 1,
	}}
	mail := ledger.Kernel{Closing: true, Stats: swarm.Stats{
		Emit: map[string]swarm.EmitStats{"Mail": {Accepted: 1_234_567, Confirmed: 1_234_000, Dropped: 500, Undelivered: 67}},
	}}
	return ledger.Snapshot{At: start.Add(time.Duration(i) * time.Second), Kernels: map[string]ledger.Kernel{"shop": shop, "mail": mail}}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != got {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestFrames(t *testing.T) {
	for name, v := range map[string]*View{
		"wide":   {Title: "http://127.0.0.1:8080", Width: 120},
		"usual":  {Title: "http://127.0.0.1:8080"},
		"narrow": {Title: "http://127.0.0.1:8080", Width: 50},
		"low":    {Title: "http://127.0.0.1:8080", Width: 80, Height: 20},
		"flat":   {Title: "http://127.0.0.1:8080", Width: 80, Height: 10},
		"color":  {Title: "http://127.0.0.1:8080", Width: 120, Color: true},
	} {
		t.Run(name, func(t *testing.T) {
			frame := ""
			for i := range 26 {
				frame = v.Frame(moment(i))
			}
			golden(t, name, frame)
			fits(t, v, frame)
		})
	}
}

var colour = regexp.MustCompile("\x1b\\[[0-9]{1,2}m")

// fits: no line is too long, none is too many, and nothing steers the terminal but colours.
func fits(t *testing.T, v *View, frame string) {
	t.Helper()
	if v.Color {
		frame = colour.ReplaceAllString(frame, "")
	}
	lines := strings.Split(strings.TrimSuffix(frame, "\n"), "\n")
	if v.Height > 0 && len(lines) > v.Height {
		t.Errorf("%d lines", len(lines))
	}
	for _, l := range lines {
		if n := cellsOf(l); n > v.width() {
			t.Errorf("%d cells: %q", n, l)
		}
		for _, r := range l {
			if !unicode.IsGraphic(r) {
				t.Errorf("%q in %q", r, l)
			}
		}
	}
}

func TestFirstFrameKnowsNoRates(t *testing.T) {
	v := &View{Width: 100}
	if frame := v.Frame(moment(25)); !strings.Contains(frame, "Order           –      –") || strings.Contains(frame, "blocked") {
		t.Errorf("got\n%s", frame)
	}
}

// Counts that fall are of another process: rates begin anew.
func TestAnotherProcess(t *testing.T) {
	v := &View{Width: 100}
	v.Frame(moment(24))
	v.Frame(moment(25))
	s := moment(1)
	s.At = start.Add(time.Hour)
	if frame := v.Frame(s); !strings.Contains(frame, "Order           –      –") {
		t.Errorf("got\n%s", frame)
	}
	s = moment(2)
	s.At = start.Add(time.Hour + time.Second)
	before := v.Frame(s)
	if !strings.Contains(before, "Order          86     86") {
		t.Errorf("got\n%s", before)
	}
	if again := v.Frame(s); again != before {
		t.Errorf("the same again\n%s", again)
	}
}

func TestNothing(t *testing.T) {
	v := &View{}
	if frame := v.Frame(ledger.Snapshot{At: start}); !strings.Contains(frame, "there is no kernel to show") {
		t.Errorf("got\n%s", frame)
	}
	if frame := v.Frame(ledger.Snapshot{At: start, Kernels: map[string]ledger.Kernel{"q": {Fault: "it has\none"}}}); !strings.Contains(frame, "✗ q: it has\n✗ q: one\n") {
		t.Errorf("got\n%s", frame)
	}
}

// hostile are names that somebody else has made up.
var hostile = []string{
	"\x1b]0;owned\x07\x1b[2J\x1b[31mred", "\u009b31mC1", "new\nline\r\ttab", "\u202egnp.exe", "a\u200bb\u2066c", "\xff\xfe",
	strings.Repeat("long ", 100), "e" + strings.Repeat("\u0301", 200), "日本語のカテゴリ", "__proto__", "", "\x00", "🦄🦄🦄",
}

func TestHostileNames(t *testing.T) {
	kernels := map[string]ledger.Kernel{}
	for _, name := range hostile {
		kernels[name] = ledger.Kernel{Fault: name, Stats: swarm.Stats{
			Emit:     map[string]swarm.EmitStats{name: {Accepted: 1, DeadLetters: 1}},
			Listen:   map[string]swarm.ListenStats{name: {Received: -5, Waiting: math.MinInt64, Working: math.MaxInt64, Oldest: -1}},
			Requests: map[swarm.Operation]swarm.RequestStats{swarm.Operation(name): {Calls: math.MaxInt64, Entries: 1}},
		}}
	}
	s := ledger.Snapshot{At: start, Kernels: kernels}
	for _, width := range []int{1, 10, 40, 80, 200} {
		v := &View{Title: hostile[0], Width: width}
		v.Frame(s)
		s.At = s.At.Add(time.Second)
		fits(t, v, v.Frame(s))
	}
	for l := range strings.SplitSeq(strings.ReplaceAll(Table(s), "\n", "\x01"), "\x01") {
		for _, r := range l {
			if !unicode.IsGraphic(r) {
				t.Errorf("%q in %q", r, l)
			}
		}
	}
}

// One long name is not the width of all rows.
func TestALongNameInATable(t *testing.T) {
	emit := map[string]swarm.EmitStats{strings.Repeat("x", 1<<20): {}}
	for i := range 300 {
		emit[strconv.Itoa(i)] = swarm.EmitStats{}
	}
	out := Table(ledger.Snapshot{At: start, Kernels: map[string]ledger.Kernel{"a": {Stats: swarm.Stats{Emit: emit}}}})
	if len(out) > 300*1000 || !strings.Contains(out, "xxx…") {
		t.Errorf("%d bytes", len(out))
	}
}

// Whatever a server answers, it is drawn within its bounds, and steers nothing.
func FuzzFrame(f *testing.F) {
	for i, name := range hostile {
		f.Add(i*7, i, name, int64(i), int64(-i), uint8(i))
	}
	for i := range 3 {
		text, _ := json.Marshal(moment(i))
		f.Add(80, 24, string(text), int64(1)<<62, int64(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, width, height int, name string, a, b int64, seconds uint8) {
		if width > 1000 || height > 1000 {
			t.Skip("larger than any terminal: it takes long")
		}
		v := &View{Title: name, Width: width, Height: height, Color: a%2 == 0}
		s := ledger.Snapshot{At: start}
		for i := range 3 {
			n := a + int64(i)*b
			s.Kernels = map[string]ledger.Kernel{name: {Closing: a%3 == 0, Fault: name[:len(name)/2], Stats: swarm.Stats{
				Emit:        map[string]swarm.EmitStats{name: {Accepted: n, InFlight: b, DeadLetters: a, Confirmed: n / 2, Oldest: time.Duration(a)}},
				Listen:      map[string]swarm.ListenStats{name: {Received: n, Waiting: a, Working: b, Acked: n, Lost: -n}},
				Requests:    map[swarm.Operation]swarm.RequestStats{swarm.Operation(name): {Calls: a, Entries: b, Errors: n}},
				Unconfirmed: b,
			}}}
			fits(t, v, v.Frame(s))
			s.At = s.At.Add(time.Duration(seconds) * time.Second)
		}
		_ = Table(s)
	})
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		group(0): "0", group(-1234567): "-1,234,567", group(999): "999", group(math.MinInt64): "-9,223,372,036,854,775,808",
		short(99_999): "99,999", short(100_000): "100k", short(1_234_567): "1.23M", short(-50_000): "-50k", short(math.MaxInt64): "9.22E",
		rateOf(-1): "–", rateOf(0): "0 ", rateOf(0.04): "0.0", rateOf(9.94): "9.9", rateOf(9.96): "10", rateOf(1234.5): "1,235", rateOf(123456): "123k",
		rateOf(math.Inf(1)): "∞", ratio(1, 0): "– ", ratio(1, 10): "0.10", ratio(99, 1): "99.00", ratio(5000, 2): "2,500",
		ageOf(0): "–  ", ageOf(time.Microsecond): "1 ms", ageOf(999_400 * time.Microsecond): "999 ms", ageOf(999_600 * time.Microsecond): "1.0 s",
		ageOf(9949 * time.Millisecond): "9.9 s", ageOf(59 * time.Second): "59 s", ageOf(61 * time.Second): "1 min 1 s", ageOf(2000*time.Hour + time.Minute): "2,000 h 1 min",
	} {
		if got != strings.TrimSpace(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestBars(t *testing.T) {
	for got, want := range map[string]string{
		bar(0, 10, 4): "", bar(5, 10, 4): "██", bar(1, 1000, 4): "▏", bar(10, 10, 4): "████", bar(3, 8, 1): "▍", bar(9, 3, 2): "██ ",
		sparkline([]float64{0, 1, 2, 4, 8}, 6): " ▁▂▃▅█", sparkline(nil, 3): "   ", sparkline([]float64{9, 9, 0, 0.5, 1}, 3): "▁▅█",
	} {
		if got != strings.TrimRight(want, " ") && got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	terms := []term{{1_000_000, "", "a", ""}, {0, "", "b", ""}, {1, "", "c", ""}, {500_000, "", "d", ""}, {-4, "", "e", ""}}
	if got := stack(terms, 12).render(80, false); got != "aaaaaaaacddd" {
		t.Errorf("got %q", got)
	}
	if got := stack(nil, 3).render(80, false); got != "···" {
		t.Errorf("got %q", got)
	}
}
