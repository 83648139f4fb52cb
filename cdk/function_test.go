package cdk_test

import (
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/jsii-runtime-go"
	"github.com/fogfish/scud"

	"github.com/fogfish/swarm/cdk/sqs"
)

// connector is a program of this module.
func connector() *scud.FunctionGoProps {
	return &scud.FunctionGoProps{SourceCodeModule: "github.com/fogfish/swarm/cdk", SourceCodeLambda: "websocket/connector"}
}

// sink is the template of a sink with the function.
func sink(t *testing.T, f scud.FunctionProps, context ...string) *template {
	t.Helper()
	stack := newStack(t, context...)
	b := sqs.NewBroker(stack, new("Broker"), nil)
	b.NewQueue(nil)
	b.NewSink(&sqs.SinkProps{Function: f})
	return synth(t, stack)
}

// bootstrap is the binary of the only function, and the key of its asset.
func (x *template) bootstrap() (file, key string) {
	x.Helper()
	key = x.one("AWS::Lambda::Function")["Code"].(object)["S3Key"].(string)
	return filepath.Join(x.dir, "asset."+strings.TrimSuffix(key, ".zip"), "bootstrap"), key
}

func machine(t *testing.T, file string) elf.Machine {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Machine
}

// Scud's traps are in the environment: none of it is there.
func TestBuild(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, name := range []string{"GOPATH", "GOMODCACHE", "GITHUB_WORKSPACE"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	x := sink(t, connector())
	file, key := x.bootstrap()
	if m := machine(t, file); m != elf.EM_AARCH64 {
		t.Errorf("the binary is for %s", m)
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Path != "github.com/fogfish/swarm/cdk/websocket/connector" {
		t.Errorf("the binary is %s", info.Path)
	}
	for _, m := range info.Deps {
		if strings.Contains(m.Path, "jsii") || strings.Contains(m.Path, "aws-cdk") {
			t.Errorf("the binary has %s", m.Path)
		}
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"jsii", os.TempDir() + "/", filepath.Dir(mustGetwd(t))} {
		if strings.Contains(string(raw), text) {
			t.Errorf("the binary has %q in it", text)
		}
	}
	// The same sources are the same asset, from wherever.
	t.Setenv("GITHUB_WORKSPACE", t.TempDir())
	if _, again := sink(t, connector()).bootstrap(); again != key {
		t.Errorf("the asset was %s and is %s", key, again)
	}
	// And other ones another.
	changed := connector()
	changed.Toolchain = &scud.Toolchain{LDFlags: []string{"-X main.x=y"}, LDVars: map[string]string{"runtime.defaultGOROOT": "it's with spaces"}}
	changed.SourceCodeVersion = "v1"
	if _, other := sink(t, changed).bootstrap(); other == key {
		t.Error("another binary is the same asset")
	}
	quoted := connector()
	quoted.Toolchain = &scud.Toolchain{LDVars: map[string]string{"main.x": `'"`}}
	fails(t, func() { sink(t, quoted) }, "LDVars of main.x: the value has both kinds of quotes")
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "swarm-cdk-*")); len(left) > 0 {
		t.Errorf("folders left: %q", left)
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return wd
}

// A function is deployed again when a package has changed that it imports, also of another
// module, which scud's hash leaves out.
func TestBuildFollowsDependencies(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("app/go.mod", "module example.com/app\ngo 1.26\nrequire example.com/dep v0.0.0\nreplace example.com/dep => ../dep\n")
	write("app/fn/main.go", "package main\nimport \"example.com/dep\"\nfunc main() { println(dep.Text) }\n")
	write("app/lib/lib.go", "package lib\n")
	write("app/bad/main.go", "package main\nfunc main() { undefined() }\n")
	write("dep/go.mod", "module example.com/dep\ngo 1.26\n")
	write("dep/dep.go", "package dep\nvar Text = \"one\"\n")
	t.Chdir(filepath.Join(dir, "app"))
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
	f := func(lambda string) *scud.FunctionGoProps {
		return &scud.FunctionGoProps{SourceCodeModule: "example.com/app", SourceCodeLambda: lambda}
	}
	_, one := sink(t, f("fn")).bootstrap()
	_, same := sink(t, f("fn")).bootstrap()
	write("dep/dep.go", "package dep\nvar Text = \"two\"\n")
	_, two := sink(t, f("fn")).bootstrap()
	if one != same || one == two {
		t.Errorf("assets %s, %s, %s", one, same, two)
	}

	const where = "construct test/Broker/"
	fails(t, func() { sink(t, f("bad")) }, where, "SinkProps.Function: go build example.com/app/bad", "main.go:2", "undefined: undefined")
	fails(t, func() { sink(t, f("lib")) }, where, "example.com/app/lib is no package main")
	fails(t, func() { sink(t, f("none")) }, where, "does not have example.com/app/none")
	elsewhere := f("fn")
	elsewhere.SourceCodeModule = "example.com/elsewhere"
	fails(t, func() { sink(t, elsewhere) }, where, "run the application in the module of the function, or in a workspace", "go get -tool example.com/elsewhere/fn")
	elsewhere.SourceCodeModule = ""
	fails(t, func() { sink(t, elsewhere) }, "SinkProps.Function.SourceCodeModule: is missing")
	t.Setenv("PATH", dir)
	fails(t, func() { sink(t, f("fn")) }, "there is no go command in PATH")
}

func TestArchitecture(t *testing.T) {
	env := func(name, value string) *scud.Toolchain {
		return &scud.Toolchain{GoEnv: map[string]string{name: value}}
	}
	props := func(a awslambda.Architecture) *awslambda.FunctionProps {
		return &awslambda.FunctionProps{Architecture: a}
	}
	for name, c := range map[string]struct {
		toolchain *scud.Toolchain
		props     *awslambda.FunctionProps
		context   []string
		want      string
	}{
		"toolchain":             {toolchain: env("GOARCH", "amd64"), want: "x86_64"},
		"property":              {props: props(awslambda.Architecture_X86_64()), want: "x86_64"},
		"context":               {context: []string{"swarm:goarch", "amd64"}, want: "x86_64"},
		"property over context": {props: props(awslambda.Architecture_ARM_64()), context: []string{"swarm:goarch", "amd64"}, want: "arm64"},
		"toolchain is no maps":  {toolchain: &scud.Toolchain{}, want: "arm64"},
	} {
		t.Run(name, func(t *testing.T) {
			f := connector()
			f.Toolchain, f.FunctionProps = c.toolchain, c.props
			x := sink(t, f, c.context...)
			expect(t, x.one("AWS::Lambda::Function"), "Architectures/0", `"`+c.want+`"`)
			file, _ := x.bootstrap()
			if got, want := machine(t, file), map[string]elf.Machine{"arm64": elf.EM_AARCH64, "x86_64": elf.EM_X86_64}[c.want]; got != want {
				t.Errorf("the binary is for %s", got)
			}
			if f.Toolchain != nil && len(f.Toolchain.GoEnv) > 1 {
				t.Error("the toolchain was changed")
			}
		})
	}
	bad := func(t *scud.Toolchain, p *awslambda.FunctionProps) *scud.FunctionGoProps {
		f := connector()
		f.Toolchain, f.FunctionProps = t, p
		return f
	}
	fails(t, func() { sink(t, bad(env("GOARCH", "arm64"), props(awslambda.Architecture_X86_64()))) }, "SinkProps.Function.Architecture: x86_64 contradicts", "arm64")
	fails(t, func() { sink(t, bad(env("GOARCH", "mips"), nil)) }, "SinkProps.Function: GOARCH mips")
	fails(t, func() { sink(t, bad(env("GOOS", "darwin"), nil)) }, "SinkProps.Function.Toolchain: GOOS darwin")
	fails(t, func() { sink(t, connector(), "swarm:goarch", "386") }, "GOARCH 386")
}

func TestFunctionOverrides(t *testing.T) {
	stack := newStack(t)
	role := awsiam.Role_FromRoleArn(stack, new("Role"), new("arn:aws:iam::000000000000:role/own"), nil)
	b := sqs.NewBroker(stack, new("Broker"), nil)
	b.NewQueue(nil)
	props := &awslambda.FunctionProps{
		LogGroup: awslogs.NewLogGroup(stack, new("Group"), &awslogs.LogGroupProps{Retention: awslogs.RetentionDays_ONE_DAY}),
		Runtime:  awslambda.Runtime_PROVIDED_AL2(), Handler: new("x"), FunctionName: new("own"), Role: role, Timeout: seconds(90),
		MemorySize: jsii.Number(256),
	}
	given := function(props)
	b.NewSink(&sqs.SinkProps{Function: given})
	if p := given.FunctionProps; p.Environment != nil || p.Architecture != nil || p.RetryAttempts != nil || given.Toolchain != nil {
		t.Error("the properties were changed")
	}
	x := synth(t, stack)
	f := x.one("AWS::Lambda::Function")
	expect(t, f, "Runtime", `"provided.al2"`)
	expect(t, f, "Handler", `"x"`)
	expect(t, f, "FunctionName", `"own"`)
	expect(t, f, "MemorySize", `256`)
	expect(t, f, "Role", `"arn:aws:iam::000000000000:role/own"`)
	expect(t, f, "Environment/Variables/CONFIG_SWARM_TIME_TO_FLIGHT", `"90"`)
	expect(t, x.one("AWS::Logs::LogGroup"), "RetentionInDays", `1`)
	if n := len(x.all("AWS::IAM::Role")); n != 0 {
		t.Errorf("%d roles", n)
	}

	fails(t, func() { sink(t, function(&awslambda.FunctionProps{Timeout: seconds(901)})) }, "SinkProps.Function.Timeout: 901 s")
	fails(t, func() { sink(t, (*scud.FunctionGoProps)(nil)) }, "SinkProps.Function: is missing")
	fails(t, func() { sink(t, (*scud.ContainerGoProps)(nil)) }, "SinkProps.Function: is missing")
	fails(t, func() { sink(t, foreign{}) }, "SinkProps.Function: cdk_test.foreign is neither")
	fails(t, func() {
		sink(t, function(&awslambda.FunctionProps{FunctionName: new("a b")}))
	}, "SinkProps.Function: ")
}

// In a network of its own a function needs more.
func TestVPC(t *testing.T) {
	stack := newStack(t)
	b := sqs.NewBroker(stack, new("Broker"), nil)
	b.NewQueue(nil)
	b.NewSink(&sqs.SinkProps{Function: function(&awslambda.FunctionProps{Vpc: awsec2.NewVpc(stack, new("Network"), nil)})})
	x := synth(t, stack)
	if got := marshal(t, x.resources[x.name("AWS::IAM::Role", "BrokerfunctionRole")]); !strings.Contains(got, "AWSLambdaVPCAccessExecutionRole") {
		t.Errorf("the role is %s", got)
	}
}

// The CDK may be told to leave binaries where they are: there they stay.
func TestAssetsAreNotStaged(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	stack := newStack(t, "aws:cdk:disable-asset-staging", "true")
	stack.Node().SetContext(new("aws:cdk:disable-asset-staging"), true)
	b := sqs.NewBroker(stack, new("Broker"), nil)
	b.NewQueue(nil)
	b.NewSink(&sqs.SinkProps{Function: connector()})
	synth(t, stack)
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "swarm-cdk-*", "bootstrap")); len(left) != 1 {
		t.Errorf("binaries %q, want 1", left)
	}
}

