package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// event is one of go test -json: see go doc test2json. ImportPath is of a build.
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// modules are the paths of the modules of the workspace, or of the only one.
func modules() ([]string, error) {
	out, err := exec.Command("go", "list", "-m").Output()
	return strings.Fields(string(out)), err
}

// goTest runs go test, prints what it would have printed, and counts.
func goTest(args, modules []string, out io.Writer) (report, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	r, w := io.Pipe()
	cmd.Stdout = w
	read := make(chan report)
	go func() { read <- follow(r, modules, out) }()
	err := forward(cmd)
	w.Close()
	return <-read, err
}

// run is one of a package.
type run struct {
	lines  []event
	result map[string]string // of tests, by name: the last action
	parent map[string]bool   // tests that have tests
	race   bool              // was seen; it may be in the output of a test that is well
}

func follow(in io.Reader, modules []string, out io.Writer) report {
	all := report{}
	runs := map[string]*run{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) != nil {
			out.Write(line) // of a program that ran before the tests, or of go itself
		} else if e.Action == "build-output" {
			io.WriteString(out, e.Output)
		} else if e.Package != "" {
			r := runs[e.Package]
			if r == nil {
				r = &run{result: map[string]string{}, parent: map[string]bool{}}
				runs[e.Package] = r
			}
			if r.add(e) {
				r.print(out, e.Action == "fail")
				r.count(all.module(moduleOf(e.Package, modules)), e.Action)
				delete(runs, e.Package)
			}
		}
		if err != nil {
			break
		}
	}
	for _, r := range runs { // go test was killed
		r.print(out, true)
	}
	return all
}

// add takes an event, and reports that it is the last one of the package.
func (r *run) add(e event) (last bool) {
	switch e.Action {
	case "output":
		r.lines = append(r.lines, e)
		r.race = r.race || strings.Contains(e.Output, "WARNING: DATA RACE")
	case "run":
		for i := range e.Test {
			if e.Test[i] == '/' {
				r.parent[e.Test[:i]] = true
			}
		}
		r.result[e.Test] = "run"
	case "pass", "fail", "skip":
		r.result[e.Test] = e.Action
		return e.Test == ""
	}
	return false
}

// print writes what go test prints without -json: when the package failed, all but the tests
// that are well; otherwise its line.
func (r *run) print(out io.Writer, failed bool) {
	for _, l := range r.lines {
		well := r.result[l.Test] == "pass" || r.result[l.Test] == "skip"
		switch {
		case strings.HasPrefix(l.Output, "=== "):
		case failed && (l.Test == "" || !well || r.race), l.Test == "" && isLine(l.Output):
			io.WriteString(out, l.Output)
		}
	}
}

// isLine tells the line of a package from what its tests print by themselves.
func isLine(text string) bool {
	return strings.HasPrefix(text, "ok  \t") || strings.HasPrefix(text, "?   \t")
}

var at = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reasons are the texts of the tests that were skipped.
func (r *run) reasons() map[string]string {
	why := map[string]string{}
	for _, l := range r.lines {
		if r.result[l.Test] != "skip" || l.Test == "" || strings.HasPrefix(l.Output, "=== ") || strings.HasPrefix(strings.TrimSpace(l.Output), "--- ") {
			continue
		}
		why[l.Test] = strings.TrimSpace(why[l.Test] + " " + strings.TrimSpace(at.ReplaceAllString(l.Output, "")))
	}
	return why
}

// count adds the tests that have no tests.
func (r *run) count(m *module, action string) {
	if len(r.result) > 1 || action != "skip" { // skip: it has no test files
		m.Packages++
	}
	if action == "fail" {
		m.Broken++
	}
	why := r.reasons()
	for name, result := range r.result {
		switch {
		case name == "" || r.parent[name]:
		case result == "pass":
			m.Passed++
		case result == "skip":
			m.Skipped[cmp.Or(why[name], "no reason given")]++
		default: // fail, or cut off
			m.Failed++
		}
	}
}

// moduleOf is the module that a package is of.
func moduleOf(pkg string, modules []string) (longest string) {
	for _, m := range modules {
		if (pkg == m || strings.HasPrefix(pkg, m+"/")) && len(m) > len(longest) {
			longest = m
		}
	}
	return cmp.Or(longest, pkg)
}
