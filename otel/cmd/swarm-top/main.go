// Swarm-top shows the ledger of another process in the terminal, where that process serves it
// by package github.com/fogfish/swarm/core/ledger:
//
//	go run github.com/fogfish/swarm/otel/cmd/swarm-top http://127.0.0.1:8080/ledger
//
// It draws each second, until Ctrl-C, and tries again when the process is away. With -once it
// prints all counts as plain tables and ends: by 1 when they do not add up, or when nobody
// answers. Arguments that are none end it by 2.
//
// Colours need a terminal, and are left out when NO_COLOR is set. What the URL has of a name, a
// password and a query is sent, and not shown.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fogfish/swarm/core/ledger"
	"github.com/fogfish/swarm/core/ledger/top"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "swarm-top:", err)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "swarm-top:", err)
	os.Exit(1)
}

// usageError is of the arguments.
type usageError struct{ error }

func run(ctx context.Context, args []string, out *os.File) error {
	flags := flag.NewFlagSet("swarm-top", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	once := flags.Bool("once", false, "print all counts as plain tables, and end")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(out, "usage: swarm-top [-once] URL")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return err
	}
	if err != nil {
		return usageError{err}
	}
	if flags.NArg() != 1 {
		return usageError{errors.New("want the URL of a ledger: swarm-top [-once] URL")}
	}
	s, err := newServer(flags.Arg(0))
	if err != nil {
		return usageError{err}
	}
	if !*once {
		return top.Live(ctx, out, s.name, s.next)
	}
	snapshot, err := s.next(ctx)
	if err != nil {
		return clean(err)
	}
	if _, err := io.WriteString(out, top.Table(snapshot)); err != nil {
		return err
	}
	return clean(snapshot.Check())
}

// server is who has the ledger.
type server struct{ url, name string }

// newServer takes a URL with or without its scheme.
func newServer(text string) (server, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return server{}, errors.New("not a URL") // the error has parts of it
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return server{}, fmt.Errorf("%q is no URL of a ledger: want http:// or https://, and a host", shown.String())
	}
	return server{u.String(), shown.String()}, nil
}

// Limits of an answer: to draw one that has more would take longer than it is worth to look at.
const (
	largest = 4 << 20 // bytes
	most    = 5000    // categories
)

var client = http.Client{Timeout: 5 * time.Second}

// next asks for the ledger.
func (s server) next(ctx context.Context) (snapshot ledger.Snapshot, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return snapshot, err
	}
	req.Header.Set("Accept", "application/json")
	answer, err := client.Do(req)
	if err != nil {
		return snapshot, fmt.Errorf("%s does not answer: %w", s.name, withoutURL(err))
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return snapshot, fmt.Errorf("%s answers %d %s", s.name, answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, largest+1))
	switch {
	case err != nil:
		return snapshot, fmt.Errorf("%s does not answer: %w", s.name, withoutURL(err))
	case len(body) > largest:
		return snapshot, fmt.Errorf("%s answers with more than %d bytes", s.name, largest)
	}
	if err := json.Unmarshal(body, &snapshot); err != nil || snapshot.Kernels == nil || snapshot.At.IsZero() {
		return ledger.Snapshot{}, fmt.Errorf("%s answers, but not with a ledger", s.name)
	}
	n := 0
	for _, k := range snapshot.Kernels {
		n += 1 + len(k.Emit) + len(k.Listen) + len(k.Requests)
	}
	if n > most {
		return ledger.Snapshot{}, fmt.Errorf("%s answers with %d categories, more than %d", s.name, n, most)
	}
	return snapshot, nil
}

// withoutURL is the error in one of package url, or http: the URL may have a password.
func withoutURL(err error) error {
	if of := (*url.Error)(nil); errors.As(err, &of) {
		return of.Err
	}
	return err
}

// clean keeps what a server has written from steering the terminal by an error.
func clean(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.Map(func(r rune) rune {
		if r != '\n' && !unicode.IsGraphic(r) {
			return utf8.RuneError
		}
		return r
	}, err.Error()))
}
