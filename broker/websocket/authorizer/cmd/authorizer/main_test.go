package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fogfish/swarm/broker/websocket/authorizer"
)

// The test's own executable is the function when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_FUNCTION") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func command(t *testing.T, env ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	log := new(bytes.Buffer)
	cmd.Env = append(env, "BE_THE_FUNCTION=1")
	cmd.Stderr = log
	return cmd, log
}

// A function that would refuse everyone does not start, and says what it lacks.
func TestNotConfigured(t *testing.T) {
	cmd, log := command(t)
	err := cmd.Run()
	for _, name := range []string{"ACCESS", "SECRET", "ISS", "AUD"} {
		if err == nil || !strings.Contains(log.String(), "CONFIG_SWARM_WS_AUTHORIZER_"+name) {
			t.Errorf("got %v, %s", err, log)
		}
	}
}

// The function in the runtime of AWS Lambda, as the API Gateway sees it.
func TestFunction(t *testing.T) {
	key, arn := authorizer.APIKey("ada", "lovelace"), "arn:aws:execute-api:eu-west-1:123456789012:a1b2c3/live/$connect"
	event := func(query string) string {
		return `{"type":"REQUEST","methodArn":"` + arn + `","queryStringParameters":{` + query + `}}`
	}
	invocations := []struct{ event, answer string }{
		{event(`"apikey":"` + key + `","scope":"read"`), `"Effect":"Allow","Resource":["` + arn + `"]`},
		{event(`"apikey":"` + key + `","scope":"admin"`), `"Effect":"Deny"`},
		{event(`"apikey":"` + key + `x"`), `"errorMessage":"Unauthorized"`},
		{event(`"token":"e30.e30."`), `"errorMessage":"Unauthorized"`},
		{event(`"token":"eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.AA"`), `"errorMessage":"authorizer: no keys of the issuer: `},
		{`{}`, `"errorMessage":"authorizer: not the event of a REQUEST authorizer"`},
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	next := 0
	answers := make(chan string, len(invocations))
	runtime := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if next == len(invocations) {
				<-ctx.Done()
				return
			}
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", strconv.Itoa(next))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(time.Minute).UnixMilli(), 10))
			io.WriteString(w, invocations[next].event)
			next++
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
		answers <- path.Base(r.URL.Path) + " " + string(body)
	}))
	defer runtime.Close()
	defer cancel()
	refusing := httptest.NewServer(http.NotFoundHandler())
	defer refusing.Close()

	cmd, log := command(t, "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(runtime.URL, "http://"),
		"CONFIG_SWARM_WS_AUTHORIZER_ACCESS=ada", "CONFIG_SWARM_WS_AUTHORIZER_SECRET=lovelace", "CONFIG_SWARM_WS_AUTHORIZER_SCOPE=read write",
		"CONFIG_SWARM_WS_AUTHORIZER_ISS="+refusing.URL, "CONFIG_SWARM_WS_AUTHORIZER_AUD=chat")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, x := range invocations {
		select {
		case got := <-answers:
			want := "response "
			if strings.Contains(x.answer, "errorMessage") {
				want = "error "
			}
			if !strings.HasPrefix(got, want) || !strings.Contains(got, x.answer) {
				t.Errorf("%s\ngot  %s\nwant %s", x.event, got, want+x.answer)
			}
		case <-ctx.Done():
			t.Fatal("no answer")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	if strings.Contains(log.String(), "lovelace") || strings.Contains(log.String(), key) {
		t.Errorf("logged %s", log)
	}
}
