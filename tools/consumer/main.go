// Consumer is a user of this repository who has nothing of it. It packs the modules of the
// working tree as a module proxy would and, in empty modules outside of the workspace,
//
//   - gets each broker at its version, and counts what comes with it,
//   - installs each command at its version, and starts it,
//   - builds the programs of the README, and runs those that end by themselves.
//
// It prints a line for each, and exits with status 1 when one fails or is over its budget.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

const prefix = "github.com/fogfish/swarm/"

// commands are installed; each says what is expected of it when it starts with its argument.
var commands = []struct{ module, pkg, arg, says string }{
	{"qtest", "localstack/cmd/localstack", "-h", "folder of the installation"},
	{"qtest/local", "cmd/swarm-local", "-h", "usage: swarm-local"},
	{"broker/websocket/authorizer", "cmd/authorizer", "", "CONFIG_SWARM_WS_AUTHORIZER_"},
}

func main() {
	root := flag.String("root", ".", "folder of go.work")
	flag.Parse()
	os.Unsetenv("GOWORK")
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

// consumer works in a folder of its own.
type consumer struct {
	*proxy
	dir      string
	env      []string
	siblings map[string]string // folders of the modules of the workspace
}

func run(root string) error {
	siblings, err := workspace(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "consumer")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := publish(filepath.Join(dir, "proxy"), siblings)
	if err != nil {
		return err
	}
	c := consumer{proxy: p, dir: dir, siblings: siblings}
	if c.env, err = p.environment(filepath.Join(dir, "cache")); err != nil {
		return err
	}
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(siblings)) {
		if broker, ok := strings.CutPrefix(path, prefix+"broker/"); ok && broker != "internal" {
			errs = append(errs, c.broker(path, broker))
		}
	}
	errs = append(errs, c.install(), c.readme(filepath.Join(root, "README.md")))
	return errors.Join(errs...)
}

// workspace maps the modules of go.work that have users to their folders.
func workspace(root string) (map[string]string, error) {
	out, err := command(root, nil, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, dir, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(path+"/", prefix+"examples/") {
			dirs[path] = dir
		}
	}
	return dirs, nil
}

// program makes an empty module with one program, and gets what that needs.
func (c *consumer) program(name, source string, get ...string) (dir string, err error) {
	dir = filepath.Join(c.dir, "program", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		return "", err
	}
	if _, err := command(dir, c.env, "go", "mod", "init", "example.com/consumer"); err != nil {
		return "", err
	}
	if _, err := command(dir, c.env, "go", append([]string{"get"}, get...)...); err != nil {
		return "", err
	}
	_, err = command(dir, c.env, "go", "mod", "tidy")
	return dir, err
}

// broker is a program that uses one.
func (c *consumer) broker(path, broker string) error {
	source := fmt.Sprintf("package main\n\nimport _ %q\n\nfunc main() {}\n", path)
	dir, err := c.program(broker, source, path+"@"+c.versions[path])
	if err != nil {
		return err
	}
	if _, err := command(dir, c.env, "go", "build", "-o", os.DevNull, "."); err != nil {
		return err
	}
	all, err := command(dir, c.env, "go", "list", "-m", "all")
	if err != nil {
		return err
	}
	if strings.Contains(string(all), "aws-cdk-go") {
		return fmt.Errorf("%s: brings aws-cdk-go", broker)
	}
	built, err := command(dir, c.env, "go", "list", "-deps", "-f", "{{with .Module}}{{if .Version}}{{.Path}}@{{.Version}}{{end}}{{end}}", ".")
	if err != nil {
		return err
	}
	zips := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(built)))))
	size, err := c.download(dir, zips)
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

// download sums the sizes of the zips.
func (c *consumer) download(dir string, modules []string) (size int64, err error) {
	for _, m := range modules {
		out, err := command(dir, c.env, "go", "mod", "download", "-json", m)
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

// install installs the commands, and starts them.
func (c *consumer) install() error {
	bin := filepath.Join(c.dir, "bin")
	for _, x := range commands {
		path := prefix + x.module
		if _, err := command(c.dir, append(c.env, "GOBIN="+bin), "go", "install", path+"/"+x.pkg+"@"+c.versions[path]); err != nil {
			return err
		}
		name := filepath.Base(x.pkg)
		cmd := exec.Command(filepath.Join(bin, name))
		if x.arg != "" {
			cmd.Args = append(cmd.Args, x.arg)
		}
		out, _ := cmd.CombinedOutput() // what it says counts
		if !strings.Contains(string(out), x.says) {
			return fmt.Errorf("%s %s says %q, not %q", name, x.arg, out, x.says)
		}
		fmt.Printf("installed %s/%s@%s\n", x.module, x.pkg, c.versions[path])
	}
	return nil
}

var (
	block  = regexp.MustCompile("(?s)```go\n(.*?)```")
	clause = regexp.MustCompile(`(?m)^package main$`)
)

// readme builds the programs of the README. Those that wait for a signal are not run.
func (c *consumer) readme(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	n := 0
	for _, b := range block.FindAllStringSubmatch(string(text), -1) {
		if !clause.MatchString(b[1]) {
			continue
		}
		n++
		core := prefix + "core"
		dir, err := c.program(fmt.Sprint("readme", n), b[1], core+"@"+c.versions[core])
		if err != nil {
			return err
		}
		step := []string{"run", "."}
		if strings.Contains(b[1], ".Await(") {
			step = []string{"build", "-o", os.DevNull, "."}
		}
		if _, err := command(dir, c.env, "go", step...); err != nil {
			return err
		}
	}
	if n == 0 {
		return errors.New("README.md has no program")
	}
	fmt.Printf("%d programs of README.md are good\n", n)
	return nil
}

// command runs one with further variables of the environment.
func command(dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}
