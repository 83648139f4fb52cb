package gateway_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-lambda-go/events"
	"github.com/coder/websocket"

	"github.com/fogfish/swarm/qtest/local/gateway"
	"github.com/fogfish/swarm/qtest/local/lambda"
)

const methodARN = "arn:aws:execute-api:us-east-1:000000000000:local/dev/$connect"

// policy is the answer of an authorizer with one statement.
func policy(effect, resource string) string {
	return fmt.Sprintf(`{"principalId":"me","policyDocument":{"Version":"2012-10-17","Statement":[{"Action":"execute-api:Invoke","Effect":%q,"Resource":%q}]}}`, effect, resource)
}

// statements is one with a policy document of these.
func statements(s string) string {
	return `{"principalId":"me","policyDocument":{"Statement":[` + s + `]}}`
}

func TestAuthorizerAnswers(t *testing.T) {
	const allow = `{"Action":"execute-api:Invoke","Effect":"Allow","Resource":"*"}`
	const deny = `{"Action":"execute-api:Invoke","Effect":"Deny","Resource":"*"}`
	for name, tc := range map[string]struct {
		answer string
		err    error
		status int
	}{
		"allow":                    {policy("Allow", methodARN), nil, 101},
		"allow all":                {policy("Allow", "*"), nil, 101},
		"allow stage":              {policy("Allow", "arn:aws:execute-api:us-east-1:*:local/dev/*"), nil, 101},
		"allow by ?":               {policy("Allow", strings.Replace(methodARN, "dev", "d?v", 1)), nil, 101},
		"allow another":            {policy("Allow", strings.Replace(methodARN, "dev", "prod", 1)), nil, 403},
		"allow less":               {policy("Allow", methodARN[:len(methodARN)-1]), nil, 403},
		"resource: case counts":    {policy("Allow", strings.ToUpper(methodARN)), nil, 403},
		"deny":                     {policy("Deny", methodARN), nil, 403},
		"deny wins":                {statements(allow + "," + deny), nil, 403},
		"deny wins, first":         {statements(deny + "," + allow), nil, 403},
		"deny of another":          {statements(strings.Replace(deny, "*", "arn:aws:execute-api:*/prod/*", 1) + "," + allow), nil, 101},
		"no statement":             {statements(""), nil, 403},
		"not an array":             {`{"principalId":"me","policyDocument":{"Statement":` + allow + `}}`, nil, 101},
		"arrays":                   {statements(`{"Action":["s3:*","execute-api:*"],"Effect":"Allow","Resource":["a","arn:*"]}`), nil, 101},
		"action: case":             {statements(`{"Action":"EXECUTE-API:invoke","Effect":"Allow","Resource":"*"}`), nil, 101},
		"another action":           {statements(`{"Action":"execute-api:ManageConnections","Effect":"Allow","Resource":"*"}`), nil, 403},
		"unauthorized":             {"", errors.New("Unauthorized"), 401},
		"unauthorized, almost":     {"", errors.New("Unauthorized: no"), 500},
		"error":                    {"", errors.New("broken"), 500},
		"throttled":                {"", &lambda.ThrottleError{Limit: 1}, 500},
		"error beside a policy":    {policy("Allow", "*"), errors.New("broken"), 500},
		"empty":                    {"", nil, 500},
		"null":                     {"null", nil, 500},
		"no JSON":                  {"Allow", nil, 500},
		"policy and more":          {policy("Allow", "*") + "x", nil, 500},
		"no principal":             {strings.Replace(policy("Allow", "*"), "principalId", "principal", 1), nil, 500},
		"no policy":                {`{"principalId":"me"}`, nil, 500},
		"simple response":          {`{"isAuthorized":true}`, nil, 500},
		"effect":                   {policy("allow", "*"), nil, 500},
		"no action":                {statements(`{"Effect":"Allow","Resource":"*"}`), nil, 500},
		"no resource":              {statements(`{"Action":"*","Effect":"Allow"}`), nil, 500},
		"not action":               {statements(`{"Action":"*","NotAction":"a","Effect":"Allow","Resource":"*"}`), nil, 500},
		"not resource":             {statements(`{"Action":"*","Effect":"Allow","Resource":"*","NotResource":"b"}`), nil, 500},
		"condition":                {statements(`{"Action":"*","Effect":"Allow","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`), nil, 500},
		"nested context":           {strings.Replace(policy("Allow", "*"), `"me"`, `"me","context":{"a":{"b":1}}`, 1), nil, 500},
		"list in the context":      {strings.Replace(policy("Allow", "*"), `"me"`, `"me","context":{"a":[1]}`, 1), nil, 500},
		"null in the context":      {strings.Replace(policy("Allow", "*"), `"me"`, `"me","context":{"a":null}`, 1), nil, 500},
		"context is not an object": {strings.Replace(policy("Allow", "*"), `"me"`, `"me","context":"a"`, 1), nil, 500},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, asked := newRecorder(), 0
				w := open(t, gateway.API{Integration: r.fn(), Authorizer: lambda.Func(func(context.Context, []byte) ([]byte, error) {
					asked++
					return []byte(tc.answer), tc.err
				})})
				for range 2 { // nothing is cached
					if response := w.get("GET", "/dev", handshake()); response.StatusCode != tc.status {
						t.Errorf("got %s\n%s", response.Status, w.log)
					}
				}
				if tc.status != 101 && len(r.events) != 0 || asked != 2 {
					t.Errorf("%d events, asked %d times", len(r.events), asked)
				}
			})
		})
	}
}

func TestAuthorizerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, gateway.API{Integration: newRecorder().fn(), Authorizer: lambda.Func(func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})})
		if response := w.get("GET", "/dev", handshake()); response.StatusCode != 500 {
			t.Errorf("got %s", response.Status)
		}
	})
}

func TestIdentitySources(t *testing.T) {
	for name, tc := range map[string]struct {
		sources []string
		query   string
		header  []string
		asked   bool
	}{
		"none":          {nil, "", nil, true},
		"header":        {[]string{"route.request.header.authorization"}, "", []string{"Authorization", "a"}, true},
		"no header":     {[]string{"route.request.header.Authorization"}, "", nil, false},
		"query":         {[]string{"route.request.querystring.token"}, "?token=a", nil, true},
		"no query":      {[]string{"route.request.querystring.token"}, "?Token=a", nil, false},
		"empty query":   {[]string{"route.request.querystring.token"}, "?token=", nil, false},
		"one of two":    {[]string{"route.request.querystring.token", "route.request.header.X"}, "?token=a", nil, false},
		"two":           {[]string{"route.request.querystring.token", "route.request.header.X"}, "?token=a", []string{"X", "b"}, true},
		"host":          {[]string{"route.request.header.Host"}, "", nil, true},
		"spoiled query": {[]string{"route.request.querystring.token"}, "?token=%zz", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := false
				w := open(t, gateway.API{Integration: newRecorder().fn(), IdentitySources: tc.sources, Authorizer: lambda.Func(func(context.Context, []byte) ([]byte, error) {
					asked = true
					return []byte(policy("Allow", "*")), nil
				})})
				want := map[bool]int{true: 101, false: 401}[tc.asked]
				if response := w.get("GET", "/dev"+tc.query, handshake(tc.header...)); response.StatusCode != want || asked != tc.asked {
					t.Errorf("got %s, asked: %v", response.Status, asked)
				}
			})
		})
	}
}

func TestAuthorizerEventAndContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder()
		var asked map[string]any
		w := open(t, gateway.API{Integration: r.fn(), IdentitySources: []string{"route.request.querystring.token"}, Authorizer: lambda.Func(func(_ context.Context, payload []byte) ([]byte, error) {
			if err := json.Unmarshal(payload, &asked); err != nil {
				t.Error(err)
			}
			return []byte(strings.Replace(policy("Allow", "*"), `"me"`, `"me","context":{"s":"a","n":1.50,"b":true,"principalId":"you","integrationLatency":"x"}`, 1)), nil
		})})
		c, _, err := w.try(w.URL()+"?token=secret", func(o *websocket.DialOptions) { o.HTTPHeader = http.Header{"X": {"1", "2"}} })
		if err != nil {
			t.Fatal(err)
		}
		w.send(c, "hello")
		synctest.Wait()
		if err := c.CloseNow(); err != nil {
			t.Error(err)
		}
		id := ""
		for range 3 {
			e := r.next()
			id = e.RequestContext.ConnectionID
			want := map[string]any{"principalId": "me", "s": "a", "n": "1.50", "b": "true", "integrationLatency": 0.}
			if got := e.RequestContext.Authorizer; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %v", e.RequestContext.EventType, got)
			}
		}

		rc := asked["requestContext"].(map[string]any)
		for name, got := range map[string][2]any{
			"type":       {asked["type"], "REQUEST"},
			"methodArn":  {asked["methodArn"], methodARN},
			"header":     {asked["headers"].(map[string]any)["X"], "2"},
			"headers":    {asked["multiValueHeaders"].(map[string]any)["X"], []any{"1", "2"}},
			"query":      {asked["queryStringParameters"], map[string]any{"token": "secret"}},
			"queries":    {asked["multiValueQueryStringParameters"], map[string]any{"token": []any{"secret"}}},
			"stage":      {asked["stageVariables"], map[string]any{}},
			"connection": {rc["connectionId"], id},
			"route":      {rc["routeKey"], "$connect"},
			"authorizer": {rc["authorizer"], nil},
		} {
			if !reflect.DeepEqual(got[0], got[1]) {
				t.Errorf("%s: got %v, want %v", name, got[0], got[1])
			}
		}
		if len(asked) != 8 || strings.Contains(w.log.String(), "secret") {
			t.Errorf("got %v\nlog %s", asked, w.log)
		}
		var typed events.APIGatewayCustomAuthorizerRequestTypeRequest
		raw, _ := json.Marshal(asked)
		if err := json.Unmarshal(raw, &typed); err != nil || typed.MethodArn != methodARN {
			t.Errorf("got %+v, %v", typed, err)
		}
	})
}
