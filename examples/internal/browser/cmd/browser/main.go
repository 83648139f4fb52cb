// Browser prints the path of the browser that tests use. If there is none it installs
// Chromium by apt-get, when it runs as root.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/fogfish/swarm/examples/internal/browser"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := browser.Get(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "browser:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}
