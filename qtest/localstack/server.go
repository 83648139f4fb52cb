package localstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Server is a running LocalStack.
type Server struct {
	// Endpoint is its URL.
	Endpoint string

	stop func() error
}

// Stop ends the server, if it was started here, and waits for its end.
func (s *Server) Stop() error { return s.stop() }

// image is the container of the last open source release.
const image = "localstack/localstack:4.14.0"

// Start finds a server: the one that the environment names, one in a container if an
// engine answers, else one that it installs in the folder cache and starts. It tells
// log what it does, and returns when the server is ready.
func Start(ctx context.Context, cache string, log io.Writer) (*Server, error) {
	if endpoint := FromEnv(); endpoint != "" {
		fmt.Fprintln(log, "localstack: using", endpoint)
		return &Server{Endpoint: endpoint, stop: func() error { return nil }}, ready(endpoint, 30*time.Second)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	endpoint := fmt.Sprint("http://127.0.0.1:", port)
	if engine := engine(ctx); engine != "" {
		return startContainer(ctx, engine, endpoint, port, log)
	}
	inst, err := install(ctx, cache, log)
	if err != nil {
		return nil, err
	}
	return inst.start(endpoint, port, log)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// engine is a container engine whose server answers; a client alone is none.
func engine(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{"docker", "podman"} {
		if exec.CommandContext(ctx, name, "info").Run() == nil {
			return name
		}
	}
	return ""
}

func startContainer(ctx context.Context, engine, endpoint string, port int, log io.Writer) (*Server, error) {
	fmt.Fprintf(log, "localstack: starting %s by %s\n", image, engine)
	out, err := exec.CommandContext(ctx, engine, "run", "--rm", "--detach",
		"--publish", fmt.Sprintf("127.0.0.1:%d:4566", port),
		"--env", "SERVICES="+services, "--env", "EAGER_SERVICE_LOADING=1", "--env", "SQS_ENDPOINT_STRATEGY=path",
		"--env", fmt.Sprintf("LOCALSTACK_HOST=localhost:%d", port), "--env", "DISABLE_EVENTS=1", image).Output()
	if err != nil {
		return nil, fmt.Errorf("localstack: %s run %s: %w", engine, image, err)
	}
	id := strings.TrimSpace(string(out))
	s := &Server{Endpoint: endpoint, stop: func() error { return exec.Command(engine, "stop", id).Run() }}
	if err := ready(endpoint, 2*time.Minute); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

const services = "sqs,sns,events,s3,dynamodb,dynamodbstreams"

// start starts an installed server.
func (i *installation) start(endpoint string, port int, log io.Writer) (*Server, error) {
	began := time.Now()
	output, err := os.Create(filepath.Join(i.dir, "server.log"))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	listen := fmt.Sprintf("GATEWAY_LISTEN=127.0.0.1:%d", port)
	cmd := exec.Command(i.python, "-m", "localstack.runtime.main")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(os.Environ(),
		"OVERRIDE_IN_DOCKER=0", "DOCKER_BRIDGE_IP=127.0.0.1", "DNS_ADDRESS=0",
		"FILESYSTEM_ROOT="+i.files,
		"GATEWAY_SERVER=hypercorn", listen,
		fmt.Sprintf("LOCALSTACK_HOST=localhost:%d", port), "SQS_ENDPOINT_STRATEGY=path",
		"SERVICES="+services, "EAGER_SERVICE_LOADING=1",
		"PROVIDER_OVERRIDE_DYNAMODB=v2", "PROVIDER_OVERRIDE_DYNAMODBSTREAMS=v2",
		"DYNAMODB_IN_MEMORY=1", "DDB_LOCAL_TELEMETRY=0", "SQS_DISABLE_CLOUDWATCH_METRICS=1",
		"SKIP_SSL_CERT_DOWNLOAD=1", "CUSTOM_SSL_CERT_PATH="+i.certificate,
		"API_ENDPOINT=http://127.0.0.1:9", "DISABLE_EVENTS=1", "LS_LOG=warning",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true",
	)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("localstack: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s := &Server{Endpoint: endpoint, stop: func() error {
		defer sweep(listen)
		return terminate(cmd, ended)
	}}

	isReady := make(chan error, 1)
	go func() { isReady <- ready(endpoint, 2*time.Minute) }()
	select {
	case err = <-ended:
		ended <- err
		err = fmt.Errorf("localstack: ended while it started: %v, see %s", err, output.Name())
	case err = <-isReady:
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	fmt.Fprintf(log, "localstack: ready at %s after %s\n", endpoint, time.Since(began).Round(100*time.Millisecond))
	return s, nil
}

// terminate asks the process to end, and takes its Java child along by that.
func terminate(cmd *exec.Cmd, ended chan error) error {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
		return nil
	case <-time.After(30 * time.Second):
	}
	err := cmd.Process.Kill()
	<-ended
	return errors.Join(errors.New("localstack: did not end when it was told, killed"), err)
}
