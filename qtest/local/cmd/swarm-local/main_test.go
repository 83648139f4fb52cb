package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/localstack"
)

const testfn = "github.com/fogfish/swarm/qtest/local/internal/testfn"

// buffer can be read while it is written to.
type buffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // if set: closed by the next write
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
	return b.b.Write(p)
}

// wait returns the submatches of the pattern, as soon as it is there.
func (b *buffer) wait(t *testing.T, pattern string) []string {
	t.Helper()
	late := time.After(time.Minute)
	for {
		b.mu.Lock()
		found := regexp.MustCompile(pattern).FindStringSubmatch(b.b.String())
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("not within a minute: %s in\n%s", pattern, b)
		}
	}
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestEvents(t *testing.T) {
	file := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(file, []byte("{\n  \"a\": 1\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args           []string
		stdin          string
		code           int
		stdout, stderr string // the latter a regexp
	}{
		"lines":       {[]string{"-event", "-", testfn}, "{\"a\":1}\n{\"b\":2}", 0, "{\"a\":1}\n{\"b\":2}\n", `(?s)START (\S+) cold\n.*event {"a":1}\nREPORT \S+ [\d.]+ ms cold [\d.]+ ms\n.*2 invocations, 0 failed; 1 cold starts`},
		"file":        {[]string{"-event", file, "-timeout", "5s", testfn}, "", 0, "{\"a\":1}\n", `1 invocations, 0 failed`},
		"fails":       {[]string{"-event", "-", "-retry-delay", "1ms", testfn}, `{"a":"fail"}`, 1, "", `(?s)again in 2ms: lambda: errorString: as told\n.*RetriesExhausted after 3 attempts`},
		"not JSON":    {[]string{"-event", "-", testfn}, `{"a":1}{`, 1, "{\"a\":1}\n", `-event -: unexpected EOF`},
		"no file":     {[]string{"-event", "no-such-file", testfn}, "", 1, "", `no-such-file`},
		"not a main":  {[]string{"-event", "-", "github.com/fogfish/swarm/qtest/local/lambda"}, "", 1, "", `is no command`},
		"no package":  {[]string{"-event", "-", "./no-such-folder"}, "", 1, "", `go build ./no-such-folder: exit status 1`},
		"no source":   {[]string{testfn}, "", 2, "", `at least one of -queue, -table, -event, -websocket\nusage:`},
		"stray flag":  {[]string{"-event", "-", "-route", "a", testfn}, "", 2, "", `are for -websocket\nusage:`},
		"bad address": {[]string{"-websocket", "nowhere", testfn}, "", 1, "", `swarm-local: -websocket: listen tcp: lookup tcp/nowhere`},
		"bad route":   {[]string{"-websocket", ":0", "-route", "$other", testfn}, "", 1, "", `"\$other" is no route key`},
		"no auth":     {[]string{"-websocket", ":0", "-authorizer", "./no-such-folder", testfn}, "", 1, "", `go build ./no-such-folder`},
		"no argument": {[]string{"-queue", "q"}, "", 2, "", `want one package\nusage:`},
		"bad env":     {[]string{"-env", "A", testfn}, "", 2, "", `want KEY=value`},
		"bad flag":    {[]string{"-event", "-", "-retries", "3", testfn}, "", 1, "", `^built [^\n]*\nswarm-local: [^\n]*MaximumRetryAttempts 3[^\n]*\n$`},
		"help":        {[]string{"-h"}, "", 0, "", `usage: swarm-local`},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr buffer
			code := run(make(chan os.Signal), tc.args, strings.NewReader(tc.stdin), &stdout, &stderr)
			if code != tc.code || stdout.String() != tc.stdout || !regexp.MustCompile(tc.stderr).MatchString(stderr.String()) {
				t.Errorf("code %d\n--- stdout\n%s\n--- stderr\n%s", code, &stdout, &stderr)
			}
		})
	}
}

// never is a terminal at which nobody types.
type never struct{}

func (never) Read([]byte) (int, error) { select {} }

func TestCtrlCEndsItWhileItWaitsForInput(t *testing.T) {
	var stdout, stderr buffer
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	if code := run(signals, []string{"-event", "-", testfn}, never{}, &stdout, &stderr); code != 1 {
		t.Errorf("code %d: %s", code, &stderr)
	}
}

