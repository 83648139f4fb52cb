// Swarm-local runs a function on this machine as AWS Lambda would. It builds the Go
// package, starts the binary as events arrive, and feeds it:
//
//	swarm-local -queue orders ./cmd/worker           # messages of an SQS queue
//	swarm-local -table users ./cmd/indexer           # changes of a DynamoDB table with a stream
//	swarm-local -event event.json ./cmd/worker       # one or more JSON values, asynchronously
//	echo '{"n":1}' | swarm-local -event - ./cmd/worker
//	swarm-local -websocket :8080 ./cmd/chat          # a WebSocket API, ws://127.0.0.1:8080/dev
//	swarm-local -websocket :8080 -authorizer ./cmd/auth -identity route.request.querystring.token ./cmd/chat
//
// The services are at LOCALSTACK_ENDPOINT or AWS_ENDPOINT_URL, with the credentials of
// the environment or test/test; without an endpoint they are those of AWS itself. The
// function gets the same.
//
// With -websocket the function is the integration of $connect, $disconnect, $default and
// of each -route: as on AWS only declared keys are routes, and all other messages go to
// $default. It finds the @connections API at CONFIG_SWARM_TARGET_WS_URL and must sign its
// calls with the credentials in its environment, as the SDK does. The limits are those of
// AWS.
//
// Responses to -event go to standard output, all else to standard error. With -event
// alone it ends when all events are settled, with code 1 if one was not successful; else
// Ctrl-C ends it, when the batches and messages in flight are done. A second Ctrl-C does
// not wait for them.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
	"github.com/fogfish/swarm/qtest/localstack"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(run(signals, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// options is the command line.
type options struct {
	queue, table, event, websocket string
	pkg                            string

	timeout     time.Duration
	concurrency int
	env         []string
	freeze      bool

	batch   int
	window  time.Duration
	report  bool
	retries int
	delay   time.Duration

	routes, identity []string
	selection        string
	authorizer       string
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("swarm-local", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintln(stderr, "usage: swarm-local [-queue NAME] [-table NAME] [-event FILE|-] [-websocket ADDR] [flags] PACKAGE")
		f.PrintDefaults()
	}
	f.StringVar(&o.queue, "queue", "", "`name` of the SQS queue whose messages the function gets")
	f.StringVar(&o.table, "table", "", "`name` of the DynamoDB table whose stream the function gets, from its oldest record on")
	f.StringVar(&o.event, "event", "", "`file` of JSON values that the function gets one by one, - for standard input")
	f.StringVar(&o.websocket, "websocket", "", "`address` of a WebSocket API with the function; one without a host is on 127.0.0.1")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "`timeout` of the function")
	f.IntVar(&o.concurrency, "concurrency", 1, "`number` of processes at a time")
	f.Func("env", "`KEY=value` for the environment of function and authorizer; repeat it for more", func(kv string) error {
		if !strings.Contains(kv, "=") {
			return errors.New("want KEY=value")
		}
		o.env = append(o.env, kv)
		return nil
	})
	f.BoolVar(&o.freeze, "freeze", true, "stop the process between events, as AWS does")
	f.IntVar(&o.batch, "batch", 0, "largest `number` of records in an event (default 10 of a queue, 100 of a table)")
	f.DurationVar(&o.window, "window", 0, "how `long` to gather a batch")
	f.BoolVar(&o.report, "report", true, "ReportBatchItemFailures: the function's response says which records have failed")
	f.IntVar(&o.retries, "retries", 2, "how `often` an event that fails is repeated")
	f.DurationVar(&o.delay, "retry-delay", time.Minute, "`pause` before the first repetition, twice of it before the second")
	list := func(to *[]string) func(string) error {
		return func(v string) error {
			*to = append(*to, v)
			return nil
		}
	}
	f.Func("route", "route `key` of the WebSocket API beside those of AWS; repeat it for more", list(&o.routes))
	f.StringVar(&o.selection, "select", "", "route selection `expression` (default $request.body.action)")
	f.StringVar(&o.authorizer, "authorizer", "", "`package` of the function that authorizes connections")
	f.Func("identity", "identity `source` of the authorizer, as route.request.querystring.token; repeat it for more", list(&o.identity))
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() != 1:
		err = errors.New("want one package")
	case o.queue == "" && o.table == "" && o.event == "" && o.websocket == "":
		err = errors.New("want at least one of -queue, -table, -event, -websocket")
	case o.websocket == "" && (o.selection != "" || o.authorizer != "" || len(o.routes)+len(o.identity) > 0):
		err = errors.New("-route, -select, -authorizer and -identity are for -websocket")
	}
	if err != nil {
		fmt.Fprintln(stderr, "swarm-local:", err)
		f.Usage()
	}
	o.pkg = f.Arg(0)
	return o, err
}

