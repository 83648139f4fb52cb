package main

import (
	"regexp"
	"strings"
)

// table of a page.
type table struct {
	header []string
	rows   []row
	end    int // line of the last row
}

type row struct {
	line  int
	cells []string
}

var rule = regexp.MustCompile(`^\|[-:| ]+\|$`)

// row adds a line to the tables of the page, if it is one of a table.
func (p *page) row(line int, text string) {
	if !strings.HasPrefix(text, "|") || !strings.HasSuffix(text, "|") {
		return
	}
	n := len(p.tables)
	if n == 0 || p.tables[n-1].end != line-1 {
		p.tables = append(p.tables, table{header: cells(text), end: line})
		return
	}
	t := &p.tables[n-1]
	t.end = line
	if !rule.MatchString(text) {
		t.rows = append(t.rows, row{line, cells(text)})
	}
}

// cells of a row. A | in quotes separates nothing.
func cells(text string) (all []string) {
	var cell strings.Builder
	quotes := false
	for _, c := range strings.TrimPrefix(text, "|") {
		switch {
		case c == '`':
			quotes = !quotes
			cell.WriteRune(c)
		case c == '|' && !quotes:
			all = append(all, strings.TrimSpace(cell.String()))
			cell.Reset()
		default:
			cell.WriteRune(c)
		}
	}
	return all
}

// column is the index of a heading, or -1.
func (t *table) column(name string) int {
	for i, h := range t.header {
		if h == name {
			return i
		}
	}
	return -1
}
