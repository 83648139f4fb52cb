// Licences checks what each module of the repository depends on, and its licence. With -list
// it prints that.
//
// Direct dependencies are those of the go.mod files: docs/dependencies.md has a line with
// the reason and the licence for each, and no other line. Licences are read from the files of
// every module that has a package in a build, a test or a tool of ours. It exits with status 1
// when a line is missing or wrong, or when a licence is unknown or not allowed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"golang.org/x/mod/modfile"

	"github.com/fogfish/swarm/tools/internal/workspace"
)

// allowed are the licences that ask for no more than their text, and MPL-2.0, which asks for
// the source of the files that are under it.
var allowed = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MPL-2.0"}

const (
	ours = "github.com/fogfish/swarm/"
	page = "docs/dependencies.md"
)

func main() {
	root := flag.String("root", ".", "folder of go.work")
	all := flag.Bool("list", false, "print the list")
	flag.Parse()
	out := io.Discard
	if *all {
		out = os.Stdout
	}
	if err := run(*root, out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string, out io.Writer) error {
	folders, err := workspace.Folders(root)
	if err != nil {
		return err
	}
	folders = append([]string{"./tools"}, folders...)
	text, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		return err
	}
	c := checker{out: out, lines: parse(string(text)), licences: map[string]string{}}
	for _, folder := range folders {
		c.check(filepath.Join(root, folder), strings.TrimPrefix(folder, "./"))
	}
	c.unused()
	if len(c.errs) == 0 {
		fmt.Printf("licences: %d modules of others, all documented and allowed\n", len(c.licences))
	}
	return errors.Join(c.errs...)
}

// line of the page is for the modules that it names; one that ends in /... is for all below.
type line struct {
	number       int
	modules      []string
	licence, who string
	reason       string
	used         map[string]bool
}

var name = regexp.MustCompile("`([^`]+)`")

// parse reads the rows: modules, licence, used by, why.
func parse(text string) (lines []*line) {
	for i, row := range strings.Split(text, "\n") {
		cells := strings.Split(row, "|")
		if len(cells) != 6 {
			continue
		}
		l := &line{number: i + 1, licence: strings.TrimSpace(cells[2]), who: strings.TrimSpace(cells[3]), reason: strings.TrimSpace(cells[4]), used: map[string]bool{}}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			l.modules = append(l.modules, m[1])
		}
		if len(l.modules) > 0 {
			lines = append(lines, l)
		}
	}
	return lines
}

func covers(pattern, module string) bool {
	below, all := strings.CutSuffix(pattern, "...")
	return pattern == module || all && strings.HasPrefix(module, below)
}

type checker struct {
	out      io.Writer
	lines    []*line
	licences map[string]string // by path@version
	errs     []error
}

func (c *checker) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// check checks a module.
func (c *checker) check(dir, folder string) {
	direct, err := requirements(filepath.Join(dir, "go.mod"))
	if err != nil {
		c.fail("%s: %w", folder, err)
		return
	}
	built, err := list(dir)
	if err != nil {
		c.fail("%s: %w", folder, err)
		return
	}
	others := 0
	fmt.Fprintln(c.out, folder)
	for _, path := range slices.Sorted(maps.Keys(built)) {
		m := built[path]
		licence := c.licence(m)
		if !direct[path] {
			others++
			continue
		}
		fmt.Fprintf(c.out, "\t%s %s, %s\n", path, m.Version, licence)
		c.documented(folder, path, licence)
		delete(direct, path)
	}
	if others > 0 {
		fmt.Fprintf(c.out, "\tand %d that these need\n", others)
	}
	for path := range direct {
		c.fail("%s: requires %s, and uses no package of it", folder, path)
	}
}

// requirements are the direct ones, ours left out.
func requirements(file string) (map[string]bool, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse(file, raw, nil)
	if err != nil {
		return nil, err
	}
	direct := map[string]bool{}
	for _, r := range mod.Require {
		tool := slices.ContainsFunc(mod.Tool, func(t *modfile.Tool) bool { return strings.HasPrefix(t.Path+"/", r.Mod.Path+"/") })
		if (!r.Indirect || tool) && !strings.HasPrefix(r.Mod.Path, ours) {
			direct[r.Mod.Path] = true
		}
	}
	return direct, nil
}

// module is what go list tells.
type module struct {
	Path, Version, Dir string
	Main               bool
	Replace            *module
}

// list is the modules with a package in a build, a test or a tool.
func list(dir string) (map[string]*module, error) {
	patterns := []string{"./..."}
	if filepath.Base(dir) == "tools" {
		patterns = append(patterns, "tool")
	}
	cmd := exec.Command("go", append([]string{"list", "-deps", "-test", "-json=Module"}, patterns...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	all := map[string]*module{}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var pkg struct{ Module *module }
		if err := d.Decode(&pkg); err != nil {
			return nil, err
		}
		if m := pkg.Module; m != nil && !m.Main && m.Replace == nil {
			all[m.Path] = m
		}
	}
	return all, nil
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying)(\.(txt|md))?$`)

// licence reads the licence of a module, once.
func (c *checker) licence(m *module) string {
	id := m.Path + "@" + m.Version
	if l, ok := c.licences[id]; ok {
		return l
	}
	found, err := identify(m.Dir)
	if err != nil {
		c.fail("%s: %w", id, err)
	}
	c.licences[id] = strings.Join(found, ", ")
	for _, l := range found {
		if !slices.Contains(allowed, l) {
			c.fail("%s: the licence %s is not allowed", id, l)
		}
	}
	return c.licences[id]
}

// identify is the licences of the files in a folder. Most of the text of each has to be that
// of licences.
func identify(dir string) (found []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !licenceFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		cover := licensecheck.Scan(text)
		if cover.Percent < 75 {
			return nil, fmt.Errorf("%s is %.0f %% of a licence that is known", e.Name(), cover.Percent)
		}
		for _, m := range cover.Match {
			if !slices.Contains(found, m.ID) {
				found = append(found, m.ID)
			}
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no licence")
	}
	return found, nil
}

// documented checks the line of a direct dependency.
func (c *checker) documented(folder, path, licence string) {
	for _, l := range c.lines {
		for _, pattern := range l.modules {
			if !covers(pattern, path) {
				continue
			}
			l.used[pattern] = true
			if l.licence != licence {
				c.fail("%s:%d: %s has the licence %s", page, l.number, path, licence)
			}
			if l.reason == "" || l.who == "" {
				c.fail("%s:%d: no reason, or nobody who uses %s", page, l.number, path)
			}
			return
		}
	}
	c.fail("%s: no line for %s, which %s requires", page, path, folder)
}

// unused reports lines without a dependency.
func (c *checker) unused() {
	for _, l := range c.lines {
		for _, pattern := range l.modules {
			if !l.used[pattern] {
				c.fail("%s:%d: nothing requires %s", page, l.number, pattern)
			}
		}
	}
}