// run is main. The first signal asks it to end, the second to be quick.
func run(signals <-chan os.Signal, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	log := newConsole(stderr)
	ok, err := serve(ctx, cancel, o, signals, stdin, stdout, log)
	if err != nil && !errors.Is(err, context.Canceled) {
		log.errors().printf("swarm-local: %v", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

func serve(ctx context.Context, cancel context.CancelFunc, o options, signals <-chan os.Signal, stdin io.Reader, stdout io.Writer, log *console) (ok bool, err error) {
	var running functions
	done := make(chan struct{})
	defer close(done)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-signals:
			}
			cancel()
			if n > 0 {
				running.close()
			}
		}
	}()

	dir, err := os.MkdirTemp("", "swarm-local-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	binary, err := build(ctx, dir, o.pkg, log)
	if err != nil {
		return false, err
	}
	authorizer := ""
	if o.authorizer != "" {
		if authorizer, err = build(ctx, dir, o.authorizer, log); err != nil {
			return false, err
		}
	}
	cfg, env, err := services(ctx)
	if err != nil {
		return false, err
	}
	api := gateway.API{Region: cfg.Region, RouteSelectionExpression: o.selection, IdentitySources: o.identity, Log: log}
	if o.websocket != "" {
		var more []string
		if api.Listener, more, err = listen(o.websocket); err != nil {
			return false, err
		}
		defer api.Listener.Close()
		env = append(env, more...)
		api.Credentials, more = credentials(ctx, cfg)
		env = append(env, more...)
	}
	function := func(binary, pkg string) (*lambda.Runtime, error) {
		// It outlives ctx: what is in flight is finished.
		return lambda.Start(context.WithoutCancel(ctx), lambda.Function{
			Command: []string{binary}, Name: functionName(pkg), Env: append(slices.Clone(env), o.env...), Region: cfg.Region,
			Timeout: o.timeout, Instances: o.concurrency, Freeze: o.freeze, Log: log,
		})
	}
	fn, err := function(binary, o.pkg)
	if err != nil {
		return false, err
	}
	defer func() {
		fn.Close()
		if err == nil || fn.Stats().Invocations > 0 { // else there is only the error to see
			summary(log, fn)
		}
	}()
	running.add(fn)

	var mappings []*lambda.Mapping
	// Closed one after the other, they would go on receiving; together they wait for no
	// more than the longest invocation.
	defer func() {
		var all sync.WaitGroup
		for _, m := range mappings {
			all.Go(m.Close)
		}
		all.Wait()
	}()
	if o.queue != "" {
		m, err := lambda.SQS{Queue: o.queue, BatchSize: o.batch, Window: o.window, ReportBatchItemFailures: o.report, Log: log.errors()}.Start(ctx, sqs.NewFromConfig(cfg), fn)
		if err != nil {
			return false, err
		}
		mappings = append(mappings, m)
		log.printf("queue %s", o.queue)
	}
	if o.table != "" {
		source, err := lambda.DynamoDBStream(ctx, dynamodbstreams.NewFromConfig(cfg), o.table)
		if err != nil {
			return false, err
		}
		m, err := lambda.Stream{BatchSize: o.batch, Window: o.window, ReportBatchItemFailures: o.report, Log: log.errors()}.Start(ctx, source, fn)
		if err != nil {
			return false, err
		}
		mappings = append(mappings, m)
		log.printf("stream %s", source.ARN())
	}
	if o.websocket != "" {
		if o.authorizer != "" {
			fn, err := function(authorizer, o.authorizer)
			if err != nil {
				return false, err
			}
			defer fn.Close()
			running.add(fn)
			api.Authorizer = fn
		}
		api.Integration, api.Routes = fn, map[string]lambda.Invoker{}
		for _, key := range o.routes {
			api.Routes[key] = nil
		}
		gw, err := gateway.Start(context.WithoutCancel(ctx), api)
		if err != nil {
			return false, err
		}
		defer gw.Close()
		log.printf("websocket %s, @connections at %s", gw.URL(), gw.Endpoint())
	}
	ok = true
	if o.event != "" {
		if ok, err = send(ctx, o, fn, stdin, stdout, log); err != nil {
			return false, err
		}
	}
	if len(mappings) > 0 || o.websocket != "" {
		<-ctx.Done()
		log.printf("ending, when what is in flight is done; again to end at once")
	}
	return ok, nil
}

// functions are those that run.
type functions struct {
	mu  sync.Mutex
	all []*lambda.Runtime
}

func (f *functions) add(fn *lambda.Runtime) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fn)
}

