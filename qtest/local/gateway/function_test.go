package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

// echoByPost is a function as people write it: it posts every message back to where it
// came from, with the name of who has sent it.
func echoByPost(ctx context.Context, e events.APIGatewayWebsocketProxyRequest) (r events.APIGatewayProxyResponse, err error) {
	fmt.Println(e.RequestContext.EventType, e.RequestContext.RouteKey, e.RequestContext.DisconnectStatusCode)
	r.StatusCode = http.StatusOK
	if e.RequestContext.EventType != "MESSAGE" {
		return r, nil
	}
	if e.Body == "fail" {
		return r, errors.New("as told")
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return r, err
	}
	endpoint := os.Getenv("CONFIG_SWARM_TARGET_WS_URL")
	client := apigatewaymanagementapi.NewFromConfig(cfg, at(endpoint))
	who := e.RequestContext.Authorizer.(map[string]any)["principalId"]
	return r, post(ctx, client, e.RequestContext.ConnectionID, fmt.Sprintf("%s: %s", who, e.Body))
}

// authorizeByToken knows who has the token.
func authorizeByToken(_ context.Context, e events.APIGatewayCustomAuthorizerRequestTypeRequest) (r events.APIGatewayCustomAuthorizerResponse, err error) {
	r.PrincipalID = "me"
	r.PolicyDocument.Version = "2012-10-17"
	effect := "Deny"
	switch e.QueryStringParameters["token"] {
	case "mine":
		effect = "Allow"
	case "old":
		return r, errors.New("Unauthorized") // the text that API Gateway knows
	}
	r.PolicyDocument.Statement = []events.IAMPolicyStatement{{Action: []string{"execute-api:Invoke"}, Effect: effect, Resource: []string{e.MethodArn}}}
	return r, nil
}

// function starts the test binary as a function.
func function(t *testing.T, which string, fn lambda.Function) *lambda.Runtime {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fn.Command, fn.Timeout, fn.Env = []string{self}, 30*time.Second, append(fn.Env, envFunction+"="+which)
	rt, err := lambda.Start(context.WithoutCancel(t.Context()), fn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rt.Close)
	return rt
}

// TestRealFunctions: an authorizer and an integration that are processes, which run one
// event at a time.
func TestRealFunctions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := &buffer{}
	fn := function(t, "echo", lambda.Function{Instances: 1, Log: log, Env: []string{
		"CONFIG_SWARM_TARGET_WS_URL=http://" + l.Addr().String() + "/dev", "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_SESSION_TOKEN=",
	}})
	g, err := gateway.Start(t.Context(), gateway.API{Listener: l, Integration: fn, Authorizer: function(t, "authorizer", lambda.Function{}),
		IdentitySources: []string{"route.request.querystring.token"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for token, want := range map[string]int{"": 401, "other": 403, "old": 401} {
		if _, response, err := websocket.Dial(t.Context(), g.URL()+"?token="+token, nil); err == nil || response.StatusCode != want {
			t.Errorf("token %q: %v", token, response)
		}
	}
	c, _, err := websocket.Dial(t.Context(), g.URL()+"?token=mine", nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	defer c.CloseNow()
	const n = 20
	for i := range n {
		if err := c.Write(t.Context(), websocket.MessageText, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n { // one process: in order
		if _, got, err := c.Read(t.Context()); err != nil || string(got) != fmt.Sprint("me: ", i) {
			t.Fatalf("got %q, %v\n%s", got, err, log)
		}
	}
	if err := c.Write(t.Context(), websocket.MessageText, []byte("fail")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(t.Context()); err != nil || !strings.Contains(string(got), `"Internal server error"`) {
		t.Errorf("got %q, %v", got, err)
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	g.Close()
	if s := fn.Stats(); s.Invocations != n+3 || s.Throttles != 0 || s.ColdStarts != 1 || s.Errors != 1 {
		t.Errorf("%+v", s)
	}
	if !regexp.MustCompile(`FAILED \S+ \$default \S+: lambda: errorString: as told\n`).MatchString(log.String()) || !strings.Contains(log.String(), "DISCONNECT $disconnect 1000") {
		t.Errorf("log %s", log)
	}
}
