package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The tables of brokers claim what a broker can do. Each cell is held against the code of
// the broker, and against the program that it links to.

// terms are the words of the tables, and the names in a broker's code that make them true:
// one of them has to be there. A name with a slash is what its tests import.
var terms = map[string][]string{
	"yes":                  nil, // the capability itself, which is checked first
	"queue":                nil, // so is this one
	"in memory":            {"NewQueue"},
	"leases":               {"WithVisibility", "Lease"},
	"delays":               {"WithDelay"},
	"attempts":             {"Attempt"},
	"dead letters":         {"WithMaxReceives"},
	"FIFO groups":          {"WithFIFO"},
	"deduplication":        {"WithDedup"},
	"testing/synctest":     {"testing/synctest"},
	"long poll":            {"WaitTimeSeconds"},
	"partial answers":      {partial},
	"event source mapping": {partial},
	"event":                {"EventBridgeEvent"},
	"array":                {"Events"},
	"target of a rule":     {"EventBridgeEvent"},
	"records":              {"SNSEventRecord", "Objects"},
	"subscription":         {"SNSEventRecord"},
	"notification":         {"Objects"},
	"shards":               {"GetShardIterator"},
	"standard and FIFO":    {"FIFO"},
	"fan-out":              nil, // a link
	"typed records":        {"Record"},
	"keys decoded":         {"QueryUnescape"},
	"typed changes":        {"Change"},
	"in order":             {"Ordered"},
	"routes":               {"RouteKey"},
	"reply":                {"Reply"},
	"broadcast":            {"Broadcaster"},
	"connect":              {"Connects"},
	"disconnect":           {"Disconnects"},
	"authorizers":          nil, // a link
}

// longestFirst, so that an event source mapping is no event.
var longestFirst = slices.SortedFunc(maps.Keys(terms), func(a, b string) int {
	return cmp.Or(len(b)-len(a), strings.Compare(a, b))
})

const partial = "BatchItemFailures"

// envelopes are the words for what a queue may be fed by, and the name that the program says.
var envelopes = map[string]string{"a topic": "SNS", "a bus": "EventBridge"}

// broker is a package that makes kernels.
type broker struct {
	name, path  string
	code, tests *code
	envelope    string // of package sqs, for those that are heard through a queue
}

// emits, polls and invoked are what its API has.
func (b *broker) emits() bool { return b.code.functions["Emitter"] || b.code.functions["Endpoint"] }

func (b *broker) polls() bool { return b.code.methods["Receive"] || b.code.methods["Run"] }

func (b *broker) invoked() bool { return b.code.methods["WithLambda"] }

// has reports that a name is in its code.
func (b *broker) has(name string) bool {
	if strings.Contains(name, "/") {
		return b.tests.words[name]
	}
	return b.code.words[name]
}

// brokers are the broker in memory, and the modules below the folder broker.
func (r *repository) readBrokers() (map[string]*broker, error) {
	folders := []string{"core/embedded"}
	mods, err := filepath.Glob(filepath.Join(r.root, "broker", "*", "go.mod"))
	if err != nil {
		return nil, err
	}
	for _, mod := range mods {
		if name := filepath.Base(filepath.Dir(mod)); name != "internal" {
			folders = append(folders, "broker/"+name)
		}
	}
	all := map[string]*broker{}
	for _, folder := range folders {
		b := &broker{name: filepath.Base(folder), path: repositoryPath + "/" + folder}
		if b.code, err = readCode(filepath.Join(r.root, folder), false); err != nil {
			return nil, err
		}
		if b.tests, err = readCode(filepath.Join(r.root, folder), true); err != nil {
			return nil, err
		}
		all[b.name] = b
	}
	if sqs := all["sqs"]; sqs != nil {
		for _, b := range all {
			b.envelope = sqs.envelopeOf(b.name)
		}
	}
	return all, nil
}

// envelopeOf is the constant of package sqs that is named after a broker: S3 for events3.
func (b *broker) envelopeOf(name string) string {
	for _, word := range []string{"SNS", "EventBridge", "S3"} {
		if b.code.words[word] && strings.HasSuffix(name, strings.ToLower(word)) {
			return word
		}
	}
	return ""
}

// checkBrokers checks the tables whose first column is the broker.
func (r *repository) checkBrokers() error {
	brokers, err := r.readBrokers()
	if err != nil {
		return err
	}
	var errs []error
	for _, page := range []string{"README.md", "docs/brokers.md"} {
		found := 0
		for _, t := range r.pages[page].tables {
			if t.header[0] != "broker" {
				continue
			}
			found++
			c := claims{repository: r, brokers: brokers, page: page, table: t, linked: page == "README.md"}
			errs = append(errs, c.check())
		}
		if found == 0 {
			errs = append(errs, fmt.Errorf("%s: no table of brokers", page))
		}
	}
	return errors.Join(errs...)
}

// claims are those of a table.
type claims struct {
	*repository
	brokers map[string]*broker
	page    string
	table   table
	linked  bool // a claim needs a program that shows it
}