func (f *functions) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fn := range f.all {
		fn.Close()
	}
}

// listen is done before the function starts, because it is told the address.
func listen(address string) (l net.Listener, env []string, err error) {
	if host, port, found := strings.Cut(address, ":"); !found {
		address = "127.0.0.1:" + host // which is a port
	} else if host == "" {
		address = "127.0.0.1:" + port
	}
	if l, err = net.Listen("tcp", address); err != nil {
		return nil, nil, fmt.Errorf("-websocket: %w", err)
	}
	endpoint := "http://" + l.Addr().String() + "/dev"
	return l, []string{"CONFIG_SWARM_TARGET_WS_URL=" + endpoint}, nil
}

// credentials are those of cfg, or test and test if there are none. They are fixed, as the
// gateway and the functions have to agree on them.
func credentials(ctx context.Context, cfg aws.Config) (provider aws.CredentialsProvider, env []string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // it may look for them in the network
	defer cancel()
	own, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		own = aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}
	}
	provider = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return own, nil })
	return provider, []string{"AWS_ACCESS_KEY_ID=" + own.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + own.SecretAccessKey, "AWS_SESSION_TOKEN=" + own.SessionToken}
}

// build builds a function for this machine.
func build(ctx context.Context, dir, pkg string, log *console) (binary string, err error) {
	if dir, err = os.MkdirTemp(dir, ""); err != nil {
		return "", err
	}
	binary = filepath.Join(dir, "bootstrap")
	began := time.Now()
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-o", binary, pkg)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); ctx.Err() != nil {
		return "", ctx.Err()
	} else if err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, strings.TrimSpace(output.String()))
	}
	if info, err := os.Stat(binary); err != nil || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s is no command: want a package main", pkg)
	}
	log.printf("built %s in %s", pkg, time.Since(began).Round(10*time.Millisecond))
	return binary, nil
}

func functionName(pkg string) string {
	if abs, err := filepath.Abs(pkg); err == nil {
		return filepath.Base(abs)
	}
	return filepath.Base(pkg)
}

// services is where the services are, and the same for the environment of the function.
func services(ctx context.Context) (cfg aws.Config, env []string, err error) {
	region := cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1")
	with := []func(*config.LoadOptions) error{config.WithRegion(region)}
	env = append(env, "AWS_REGION="+region)
	if endpoint := localstack.FromEnv(); endpoint != "" {
		with = append(with, config.WithBaseEndpoint(endpoint))
		env = append(env, "AWS_ENDPOINT_URL="+endpoint)
		if os.Getenv("AWS_ACCESS_KEY_ID") == "" && os.Getenv("AWS_PROFILE") == "" {
			with = append(with, config.WithCredentialsProvider(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
			})))
			env = append(env, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
		}
	}
	cfg, err = config.LoadDefaultConfig(ctx, with...)
	return cfg, env, err
}

