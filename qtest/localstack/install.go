package localstack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// The versions that work together. The server is the last open source release.
var (
	//go:embed requirements.txt
	requirements []byte

	//go:embed constraints.txt
	constraints []byte
)

// dynamodb is an npm package that carries DynamoDB Local, which LocalStack would
// download. Its licence allows use in development, and no redistribution: it is
// fetched, never committed.
const dynamodb = "amplify-dynamodb-simulator@2.9.30"

// installation is a server on disk.
type installation struct {
	dir         string
	python      string // of its virtual environment
	files       string // root of the server's own files
	certificate string
}

// install makes the installation in a folder, or finds it complete.
func install(ctx context.Context, cache string, log io.Writer) (*installation, error) {
	dir, err := filepath.Abs(filepath.Join(cache, "localstack"))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	i := &installation{
		dir:         dir,
		python:      filepath.Join(dir, "venv", "bin", "python"),
		files:       filepath.Join(dir, "fs"),
		certificate: filepath.Join(dir, "server.pem"),
	}
	// The mark has the versions: with other ones everything is made anew.
	mark, want := filepath.Join(dir, "complete"), string(requirements)+string(constraints)+dynamodb
	if have, err := os.ReadFile(mark); err == nil && string(have) == want {
		return i, nil
	}
	began := time.Now()
	fmt.Fprintln(log, "localstack: installing into", dir)
	for _, step := range []func(context.Context) error{i.clear, i.venv, i.dynamodb, i.java, i.cert} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("localstack: install: %w", err)
		}
	}
	fmt.Fprintln(log, "localstack: installed in", time.Since(began).Round(time.Second))
	return i, os.WriteFile(mark, []byte(want), 0o644)
}

// lock keeps two installations apart, also of two processes.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func (i *installation) clear(context.Context) error {
	return errors.Join(os.RemoveAll(filepath.Join(i.dir, "venv")), os.RemoveAll(i.files))
}

// venv is built where it stays: it keeps absolute paths.
func (i *installation) venv(ctx context.Context) error {
	python, err := findPython(ctx)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"requirements.txt": requirements, "constraints.txt": constraints} {
		if err := os.WriteFile(filepath.Join(i.dir, name), content, 0o644); err != nil {
			return err
		}
	}
	if err := run(ctx, i.dir, python, "-m", "venv", "venv"); err != nil {
		return err
	}
	return run(ctx, i.dir, i.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"-r", "requirements.txt", "-c", "constraints.txt")
}

// findPython finds Python 3.13: LocalStack 4.14 installs on older ones, and crashes.
func findPython(ctx context.Context) (string, error) {
	home, _ := os.UserHomeDir()
	candidates, _ := filepath.Glob(filepath.Join(home, ".pyenv", "versions", "3.13.*", "bin", "python"))
	for _, python := range append([]string{"python3.13", "python3", "python"}, candidates...) {
		out, err := exec.CommandContext(ctx, python, "-c", "import sys; print(sys.version_info[:2] == (3, 13))").Output()
		if err == nil && strings.TrimSpace(string(out)) == "True" {
			return python, nil
		}
	}
	return "", errors.New("needs Python 3.13: install it as python3.13, or by `pyenv install 3.13`")
}

// dynamodb unpacks DynamoDB Local where LocalStack looks for it.
func (i *installation) dynamodb(ctx context.Context) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return errors.New("needs npm, of Node.js, to fetch DynamoDB Local: install Node.js")
	}
	temp, err := os.MkdirTemp(i.dir, "npm")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	if err := run(ctx, temp, "npm", "pack", "--silent", dynamodb); err != nil {
		return err
	}
	packed, err := filepath.Glob(filepath.Join(temp, "*.tgz"))
	if err != nil || len(packed) != 1 {
		return fmt.Errorf("npm pack %s: made no package", dynamodb)
	}
	lib := filepath.Join(i.lib(), "dynamodb-local", "2")
	if err := untar(packed[0], "package/emulator/", lib); err != nil {
		return err
	}
	return i.agent(ctx, filepath.Join(lib, "ddb-local-loader-0.1.jar"))
}

func (i *installation) lib() string {
	return filepath.Join(i.files, "var", "lib", "localstack", "lib")
}

// agent makes the loader that LocalStack starts DynamoDB Local with: one that does
// nothing. Without it the JVM does not start.
func (i *installation) agent(ctx context.Context, path string) error {
	jdk, err := findJDK()
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp(i.dir, "agent")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	source := "public class Agent { public static void premain(String args) {} }\n"
	if err := os.WriteFile(filepath.Join(temp, "Agent.java"), []byte(source), 0o644); err != nil {
		return err
	}
	if err := run(ctx, temp, filepath.Join(jdk, "bin", "javac"), "Agent.java"); err != nil {
		return err
	}
	class, err := os.ReadFile(filepath.Join(temp, "Agent.class"))
	if err != nil {
		return err
	}
	var jar bytes.Buffer
	z := zip.NewWriter(&jar)
	for _, file := range []struct {
		name    string
		content []byte
	}{
		{"META-INF/MANIFEST.MF", []byte("Manifest-Version: 1.0\nPremain-Class: Agent\n\n")},
		{"Agent.class", class},
	} {
		w, err := z.Create(file.name)
		if err != nil {
			return err
		}
		if _, err := w.Write(file.content); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, jar.Bytes(), 0o644)
}

// java links an installed JDK to where LocalStack would put a JRE.
func (i *installation) java(context.Context) error {
	jdk, err := findJDK()
	if err != nil {
		return err
	}
	dir := filepath.Join(i.lib(), "java")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Symlink(jdk, filepath.Join(dir, "21"))
}

func findJDK() (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if _, err := os.Stat(filepath.Join(home, "bin", "javac")); err == nil {
			return home, nil
		}
	}
	javac, err := exec.LookPath("javac")
	if err == nil {
		javac, err = filepath.EvalSymlinks(javac)
	}
	if err != nil {
		return "", errors.New("needs a JDK, 17 or newer, for DynamoDB Local: install one, or set JAVA_HOME")
	}
	return filepath.Dir(filepath.Dir(javac)), nil
}

// cert makes the TLS certificate that LocalStack would download.
func (i *installation) cert(context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	return os.WriteFile(i.certificate, text, 0o600)
}

// run runs a command, and quotes what it says if it fails.
func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// untar unpacks the files below a prefix into a folder.
func untar(archive, prefix, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	n := 0
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(h.Name, prefix)
		if !ok || h.Typeflag != tar.TypeReg || !filepath.IsLocal(name) {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := write(path, r); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("%s: nothing below %s", archive, prefix)
	}
	return nil
}

func write(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
