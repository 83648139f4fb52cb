//go:build !linux

package lambda

import "syscall"

// processAttributes make the process the leader of a group, which is signalled as a
// whole and does not get the terminal's Ctrl-C.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
