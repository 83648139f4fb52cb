// Consumer checks what a program that uses one broker takes upon itself: an empty module
// that requires just that broker, with the working tree in place of released versions.
// It prints a line for each broker, and exits with status 1 when a budget is missed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// budget of a broker module.
type budget struct {
	modules int     // in go list -m all, the consumer included
	zips    int     // to be downloaded to build
	mib     float64 // of these zips
}

var (
	usual = budget{modules: 28, zips: 20, mib: 15}
	own   = map[string]budget{
		"sqs":      {modules: 25, zips: 20, mib: 15},
		"eventddb": {modules: 30, zips: 22, mib: 15},
	}
)

func main() {
	root := flag.String("root", ".", "folder of go.work")
	flag.Parse()
	os.Unsetenv("GOWORK")
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	siblings, err := workspace(root)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range slices.Sorted(keys(siblings)) {
		if _, broker, ok := strings.Cut(path, "/broker/"); ok && broker != "internal" && !strings.Contains(broker, "/") {
			errs = append(errs, check(path, broker, siblings))
		}
	}
	return errors.Join(errs...)
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// workspace maps the modules of go.work to their folders.
func workspace(root string) (map[string]string, error) {
	out, err := command(root, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			dirs[path] = dir
		}
	}
	return dirs, nil
}

func check(path, broker string, siblings map[string]string) error {
	dir, err := os.MkdirTemp("", "consumer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var mod bytes.Buffer
	fmt.Fprintf(&mod, "module example.com/consumer\n\ngo 1.26\n\nrequire %s v0.1.0\n", path)
	for sibling, at := range siblings {
		fmt.Fprintf(&mod, "replace %s => %s\n", sibling, at)
	}
	source := fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", path)
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "go.mod"), mod.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644),
	); err != nil {
		return err
	}
	if _, err := command(dir, "go", "mod", "tidy"); err != nil {
		return err
	}
	all, err := command(dir, "go", "list", "-m", "all")
	if err != nil {
		return err
	}
	if strings.Contains(string(all), "aws-cdk-go") {
		return fmt.Errorf("%s: brings aws-cdk-go", broker)
	}
	built, err := command(dir, "go", "list", "-deps", "-f", "{{with .Module}}{{if .Version}}{{.Path}}@{{.Version}}{{end}}{{end}}", ".")
	if err != nil {
		return err
	}
	zips := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(built)))))
	size, err := download(dir, zips, siblings)
	if err != nil {
		return err
	}
	limit, ok := own[broker]
	if !ok {
		limit = usual
	}
	got := budget{modules: bytes.Count(all, []byte("\n")), zips: len(zips), mib: float64(size) / (1 << 20)}
	fmt.Printf("consumer of broker/%s: %d modules (≤ %d), %d zips to build (≤ %d), %.1f MiB (≤ %.0f)\n",
		broker, got.modules, limit.modules, got.zips, limit.zips, got.mib, limit.mib)
	if got.modules > limit.modules || got.zips > limit.zips || got.mib > limit.mib {
		return fmt.Errorf("broker/%s: over budget", broker)
	}
	return nil
}

// download sums the sizes of the zips of modules that are not of this workspace.
func download(dir string, modules []string, siblings map[string]string) (size int64, err error) {
	for _, m := range modules {
		path, _, _ := strings.Cut(m, "@")
		if siblings[path] != "" {
			continue
		}
		out, err := command(dir, "go", "mod", "download", "-json", m)
		if err != nil {
			return 0, err
		}
		var module struct{ Zip string }
		if err := json.Unmarshal(out, &module); err != nil {
			return 0, err
		}
		info, err := os.Stat(module.Zip)
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

func command(dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
