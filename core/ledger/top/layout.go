package top

import "time"

// layout is the widths of columns; 0: there is none.
type layout struct{ name, rate, spark, bar, gauge, oldest, note int }

// leastSpark is what a line of rates needs, mostSpark what it gets.
const leastSpark, mostSpark = 12, 60

// layout gives up columns until the rest has room.
func (v *View) layout() layout {
	l := layout{name: v.longest(), rate: 7, bar: 8, gauge: 9, oldest: 14, note: 8}
	width := v.width() - 1
	for _, give := range []func(){
		func() { l.note = 0 },
		func() { l.bar, l.gauge = 0, 10 },
		func() { l.oldest = 0 },
	} {
		if l.sum()+leastSpark+2 <= width {
			break
		}
		give()
	}
	if room := width - l.sum() - 2; room >= leastSpark {
		l.spark = min(room, mostSpark)
	}
	if over := l.sum() - width; over > 0 {
		l.name = max(4, l.name-over)
	}
	return l
}

func (l layout) sum() int {
	spark := 0
	if l.spark > 0 {
		spark = l.spark + 2
	}
	return 1 + l.name + 2*l.rate + spark + 2*(l.bar+l.gauge) + l.oldest + l.note
}

// longest name of what is shown, within reason.
func (v *View) longest() int {
	longest := 10
	for p := range v.series {
		longest = max(longest, cellsOf(nameOf(p.name)))
	}
	return min(longest, 24)
}

func (l layout) heading(s side) line {
	text := left(" "+s.heading, l.name+1) + right("in/s", l.rate) + right("out/s", l.rate)
	if l.spark > 0 {
		text += "  " + left("last "+ageOf(time.Duration(l.spark)*time.Second), l.spark)
	}
	text += right(s.a, l.bar+l.gauge) + right(s.b, l.bar+l.gauge)
	if l.oldest > 0 {
		text += right("oldest", l.oldest)
	}
	if l.note > 0 {
		text += right(s.note, l.note)
	}
	return line{{dim, text}}
}

func (l layout) row(s side, name string, r row, x *series) line {
	style := ""
	if x.blocked > 0 {
		style = red
	}
	out := line{{style, " " + left(s.nameOf(name), l.name)}, {bold, right(rateOf(x.rateIn), l.rate)}, {bold, right(rateOf(x.rateOut), l.rate)}}
	if l.spark > 0 {
		out = append(out, span{"", "  "}, span{blue, sparkline(x.rates, l.spark)})
	}
	out = append(out, l.bars(x.last.a, x.mostA, blue)...)
	tone := blue
	if x.last.dead > 0 {
		tone = red
	}
	out = append(out, l.bars(x.last.b, x.mostB, tone)...)
	if l.oldest > 0 {
		out = append(out, span{"", right(ageOf(r.oldest), l.oldest)})
	}
	if l.note > 0 {
		out = append(out, span{dim, right(short(r.note), l.note)})
	}
	return out
}

// bars is a gauge: the bar, and the number.
func (l layout) bars(n, most int64, sgr string) line {
	if l.bar == 0 {
		return line{{"", right(short(n), l.gauge)}}
	}
	const number = 6
	space := l.bar + l.gauge - number - 2
	return line{{"", "  "}, {sgr, left(bar(n, most, space), space)}, {"", right(short(n), number)}}
}

// outcome is the sum of a category, as a bar and in words.
func outcome(r row, width int) line {
	cells := min(24, max(8, width/5))
	out := line{{"", "   "}}
	out = append(out, stack(r.terms, cells)...)
	out = append(out, span{"", " " + group(r.total)}, span{dim, " ="})
	joint := " "
	for i, t := range r.terms {
		if t.n == 0 && i > 0 {
			continue
		}
		out = append(out, span{dim, joint}, span{"", group(t.n)}, span{dim, " " + t.text})
		joint = " + "
	}
	return out
}
