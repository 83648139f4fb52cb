package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scratch is a module with tests of all kinds.
var scratch = map[string]string{
	"go.mod": "module example.com/scratch\n\ngo 1.26\n",
	"well/well_test.go": `package well

import "testing"

func TestWell(t *testing.T)  { t.Log("quiet") }
func TestParts(t *testing.T) { t.Run("one", func(*testing.T) {}); t.Run("two", func(*testing.T) {}) }
func TestLater(t *testing.T) { t.Skip("there is no database") }
func TestFresh(t *testing.T) { t.Skip("not applicable, needs order") }
func TestOther(t *testing.T) { t.Skip("not applicable, needs time") }
`,
	"none/none.go": "package none\n",
	"wrong/wrong_test.go": `package wrong

import "testing"

func TestWell(t *testing.T)  { t.Log("quiet") }
func TestParts(t *testing.T) {
	t.Run("good", func(t *testing.T) { t.Log("quiet too") })
	t.Run("bad", func(t *testing.T) { t.Error("the seed is 42\nand more") })
}
`,
	"panics/panics_test.go": `package panics

import "testing"

func TestPanic(*testing.T) { panic("out of paper") }
`,
	"builds/builds_test.go": `package builds

import "testing"

func TestNever(t *testing.T) { undefined() }
`,
	"exits/exits_test.go": `package exits

import (
	"fmt"
	"os"
	"testing"
)

func TestWell(t *testing.T) {}
func TestMain(m *testing.M) { m.Run(); fmt.Println("something leaks"); os.Exit(3) }
`,
	"hangs/hangs_test.go": `package hangs

import (
	"os"
	"strconv"
	"testing"
	"time"
)

func TestHang(*testing.T) {
	os.WriteFile("pid.tmp", []byte(strconv.Itoa(os.Getpid())), 0o600)
	os.Rename("pid.tmp", "pid")
	time.Sleep(time.Hour)
}
`,
}

func newScratch(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range scratch {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("GOWORK", "off")
	t.Setenv(ledger, "") // ours may run for a report of its own
}

func TestGoTest(t *testing.T) {
	newScratch(t)
	for _, x := range []struct {
		pkg, want               string // what it prints
		packages, passed, fails int
		skipped                 int
		broken                  bool
	}{
		{pkg: "well", want: "ok  \texample.com/scratch/well", packages: 1, passed: 3, skipped: 3},
		{pkg: "none", want: "?   \texample.com/scratch/none"},
		{pkg: "wrong", want: "wrong_test.go:8: the seed is 42\n        and more\n", packages: 1, passed: 2, fails: 1, broken: true},
		{pkg: "panics", want: "panic: out of paper", packages: 1, fails: 1, broken: true},
		{pkg: "builds", want: "undefined: undefined", packages: 1, broken: true},
		{pkg: "exits", want: "something leaks", packages: 1, passed: 1, broken: true},
	} {
		t.Run(x.pkg, func(t *testing.T) {
			var out strings.Builder
			all, err := goTest([]string{"-shuffle=on", "./" + x.pkg}, []string{"example.com/scratch"}, &out)
			if (err != nil) != x.broken {
				t.Errorf("got error %v", err)
			}
			if !strings.Contains(out.String(), x.want) {
				t.Errorf("got %q, want %q", &out, x.want)
			}
			if strings.Contains(out.String(), "quiet") || strings.Contains(out.String(), "===") {
				t.Errorf("tests that are well say %q", &out)
			}
			if seed := strings.Contains(out.String(), "-test.shuffle"); seed != x.broken && x.pkg != "builds" {
				t.Errorf("seed is there: %t\n%s", seed, &out)
			}
			m := all.module("example.com/scratch")
			if m.Packages != x.packages || m.Passed != x.passed || m.Failed != x.fails || m.skipped() != x.skipped || (m.Broken > 0) != x.broken {
				t.Errorf("got %+v", m)
			}
		})
	}
}

// Reports of several commands add up.
func TestSummary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ledger")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newScratch(t)
	t.Setenv(ledger, file)
	for range 2 {
		if err := test([]string{"./well"}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	all.print(&out)
	printSteps(&out, []step{{name: "unit"}, {name: "lint", failed: errors.New("exit status 2")}}, []string{"unit", "lint", "docs"}, 0)
	for _, want := range []string{
		"2       6       0        6  example.com/scratch\n",
		"     4  not applicable: 2 needs order; 2 needs time\n     2  there is no database\n",
		"\n6 passed, 0 failed, 6 skipped\n",
		"lint              0s  FAILED: exit status 2\nnot run: docs\nlint failed in 0s\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "report")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// The exit status of what failed is ours.
func TestExitStatus(t *testing.T) {
	bin := build(t)
	newScratch(t)
	for _, x := range []struct {
		args []string
		want int
	}{
		{[]string{"test", "./well"}, 0},
		{[]string{"test", "./well", "./wrong"}, 1},
		{[]string{"steps", "sh", "/dev/null"}, 0},
		{[]string{"steps", "sh", "/dev/null", "no-such-file"}, 2},
		{[]string{"what", "is", "it"}, 1},
		{nil, 2},
	} {
		cmd := exec.Command(bin, x.args...)
		out, _ := cmd.CombinedOutput()
		got := cmd.ProcessState.ExitCode()
		if x.want == 2 && len(x.args) > 0 && got == 127 {
			got = 2 // of some shells
		}
		if got != x.want {
			t.Errorf("%q: got %d, want %d\n%s", x.args, got, x.want, out)
		}
	}
}

// A signal ends the tests too.
func TestSignal(t *testing.T) {
	bin := build(t)
	newScratch(t)
	for _, args := range [][]string{{"test", "./hangs"}, {"steps", "go", "test"}} {
		if args[0] == "steps" {
			t.Chdir("hangs")
		}
		cmd := exec.Command(bin, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		file := filepath.Join(map[string]string{"test": "hangs"}[args[0]], "pid")
		pid := 0
		for pid == 0 {
			raw, err := os.ReadFile(file)
			if errors.Is(err, os.ErrNotExist) {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			if pid, err = strconv.Atoi(string(raw)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Remove(file), cmd.Process.Signal(syscall.SIGTERM)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Errorf("%s: ended well", args[0])
		}
		for syscall.Kill(pid, 0) == nil { // until its parent has seen it
			time.Sleep(10 * time.Millisecond)
		}
	}
}
