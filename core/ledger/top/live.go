package top

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fogfish/swarm/core/ledger"
)

// Live draws what next returns, each second until ctx ends, and blocks until then. Next is called
// once more in the end, with the ended ctx, and the last frame stays. After an error of next it
// draws the ledger that it has, says so, and tries again. The error of Live is that of writing.
//
// On a terminal it uses colours, unless NO_COLOR is set. On anything else, and where TERM is
// dumb, frames follow each other without any escape sequence.
func Live(ctx context.Context, out *os.File, title string, next func(context.Context) (ledger.Snapshot, error)) error {
	width, height, terminal := size(out)
	terminal = terminal && os.Getenv("TERM") != "dumb"
	s := screen{Writer: out, terminal: terminal, size: func() (int, int) { return width, height }}
	if terminal {
		s.color = os.Getenv("NO_COLOR") == ""
		s.size = func() (int, int) {
			if w, h, ok := size(out); ok {
				width, height = w, h
			}
			return width, height
		}
	}
	return live(ctx, s, title, next)
}

// screen is where frames are drawn.
type screen struct {
	io.Writer
	terminal, color bool
	size            func() (width, height int) // 0: not known
}

// Sequences: the alternate screen without a cursor, to be left again; from the corner, to the
// end of the line, to the end of the screen.
const (
	enter = "\x1b[?1049h\x1b[?25l"
	leave = "\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	eol   = "\x1b[K"
	eos   = "\x1b[J"
)

func live(ctx context.Context, s screen, title string, next func(context.Context) (ledger.Snapshot, error)) (err error) {
	v := &View{Title: title, Color: s.color}
	if s.terminal {
		if _, err := io.WriteString(s, enter); err != nil {
			return err
		}
		defer func() {
			v.Height = 0
			_, failed := io.WriteString(s, leave+v.text(v.frame(nil)))
			if err == nil {
				err = failed
			}
		}()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		snapshot, failed := next(ctx)
		ended := ctx.Err() != nil
		if failed == nil {
			v.take(snapshot)
		}
		if ended && failed != nil {
			return nil // it was cut off
		}
		v.Width, v.Height = s.size()
		if err := s.draw(v, failed); err != nil || ended {
			return err
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (s screen) draw(v *View, err error) error {
	if !s.terminal {
		_, err = io.WriteString(s, v.text(v.frame(err))+"\n")
		return err
	}
	text := strings.TrimSuffix(v.text(v.frame(err)), "\n") // which would scroll
	_, err = io.WriteString(s, home+strings.ReplaceAll(text, "\n", eol+"\n")+eol+eos)
	return err
}
