// Report runs tests and says in the end what ran, what was skipped, and why.
//
//	report test ARGUMENTS...           # go test, with these
//	report steps COMMAND STEP...       # COMMAND STEP, for each, until one fails
//
// The first prints what go test prints: a line for each package, and of those that fail the
// output of the tests that failed, the seed, panics and what did not build. The second adds
// up what the tests of its steps have reported, and the time of each step. The exit status
// is that of the command that failed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// ledger names the file where the tests of steps report.
const ledger = "SWARM_TEST_REPORT"

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: report test ARGUMENTS... | report steps COMMAND STEP...")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "test":
		err = test(os.Args[2:])
	case "steps":
		err = steps(os.Args[2], os.Args[3:])
	default:
		err = fmt.Errorf("unknown command %s", os.Args[1])
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// test runs go test. Its report goes to the ledger of the steps, or is printed.
func test(args []string) error {
	paths, err := modules()
	if err != nil {
		return err
	}
	all, failed := goTest(args, paths, os.Stdout)
	file := os.Getenv(ledger)
	if file == "" {
		all.print(os.Stdout)
		return failed
	}
	return errors.Join(failed, all.save(file))
}

// steps runs a command with one argument after the other.
func steps(command string, names []string) error {
	file, err := os.CreateTemp("", "report")
	if err != nil {
		return err
	}
	file.Close()
	defer os.Remove(file.Name())
	began := time.Now()
	var times []step
	var failed error
	for _, name := range names {
		fmt.Printf("\n== %s\n", name)
		cmd := exec.Command(command, name)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), ledger+"="+file.Name())
		at := time.Now()
		failed = forward(cmd)
		times = append(times, step{name, time.Since(at), failed})
		if failed != nil {
			break
		}
	}
	all, err := load(file.Name())
	if err != nil {
		return errors.Join(failed, err)
	}
	fmt.Println()
	all.print(os.Stdout)
	printSteps(os.Stdout, times, names, time.Since(began))
	return failed
}

// forward runs a command in a process group of its own, which gets the signals that we get:
// the tests end too, not just the go command.
func forward(cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = syscall.Kill(-cmd.Process.Pid, s.(syscall.Signal)) // it may have ended
		case err := <-done:
			return err
		}
	}
}
