// Release proposes the next versions of the modules that go.work lists, and makes them.
//
//	release -root ..                     # what would be released, and why
//	release -root .. -do                 # commit, and tag
//	release -root .. -do -push origin    # and push
//	release -root .. core=v1.0.0         # a version of your own choice
//
// A module is released when what its users get has changed since its last tag, or when
// something it is built from is released. Its API is compared with the one of the tag: what
// is gone or different is a major version, what is new a minor one, else it is a patch. In
// v0 a break raises the minor number. Each module that changed needs a line in CHANGELOG.md,
// under the heading "## MODULE, unreleased".
//
// Main keeps its replace lines, the tagged commit beside it has none: go install refuses a
// module that has them.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"

	"github.com/fogfish/swarm/tools/internal/workspace"
)

func main() {
	var r release
	flag.StringVar(&r.root, "root", ".", "folder of go.work")
	flag.BoolVar(&r.do, "do", false, "make the releases; default is to tell them")
	flag.StringVar(&r.remote, "push", "", "remote to push to")
	flag.StringVar(&r.test, "test", "make test", "command that must succeed before")
	flag.Parse()
	r.out = os.Stdout
	if err := r.run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// first is the version of a module that has no tag.
const first = "v0.1.0"

// never are modules without users.
var never = []string{"examples", "examples/serverless/stack"}

type release struct {
	root, remote, test string
	do                 bool
	out                io.Writer
	apidiff            string // the tool, once it is built
}

// module of the workspace.
type module struct {
	dir, path string
	requires  []string // siblings, by path
	builds    []string // siblings that it is built from, tests apart
	last      string   // version; empty: none

	changed bool
	level   level
	why     []string
	next    string // version; empty: it is not released
}

type level int

const (
	none level = iota
	patch
	minor
	major
)

func (l level) String() string { return [...]string{"none", "patch", "minor", "major"}[l] }

func (m *module) tag(version string) string { return m.dir + "/" + version }

func (r *release) run(chosen []string) error {
	root, err := filepath.Abs(r.root)
	if err != nil {
		return err
	}
	r.root = root
	modules, err := r.modules()
	if err != nil {
		return err
	}
	log, err := os.ReadFile(filepath.Join(r.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	defer func() {
		if r.apidiff != "" {
			os.RemoveAll(filepath.Dir(r.apidiff))
		}
	}()
	if err := r.plan(modules, chosen); err != nil {
		return err
	}
	changelog, errs := entries(string(log), modules)
	released := slices.DeleteFunc(slices.Clone(modules), func(m *module) bool { return m.next == "" })
	for _, m := range released {
		fmt.Fprintf(r.out, "%s %s (%s: %s)\n", m.dir, m.next, m.level, strings.Join(m.why, "; "))
		for line := range strings.Lines(changelog[m.dir]) {
			fmt.Fprintf(r.out, "    %s", line)
		}
	}
	if len(released) == 0 {
		fmt.Fprintln(r.out, "nothing has changed")
		return nil
	}
	for _, m := range released {
		if want := pathOf(m.path, m.next); want != m.path {
			errs = append(errs, fmt.Errorf("%s: %s needs the module path %s: keep the old API, or change go.mod and all imports", m.dir, m.next, want))
		}
	}
	dirty, err := r.git("status", "--porcelain")
	if err == nil && dirty != "" {
		err = fmt.Errorf("the tree is not clean:\n%s", dirty)
	}
	if err := errors.Join(append(errs, err)...); err != nil || !r.do {
		return err
	}
	if err := r.command(r.root, "sh", "-c", r.test); err != nil {
		return fmt.Errorf("tests: %w", err)
	}
	return r.make(modules, released, string(log), changelog)
}

// pathOf is the module path that a version needs.
func pathOf(path, version string) string {
	if n := semver.Major(version); n != "v0" && n != "v1" {
		return strings.TrimSuffix(path, "/"+n) + "/" + n
	}
	return path
}

// modules of the workspace, in the order of their dependencies.
func (r *release) modules() ([]*module, error) {
	folders, err := workspace.Folders(r.root)
	if err != nil {
		return nil, err
	}
	all := map[string]*module{}
	for _, folder := range folders {
		dir := filepath.ToSlash(filepath.Clean(folder))
		file, err := r.file(dir)
		if err != nil {
			return nil, err
		}
		m := &module{dir: dir, path: file.Module.Mod.Path}
		for _, x := range file.Require {
			m.requires = append(m.requires, x.Mod.Path)
		}
		all[m.path] = m
	}
	var sorted []*module
	var visit func(*module)
	seen := map[string]bool{}
	visit = func(m *module) {
		if seen[m.path] {
			return
		}
		seen[m.path] = true
		m.requires = slices.DeleteFunc(m.requires, func(p string) bool { return all[p] == nil })
		for _, p := range slices.Sorted(slices.Values(m.requires)) {
			visit(all[p])
		}
		sorted = append(sorted, m)
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		visit(all[path])
	}
	return sorted, nil
}

func (r *release) file(dir string) (*modfile.File, error) {
	name := filepath.Join(r.root, dir, "go.mod")
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(name, raw, nil)
}

// plan finds what is to be released, and how.
func (r *release) plan(modules []*module, chosen []string) error {
	versions := map[string]string{}
	for _, c := range chosen {
		dir, version, ok := strings.Cut(c, "=")
		if !ok || !semver.IsValid(version) || semver.Canonical(version) != version {
			return fmt.Errorf("%q: want MODULE=vX.Y.Z", c)
		}
		versions[dir] = version
	}
	released := map[string]*module{}
	for _, m := range modules {
		if slices.Contains(never, m.dir) {
			continue
		}
		if err := r.compare(m, modules); err != nil {
			return fmt.Errorf("%s: %w", m.dir, err)
		}
		for _, p := range m.builds {
			if on := released[p]; on != nil {
				m.level = max(m.level, patch)
				m.why = append(m.why, "requires "+on.dir+" "+on.next)
			}
		}
		own := versions[m.dir]
		delete(versions, m.dir)
		switch {
		case own != "" && semver.Compare(own, m.last) <= 0:
			return fmt.Errorf("%s=%s: %s is there already", m.dir, own, m.last)
		case own != "":
			m.next, m.level = own, max(m.level, patch)
			m.why = append(m.why, "as you say")
		case m.level > none:
			m.next = next(m.last, m.level)
		}
		if m.next != "" {
			released[m.path] = m
		}
	}
	for dir := range versions {
		return fmt.Errorf("%s is no module that is released", dir)
	}
	return nil
}

// next is the version after last.
func next(last string, l level) string {
	if last == "" {
		return first
	}
	var x, y, z int
	_, _ = fmt.Sscanf(last, "v%d.%d.%d", &x, &y, &z)
	if x == 0 && l == major {
		l = minor
	}
	switch l {
	case major:
		return fmt.Sprintf("v%d.0.0", x+1)
	case minor:
		return fmt.Sprintf("v%d.%d.0", x, y+1)
	}
	return fmt.Sprintf("v%d.%d.%d", x, y, z+1)
}

// compare finds what has changed in a module since its last tag.
func (r *release) compare(m *module, modules []*module) error {
	used, err := r.output(filepath.Join(r.root, m.dir), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./...")
	if err != nil {
		return err
	}
	for _, p := range m.requires {
		if slices.Contains(strings.Fields(used), p) {
			m.builds = append(m.builds, p)
		}
	}
	tags, err := r.git("tag", "--list", m.dir+"/v*")
	if err != nil {
		return err
	}
	for _, tag := range strings.Fields(tags) {
		if v := strings.TrimPrefix(tag, m.dir+"/"); semver.IsValid(v) && semver.Prerelease(v) == "" && (m.last == "" || semver.Compare(v, m.last) > 0) {
			m.last = v
		}
	}
	if m.last == "" {
		m.changed, m.level, m.why = true, minor, []string{"it has no version yet"}
		return nil
	}
	files, err := r.git("diff", "--name-only", m.tag(m.last), "HEAD", "--", m.dir)
	if err != nil {
		return err
	}
	n := 0
	for _, file := range strings.Fields(files) {
		if owner(file, modules) == m && matters(file) {
			n++
		}
	}
	if same, err := r.sameRequires(m, modules); err != nil {
		return err
	} else if !same {
		n++
	}
	if n == 0 {
		return nil
	}
	m.changed, m.level, m.why = true, patch, []string{fmt.Sprintf("%d files since %s", n, m.last)}
	return r.compareAPI(m)
}

// owner is the module that a file belongs to.
func owner(file string, modules []*module) (m *module) {
	for _, x := range modules {
		if strings.HasPrefix(file, x.dir+"/") && (m == nil || len(x.dir) > len(m.dir)) {
			m = x
		}
	}
	return m
}

// matters reports whether users of a module get to see a file. What go.mod says is compared
// apart.
func matters(file string) bool {
	base := filepath.Base(file)
	return !strings.HasSuffix(base, "_test.go") && !strings.HasSuffix(base, ".md") && !strings.Contains(file, "/testdata/") &&
		base != "go.mod" && base != "go.sum"
}

// sameRequires compares go.mod with the one of the tag, siblings apart: their versions
// change with each release.
func (r *release) sameRequires(m *module, modules []*module) (bool, error) {
	old, err := r.git("show", m.tag(m.last)+":"+m.dir+"/go.mod")
	if err != nil {
		return false, err
	}
	before, err := modfile.Parse("go.mod", []byte(old), nil)
	if err != nil {
		return false, err
	}
	after, err := r.file(m.dir)
	if err != nil {
		return false, err
	}
	list := func(f *modfile.File) (all []string) {
		for _, x := range f.Require {
			if !slices.ContainsFunc(modules, func(s *module) bool { return s.path == x.Mod.Path }) {
				all = append(all, x.Mod.String())
			}
		}
		slices.Sort(all)
		return append(all, f.Go.Version)
	}
	return slices.Equal(list(before), list(after)), nil
}

// compareAPI compares the API with the one of the tag, by apidiff.
func (r *release) compareAPI(m *module) error {
	tmp, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if r.apidiff == "" {
		tool, err := os.MkdirTemp("", "apidiff-")
		if err != nil {
			return err
		}
		r.apidiff = filepath.Join(tool, "apidiff")
		build := exec.Command("go", "build", "-o", r.apidiff, "golang.org/x/exp/cmd/apidiff")
		build.Env = append(os.Environ(), "GOWORK=off")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build apidiff: %w\n%s", err, out)
		}
	}
	tree := filepath.Join(tmp, "old")
	if _, err := r.git("worktree", "add", "--detach", tree, m.tag(m.last)); err != nil {
		return err
	}
	defer func() { _, _ = r.git("worktree", "remove", "--force", tree) }()
	export := filepath.Join(tmp, "old.api")
	if _, err := r.output(filepath.Join(tree, m.dir), r.apidiff, "-m", "-w", export, m.path); err != nil {
		return err
	}
	out, err := r.output(filepath.Join(r.root, m.dir), r.apidiff, "-m", export, m.path)
	if err != nil {
		return err
	}
	if strings.Contains(out, "Incompatible changes:") {
		m.level = major
	} else if strings.Contains(out, "Compatible changes:") {
		m.level = minor
	}
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "- "); ok && len(m.why) < 6 {
			m.why = append(m.why, text)
		}
	}
	return nil
}

const unreleased = ", unreleased"

// entries are the lines of the changelog for each module that is released.
func entries(log string, modules []*module) (map[string]string, []error) {
	all := map[string]string{}
	var errs []error
	dir := ""
	for line := range strings.Lines(log) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			dir, ok = strings.CutSuffix(strings.TrimSpace(heading), unreleased)
			if !ok {
				dir = ""
			}
			continue
		}
		if dir != "" && strings.TrimSpace(line) != "" {
			all[dir] += line
		}
	}
	for _, m := range modules {
		switch {
		case m.next == "" || all[m.dir] != "":
		case m.changed:
			errs = append(errs, fmt.Errorf("%s: CHANGELOG.md has no line under \"## %s%s\"", m.dir, m.dir, unreleased))
		default:
			var lines strings.Builder
			for _, why := range m.why {
				fmt.Fprintf(&lines, "- %s%s.\n", strings.ToUpper(why[:1]), why[1:])
			}
			all[m.dir] = lines.String()
		}
	}
	return all, errs
}

