// Package top shows ledgers in a terminal, as package ledger shows them in a browser.
//
//	err := top.Live(ctx, os.Stdout, "orders", func(context.Context) (ledger.Snapshot, error) {
//		return ledger.Take(map[string]ledger.Source{"orders": q}), nil
//	})
//
// The command github.com/fogfish/swarm/otel/cmd/swarm-top does so for another process. Names
// of kernels and categories are foreign text: what could steer the terminal is taken out.
package top

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	swarm "github.com/fogfish/swarm/core"
	"github.com/fogfish/swarm/core/ledger"
)

// View draws snapshots as text, each with the rates since the one before. It is not safe for
// concurrent use.
type View struct {
	// Title of the frames.
	Title string

	// Width and Height in cells. A frame has no more, leaves out what has no room, and says
	// how many lines that are. 0: 80 wide, as high as it is.
	Width, Height int

	// Color: with the escape sequences of ANSI for colours, and no others.
	Color bool

	series map[place]*series
	last   *ledger.Snapshot
}

// Frame draws a snapshot: lines that each end in a newline.
func (v *View) Frame(s ledger.Snapshot) string {
	v.take(s)
	return v.text(v.frame(nil))
}

func (v *View) text(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.render(v.width(), v.Color))
		b.WriteByte('\n')
	}
	return b.String()
}

func (v *View) width() int {
	if v.Width > 0 {
		return v.Width
	}
	return 80
}

// take the next snapshot.
func (v *View) take(s ledger.Snapshot) {
	before := v.series
	v.series = map[place]*series{}
	note := func(p place, c counts) {
		x := before[p]
		if x == nil {
			x = &series{}
		}
		x.take(s.At, c)
		v.series[p] = x
	}
	for name, k := range s.Kernels {
		for category, c := range k.Emit {
			note(place{name, "emit", category}, counts{into: c.Accepted, out: c.Confirmed, a: c.InFlight, b: c.DeadLetters,
				dead: c.DeadLetters, taken: c.Failed + c.Dropped + c.Undelivered})
		}
		for category, c := range k.Listen {
			note(place{name, "listen", category}, counts{into: c.Received, out: c.Acked, a: c.Waiting, b: c.Working})
		}
		for op, c := range k.Requests {
			note(place{name, "request", string(op)}, counts{into: c.Calls, out: c.Entries})
		}
	}
	v.last = &s
}

// frame draws the last snapshot. Err is why there is no newer one.
func (v *View) frame(err error) []line {
	lines := v.body(err, true)
	if v.Height > 0 && len(lines) > v.Height {
		lines = v.body(err, false)
	}
	if v.Height > 0 && len(lines) > v.Height {
		rest := len(lines) - v.Height + 1
		lines = append(lines[:v.Height-1], line{{dim, fmt.Sprintf("… %d more lines", rest)}})
	}
	return lines
}

// body is the whole frame, with a line or two for each category.
func (v *View) body(err error, outcomes bool) []line {
	lines := v.head(err)
	if v.last == nil {
		return lines
	}
	names := slices.Sorted(maps.Keys(v.last.Kernels))
	if len(names) == 0 {
		lines = append(lines, line{{dim, "there is no kernel to show"}})
	}
	for _, name := range names {
		lines = append(lines, line{})
		lines = append(lines, v.kernel(name, v.last.Kernels[name], outcomes)...)
	}
	return lines
}

// head is the title, and what needs attention.
func (v *View) head(err error) []line {
	title := line{{bold, cmp.Or(v.Title, "ledger")}}
	if v.last != nil {
		title = title.push(v.width(), line{{dim, v.last.At.Local().Format(time.TimeOnly)}})
	}
	lines := []line{title}
	switch {
	case err != nil && v.ended():
		lines = append(lines, line{{yellow, "the process has ended; this is its last ledger"}})
	case err != nil:
		lines = append(lines, line{{red, "retrying: " + err.Error()}})
	}
	if v.last == nil {
		return lines
	}
	for _, name := range slices.Sorted(maps.Keys(v.last.Kernels)) {
		if fault := v.last.Kernels[name].Fault; fault != "" {
			for text := range strings.SplitSeq(fault, "\n") {
				lines = append(lines, line{{red, "✗ " + nameOf(name) + ": " + text}})
			}
		}
		for _, category := range slices.Sorted(maps.Keys(v.last.Kernels[name].Emit)) {
			if d := v.series[place{name, "emit", category}].blocked; d > 0 {
				lines = append(lines, line{{red, fmt.Sprintf("✗ %s is blocked: dlq is not read for %s", nameOf(category), ageOf(d))}})
			}
		}
	}
	return lines
}

// ended: all kernels were closing when one saw them last.
func (v *View) ended() bool {
	if v.last == nil || len(v.last.Kernels) == 0 {
		return false
	}
	for _, k := range v.last.Kernels {
		if !k.Closing {
			return false
		}
	}
	return true
}

