package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fogfish/it/v2"

	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/ledger/top"
)

// record the ledger of a shop each second, in no time; the last is of after its end.
func record(t *testing.T, seconds int) (all []ledger.Snapshot) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := newShop()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.run(ctx) }()
		for range seconds {
			time.Sleep(time.Second)
			all = append(all, ledger.Take(s.kernels()))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		all = append(all, ledger.Take(s.kernels()))
		out := temp(t)
		if err := s.print(out); err != nil {
			t.Error(err)
		}
	})
	return all
}

func TestAMinuteAddsUp(t *testing.T) {
	all := record(t, 60)
	view := top.View{Width: 120}
	blocked, frame := 0, ""
	for _, s := range all {
		if err := s.Check(); err != nil {
			t.Errorf("%v: %v", s.At, err)
		}
		if frame = view.Frame(s); strings.Contains(frame, "Scan is blocked") {
			blocked++
		}
	}
	t.Log("\n" + frame)
	end := all[len(all)-1].Kernels["counter"]
	it.Then(t).Should(
		it.True(blocked > 5),
		it.True(blocked < 30),
		it.True(end.Closing),
		it.True(end.Emit["Order"].Confirmed > 1000),
		it.True(end.Emit["Order"].Retried > 0),
		it.True(end.Emit["Scan"].Failed > 0),
		it.True(end.Listen["Payment"].Failed > 0),
		it.True(end.Listen["Payment"].Redelivered > 0),
		it.Equal(end.Listen["Order"].Working, 0),
	)
}

func TestRun(t *testing.T) {
	out := temp(t)
	if err := run(t.Context(), []string{"-addr", "127.0.0.1:0", "-for", "500ms"}, out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	it.Then(t).Should(
		it.Nil(err),
		it.String(string(text)).HavePrefix("http://127.0.0.1:"),
		it.String(string(text)).HaveSuffix("\nthe ledger adds up\n"),
	)
}

func TestWhatCannotRun(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for addr, want := range map[string]string{
		busy.Addr().String(): "-addr says where else",
		"0.0.0.0:0":          "want 127.0.0.1",
		"nowhere":            "missing port",
	} {
		err := run(t.Context(), []string{"-addr", addr}, temp(t))
		it.Then(t).Should(it.Fail(func() error { return err }).Contain(want))
	}
}

func temp(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
