package lambda

import (
	"os"
	"syscall"
)

// Signals to the process and to all that it has started.

func kill(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
func terminate(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }
func freeze(p *os.Process)    { _ = syscall.Kill(-p.Pid, syscall.SIGSTOP) }
func thaw(p *os.Process)      { _ = syscall.Kill(-p.Pid, syscall.SIGCONT) }
