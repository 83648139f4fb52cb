package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
	"github.com/fogfish/swarm/examples/chat/registry"
	"github.com/fogfish/swarm/examples/internal/aws"
	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
	"github.com/fogfish/swarm/qtest/localstack"
)

// chat is everything that runs. What is set stays the same when it is started again.
type chat struct {
	bin    string // folder of the functions
	access string // the API key is of it and
	secret string
	issuer *issuer // nil: a new one
	log    io.Writer

	table   string // of DynamoDB at LocalStack; none: rooms are in memory
	account string // of LocalStack

	functions []*lambda.Runtime
	gateway   *gateway.Gateway
}

func newChat(bin string, log io.Writer) *chat {
	return &chat{bin: bin, access: "operator", secret: rand.Text(), log: log, account: "test"}
}

// build makes the binaries of the functions: fn and authorizer.
func build(ctx context.Context, bin string) error {
	args := []string{"build", "-tags", "lambda.norpc", "-o", bin + string(filepath.Separator),
		"github.com/fogfish/swarm/examples/chat/fn",
		"github.com/fogfish/swarm/broker/websocket/authorizer/cmd/authorizer",
	}
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// listen is on 127.0.0.1 if the address has no host.
func listen(addr string) (net.Listener, error) {
	if strings.HasPrefix(addr, ":") {
		addr = "127.0.0.1" + addr
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w (-addr says where else)", err)
	}
	// The functions call us without TLS, which is good enough only on this machine.
	if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() && !ip.IsUnspecified() {
		l.Close()
		return nil, fmt.Errorf("-addr %s: want 127.0.0.1, or 0.0.0.0 for everyone in the network", addr)
	}
	return l, nil
}

// local is how this machine calls itself.
func local(l net.Listener) string {
	addr := l.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", addr.Port)
	}
	return addr.String()
}

// start serves l, which it closes in the end.
func (c *chat) start(ctx context.Context, l net.Listener) (err error) {
	defer func() {
		if err != nil {
			c.close()
			l.Close()
		}
	}()
	host := local(l)
	if c.issuer == nil {
		c.issuer = newIssuer("http://"+host, c.access)
	}
	env := []string{
		"CONFIG_SWARM_TARGET_WS_URL=http://" + host + "/dev",
		"AWS_ACCESS_KEY_ID=" + c.account, "AWS_SECRET_ACCESS_KEY=test", "AWS_SESSION_TOKEN=", "CONFIG_CHAT_TABLE=" + c.table,
	}
	instances := 1 // of a function whose rooms are in memory
	if c.table != "" {
		endpoint := localstack.FromEnv()
		if endpoint == "" {
			return errors.New("-table needs LocalStack: run `make localstack` in another terminal, and set what it prints")
		}
		client := dynamodb.NewFromConfig(aws.LocalStack(endpoint, c.account))
		if err := registry.Create(ctx, client, c.table); err != nil {
			return err
		}
		env, instances = append(env, "AWS_ENDPOINT_URL="+endpoint), 4
	}
	fn, err := c.function(ctx, "fn", instances, env)
	if err != nil {
		return err
	}
	auth, err := c.function(ctx, "authorizer", 2, []string{
		"CONFIG_SWARM_WS_AUTHORIZER_ACCESS=" + c.access,
		"CONFIG_SWARM_WS_AUTHORIZER_SECRET=" + c.secret,
		"CONFIG_SWARM_WS_AUTHORIZER_ISS=" + c.issuer.url,
		"CONFIG_SWARM_WS_AUTHORIZER_AUD=" + audience,
	})
	if err != nil {
		return err
	}
	c.gateway, err = gateway.Start(context.WithoutCancel(ctx), gateway.API{
		Integration: fn,
		Routes:      map[string]lambda.Invoker{"Join": nil, "Say": nil},
		Authorizer:  auth,
		Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
			return awssdk.Credentials{AccessKeyID: c.account, SecretAccessKey: "test"}, nil
		}),
		DomainName: host,
		Listener:   l,
		Handler:    site(c.issuer),
		Log:        c.log,
	})
	return err
}

func (c *chat) function(ctx context.Context, name string, instances int, env []string) (*lambda.Runtime, error) {
	// It outlives ctx, to hear of the clients that go.
	fn, err := lambda.Start(context.WithoutCancel(ctx), lambda.Function{
		Command: []string{filepath.Join(c.bin, name)}, Name: name, Env: env,
		Timeout: 29 * time.Second, Instances: instances, Freeze: true, Log: c.log,
	})
	if err == nil {
		c.functions = append(c.functions, fn)
	}
	return fn, err
}

// apiKey is what a client logs in by.
func (c *chat) apiKey() string { return authorizer.APIKey(c.access, c.secret) }

// close ends all that was started. Then it can be started again.
func (c *chat) close() {
	if c.gateway != nil {
		c.gateway.Close()
	}
	for _, fn := range c.functions {
		fn.Close()
	}
	c.gateway, c.functions = nil, nil
}

// quiet leaves out lines about invocations that are as they should be.
type quiet struct {
	mu sync.Mutex
	w  io.Writer
}

func (q *quiet) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if bytes.HasPrefix(line, []byte("START ")) || bytes.HasPrefix(line, []byte("REPORT ")) && !bytes.Contains(line, []byte(": ")) {
		return len(line), nil
	}
	return q.w.Write(line)
}
