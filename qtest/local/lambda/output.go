package lambda

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// logger writes whole lines, one at a time.
type logger struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *logger) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, format+"\n", args...)
}

// mark in the output of a process says that all before it was read.
const mark = "\x00\x01read\x01\x00\n"

// output brings what a process prints to the log. We keep the writing end of its pipe
// too: a mark that we write arrives after all that the process has written before, so
// that each line gets the right request id and none comes late.
type output struct {
	log  *logger
	r, w *os.File
	read chan struct{} // one for each mark
	done chan struct{} // closed when all is read

	flushing sync.Mutex

	mu     sync.Mutex
	prefix string
}

func newOutput(log *logger, prefix string) (*output, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o := &output{log: log, r: r, w: w, read: make(chan struct{}), done: make(chan struct{}), prefix: prefix}
	go o.copy()
	return o, nil
}

func (o *output) copy() {
	defer close(o.done)
	lines := bufio.NewReader(o.r)
	for {
		line, err := lines.ReadString('\n')
		line, marked := strings.CutSuffix(line, mark)
		if line = strings.TrimSuffix(line, "\n"); line != "" || !marked && err == nil {
			o.mu.Lock()
			prefix := o.prefix
			o.mu.Unlock()
			o.log.printf("%s %s", prefix, line)
		}
		if marked {
			o.read <- struct{}{}
		}
		if err != nil {
			return
		}
	}
}

// flush returns when what the process has printed up to now is in the log. From then on
// lines begin with prefix.
func (o *output) flush(prefix string) {
	o.flushing.Lock()
	defer o.flushing.Unlock()
	if _, err := io.WriteString(o.w, mark); err == nil {
		select {
		case <-o.read:
		case <-o.done:
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.prefix = prefix
}

// close is called when the process has ended. What it has left behind may hold the pipe
// for ever: that is not waited for.
func (o *output) close() {
	o.w.Close()
	_ = o.r.SetReadDeadline(time.Now().Add(time.Second))
	<-o.done
	o.r.Close()
}