func (v *View) kernel(name string, k ledger.Kernel, outcomes bool) []line {
	sum := span{green, "✓ adds up"}
	if k.Fault != "" {
		sum = span{red, "✗ fault"}
	}
	lines := []line{{{bold, nameOf(name)}, {dim, "  " + lifeOf(k) + "  "}, sum}}
	lines = append(lines, v.side(emitting, name, k, outcomes)...)
	lines = append(lines, v.side(listening, name, k, outcomes)...)
	return append(lines, v.requests(name, k)...)
}

func lifeOf(k ledger.Kernel) string {
	if k.Fault != "" && k.Emit == nil && k.Listen == nil && k.Requests == nil {
		return "unknown"
	}
	if !k.Closing {
		return "running"
	}
	open := k.Settling
	for _, c := range k.Emit {
		open += c.InFlight + c.DeadLetters
	}
	for _, c := range k.Listen {
		open += c.Waiting + c.Working
	}
	if open > 0 {
		return "draining"
	}
	return "ended"
}

// side is what is emitted, or listened to.
type side struct {
	name, heading string
	a, b          string // gauges
	note          string
	rows          func(k ledger.Kernel) map[string]row
}

// nameOf a category. Messages that have no channel of their own are together.
func (s side) nameOf(category string) string {
	if category == "" && s.name == listening.name {
		return "(others)"
	}
	return nameOf(category)
}

// row is a category: what became of all, and what is not in its series.
type row struct {
	total  int64
	terms  []term
	oldest time.Duration
	note   int64
}

// term of the sum.
type term struct {
	n    int64
	text string
	cell string // of the bar
	sgr  string
}

var emitting = side{"emit", "EMIT", "in flight", "dead", "retried", func(k ledger.Kernel) map[string]row {
	rows := map[string]row{}
	for name, c := range k.Emit {
		rows[name] = row{total: c.Accepted, oldest: c.Oldest, note: c.Retried, terms: []term{
			{c.Confirmed, "confirmed", "█", green}, {c.InFlight, "in flight", "▒", blue}, {c.DeadLetters, "dead letters", "▓", red},
			{c.Failed, "failed", "▓", yellow}, {c.Dropped, "dropped", "▓", magenta}, {c.Undelivered, "undelivered", "▓", magenta},
		}}
	}
	return rows
}}

var listening = side{"listen", "LISTEN", "waiting", "working", "again", func(k ledger.Kernel) map[string]row {
	rows := map[string]row{}
	for name, c := range k.Listen {
		rows[name] = row{total: c.Received, oldest: c.Oldest, note: c.Redelivered, terms: []term{
			{c.Acked, "acknowledged", "█", green}, {c.Working, "working", "▒", blue}, {c.Waiting, "waiting", "░", cyan},
			{c.Failed, "failed", "▓", yellow}, {c.Rejected, "rejected", "▓", yellow}, {c.Expired, "expired", "▓", magenta},
			{c.Released, "released", "░", dim}, {c.LeaseLost, "lease lost", "▓", magenta}, {c.Lost, "lost", "▓", red},
		}}
	}
	return rows
}}

func (v *View) side(s side, kernel string, k ledger.Kernel, outcomes bool) []line {
	rows := s.rows(k)
	if len(rows) == 0 {
		return nil
	}
	l := v.layout()
	lines := []line{l.heading(s)}
	for _, category := range slices.Sorted(maps.Keys(rows)) {
		r, x := rows[category], v.series[place{kernel, s.name, category}]
		lines = append(lines, l.row(s, category, r, x))
		if outcomes {
			lines = append(lines, outcome(r, v.width()))
		}
	}
	return lines
}

// order of operations.
var operations = []swarm.Operation{swarm.OpSend, swarm.OpReceive, swarm.OpSettle, swarm.OpExtend}

func (v *View) requests(kernel string, k ledger.Kernel) []line {
	called := maps.Clone(k.Requests)
	maps.DeleteFunc(called, func(_ swarm.Operation, c swarm.RequestStats) bool { return c.Calls == 0 })
	if len(called) == 0 {
		return nil
	}
	names := slices.SortedFunc(maps.Keys(called), func(a, b swarm.Operation) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	l := v.layout()
	lines := []line{{{dim, left(" REQUESTS", l.name+1) + right("calls/s", l.rate+2) + right("a message", 12) + right("open", 7) + right("errors", 9)}}}
	for _, op := range names {
		c := k.Requests[op]
		errors := span{dim, right(short(c.Errors), 9)}
		if c.Errors > 0 {
			errors.sgr = yellow
		}
		lines = append(lines, line{
			{"", " " + left(string(op), l.name)}, {bold, right(rateOf(v.series[place{kernel, "request", string(op)}].rateIn), l.rate+2)},
			{"", right(ratio(c.Calls, c.Entries), 12) + right(short(c.Open), 7)}, errors,
		})
	}
	if k.Unconfirmed > 0 {
		lines = append(lines, line{{yellow, " settlements not confirmed: " + group(k.Unconfirmed)}})
	}
	return lines
}

func rank(op swarm.Operation) int {
	if i := slices.Index(operations, op); i >= 0 {
		return i
	}
	return len(operations)
}
