package main

import (
	"bytes"
	"crypto/md5"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

var update = flag.Bool("update", false, "write the golden templates")

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	jsii.Close()
	os.Exit(code)
}

// synth is the template of an application, and the folder that has it.
func synth(t *testing.T, name string, context map[string]any) (raw []byte, dir string) {
	t.Helper()
	if context == nil {
		context = map[string]any{}
	}
	context["secret"] = "secret"
	app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir()), AnalyticsReporting: jsii.Bool(false), Context: &context})
	stack := newStack(app, name)
	dir = *app.Synth(nil).Directory()
	raw, err := os.ReadFile(filepath.Join(dir, *stack.StackName()+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	return raw, dir
}

var assets = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

func TestTemplates(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(applications)) {
		t.Run(name, func(t *testing.T) {
			raw, _ := synth(t, name, nil)
			// Hashes of assets follow each change of a function.
			got := append(assets.ReplaceAll(bytes.TrimSpace(raw), []byte(strings.Repeat("0", 64))), '\n')
			file := filepath.Join("testdata", name+".template.json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the template is not %s: run go test -update, and look at the difference", file)
			}
		})
	}
}

// An application is a program that needs no network: modules are there when it is built.
func TestSynthesisIsOffline(t *testing.T) {
	command := []string{"go", "run", ".", "sqs"}
	if exec.Command("unshare", "-rn", "true").Run() == nil {
		command = append([]string{"unshare", "-rn"}, command...)
	} else {
		t.Log("without a namespace of its own: just GOPROXY is off")
	}
	cmd := exec.Command(command[0], command[1:]...)
	dir := t.TempDir()
	cmd.Env = append(os.Environ(), "CDK_OUTDIR="+dir, "GOPROXY=off", "GOSUMDB=off", `CDK_CONTEXT_JSON={"swarm:goarch":"amd64"}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "swarm-example-sqs.template.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), `"x86_64"`) {
		t.Error("the context does not count")
	}
	out, err := exec.Command("go", "run", ".", "none").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "usage: stack eventbridge|eventddb|events3|joined|sns|sqs|websocket") {
		t.Errorf("no usage: %s, %v", out, err)
	}
}

// cloud is what functions send to.
type cloud struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
}

func newCloud(t *testing.T) *cloud {
	c := &cloud{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		target := r.Header.Get("X-Amz-Target")
		_, action, _ := strings.Cut(target, ".")
		c.mu.Lock()
		c.requests = append(c.requests, strings.TrimSpace(fmt.Sprintf("%s %s %s", action, r.URL.Path, body)))
		c.mu.Unlock()
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		switch action {
		case "PutEvents":
			io.WriteString(w, `{"FailedEntryCount":0,"Entries":[{"EventId":"1"}]}`)
		case "SendMessageBatch":
			var in struct {
				Entries []struct{ Id, MessageBody string }
			}
			json.Unmarshal(body, &in)
			type entry struct{ Id, MessageId, MD5OfMessageBody string }
			out := struct{ Successful []entry }{}
			for _, e := range in.Entries {
				out.Successful = append(out.Successful, entry{Id: e.Id, MessageId: "1", MD5OfMessageBody: fmt.Sprintf("%x", md5.Sum([]byte(e.MessageBody)))})
			}
			json.NewEncoder(w).Encode(out)
		case "Query":
			io.WriteString(w, `{"Count":1,"Items":[{"topic":{"S":"uploads"},"connection":{"S":"c="},"since":{"S":"2026-01-01T00:00:00Z"}}]}`)
		case "DescribeEventBus":
			io.WriteString(w, `{"Name":"bus","Arn":"arn:aws:events:us-east-1:000000000000:event-bus/bus"}`)
		default:
			io.WriteString(w, `{}`)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// took reports the first request that matches.
func (c *cloud) took(pattern string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.requests, regexp.MustCompile(pattern).MatchString)
}

// function is one of a template.
type function struct {
	name, bootstrap, program string
	timeout                  time.Duration
	env                      map[string]string
}

// functions of a template that are built of Go.
func functions(t *testing.T, raw []byte, dir string, c *cloud) (all []function) {
	t.Helper()
	var in struct {
		Resources map[string]struct {
			Type       string
			Properties struct {
				Code          struct{ S3Key any }
				Runtime       string
				Architectures []string
				Timeout       int
				Environment   struct{ Variables map[string]any }
			}
		}
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for name, r := range in.Resources {
		kinds[name] = r.Type
	}
	for _, name := range slices.Sorted(maps.Keys(in.Resources)) {
		r := in.Resources[name]
		if r.Type != "AWS::Lambda::Function" || r.Properties.Runtime != "provided.al2023" {
			continue
		}
		asset := strings.TrimSuffix(r.Properties.Code.S3Key.(string), ".zip")
		f := function{
			name:      name,
			bootstrap: filepath.Join(dir, "asset."+asset, "bootstrap"),
			timeout:   time.Duration(r.Properties.Timeout) * time.Second,
			env:       map[string]string{},
		}
		for name, value := range r.Properties.Environment.Variables {
			f.env[name] = resolve(t, value, kinds, c)
		}
		info, err := buildinfo.ReadFile(f.bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		f.program = strings.TrimPrefix(info.Path, "github.com/fogfish/swarm/")
		for _, m := range info.Deps {
			if strings.Contains(m.Path, "jsii") || strings.Contains(m.Path, "aws-cdk") || strings.Contains(m.Path, "swarm/cdk") && !strings.HasPrefix(f.program, "cdk/") {
				t.Errorf("%s links %s", f.program, m.Path)
			}
		}
		if b, err := os.ReadFile(f.bootstrap); err != nil || bytes.Contains(b, []byte("jsii")) {
			t.Errorf("%s has jsii in it, or %v", f.program, err)
		}
		all = append(all, f)
	}
	return all
}

// resolve does what CloudFormation does: names of what it has made.
func resolve(t *testing.T, v any, kinds map[string]string, c *cloud) string {
	t.Helper()
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok {
			switch kinds[ref] {
			case "AWS::SQS::Queue":
				return c.URL + "/000000000000/" + ref
			case "AWS::SNS::Topic":
				return "arn:aws:sns:us-east-1:000000000000:" + ref
			}
			return ref
		}
		if join, ok := v["Fn::Join"].([]any); ok {
			var out strings.Builder
			for _, part := range join[1].([]any) {
				out.WriteString(resolve(t, part, kinds, c))
			}
			// The API is where everything is.
			if _, stage, ok := strings.Cut(out.String(), ".AWS::URLSuffix/"); ok && strings.HasPrefix(out.String(), "https://") {
				return c.URL + "/" + stage
			}
			return out.String()
		}
	}
	t.Fatalf("what is %v?", v)
	return ""
}

const record = `{"Records":[{"eventVersion":"2.5","eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2026-11-24T10:00:00.000Z","eventName":"ObjectCreated:Put",
	"s3":{"s3SchemaVersion":"1.0","bucket":{"name":"files","arn":"arn:aws:s3:::files"},"object":{"key":"a+b.txt","size":5}}}]}`

func message(category, body string) string {
	raw, _ := json.Marshal(body)
	attributes := "{}"
	if category != "" {
		attributes = fmt.Sprintf(`{"Category":{"stringValue":%q,"dataType":"String"}}`, category)
	}
	return fmt.Sprintf(`{"Records":[{"messageId":"1","receiptHandle":"r","body":%s,"attributes":{"ApproximateReceiveCount":"1","SentTimestamp":"1700000000000"},
		"messageAttributes":%s,"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:us-east-1:000000000000:q","awsRegion":"us-east-1"}]}`, raw, attributes)
}

func change(table, item string) string {
	return fmt.Sprintf(`{"Records":[{"eventID":"1","eventName":"INSERT","eventVersion":"1.1","eventSource":"aws:dynamodb","awsRegion":"us-east-1",
		"eventSourceARN":"arn:aws:dynamodb:us-east-1:000000000000:table/%s/stream/1","dynamodb":{"SequenceNumber":"1","StreamViewType":"NEW_AND_OLD_IMAGES","Keys":%s,"NewImage":%s}}]}`, table, item, item)
}

func frame(kind, route, body string) string {
	raw, _ := json.Marshal(body)
	return fmt.Sprintf(`{"requestContext":{"routeKey":%q,"eventType":%q,"connectionId":"c=","requestId":"r","requestTimeEpoch":1700000000000,"connectedAt":1700000000000,
		"apiId":"a","stage":"ws","domainName":"d","authorizer":{"principalId":"example"}},"isBase64Encoded":false,"body":%s}`, route, kind, raw)
}

// What each program is invoked with, what it answers, what it prints and what it sends.
var invocations = map[string][]struct{ event, answer, log, request string }{
	"examples/serverless/sqs": {
		{message("Note", `{"text":"hi"}`), `"batchItemFailures":(null|\[\])`, `note 1 "hi"`, ``},
		{message("User", `{"data":{"name":"Ada"}}`), `"batchItemFailures":(null|\[\])`, `sign-up .* of Ada`, `SendMessageBatch .*Ada.*/000000000000/OutQueue`},
		{message("Note", `{"text":""}`), `"itemIdentifier":"1"`, `the note is empty`, ``},
	},
	"examples/serverless/functions/eventbridge": {
		{`{"version":"0","id":"1","detail-type":"Note","source":"swarm-example-eventbridge","account":"0","time":"2026-11-24T10:00:00Z","region":"us-east-1","resources":[],"detail":{"text":"hi"}}`, ``, `note hi`, ``},
	},
	"examples/serverless/functions/sns": {
		{`{"Records":[{"EventVersion":"1.0","EventSource":"aws:sns","Sns":{"Type":"Notification","MessageId":"1","TopicArn":"arn:aws:sns:us-east-1:000000000000:t","Message":"{\"text\":\"hi\"}","Timestamp":"2026-11-24T10:00:00.000Z","MessageAttributes":{"Category":{"Type":"String","Value":"Note"}}}}]}`, ``, `note hi`, ``},
	},
	"examples/serverless/functions/events3": {{record, ``, `ObjectCreated:Put a b.txt`, ``}},
	"examples/eventddb":                     {{change("users", `{"id":{"S":"ada"},"visits":{"N":"1"}}`), `"batchItemFailures":(null|\[\])`, ``, ``}},

	"examples/serverless/stack/functions/echo":    {{frame("MESSAGE", "Say", `{"action":"Say","text":"hi"}`), `"statusCode":200`, ``, `/ws/@connections/c= {"who":"example","text":"hi"}`}},
	"examples/serverless/stack/functions/uploads": {{record, ``, ``, `PutEvents / .*"DetailType":"Uploaded".*"EventBusName":"EventsBus.*"Source":"swarm-example-joined"`}},
	"examples/serverless/stack/functions/catalogue": {
		{message("", `{"version":"0","id":"1","detail-type":"Uploaded","source":"x","account":"0","time":"2026-11-24T10:00:00Z","region":"us-east-1","resources":[],"detail":{"bucket":"files","key":"a b.txt","size":5}}`),
			`"batchItemFailures":(null|\[\])`, ``, `PutItem / .*"a b.txt".*"TableName":"CatalogueTable`},
	},
	"examples/serverless/stack/functions/notify": {
		{change("c", `{"bucket":{"S":"files"},"key":{"S":"a b.txt"},"size":{"N":"5"}}`), `"batchItemFailures":(null|\[\])`, ``, `/ws/@connections/c= {"bucket":"files","key":"a b.txt","size":5}`},
	},
	"examples/serverless/stack/functions/presence": {
		{frame("CONNECT", "$connect", ""), `"statusCode":200`, ``, `PutItem / .*"c=".*"TableName":"Connections`},
		{frame("DISCONNECT", "$disconnect", ""), `"statusCode":200`, ``, `DeleteItem / .*"c=".*"TableName":"Connections`},
	},
	"cdk/websocket/connector": {{frame("CONNECT", "$connect", ""), `"statusCode":200`, ``, ``}},
	"broker/websocket/authorizer/cmd/authorizer": {
		{`{"type":"REQUEST","methodArn":"arn:aws:execute-api:us-east-1:0:a/ws/$connect","queryStringParameters":{"apikey":"ZXhhbXBsZTpzZWNyZXQ"},"requestContext":{"connectionId":"c=","requestId":"r"}}`, `"Effect":"Allow"`, ``, ``},
	},
}

// Constructs, environment and binaries fit together: each function starts with the
// environment that the template gives it, knows its event, and sends where it should.
func TestFunctions(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(applications)) {
		c := newCloud(t)
		raw, dir := synth(t, name, map[string]any{"swarm:goarch": runtime.GOARCH})
		for _, f := range functions(t, raw, dir, c) {
			t.Run(name+"/"+filepath.Base(f.program), func(t *testing.T) {
				seen[f.program] = true
				f.run(t, c)
			})
		}
	}
	for program := range invocations {
		if !seen[program] {
			t.Errorf("no application has %s", program)
		}
	}
}

