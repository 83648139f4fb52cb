package top

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Styles, by the parameters of Select Graphic Rendition.
const (
	bold    = "1"
	dim     = "2"
	red     = "31"
	green   = "32"
	yellow  = "33"
	blue    = "34"
	magenta = "35"
	cyan    = "36"
)

// span is text of one style; line is what stands in one line.
type (
	span struct{ sgr, text string }
	line []span
)

// render makes the line text of no more than width cells. What a span has is printed as it is
// nowhere else: here it is clean.
func (l line) render(width int, color bool) string {
	var b strings.Builder
	room := width
	for i, s := range l {
		text := clean(s.text)
		more := i+1 < len(l)
		if n := cellsOf(text); n > room || n == room && more {
			text, more = cut(text, room), false
			room = 0
		} else {
			room -= n
		}
		if color && s.sgr != "" && text != "" {
			text = "\x1b[" + s.sgr + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
		if room == 0 && !more {
			break
		}
	}
	if color {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// push puts the other line at the right end.
func (l line) push(width int, other line) line {
	used := 0
	for _, s := range append(append(line{}, l...), other...) {
		used += cellsOf(clean(s.text))
	}
	return append(append(l, span{"", strings.Repeat(" ", max(1, width-used))}), other...)
}

// clean replaces what is no visible text: control characters, what changes the direction, and
// what is no text at all. Marks that pile up are dropped.
func clean(s string) string {
	marks := 0
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.M, r) {
			if marks++; marks > 2 {
				return -1
			}
			return r
		}
		marks = 0
		if !unicode.IsGraphic(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// longest name that is shown, in bytes: no broker has a category that is longer, and a foreign
// one would be the width of a table.
const longest = 256

// nameOf is how a name is shown.
func nameOf(name string) string {
	switch {
	case name == "":
		return "(no name)"
	case len(name) > longest:
		return clean(name[:longest]) + "…"
	}
	return clean(name)
}

// wide are the blocks of characters that take two cells.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{{0x1100, 0x115f, 1}, {0x231a, 0x231b, 1}, {0x23e9, 0x23ec, 1}, {0x2e80, 0x303e, 1}, {0x3041, 0xa4cf, 1},
		{0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1}},
	R32: []unicode.Range32{{0x1f300, 0x1f64f, 1}, {0x1f680, 0x1f6ff, 1}, {0x1f900, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}

func cells(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r), unicode.Is(unicode.Me, r):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

func cellsOf(s string) (n int) {
	for _, r := range s {
		n += cells(r)
	}
	return n
}

// cut text to a number of cells, with an ellipsis in the last.
func cut(s string, width int) string {
	if width <= 0 {
		return ""
	}
	used, keep := 0, 0
	for i, r := range s {
		if used += cells(r); used > width-1 {
			break
		}
		keep = i + utf8.RuneLen(r)
	}
	return s[:keep] + "…"
}

func left(s string, width int) string {
	if n := cellsOf(s); n < width {
		return s + strings.Repeat(" ", width-n)
	} else if n > width {
		s = cut(s, width)
		return s + strings.Repeat(" ", max(0, width-cellsOf(s)))
	}
	return s
}

func right(s string, width int) string {
	return strings.Repeat(" ", max(0, width-cellsOf(s))) + s
}

// group writes a number with commas.
func group(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// short writes a number in no more than 6 cells.
func short(n int64) string {
	if n > -10_000 && n < 100_000 {
		return group(n)
	}
	return si(float64(n))
}

func si(v float64) string {
	for _, unit := range []string{"k", "M", "G", "T", "P", "E"} {
		if v /= 1000; math.Abs(v) < 999.5 {
			return strconv.FormatFloat(v, 'g', 3, 64) + unit
		}
	}
	return "∞"
}

// rateOf writes a rate in no more than 6 cells.
func rateOf(v float64) string {
	switch {
	case v < 0:
		return "–"
	case v == 0:
		return "0"
	case v < 9.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case v < 99_999.5:
		return group(int64(math.Round(v)))
	}
	return si(v)
}

// ratio of calls by messages.
func ratio(calls, messages int64) string {
	if messages <= 0 {
		return "–"
	}
	if r := float64(calls) / float64(messages); r < 99.5 {
		return strconv.FormatFloat(r, 'f', 2, 64)
	}
	return short(calls / messages)
}

func ageOf(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < 999_500*time.Microsecond:
		return fmt.Sprintf("%d ms", max(1, d.Round(time.Millisecond).Milliseconds()))
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%s h %d min", group(int64(d/time.Hour)), d%time.Hour/time.Minute)
}

// bar is n of most, in eighths of a cell.
func bar(n, most int64, width int) string {
	if n <= 0 || most <= 0 {
		return ""
	}
	eighths := max(1, int(math.Round(min(1, float64(n)/float64(most))*float64(8*width))))
	s := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		s += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return s
}

// sparkline of the last rates, at the right end.
func sparkline(rates []float64, width int) string {
	if n := len(rates) - width; n > 0 {
		rates = rates[n:]
	}
	top := 1.0
	for _, r := range rates {
		top = max(top, r)
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, r := range rates {
		b.WriteRune(levels[int(math.Round(min(1, max(0, r/top))*7))])
	}
	return right(b.String(), width)
}

// stack is a bar of the terms of a sum: each that is there has a cell at least.
func stack(terms []term, width int) line {
	var sum float64
	some := 0
	for _, t := range terms {
		if t.n > 0 {
			sum += float64(t.n)
			some++
		}
	}
	if some == 0 {
		return line{{dim, strings.Repeat("·", width)}}
	}
	widths, most, used := make([]int, len(terms)), 0, 0
	for i, t := range terms {
		if t.n > 0 {
			widths[i] = 1 + int(float64(t.n)/sum*float64(width-some))
			used += widths[i]
		}
		if widths[i] > widths[most] {
			most = i
		}
	}
	widths[most] += width - used // what rounding has left
	var out line
	for i, t := range terms {
		if widths[i] > 0 {
			out = append(out, span{t.sgr, strings.Repeat(t.cell, widths[i])})
		}
	}
	return out
}
