package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// scratch is a clone of a bare remote, with a workspace of three modules: two brokers on a
// core.
type scratch struct {
	*testing.T
	dir, remote string
}

func newScratch(t *testing.T) *scratch {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	for _, who := range []string{"AUTHOR", "COMMITTER"} {
		t.Setenv("GIT_"+who+"_NAME", "test")
		t.Setenv("GIT_"+who+"_EMAIL", "test@example.com")
	}
	t.Setenv("GOPROXY", "off")
	s := &scratch{t, filepath.Join(t.TempDir(), "clone"), filepath.Join(t.TempDir(), "remote.git")}
	s.exec(t.TempDir(), "git", "init", "--quiet", "--bare", "--initial-branch=main", s.remote)
	s.exec(t.TempDir(), "git", "clone", "--quiet", s.remote, s.dir)
	s.write("go.work", "go 1.26\n\nuse (\n\t./broker/one\n\t./broker/two\n\t./core\n\t./examples\n)\n")
	s.write("core/go.mod", "module example.com/swarm/core\n\ngo 1.26\n")
	s.write("core/core.go", "// Package core is the core.\npackage core\n\n// Send sends.\nfunc Send(text string) error { return nil }\n")
	for _, broker := range []string{"one", "two"} {
		s.write("broker/"+broker+"/go.mod", "module example.com/swarm/broker/"+broker+"\n\ngo 1.26\n\nrequire example.com/swarm/core v0.1.0\n\nreplace example.com/swarm/core => ../../core\n")
		s.write("broker/"+broker+"/broker.go", "package "+broker+"\n\nimport \"example.com/swarm/core\"\n\n// Open opens.\nfunc Open() error { return core.Send(\"open\") }\n")
	}
	s.write("examples/go.mod", "module example.com/swarm/examples\n\ngo 1.26\n\nrequire example.com/swarm/core v0.1.0\n\nreplace example.com/swarm/core => ../core\n")
	s.write("examples/main.go", "package main\n\nimport \"example.com/swarm/core\"\n\nfunc main() { _ = core.Send(\"x\") }\n")
	s.write("CHANGELOG.md", "# Changelog\n\n## core, unreleased\n\n- All of it.\n\n## broker/one, unreleased\n\n- All of one.\n\n## broker/two, unreleased\n\n- All of two.\n")
	s.commit("first")
	s.exec(s.dir, "git", "push", "--quiet", "origin", "HEAD")
	return s
}

func (s *scratch) exec(dir, name string, args ...string) string {
	s.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *scratch) write(name, text string) {
	s.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.Fatal(err)
	}
}

func (s *scratch) read(name string) string {
	s.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.Fatal(err)
	}
	return string(b)
}

func (s *scratch) change(name, from, to string) {
	s.Helper()
	text := s.read(name)
	if !strings.Contains(text, from) {
		s.Fatalf("%s has no %q", name, from)
	}
	s.write(name, strings.Replace(text, from, to, 1))
}

func (s *scratch) log(module, line string) {
	s.write("CHANGELOG.md", s.read("CHANGELOG.md")+"\n## "+module+", unreleased\n\n- "+line+"\n")
}

func (s *scratch) commit(message string) {
	s.Helper()
	s.exec(s.dir, "git", "add", "-A")
	s.exec(s.dir, "git", "commit", "--quiet", "-m", message)
}

func (s *scratch) release(do bool, chosen ...string) (string, error) {
	s.Helper()
	var out strings.Builder
	r := release{root: s.dir, do: do, test: "true", out: &out}
	if do {
		r.remote = "origin"
	}
	err := r.run(chosen)
	return out.String(), err
}

// must makes a release, and checks that just these tags are new, in their order, also at the
// remote.
func (s *scratch) must(chosen []string, want ...string) string {
	s.Helper()
	out, err := s.release(true, chosen...)
	if err != nil {
		s.Fatalf("%v\n%s", err, out)
	}
	var tags []string
	for line := range strings.Lines(out) {
		if tag, ok := strings.CutPrefix(strings.TrimSpace(line), "tagged "); ok {
			tags = append(tags, tag)
		}
	}
	if strings.Join(tags, " ") != strings.Join(want, " ") {
		s.Fatalf("tagged %v, want %v\n%s", tags, want, out)
	}
	for _, tag := range tags {
		s.exec(s.remote, "git", "rev-parse", tag)
		mod := s.exec(s.dir, "git", "show", tag+":"+tag[:strings.LastIndex(tag, "/")]+"/go.mod")
		if strings.Contains(mod, "replace") {
			s.Errorf("%s has replace lines:\n%s", tag, mod)
		}
	}
	if s.exec(s.remote, "git", "rev-parse", "main") != s.exec(s.dir, "git", "rev-parse", "HEAD") {
		s.Error("the remote does not have main")
	}
	if status := s.exec(s.dir, "git", "status", "--porcelain"); status != "" {
		s.Errorf("left behind:\n%s", status)
	}
	if trees := s.exec(s.dir, "git", "worktree", "list"); strings.Contains(trees, "\n") {
		s.Errorf("left behind:\n%s", trees)
	}
	return out
}