func (c *claims) check() error {
	var errs []error
	seen := map[string]bool{}
	for _, row := range c.table.rows {
		name, _, _ := strings.Cut(plain(row.cells[0]), ",")
		b := c.brokers[name]
		if b == nil {
			errs = append(errs, fmt.Errorf("%s:%d: there is no broker %s", c.page, row.line, name))
			continue
		}
		seen[name] = true
		for i, cell := range row.cells {
			if i == 0 || i >= len(c.table.header) {
				continue
			}
			if err := c.cell(b, c.table.header[i], cell); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %s, %s: %w", c.page, row.line, name, c.table.header[i], err))
			}
		}
	}
	for name, b := range c.brokers {
		if !seen[name] && c.lists(b) {
			errs = append(errs, fmt.Errorf("%s: a table of brokers lacks %s", c.page, name))
		}
	}
	return errors.Join(errs...)
}

// lists reports that a broker belongs into the table: all have those with capabilities.
func (c *claims) lists(b *broker) bool {
	return c.table.column("emit") >= 0 || c.table.column("emitters") >= 0 && b.invoked()
}

func (c *claims) cell(b *broker, column, cell string) error {
	if err := c.spans(b, cell); err != nil {
		return err
	}
	switch column {
	case "emit":
		return c.emit(b, cell)
	case "listen in a service":
		return c.service(b, cell)
	case "listen in AWS Lambda":
		return c.lambda(b, cell)
	case "notes":
		return c.prose(b, cell)
	case "largest message":
		return size(b, cell)
	case "emitters":
		return variable(b, "EnvTarget", cell)
	case "listeners":
		return variable(b, "EnvSource", cell)
	}
	return nil
}

func (c *claims) emit(b *broker, cell string) error {
	if err := agrees(cell, b.emits(), "Emitter or Endpoint"); err != nil || cell == "" {
		return err
	}
	return errors.Join(c.shown(cell, b.path+".Emitter", b.path+".Endpoint"), c.prose(b, cell))
}

func (c *claims) service(b *broker, cell string) error {
	if err := agrees(cell, b.polls() || b.envelope != "", "a driver that polls, nor an envelope of package sqs"); err != nil || cell == "" {
		return err
	}
	shown := []string{b.path + ".Listener", b.path + ".Endpoint"}
	if !b.polls() {
		if !strings.Contains(cell, "queue") {
			return fmt.Errorf("%q: it does not poll, and is heard through a queue", cell)
		}
		shown = []string{c.brokers["sqs"].path + "." + b.envelope}
		if !c.linked && !strings.Contains(cell, "sqs."+b.envelope) {
			return fmt.Errorf("%q: the way is sqs.%s", cell, b.envelope)
		}
	}
	return errors.Join(c.shown(cell, shown...), c.envelopes(cell), c.prose(b, cell))
}

