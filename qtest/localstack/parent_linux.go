package localstack

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent makes the kernel end the server when this process is killed. The signal
// comes when the thread that has started it ends: callers lock theirs. The group of its
// own is for Ctrl-C, which would reach the server as well: of two signals it does not end.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}

// sweep ends processes the server has left behind: now and then it restarts DynamoDB
// Local, in a session of its own, while it ends itself. They are known by the variable
// of the environment, name=value, that only this server was given.
func sweep(variable string) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(append([]byte{0}, raw...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