func TestWebSocket(t *testing.T) {
	t.Setenv("LOCALSTACK_ENDPOINT", "")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // nothing may go there
	t.Setenv("AWS_ACCESS_KEY_ID", "me")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	var stdout, stderr buffer
	signals, code := make(chan os.Signal, 1), make(chan int, 1)
	go func() {
		code <- run(signals, []string{"-websocket", "0", "-route", "join", "-select", "$request.body.do", "-authorizer", testfn,
			"-identity", "route.request.querystring.token", testfn}, never{}, &stdout, &stderr)
	}()
	url := stderr.wait(t, `websocket (ws://127\.0\.0\.1:\d+/dev), @connections at http://127\.0\.0\.1:\d+/dev\n`)[1]
	for query, want := range map[string]int{"": 401, "?token=yours": 403} {
		if _, response, err := websocket.Dial(t.Context(), url+query, nil); err == nil || response.StatusCode != want {
			t.Errorf("%q: %v", query, response)
		}
	}
	c, _, err := websocket.Dial(t.Context(), url+"?token=mine", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	defer c.CloseNow()
	for _, tc := range [][2]string{{`{"do":"join"}`, `^join: {"do":"join"}$`}, {"hello", "^\\$default: hello$"}, {"fail", `"Internal server error"`}} {
		if err := c.Write(t.Context(), websocket.MessageText, []byte(tc[0])); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || !regexp.MustCompile(tc[1]).Match(got) {
			t.Errorf("%s: got %q, %v\n%s", tc[0], got, err, &stderr)
		}
	}
	signals <- os.Interrupt
	if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("got %v", err)
	}
	if got := <-code; got != 0 {
		t.Errorf("code %d", got)
	}
	for _, want := range []string{`CONNECT \S+ 127\.0\.0\.1\n`, `REFUSED \S+ 403: authorizer: denied`, `FAILED \S+ \$default \S+: lambda: errorString: as told`,
		`CLOSED \S+ 1001 "Going away" lost 0\n`, `websocket \$disconnect\n`, `5 invocations, 1 failed`} {
		if !regexp.MustCompile(want).MatchString(stderr.String()) {
			t.Errorf("no %s in\n%s", want, &stderr)
		}
	}
	if strings.Contains(stderr.String(), "token") || strings.Contains(stderr.String(), "hush") {
		t.Errorf("a secret in\n%s", &stderr)
	}
}

func TestQueueOnLocalStack(t *testing.T) {
	endpoint := localstack.Endpoint(t)
	t.Setenv("LOCALSTACK_ENDPOINT", endpoint)
	t.Setenv("AWS_ACCESS_KEY_ID", localstack.Account("qtest/local"))
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithBaseEndpoint(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	client, name := sqs.NewFromConfig(cfg), fmt.Sprintf("swarm-local-%d", time.Now().UnixNano())
	made, err := client.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = client.DeleteQueue(context.WithoutCancel(t.Context()), &sqs.DeleteQueueInput{QueueUrl: made.QueueUrl})
	})
	var stdout, stderr buffer
	signals, code := make(chan os.Signal, 1), make(chan int)
	go func() {
		code <- run(signals, []string{"-queue", name, "-env", "A=1", testfn}, strings.NewReader(""), &stdout, &stderr)
	}()
	for _, body := range []string{"hello", "fail"} {
		if _, err := client.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: made.QueueUrl, MessageBody: aws.String(body)}); err != nil {
			t.Fatal(err)
		}
	}
	stderr.wait(t, "messages failed")
	stderr.wait(t, "hello")
	signals <- os.Interrupt
	if c := <-code; c != 0 {
		t.Errorf("code %d", c)
	}
	for _, want := range []string{`queue ` + name, `\S+ message hello\n`, name + `: 1 of \d messages failed: \S+\n`, `ending`, `1 cold starts, 0 crashes, 0 timeouts`} {
		if !regexp.MustCompile(want).MatchString(stderr.String()) {
			t.Errorf("no %s in\n%s", want, &stderr)
		}
	}
	left, err := client.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: made.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil || left.Attributes["ApproximateNumberOfMessagesNotVisible"] != "1" || left.Attributes["ApproximateNumberOfMessages"] != "0" {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestErrorsAreRedOnATerminalOnly(t *testing.T) {
	var b buffer
	plain := newConsole(&b)
	colour := &console{mu: plain.mu, w: &b, colour: true}
	plain.errors().printf("bad")
	colour.printf("good")
	colour.errors().printf("bad")
	colour.printf("REPORT id 1.00 ms lambda: T: m")
	if want := "bad\ngood\n\x1b[31mbad\x1b[0m\n\x1b[31mREPORT id 1.00 ms lambda: T: m\x1b[0m\n"; b.String() != want {
		t.Errorf("got %q", b.String())
	}
}
