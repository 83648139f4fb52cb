// Tests of all packages are here, in one binary: to link one takes 10 s, and each starts a
// process of Node.js.
package cdk_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"
)

var update = flag.Bool("update", false, "write the golden templates")

func TestMain(m *testing.M) {
	flag.Parse()
	seconds(1) // Node.js starts at the first call, in the folder and the environment of now
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// newStack is the stack of an application of its own.
func newStack(t testing.TB, context ...string) awscdk.Stack {
	t.Helper()
	values := map[string]any{}
	for i := 0; i < len(context); i += 2 {
		values[context[i]] = context[i+1]
	}
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false), Context: &values})
	return awscdk.NewStack(app, jsii.String("test"), nil)
}

// function is one that is built already.
func function(props ...*awslambda.FunctionProps) *scud.FunctionGoProps {
	p := awslambda.FunctionProps{}
	if len(props) > 0 {
		p = *props[0]
	}
	p.Code = awslambda.Code_FromAsset(new("testdata/function"), nil)
	return &scud.FunctionGoProps{FunctionProps: &p, SourceCodeModule: "example", SourceCodeLambda: "function"}
}

// object is JSON.
type object = map[string]any

// template is what CloudFormation gets.
type template struct {
	testing.TB
	raw       []byte
	dir       string // of the assembly
	resources map[string]object
}

