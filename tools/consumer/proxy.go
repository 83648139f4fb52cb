package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	modzip "golang.org/x/mod/zip"
)

// proxy is a folder that the go command takes for a module proxy: it has the modules of the
// working tree, packed as they are when they are released.
type proxy struct {
	dir      string
	versions map[string]string // by module path
}

// publish packs the modules. A module has the version that its siblings require of it.
func publish(dir string, siblings map[string]string) (*proxy, error) {
	p := &proxy{dir: dir, versions: map[string]string{}}
	files := map[string]*modfile.File{}
	for path, at := range siblings {
		raw, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err != nil {
			return nil, err
		}
		if files[path], err = modfile.Parse("go.mod", raw, nil); err != nil {
			return nil, err
		}
		for _, r := range files[path].Require {
			if v := p.versions[r.Mod.Path]; siblings[r.Mod.Path] != "" && (v == "" || semver.Compare(r.Mod.Version, v) > 0) {
				p.versions[r.Mod.Path] = r.Mod.Version
			}
		}
	}
	for path, at := range siblings {
		if p.versions[path] == "" {
			p.versions[path] = "v0.1.0"
		}
		if err := p.pack(path, at, files[path]); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return p, nil
}

// pack puts a module into the folder. Its go.mod has no replace lines.
func (p *proxy) pack(path, at string, mod *modfile.File) (err error) {
	escaped, err := module.EscapePath(path)
	if err != nil {
		return err
	}
	version := p.versions[path]
	tree, err := os.MkdirTemp("", "pack")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	names, err := files(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(at, name))
		if err != nil {
			return err
		}
		if err := write(filepath.Join(tree, name), text); err != nil {
			return err
		}
	}
	for _, r := range mod.Replace {
		if err := mod.DropReplace(r.Old.Path, r.Old.Version); err != nil {
			return err
		}
	}
	mod.Cleanup()
	text, err := mod.Format()
	if err != nil {
		return err
	}
	folder := filepath.Join(p.dir, filepath.FromSlash(escaped), "@v")
	base := filepath.Join(folder, version)
	if err := errors.Join(
		os.WriteFile(filepath.Join(tree, "go.mod"), text, 0o644),
		os.MkdirAll(folder, 0o755),
		os.WriteFile(filepath.Join(folder, "list"), []byte(version+"\n"), 0o644),
		os.WriteFile(base+".mod", text, 0o644),
		os.WriteFile(base+".info", fmt.Appendf(nil, `{"Version":%q,"Time":"2026-01-01T00:00:00Z"}`, version), 0o644),
	); err != nil {
		return err
	}
	out, err := os.Create(base + ".zip")
	if err != nil {
		return err
	}
	return errors.Join(modzip.CreateFromDir(out, module.Version{Path: path, Version: version}, tree), out.Close())
}

// files of a module, by their names in its folder: those that are committed or will be, and
// none of a module below it.
func files(folder string) (names []string, err error) {
	list, err := command(folder, nil, "git", "ls-files", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return nil, err
	}
	for name := range strings.Lines(string(list)) {
		name = strings.TrimSpace(name)
		if _, err := os.Stat(filepath.Join(folder, name)); errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if !nested(folder, filepath.Dir(name)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// nested reports that a folder belongs to a module below the one of root.
func nested(root, folder string) bool {
	for ; folder != "."; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(root, folder, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// environment of a consumer, who has nothing but the proxies and an empty cache. What the
// machine has downloaded is a proxy too. Paths are trimmed so that what was compiled counts
// in the next run also, whose cache is elsewhere.
func (p *proxy) environment(cache string) ([]string, error) {
	out, err := command(".", nil, "go", "env", "GOMODCACHE", "GOPROXY", "GONOSUMDB")
	if err != nil {
		return nil, err
	}
	known := strings.Split(string(out), "\n")
	env := []string{
		"GOWORK=off",
		"GOMODCACHE=" + cache,
		"GOPROXY=file://" + p.dir + ",file://" + filepath.Join(known[0], "cache", "download") + "," + known[1],
		"GONOSUMDB=github.com/fogfish/swarm," + known[2],
		"GOFLAGS=-modcacherw -trimpath",
	}
	return env, nil
}
