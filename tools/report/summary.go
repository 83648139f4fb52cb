package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is of the modules that were tested, by path.
type report map[string]*module

// module counts tests that have no subtests.
type module struct {
	Packages int            // with tests
	Broken   int            // packages that failed
	Passed   int            // tests
	Failed   int            // tests
	Skipped  map[string]int // tests, by reason
}

func (r report) module(path string) *module {
	if r[path] == nil {
		r[path] = &module{Skipped: map[string]int{}}
	}
	return r[path]
}

func (m *module) skipped() (n int) {
	for _, k := range m.Skipped {
		n += k
	}
	return n
}

func (m *module) add(other *module) {
	m.Packages += other.Packages
	m.Broken += other.Broken
	m.Passed += other.Passed
	m.Failed += other.Failed
	for why, n := range other.Skipped {
		m.Skipped[why] += n
	}
}

// save adds the report to a file, which load reads.
func (r report) save(file string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(json.NewEncoder(f).Encode(r), f.Close())
}

func load(file string) (report, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := report{}
	for d := json.NewDecoder(f); ; {
		var r report
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		for path, m := range r {
			all.module(path).add(m)
		}
	}
}

func (r report) print(out io.Writer) {
	if len(r) == 0 {
		return
	}
	paths := slices.Sorted(maps.Keys(r))
	sum := &module{Skipped: map[string]int{}}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "packages\tpassed\tfailed\tskipped\t  module")
	for _, path := range paths {
		m := r[path]
		sum.add(m)
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t  %s\n", m.Packages, m.Passed, m.Failed, m.skipped(), path)
	}
	t.Flush()
	r.printSkipped(out, paths)
	if sum.Broken > sum.Failed {
		fmt.Fprintf(out, "%d packages failed\n", sum.Broken)
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", sum.Passed, sum.Failed, sum.skipped())
}

// printSkipped prints why tests were skipped: reasons that begin alike, up to a comma, stand
// together.
func (r report) printSkipped(out io.Writer, paths []string) {
	for _, path := range paths {
		m := r[path]
		if len(m.Skipped) == 0 {
			continue
		}
		fmt.Fprintf(out, "\nskipped in %s\n", path)
		sums, details := map[string]int{}, map[string][]string{}
		for _, why := range slices.Sorted(maps.Keys(m.Skipped)) {
			kind, detail, ok := strings.Cut(why, ", ")
			sums[kind] += m.Skipped[why]
			if ok {
				details[kind] = append(details[kind], fmt.Sprintf("%d %s", m.Skipped[why], detail))
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(sums)) {
			fmt.Fprintf(out, "%6d  %s\n", sums[kind], wrap(kind, details[kind]))
		}
	}
}

// wrap puts details behind a text, in lines that are not too long.
func wrap(text string, details []string) string {
	const width, indent = 110, "\n          "
	length := len(text)
	for i, d := range details {
		separator := "; "
		if i == 0 {
			separator = ": "
		}
		if length += len(separator) + len(d); length > width {
			separator, length = strings.TrimSpace(separator)+indent, len(d)
		}
		text += separator + d
	}
	return text
}

// step is one that ran.
type step struct {
	name   string
	took   time.Duration
	failed error
}

func printSteps(out io.Writer, ran []step, names []string, took time.Duration) {
	fmt.Fprintln(out)
	verdict := "all steps passed"
	for _, s := range ran {
		how := "passed"
		if s.failed != nil {
			how, verdict = "FAILED: "+s.failed.Error(), s.name+" failed"
		}
		fmt.Fprintf(out, "%-12s%8s  %s\n", s.name, s.took.Round(time.Second), how)
	}
	if left := names[len(ran):]; len(left) > 0 {
		fmt.Fprintf(out, "not run: %s\n", strings.Join(left, ", "))
	}
	fmt.Fprintf(out, "%s in %s\n", verdict, took.Round(time.Second))
}