func synth(t testing.TB, stack awscdk.Stack) *template {
	t.Helper()
	assembly := awscdk.App_Of(stack).(awscdk.App).Synth(nil)
	dir := *assembly.Directory()
	raw, err := os.ReadFile(filepath.Join(dir, *stack.StackName()+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	out := &template{TB: t, raw: raw, dir: dir}
	var in struct{ Resources map[string]object }
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	out.resources = in.Resources
	return out
}

// all are the properties of resources of a type, in the order of their names.
func (x *template) all(kind string) (found []object) {
	for _, name := range slices.Sorted(maps.Keys(x.resources)) {
		if r := x.resources[name]; r["Type"] == kind {
			properties, _ := r["Properties"].(object)
			found = append(found, properties)
		}
	}
	return found
}

// one is the only resource of a type.
func (x *template) one(kind string) object {
	x.Helper()
	all := x.all(kind)
	if len(all) != 1 {
		x.Fatalf("%d resources of type %s, want 1\n%s", len(all), kind, x.raw)
	}
	return all[0]
}

// name of the only resource of a type whose name has the text in it.
func (x *template) name(kind, has string) string {
	x.Helper()
	var names []string
	for name, r := range x.resources {
		if r["Type"] == kind && strings.Contains(name, has) {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		x.Fatalf("resources of type %s with %q in the name: %q, want 1", kind, has, names)
	}
	return names[0]
}

// expect compares a value, by a path of keys, with JSON.
func expect(t testing.TB, in any, path, want string) {
	t.Helper()
	at := in
	for key := range strings.SplitSeq(path, "/") {
		switch v := at.(type) {
		case object:
			at = v[key]
		case []any:
			i := 0
			fmt.Sscan(key, &i)
			if i >= len(v) {
				t.Errorf("%s: there are %d", path, len(v))
				return
			}
			at = v[i]
		default:
			at = nil
		}
	}
	if got := marshal(t, at); got != compact(t, want) {
		t.Errorf("%s: got %s, want %s", path, got, want)
	}
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func compact(t testing.TB, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return marshal(t, v)
}

// fails expects a panic with an error that has all of the texts.
func fails(t testing.TB, f func(), texts ...string) {
	t.Helper()
	defer func() {
		t.Helper()
		err, _ := recover().(error)
		if err == nil {
			t.Errorf("no error, want %q", texts)
			return
		}
		for _, text := range append(texts, "swarm: ") {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("got %v, want %q", err, text)
			}
		}
		if strings.Contains(err.Error(), "jsii") || strings.Contains(err.Error(), ".js:") {
			t.Errorf("the depths of jsii: %v", err)
		}
	}()
	f()
}

// allowed are the statements of all policies that allow something, with the name of the
// resource that has it.
func (x *template) allowed() map[string][]object {
	out := map[string][]object{}
	for name, r := range x.resources {
		properties, _ := r["Properties"].(object)
		documents := []any{properties["PolicyDocument"]}
		policies, _ := properties["Policies"].([]any)
		for _, p := range policies {
			documents = append(documents, p.(object)["PolicyDocument"])
		}
		for _, d := range documents {
			document, _ := d.(object)
			statements, _ := document["Statement"].([]any)
			for _, s := range statements {
				if s.(object)["Effect"] == "Allow" {
					out[name] = append(out[name], s.(object))
				}
			}
		}
	}
	return out
}

// list is a value, or several, as texts.
func list(t testing.TB, v any) (out []string) {
	t.Helper()
	seq, many := v.([]any)
	if !many {
		seq = []any{v}
	}
	for _, x := range seq {
		out = append(out, marshal(t, x))
	}
	return out
}

// leastPrivilege: no action and no resource has a star in it, but for
//
//	/*                         at the end of a bucket: its objects
//	/stage/POST/@connections/* connections, which have no names before they are there
//
// and nobody but a service gets access by a policy of a resource, on a condition. The only
// managed policy is that of the function by which the CDK tells buckets whom to notify: the
// name of its log is not known.
func (x *template) leastPrivilege() {
	x.Helper()
	for name, statements := range x.allowed() {
		for _, s := range statements {
			for _, action := range list(x, s["Action"]) {
				if strings.Contains(action, "*") {
					x.Errorf("%s allows %s", name, action)
				}
			}
			for _, resource := range list(x, s["Resource"]) {
				objects := regexp.MustCompile(`/\*"(]]})?$`).MatchString(resource) && strings.Contains(marshal(x, s["Action"]), "s3:")
				connections := regexp.MustCompile(`"/\w+/POST/@connections/\*"]]}$`).MatchString(resource)
				if strings.Contains(resource, "*") && !objects && !connections {
					x.Errorf("%s allows %s on %s", name, marshal(x, s["Action"]), resource)
				}
			}
			if p, has := s["Principal"]; has && (s["Condition"] == nil || !strings.HasPrefix(marshal(x, p), `{"Service":`)) {
				x.Errorf("%s allows %s, on condition %s", name, marshal(x, p), marshal(x, s["Condition"]))
			}
		}
	}
	for name, r := range x.resources {
		properties, _ := r["Properties"].(object)
		switch {
		case properties["ManagedPolicyArns"] == nil, strings.HasPrefix(name, "BucketNotificationsHandler"):
		default:
			x.Errorf("%s has %s", name, marshal(x, properties["ManagedPolicyArns"]))
		}
		if r["Type"] == "AWS::Lambda::Permission" && properties["SourceArn"] == nil {
			x.Errorf("%s lets %s invoke from anywhere", name, properties["Principal"])
		}
	}
}

// secure: queues, buckets and topics take TLS only, queues are encrypted.
func (x *template) secure() {
	x.Helper()
	denied := map[string]bool{}
	for _, kind := range []string{"AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy"} {
		for _, p := range x.all(kind) {
			for _, s := range p["PolicyDocument"].(object)["Statement"].([]any) {
				if s.(object)["Effect"] == "Deny" && strings.Contains(marshal(x, s), `"aws:SecureTransport":"false"`) {
					denied[strings.Join(list(x, p["Queues"]), "")+strings.Join(list(x, p["Topics"]), "")+strings.Join(list(x, p["Bucket"]), "")] = true
				}
			}
		}
	}
	for name, r := range x.resources {
		properties, _ := r["Properties"].(object)
		ref := fmt.Sprintf(`{"Ref":%q}`, name)
		switch r["Type"] {
		case "AWS::SQS::Queue":
			if properties["SqsManagedSseEnabled"] != true && properties["KmsMasterKeyId"] == nil {
				x.Errorf("%s is not encrypted", name)
			}
			fallthrough
		case "AWS::SNS::Topic", "AWS::S3::Bucket":
			found := false
			for has := range denied {
				found = found || strings.Contains(has, ref)
			}
			if !found {
				x.Errorf("%s takes requests without TLS", name)
			}
		}
	}
}

// functions: what all of them have that are not the CDK's own.
func (x *template) functions() {
	x.Helper()
	for name, r := range x.resources {
		if r["Type"] != "AWS::Lambda::Function" || strings.HasPrefix(name, "BucketNotificationsHandler") {
			continue
		}
		p := r["Properties"].(object)
		expect(x, p, "Runtime", `"provided.al2023"`)
		expect(x, p, "Architectures", `["arm64"]`)
		expect(x, p, "Handler", `"bootstrap"`)
		group, _ := p["LoggingConfig"].(object)["LogGroup"].(object)["Ref"].(string)
		expect(x, x.resources[group], "Properties/RetentionInDays", `30`)
		expect(x, p, "Environment/Variables/CONFIG_SWARM_TIME_TO_FLIGHT", fmt.Sprintf(`"%v"`, p["Timeout"]))
		expect(x, p, "Environment/Variables/CONFIG_SWARM_AGENT", `"test"`)
	}
}

var assets = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// golden compares a template with the file, which -update writes. The hashes of assets are
// left out: they follow each change of a function.
func (x *template) golden(name string) {
	x.Helper()
	file := filepath.Join("testdata", name+".template.json")
	got := append(assets.ReplaceAll(bytes.TrimSpace(x.raw), []byte(strings.Repeat("0", 64))), '\n')
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			x.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		x.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		x.Errorf("the template is not %s: look at the difference, and run go test -update if it is meant\n%s", file, difference(got, want))
	}
}

// difference is the lines of the first place where they are apart.
func difference(got, want []byte) string {
	a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	part := func(s []string) string { return strings.Join(s[min(i, len(s)):min(i+8, len(s))], "\n") }
	return fmt.Sprintf("line %d, got:\n%s\nwant:\n%s", i+1, part(a), part(b))
}
