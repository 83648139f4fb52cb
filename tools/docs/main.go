// Docs checks the Markdown files of the repository: links to files and headings, snippets of
// Go, what the tables claim of brokers, and the clauses of the contract; and that exported
// names are documented, and stand in a test or an example.
//
// A snippet with a package clause is a program: it is built. Any other one is an excerpt:
// its lines, between those that say … or ..., stand in a file of the repository that is
// built by the tests, in the same order, whatever their indentation and comments at their
// end. So what people read is what was tested.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

func main() {
	root := flag.String("root", ".", "folder of go.work")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(root string) error {
	r := repository{root: root, pages: map[string]page{}, texts: map[string]string{}}
	if err := r.read(); err != nil {
		return err
	}
	var errs []error
	snippets, links := 0, 0
	for _, name := range slices.Sorted(maps.Keys(r.pages)) {
		p := r.pages[name]
		for _, l := range p.links {
			links++
			if err := r.link(name, l.text); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w", name, l.line, err))
			}
		}
		for _, s := range p.snippets {
			snippets++
			if err := r.snippet(s.text); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %w", name, s.line, err))
			}
		}
	}
	errs = append(errs, r.checkBrokers(), r.checkClauses(), r.checkNames())
	if errors.Join(errs...) == nil {
		fmt.Printf("docs: %d pages, %d snippets and %d links are good, and so are the tables of brokers and clauses, and all exported names\n", len(r.pages), snippets, links)
	}
	return errors.Join(errs...)
}

// repository is what pages and snippets refer to.
type repository struct {
	root    string
	pages   map[string]page   // by path from the root
	texts   map[string]string // of Go, by path
	sources []source
}

type source struct {
	name  string
	lines []string // normal
}

// page is a file of Markdown.
type page struct {
	anchors         map[string]bool
	links, snippets []part
	tables          []table
}

type part struct {
	line int
	text string
}

func (r *repository) read() error {
	return filepath.WalkDir(r.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(r.root, path)
		if d.IsDir() {
			if name != "." && strings.HasPrefix(d.Name(), ".") && d.Name() != ".github" || d.Name() == "testdata" || d.Name() == "cdk.out" {
				return filepath.SkipDir
			}
			return nil
		}
		ext := filepath.Ext(name)
		if ext != ".md" && ext != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if ext == ".md" {
			r.pages[name] = parse(string(text))
			return nil
		}
		r.texts[name] = string(text)
		r.sources = append(r.sources, source{name, normal(string(text))})
		return nil
	})
}

var (
	linked  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	quoted  = regexp.MustCompile("`[^`]*`")
)

// parse reads a page.
func parse(text string) (p page) {
	p.anchors = map[string]bool{}
	var fence, language string
	var block []string
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if mark, lang, ok := fenced(trimmed); ok && (fence == "" || trimmed == fence) {
			if fence == "" {
				fence, language, block = mark, lang, nil
				continue
			}
			if language == "go" {
				p.snippets = append(p.snippets, part{i - len(block) + 1, strings.Join(block, "\n")})
			}
			fence = ""
			continue
		}
		if fence != "" {
			block = append(block, line)
			continue
		}
		if h := heading.FindStringSubmatch(line); h != nil {
			p.anchors[p.anchor(h[1])] = true
		}
		p.row(i+1, trimmed)
		for _, l := range linked.FindAllStringSubmatch(quoted.ReplaceAllString(line, ""), -1) {
			p.links = append(p.links, part{i + 1, l[1]})
		}
	}
	return p
}

func fenced(line string) (mark, language string, ok bool) {
	language = strings.TrimLeft(line, "`")
	mark = line[:len(line)-len(language)]
	return mark, strings.TrimSpace(language), len(mark) >= 3
}

// anchor of a heading, as GitHub makes it.
func (p *page) anchor(heading string) string {
	var out strings.Builder
	for _, c := range strings.ToLower(heading) {
		switch {
		case c == ' ':
			out.WriteByte('-')
		case c == '-' || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
			out.WriteRune(c)
		}
	}
	name := out.String()
	for n := 1; p.anchors[name]; n++ {
		name = fmt.Sprintf("%s-%d", out.String(), n)
	}
	return name
}

// link checks a link that stays in the repository.
func (r *repository) link(from, target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("link %s: %w", target, err)
	}
	if u.Scheme != "" || u.Host != "" {
		return nil
	}
	to := from
	if u.Path != "" {
		to = filepath.Join(filepath.Dir(from), u.Path)
		if _, err := os.Stat(filepath.Join(r.root, to)); err != nil || strings.HasPrefix(to, "..") {
			return fmt.Errorf("link %s: there is no %s", target, to)
		}
	}
	if u.Fragment == "" {
		return nil
	}
	if p, ok := r.pages[to]; !ok || !p.anchors[u.Fragment] {
		return fmt.Errorf("link %s: no heading of %s has this anchor", target, to)
	}
	return nil
}

var clause = regexp.MustCompile(`(?m)^package \w+$`)

func (r *repository) snippet(text string) error {
	if clause.MatchString(text) {
		return r.build(text)
	}
	for _, excerpt := range excerpts(text) {
		if !slices.ContainsFunc(r.sources, func(s source) bool { return contains(s.lines, excerpt) }) {
			return fmt.Errorf("these lines stand in no file:\n\t%s", strings.Join(excerpt, "\n\t"))
		}
	}
	return nil
}

// excerpts are the runs of lines between those that leave something out.
func excerpts(text string) (all [][]string) {
	var run []string
	for _, line := range append(normal(text), "…") {
		if strings.Contains(line, "…") || line == "..." {
			if len(run) > 0 {
				all = append(all, run)
			}
			run = nil
			continue
		}
		run = append(run, line)
	}
	return all
}

var spaces = regexp.MustCompile(`\s+`)

// normal is text without indentation, empty lines, and comments behind code.
func normal(text string) (lines []string) {
	for line := range strings.SplitSeq(text, "\n") {
		if code, _, ok := strings.Cut(line, " // "); ok && strings.TrimSpace(code) != "" {
			line = code
		}
		if line = strings.TrimSpace(spaces.ReplaceAllString(line, " ")); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func contains(lines, run []string) bool {
	for i := range lines {
		if len(lines)-i >= len(run) && slices.Equal(lines[i:i+len(run)], run) {
			return true
		}
	}
	return false
}

// build vets a program, in a folder of the examples, which may use every module.
func (r *repository) build(text string) error {
	dir, err := os.MkdirTemp(filepath.Join(r.root, "examples"), "snippet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(text+"\n"), 0o600); err != nil {
		return err
	}
	cmd := exec.Command("go", "vet", ".")
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOWORK=") })
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the program is not good: %w\n%s", err, out)
	}
	return nil
}
