package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/fogfish/swarm/qtest/local/lambda"
)

// identitySource is a part of a request that an authorizer needs.
type identitySource struct {
	header bool // else a query string parameter
	name   string
}

func parseIdentitySource(source string) (identitySource, error) {
	if name, ok := strings.CutPrefix(source, "route.request.header."); ok && name != "" {
		return identitySource{true, name}, nil
	}
	if name, ok := strings.CutPrefix(source, "route.request.querystring."); ok && name != "" {
		return identitySource{false, name}, nil
	}
	return identitySource{}, fmt.Errorf("gateway: API.IdentitySources: %q: want route.request.header.NAME or route.request.querystring.NAME", source)
}

func (s identitySource) in(r *http.Request) bool {
	if s.header && strings.EqualFold(s.name, "Host") {
		return r.Host != ""
	}
	if s.header {
		return r.Header.Get(s.name) != ""
	}
	return r.URL.Query().Get(s.name) != ""
}

// refusal is the answer to a client that may not connect.
type refusal struct {
	status  int
	message string // to the client
	cause   error  // for the log
}

// authorize asks the authorizer. On success it is the connection's authorizer context.
func (g *Gateway) authorize(r *http.Request, connect event) (map[string]any, *refusal) {
	for _, source := range g.identitySources {
		if !source.in(r) {
			return nil, &refusal{http.StatusUnauthorized, "Unauthorized", errors.New("an identity source is missing")}
		}
	}
	ctx, cancel := context.WithTimeout(g.ctx, g.api.Limits.Integration)
	defer cancel()
	began := time.Now()
	answer := <-g.authorizer.begin(ctx, marshal(g.authorizerEvent(connect)))
	if failed, ok := errors.AsType[*lambda.FunctionError](answer.err); ok && failed.Message == "Unauthorized" {
		return nil, &refusal{http.StatusUnauthorized, "Unauthorized", errors.New("authorizer: Unauthorized")}
	}
	values, allowed, err := evaluate(answer.response, g.methodARN())
	switch {
	case answer.err != nil:
		return nil, &refusal{http.StatusInternalServerError, "Internal server error", fmt.Errorf("authorizer: %s", reason(answer.err))}
	case err != nil:
		return nil, &refusal{http.StatusInternalServerError, "Internal server error", fmt.Errorf("authorizer: malformed answer: %w", err)}
	case !allowed:
		return nil, &refusal{http.StatusForbidden, "User is not authorized to access this resource", errors.New("authorizer: denied by the policy")}
	}
	values["integrationLatency"] = time.Since(began).Milliseconds()
	return values, nil
}

// oneOrMany is a JSON value, or an array of such.
type oneOrMany[T any] []T

func (m *oneOrMany[T]) UnmarshalJSON(raw []byte) error {
	if raw[0] == '[' {
		return json.Unmarshal(raw, (*[]T)(m))
	}
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*m = oneOrMany[T]{one}
	return nil
}

type statement struct {
	Effect      string
	Action      oneOrMany[string]
	Resource    oneOrMany[string]
	NotAction   json.RawMessage
	NotResource json.RawMessage
	Condition   json.RawMessage
}

// evaluate reads the answer of an authorizer. Its policy allows the method if a statement
// does and none denies it. The values are the context and principalId, as text.
func evaluate(answer []byte, method string) (values map[string]any, allowed bool, err error) {
	var a struct {
		PrincipalID    *string                                   `json:"principalId"`
		PolicyDocument *struct{ Statement oneOrMany[statement] } `json:"policyDocument"`
		Context        map[string]json.RawMessage                `json:"context"`
	}
	if json.Unmarshal(answer, &a) != nil {
		return nil, false, errors.New("no JSON of this shape")
	}
	if a.PrincipalID == nil || a.PolicyDocument == nil {
		return nil, false, errors.New("principalId or policyDocument is missing")
	}
	denied := false
	for _, s := range a.PolicyDocument.Statement {
		switch {
		case s.Effect != "Allow" && s.Effect != "Deny":
			return nil, false, fmt.Errorf("a statement has the Effect %q", s.Effect)
		case len(s.Action) == 0 || len(s.Resource) == 0:
			return nil, false, errors.New("a statement has no Action or no Resource")
		case s.NotAction != nil || s.NotResource != nil || s.Condition != nil:
			// To guess would be to let someone in.
			return nil, false, errors.New("NotAction, NotResource and Condition are not evaluated here")
		}
		if !anyMatch(s.Action, "execute-api:Invoke", strings.EqualFold) || !anyMatch(s.Resource, method, func(a, b string) bool { return a == b }) {
			continue
		}
		allowed, denied = allowed || s.Effect == "Allow", denied || s.Effect == "Deny"
	}
	values = make(map[string]any, len(a.Context)+2)
	for name, raw := range a.Context {
		text, ok := scalar(raw)
		if !ok {
			return nil, false, fmt.Errorf("context %q is not a string, a number or a bool", name)
		}
		values[name] = text
	}
	values["principalId"] = *a.PrincipalID
	return values, allowed && !denied, nil
}

func anyMatch(patterns []string, s string, equal func(a, b string) bool) bool {
	for _, p := range patterns {
		if match(p, s, equal) {
			return true
		}
	}
	return false
}

// match compares with a pattern of IAM: * is any text, ? any one byte.
func match(pattern, s string, equal func(a, b string) bool) bool {
	star, from := -1, 0 // the last *, and where in s the rest of the pattern is tried
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || equal(pattern[p:p+1], s[i:i+1])):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
