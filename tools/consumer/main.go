// Consumer is a user of this repository who has nothing of it. It packs the modules of the
// working tree as a module proxy would and, in empty modules outside of the workspace,
//
//   - gets each broker at its version, and counts what comes with it,
//   - installs each command at its version, and starts it,
//   - builds the programs of the README and the examples, and runs those that need no service.
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

const (
	prefix = "github.com/fogfish/swarm/"
	self   = "example.com/consumer" // of whoever uses it
)

// commands are installed; each says what is expected of it when it starts with its argument.
var commands = []struct{ module, pkg, arg, says string }{
	{"qtest", "localstack/cmd/localstack", "-h", "folder of the installation"},
	{"qtest/local", "cmd/swarm-local", "-h", "usage: swarm-local"},
	{"broker/websocket/authorizer", "cmd/authorizer", "", "CONFIG_SWARM_WS_AUTHORIZER_"},
	{"otel", "cmd/swarm-top", "-h", "usage: swarm-top"},
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
	dir string
	env []string
}

func run(root string) error {
	siblings, examples, err := workspace(root)
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
	c := consumer{proxy: p, dir: dir}
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
	for _, path := range slices.Sorted(maps.Keys(examples)) {
		errs = append(errs, c.examples(path, examples[path]))
	}
	return errors.Join(errs...)
}

// workspace maps the modules of go.work to their folders: those that are released, and those
// of examples.
func workspace(root string) (released, examples map[string]string, err error) {
	out, err := command(root, nil, "go", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	if err != nil {
		return nil, nil, err
	}
	released, examples = map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(path+"/", prefix+"examples/") {
			examples[path] = dir
		} else {
			released[path] = dir
		}
	}
	return released, examples, nil
}

// program makes an empty module with one program, and gets what that needs.
func (c *consumer) program(name, source string, get ...string) (dir string, err error) {
	dir = filepath.Join(c.dir, "program", name)
	if err := write(filepath.Join(dir, "main.go"), []byte(source)); err != nil {
		return "", err
	}
	return dir, c.get(dir, get...)
}

// get makes a folder a module, and gets what its packages import.
func (c *consumer) get(dir string, modules ...string) error {
	for _, args := range [][]string{
		{"mod", "init", self},
		append([]string{"get"}, modules...),
		{"mod", "tidy"},
	} {
		if _, err := command(dir, c.env, "go", args...); err != nil {
			return err
		}
	}
	return nil
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

// readme runs the programs of the README. Those that wait for a signal get one.
func (c *consumer) readme(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	n, waited := 0, 0
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
		if !strings.Contains(b[1], ".Await(") {
			if _, err := command(dir, c.env, "go", "run", "."); err != nil {
				return err
			}
			continue
		}
		// It prints what it receives, and an error if it does not drain.
		out, err := c.start(dir, start{says: "hello", waits: true})
		if err == nil && out != "hello\n" {
			err = errors.New("want hello, and no more")
		}
		if err != nil {
			return fmt.Errorf("program %d of README.md, told to stop: %w\n%s", n, err, out)
		}
		waited++
	}
	if n-waited == 0 || waited == 0 {
		return errors.New("README.md has no program that ends, or none that waits")
	}
	fmt.Printf("%d programs of README.md run, %d of them until SIGTERM\n", n, waited)
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
