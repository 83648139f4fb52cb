package gateway

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// selection is a route selection expression: the path into the body.
type selection []string

var selectionSyntax = regexp.MustCompile(`^\$request\.body\.([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)$`)

func parseSelection(expression string) (selection, error) {
	path := selectionSyntax.FindStringSubmatch(expression)
	if path == nil {
		return nil, fmt.Errorf("gateway: API.RouteSelectionExpression %q: want $request.body.PATH", expression)
	}
	return strings.Split(path[1], "."), nil
}

// value is what the expression selects in a body; false if there is no string, number or
// bool, or the body is not JSON.
func (s selection) value(body []byte) (string, bool) {
	raw := json.RawMessage(body)
	for _, key := range s {
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return "", false
		}
		raw = object[key]
	}
	return scalar(raw)
}

// scalar is a JSON string, or the text of a number or a bool.
func scalar(raw json.RawMessage) (text string, ok bool) {
	if len(raw) == 0 || strings.IndexByte("{[n", raw[0]) >= 0 {
		return "", false
	}
	if raw[0] != '"' {
		return string(raw), true
	}
	return text, json.Unmarshal(raw, &text) == nil
}

// route is the key of the route of a message, empty if there is none. A client cannot
// select the routes of AWS by name.
func (g *Gateway) route(body []byte) string {
	if key, ok := g.selection.value(body); ok && g.routes[key] != nil && !strings.HasPrefix(key, "$") {
		return key
	}
	if g.routes[RouteDefault] != nil {
		return RouteDefault
	}
	return ""
}