type foreign struct{}

func (foreign) HKT1(awslambda.Function) {}
func (foreign) UniqueID() string        { return "foreign" }

// The image is made by Docker, at deployment. Its folder is there after synthesis.
func TestContainer(t *testing.T) {
	t.Setenv("GITHUB_WORKSPACE", "elsewhere")
	for _, name := range []string{"GOPATH", "GOMODCACHE"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	f := &scud.ContainerGoProps{
		SourceCodeModule: "github.com/fogfish/swarm/cdk",
		SourceCodeLambda: "websocket/connector",
		StaticAssets:     []string{"go.mod"},
		Toolchain:        &scud.Toolchain{},
	}
	x := sink(t, f)
	fn := x.one("AWS::Lambda::Function")
	expect(t, fn, "PackageType", `"Image"`)
	expect(t, fn, "Architectures", `["arm64"]`)
	expect(t, fn, "Environment/Variables/CONFIG_SWARM_TIME_TO_FLIGHT", `"60"`)
	expect(t, x.one("AWS::Logs::LogGroup"), "RetentionInDays", `30`)
	x.leastPrivilege()
	images, _ := filepath.Glob(filepath.Join(x.dir, "asset.*", "bootstrap"))
	assets, _ := filepath.Glob(filepath.Join(x.dir, "asset.*", "go.mod"))
	if len(images) != 1 || len(assets) != 1 || machine(t, images[0]) != elf.EM_AARCH64 {
		t.Errorf("images %q, assets %q", images, assets)
	}
	if os.Getenv("GITHUB_WORKSPACE") != "elsewhere" {
		t.Error("the environment was changed")
	}
	if f.DockerImageFunctionProps != nil || f.Toolchain.GoEnv != nil {
		t.Error("the properties were changed")
	}
	fails(t, func() { sink(t, &scud.ContainerGoProps{}) }, "SinkProps.Function.SourceCodeModule: is missing")
	fails(t, func() {
		sink(t, &scud.ContainerGoProps{SourceCodeModule: "example.com/none", SourceCodeLambda: "x", StaticAssets: []string{"x"}})
	}, "SinkProps.Function: where is module example.com/none")
}

// Who uses a broker does not get the constructs: nothing but this module depends on them.
func TestNoOtherModuleDependsOnTheCDK(t *testing.T) {
	mods, err := filepath.Glob("../*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	deeper, _ := filepath.Glob("../*/*/go.mod")
	deepest, _ := filepath.Glob("../*/*/*/go.mod")
	mods = append(append(mods, deeper...), deepest...)
	n := 0
	for _, mod := range mods {
		dir := filepath.Dir(mod)
		if rel, _ := filepath.Rel("..", dir); !strings.HasPrefix(rel, "core") && !strings.HasPrefix(rel, "broker") && !strings.HasPrefix(rel, "qtest") && rel != "examples" {
			continue
		}
		n++
		cmd := exec.Command("go", "list", "-deps", "-test", "./...")
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%s: %v", dir, err)
		}
		for _, bad := range []string{"jsii", "aws-cdk", "constructs-go", "fogfish/scud", "swarm/cdk"} {
			if strings.Contains(string(out), bad) {
				t.Errorf("%s depends on %s", dir, bad)
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d modules were found in %q", n, mods)
	}
}
