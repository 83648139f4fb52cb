package localstack

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the server when this process is killed. The signal
// comes when the thread that has started it ends: callers lock theirs.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }
