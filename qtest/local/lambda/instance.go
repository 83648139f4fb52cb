package lambda

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

const (
	// initTimeout is what a process has to ask for its first event. AWS then starts it
	// once more, within the invocation; here the invocation fails.
	initTimeout = 10 * time.Second
	// termGrace is what a process with an internal extension has after SIGTERM.
	termGrace = 500 * time.Millisecond
)

// invocation is an event on its way. It is settled once; the first result stands.
type invocation struct {
	request
	payload []byte

	given chan struct{} // closed when a process has taken it; then began is set
	over  chan struct{} // closed when the process is done with it
	done  chan struct{} // closed when it has left the runtime; then response and err are final
	began time.Time

	once     sync.Once
	response []byte
	err      error
	settled  chan struct{}
}

func newInvocation(req request, payload []byte) *invocation {
	return &invocation{request: req, payload: payload, given: make(chan struct{}), over: make(chan struct{}),
		done: make(chan struct{}), settled: make(chan struct{})}
}

func (inv *invocation) settle(response []byte, err error) {
	inv.once.Do(func() {
		inv.response, inv.err = response, err
		close(inv.settled)
	})
}

func (inv *invocation) isSettled() bool {
	select {
	case <-inv.settled:
		return true
	default:
		return false
	}
}

// instance is one process with the Runtime API that it talks to: an execution
// environment in AWS's words.
type instance struct {
	rt     *Runtime
	stream string // name of its log stream
	busy   int    // invocations it is to serve, guarded by rt.mu
	events chan *invocation
	ready  chan struct{} // closed when the process has asked for its first event
	exited chan struct{} // closed when it has ended; then exitErr is set
	made   time.Time
	out    *output

	mu         sync.Mutex
	cmd        *exec.Cmd // nil before the start and after the end
	exitErr    error
	initErr    *FunctionError         // what the function itself reported
	readyAfter time.Duration          // 0: not ready
	open       map[string]*invocation // given to the process and not over
	polls      int                    // requests that wait for an event
	extensions int                    // registered
	resting    int                    // extensions that wait for an event
	asked      bool                   // to end
	frozen     bool
	warm       bool // has had an event
}

func newInstance(rt *Runtime) *instance {
	return &instance{rt: rt, stream: time.Now().UTC().Format("2006/01/02/[$LATEST]") + hex(16), made: time.Now(),
		events: make(chan *invocation), ready: make(chan struct{}), exited: make(chan struct{}), open: map[string]*invocation{}}
}

// run starts the process and waits for its end.
func (in *instance) run() {
	// The kernel ends the process together with the thread that has started it, so that
	// nothing is left when a test is killed. This thread lives as long as the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	in.exitErr = in.process()
	in.mu.Lock()
	crashed := !in.asked
	in.mu.Unlock()
	if crashed {
		in.rt.count(func(s *Stats) { s.Crashes++ })
	}
	close(in.exited)
}

func (in *instance) process() error {
	out, err := newOutput(in.rt.log, in.stream)
	if err != nil {
		return err
	}
	defer out.close()
	in.out = out
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: in.api()}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	cmd := exec.Command(in.rt.path, in.rt.fn.Command[1:]...)
	cmd.Args[0] = in.rt.fn.Command[0]
	cmd.Dir, cmd.Env = in.rt.fn.Dir, in.rt.environ(listener.Addr().String(), in.stream)
	cmd.Stdout, cmd.Stderr = out.w, out.w
	cmd.SysProcAttr = processAttributes()
	in.mu.Lock()
	if in.asked {
		in.mu.Unlock()
		return ErrClosed
	}
	if err := cmd.Start(); err != nil {
		in.mu.Unlock()
		return err
	}
	in.cmd = cmd
	in.mu.Unlock()

	err = cmd.Wait()
	in.mu.Lock()
	defer in.mu.Unlock()
	kill(cmd.Process) // what it has started itself and left behind
	in.cmd = nil
	return err
}

