// Bench runs the benchmarks that have a budget, in all modules of go.work, writes
// docs/benchmarks.md, and exits with status 1 when a budget is missed.
//
// A benchmark with a budget is named BenchmarkBudget…. It measures its baseline in the
// same run, and reports a metric beside its limit: "x" and "max-x" or "min-x".
package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/fogfish/swarm/tools/internal/workspace"
)

func main() {
	root := flag.String("root", ".", "folder of go.work")
	count := flag.Int("count", 1, "runs of each benchmark")
	only := flag.String("run", "Budget", "which benchmarks")
	flag.Parse()
	os.Unsetenv("GOWORK") // this program is outside of the workspace that it measures
	missed, err := run(*root, *only, *count)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if missed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %d budgets missed\n", missed)
		os.Exit(1)
	}
}

func run(root, only string, count int) (missed int, err error) {
	modules, err := workspace.Folders(root)
	if err != nil {
		return 0, err
	}
	command := fmt.Sprintf("go test -run '^$' -bench 'Benchmark%s' -benchtime 1x -count %d ./...", only, count)
	var rows []row
	for _, m := range modules {
		cmd := exec.Command("go", "test", "-run", "^$", "-bench", "Benchmark"+only, "-benchtime", "1x", "-count", strconv.Itoa(count), "-timeout", "60m", "./...")
		cmd.Dir = filepath.Join(root, m)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", m, err, out.String())
		}
		found := parse(out.String())
		for i := range found {
			found[i].module = strings.TrimPrefix(m, "./")
		}
		rows = append(rows, found...)
	}
	if len(rows) == 0 {
		return 0, fmt.Errorf("no benchmark matches %s", only)
	}
	for _, r := range rows {
		fmt.Println(r)
		if !r.ok() {
			missed++
		}
	}
	if only != "Budget" {
		return missed, nil // a part is not worth a page
	}
	return missed, os.WriteFile(filepath.Join(root, "docs", "benchmarks.md"), page(command, rows), 0o644)
}

// row is one budget of one benchmark.
type row struct {
	module, name, metric string
	value, limit         float64
	least                bool // the limit is a lower one
	others               string
}

func (r row) ok() bool {
	if r.least {
		return r.value >= r.limit
	}
	return r.value <= r.limit
}

func (r row) bound() string {
	if r.least {
		return fmt.Sprintf("≥ %g", r.limit)
	}
	return fmt.Sprintf("≤ %g", r.limit)
}

func (r row) verdict() string {
	if r.ok() {
		return "kept"
	}
	return "**missed**"
}

func (r row) String() string {
	return fmt.Sprintf("%-24s %-44s %-14s %10.3f  %-8s %s", r.module, r.name, r.metric, r.value, r.bound(), r.verdict())
}

var line = regexp.MustCompile(`^Benchmark(?:Budget)?(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

// parse reads the output of go test -bench.
func parse(out string) (rows []row) {
	for l := range strings.Lines(out) {
		m := line.FindStringSubmatch(strings.TrimSpace(l))
		if m == nil {
			continue
		}
		metrics := map[string]float64{}
		fields := strings.Fields(m[2])
		for i := 0; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = v
			}
		}
		var others []string
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			_, upper := metrics["max-"+name]
			_, lower := metrics["min-"+name]
			if !upper && !lower && !strings.HasPrefix(name, "max-") && !strings.HasPrefix(name, "min-") && name != "ns/op" {
				others = append(others, fmt.Sprintf("%g %s", metrics[name], name))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			for prefix, least := range map[string]bool{"max-": false, "min-": true} {
				if limit, ok := metrics[prefix+name]; ok {
					rows = append(rows, row{name: m[1], metric: name, value: metrics[name], limit: limit, least: least, others: strings.Join(others, ", ")})
				}
			}
		}
	}
	return rows
}

func page(command string, rows []row) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Benchmarks

Each budget is measured beside its baseline in the same run. Absolute times are of one machine and say
little; the ratios are what we keep. Written by `+"`make bench`"+`, which fails when a budget is missed.

- machine: %s/%s, %d cores, %s
- Go: %s
- command, in each module: `+"`%s`"+`

| module | benchmark | what | measured | budget | | beside |
| --- | --- | --- | ---: | ---: | --- | --- |
`, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpu(), runtime.Version(), command)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %.3g | %s | %s | %s |\n", r.module, r.name, r.metric, r.value, r.bound(), r.verdict(), r.others)
	}
	return b.Bytes()
}

// cpu is the model of the processor, where the system tells.
func cpu() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	for l := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}
