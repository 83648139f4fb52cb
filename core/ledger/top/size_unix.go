//go:build linux || darwin || freebsd || netbsd || dragonfly

package top

import (
	"os"
	"syscall"
	"unsafe"
)

// size of a terminal in cells; false: f is none.
func size(f *os.File) (width, height int, ok bool) {
	var s struct{ rows, columns, x, y uint16 }
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&s)))
	return int(s.columns), int(s.rows), errno == 0
}
