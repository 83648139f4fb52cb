package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// read is the repository itself, with a text of a page replaced.
func read(t *testing.T, name, old, new string) *repository {
	t.Helper()
	r := &repository{root: filepath.Join("..", ".."), pages: map[string]page{}, texts: map[string]string{}}
	if err := r.read(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(r.root, name))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(raw), old, new, 1)
	if old != new && text == string(raw) {
		t.Fatalf("%s does not say %q", name, old)
	}
	if filepath.Ext(name) == ".md" {
		r.pages[name] = parse(text)
	} else {
		r.texts[name] = text
	}
	return r
}

func wants(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// A cell that is wrong is found, whichever it is.
func TestBrokenTablesOfBrokers(t *testing.T) {
	if err := read(t, "README.md", "", "").checkBrokers(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ name, page, old, new, want string }{
		{"a claim of what it cannot", "README.md", "| | [through a queue](examples/events3)", "| [yes](examples/events3) | [through a queue](examples/events3)", "the package has not Emitter or Endpoint"},
		{"no claim of what it can", "README.md", "| [PutEvents](examples/eventbridge) |", "| |", "the package can"},
		{"Lambda without support", "README.md", "| [yes](examples/quickstart) | |", "| [yes](examples/quickstart) | [records](examples/serverless/sqs) |", "has not WithLambda"},
		{"an operation it does not call", "README.md", "[PublishBatch]", "[PutEvents]", "does not call it"},
		{"no link", "README.md", "[SendMessageBatch](examples/sqs)", "SendMessageBatch", "no link to a program"},
		{"a program of another broker", "README.md", "[SendMessageBatch](examples/sqs)", "[SendMessageBatch](examples/eventbridge)", "uses none of"},
		{"a program that is gone", "README.md", "[SendMessageBatch](examples/sqs)", "[SendMessageBatch](examples/gone)", "no such file"},
		{"a library as a function", "README.md", "(examples/serverless/sqs)", "(broker/sqs)", "no program"},
		{"partial answers it does not give", "README.md", "[records](examples/serverless/sns)", "[partial answers](examples/serverless/sns)", "says partial answers"},
		{"a topic it does not hear", "README.md", "[through a queue](examples/eventbridge)", "[through a queue](examples/eventbridge), a topic", "uses none of"},
		{"a number that was not measured", "README.md", "takes 0.1 requests", "takes 0.2 requests", "benchmarks.md has"},
		{"a feature that it has not", "README.md", "0.1 requests an event", "dead letters", "its code has no"},
		{"a word without a meaning", "README.md", "0.1 requests an event", "very fast", "nobody can check that"},
		{"a broker that is not", "README.md", "| [eventbridge](broker/eventbridge/doc.go) |", "| [kafka](broker/eventbridge/doc.go) |", "there is no broker kafka"},
		{"an option that is not", "docs/brokers.md", "`sqs.WithUnwrap(sqs.SNS)`", "`sqs.WithOpen(sqs.SNS)`", "there is no sqs.WithOpen"},
		{"the envelope of another", "docs/brokers.md", "`sqs.WithUnwrap(sqs.SNS)`", "`sqs.WithUnwrap(sqs.S3)`", "the way is sqs.SNS"},
		{"a size", "docs/brokers.md", "| 128 KiB |", "| 64 KiB |", "no such size"},
		{"a variable", "docs/brokers.md", "`CONFIG_SWARM_SOURCE_DDB`", "`CONFIG_SWARM_SOURCE_TABLE`", "CONFIG_SWARM_SOURCE_DDB"},
		{"no variable", "docs/brokers.md", "`CONFIG_SWARM_TARGET_SNS`", "", "CONFIG_SWARM_TARGET_SNS"},
	} {
		t.Run(x.name, func(t *testing.T) {
			wants(t, read(t, x.page, x.old, x.new).checkBrokers(), x.want)
		})
	}
}

func TestBrokenTableOfGuarantees(t *testing.T) {
	if err := read(t, "README.md", "", "").checkClauses(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ name, page, old, new, want string }{
		{"a clause that is not", "README.md", "| C1–C5 |", "| C1–C6 |", "no clause C6"},
		{"a clause without a case", "core/doc.go", "// L9 Order.", "// L10 Beyond.", "L10 has no case"},
	} {
		t.Run(x.name, func(t *testing.T) {
			wants(t, read(t, x.page, x.old, x.new).checkClauses(), x.want)
		})
	}
}

func TestNames(t *testing.T) {
	r := &repository{root: t.TempDir(), pages: map[string]page{}, texts: map[string]string{}}
	for name, text := range map[string]string{
		"a/a.go": `package a

// New is shown, and by it Thing and Part.
func New() *Thing { return &Thing{} }

// Thing has a part.
type Thing struct{ Part Part }

// Part is of a thing.
type Part int

// Small is one of two.
const Small Part = 1

// Run runs.
func (Part) Run() {}

func (Part) Error() string { return "" }

func Bare() {}

// Hidden is nowhere.
func Hidden() {}
`,
		"a/a_test.go":        "package a\n\nfunc f() { New().Part.Run(); Bare(); _ = New().Part.Error() }\n",
		"examples/b/main.go": "package main\n\nimport other \"github.com/fogfish/swarm/a\"\n\nvar _ = other.Small\n",
		"a/internal/i.go":    "package internal\n\nfunc Free() {}\n",
	} {
		file := filepath.Join(r.root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.read(); err != nil {
		t.Fatal(err)
	}
	const want = "a/a.go:20: Bare has no comment\na/a.go:23: Hidden stands in no test and no example"
	if err := r.checkNames(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
