// Chat is a chat in the browser, over a WebSocket API that runs on this machine:
//
//	go run ./examples/chat
//
// It builds two functions of AWS Lambda, fn beside this file and the authorizer of package
// websocket, runs them as Lambda would behind a local API Gateway, and serves a page to try
// it with. Log in by the API key that it prints, or by a name: it has an issuer of tokens,
// for development only, that believes everyone.
//
// With -table the rooms are in a table of DynamoDB at LocalStack, and the function may run
// more than once at the same time:
//
//	make localstack                      # in another terminal; it prints the next line
//	export LOCALSTACK_ENDPOINT=http://…
//	go run ./examples/chat -table rooms
//
// Ctrl-C ends it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` to serve; one without a host is on 127.0.0.1")
	open := flag.Bool("open", false, "open the page in the browser")
	table := flag.String("table", "", "`name` of a table of DynamoDB at LocalStack for the rooms; none: they are in memory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *table, *open); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr, table string, open bool) error {
	l, err := listen(addr) // before it builds: the port may be taken
	if err != nil {
		return err
	}
	defer l.Close()
	bin, err := os.MkdirTemp("", "chat-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	fmt.Println("building the functions")
	if err := build(ctx, bin); err != nil {
		return err
	}
	c := newChat(bin, &quiet{w: os.Stderr})
	c.table = table
	if err := c.start(ctx, l); err != nil {
		return err
	}
	defer c.close()

	url := "http://" + local(l)
	fmt.Printf(`
%s
by API key  %s
            for development only, of this run; you are %q
by name     any: the issuer of tokens is for development only
Ctrl-C ends it

`, url, c.apiKey(), c.access)
	if open {
		if err := show(url); err != nil {
			fmt.Fprintln(os.Stderr, "chat: cannot open the browser:", err)
		}
	}
	<-ctx.Done()
	return nil
}

// show opens the browser of the user, which may run for as long as it likes.
func show(url string) error {
	cmd := exec.Command("xdg-open", url)
	switch runtime.GOOS {
	case "darwin":
		cmd = exec.Command("open", url)
	case "windows":
		cmd = exec.Command("rundll32", "url.dll,FileProtocolHandler", url)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }()
	return nil
}
