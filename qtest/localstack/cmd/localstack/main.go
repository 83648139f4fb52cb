// Localstack runs a LocalStack server around a command, or until it is told to end.
//
//	localstack [-cache DIR] run -- COMMAND [ARG …]   # with LOCALSTACK_ENDPOINT set
//	localstack [-cache DIR] start                    # until Ctrl-C
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/fogfish/swarm/qtest/localstack"
)

func main() {
	// The server ends when the thread that has started it does.
	runtime.LockOSThread()
	cache := flag.String("cache", defaultCache(), "folder of the installation")
	flag.Parse()
	code, err := serve(*cache, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func defaultCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	return filepath.Join(dir, "swarm")
}

func serve(cache string, args []string) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(args) == 0 || args[0] != "start" && (args[0] != "run" || len(args) < 3 || args[1] != "--") {
		return 2, errors.New("usage: localstack [-cache DIR] start | run -- COMMAND [ARG …]")
	}
	server, err := localstack.Start(ctx, cache, os.Stderr)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	if args[0] == "start" {
		fmt.Printf("export %s=%s\n", localstack.EnvEndpoint, server.Endpoint)
		<-ctx.Done()
		return 0, nil
	}
	cmd := exec.CommandContext(ctx, args[2], args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), localstack.EnvEndpoint+"="+server.Endpoint)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(1, exit.ExitCode()), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