// Real releases: first versions, a patch of one broker, a new function of core that reaches
// all brokers, and a break.
func TestReleases(t *testing.T) {
	s := newScratch(t)
	out, err := s.release(false)
	if err != nil || !strings.Contains(out, "core v0.1.0") || !strings.Contains(out, "- All of two.") || strings.Contains(out, "examples") {
		t.Fatalf("dry run: %v\n%s", err, out)
	}
	if tags := s.exec(s.dir, "git", "tag"); tags != "" {
		t.Fatalf("the dry run tags %s", tags)
	}
	s.must([]string{"core=v1.0.0", "broker/one=v1.0.0", "broker/two=v1.0.0"}, "core/v1.0.0", "broker/one/v1.0.0", "broker/two/v1.0.0")
	for _, dir := range []string{"broker/one", "broker/two", "examples"} {
		if mod := s.read(dir + "/go.mod"); !strings.Contains(mod, "swarm/core v1.0.0") || !strings.Contains(mod, "replace") {
			t.Errorf("main: %s/go.mod is\n%s", dir, mod)
		}
	}
	if log := s.read("CHANGELOG.md"); strings.Contains(log, "unreleased") || !strings.Contains(log, "## core v1.0.0, ") {
		t.Errorf("changelog:\n%s", log)
	}
	if out, err := s.release(true); err != nil || !strings.Contains(out, "nothing has changed") {
		t.Errorf("%v\n%s", err, out)
	}

	// Tests and documentation are no release.
	s.write("core/core_test.go", "package core\n")
	s.write("core/README.md", "text\n")
	s.commit("tests")
	if out, err := s.release(true); err != nil || !strings.Contains(out, "nothing has changed") {
		t.Errorf("%v\n%s", err, out)
	}

	s.change("broker/one/broker.go", `"open"`, `"opened"`)
	s.log("broker/one", "It says opened.")
	s.commit("patch of one")
	s.must(nil, "broker/one/v1.0.1")

	s.change("core/core.go", "// Send", "// Receive receives.\nfunc Receive() string { return \"\" }\n\n// Send")
	s.log("core", "Receive.")
	s.commit("minor of core")
	out = s.must(nil, "core/v1.1.0", "broker/one/v1.0.2", "broker/two/v1.0.1")
	if !strings.Contains(out, "broker/two v1.0.1 (patch: requires core v1.1.0)") {
		t.Errorf("got\n%s", out)
	}
	if log := s.read("CHANGELOG.md"); !strings.Contains(log, "- Requires core v1.1.0.") {
		t.Errorf("changelog:\n%s", log)
	}

	s.change("core/core.go", "Send(text string)", "Send(text []byte)")
	for _, broker := range []string{"one", "two"} {
		s.change("broker/"+broker+"/broker.go", "core.Send(", "core.Send([]byte(")
		s.change("broker/"+broker+"/broker.go", ") }", ")) }")
	}
	s.change("examples/main.go", `Send("x")`, `Send([]byte("x"))`)
	s.log("core", "Send takes bytes.")
	s.log("broker/one", "Sends bytes.")
	s.log("broker/two", "Sends bytes.")
	s.commit("break")
	out, err = s.release(true)
	if err == nil || !strings.Contains(out, "core v2.0.0 (major") || !strings.Contains(err.Error(), "module path example.com/swarm/core/v2") {
		t.Errorf("got %v\n%s", err, out)
	}
}

// In v0 a break is told as what it is, and raises the minor number.
func TestBreakInV0(t *testing.T) {
	s := newScratch(t)
	s.must(nil, "core/v0.1.0", "broker/one/v0.1.0", "broker/two/v0.1.0")
	s.change("broker/two/broker.go", "Open()", "Open2()")
	s.log("broker/two", "Open2.")
	s.commit("break")
	out := s.must(nil, "broker/two/v0.2.0")
	if !strings.Contains(out, "broker/two v0.2.0 (major") {
		t.Errorf("got\n%s", out)
	}
}

// What is not ready is refused, and nothing is changed.
func TestRefusals(t *testing.T) {
	s := newScratch(t)
	s.must(nil, "core/v0.1.0", "broker/one/v0.1.0", "broker/two/v0.1.0")
	s.change("core/core.go", "return nil", "return error(nil)")
	if out, err := s.release(true); err != nil || !strings.Contains(out, "nothing has changed") {
		t.Errorf("what is not committed: %v\n%s", err, out)
	}
	s.commit("no line")
	refused := func(want string, chosen ...string) {
		t.Helper()
		if out, err := s.release(true, chosen...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q\n%s", err, want, out)
		}
	}
	refused("core: CHANGELOG.md has no line")
	s.log("core", "Something.")
	refused("not clean")
	s.commit("line")
	head := s.exec(s.dir, "git", "rev-parse", "HEAD")
	refused("already", "core=v0.1.0")
	refused("want MODULE=vX.Y.Z", "core=1")
	refused("no module that is released", "examples=v1.0.0")
	r := release{root: s.dir, do: true, test: "exit 3", out: &strings.Builder{}}
	if err := r.run(nil); err == nil || !strings.Contains(err.Error(), "tests:") {
		t.Errorf("red tests: got %v", err)
	}
	if now := s.exec(s.dir, "git", "rev-parse", "HEAD"); now != head {
		t.Error("a refusal commits")
	}
	if tags := s.exec(s.dir, "git", "tag", "--list", "core/*"); tags != "core/v0.1.0" {
		t.Errorf("a refusal tags: %s", tags)
	}
	s.must(nil, "core/v0.1.1", "broker/one/v0.1.1", "broker/two/v0.1.1")
}
