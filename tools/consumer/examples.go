package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/mod/modfile"
)

// runs are the examples that need no service, and what each says in good order. One that
// waits is told to stop when it has said so.
var runs = []start{
	{name: "quickstart", says: "the ledger adds up"},
	{name: "quickstart", args: []string{"quickstart/text.txt"}, says: "the ledger adds up"},
	{name: "quickstart", stdin: "a text\nof mine\n", says: "the ledger adds up"},
	{name: "live", args: []string{"-addr", "127.0.0.1:0", "-for", "2s"}, says: "the ledger adds up"},
	{name: "metrics", args: []string{"-addr", "127.0.0.1:0"}, says: "/metrics", waits: true},
	{name: "chat", args: []string{"-addr", "127.0.0.1:0"}, says: "Ctrl-C ends it", waits: true},
}

// start is a program, and what it is started with.
type start struct {
	name  string
	args  []string
	stdin string
	says  string
	waits bool
}

func (s start) what() string {
	if s.stdin != "" {
		return s.name + " < a text"
	}
	return strings.Join(append([]string{s.name}, s.args...), " ")
}

// tested is the example whose tests are copied too: a broker of one's own has the
// conformance suite.
const tested = "maildir"

// examples copies the examples of a module into an empty one, as their reader does, gets
// what they require, builds them, and runs those that need no service.
func (c *consumer) examples(path, folder string) error {
	began := time.Now()
	dir, err := c.copied(path, folder)
	if err != nil {
		return err
	}
	get, err := c.requirements(filepath.Join(folder, "go.mod"))
	if err != nil {
		return err
	}
	if err := c.get(dir, get...); err != nil {
		return err
	}
	for _, step := range []string{"vet", "test"} {
		if _, err := command(dir, c.env, "go", step, "./..."); err != nil {
			return err
		}
	}
	mains, err := command(dir, c.env, "go", "list", "-f", `{{if eq .Name "main"}}{{.Dir}}{{end}}`, "./...")
	if err != nil {
		return err
	}
	var ran []string
	for _, r := range runs {
		if _, err := os.Stat(filepath.Join(dir, r.name)); err != nil {
			continue // of another module
		}
		ran = append(ran, r.what())
		out, err := c.start(dir, r)
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", r.what(), err, out)
		}
	}
	fmt.Printf("%d programs of %s are good, in %.0f s; %d were run: %s\n",
		bytes.Count(mains, []byte("\n")), strings.TrimPrefix(path, prefix), time.Since(began).Seconds(), len(ran), cmp.Or(strings.Join(ran, ", "), "none is without a service"))
	return nil
}

// copied is a new folder with the files of a module, whose packages are the consumer's now.
func (c *consumer) copied(path, folder string) (dir string, err error) {
	names, err := files(folder)
	if err != nil {
		return "", err
	}
	dir = filepath.Join(c.dir, "program", filepath.Base(folder))
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") && filepath.Dir(name) != tested || name == "go.mod" || name == "go.sum" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return "", err
		}
		if filepath.Ext(name) == ".go" {
			text = bytes.ReplaceAll(text, []byte(`"`+path+`/`), []byte(`"`+self+`/`))
		}
		if err := write(filepath.Join(dir, name), text); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// requirements of a go.mod file. Its siblings are at the versions that the proxy has.
func (c *consumer) requirements(file string) (get []string, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse(file, raw, nil)
	if err != nil {
		return nil, err
	}
	for _, r := range mod.Require {
		version := r.Mod.Version
		if v, ok := c.versions[r.Mod.Path]; ok {
			version = v
		}
		if !r.Indirect {
			get = append(get, r.Mod.Path+"@"+version)
		}
	}
	return get, nil
}

// start builds a program and runs it until it ends. One that waits is sent SIGTERM when it has
// said what it should, and is to end well. What it says, and that it says it, is the result.
func (c *consumer) start(dir string, s start) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	bin := filepath.Join(c.dir, "bin", "program")
	if _, err := command(dir, c.env, "go", "build", "-o", bin, "./"+s.name); err != nil {
		return "", err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, bin, s.args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), c.env...)
	cmd.Stdin = strings.NewReader(s.stdin)
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		w.Close()
		return "", err
	}
	w.Close()
	var out strings.Builder
	said := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		fmt.Fprintln(&out, lines.Text())
		if !said && strings.Contains(lines.Text(), s.says) {
			said = true
			if s.waits {
				_ = cmd.Process.Signal(syscall.SIGTERM) // it may have failed meanwhile, which Wait tells
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), err
	}
	if !said {
		return out.String(), fmt.Errorf("it does not say %q", s.says)
	}
	return out.String(), nil
}

func write(name string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}
