package browser

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/fogfish/it/v2"
)

// verdict is a test that Path ends.
type verdict struct {
	*testing.T
	failed, skipped string
}

func (v *verdict) Fatalf(format string, args ...any) { v.failed = fmt.Sprintf(format, args...) }
func (v *verdict) Skipf(format string, args ...any)  { v.skipped = fmt.Sprintf(format, args...) }

func TestFind(t *testing.T) {
	dir := t.TempDir()
	installed, chosen := filepath.Join(dir, "chromium-browser"), filepath.Join(dir, "mine")
	t.Setenv("PATH", dir) // without apt-get
	t.Setenv(EnvChrome, "")
	applications := names
	names = names[:6]
	t.Cleanup(func() { names = applications })

	for ci, want := range map[string]*verdict{
		"":     {skipped: "NOT TESTED: no browser: " + how},
		"true": {failed: "no browser: " + how},
	} {
		t.Setenv("CI", ci)
		got := &verdict{T: t}
		Path(got)
		it.Then(t).Should(it.Equal(got.failed, want.failed), it.Equal(got.skipped, want.skipped))
	}

	for _, path := range []string{installed, chosen} {
		if err := os.WriteFile(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	it.Then(t).Should(it.Equal(Path(&verdict{T: t}), installed))
	t.Setenv(EnvChrome, chosen)
	it.Then(t).Should(it.Equal(Path(&verdict{T: t}), chosen))

	// One that is not there is not replaced by another.
	t.Setenv(EnvChrome, chosen+"-not")
	_, err := Get(context.Background(), io.Discard)
	it.Then(t).Should(it.Fail(func() error { return err }).Contain("CHROME: "))
}
