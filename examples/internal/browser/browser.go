// Package browser finds a browser for tests: Chromium, or Chrome.
package browser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// EnvChrome names the variable that says which browser it is.
const EnvChrome = "CHROME"

const how = "run `make browser` as root on Debian or Ubuntu, or install Chromium or Chrome, or set CHROME to its path"

// names of the command, and where macOS has the application.
var names = []string{
	"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless-shell",
	"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	"/Applications/Chromium.app/Contents/MacOS/Chromium",
}

// Find returns the path of the browser that CHROME says, else of one that is installed. The
// error says how to get one.
func Find() (string, error) {
	if name := os.Getenv(EnvChrome); name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", EnvChrome, err)
		}
		return path, nil
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no browser: " + how)
}

// Get is Find, and where there is none it installs Debian's package chromium, which takes
// root. What apt-get prints goes to log.
func Get(ctx context.Context, log io.Writer) (string, error) {
	path, err := Find()
	if err == nil || os.Getenv(EnvChrome) != "" {
		return path, err
	}
	if _, missing := exec.LookPath("apt-get"); missing != nil || os.Geteuid() != 0 {
		return "", err
	}
	for _, args := range [][]string{
		{"update"},
		{"install", "-y", "--no-install-recommends", "chromium"},
	} {
		// Another apt-get may be at work.
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		cmd.Stdout, cmd.Stderr = log, log
		cmd.WaitDelay = time.Second
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w; no browser: %s", args[0], err, how)
		}
	}
	return Find()
}

// T is the part of *testing.T that is needed here.
type T interface {
	Helper()
	Context() context.Context
	Output() io.Writer
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Path returns the path of a browser. Where CI=true it installs one if it can, and fails the
// test if there is none; elsewhere it skips it.
func Path(t T) string {
	t.Helper()
	if os.Getenv("CI") != "true" {
		path, err := Find()
		if err != nil {
			t.Skipf("NOT TESTED: %v", err)
		}
		return path
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	path, err := Get(ctx, t.Output())
	if err != nil {
		t.Fatalf("%v", err)
	}
	return path
}