func (f function) run(t *testing.T, c *cloud) {
	cases := invocations[f.program]
	if len(cases) == 0 {
		t.Fatalf("%s: what is it invoked with?", f.program)
	}
	env := []string{"AWS_ENDPOINT_URL=" + c.URL, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"}
	for name, value := range f.env {
		env = append(env, name+"="+value)
	}
	var log journal
	fn, err := lambda.Start(t.Context(), lambda.Function{Command: []string{f.bootstrap}, Env: env, Timeout: f.timeout, Instances: 1, Freeze: true, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	defer fn.Close()
	for _, x := range cases {
		answer, err := fn.Invoke(t.Context(), []byte(x.event))
		if err != nil {
			t.Fatalf("%v\n%s", err, log.String())
		}
		if !regexp.MustCompile(x.answer).Match(answer) {
			t.Errorf("answer %s, want %s", answer, x.answer)
		}
		if !regexp.MustCompile(x.log).MatchString(log.String()) {
			t.Errorf("want %q in the log:\n%s", x.log, log.String())
		}
		if x.request != "" && !c.took(x.request) {
			t.Errorf("want %q among the requests %q", x.request, c.requests)
		}
	}
	if s := fn.Stats(); s.ColdStarts != 1 || s.Crashes != 0 {
		t.Errorf("not one healthy process: %+v\n%s", s, log.String())
	}
}

// journal is a log that can be read at any time.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}