func (in *instance) ended() bool {
	select {
	case <-in.exited:
		return true
	default:
		return false
	}
}

// lost is the error of an invocation whose process has ended.
func (in *instance) lost() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.rt.isClosed():
		return ErrClosed
	case in.initErr != nil:
		return in.initErr
	case in.exitErr == nil:
		return &FunctionError{Type: ErrExit.Type, Message: "Runtime exited without providing a reason"}
	}
	if _, ok := in.exitErr.(*exec.ExitError); !ok {
		return &FunctionError{Type: ErrInit.Type, Message: in.exitErr.Error(), cause: in.exitErr}
	}
	return &FunctionError{Type: ErrExit.Type, Message: "Runtime exited with error: " + in.exitErr.Error(), cause: in.exitErr}
}

// started waits until the process has asked for its first event, however long ago that
// was, and returns why it has not.
func (in *instance) started() error {
	late := time.NewTimer(time.Until(in.made.Add(initTimeout)))
	defer late.Stop()
	select {
	case <-in.ready:
	case <-in.exited:
	case <-late.C:
	}
	select {
	case <-in.ready: // counts, whatever else has happened
		return nil
	default:
	}
	if in.ended() {
		return in.lost()
	}
	in.end()
	return &FunctionError{Type: ErrInit.Type, Message: fmt.Sprintf("did not ask for an event within %s", initTimeout)}
}

// serve gives the invocation to the process and sees to its end. It returns false if the
// process ended before it had taken the event although it had been ready.
func (in *instance) serve(inv *invocation) bool {
	if err := in.started(); err != nil {
		inv.settle(nil, err)
		return true
	}
	select {
	case in.events <- inv:
	case <-in.exited:
		return false
	}
	<-inv.given

	deadline := time.NewTimer(time.Until(inv.began.Add(in.rt.fn.Timeout)))
	defer deadline.Stop()
	select {
	case <-inv.over:
	case <-in.exited:
		inv.settle(nil, in.lost())
	case <-deadline.C:
		in.rt.count(func(s *Stats) { s.Timeouts++ })
		inv.settle(nil, &FunctionError{Type: ErrTimeout.Type, Message: fmt.Sprintf("Task timed out after %.2f seconds", in.rt.fn.Timeout.Seconds())})
		in.end()
	}
	in.report(inv)
	return true
}

func (in *instance) report(inv *invocation) {
	in.mu.Lock()
	delete(in.open, inv.id)
	cold := ""
	if !in.warm {
		cold = fmt.Sprintf(" cold %s", milliseconds(in.readyAfter))
	}
	in.warm = true
	in.mu.Unlock()
	failed := ""
	if inv.err != nil {
		failed = " " + inv.err.Error()
	}
	in.rt.log.printf("REPORT %s %s%s%s", inv.id, milliseconds(time.Since(inv.began)), cold, failed)
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// end kills the process and waits for its end.
func (in *instance) end() {
	in.mu.Lock()
	in.asked = true
	if in.cmd != nil {
		kill(in.cmd.Process)
	}
	in.mu.Unlock()
	<-in.exited
}

// shutdown ends the process as AWS does it with one that it needs no more.
func (in *instance) shutdown() {
	in.mu.Lock()
	in.asked = true
	if in.cmd != nil && in.extensions > 0 {
		thaw(in.cmd.Process)
		terminate(in.cmd.Process)
		in.mu.Unlock()
		select {
		case <-in.exited:
		case <-time.After(termGrace):
		}
	} else {
		in.mu.Unlock()
	}
	in.end()
}

// rest freezes the process if it has nothing to do: all who could do something wait.
func (in *instance) rest() {
	if in.rt.fn.Freeze && in.cmd != nil && !in.asked && in.polls > 0 && in.resting == in.extensions && len(in.open) == 0 {
		in.frozen = true
		freeze(in.cmd.Process)
	}
}

// wake undoes rest.
func (in *instance) wake() {
	if in.frozen && in.cmd != nil {
		in.frozen = false
		thaw(in.cmd.Process)
	}
}