// send invokes the function with each JSON value of the file, by the rules of
// asynchronous invocation, and prints the responses. It returns when all are settled;
// false says that one has failed for good or was not settled.
func send(ctx context.Context, o options, fn *lambda.Runtime, stdin io.Reader, stdout io.Writer, log *console) (ok bool, err error) {
	in := stdin
	if o.event != "-" {
		file, err := os.Open(o.event)
		if err != nil {
			return false, err
		}
		defer file.Close()
		in = file
	}
	var mu sync.Mutex
	failed := 0
	queue, err := lambda.Async{MaximumRetryAttempts: &o.retries, RetryDelay: o.delay, Log: log.errors(),
		OnSuccess: func(r lambda.Result) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(stdout, "%s\n", r.Response)
		},
		OnFailure: func(r lambda.Result) {
			mu.Lock()
			defer mu.Unlock()
			failed++
			log.errors().printf("event %s: %s after %d attempts: %v", r.RequestID, r.Condition, r.Attempts, r.Err)
		},
	}.Start(ctx, fn)
	if err != nil {
		return false, err
	}
	if err = feed(ctx, in, queue); err == nil {
		err = queue.Wait(ctx)
	} else if ctx.Err() == nil {
		err = fmt.Errorf("-event %s: %w", o.event, errors.Join(err, queue.Wait(ctx)))
	}
	if dropped := queue.Close(); dropped > 0 {
		err = fmt.Errorf("%d events were not settled", dropped)
	}
	return failed == 0, err
}

// feed sends the JSON values of in, until its end or that of ctx.
func feed(ctx context.Context, in io.Reader, queue *lambda.AsyncQueue) error {
	events, ended := make(chan json.RawMessage), make(chan error, 1)
	// A read from a terminal cannot be interrupted: this goroutine may outlive us.
	go func() {
		values := json.NewDecoder(in)
		for {
			var event json.RawMessage
			if err := values.Decode(&event); err != nil {
				ended <- err
				return
			}
			select {
			case events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case event := <-events:
			if _, err := queue.Send(event); err != nil {
				return err
			}
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func summary(log *console, fn *lambda.Runtime) {
	s := fn.Stats()
	log.printf("%d invocations, %d failed; %d cold starts, %d crashes, %d timeouts", s.Invocations, s.Errors, s.ColdStarts, s.Crashes, s.Timeouts)
}

// console is a log that is safe for concurrent use and has what went wrong in red, on a
// terminal.
type console struct {
	mu     *sync.Mutex
	w      io.Writer
	colour bool
	red    bool // every line
}

func newConsole(w io.Writer) *console {
	c := &console{mu: new(sync.Mutex), w: w}
	if file, ok := w.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
		info, err := file.Stat()
		c.colour = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return c
}

// errors is the same log, for lines about what went wrong.
func (c *console) errors() *console { return &console{mu: c.mu, w: c.w, colour: c.colour, red: true} }

func (c *console) printf(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// Write writes one line. Those of a runtime about an invocation that has failed end with
// its error; those of a gateway begin with what has gone wrong.
func (c *console) Write(line []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := string(line)
	bad := strings.HasPrefix(text, "REPORT ") && strings.Contains(text, " lambda: ") || strings.HasPrefix(text, "REFUSED ") || strings.HasPrefix(text, "FAILED ")
	if c.colour && (c.red || bad) {
		text = "\x1b[31m" + strings.TrimSuffix(text, "\n") + "\x1b[0m\n"
	}
	if _, err := io.WriteString(c.w, text); err != nil {
		return 0, err
	}
	return len(line), nil
}
