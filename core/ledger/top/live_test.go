package top

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fogfish/swarm/core/ledger"
)

// terminal keeps what is written, by write.
type terminal struct {
	writes []string
	broken int // this write fails
}

func (w *terminal) Write(b []byte) (int, error) {
	if w.writes = append(w.writes, string(b)); w.broken == len(w.writes) {
		return 0, errors.New("no paper")
	}
	return len(b), nil
}

func (w *terminal) screen() screen {
	return screen{Writer: w, terminal: true, size: func() (int, int) { return 80, 12 }}
}

// answers of a server; an error: it is away.
func answers(all ...any) func(context.Context) (ledger.Snapshot, error) {
	return func(context.Context) (ledger.Snapshot, error) {
		next := all[0]
		if len(all) > 1 {
			all = all[1:]
		}
		if err, ok := next.(error); ok {
			return ledger.Snapshot{}, err
		}
		return next.(ledger.Snapshot), nil
	}
}

func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &terminal{}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		away := errors.New("the server\x1b[2J is away")
		go func() {
			ended <- live(ctx, w.screen(), "shop", answers(away, moment(1), moment(2), away, moment(4), moment(5)))
		}()
		time.Sleep(4500 * time.Millisecond)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		last := len(w.writes) - 1
		if last != 7 || w.writes[0] != enter || !strings.HasPrefix(w.writes[last], leave) {
			t.Fatalf("got %q", w.writes)
		}
		for i, frame := range w.writes[1:last] {
			if !strings.HasPrefix(frame, home) || !strings.HasSuffix(frame, eol+eos) || strings.Count(frame, "\n") > 11 {
				t.Errorf("frame %d: %q", i, frame)
			}
			if lost := strings.Contains(frame, "retrying: the server�[2J is away"); lost != (i == 0 || i == 3) {
				t.Errorf("frame %d: %q", i, frame)
			}
			if known := strings.Contains(frame, "Order"); known != (i > 0) {
				t.Errorf("frame %d: %q", i, frame)
			}
		}
		if last := strings.TrimPrefix(w.writes[last], leave); !strings.Contains(last, "mail  ended") || !strings.Contains(last, "12:00:05") || !strings.Contains(last, "poke") || strings.Contains(last, "\x1b") {
			t.Errorf("the last frame is not whole: %q", last)
		}
	})
}

// A process whose kernels were closing when one saw them last has ended.
func TestTheProcessHasEnded(t *testing.T) {
	s := moment(9)
	delete(s.Kernels, "shop")
	v := &View{}
	v.take(s)
	if frame := v.text(v.frame(errors.New("refused"))); !strings.Contains(frame, "the process has ended") || strings.Contains(frame, "refused") {
		t.Errorf("got\n%s", frame)
	}
}

// The cursor comes back also when the terminal fails, or next panics.
func TestTheCursorComesBack(t *testing.T) {
	w := &terminal{broken: 2}
	if err := live(t.Context(), w.screen(), "", answers(moment(1))); err == nil || err.Error() != "no paper" {
		t.Errorf("got %v", err)
	}
	if last := w.writes[len(w.writes)-1]; !strings.HasPrefix(last, leave) {
		t.Errorf("got %q", w.writes)
	}

	w = &terminal{}
	func() {
		defer func() { _ = recover() }()
		_ = live(t.Context(), w.screen(), "", answers("no ledger"))
	}()
	if last := w.writes[len(w.writes)-1]; !strings.HasPrefix(last, leave) {
		t.Errorf("got %q", w.writes)
	}

	w = &terminal{broken: 1}
	if err := live(t.Context(), w.screen(), "", answers(moment(1))); err == nil || len(w.writes) != 1 {
		t.Errorf("got %v, %q", err, w.writes)
	}
}

// Into a file go frames without any escape sequence.
func TestLiveIntoAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	err = Live(ctx, f, "shop", func(context.Context) (ledger.Snapshot, error) {
		if asked++; asked == 2 {
			cancel()
		}
		return moment(asked), nil
	})
	text, _ := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "shop  running") != 2 || strings.Contains(string(text), "\x1b") {
		t.Errorf("%v, %s", err, text)
	}
	f.Close()
	if err := Live(t.Context(), f, "", answers(moment(1))); err == nil {
		t.Error("a closed file has no error")
	}
}
