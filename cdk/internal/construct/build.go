package construct

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fogfish/scud"
)

// binary is what the runtimes provided.* start.
const binary = "bootstrap"

// build compiles the function by the go command of the host, with its whole environment,
// into a new folder that has the binary and nothing else.
//
// Scud would do this, but not so that it can be relied on. Its compiler does not get
// GOFLAGS, GOWORK and GOPROXY, and falls back to Docker when it does not find GOPATH; its
// hash of the sources leaves out other modules, and also the own one when
// GITHUB_WORKSPACE is set, so that a new version of a dependency is never deployed. Here the
// build is reproducible, and the CDK takes the hash of the binary: what is deployed is what
// was built, and what has not changed is not deployed again.
func build(spec *scud.FunctionGoProps) (string, error) {
	dir, err := os.MkdirTemp("", "swarm-cdk-")
	if err != nil {
		return "", err
	}
	if err := compile(spec, dir); err != nil {
		os.RemoveAll(dir)
		return "", err
	}
	return dir, nil
}

func compile(spec *scud.FunctionGoProps, dir string) error {
	ldflags := append([]string{"-s", "-w"}, spec.Toolchain.LDFlags...)
	if spec.SourceCodeVersion != "" {
		ldflags = append(ldflags, "-X main.version="+spec.SourceCodeVersion)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Toolchain.LDVars)) {
		quoted, err := quote(name + "=" + spec.Toolchain.LDVars[name])
		if err != nil {
			return fmt.Errorf("LDVars of %s: %w", name, err)
		}
		ldflags = append(ldflags, "-X "+quoted)
	}
	pkg := path.Join(spec.SourceCodeModule, filepath.ToSlash(spec.SourceCodeLambda))
	// Revision and time of the commit would make another binary of the same code.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "lambda.norpc",
		"-ldflags", strings.Join(ldflags, " "), "-o", filepath.Join(dir, binary), pkg)
	env := map[string]string{"CGO_ENABLED": "0"}
	maps.Copy(env, spec.Toolchain.GoEnv)
	cmd.Env = os.Environ()
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, name+"="+env[name])
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return explain(pkg, out, err)
	}
	info, err := os.Stat(filepath.Join(dir, binary))
	switch {
	case err != nil:
		return err
	case info.Mode()&0o100 == 0: // an archive, which is what go build makes of a library
		return fmt.Errorf("%s is no package main", pkg)
	}
	return nil
}

// quote makes one word of text, for -ldflags: quotes have no escapes in them there.
func quote(text string) (string, error) {
	for _, q := range []string{"'", `"`} {
		if !strings.Contains(text, q) {
			return q + text + q, nil
		}
	}
	return "", errors.New("the value has both kinds of quotes, which go build cannot take")
}

func explain(pkg string, out []byte, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("there is no go command in PATH to build the function with")
	}
	text := strings.TrimSpace(string(out))
	for _, unknown := range []string{"no required module provides package", "is not in std", "cannot find module providing package", "cannot find package", "missing go.sum entry"} {
		if strings.Contains(text, unknown) {
			wd, _ := os.Getwd()
			return fmt.Errorf("the module of %s does not have %s: run the application in the module of the function, or in a workspace (go.work) with it, or add it by go get -tool %s\n%s", wd, pkg, pkg, text)
		}
	}
	return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
}

// toolchain is a copy whose maps are there.
func toolchain(t *scud.Toolchain) *scud.Toolchain {
	out := scud.Toolchain{}
	if t != nil {
		out = *t
	}
	if out.GoEnv = maps.Clone(out.GoEnv); out.GoEnv == nil {
		out.GoEnv = map[string]string{}
	}
	return &out
}

// scudEnv prepares for scud's compiler what it does not look for by itself: it starts the go
// command with nothing but Toolchain.GoEnv, and looks for files of the module in
// GITHUB_WORKSPACE. The function returned undoes the latter.
func scudEnv(spec *scud.ContainerGoProps) (restore func(), err error) {
	out, err := exec.Command("go", "env", "-json", "GOPATH", "GOMODCACHE", "GOROOT", "GOCACHE", "GOFLAGS", "GOPROXY", "GOWORK", "GOPRIVATE", "GONOSUMDB", "GOSUMDB", "GOTOOLCHAIN").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	env := map[string]string{}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&env); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	for _, name := range []string{"PATH", "HOME"} {
		env[name] = os.Getenv(name)
	}
	maps.Copy(env, spec.Toolchain.GoEnv)
	spec.Toolchain.GoEnv = env

	if spec.Dockerfile == "" && len(spec.StaticAssets) == 0 {
		return func() {}, nil
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", spec.SourceCodeModule).Output()
	if err != nil || strings.TrimSpace(string(root)) == "" {
		return nil, fmt.Errorf("where is module %s, for Dockerfile and StaticAssets? go list -m: %w", spec.SourceCodeModule, err)
	}
	const workspace = "GITHUB_WORKSPACE"
	was, has := os.LookupEnv(workspace)
	os.Setenv(workspace, strings.TrimSpace(string(root)))
	return func() {
		if has {
			os.Setenv(workspace, was)
		} else {
			os.Unsetenv(workspace)
		}
	}, nil
}