// make commits the new requirements and the changelog on the branch, and beside it what is
// tagged.
func (r *release) make(modules, released []*module, log string, changelog map[string]string) error {
	var names []string
	date := time.Now().UTC().Format(time.DateOnly)
	for _, m := range released {
		names = append(names, m.dir+" "+m.next)
		heading := fmt.Sprintf("## %s %s, %s\n", m.dir, m.next, date)
		if before := "## " + m.dir + unreleased + "\n"; strings.Contains(log, before) {
			log = strings.Replace(log, before, heading, 1)
		} else {
			log = strings.TrimRight(log, "\n") + "\n\n" + heading + "\n" + changelog[m.dir]
		}
	}
	if err := os.WriteFile(filepath.Join(r.root, "CHANGELOG.md"), []byte(log), 0o644); err != nil {
		return err
	}
	for _, m := range modules {
		for _, on := range released {
			if slices.Contains(m.requires, on.path) {
				if err := r.command(filepath.Join(r.root, m.dir), "go", "mod", "edit", "-require="+on.path+"@"+on.next); err != nil {
					return err
				}
			}
		}
	}
	message := "release: " + strings.Join(names, ", ")
	if _, err := r.git("commit", "-a", "-m", message); err != nil {
		return err
	}

	tmp, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	tree := filepath.Join(tmp, "tagged")
	if _, err := r.git("worktree", "add", "--detach", tree, "HEAD"); err != nil {
		return err
	}
	defer func() { _, _ = r.git("worktree", "remove", "--force", tree) }()
	dropped := false
	for _, m := range released {
		for _, p := range m.requires {
			dropped = true
			if err := r.command(filepath.Join(tree, m.dir), "go", "mod", "edit", "-dropreplace="+p); err != nil {
				return err
			}
		}
	}
	if dropped {
		if _, err := r.output(tree, "git", "commit", "-a", "-m", message+"\n\nWithout the replace lines."); err != nil {
			return err
		}
	}
	push := []string{"push", "--atomic", r.remote, "HEAD"}
	for _, m := range released { // in the order of their dependencies
		if _, err := r.output(tree, "git", "tag", "-a", m.tag(m.next), "-m", m.dir+" "+m.next+"\n\n"+changelog[m.dir]); err != nil {
			return err
		}
		push = append(push, "refs/tags/"+m.tag(m.next))
		fmt.Fprintln(r.out, "tagged", m.tag(m.next))
	}
	if r.remote == "" {
		return nil
	}
	_, err = r.git(push...)
	return err
}

func (r *release) git(args ...string) (string, error) { return r.output(r.root, "git", args...) }

func (r *release) output(dir, name string, args ...string) (string, error) {
	var out, stderr strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &stderr
	// In the workspace a module is built with its siblings beside it.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOWORK=") })
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, cmp.Or(strings.TrimSpace(stderr.String()), out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (r *release) command(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, os.Stderr, os.Stderr
	return cmd.Run()
}