// envelopes checks what a queue is said to be fed by.
func (c *claims) envelopes(cell string) error {
	for word, name := range envelopes {
		if c.linked && strings.Contains(cell, word) {
			if err := c.shown(cell, c.brokers["sqs"].path+"."+name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *claims) lambda(b *broker, cell string) error {
	if err := agrees(cell, b.invoked(), "WithLambda"); err != nil || cell == "" {
		return err
	}
	if says := strings.Contains(cell, "partial answers"); says != b.has(partial) {
		return fmt.Errorf("%q: says partial answers: %t, and its code: %t", cell, says, b.has(partial))
	}
	if c.linked {
		for _, l := range linked.FindAllStringSubmatch(cell, -1) {
			if p, err := readCode(filepath.Join(c.root, l[1]), false); err != nil || !p.program {
				return fmt.Errorf("link %s: no program, which a function is (%v)", l[1], err)
			}
		}
	}
	return errors.Join(c.shown(cell, b.path+".Listener", b.path+".Endpoint"), c.prose(b, cell))
}

// agrees reports a claim without code, or code without a claim.
func agrees(cell string, able bool, by string) error {
	if cell != "" && !able {
		return fmt.Errorf("claims %q, and the package has not %s", cell, by)
	}
	if cell == "" && able {
		return fmt.Errorf("claims nothing, and the package can")
	}
	return nil
}

// shown checks that a program behind a link of the cell uses one of the names.
func (c *claims) shown(cell string, names ...string) error {
	if !c.linked {
		return nil
	}
	links := linked.FindAllStringSubmatch(cell, -1)
	if len(links) == 0 {
		return fmt.Errorf("%q: no link to a program that shows it", cell)
	}
	for _, l := range links {
		program, err := readCode(filepath.Join(c.root, l[1]), strings.HasSuffix(l[1], "_test.go"))
		if err != nil {
			return fmt.Errorf("link %s: %w", l[1], err)
		}
		if slices.ContainsFunc(names, func(n string) bool { return program.uses[n] }) {
			return nil
		}
	}
	return fmt.Errorf("%q: what it links to uses none of %s", cell, strings.Join(names, ", "))
}

var (
	operation = regexp.MustCompile(`^[A-Z][a-z]+[A-Z]\w*$`)
	number    = regexp.MustCompile(`\b\d+\.\d+\b`)
	phrases   = regexp.MustCompile(`[,;.:](?:\s+|$)`)
)

// prose checks each phrase of a cell: it is an operation that the package calls, or has a
// term that is true of it, or a number that was measured.
func (c *claims) prose(b *broker, cell string) error {
	for _, phrase := range phrases.Split(plain(cell), -1) {
		if phrase = strings.TrimSpace(phrase); phrase == "" {
			continue
		}
		if operation.MatchString(phrase) {
			if !b.code.ports[phrase] || !b.code.calls[phrase] {
				return fmt.Errorf("%q: the package does not call it", phrase)
			}
			continue
		}
		known, err := c.terms(b, phrase)
		if err == nil && !known && !strings.Contains(phrase, ".With") {
			err = fmt.Errorf("%q: nobody can check that; tools/docs knows the words that stand for code", phrase)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *claims) terms(b *broker, phrase string) (known bool, err error) {
	for word := range envelopes {
		known = known || strings.Contains(phrase, word)
	}
	for _, n := range number.FindAllString(phrase, -1) {
		known = true
		if err := c.measured(b, n, phrase); err != nil {
			return true, err
		}
	}
	for _, term := range longestFirst {
		word := regexp.MustCompile(`\b` + regexp.QuoteMeta(term) + `\b`)
		if !word.MatchString(phrase) {
			continue
		}
		known, phrase = true, word.ReplaceAllString(phrase, "")
		if names := terms[term]; len(names) > 0 && !slices.ContainsFunc(names, b.has) {
			return true, fmt.Errorf("%q: its code has no %s", term, strings.Join(names, " or "))
		}
	}
	return known, nil
}

// measured holds a number of requests against the benchmarks: all that `make bench` has
// written of this broker have it, to its last digit.
func (c *claims) measured(b *broker, n, phrase string) error {
	want, _ := strconv.ParseFloat(n, 64)
	of := "Send/"
	if strings.Contains(phrase, "receive") {
		of = "Receive/"
	}
	found := false
	for _, t := range c.pages["docs/benchmarks.md"].tables {
		for _, row := range t.rows {
			if row.cells[0] != "broker/"+b.name || !strings.HasPrefix(row.cells[1], of) || row.cells[2] != "requests/msg" {
				continue
			}
			found = true
			got, err := strconv.ParseFloat(row.cells[3], 64)
			if err != nil || math.Abs(got-want) > 0.05 {
				return fmt.Errorf("%q: benchmarks.md has %s of %s", n, row.cells[3], row.cells[1])
			}
		}
	}
	if !found {
		return fmt.Errorf("%q: benchmarks.md has no requests/msg of %s%s", n, "broker/"+b.name+" ", of)
	}
	return nil
}

var (
	span      = regexp.MustCompile("`([^`]+)`")
	qualified = regexp.MustCompile(`\b([a-z]\w*)\.([A-Z]\w*)`)
	option    = regexp.MustCompile(`^With\w+$`)
)

// spans checks the names of code in a cell.
func (c *claims) spans(b *broker, cell string) error {
	for _, s := range span.FindAllStringSubmatch(cell, -1) {
		for _, name := range qualified.FindAllStringSubmatch(s[1], -1) {
			of := c.brokers[name[1]]
			if of == nil || !of.code.functions[name[2]] && !of.code.methods[name[2]] && !of.code.words[name[2]] {
				return fmt.Errorf("there is no %s", name[0])
			}
		}
		if option.MatchString(s[1]) && !b.code.functions[s[1]] && !b.code.methods[s[1]] {
			return fmt.Errorf("the package has no %s", s[1])
		}
	}
	return nil
}

var sized = regexp.MustCompile(`^(\d+) ([KM])iB$`)

// size checks a size that a cell names: it is in the code.
func size(b *broker, cell string) error {
	m := sized.FindStringSubmatch(cell)
	if m == nil {
		return nil
	}
	n, _ := strconv.ParseInt(m[1], 10, 64)
	n <<= map[string]int{"K": 10, "M": 20}[m[2]]
	if !b.code.sizes[n] {
		return fmt.Errorf("%q: its code has no such size", cell)
	}
	return nil
}

// variable checks the name of a variable of the environment, a constant of the package.
func variable(b *broker, constant, cell string) error {
	want := b.code.constants[constant]
	got := strings.Trim(cell, "`")
	if strings.HasPrefix(cell, "none") {
		got = ""
	}
	if got != want {
		return fmt.Errorf("claims %q, and %s is %q", cell, constant, want)
	}
	return nil
}

// plain is a cell without its links and quotes.
func plain(cell string) string {
	return strings.ReplaceAll(strings.ReplaceAll(linked.ReplaceAllString(cell, ""), "[", ""), "`", "")
}
